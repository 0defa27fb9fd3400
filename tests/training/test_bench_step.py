"""One measured step: the phases add up, and what cannot be measured here is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from envtune.training import bench_step as bench
from envtune.training.cost import ARCHITECTURES, Architecture
from envtune.training.machine import Machine
from envtune.training.plan import Plan
from envtune.training.recipes import recipe

STAGE = replace(recipe("laptop").stages[-1], prompts_per_step=2, num_generations=2, tasks=4)
SMALL = Architecture("qwen3", 2, 64, 4, 2, 16, 192, 2048, True, 40_960, "qwen3_instruct_2507.jinja")


def plan(stage, policy="tiny"):
    return Plan((stage,), policy, machine=Machine(micro_batch=2), threads=1)


def test_a_step_of_the_tiny_policy():
    (row,) = bench.bench(plan(STAGE))
    assert row.rows == 4
    assert 0 < row.length < 900
    assert row.step == pytest.approx(row.sampling + row.environment + row.scoring + row.update, rel=0.05)
    assert row.environment_share == pytest.approx(row.environment / row.step)
    assert 0 < row.share_of_peak < 1.5
    assert min(row.sampled_per_second, row.trained_per_second, row.peak_memory_gb) > 0


@pytest.mark.slow
def test_random_weights_fill_their_episodes(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "some/model", SMALL)
    stage = replace(recipe("t3rl").stages[0], prompts_per_step=1, num_generations=2, tasks=2)
    said: list[str] = []
    rows = bench.bench(plan(stage, "some/model"), lengths=[7200, 8000], echo=said.append)
    assert [row.tokens for row in rows] == [7200, 8000]
    assert all(0.7 * row.tokens < row.length <= row.tokens for row in rows), rows
    assert len(said) == 2


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="the sizes of 'some/other' are not known"):
        bench.bench(plan(STAGE, "some/other"))
    with pytest.raises(ValueError, match=r"no stage 'hard'\. Known: independent"):
        bench.bench(plan(STAGE), "hard")
    with pytest.raises(ValueError, match="trains by PPO"):
        bench.bench(plan(recipe("laptop-ppo").stages[0]))
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"has 4\.0 billion parameters\. Measure it on a GPU"):
            bench.bench(plan(STAGE, "Qwen/Qwen3-4B-Instruct-2507"))
    with pytest.raises(ValueError, match=r"are too short: the prompts have up to \d+\. Give a greater length"):
        bench.bench(plan(STAGE), lengths=[64])
