"""GRPO end to end with a tiny random model: it learns, repeats, resumes, validates."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import small
import torch
from typer.testing import CliRunner

from envtune import sources
from envtune.cli import app
from envtune.rewards import REWARDS
from envtune.training import metrics
from envtune.training.check import check
from envtune.training.curriculum import PPOStage, Stage
from envtune.training.folders import move_folder, put_back
from envtune.training.grpo import grpo_config, schedule
from envtune.training.machine import Machine
from envtune.training.plan import Plan, Schedule
from envtune.training.train import train
from envtune.workbook.provenance import source_hash

MACHINE = Machine(micro_batch=4)
PLAN = Schedule(validate_every=2, save_every=2)
TASKS = [small.task(i) for i in range(3)]


def letters(episode) -> float:
    """Share of what was said that is a small vowel: a reward that a random model earns now and then."""
    said = "".join(step.text.removesuffix("<|cut_off|>") for step in episode.steps)
    return sum(c in "aeiou" for c in said) / max(1, len(said))


REWARDS["letters"] = letters
STAGE = Stage(
    "letters", "letters", steps=4, message_tokens=8, episode_tokens=40, num_generations=4, prompts_per_step=2,
    learning_rate=3e-3, max_steps_per_turn=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    small.model().save_pretrained(folder)
    small.tokenizer().save_pretrained(folder)
    return folder


def run(policy, out, stages=None, **options):
    tasks = {stage.name: TASKS for stage in stages or [STAGE]} | {"val": TASKS[:2]}
    told = {name: options.pop(name, None) for name in ("on_step", "on_episode")}
    plan = Plan(tuple(stages or [STAGE]), str(policy), **{"machine": MACHINE, "schedule": PLAN, "seed": 1} | options)
    return train(plan, out, tasks=tasks, progress=False, **told)


def numbers(result):
    return [{k: v for k, v in line.items() if not k.startswith("seconds/")} for line in result.lines()]


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def same_weights(a, b):
    one, two = weights(a), weights(b)
    return one.keys() == two.keys() and all(bool((one[key] == two[key]).all()) for key in one)


def test_it_learns(policy, tmp_path):
    stage = replace(STAGE, steps=25, learning_rate=2e-2, num_generations=8, prompts_per_step=4)
    result = run(policy, tmp_path, [stage], machine=Machine(micro_batch=16), schedule=Schedule(validate_every=0))
    rewards = [line["reward"] for line in result.lines() if line["step"]]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.3, rewards


def test_bfloat16_trains_on_a_cpu_too(policy, tmp_path):
    machine = Machine(micro_batch=4, bf16=True)
    first, second = (run(policy, tmp_path / name, machine=machine) for name in "ab")
    assert numbers(first) == numbers(second)
    assert all(math.isfinite(line["loss"]) and line["grad_norm"] > 0 for line in first.lines()[1:])
    assert not same_weights(first.policy, policy)
    in_float32 = run(policy, tmp_path / "c").lines()
    assert first.lines()[1]["reward"] == in_float32[1]["reward"], "both sample alike"
    assert first.lines()[-1]["loss"] != in_float32[-1]["loss"]


def test_a_run_repeats_and_leaves_its_numbers(policy, tmp_path):
    stages = [STAGE, replace(STAGE, name="more", entropy=0.01, beta=0.05, drop_zero_spread=True)]
    seen, fresh = [], []
    first = run(policy, tmp_path / "a", stages, on_step=seen.append, on_episode=fresh.append)
    second = run(policy, tmp_path / "b", stages)
    assert numbers(first) == numbers(second)
    assert same_weights(first.policy, second.policy)
    assert not same_weights(first.policy, policy)
    assert "rope_theta" in json.loads((first.policy / "config.json").read_text()), "transformers 4.57 reads it"
    lines = first.lines()
    assert [(line["name"], line["step"]) for line in lines] == [(s.name, i) for s in stages for i in range(5)]
    assert [line["step"] for line in lines if "val/progress" in line] == [0, 2, 4] * 2
    assert seen == lines
    assert len(fresh) == sum(line["step"] > 0 for line in lines) and {e.task_id for e in fresh} <= {t.id for t in TASKS}
    wanted = {
        "reward",
        "progress",
        "task_accuracy/base",
        "error_rate",
        "format_error_rate",
        "hints",
        "zero_spread",
        "entropy",
    }
    wanted |= {"grad_norm", "loss", "tokens/sampled", "seconds/sampling", "seconds/environment", "seconds/update"}
    assert wanted - {"error_rate"} <= lines[1].keys()
    assert lines[6]["kl"] == pytest.approx(0, abs=1e-5)
    assert lines[8]["kl"] > lines[6]["kl"]
    assert "kl" not in lines[1]
    assert not list((tmp_path / "a").rglob("checkpoint-*"))
    assert not list((tmp_path / "a").rglob("README.md"))
    third = run(policy, tmp_path / "c", stages, seed=2)
    assert numbers(third) != numbers(first)


class KilledError(Exception):
    pass


TWO = [STAGE, replace(STAGE, name="more", steps=3)]


@pytest.fixture(scope="module")
def whole(policy, tmp_path_factory):
    return run(policy, tmp_path_factory.mktemp("whole"), TWO)


@pytest.mark.xdist_group("training")
@pytest.mark.parametrize("when", [1, 3, 4, 6])
def test_a_killed_run_goes_on_bit_for_bit(policy, whole, tmp_path, when):
    calls = []

    def kill(line):
        calls.append(line)
        if len(calls) == when + 1:
            raise KilledError

    with pytest.raises(KilledError):
        run(policy, tmp_path / "killed", TWO, on_step=kill)
    half = tmp_path / "killed" / "1_letters" / "checkpoint-99"
    half.mkdir(parents=True, exist_ok=True)  # a checkpoint that was being written
    resumed = run(policy, tmp_path / "killed", TWO)
    assert numbers(resumed) == numbers(whole)
    assert same_weights(resumed.policy, whole.policy)
    again = run(policy, tmp_path / "killed", TWO)
    assert numbers(again) == numbers(whole)


def test_another_run_in_the_same_folder_is_refused(policy, tmp_path):
    run(policy, tmp_path, [replace(STAGE, steps=1)], schedule=Schedule(validate_every=0))
    with pytest.raises(ValueError, match=r"holds another run: seed is 1, now 2\. Choose another folder"):
        run(policy, tmp_path, [replace(STAGE, steps=1)], schedule=Schedule(validate_every=0), seed=2)


def test_a_run_of_other_code_weights_data_or_tasks_is_another_run(policy, tmp_path, monkeypatch):
    """In a folder of the same path. Nothing in it is changed."""
    stages, plan, enters, out = [replace(STAGE, steps=1)], Schedule(validate_every=0), tmp_path / "in", tmp_path / "out"
    shutil.copytree(policy, enters)
    before = numbers(run(enters, out, stages, schedule=plan))
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*")}

    def refused(message: str, stages=stages) -> None:
        with pytest.raises(ValueError, match=rf"out holds another run: {message}\. Choose another folder \(in"):
            run(enters, out, stages, schedule=plan)
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == files

    refused(r"stages\[0\]\.steps is 1, now 2", [replace(STAGE, steps=2)])
    with monkeypatch.context() as patch:
        patch.setattr(sources, "running", lambda only: "f" * 64)
        refused(r"code is [0-9a-f]{10}, now f{10}")
    with monkeypatch.context() as patch:
        patch.setattr("envtune.training.identity.data_version", lambda: {"bfcl-eval": "1"})
        refused(r"data\.bfcl-eval is .*, now 1")
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[__name__], "TASKS", TASKS[1:])
        refused(r"tasks\.letters is [0-9a-f]{10}, now [0-9a-f]{10}")
    assert numbers(run(enters, out, stages, schedule=plan)) == before
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    small.model(seed=1).save_pretrained(enters)
    refused("weights is [0-9a-f]{16}, now [0-9a-f]{16}")


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "1"])
def test_a_reward_that_is_no_number_ends_the_run(policy, tmp_path, monkeypatch, value):
    monkeypatch.setitem(REWARDS, "letters", lambda episode: value)
    expected = f"reward 'letters' gives {value!r} for task {TASKS[0].id[:-1]}"
    with pytest.raises(ValueError, match=expected + r"\d\. A reward is a finite number"):
        run(policy, tmp_path, [replace(STAGE, steps=1)], schedule=Schedule(validate_every=0))


def test_a_run_that_was_moved_with_its_policy_goes_on(policy, tmp_path):
    stages, plan = [replace(STAGE, steps=1)], Schedule(validate_every=0)
    shutil.copytree(policy, tmp_path / "here/policy")
    first = run(tmp_path / "here/policy", tmp_path / "here/run", stages, schedule=plan)
    before = numbers(first)
    assert str(tmp_path) not in (tmp_path / "here/run/run.json").read_text()
    (tmp_path / "here").rename(tmp_path / "there")
    again = run(tmp_path / "there/policy", tmp_path / "there/run", stages, schedule=plan)
    assert numbers(again) == before


def test_the_best_weights_are_handed_on(policy, tmp_path, monkeypatch):
    """The score of step 2 is the highest; a stage with hints hands on its last weights."""
    from envtune.training.grpo import Trainer

    scores = {0: 0.1, 2: 0.9, 4: 0.5}
    monkeypatch.setattr(Trainer, "validate", lambda self, tasks: {"rewards/letters": scores[self.state.global_step]})
    run(policy, tmp_path / "a")
    folder = tmp_path / "a" / "1_letters"
    assert json.loads((folder / "best" / "score.json").read_text()) == {"step": 2, "rewards/letters": 0.9}
    assert same_weights(tmp_path / "a" / "policy", folder / "best")
    assert not same_weights(folder / "best", folder / "last")
    run(policy, tmp_path / "b", [replace(STAGE, hint_rate=1.0)])
    assert same_weights(tmp_path / "b" / "policy", tmp_path / "b" / "1_letters" / "last")
    run(policy, tmp_path / "c", schedule=replace(PLAN, keep_best=False))
    assert same_weights(tmp_path / "c" / "policy", tmp_path / "c" / "1_letters" / "last")


def test_the_best_weights_stay_the_best_if_what_followed_the_checkpoint_does_not_repeat(policy, tmp_path, monkeypatch):
    from envtune.training.grpo import Trainer

    scores = {0: 0.1, 1: 0.2, 2: 0.3, 3: 0.9}
    monkeypatch.setattr(Trainer, "validate", lambda self, tasks: {"rewards/letters": scores[self.state.global_step]})
    stages, plan = [STAGE, replace(STAGE, name="more")], Schedule(validate_every=1, save_every=2)
    with pytest.raises(KeyError):  # killed at step 4
        run(policy, tmp_path, stages, schedule=plan)
    scores |= {3: 0.4, 4: 0.5}
    lines = run(policy, tmp_path, stages, schedule=plan).lines()
    assert json.loads((tmp_path / "1_letters/best/score.json").read_text()) == {"step": 3, "rewards/letters": 0.9}
    told = {(line["name"], line["step"]): line["val/rewards/letters"] for line in lines}
    assert (told["letters", 3], told["more", 0]) == (0.4, 0.9), "what enters a stage is told with its own numbers"


def test_what_was_measured_is_not_measured_again(policy, tmp_path, monkeypatch):
    """A stage begins with the numbers of the weights that the stage before handed on, the best or the last."""
    from envtune.training.grpo import Trainer

    measured = []

    def validate(self, tasks):
        measured.append((self.stage.name, self.state.global_step))
        return {"rewards/letters": 1 / len(measured)}

    monkeypatch.setattr(Trainer, "validate", validate)
    second = replace(STAGE, name="second", hint_rate=1.0)
    third, fourth = replace(STAGE, name="third"), replace(STAGE, name="fourth", max_steps_per_turn=2)
    lines = run(policy, tmp_path, [STAGE, second, third, fourth]).lines()
    expected = {"letters": [0, 2, 4], "second": [2, 4], "third": [2, 4], "fourth": [0, 2, 4]}
    assert measured == [(name, step) for name, steps in expected.items() for step in steps]
    score = {(line["name"], line["step"]): line.get("val/rewards/letters") for line in lines}
    assert score["second", 0] == score["letters", 0] == 1, "the best were those at the start"
    assert score["third", 0] == score["second", 4] == 1 / 5, "hints to the end: the last were handed on"


def test_a_plan_that_cannot_run_is_refused_before_anything_is_written(tmp_path):
    plan, second = Plan((STAGE,), "tiny", machine=MACHINE), replace(STAGE, name="second", prompts_per_step=3)
    ppo = PPOStage("ppo", "execution", 1, 8, 40, num_generations=2, prompts_per_step=3)
    broken = {
        "letters: 2 prompts x 4 generations = 8 rows do not divide into micro-batches of 3 (rows x processes)": replace(
            plan, machine=Machine(micro_batch=3)
        ),
        "stage second: 3 prompts x 4 generations = 12 rows do not divide into micro-batches of 8": replace(
            plan, stages=(STAGE, second), machine=Machine(micro_batch=8)
        ),
        "stage ppo: 3 prompts x 2 generations = 6 rows do not divide": replace(plan, stages=(ppo,)),
        "micro-batches of 16": replace(plan, launch="params/accelerate/cpu-2.yaml", machine=Machine(micro_batch=8)),
        "Use sampler 'vllm'": replace(plan, launch="params/accelerate/fsdp2-8gpu.yaml"),
        "there is no checkpoint 'nowhere'": replace(plan, policy="nowhere"),
    }
    said: list[str] = []
    for message, each in broken.items():
        with pytest.raises(ValueError, match=re.escape(message)):
            train(each, tmp_path / "out", progress=False)
        with pytest.raises(ValueError, match=re.escape(message) if each.policy == "tiny" else "are not known"):
            check(each, echo=said.append)
    assert not (tmp_path / "out").exists()
    assert not said


def test_what_cannot_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"2 prompts x 4 generations = 8 rows do not divide into micro-batches of 3"):
        grpo_config(STAGE, tmp_path, seed=0, machine=Machine(micro_batch=3), save_every=1)
    with pytest.raises(ValueError, match=r"vllm-server.*colocated"):
        Machine(sampler="vllm-server")
    with pytest.raises(ValueError, match="unknown sampler"):
        Machine(sampler="llama")


def test_the_schedule_goes_over_all_tasks_again_and_again():
    order = schedule(TASKS, 7, seed=0)
    assert len(order) == 7
    assert {t.id for t in order[:3]} == {t.id for t in order[3:6]} == {t.id for t in TASKS}
    assert order == schedule(TASKS, 7, seed=0)
    assert [schedule(TASKS, 9, seed=i) for i in range(9)].count(schedule(TASKS, 9, seed=0)) < 9


def test_metrics_files_are_cut_back(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for stage, step in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        metrics.append(path, {"stage": stage, "step": step, "x": float("nan")})
    with path.open("a") as file:
        file.write('{"stage": 1, "st')
    metrics.cut_back(path, 1, 0)
    assert [(line["stage"], line["step"], line["x"]) for line in metrics.read(path)] == [
        (0, 0, None),
        (0, 1, None),
        (1, 0, None),
    ]


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_folder_is_replaced_wherever_it_is_killed(tmp_path, monkeypatch, renames):
    """After so many renames the process dies; the next one finds the old content or the new one, whole."""
    for name in ("best", ".best"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text(name)
    left = iter(range(renames))
    rename = Path.rename

    def die_at_last(self, target):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", die_at_last)
    with suppress(KeyboardInterrupt):
        move_folder(tmp_path / ".best", tmp_path / "best")
    monkeypatch.undo()
    put_back(tmp_path / "best")
    assert (tmp_path / "best/weights").read_text() == ("best" if renames < 2 else ".best")


@pytest.mark.slow
def test_the_command_trains_a_recipe_and_says_with_what(tmp_path, monkeypatch):
    values = {"run": "whole", "results": str(tmp_path), "threads": 1}
    values |= {"schedule": {"validate_tasks": 2}, "machine": {"micro_batch": 4}}
    values["override"] = {"steps": 1, "prompts_per_step": 2, "num_generations": 2, "tasks": 4}
    params = tmp_path / "whole.yaml"
    params.write_text(json.dumps(values))
    torch.set_num_threads(2)
    done = CliRunner().invoke(app, ["train", str(params)])
    assert done.exit_code == 0, done.output
    folder = tmp_path / "whole/train"
    assert f"policy {folder / 'policy'}\n" in done.output
    assert weights(folder / "policy")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["parameters"], manifest["code"]["source_hash"]) == (values, source_hash())
    assert torch.get_num_threads() == 1
    before = (folder / "manifest.json").stat().st_mtime_ns
    assert CliRunner().invoke(app, ["train", str(params)]).exit_code == 0
    assert (folder / "manifest.json").stat().st_mtime_ns == before, "nothing was trained, so nothing is stamped"
    monkeypatch.setattr(sources, "running", lambda only=("",): "f" * 64)
    refused = CliRunner().invoke(app, ["train", str(params)])
    assert refused.exit_code == 1
    assert f"envtune: error: {folder} holds another run: code is " in refused.stderr
    assert (folder / "manifest.json").stat().st_mtime_ns == before
