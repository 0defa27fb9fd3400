"""PPO on execution feedback: a reward for every step, a critic, and the code of `training.grpo` for the rest.

In: a `PPOStage`. Out: a trainer like `grpo.Trainer`, with its own rollouts, loss and checkpoints. Source:
qwen-tool (PPO with actor, critic and reference on an MCP server). The algorithm is that of Schulman et al. 2017 with
the generalised advantage estimate of Schulman et al. 2016. Let s count the *sampled* tokens of one episode (what the
environment wrote is skipped, V beyond the last one is 0), pi_old be the policy that played, and V_old its critic:

    r_s     = scale * R_step  where s ends an assistant message, else 0;   minus beta * (log pi_old - log pi_ref)_s
    delta_s = r_s + gamma * V_old(s + 1) - V_old(s)
    A_s     = delta_s + gamma * lam * A_(s + 1);          G_s = A_s + V_old(s)
    A'_s    = (A_s - mean A) / (std A + 1e-8)             over all sampled tokens of the step ("whitening")
    L       = 1/N sum_s [ -min(w_s A'_s, clip(w_s, 1 - low, 1 + high) A'_s)
                          + c/2 max((V_s - G_s)^2, (clip(V_s, V_old - e, V_old + e) - G_s)^2) ]

The policy term is TRL's GRPO loss, which takes advantages per token. w_s, its cap and N are those of `training.grpo`.
`epochs` updates are made on the episodes of a step. V is one linear layer on the hidden state before the token. Its
error trains the actor's trunk, too. With `lora_rank` the actor is an adapter, and the reference is the same model with
the adapter off, so there is one copy of the base. Without `lora_rank`, the reference is a second model.

Departs from qwen-tool: `training.rollout` plays episodes directly on the simulators, in parallel. Over MCP the records
are the same (tests/interop), only slower. The result is a whole model, with the adapter merged in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from envtune.rewards import execution_steps
from envtune.training.batches import loss_mask
from envtune.training.curriculum import PPOStage
from envtune.training.grpo import Trainer
from envtune.training.rollout import Clock, Rollout
from envtune.types import Task

VALUE_HEAD = "value_head"


def message_ends(mask: Tensor) -> Tensor:
    """(B, T), True on the last sampled token of each assistant message. `mask` is 1 on sampled tokens."""
    sampled = mask.bool()
    following = torch.cat([sampled[:, 1:], torch.zeros_like(sampled[:, :1])], 1)
    return sampled & ~following


def token_rewards(steps: Sequence[Sequence[float]], mask: Tensor, kl: Tensor, scale: float, beta: float) -> Tensor:
    """(B, T), r_s of the module's docstring, 0 outside of `mask`.

    Args:
        steps: per episode, the reward of every assistant message.
        mask: (B, T), 1 on sampled tokens.
        kl: (B, T), log pi_old - log pi_ref.
        scale, beta: see `PPOStage`.

    Raises:
        ValueError: an episode has unequal numbers of messages and rewards.
    """
    ends, rewards = message_ends(mask), -beta * kl * mask
    for row, (own, where) in enumerate(zip(steps, ends, strict=True)):
        if len(own) != int(where.sum()):
            raise ValueError(f"row {row} has {int(where.sum())} messages but {len(own)} step rewards")
        rewards[row, where] += scale * torch.tensor(list(own), dtype=rewards.dtype, device=rewards.device)
    return rewards


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    """(B, T), the advantages A_s of the sampled tokens, 0 elsewhere. The value after an episode's end is 0."""
    advantages = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[:, 0])
    value_after = torch.zeros_like(following)
    for t in reversed(range(rewards.shape[1])):
        sampled = mask[:, t].bool()
        delta = rewards[:, t] + gamma * value_after - values[:, t]
        following = torch.where(sampled, delta + gamma * lam * following, following)
        value_after = torch.where(sampled, values[:, t], value_after)
        advantages[:, t] = following * sampled
    return advantages


def whiten(x: Tensor, mask: Tensor, add_up: Callable[[Tensor], Tensor] = lambda sums: sums) -> Tensor:
    """`x` with mean 0 and standard deviation 1 over `mask`, 0 elsewhere.

    Args:
        x, mask: (B, T).
        add_up: adds (count, sum, sum of squares) over processes.
    """
    kept = (x * mask).double()
    count, total, squares = add_up(torch.stack([mask.sum().double(), kept.sum(), kept.square().sum()]))
    mean = total / count.clamp(min=1)
    std = (squares / count.clamp(min=1) - mean.square()).clamp(min=0).sqrt()
    return ((x - mean) / (std + 1e-8) * mask).to(x.dtype)


def value_loss(values: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Half the squared error of the critic per token, at least that of the clipped values. All shapes are equal."""
    clipped = old + (values - old).clamp(-clip, clip)
    return 0.5 * torch.max((values - returns).square(), (clipped - returns).square())


class PPOTrainer(Trainer):
    """`grpo.Trainer` with a critic. The arguments are the same, and `stage` is a `PPOStage`.

    Raises:
        ValueError: the model is to be sharded over processes, which the critic does not support.
    """

    stage: PPOStage
    beta: float
    _rollouts: list[Rollout]

    def __init__(self, model: Any, tokenizer: Any, stage: PPOStage, *rest: Any) -> None:
        super().__init__(model, tokenizer, stage, *rest)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ValueError("PPO does not shard its critic: run it on one GPU or as data-parallel processes")
        hidden = self.model.config.get_text_config().hidden_size
        head = nn.Linear(hidden, 1).to(self.accelerator.device)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        self.model.add_module(VALUE_HEAD, head)

    @property
    def _whole(self) -> nn.Module:
        """The model as it was given, without accelerate's wrappers."""
        return self.accelerator.unwrap_model(self.model)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """TRL's optimizer, with a separate learning rate for the critic's layer, which starts at zero."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        head = list(self._whole.get_submodule(VALUE_HEAD).parameters())
        for group in optimizer.param_groups:
            group["params"] = [p for p in group["params"] if all(p is not own for own in head)]
        optimizer.add_param_group({"params": head, "lr": self.stage.value_learning_rate, "weight_decay": 0.0})
        return optimizer

    def sample(self, tasks: Sequence[Task], clock: Clock) -> list[Rollout]:
        """This process's rollouts of the current step, kept for their step rewards."""
        self._rollouts = super().sample(tasks, clock)
        return self._rollouts

    @contextmanager
    def _critic(self) -> Iterator[list[Tensor]]:
        """Collect V at every position (B, P + T) in each forward pass."""
        whole, found = self._whole, list[Tensor]()
        base: Any = whole.get_base_model() if isinstance(whole, PeftModel) else whole
        head: Any = whole.get_submodule(VALUE_HEAD)

        def evaluate(module: nn.Module, given: Any, output: Any) -> None:
            hidden = output.last_hidden_state
            with torch.autocast(hidden.device.type, enabled=False):
                found.append(head(hidden.float())[..., 0])

        handle = base.base_model.register_forward_hook(evaluate)
        try:
            yield found
        finally:
            handle.remove()

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: Any = None,
        **kw: Any,
    ) -> tuple[Any, Any, Any]:
        """As in `Trainer`. The critic's values before each token of a whole generated batch are added to
        `self._scored`.
        """
        if batch_size is None:
            return super()._get_per_token_logps_and_entropies(model, input_ids, attention_mask, logits_to_keep, **kw)
        self._values = torch.zeros(len(input_ids), logits_to_keep, device=input_ids.device)
        scored = super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, batch_size, **kw
        )
        self._scored.append(self._values)
        return scored

    def _score_rows(self, model: Any, ids: Tensor, mask: Tensor, sampled: Tensor, rows: Tensor) -> Tensor:
        with self._critic() as found:
            logprobs = super()._score_rows(model, ids, mask, sampled, rows)
        if found:  # a reference that is a separate model has no critic
            width = sampled.shape[1]
            self._values[rows, :width] = before_tokens(found[0], width)
        return logprobs

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        self._scored: list[Tensor] = []
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        mask = loss_mask(batch).float()
        if "old_per_token_logps" not in batch:  # TRL leaves them out for one update per step
            ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
            seen = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
            rows = self.args.per_device_train_batch_size
            with torch.no_grad():
                scored = self._get_per_token_logps_and_entropies(self.model, ids, seen, mask.shape[1], rows)
            batch["old_per_token_logps"] = scored[0]
            self._scored.insert(0, self._scored.pop())
        values, logprobs = self._scored[0], batch["old_per_token_logps"]
        reference = batch.pop("ref_per_token_logps", logprobs)
        kl = (logprobs - reference) * mask
        steps = [execution_steps(played.episode) for played in self._rollouts]
        rewards = token_rewards(steps, mask, kl, self.stage.reward_scale, self.stage.beta)
        advantages = gae(rewards, values, mask, self.stage.gamma, self.stage.lam)
        batch |= {
            "advantages": whiten(advantages, mask, lambda sums: self.accelerator.reduce(sums, "sum")),
            "returns": (advantages + values) * mask,
            "old_values": values * mask,
        }
        self._critic_numbers(batch, kl, mask)
        return batch

    def _critic_numbers(self, batch: dict[str, Any], kl: Tensor, mask: Tensor) -> None:
        """Means over sampled tokens, for the step's line: KL to the reference, returns, explained variance of V."""
        returns, missed = batch["returns"], batch["returns"] - batch["old_values"]
        parts = [mask, kl, returns, returns.square(), missed, missed.square()]
        count, kl_sum, *sums = self.accelerator.reduce(torch.stack([part.sum() for part in parts]), "sum").tolist()
        mean, square, missed_mean, missed_square = (part / max(1.0, count) for part in sums)
        variance = square - mean**2
        explained = 1 - (missed_square - missed_mean**2) / variance if variance > 0 else 0.0
        self._step_numbers |= {"kl": kl_sum / max(1.0, count), "return": mean, "explained_variance": explained}

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        beta, self.beta = self.beta, 0.0  # the KL is in the reward, not in the loss
        try:
            with self._critic() as found:
                policy: Tensor = super()._compute_loss(model, inputs)
        finally:
            self.beta = beta
        values = before_tokens(found[0], inputs["completion_ids"].shape[1])
        error = value_loss(values, inputs["old_values"], inputs["returns"], self.stage.value_clip)
        # the mean over the tokens of the whole batch, as TRL scales its own for one update per batch
        tokens = inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes
        return policy + self.stage.value_weight * (error * loss_mask(inputs)).sum() / tokens

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As in `Trainer`. A checkpoint holds the critic, too."""
        super().save_model(output_dir, _internal_call)
        if _internal_call and self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            torch.save(self._whole.get_submodule(VALUE_HEAD).state_dict(), folder / f"{VALUE_HEAD}.pt")

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        state = self._whole.state_dict() if state_dict is None else state_dict
        super()._save(output_dir, {key: value for key, value in state.items() if not key.startswith(VALUE_HEAD)})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        path = Path(resume_from_checkpoint) / f"{VALUE_HEAD}.pt"
        self._whole.get_submodule(VALUE_HEAD).load_state_dict(torch.load(path, map_location="cpu", weights_only=True))


def before_tokens(values: Tensor, width: int) -> Tensor:
    """Of (B, P + T) values, the (B, T = `width`) that were known before each completion token was chosen."""
    return values[:, -width - 1 : -1].float()
