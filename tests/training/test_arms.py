"""Arms differ in one thing: in their hints, or in what is learned from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envtune.training.arms import ARMS, arm
from envtune.training.curriculum import Fade, PPOStage, Stage
from envtune.training.recipes import RECIPES, recipe


def rates(stages):
    return [stage.rate(step) for stage in stages for step in range(stage.steps)]


@pytest.mark.parametrize("name", ARMS)
def test_only_the_hint_rate_differs(name):
    stages = recipe("laptop").stages
    changed = arm(name, stages)
    assert [replace(stage, hint_rate=0.0) for stage in changed] == [replace(stage, hint_rate=0.0) for stage in stages]


def test_faded_is_the_recipe_and_none_has_no_hints():
    stages = recipe("laptop").stages
    assert arm("faded", stages) == stages
    assert set(rates(arm("none", stages))) == {0.0}


@pytest.mark.parametrize("name", ["laptop", "paper"])
def test_abrupt_gives_all_hints_for_half_of_the_hinted_steps(name):
    stages = recipe(name).stages
    hinted = sum(stage.steps for stage in stages if any(rates([stage])))
    found = rates(arm("abrupt", stages))
    assert set(found) == {0.0, 1.0}
    assert sum(found) == hinted // 2
    first = found.index(1.0)
    assert found[first : first + hinted // 2] == [1.0] * (hinted // 2)


def test_unknown_arms_are_refused():
    with pytest.raises(ValueError, match=r"unknown arm 'slow'\. Known: faded, none, abrupt"):
        arm("slow", RECIPES["laptop"].stages)


def test_a_fade_that_holds_and_one_that_drops():
    fade = Fade(1.0, 0.0, 0.75, hold=0.25)
    assert [fade.at(x) for x in (0, 0.25, 0.5, 0.75, 1)] == [1, 1, 0.5, 0, 0]
    drop = Fade(1.0, 0.0, 0.5, hold=0.5)
    assert [drop.at(x) for x in (0, 0.49, 0.5, 1)] == [1, 1, 0, 0]
    with pytest.raises(ValueError, match="hold"):
        Fade(1.0, 0.0, 0.5, hold=0.6)


def test_ppo_is_the_recipe_and_grpo_plays_the_same_episodes():
    stages = recipe("laptop-ppo").stages
    assert arm("ppo", stages) == stages
    (ppo,), (grpo,) = stages, arm("grpo", stages)
    assert type(grpo) is Stage and isinstance(ppo, PPOStage)
    assert (grpo.reward, ppo.reward) == ("progress", "execution")
    assert (
        grpo.steps * grpo.prompts_per_step * grpo.num_generations
        == ppo.steps * ppo.prompts_per_step * ppo.num_generations
    )
    assert [grpo.rules(step) for step in range(9)] == [ppo.rules(step) for step in range(9)]
    assert (grpo.num_generations, grpo.learning_rate, grpo.beta) == (8, ppo.learning_rate, ppo.beta)
    small = arm("grpo", [replace(ppo, prompts_per_step=2)])
    assert (small[0].prompts_per_step, small[0].num_generations) == (2, 2)
    with pytest.raises(
        ValueError, match=r"arm 'ppo' needs a recipe for PPO, such as 'laptop-ppo', but stage syntax is not PPO"
    ):
        arm("ppo", recipe("laptop").stages)
