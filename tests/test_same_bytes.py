"""The same command gives the same bytes, whatever order this process gives to the elements of a set."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from envtune.benchmark import official
from envtune.benchmark.verify import same_text
from envtune.environment.simulator import Simulators
from envtune.types import Task, ToolCall


def flight_of_no_class(task: Task) -> list[ToolCall]:
    """The ground truth up to a flight, which is booked in a class that there is not."""
    calls = [call for turn in task.ground_truth for call in turn]
    at = next(i for i, call in enumerate(calls) if call.name == "book_flight")
    return [*calls[:at], ToolCall("book_flight", calls[at].arguments | {"travel_class": "luxury"})]


def ticket_with_other_fields(task: Task) -> list[ToolCall]:
    """An edit of a ticket that there is, in fields that there are not."""
    number = task.initial_config["TicketAPI"]["ticket_queue"][0]["id"]
    return [
        ToolCall("edit_ticket", {"ticket_id": number, "updates": dict.fromkeys(("owner", "note", "status", "due"), 1)})
    ]


def sets(by_id: dict[str, Task]) -> list[tuple[Task, list[ToolCall], str]]:
    """Tasks, calls whose last one prints a set, and its text here."""
    travels = by_id["multi_turn_long_context_158"]
    tickets = next(task for task in by_id.values() if task.initial_config.get("TicketAPI", {}).get("ticket_queue"))
    classes = "Invalid travel class. Must be one of {'business', 'economy', 'first'}"
    return [
        (travels, flight_of_no_class(travels), f'{{"booking_status": false, "error": "{classes}"}}'),
        (tickets, ticket_with_other_fields(tickets), '{"error": "Invalid fields for update: owner, note, due"}'),
    ]


def test_a_printed_set_has_one_order_which_the_benchmark_has_too(by_id):
    for task, calls, expected in sets(by_id):
        simulators = Simulators(task)
        found = [simulators.call(call).text for call in calls][-1]
        assert found == expected
        theirs = official.results(task, [[calls]])[0][0][-1]
        assert same_text(theirs, found)
        assert not same_text(theirs, found.replace("e", "i")), "another text is another text"
        assert not same_text(theirs.replace("nvalid", "n valid"), theirs)


PLAY = """
import hashlib, json, sys
from pathlib import Path
import envtune
from envtune.evaluation import evaluate
from envtune.types import ToolCall
from test_same_bytes import sets
tasks = envtune.load_tasks("bfcl", categories=["long_context"])
out = Path(sys.argv[1])
evaluate(envtune.load_policy("noisy:0.2"), tasks, out, progress=False)
print(hashlib.sha256(out.read_bytes()).hexdigest())
"""
SERVE = """
from envtune.interop.mcp_server import ToolSession, schemas
for task, calls, _ in sets({task.id: task for task in envtune.load_tasks("bfcl")}):
    session = ToolSession(task, hints=True)
    print(json.dumps(schemas(task)), [session.call(call) for call in calls])
"""
TRAIN = """
import hashlib, sys
from pathlib import Path
from envtune.training.machine import Machine
from envtune.training.plan import Plan, Schedule
from envtune.training.recipes import RECIPES
from dataclasses import replace
from envtune.training.train import train
stage = replace(RECIPES["laptop"].stages[-1], steps=1, tasks=8, prompts_per_step=2, num_generations=4)
plan = Plan((stage,), "tiny", machine=Machine(micro_batch=4, keep_rollouts=1), schedule=Schedule(validate_tasks=4))
result = train(plan, sys.argv[1], progress=False)
files = [result.policy / "model.safetensors", *sorted(Path(sys.argv[1]).glob("rollouts/*"))]
print([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
print([{k: v for k, v in line.items() if not k.startswith("seconds/")} for line in result.lines()])
"""


def said(script: str, folder, seed: str) -> str:
    paths = os.pathsep.join([os.path.dirname(__file__), *sys.path])  # noqa: PTH120  as PYTHONPATH wants it
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder / f"out-{seed}")],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_evaluation_and_mcp_give_the_same_bytes_for_every_hash_seed(tmp_path):
    assert len({said(PLAY + SERVE, tmp_path, seed) for seed in ("1", "2")}) == 1


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.xdist_group("training")
def test_training_gives_the_same_bytes_for_every_hash_seed(tmp_path):
    assert len({said(TRAIN, tmp_path, seed) for seed in ("1", "2")}) == 1
