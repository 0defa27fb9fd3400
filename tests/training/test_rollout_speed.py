"""The bench's tasks and its comparison; the figures themselves belong to `envtune bench rollout`."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from envtune.policy.miniature import miniature_model
from envtune.policy.tokens import ChatTokens
from envtune.training import bench


def test_transcripts_solve_their_tasks():
    tasks = [bench._task(n) for n in bench.FILES]
    tokens = ChatTokens(bench._tokenizer(tasks))
    for task in tasks:
        ids, labels = bench._transcript(tokens, task)
        assert len(ids) == len(labels)
        written = tokens.text([label for label in labels if label >= 0])
        assert written.count("<tool_call>") == len(task.ground_truth[0])
        assert len(ids) < bench.STAGE.episode_tokens


def test_both_loops_play_the_same_tasks(tmp_path):
    """An untrained model, a small batch: both give tokens per second."""
    torch.set_num_threads(1)
    tasks = [bench._task(n) for n in bench.FILES]
    tokenizer = bench._tokenizer(tasks)
    model = miniature_model(tokenizer, context=2048)
    batch = [task for task in tasks for _ in range(8)]
    theirs = bench._trl_trainer(model, tokenizer, tasks, str(tmp_path))
    theirs.max_completion_length = theirs.generation_config.max_new_tokens = 20
    assert bench._trl(theirs, batch) > 0
    assert bench._ours(model, tokenizer, batch, 0)[0] > 0


@pytest.mark.long
@pytest.mark.slow
def test_ours_is_at_least_twice_as_fast():
    """`envtune bench rollout` measures it well; one round next to another test shows only that the lead is there."""
    result = bench.bench_rollout(rounds=1, stage=replace(bench.STAGE, prompts_per_step=3))
    assert result.ratio >= 2
    assert result.environment_share < 0.01
    assert 4 < result.tool_rounds < 7
