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
    assert len(plan.on_base.stages) == 1


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


def test_an_experiment_is_validated_and_fair(write):
    for schedule in ({"validate_every": 0}, {"keep_best": True}):
        with pytest.raises(ParamsError, match=r"key 'schedule': arms are validated \(validate_every above 0\)"):
            load(write(ARMS | {"schedule": schedule}))
