"""What changes between the stages of every recipe."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from envtune.data.audit import unsound
from envtune.training.curriculum import Fade, Stage, changes, describe, override, table
from envtune.training.recipes import RECIPES, Recipe, recipe
from envtune.types import Category

ALL, BASE = tuple(Category), (Category.BASE,)
CHANGES = {
    "paper": [
        {
            "reward": ("syntax", "progress"),
            "tasks": (75, 100),
            "steps": (93, 62),
            "prompts_per_step": (16, 32),
            "hint_rate": (0.0, 1.0),
        },
        {"categories": (BASE, ALL), "tasks": (100, 400), "steps": (62, 250), "episode_tokens": (10_000, 24_576)},
        {"hint_rate": (1.0, 0.0)},
    ],
    "paper-no-hints": [
        {"reward": ("syntax", "progress"), "tasks": (75, 100), "steps": (93, 62), "prompts_per_step": (16, 32)},
        {"categories": (BASE, ALL), "tasks": (100, 400), "steps": (62, 500), "episode_tokens": (10_000, 24_576)},
    ],
    "paper-binary": [
        {
            "reward": ("syntax", "binary"),
            "tasks": (75, 100),
            "steps": (93, 62),
            "prompts_per_step": (16, 32),
            "hint_rate": (0.0, 1.0),
        },
        {"categories": (BASE, ALL), "tasks": (100, 400), "steps": (62, 250), "episode_tokens": (10_000, 24_576)},
        {"hint_rate": (1.0, 0.0)},
    ],
    "t3rl": [{"categories": (BASE, ALL), "tasks": (100, 400), "steps": (62, 250)}],
    "single": [],
    "qwen-tool": [],
    "laptop-ppo": [],
    "laptop": [
        {
            "reward": ("syntax", "progress"),
            "source": ("synth", "chains"),
            "tasks": (128, 600),
            "steps": (4, 36),
            "prompts_per_step": (8, 12),
            "learning_rate": (7e-4, 4e-4),
            "hint_rate": (0.0, Fade(1.0, 0.5, 1.0)),
            "hint_strength": ("one", "list"),
        },
        {
            "categories": (BASE, ALL),
            "tasks": (600, 800),
            "steps": (36, 30),
            "prompts_per_step": (12, 10),
            "learning_rate": (4e-4, 2.5e-4),
            "hint_rate": (Fade(1.0, 0.5, 1.0), Fade(0.5, 0.0, 0.6)),
            "turn_feedback": (False, True),
        },
        {
            "source": ("chains", "synth"),
            "tasks": (800, 512),
            "steps": (30, 40),
            "prompts_per_step": (10, 12),
            "learning_rate": (2.5e-4, 2e-4),
            "beta": (0.05, 0.0),
            "hint_rate": (Fade(0.5, 0.0, 0.6), 0.0),
            "turn_feedback": (True, False),
        },
    ],
}


@pytest.mark.parametrize("name", RECIPES)
def test_what_changes_between_stages(name):
    stages = recipe(name).stages
    assert changes(stages) == CHANGES[name]
    assert all(change for change in changes(stages)), "two neighbouring stages are equal"
    assert len({replace(stage, name="") for stage in stages}) == len(stages)
    assert len({stage.name for stage in stages}) == len(stages)


def test_published_values():
    for stage in recipe("paper").stages:
        assert (stage.learning_rate, stage.beta, stage.entropy) == (1e-6, 0.1, 0.001)
        assert (stage.clip_low, stage.clip_high, stage.num_generations, stage.max_steps_per_turn) == (0.2, 0.28, 16, 5)
    for stage in recipe("t3rl").stages:
        assert (stage.learning_rate, stage.beta, stage.entropy, stage.hint_rate) == (1e-6, 0, 0.001, 0)
        assert (stage.prompts_per_step, stage.num_generations, stage.episode_tokens) == (32, 16, 10_000)
        assert (stage.max_steps_per_turn, stage.max_steps, stage.drop_zero_spread) == (10, 30, True)
    (single,) = recipe("single").stages
    assert replace(single, name="") == replace(recipe("paper").stages[-1], name="", plateau=0)


def test_every_recipe_ends_as_it_is_judged():
    for each in RECIPES.values():
        assert each.stages[-1].ends_without_hints
        assert all(stage.ends_without_hints == (stage.rate(stage.steps) == 0) for stage in each.stages)
    with pytest.raises(
        ValueError, match=r"unknown recipe 'papers'\. Known: paper, t3rl, single, paper-no-hints, paper-binary, laptop"
    ):
        recipe("papers")


STAGE = Stage("s", "progress", steps=10, message_tokens=8, episode_tokens=80)


def test_hints_fade():
    fading = replace(STAGE, hint_rate=Fade(1.0, 0.2, 0.5))
    assert [fading.rate(step) for step in (0, 1, 4, 5, 9)] == pytest.approx([1.0, 0.84, 0.36, 0.2, 0.2])
    assert not fading.ends_without_hints
    assert fading.rules(1).hint_rate == pytest.approx(0.84)
    assert (fading.judged.hint_rate, fading.judged.temperature) == (0, 0)
    assert STAGE.rules(3).hint_rate == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward": "fame"}, "stage s: reward 'fame' is unknown, known: syntax, progress, binary, execution"),
        ({"num_generations": 1}, "num_generations is 1, must be at least 2"),
        ({"steps": 0, "temperature": 0}, "steps is 0, must be at least 1; temperature is 0"),
        ({"hint_rate": 1.5}, "hint_rate must be 0 to 1"),
        ({"categories": ()}, "categories is empty"),
        ({"categories": ("bse",)}, "categories bse are unknown, known: base, miss_func, miss_param, long_context"),
        ({"source": "bfccl"}, "stage s: source 'bfccl' is unknown, known: bfcl, synth, chains"),
        ({"split": "dev"}, "stage s: bfcl has no split 'dev', known: all, train, val, test, heldout"),
        ({"source": "chains", "split": "heldout"}, "chains has no split 'heldout', known: train, val, test, ood"),
        ({"clip_low": -0.1}, "stage s: clip_low is -0.1, must be from 0 to 1"),
        ({"clip_low": 1.5}, "clip_low is 1.5, must be from 0 to 1"),
        ({"clip_high": -1}, "clip_high is -1, must be at least 0"),
        ({"beta": -0.1}, "beta is -0.1, entropy 0.0, must be at least 0"),
        ({"hint_strength": "two"}, "hint_strength 'two' is unknown, known: one, list"),
        ({"message_tokens": 0}, "token limits"),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(STAGE, **change)
    with pytest.raises(ValueError, match="share"):
        Fade(1, 0, 0)


def test_tasks_of_a_stage():
    assert len(recipe("paper").stages[1].load()) == 100
    assert len(recipe("paper").stages[0].load()) == 75
    validation = recipe("paper").stages[2].load("val", 40)
    assert len(validation) == 40
    assert {task.category for task in validation} == set(Category)
    assert not {task.number for task in validation} & {task.number for task in recipe("paper").stages[2].load()}
    assert Recipe("x", (STAGE,)).stages[0].to_json()["categories"] == [
        "base",
        "miss_func",
        "miss_param",
        "long_context",
    ]


def test_practice_is_judged_by_mixed_tasks():
    stage = recipe("laptop").stages[1]
    assert {len(task.user_turns) for task in stage.load()} == {1}
    judges = stage.load("val", 40)
    assert [task.id for task in judges] == [task.id for task in recipe("laptop").stages[0].load("val", 40)]
    assert max(len(task.user_turns) for task in judges) > 1


@pytest.mark.parametrize("name", RECIPES)
def test_stages_survive_json(name):
    for stage in recipe(name).stages:
        assert Stage.from_json(json.loads(json.dumps(stage.to_json()))) == stage


def test_overriding_fields_of_all_stages():
    stages = override(recipe("laptop").stages, {"steps": 2, "num_generations": 4})
    assert {(stage.steps, stage.num_generations) for stage in stages} == {(2, 4)}
    with pytest.raises(ValueError, match=r"a stage has no field 'step': did you mean 'steps'\?"):
        override(stages, {"step": 1})
    with pytest.raises(ValueError, match="steps is 0"):
        override(stages, {"steps": 0})


def test_overridden_values_have_the_type_of_their_field():
    (stage, *_) = override(recipe("laptop").stages, {"learning_rate": "1e-6", "tasks": None, "hint_rate": 1})
    assert (stage.learning_rate, stage.tasks, stage.hint_rate) == (1e-6, None, 1.0)
    fade = {"start": "1e-1", "end": 0, "share": 0.5}
    (stage, *_) = override(recipe("laptop").stages, {"hint_rate": fade, "categories": ["base", "miss_func"]})
    assert stage.hint_rate == Fade(0.1, 0.0, 0.5)
    assert stage.categories == (Category.BASE, Category.MISS_FUNC)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("steps", 2.5, "steps of a stage is 2.5, expected int"),
        ("temperature", "hot", "temperature of a stage is 'hot', expected float"),
        ("clip_low", None, "clip_low of a stage is None, expected float"),
        ("drop_zero_spread", "perhaps", "drop_zero_spread of a stage is 'perhaps', expected bool"),
        ("steps", True, "steps of a stage is True, expected int"),
        ("learning_rate", "nan", "learning_rate of a stage is 'nan', expected float"),
        ("learning_rate", [1], "learning_rate of a stage is [1], expected float"),
        ("hint_strength", "two", "hint_strength of a stage is 'two', expected one of one, list"),
        ("calls", "xml", "calls of a stage is 'xml', expected one of native, tagged"),
        ("hint_rate", "all", "hint_rate of a stage is 'all', expected float or {start, end, share, hold}"),
        ("hint_rate", {"start": 1, "end": 0}, "hint_rate of a stage lacks share"),
        (
            "hint_rate",
            {"start": 1, "end": 0, "shar": 1},
            "hint_rate of a stage has no field 'shar': did you mean 'share'?",
        ),
        ("hint_rate", {"start": 2, "end": 0, "share": 1}, "rates are from 0 to 1"),
        ("name", "other", "a stage has no field 'name'"),
        ("tasks", 0, "tasks is 0, must be at least 1, or null for all"),
        ("max_steps_per_turn", 0, "max_steps_per_turn is 0, limits on steps must be at least 1"),
        ("max_steps", 0, "max_steps is 0, limits on steps must be at least 1"),
        ("learning_rate", 0, "learning_rate is 0.0, must be above 0"),
    ],
)
def test_values_that_a_stage_cannot_have_are_refused(field, value, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        override(recipe("laptop").stages, {field: value})


def test_a_table_of_stages_of_both_kinds():
    ppo = replace(recipe("laptop-ppo").stages[0], name="ppo")
    for stages in ([STAGE, ppo], [ppo, STAGE]):
        row = {row["field"]: row for row in table(stages)}["gamma"]
        assert (row["s"], row["ppo"]) == ("–", "1.0")


def test_a_recipe_as_a_table_marks_what_changes():
    stages = recipe("t3rl").stages
    rows = {row["field"]: row for row in table(stages)}
    assert {name for name, row in rows.items() if row["changes"]} == set(changes(stages)[0])
    assert rows["categories"] == {"field": "categories", "base": "base", "all": "all four", "changes": "yes"}
    assert describe({"hint_rate": (Fade(1.0, 0.0, 0.7), 0.0)}) == "hint_rate: 1 to 0 over 0% to 70% → 0.0"


def test_unsound_instances_can_be_left_out_of_training_alone():
    stage = Stage("all", "progress", 1, 100, 100)
    fair = replace(stage, exclude_unsound=True)
    ids = {task.id for task in stage.load()}
    assert {task.id for task in fair.load()} == ids - unsound()
    assert len(replace(fair, tasks=100).load()) == 100
    assert fair.load("val") == stage.load("val")
    assert stage.to_json() != fair.to_json()
