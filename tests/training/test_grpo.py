"""The adapter to TRL: the loss sees what was sampled, and another cut of the batch does not change it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
import small
import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM
from trl import GRPOTrainer

from envtune.environment.rules import Rules
from envtune.policy.generate import Sampler
from envtune.policy.tokens import ChatTokens
from envtune.rewards import REWARDS
from envtune.training.batches import loss_mask, micro_batches
from envtune.training.curriculum import Limits, Stage
from envtune.training.engine import TurnEngine
from envtune.training.grpo import Machine, Trainer, grpo_config
from envtune.training.rollout import rollout

REWARDS["vowels"] = lambda episode: sum(step.text.count("e") for step in episode.steps) % 3
STAGE = Stage(
    "s", "vowels", steps=2, message_tokens=9, episode_tokens=70, num_generations=4, prompts_per_step=4,
    max_steps_per_turn=3, temperature=0.8, learning_rate=1e-3,
)  # fmt: skip
TASKS = [small.task(i, turns=1 + i % 3) for i in range(4)]


def make(tmp_path, stage=STAGE, micro_batch=4, model=None):
    machine = Machine(micro_batch=micro_batch)
    config = grpo_config(stage, tmp_path, seed=0, machine=machine, save_every=100)
    trainer = Trainer(model or small.model(), small.tokenizer(), stage, TASKS, config, machine, lambda numbers: numbers)
    trainer.current_gradient_accumulation_steps = config.gradient_accumulation_steps
    trainer._played = trainer._began = time.perf_counter()
    trainer.model.train()
    return trainer


def generated(trainer):
    rows = [{"prompt": task.id} for task in TASKS for _ in range(STAGE.num_generations)]
    return trainer._generate_and_score_completions(rows)


def test_an_engine_holds_no_more_than_the_model_reads(tmp_path):
    for reads, expected in ((2048, 2048), (40_960, 8192 + STAGE.episode_tokens)):
        trainer = make(tmp_path, model=small.model(context=reads))
        assert trainer.args.vllm_max_model_length == expected


def test_the_loss_sees_what_was_sampled(tmp_path):
    trainer = make(tmp_path)
    batch = generated(trainer)
    mask = loss_mask(batch).bool()
    with torch.no_grad():
        logprobs, _, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model,
            torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1),
            torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1),
            batch["completion_ids"].shape[1],
        )
    assert torch.allclose(logprobs[mask], batch["sampling_per_token_logps"][mask], atol=1e-4)
    assert int(mask.sum()) == int(batch["num_items_in_batch"]) == trainer._step_numbers["tokens/sampled"]
    assert (batch["sampling_per_token_logps"][~mask] == 0).all()


def test_scoring_without_padding_gives_the_same(tmp_path):
    trainer = make(tmp_path)
    batch = generated(trainer)
    ids, mask = (torch.cat([batch[f"prompt_{name}"], batch[f"completion_{name}"]], 1) for name in ("ids", "mask"))
    width = batch["completion_ids"].shape[1]
    read, headed = [], []
    trainer.model.base_model.embed_tokens.register_forward_hook(lambda *call: read.append(call[1][0].shape))
    trainer.model.register_forward_hook(lambda *call: headed.append(call[2].log_probs.numel()))
    sampled = loss_mask(batch).bool()
    with torch.no_grad():
        trimmed, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, width, 4)
        assert min(shape[1] for shape in read) < ids.shape[1], "short rows cost less"
        assert sum(headed) == int(sampled.sum()), "the head reads what was sampled, and nothing else"
        ours, entropy, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, mask, width, compute_entropy=True
        )
        theirs, their_entropy, _ = GRPOTrainer._get_per_token_logps_and_entropies(
            trainer, trainer.model, ids, mask, width, 4, compute_entropy=True
        )
    for found, expected in [(trimmed, theirs), (ours, theirs), (entropy, their_entropy)]:
        assert torch.allclose(found[sampled], expected[sampled], atol=1e-4)
        assert (found[~sampled] == 0).all()


def test_a_mixture_of_experts_keeps_its_balancing_loss(tmp_path):
    dense = small.model().config
    config = Qwen3MoeConfig(
        vocab_size=dense.vocab_size,
        hidden_size=32,
        intermediate_size=32,
        moe_intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=2048,
        eos_token_id=dense.eos_token_id,
        router_aux_loss_coef=0.1,
    )
    trainer = make(tmp_path, model=Qwen3MoeForCausalLM(config))
    batch = generated(trainer)
    loss = trainer._compute_loss(trainer.model, batch).item()
    ids, mask = (torch.cat([batch[f"prompt_{name}"], batch[f"completion_{name}"]], 1) for name in ("ids", "mask"))
    theirs = GRPOTrainer._get_per_token_logps_and_entropies(
        trainer, trainer.model, ids, mask, batch["completion_ids"].shape[1], compute_aux_loss=True
    )
    trainer.aux_loss_enabled = False
    without = trainer._compute_loss(trainer.model, batch).item()
    steps = trainer.current_gradient_accumulation_steps
    assert loss - without == pytest.approx(0.1 * theirs[2].item() / steps, rel=1e-4)


def gradients(trainer, batches):
    trainer.model.zero_grad()
    loss = 0.0
    for inputs in batches:
        part = trainer._compute_loss(trainer.model, inputs)
        part.backward()
        loss += part.item()
    return loss, {name: p.grad.clone() for name, p in trainer.model.named_parameters()}


@pytest.mark.parametrize("beta", [0.0, 0.2])
def test_micro_batches_change_neither_loss_nor_gradient(tmp_path, beta):
    small.model().save_pretrained(tmp_path / "reference")
    model = small.model(seed=1)
    model.config._name_or_path = str(tmp_path / "reference")
    trainer = make(tmp_path, replace(STAGE, beta=beta), model=model)
    batch = generated(trainer)
    whole, expected = gradients(trainer, [batch])
    live = torch.ones(16, dtype=torch.bool)
    cut = micro_batches(batch, 4, live, batch["num_items_in_batch"])
    loss, found = gradients(trainer, cut)
    assert sum(inputs["completion_ids"].numel() for inputs in cut) < batch["completion_ids"].numel()
    assert loss == pytest.approx(whole, abs=1e-5)
    for name, gradient in expected.items():
        assert torch.allclose(gradient, found[name], atol=1e-5), name


def test_groups_without_spread_leave_the_loss(tmp_path):
    trainer = make(tmp_path)
    batch = generated(trainer)
    live = torch.zeros(16, dtype=torch.bool)
    live[4:7] = True
    tokens = loss_mask(batch)[live].sum()
    cut = micro_batches(batch, 4, live, tokens)
    assert [int(loss_mask(inputs).sum()) > 0 for inputs in cut] == [True, True, True, False]
    assert sum(int(loss_mask(inputs).sum()) for inputs in cut) == int(tokens)
    assert all(inputs["num_items_in_batch"] == tokens for inputs in cut)
    none = micro_batches(batch, 2, torch.zeros(16, dtype=torch.bool), torch.tensor(0))
    loss, gradient = gradients(trainer, none)
    assert loss == 0
    assert all((g == 0).all() for g in gradient.values())


def test_zero_spread_is_found_and_dropped(tmp_path, monkeypatch):
    rewards = [1.0] * 4 + [0.0, 1.0] * 2 + [0.1] * 4 + [0.0] * 3 + [2.0]
    small.model().save_pretrained(tmp_path / "reference")
    model = small.model(seed=1)
    model.config._name_or_path = str(tmp_path / "reference")
    trainer = make(tmp_path, replace(STAGE, beta=0.2, drop_zero_spread=True), model=model)
    sample = trainer.sample
    monkeypatch.setattr(
        trainer,
        "sample",
        lambda *given: [
            replace(r, rewards={**r.rewards, "vowels": x}) for r, x in zip(sample(*given), rewards, strict=True)
        ],
    )
    scored = []
    trainer.ref_model.base_model.embed_tokens.register_forward_hook(lambda *call: scored.append(call[1][0]))
    trainer._prepare_inputs([{"prompt": task.id} for task in TASKS for _ in range(4)])
    assert trainer._step_numbers["zero_spread"] == 0.5
    assert trainer._live.tolist() == [False] * 4 + [True] * 4 + [False] * 4 + [True] * 4
    assert sum(len(inputs["advantages"]) for inputs in trainer._buffered_inputs) == 8
    assert all((inputs["advantages"].abs() > 0.1).all() for inputs in trainer._buffered_inputs)
    assert sum(map(len, scored)) == 9, "the reference reads the rows that teach, and one more that fills in"
    for inputs in trainer._buffered_inputs:
        ids, mask = (torch.cat([inputs[f"prompt_{name}"], inputs[f"completion_{name}"]], 1) for name in ("ids", "mask"))
        with torch.no_grad():
            whole, _, _ = GRPOTrainer._get_per_token_logps_and_entropies(
                trainer, trainer.ref_model, ids, mask, inputs["completion_ids"].shape[1]
            )
        real = loss_mask(inputs).bool()
        assert torch.allclose(inputs["ref_per_token_logps"][real], whole[real], atol=1e-4)


def test_seeds_decide_and_steps_differ(tmp_path):
    trainer = make(tmp_path)
    first = generated(trainer)
    again = generated(trainer)
    assert torch.equal(first["completion_ids"], again["completion_ids"])
    trainer.state.global_step = 1
    assert not torch.equal(generated(trainer)["completion_ids"][:, :5], first["completion_ids"][:, :5])


def test_an_engine_that_writes_whole_messages_plays_the_same_rollouts():
    """`TurnEngine`, the way to vLLM, over a greedy generator, against the cached sampler."""
    tokens = ChatTokens(small.tokenizer())
    model = small.model()

    def generate(prompts):
        messages = []
        for ids in prompts:
            sampler = Sampler(model, tokens.stop_ids, temperature=0)
            row = sampler.open(ids, 30)
            sampler.run()
            messages.append(row.message)
        return messages, None

    how = Rules(max_steps_per_turn=3), Limits(message_tokens=9, episode_tokens=70)
    seeds = ["0"] * len(TASKS)
    cached = rollout(Sampler(model, tokens.stop_ids, temperature=0), tokens, TASKS, *how, seeds)
    whole = rollout(TurnEngine(generate, tokens.stop_ids, 2048), tokens, TASKS, *how, seeds)
    assert [r.completion_ids for r in whole] == [r.completion_ids for r in cached]
    assert [r.episode for r in whole] == [r.episode for r in cached]


def test_trls_own_generation_is_such_an_engine(tmp_path, monkeypatch):
    trainer = make(tmp_path)

    @contextmanager
    def through_trl(temperature):  # as with vLLM, but TRL generates with transformers
        yield TurnEngine(
            lambda prompts: trainer._generate_single_turn(prompts, None, {}, 1), trainer._chat.stop_ids, 2048
        )

    monkeypatch.setattr(trainer, "_backend", through_trl)
    batch = generated(trainer)
    assert int(loss_mask(batch).sum()) == trainer._step_numbers["tokens/sampled"]
    assert trainer._step_numbers["cut_rate"] > 0
