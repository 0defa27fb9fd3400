"""From a parameter file to a plan: what is said arrives, and what is wrong is said before any notebook runs."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml
from stub_project import ROOT
from typer.testing import CliRunner

from envtune.cli import app
from envtune.training.curriculum import Fade
from envtune.training.machine import Machine
from envtune.training.plan import Plan
from envtune.workbook import kernel
from envtune.workbook.errors import ParamsError
from envtune.workbook.experiment import load
from envtune.workbook.plan import training_plan

OWN = """
run: mine
recipe: laptop
stages:
  - {like: hints}
  - {like: hard, name: longer, steps: 60, hint_rate: {start: 0.5, end: 0, share: 0.6}}
  - {like: paper/independent, name: real, learning_rate: 1e-6}
override: {max_steps_per_turn: 6}
machine: {max_rows: 96, report_to: [tensorboard]}
schedule: {validate_every: 5}
"""
ARMS = yaml.safe_load((ROOT / "params/laptop-hints.yaml").read_text())


@pytest.fixture
def write(tmp_path: Path):
    def to_file(values: str | dict) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
        return path

    return to_file


def plan_of(path: Path) -> Plan:
    return training_plan(path)[1]


def test_a_recipe_of_ones_own_is_a_params_file(write):
    run_dir, plan = training_plan(write(OWN))
    assert run_dir.name == "mine"
    assert [(stage.name, stage.source) for stage in plan.stages] == [
        ("hints", "chains"), ("longer", "chains"), ("real", "bfcl"),
    ]  # fmt: skip
    _, longer, real = plan.stages
    assert (longer.steps, longer.hint_rate, real.learning_rate) == (60, Fade(0.5, 0.0, 0.6), 1e-6)
    assert {stage.max_steps_per_turn for stage in plan.stages} == {6}
    assert len({replace(stage, name="") for stage in plan.stages}) == len(plan.stages), "no two are equal"
    assert (plan.machine, plan.schedule.validate_every) == (Machine(max_rows=96, report_to=("tensorboard",)), 5)


def test_stages_of_an_experiment(write):
    plan = plan_of(write(ARMS | {"stages": [{"like": "hard", "name": "longer", "steps": 60}]}))
    assert [(stage.name, stage.steps) for stage in plan.stages] == [("longer", 60)]
    assert (plan.schedule.keep_best, plan.threads) == (False, 1)
    ppo = plan_of(write(ARMS | {"recipe": "laptop-ppo", "stages": [{"like": "execution", "lam": 0.9, "tasks": 8}]}))
    assert (ppo.stages[0].lam, ppo.stages[0].tasks) == (0.9, 8)


@pytest.mark.parametrize("field", [field.name for field in fields(Machine)])
def test_every_field_of_a_machine_is_a_key(write, field):
    """A new one needs no other edit."""
    value = getattr(Machine(), field)
    value = list(value) if isinstance(value, tuple) else value
    assert plan_of(write(OWN + f"extends: {ROOT / 'params/smoke.yaml'}\n")).machine.micro_batch == 4
    own = yaml.safe_load(OWN) | {"machine": {field: value}}
    assert getattr(plan_of(write(own)).machine, field) == getattr(Machine(), field)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"max_rows": 128}, "unknown key 'max_rows': did you mean machine: {max_rows: 128}?"),
        ({"bf16": True}, "unknown key 'bf16': did you mean machine: {bf16: true}?"),
        ({"validate_every": 20}, "unknown key 'validate_every': did you mean schedule: {validate_every: 20}?"),
        ({"steps": 4}, "unknown key 'steps': did you mean override: {steps: 4}?"),
        ({"machine": {"max_row": 4}}, "key 'machine': a machine has no field 'max_row': did you mean 'max_rows'?"),
        ({"machine": {"max_rows": "many"}}, "key 'machine': max_rows of a machine is 'many', expected int"),
        ({"machine": {"sampler": "llama"}}, "key 'machine': unknown sampler 'llama'. Known: 'cached'"),
        ({"machine": 3}, "key 'machine': got 3, expected a mapping"),
        ({"schedule": {"every": 4}}, "key 'schedule': a schedule has no field 'every': did you mean 'save_every'?"),
        ({"schedule": {"validate_tasks": 0}}, "key 'schedule': "),
        ({"recipe": "laptpo"}, "key 'recipe': unknown recipe 'laptpo'. Known: paper"),
        ({"override": {"stesp": 4}}, "key 'override': a stage has no field 'stesp': did you mean 'steps'?"),
        ({"override": {"reward": "fame"}}, "key 'override': stage syntax: reward 'fame' is unknown"),
        ({"stages": [{"like": "hrad"}]}, "key 'stages': like: recipe 'laptop' has no stage 'hrad'"),
        ({"stages": {"like": "hard"}}, "key 'stages': got {'like': 'hard'}, expected a list"),
        ({"stages": ["hard"]}, "key 'stages[0]': got 'hard', expected a mapping"),
        (
            {"override": {"source": "bfccl"}},
            "key 'override': stage syntax: source 'bfccl' is unknown, known: bfcl, synth",
        ),
        ({"override": {"split": "dev"}}, "key 'override': stage syntax: synth has no split 'dev', known: train, val"),
        ({"override": {"clip_low": -1}}, "key 'override': stage syntax: clip_low is -1.0, must be from 0 to 1"),
        (
            {"machine": {"micro_batch": 7}},
            "stage syntax: 8 prompts x 8 generations = 64 rows do not divide into micro-",
        ),
        ({"machine": {"nf4": True}}, "nf4: a base of 4 bits is not trained. Set lora_rank"),
        ({"policy": "nowhere"}, "there is no checkpoint 'nowhere': neither a folder nor a hub name"),
        ({"policy": "oracle"}, "there is no checkpoint 'oracle': neither a folder nor a hub name"),
        ({"results": "results/published"}, "key 'results': got 'results/published', expected another name"),
    ],
)
def test_what_is_wrong_is_said_when_the_file_is_read(write, values, said):
    for base in ({"run": "mine"}, ARMS):
        path = write(base | values)
        with pytest.raises(ParamsError) as error:
            plan_of(path)
        (line,) = str(error.value).splitlines()
        assert line.startswith(f"{path}: {said}")


def test_before_any_notebook_runs(write, monkeypatch):
    monkeypatch.setattr(kernel, "execute", lambda *_, **__: pytest.fail("a notebook ran"))
    path = write({"run": "mine", "results": "nowhere", "machine": {"max_row": 4}, "launch": "params/accelerate/x.yaml"})
    done = CliRunner().invoke(app, ["run", str(path)])
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        f"envtune: error: {path}: key 'machine': a machine has no field 'max_row': did you mean 'max_rows'?",
        f"envtune: error: {path}: key 'launch': no accelerate configuration 'params/accelerate/x.yaml'. "
        "The project's own are in params/accelerate/",
    ]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"recipe": "single"},
            "the stages single do not train on the base split first. Chapters 4 and 5 need a recipe",
        ),
        (
            {"stages": [{"like": "hard"}, {"like": "hints"}]},
            "the stages hard, hints do not train on the base split first.",
        ),
        (
            {"stages": [{"like": "syntax"}, {"like": "paper/hard"}]},
            "the stages syntax and hard are judged differently: ",
        ),
        (
            {"override": {"split": "test"}},
            "stage syntax trains on the split test, on which agents are judged. Notebooks",
        ),
        ({"machine": {"report_to": ["tensorboard"]}}, "tensorboard needs the package tensorboard: pip install"),
        ({"policies": ["silent", "orcale"]}, "key 'policies[1]': unknown policy 'orcale'. Known: 'oracle', 'silent'"),
        ({"policies": ["http://x/v1"]}, "key 'policies[0]': no model of http://x/v1 is named."),
        ({"policies": ["noisy:2"]}, "key 'policies[0]': noise level is 2.0. It must be a share"),
        (
            {"policies": ["results/nowhere/policy"]},
            "key 'policies[0]': there is no checkpoint 'results/nowhere/policy'",
        ),
    ],
)
def test_a_series_that_a_notebook_would_stop_does_not_start(write, monkeypatch, values, said):
    monkeypatch.setattr(kernel, "execute", lambda *_, **__: pytest.fail("a notebook ran"))
    monkeypatch.setattr("envtune.training.machine.find_spec", lambda package: None)
    path = write({"run": "mine", "results": "nowhere", **values})
    done = CliRunner().invoke(app, ["run", str(path)])
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"envtune: error: {path}: {said}")
    assert not (ROOT / "nowhere").exists()
    if "policies" not in values:
        assert plan_of(path).stages, "`envtune train` takes it"


def test_a_file_of_the_other_kind_names_the_command_that_takes_it(write):
    for command, values, said in [
        ("run", ARMS, "is the file of an experiment. `envtune arms"),
        ("evaluate", ARMS, "is the file of an experiment. `envtune arms"),
        ("arms", {"run": "mine"}, "lists no `arms`. If it is the file of a series, `envtune run"),
    ]:
        done = CliRunner().invoke(app, [command, str(write(values))])
        (line,) = done.stderr.splitlines()
        assert said in line


def test_a_home_folder_is_meant_by_a_tilde(write):
    assert training_plan(write({"run": "mine", "results": "~/runs"}))[0] == Path.home() / "runs/mine"


def test_an_experiment_whose_last_step_cannot_be_is_refused_at_once(write):
    with pytest.raises(ParamsError, match=r"bfcl, on which arms are judged, has no split 'ood': all, train, val, test"):
        load(write(ARMS | {"split": "ood", "stages": [{"like": "paper/hard"}]}))
    with pytest.raises(ParamsError, match="arm 'ppo' needs a recipe for PPO, such as 'laptop-ppo', but stage syntax"):
        load(write(ARMS | {"arms": ["ppo"]}))


def test_an_experiment_is_validated_and_fair(write):
    for schedule in ({"validate_every": 0}, {"keep_best": True}):
        with pytest.raises(ParamsError, match=r"key 'schedule': arms are validated \(validate_every above 0\)"):
            load(write(ARMS | {"schedule": schedule}))
