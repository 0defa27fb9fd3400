"""Training with real vLLM goes through all stages: each has processes of its own, and a killed run goes on."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from envtune.data import synth
from envtune.policy.checkpoint import load_checkpoint
from envtune.training.curriculum import Stage
from envtune.training.machine import Machine
from envtune.training.plan import Plan, Schedule
from envtune.training.train import train
from envtune.types import Category

FIRST = Stage(
    "first", "syntax", steps=1, message_tokens=32, episode_tokens=160, source="synth", tasks=4,
    categories=(Category.BASE,), num_generations=2, prompts_per_step=2, learning_rate=1e-3, max_steps_per_turn=2,
    beta=0.05,
)  # fmt: skip
SECOND = replace(FIRST, name="second", steps=2, lora_rank=4)
PLAN = Plan(
    (FIRST, SECOND),
    "tiny",
    machine=Machine(micro_batch=2, sampler="vllm"),
    schedule=Schedule(validate_every=1, validate_tasks=2, save_every=1),
    threads=1,
)
TWO = replace(PLAN, launch="params/accelerate/cpu-2.yaml")
pytestmark = pytest.mark.usefixtures("vllm_on_cpu")


class KilledError(Exception):
    pass


def trainers(folder: Path) -> set[int]:
    """Processes that train in that folder."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"{folder}/launch.json".encode() in entry.read_bytes():
                found.add(int(entry.parent.name))
        except OSError:
            continue
    return found


def run(folder: Path, plan: Plan, kill_at: tuple[str, int] | None = None, **options):
    """Train. Returns the result and, by stage, the processes that were seen at its steps."""
    seen: dict[str, set[int]] = {}

    def tell(line):
        seen.setdefault(line["name"], set()).update(trainers(folder))
        if kill_at == (line["name"], line["step"]):
            raise KilledError

    return train(plan, folder, on_step=tell, progress=False, **options), seen


def is_whole(result) -> None:
    lines = result.lines()
    assert [(line["name"], line["step"]) for line in lines] == [
        ("first", 0), ("first", 1), ("second", 0), ("second", 1), ("second", 2),
    ]  # fmt: skip
    assert all(math.isfinite(line["loss"]) and line["tokens/sampled"] > 0 for line in lines if line["step"])
    assert max(line["sampling/sampling_logp_difference/mean"] for line in lines if line["step"]) < 0.05
    weights = [load_checkpoint(str(folder))[0].state_dict() for folder in ("tiny", result.policy)]
    assert any((weights[0][name] != weights[1][name]).any() for name in weights[0])


def test_every_stage_has_a_process_of_its_own_and_a_killed_run_goes_on(tmp_path):
    own = synth.load(4, "train", 0)
    tasks = {"first": own[:2], "second": own[2:], "val": own[:2]}
    with pytest.raises(KilledError):
        run(tmp_path, PLAN, ("second", 1), tasks=tasks)
    assert not trainers(tmp_path)
    assert (tmp_path / "1_first/done.json").exists() and not (tmp_path / "2_second/done.json").exists()
    result, seen = run(tmp_path, PLAN, tasks=tasks)
    assert seen.keys() <= {"second"}, "the first stage is not trained again"
    is_whole(result)


def test_two_processes_go_through_all_stages(tmp_path):
    result, seen = run(tmp_path, TWO)
    assert not seen["first"] & seen["second"], "nothing of the first engine may be alive"
    assert len(seen["first"]) == len(seen["second"]) == 3, "the launcher and two trainers"
    is_whole(result)


def test_the_check_of_a_published_file_plays_all_stages_with_vllm():
    done = subprocess.run(
        [sys.executable, "-m", "envtune", "run", "params/qwen3-4b-t3rl.yaml", "--check"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines if "one step with a random model" in line] == [
        "stage base",
        "stage all",
    ]
    assert lines[-1] == "all 2 stages run"
    assert not [line for line in lines if "sampler" in line], "vLLM must not be left out"
