"""A plan: it survives JSON field by field, and chapters 4 and 5 share its stages out."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from envtune.training.curriculum import Fade, PPOStage, Stage
from envtune.training.machine import Machine
from envtune.training.plan import Plan, Schedule
from envtune.training.recipes import recipe, stages_of

OTHER = Plan(
    recipe("laptop").stages[1:3],
    "some/model",
    seed=7,
    machine=Machine(micro_batch=2, report_to=("tensorboard",)),
    schedule=Schedule(validate_every=0, keep_best=False),
    launch="params/accelerate/cpu-2.yaml",
    threads=3,
)
"""A value other than the default in every field."""


def through_text(plan: Plan) -> Plan:
    return Plan.from_json(json.loads(json.dumps(plan.to_json())))


def test_every_field_survives_json():
    plain = Plan(recipe("laptop").stages, "tiny")
    assert through_text(plain) == plain
    for field in fields(Plan):
        value = getattr(OTHER, field.name)
        assert value != getattr(plain, field.name), f"give {field.name} another value above, or it is not tested"
        assert getattr(through_text(replace(plain, **{field.name: value})), field.name) == value


@pytest.mark.parametrize("name", ["laptop", "laptop-ppo", "paper"])
def test_stages_keep_their_kind(name):
    plan = Plan(recipe(name).stages, "tiny")
    assert through_text(plan).stages == plan.stages
    assert [type(stage) for stage in through_text(plan).stages] == [type(stage) for stage in plan.stages]


def test_a_plan_of_another_version_is_refused_by_name():
    told = OTHER.to_json()
    with pytest.raises(ValueError, match="a plan has no field 'sede': did you mean 'seed'"):
        Plan.from_json({**told, "sede": 1})
    with pytest.raises(ValueError, match="machine of a plan has no field 'lanes'"):
        Plan.from_json({**told, "machine": {"lanes": 1}})


def test_the_two_chapters_share_the_stages():
    for name, n in [("laptop", 2), ("paper", 2), ("t3rl", 1)]:
        plan = Plan(recipe(name).stages, "tiny", seed=3)
        assert len(plan.on_base.stages) == n
        assert plan.on_base.stages + plan.on_all.stages == plan.stages
        assert plan.on_base.seed == plan.on_all.seed == 3
    with pytest.raises(ValueError, match="the stages single do not train on the base split first"):
        _ = Plan(recipe("single").stages, "tiny").on_base
    turned = Plan(tuple(reversed(recipe("laptop").stages)), "tiny")
    with pytest.raises(ValueError, match="do not train on the base split first"):
        _ = turned.on_base
    for own, said in [
        ({"like": "paper/independent", "calls": "native", "max_steps_per_turn": 8}, "source is synth and bfcl"),
        ({"like": "hard", "max_steps_per_turn": 5}, "max_steps_per_turn is 8 and 5"),
    ]:
        mixed = Plan(stages_of("laptop", [{"like": "syntax"}, own]), "tiny")
        with pytest.raises(ValueError, match=f"the stages syntax and .* are judged differently: {said}"):
            _ = mixed.on_base


def test_stages_by_name():
    assert OTHER.stage("hints").name == "hints"
    assert OTHER.stage().name == "hard"
    with pytest.raises(ValueError, match=r"no stage 'hrad'\. Known: hints, hard"):
        OTHER.stage("hrad")


@pytest.mark.parametrize("values", [{"validate_every": -1}, {"validate_tasks": 0}, {"save_every": 0}])
def test_a_schedule_that_cannot_be(values):
    with pytest.raises(ValueError, match="validate_every is at least 0"):
        Schedule(**values)


LONGER = {"like": "hard", "name": "longer", "steps": 60, "hint_rate": {"start": 0.5, "end": 0, "share": 0.6}}


def test_stages_over_named_ones():
    hard = recipe("laptop").stages[2]
    first, longer, other = stages_of("laptop", [{"like": "syntax"}, LONGER, {"like": "paper/hints", "steps": 3}])
    assert first == recipe("laptop").stages[0]
    assert longer == replace(hard, name="longer", steps=60, hint_rate=Fade(0.5, 0.0, 0.6))
    assert other == replace(recipe("paper").stages[1], steps=3)
    assert stages_of("laptop") == recipe("laptop").stages, "none given: the recipe's"


def test_override_applies_to_all_of_them():
    stages = stages_of("laptop", [{"like": "hard"}, LONGER], {"learning_rate": "1e-6"})
    assert [stage.learning_rate for stage in stages] == [1e-6, 1e-6]
    assert [stage.steps for stage in stages] == [30, 60]


WHOLE = {"name": "own", "reward": "progress", "steps": 2, "message_tokens": 8, "episode_tokens": "80"}


def test_a_stage_of_its_own():
    (own,) = stages_of("laptop", [WHOLE])
    assert own == Stage("own", "progress", 2, 8, 80)
    (ppo,) = stages_of("laptop", [{**WHOLE, "reward": "execution", "gamma": 0.5}])
    assert ppo == PPOStage("own", "execution", 2, 8, 80, gamma=0.5)
    (like,) = stages_of("laptop-ppo", [{"like": "execution", "lam": 0.5}])
    assert like == replace(recipe("laptop-ppo").stages[0], lam=0.5)


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([{**LONGER, "stps": 1}], "stage longer has no field 'stps': did you mean 'steps'?"),
        ([{**LONGER, "steps": "many"}], "steps of stage longer is 'many', expected int"),
        ([{**LONGER, "steps": 0}], "stage longer: steps is 0, must be at least 1"),
        ([{**LONGER, "hint_rate": {"start": 1, "end": 0}}], "hint_rate of stage longer lacks share"),
        ([{**LONGER, "gamma": 1}], "stage longer has no field 'gamma'"),
        ([{**LONGER, "like": "hrad"}], "like: recipe 'laptop' has no stage 'hrad'. It has syntax, hints, hard"),
        ([{**LONGER, "like": "paper/hrad"}], "like: recipe 'paper' has no stage 'hrad'. It has syntax, hints, hard"),
        ([{**LONGER, "like": "papre/hard"}], "unknown recipe 'papre'. Known: paper"),
        ([LONGER, LONGER], "two stages are called 'longer'. Give each its own `name`"),
        ([{"name": "own", "steps": 1}], "stage own (without `like`) lacks reward, message_tokens, episode_tokens"),
        ([{"steps": 1}], "stage 1 (without `like`) lacks name, reward"),
        ([{**LONGER, "name": "val"}], "stage 'val': a name has only letters, digits, '_' and '-', up to 100"),
        ([{**LONGER, "name": "x" * 101}], "because it names a folder. 'field', 'changes' and 'val' are taken"),
        ([{**LONGER, "name": "../up"}], "stage '../up': a name has only letters, digits, '_' and '-'"),
    ],
)
def test_records_that_are_no_stages(records, said):
    with pytest.raises(ValueError) as error:
        stages_of("laptop", records)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
