"""PPO: each formula against NumPy, what the trainer makes of them, and a random model that learns and resumes."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import small
import torch
from peft import PeftModel

from envtune.policy.checkpoint import load_checkpoint
from envtune.training import ppo
from envtune.training.batches import loss_mask
from envtune.training.curriculum import PPOStage, override, table
from envtune.training.grpo import Machine, grpo_config
from envtune.training.plan import Plan, Schedule
from envtune.training.recipes import recipe
from envtune.training.train import train

STAGE = PPOStage(
    "s", "execution", steps=2, message_tokens=9, episode_tokens=70, num_generations=4, prompts_per_step=4,
    max_steps_per_turn=3, learning_rate=1e-3, beta=0.1, lora_rank=4, lam=0.9, gamma=0.98,
)  # fmt: skip
TASKS = [small.task(i, turns=1 + i % 3) for i in range(4)]
RNG = np.random.default_rng(0)
MASK = np.array([[1, 1, 0, 0, 1, 0, 1, 1], [0, 1, 1, 1, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]])


def tensor(x):
    return torch.tensor(np.asarray(x), dtype=torch.float64)


def test_the_last_token_of_each_message():
    ends = ppo.message_ends(torch.tensor(MASK)).int().numpy()
    assert ends.tolist() == [[0, 1, 0, 0, 1, 0, 0, 1], [0, 0, 0, 1, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]]


def test_step_rewards_fall_on_the_ends_and_the_kl_on_every_sampled_token():
    kl = RNG.normal(size=MASK.shape)
    steps = [[10.0, -0.5, 0.0], [-0.8, 10.0], [-1.0]]
    expected = np.where(MASK, -0.1 * kl, 0)
    for row, (own, places) in enumerate(zip(steps, ([1, 4, 7], [3, 5], [0]), strict=True)):
        for reward, place in zip(own, places, strict=True):
            expected[row, place] += 0.2 * reward
    found = ppo.token_rewards(steps, torch.tensor(MASK), tensor(kl), scale=0.2, beta=0.1)
    assert np.allclose(found, expected)
    with pytest.raises(ValueError, match="row 1 has 2 messages but 1 step rewards"):
        ppo.token_rewards([[1, 1, 1], [1], [1]], torch.tensor(MASK), tensor(kl), 1, 0)


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (0.9, 0.0)])
def test_gae_skips_what_was_not_sampled(gamma, lam):
    rewards, values = RNG.normal(size=MASK.shape) * MASK, RNG.normal(size=MASK.shape)
    expected = np.zeros(MASK.shape)
    for row in range(len(MASK)):
        places = np.flatnonzero(MASK[row])
        r, v = rewards[row, places], np.append(values[row, places], 0.0)
        delta = r + gamma * v[1:] - v[:-1]
        n = len(places)
        expected[row, places] = [sum((gamma * lam) ** (k - s) * delta[k] for k in range(s, n)) for s in range(n)]
    found = ppo.gae(tensor(rewards), tensor(values), torch.tensor(MASK), gamma, lam)
    assert np.allclose(found, expected)
    if lam == 1.0:  # then advantage and value are the return
        assert np.allclose((found + tensor(values))[0, 0], (rewards[0] * MASK[0]).sum())


def test_whitening_counts_sampled_tokens():
    x = RNG.normal(3, 5, size=MASK.shape)
    kept = x[MASK == 1]
    found = ppo.whiten(tensor(x), tensor(MASK)).numpy()
    assert np.allclose(found[MASK == 1], (kept - kept.mean()) / (kept.std() + 1e-8))
    assert (found[MASK == 0] == 0).all()


def test_clipped_value_loss():
    values, old, returns = (RNG.normal(size=(3, 8)) for _ in range(3))
    expected = 0.5 * np.maximum((values - returns) ** 2, (np.clip(values, old - 0.2, old + 0.2) - returns) ** 2)
    assert np.allclose(ppo.value_loss(tensor(values), tensor(old), tensor(returns), 0.2), expected)


def make(tmp_path, stage=STAGE, micro_batch=4):
    base = tmp_path / "base"
    small.model().save_pretrained(base)
    model = small.model()
    model.config._name_or_path = str(base)
    machine = Machine(micro_batch=micro_batch)
    config = grpo_config(stage, tmp_path, seed=0, machine=machine, save_every=100)
    trainer = ppo.PPOTrainer(model, small.tokenizer(), stage, TASKS, config, machine, lambda numbers: numbers)
    trainer.current_gradient_accumulation_steps = config.gradient_accumulation_steps
    trainer._played = trainer._began = time.perf_counter()
    trainer.model.train()
    return trainer


def generated(trainer, times=1):
    return trainer._generate_and_score_completions([{"prompt": t.id} for t in TASKS * times for _ in range(4)])


def nudge(trainer, size=0.05):
    """Move actor and critic away from where they begin."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter += size * torch.randn_like(parameter)


def forward(model, batch):
    """Log-probabilities (of the temperature 1) and hidden states before each completion token, without TRL."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    width = batch["completion_ids"].shape[1]
    logprobs = out.logits[:, -width - 1 : -1].log_softmax(-1).gather(2, batch["completion_ids"][..., None])[..., 0]
    return logprobs.numpy(), out.hidden_states[-1][:, -width - 1 : -1].numpy()


@pytest.mark.parametrize(("rank", "epochs"), [(4, 2), (0, 2), (4, 1)])
def test_the_batch_holds_what_the_formulas_say(tmp_path, rank, epochs):
    """From the played episodes, actor, critic and reference, all in NumPy; the reference is the base."""
    trainer = make(tmp_path, replace(STAGE, lora_rank=rank, epochs=epochs))
    nudge(trainer)
    batch = generated(trainer)
    mask = loss_mask(batch).numpy()
    logprobs, hidden = forward(trainer.model, batch)
    reference, _ = forward(small.model(), batch)
    head = trainer.model.value_head
    values = hidden @ head.weight.detach().numpy()[0] + head.bias.item()
    kl = logprobs - reference
    assert np.abs(kl[mask == 1]).mean() > 1e-3
    advantages = np.zeros(mask.shape)
    for row, played in enumerate(trainer._rollouts):
        places, owed = np.flatnonzero(mask[row]), list(ppo.execution_steps(played.episode))
        r = -0.1 * kl[row, places]
        for k, place in enumerate(places):
            if k + 1 == len(places) or places[k + 1] > place + 1:
                r[k] += 0.1 * owed.pop(0)
        v, following = np.append(values[row, places], 0.0), 0.0
        for k in reversed(range(len(places))):
            following = r[k] + 0.98 * v[k + 1] - v[k] + 0.98 * 0.9 * following
            advantages[row, places[k]] = following
        assert not owed
    kept = advantages[mask == 1]
    assert np.allclose(batch["advantages"].numpy()[mask == 1], (kept - kept.mean()) / kept.std(), atol=2e-3)
    assert np.allclose(batch["returns"].numpy(), (advantages + values) * mask, atol=1e-3)
    assert np.allclose(batch["old_values"].numpy(), values * mask, atol=1e-4)
    assert trainer._step_numbers["kl"] == pytest.approx(kl[mask == 1].mean(), abs=1e-5)
    assert "ref_per_token_logps" not in batch


def test_values_stay_with_their_episodes_where_many_are_of_one_length(tmp_path):
    trainer = make(tmp_path, replace(STAGE, prompts_per_step=4 * len(TASKS)), micro_batch=16 * len(TASKS))
    nudge(trainer)
    batch = generated(trainer, 4)
    mask = loss_mask(batch).numpy()
    _, hidden = forward(trainer.model, batch)
    head = trainer.model.value_head
    values = hidden @ head.weight.detach().numpy()[0] + head.bias.item()
    assert len(values) == 16 * len(TASKS)
    assert np.allclose(batch["old_values"].numpy(), values * mask, atol=1e-4)


def test_the_loss_is_both_clipped_terms(tmp_path):
    trainer = make(tmp_path, replace(STAGE, clip_high=0.2, value_weight=0.3))
    nudge(trainer, 0.02)
    batch = generated(trainer)
    nudge(trainer, 0.1)
    loss = trainer._compute_loss(trainer.model, batch).item()
    mask, a = loss_mask(batch).numpy(), batch["advantages"].numpy()
    logprobs, hidden = forward(trainer.model, batch)
    ratio = np.exp(logprobs - batch["old_per_token_logps"].numpy())
    assert (np.abs(ratio - 1) > 0.2)[mask == 1].any()
    policy = -np.minimum(np.minimum(ratio, 10) * a, np.clip(ratio, 0.8, 1.2) * a)
    head = trainer.model.value_head
    values = hidden @ head.weight.detach().numpy()[0] + head.bias.item()
    old, returns = batch["old_values"].numpy(), batch["returns"].numpy()
    value = 0.5 * np.maximum((values - returns) ** 2, (np.clip(values, old - 0.2, old + 0.2) - returns) ** 2)
    assert loss == pytest.approx(((policy + 0.3 * value) * mask).sum() / mask.sum(), rel=1e-3)


def test_one_copy_of_the_base_and_who_learns(tmp_path):
    trainer = make(tmp_path)
    assert trainer.ref_model is None
    learned = {name for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert {name for name in learned if "lora_" not in name} == {"value_head.weight", "value_head.bias"}
    assert any("lora_" in name for name in learned)


def test_the_critics_layer_has_its_own_rate(tmp_path):
    trainer = make(tmp_path, replace(STAGE, value_learning_rate=0.25))
    groups = trainer.create_optimizer().param_groups
    assert [(group["lr"], len(group["params"])) for group in groups if group["lr"] == 0.25] == [(0.25, 2)]
    optimised = [id(p) for group in groups for p in group["params"]]
    assert sorted(optimised) == sorted(id(p) for p in trainer.model.parameters() if p.requires_grad)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    small.model().save_pretrained(folder)
    small.tokenizer().save_pretrained(folder)
    return folder


def letters(episode):
    """Share of vowels in every message."""
    said = [step.text.removesuffix("<|cut_off|>") for step in episode.steps]
    return [10 * sum(c in "aeiou" for c in text) / max(1, len(text)) for text in said]


def run(policy, out, stage, schedule, **options):
    tasks = {stage.name: TASKS, "val": TASKS[:2]}
    plan = Plan((stage,), str(policy), machine=Machine(micro_batch=8), schedule=schedule)
    return train(plan, out, tasks=tasks, progress=False, **options)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [8, 0])
def test_it_learns(policy, tmp_path, monkeypatch, rank):
    monkeypatch.setattr(ppo, "execution_steps", letters)
    stage = replace(STAGE, steps=20, learning_rate=1e-2, lora_rank=rank, beta=0.001, lam=0.95, gamma=1.0)
    result = run(policy, tmp_path, stage, Schedule(validate_every=0))
    returns = [line["return"] for line in result.lines() if line["step"]]
    assert sum(returns[-4:]) > 1.2 * sum(returns[:4]), returns
    assert isinstance(load_checkpoint(str(result.policy))[0], torch.nn.Module)
    assert not list((tmp_path / "policy").glob("*adapter*"))


def numbers(result):
    return [{k: v for k, v in line.items() if not k.startswith("seconds/")} for line in result.lines()]


@pytest.mark.xdist_group("training")
@pytest.mark.parametrize("rank", [4, 0])
def test_a_killed_run_goes_on_bit_for_bit(policy, tmp_path, rank):
    stage = replace(STAGE, steps=4, lora_rank=rank, learning_rate=5e-3)
    plan = Schedule(validate_every=2, save_every=2)
    whole = run(policy, tmp_path / "whole", stage, plan)
    assert [line["step"] for line in whole.lines()] == list(range(5))

    def kill(line):
        if line["step"] == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(policy, tmp_path / "killed", stage, plan, on_step=kill)
    resumed = run(policy, tmp_path / "killed", stage, plan)
    assert numbers(resumed) == numbers(whole)
    one, two = (load_checkpoint(str(each.policy))[0].state_dict() for each in (whole, resumed))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_the_merged_policy_is_the_actor(policy, tmp_path):
    trainer = make(tmp_path)
    nudge(trainer)
    assert isinstance(trainer.model, PeftModel)
    batch = generated(trainer)
    trainer.save_model(str(tmp_path / "out"))
    merged, _, _ = load_checkpoint(str(tmp_path / "out"))
    assert np.allclose(forward(merged, batch)[0], forward(trainer.model, batch)[0], atol=1e-4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"reward": "progress"}, "PPO takes 'execution'"),
        ({"lam": 2.0}, "from 0 to 1"),
        ({"epochs": 0}, "at least 1"),
        ({"value_clip": 0.0}, "value_clip"),
        ({"drop_zero_spread": True}, "groups"),
    ],
)
def test_a_stage_that_cannot_be_is_refused(change, says):
    with pytest.raises(ValueError, match=says):
        replace(STAGE, **change)


def test_recipes_can_be_changed_and_shown():
    (stage,) = override(recipe("laptop-ppo").stages, {"steps": 3, "lam": 0.5})
    assert (stage.steps, stage.lam) == (3, 0.5)
    assert {"lam", "lora_rank"} <= {row["field"] for row in table([stage])}
    assert recipe("qwen-tool").stages[0].lora_rank > 0
