"""What a stage's limits have room for is counted as training counts it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import small
from test_rollout import Scripted, tokens, truth

import envtune
from envtune.training.budget import budget, length
from envtune.training.curriculum import Stage
from envtune.training.rollout import rollout

STAGE = Stage("s", "progress", steps=1, message_tokens=4000, episode_tokens=100_000, max_steps_per_turn=20)
TASKS = [small.task(0, turns=1), small.task(1, turns=3), *envtune.load_tasks("bfcl", categories=["miss_func"])[:1]]


def play(stage, task):
    """The ground truth, as training would play it."""
    backend = Scripted(lambda _, message: truth(task)[message])
    return rollout(backend, tokens(), [task], stage.judged, stage.limits, ["0"])[0]


@pytest.mark.parametrize("calls", ["native", "tagged"])
def test_lengths_are_those_of_a_rollout(calls):
    stage = replace(STAGE, calls=calls)
    for task in TASKS:
        found, played = length(task, stage.judged, tokens()), play(stage, task)
        assert played.episode.success
        assert (found.prompt, found.episode) == (len(played.prompt_ids), len(played.completion_ids))
        assert found.message == max(len(tokens().tokenizer.encode(text)) + 1 for text in truth(task))


def test_one_token_less_than_the_ground_truth_takes_is_too_few():
    task = TASKS[1]
    found = length(task, STAGE.judged, tokens())
    for name, needed in (("episode_tokens", found.episode), ("message_tokens", found.message)):
        for room, fits in ((needed, True), (needed - 1, False)):
            stage = replace(STAGE, **{name: room})
            played = play(stage, task)
            assert (played.cut_messages == 0 and not played.out_of_room) == fits
            assert len(budget(stage, [task], tokens(), 10**6)) == (1 if fits else 2)
    reads = found.prompt + found.episode
    assert [len(budget(STAGE, [task], tokens(), n)) for n in (reads, reads - 1)] == [1, 2]


def test_what_does_not_fit_is_told():
    lengths = [length(task, STAGE.judged, tokens()) for task in TASKS]
    few = replace(STAGE, episode_tokens=lengths[0].episode)
    assert budget(few, TASKS, tokens(), 50_000) == [
        f"  budget: the ground truth of 1 of 3 tasks fits into the {few.episode_tokens} tokens after the prompt. "
        f"Prompts have {lengths[0].prompt} to {lengths[2].prompt:,}, the model reads 50,000",
        f"  WARN: no episode of this stage can solve 2 tasks (1 base, 1 miss_func). Their ground truth takes "
        f"{lengths[1].episode} to {lengths[2].episode:,} tokens, in messages of up to {lengths[2].message}",
    ]
    says = rf"the prompt of task {TASKS[2].id} has [\d,]+ tokens and the model reads 4,096"
    with pytest.raises(ValueError, match=says):
        budget(STAGE, TASKS, tokens(), 4096)
