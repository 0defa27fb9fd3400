"""When a stage ends early, on sequences of numbers and in real runs."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import small

from envtune.rewards import REWARDS
from envtune.training import watch
from envtune.training.curriculum import Stage
from envtune.training.grpo import Trainer
from envtune.training.machine import Machine
from envtune.training.plan import Plan, Schedule
from envtune.training.train import train

KEY = "val/rewards/progress"
GOOD = {"reward": 0.5, "grad_norm": 0.3, "loss": 0.1, "entropy": 0.2, "zero_spread": 0.4, "format_error_rate": 0.05}


def steps(n: int, start: int = 1, **changes: float):
    return [{"step": start + i, **GOOD, **changes} for i in range(n)]


def scored(*scores: float, **changes: float):
    return [{"step": i, **GOOD, KEY: score, **changes} for i, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("scores", "patience", "ends"),
    [
        ((0.1, 0.2, 0.3, 0.3), 1, True),
        ((0.1, 0.2, 0.3, 0.3), 2, False),
        ((0.3, 0.2, 0.1), 2, True),
        ((0.3, 0.2, 0.31), 2, False),
        ((0.3, 0.2, 0.1), 0, False),
        ((0.3, 0.2), 2, False),
    ],
)
def test_a_plateau_is_so_many_validations_without_a_better_one(scores, patience, ends):
    assert watch.plateaued(scored(*scores), KEY, patience) is ends


def test_a_loud_gradient_norm_is_no_plateau():
    assert not watch.plateaued(scored(0.3, 0.2, 0.1, grad_norm=1.5), KEY, 2)
    assert not watch.plateaued(scored(0.3, 0.2, 0.1, grad_norm=math.inf), KEY, 2)


def test_collapse_by_each_rule():
    assert watch.collapsed(steps(30)) is None
    assert "not finite" in str(watch.collapsed(steps(3, grad_norm=math.nan)))
    assert "not finite" in str(watch.collapsed([*steps(2), {**steps(1)[0], "loss": None}]))
    unread = steps(10) + steps(10, 11, format_error_rate=0.95)
    assert "could not be read (5% at first)" in str(watch.collapsed(unread))
    assert watch.collapsed(unread[:-1]) is None
    assert watch.collapsed(steps(20, format_error_rate=0.95)) is None, "it was so from the beginning"
    loud = steps(10) + steps(10, 11, grad_norm=2.0, reward=0.2)
    assert "the reward fell from 0.500 to 0.200" in str(watch.collapsed(loud))
    assert watch.collapsed(steps(10) + steps(10, 11, grad_norm=2.0, reward=0.4)) is None
    assert watch.collapsed(steps(20, grad_norm=2.0, reward=-4.0)) is None, "execution may be paid below 0"
    silent = steps(10) + steps(10, 11, zero_spread=1.0, entropy=1e-6)
    assert "nothing is explored" in str(watch.collapsed(silent))
    assert watch.collapsed(steps(10) + steps(10, 11, zero_spread=1.0)) is None


REWARDS["constant"] = lambda episode: 1.0
STAGE = Stage(
    "s", "constant", steps=9, message_tokens=8, episode_tokens=40, num_generations=2, prompts_per_step=2,
    max_steps_per_turn=3, learning_rate=1e-3, plateau=2,
)  # fmt: skip
TASKS = [small.task(i) for i in range(2)]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    small.model().save_pretrained(folder)
    small.tokenizer().save_pretrained(folder)
    return folder


def run(policy, out, stage, **options):
    stages = (stage, replace(stage, name="next", steps=1, plateau=0))
    schedule = Schedule(validate_every=1, save_every=1)
    plan = Plan(stages, str(policy), machine=Machine(micro_batch=4), schedule=schedule)
    tasks = {stage.name: TASKS, "next": TASKS, "val": TASKS[:1]}
    return train(plan, out, tasks=tasks, progress=False, **options)


@pytest.mark.xdist_group("training")
def test_a_stage_ends_on_its_plateau_and_the_next_begins(policy, tmp_path):
    """The reward never changes, so the two validations after the first bring nothing."""
    whole = run(policy, tmp_path / "whole", STAGE)
    assert [(line["name"], line["step"]) for line in whole.lines()] == [
        *[("s", i) for i in range(3)],
        *[("next", i) for i in (0, 1)],
    ]

    def kill(line):
        if line["step"] == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(policy, tmp_path / "killed", STAGE, on_step=kill)
    again = run(policy, tmp_path / "killed", STAGE)
    assert [line["step"] for line in again.lines()] == [line["step"] for line in whole.lines()]


@pytest.mark.xdist_group("training")
def test_a_collapse_stops_with_a_report(policy, tmp_path, monkeypatch):
    log = Trainer.log
    broken = lambda self, logs, start_time=None: log(self, {**logs, "grad_norm": math.nan}, start_time)  # noqa: E731
    monkeypatch.setattr(Trainer, "log", broken)
    with pytest.raises(ValueError, match=r"stage s collapsed at step 1: .* not finite\. .*the best weights in"):
        run(policy, tmp_path / "a", replace(STAGE, plateau=0))
    lines = (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["grad_norm"] is None
    assert run(policy, tmp_path / "b", replace(STAGE, steps=1, plateau=0, watch=False)).lines()[-1]["name"] == "next"
