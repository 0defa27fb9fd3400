"""GRPO through TRL: the only module that uses TRL's experimental rollout interface (`rollout_func` + `env_mask`).

In: a stage, its tasks, a policy. Out: a `GRPOTrainer`. Its prompts are task ids, `training.rollout` plays its rollouts,
and it measures every step. The loss is TRL's, over sampled tokens only, with advantages normalised within the group of
one task:

    A_i = (r_i - mean(r)) / (std(r) + 1e-4)
    L   = -1/N sum_t min(w_t A_i, clip(w_t, 1 - low, 1 + high) A_i) + beta KL_t - entropy H_t,   w_t capped at 10

N counts the sampled tokens of the whole batch (token mean, as in verl and TRL's `dapo`). Only the entropy's mean is
over a micro-batch, as in TRL. There is one optimizer step per generation: the policy that sampled is the policy that
learns, so w_t = 1. (PPO, `training.ppo`, makes several.) A step is one generation with all its updates, so after every
step a checkpoint resumes bit for bit.

Departs from TRL in five places:

- Tasks come in our own order (`schedule`), so that a resumed run needs no sampler state.
- Groups without reward spread can be left out.
- Micro-batches hold rows of similar length without the batch's padding.
- The language head is computed for sampled tokens only.
- No model card and no telemetry are written.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from peft import PeftModel
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import PrinterCallback
from trl import GRPOConfig, GRPOTrainer
from trl.models import unwrap_model_for_generation

from envtune.environment.rules import Rules
from envtune.policy.generate import Sampler
from envtune.policy.language import stop_ids_of
from envtune.policy.tokens import ChatTokens
from envtune.training import metrics
from envtune.training.batches import loss_mask, micro_batches, without_padding
from envtune.training.curriculum import Stage
from envtune.training.engine import Generate, TurnEngine
from envtune.training.machine import Machine, accumulation, launched, lora, save_merged, sharding
from envtune.training.rollout import Backend, Clock, Rollout, rollout
from envtune.types import JSON, Episode, Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WEIGHT_DECAY, MAX_GRAD_NORM = 0.01, 1.0
"""T3RL's optimizer: AdamW, constant learning rate."""
RATIO_CAP = 10.0
"""Cap of the importance ratio for negative advantages (released configurations of the paper)."""
PROMPT_TOKENS = 8192
"""Longest prompt that an engine with a fixed length must hold (released configurations of the paper)."""
IMPORTANCE = "token_truncate"
"""Correction of vLLM's log-probabilities: each token's ratio, capped at 3. This is our choice. TRL's default drops a
whole episode once the product over its thousands of tokens passes the cap."""


def grpo_config(
    stage: Stage, out: Path, *, seed: int, machine: Machine, save_every: int, processes: int | None = None
) -> GRPOConfig:
    """The trainer's settings for a stage. Default of `processes`: as many as there are.

    Raises:
        ValueError: the batch does not divide into micro-batches.
    """
    return _Config(
        output_dir=str(out),
        max_steps=stage.steps * stage.updates,
        per_device_train_batch_size=machine.micro_batch,
        gradient_accumulation_steps=accumulation(stage, machine, processes or launched()),
        num_generations=stage.num_generations,
        num_iterations=stage.updates,
        shuffle_dataset=False,
        max_completion_length=stage.message_tokens,
        temperature=stage.temperature,
        learning_rate=stage.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=WEIGHT_DECAY,
        max_grad_norm=MAX_GRAD_NORM,
        loss_type="dapo",
        scale_rewards="group",
        beta=stage.beta,
        entropy_coef=stage.entropy,
        epsilon=stage.clip_low,
        epsilon_high=stage.clip_high,
        delta=RATIO_CAP,
        disable_dropout=True,
        ddp_find_unused_parameters=False,
        bf16=machine.bf16,
        gradient_checkpointing=machine.gradient_checkpointing,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        # keep gradients sharded from one micro-batch to the next, else each GPU would add up whole ones
        accelerator_config={"gradient_accumulation_kwargs": {"sync_each_batch": sharding() == "fsdp"}},
        **_sampler_settings(stage, machine),
        **({} if machine.optimizer == "adamw" else {"optim": machine.optimizer}),
        logging_steps=stage.updates,
        save_strategy="steps",
        save_steps=save_every * stage.updates,
        save_total_limit=1,
        report_to=list(machine.report_to),
        project="envtune",
        run_name=f"{out.parent.name}/{out.name}",
        disable_tqdm=True,
        seed=seed,
        data_seed=seed,
    )


class _Config(GRPOConfig):
    """Names a CPU `cpu`. For several processes accelerate says `cpu:0`, where torch cannot load optimizer states."""

    @property
    def device(self) -> torch.device:
        found: torch.device = super().device
        return torch.device("cpu") if found.type == "cpu" else found


def _sampler_settings(stage: Stage, machine: Machine) -> JSON:
    if machine.sampler != "vllm":
        return {}
    return {
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_tensor_parallel_size": 1,
        "vllm_enable_sleep_mode": True,
        "vllm_gpu_memory_utilization": machine.vllm_memory,
        "vllm_importance_sampling_correction": True,
        "vllm_importance_sampling_mode": IMPORTANCE,
    }


def longest(model: PreTrainedModel, stage: Stage) -> int:
    """Tokens of the longest conversation that an engine must hold, at most as many as the model reads."""
    reads = int(model.config.get_text_config().max_position_embeddings)
    return min(reads, PROMPT_TOKENS + stage.episode_tokens)


def schedule(tasks: Sequence[Task], n: int, seed: int | str) -> list[Task]:
    """`n` tasks: repeated passes over `tasks`, each in a new order."""
    rng, order = random.Random(f"schedule/{seed}"), list[Task]()
    while len(order) < n:
        order += rng.sample(tasks, len(tasks))
    return order[:n]


class Trainer(GRPOTrainer):
    """Trains one stage. Use `train.train`, which runs stages, resumes and keeps the best weights.

    Args:
        model, tokenizer: the policy.
        stage: what to do.
        tasks: the stage's tasks.
        config: of `grpo_config`.
        machine: as given to it.
        on_step: called with each step's numbers before they are logged. What it returns is logged with them.

    With `stage.lora_rank` an adapter is trained instead of the weights. The model without it is the KL's reference.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        stage: Stage,
        tasks: Sequence[Task],
        config: GRPOConfig,
        machine: Machine,
        on_step: Callable[[JSON], JSON],
    ) -> None:
        self.stage, self.machine, self._on_step = stage, machine, on_step
        self._tasks = {task.id: task for task in tasks}
        self._chat = ChatTokens(tokenizer, stop_ids_of(model))
        self._step_numbers: JSON = {}
        self._sampled = torch.zeros(0, 0, dtype=torch.bool)
        """(B, C), the tokens whose log-probabilities are needed: first of the step, then of the micro-batch."""
        self._live = torch.ones(0, dtype=torch.bool)
        """(B of all processes), rows of the current step that enter the loss."""
        order = schedule(tasks, stage.steps * stage.prompts_per_step, f"{config.seed}/{stage.name}")
        config.vllm_max_model_length = longest(model, stage)
        super().__init__(
            model=model,
            reward_funcs=[earned],
            args=config,
            train_dataset=Dataset.from_dict({"prompt": [task.id for task in order]}),
            processing_class=tokenizer,
            rollout_func=_rollout_func,
            peft_config=lora(stage),
        )
        self.remove_callback(PrinterCallback)
        if machine.nf4:  # TRL makes the adapter bfloat16 here, where most steps at a rate of 1e-5 round to 0
            for weight in self.model.parameters():
                if weight.requires_grad:
                    weight.data = weight.data.float()

    def create_accelerator_and_postprocess(self) -> None:
        """Under FSDP2, only arithmetic is bfloat16. accelerate would round log-probabilities and gradients, too."""
        super().create_accelerator_and_postprocess()
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        if plugin is not None and plugin.fsdp_version == 2 and self.args.bf16:
            full = torch.float32
            plugin.mixed_precision_policy = MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=full, output_dtype=full)

    _buffered_inputs: Any
    episode: Episode
    """The first episode of the last step."""

    @property
    def step(self) -> int:
        """Number of finished steps, that is generations with all their updates."""
        return int(self.state.global_step) // self.stage.updates

    def sample(self, tasks: Sequence[Task], clock: Clock) -> list[Rollout]:
        """This process's rollouts of the current step."""
        step, first = self.step, self.accelerator.process_index * len(tasks)
        seeds = [f"{self.args.seed}/{self.stage.name}/{step}/{first + i}" for i in range(len(tasks))]
        return self._play(tasks, self.stage.rules(step), seeds, clock)

    def validate(self, tasks: Sequence[Task]) -> dict[str, float]:
        """Play `tasks` greedily, without hints, and return the numbers of `metrics.measure`."""
        mine = tasks[self.accelerator.process_index :: self.accelerator.num_processes]
        seeds = [f"0/{index}" for index in range(len(mine))]
        played = self._play(mine, self.stage.judged, seeds, Clock())
        summaries = [metrics.summary(r, t) for r, t in zip(played, mine, strict=True)]
        return metrics.measure(gather_object(summaries))

    def _play(self, tasks: Sequence[Task], rules: Rules, seeds: Sequence[str], clock: Clock) -> list[Rollout]:
        """Rollouts by the machine's backend."""
        with self._backend(rules.temperature or 0.0) as backend:
            rows, limits = self.machine.max_rows, self.stage.limits
            return rollout(backend, self._chat, tasks, rules, limits, seeds, max_rows=rows, clock=clock)

    @contextmanager
    def _backend(self, temperature: float) -> Iterator[Backend]:
        if self.machine.sampler == "cached":
            with self._generating() as model:
                yield Sampler(model, self._chat.stop_ids, temperature=temperature)
            return
        with self._engine(temperature) as generate:
            yield TurnEngine(generate, self._chat.stop_ids, self.args.vllm_max_model_length)

    @contextmanager
    def _engine(self, temperature: float) -> Iterator[Generate]:
        """TRL's generation at a temperature, with vLLM awake from the first message to the last.

        TRL lets vLLM sleep after every call, which discards its cache and weights. Between two messages of an episode
        that would cost a transfer of all weights. If the weights are sharded, processes with fewer messages would never
        join that transfer.
        """
        engine = self.vllm_generation
        held = engine.temperature, engine.enable_sleep_mode
        if engine._llm_weights_sleeping:  # before a step TRL has just handed them over
            engine.sync_weights()
        engine.llm.wake_up(tags=["kv_cache"])
        self._last_loaded_step = self.state.global_step
        engine.temperature, engine.enable_sleep_mode = temperature, False
        try:
            yield lambda prompts: self._generate_single_turn(prompts, None, {}, 1)
        finally:
            engine.temperature, engine.enable_sleep_mode = held
            engine.llm.sleep(level=2)
            engine._llm_weights_sleeping = True

    @contextmanager
    def _generating(self) -> Iterator[PreTrainedModel]:
        """The model as a sampler needs it: whole, in evaluation mode, without gradient checkpointing.

        On a CPU it is also in inference mode, which is 5 % faster. Not with bitsandbytes, which converts biases there.
        """
        whole = unwrap_model_for_generation(
            self.model_wrapped,
            self.accelerator,
            gather_deepspeed3_params=self.args.ds3_gather_for_generation,
            gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
        )
        with whole as model, self._dist.summon_full_params(self.model_wrapped, recurse=False), _own_precision(model):
            training = model.training
            model.eval()
            try:
                with torch.inference_mode(model.device.type == "cpu" and not self.machine.nf4):
                    yield model
            finally:
                model.train(training)

    def play_step(self, prompts: Sequence[str]) -> JSON:
        """Play and measure the rollouts of one step, in TRL's form."""
        self._began = time.perf_counter()
        clock, tasks = Clock(), [self._tasks[task_id] for task_id in prompts]
        played = self.sample(tasks, clock)
        summaries = gather_object([metrics.summary(r, task) for r, task in zip(played, tasks, strict=True)])
        spread = self._spread([s["rewards"][self.stage.reward] for s in summaries])
        self._live = spread if self.stage.drop_zero_spread else torch.ones_like(spread)
        self._sampled = pad_sequence([torch.tensor(r.env_mask, dtype=torch.bool) for r in played], batch_first=True)
        self._played = time.perf_counter()
        self.episode = played[0].episode
        self._keep(played)
        environment = clock.seconds["environment"]
        self._step_numbers = {
            **metrics.measure(summaries),
            "zero_spread": 1 - spread.float().mean().item(),
            "hint_rate": self.stage.rate(self.step),
            "seconds/environment": environment,
            "seconds/sampling": self._played - self._began - environment,
        }
        return {
            "prompt_ids": [r.prompt_ids for r in played],
            "completion_ids": [r.completion_ids for r in played],
            "logprobs": [r.logprobs for r in played],
            "env_mask": [r.env_mask for r in played],
            "rollout_reward": [r.rewards[self.stage.reward] for r in played],
        }

    def _keep(self, played: Sequence[Rollout]) -> None:
        """Write the episodes of this step if it is one to keep, a line of JSON each, as in an evaluation."""
        every, step = self.machine.keep_rollouts, self.step + 1
        if not every or (step - 1) % every:
            return
        lines = gather_object([r.episode.to_json() for r in played])
        if self.accelerator.is_main_process:
            out = Path(self.args.output_dir)
            path = out.parent / "rollouts" / f"{out.name}_{step:05d}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        rewards: torch.Tensor = super()._calculate_rewards(*args, **kwargs)
        self._step_numbers |= {"reward": rewards[:, 0].mean().item(), "reward_std": rewards[:, 0].std().item()}
        return rewards

    def _spread(self, rewards: Sequence[float]) -> torch.Tensor:
        """(B), whether a row's group has rewards to compare."""
        groups = torch.tensor(rewards).view(-1, self.num_generations)
        return (groups.amax(1) > groups.amin(1)).repeat_interleave(self.num_generations)

    def _live_rows(self) -> tuple[torch.Tensor, int]:
        """This process's share of the rows that enter the loss, and the most that any process has."""
        shares = self._live.view(self.accelerator.num_processes, -1)
        return shares[self.accelerator.process_index], int(shares.sum(1).max())

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """Generate once per step, then hand out micro-batches (TRL shuffles and pads to the longest row)."""
        n = self.args.steps_per_generation
        if self._step % (n * self.stage.updates) == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)
            live, most = self._live_rows()
            total = self.accelerator.gather(loss_mask(batch)[live].sum()).sum()
            self._buffered_inputs = micro_batches(batch, n, live, total, most)
            self._scored_at = time.perf_counter()
        return self._buffered_inputs[self._step % n]

    def _compute_loss(self, model: Any, inputs: Any) -> torch.Tensor:
        self._sampled = loss_mask(inputs).bool()
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        return loss

    def _get_per_token_logps_and_entropies(
        self,
        model: PreTrainedModel,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **options: Any,
    ) -> Any:
        """(B, C) log-probabilities of the sampled tokens, 0 elsewhere. With `compute_entropy` entropies, too.

        Without gradients, rows of similar length are computed together, without their padding. The reference computes
        only rows that enter the loss, and the one that fills in for them (`micro_batches`).
        """
        sampled = self._sampled_of(logits_to_keep, input_ids.device)
        if torch.is_grad_enabled() or options.get("compute_entropy"):
            return self._score(model, input_ids, attention_mask, sampled, bool(options.get("compute_aux_loss")))
        logprobs = torch.zeros(len(input_ids), logits_to_keep, device=input_ids.device)
        order = attention_mask.sum(1).argsort(stable=True)
        if model is self.ref_model and self.stage.drop_zero_spread:
            live, most = self._live_rows()
            filler, others = order[:1], order[1:]
            others = others[live.to(order.device)[others]]
            order = torch.cat([filler.expand(most + 1 - len(others)), others])  # equally many passes in every process
        for rows, window, kept in without_padding(order, batch_size or len(order), attention_mask, logits_to_keep):
            ids, mask = input_ids[rows, window], attention_mask[rows, window]
            logprobs[rows, :kept] = self._score_rows(model, ids, mask, sampled[rows, :kept], rows)
        return logprobs, None, None

    def _score_rows(
        self, model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, sampled: torch.Tensor, rows: torch.Tensor
    ) -> torch.Tensor:
        """Log-probabilities of some `rows` of a generated batch, without their padding, see `_score`."""
        return self._score(model, ids, mask, sampled)[0].float()

    def _sampled_of(self, width: int, device: torch.device) -> torch.Tensor:
        """(B, `width`), the sampled tokens, padded as TRL pads completions."""
        return functional.pad(self._sampled, (0, width - self._sampled.shape[1])).to(device)

    def _score(
        self, model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, sampled: torch.Tensor, aux: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Log-probabilities and entropies of the tokens that are `sampled` (B, C), the last ones of `ids` (B, P + C).

        The reference gets no entropies, because TRL needs none. With `aux` there is also the load-balancing loss of a
        mixture of experts. TRL's fused head reads every position when there is no GPU. Here it only gets the positions
        before a sampled token.
        """
        before = functional.pad(sampled, (ids.shape[1] - sampled.shape[1] - 1, 1))
        labels = ids[before.roll(1, dims=1)][None]

        def choose(_module: Any, _given: Any, output: Any) -> None:
            output.last_hidden_state = output.last_hidden_state[before][None]

        whole: Any = self.accelerator.unwrap_model(model)
        causal: Any = whole.get_base_model() if isinstance(whole, PeftModel) else whole
        hook = causal.base_model.register_forward_hook(choose)
        try:
            with self.accelerator.autocast():
                router = {"output_router_logits": True} if aux else {}
                out: Any = model(input_ids=ids, attention_mask=mask, shift_labels=labels, fused_lm_head=True, **router)
        finally:
            hook.remove()
        empty = out.log_probs.new_zeros(sampled.shape)
        entropies = None if out.entropy is None else empty.masked_scatter(sampled, out.entropy)
        return empty.masked_scatter(sampled, out.log_probs), entropies, out.aux_loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the step's own numbers to TRL's."""
        if "loss" in logs:
            now = time.perf_counter()
            phases = {"scoring": self._scored_at - self._played, "update": now - self._scored_at}
            phases["step"] = now - self._began
            self._step_numbers |= {f"seconds/{name}": value for name, value in phases.items()}
            trainer: JSON = {key: logs[key] for key in ("loss", "grad_norm", "learning_rate") if key in logs}
            numbers = {**trainer, **self._token_means(), **self._mismatch(), **self._step_numbers}
            logs.update(self._on_step({"step": self.step, **numbers}))
        super().log(logs, start_time)

    def _token_means(self) -> dict[str, float]:
        """KL and entropy per sampled token in the loss. TRL's own averages count every micro-batch alike."""
        tokens = torch.stack([loss_mask(batch).sum() for batch in self._buffered_inputs])
        weights = self.accelerator.reduce(tokens, "sum").tolist() * self.stage.updates
        found = {key: self._metrics["train"].get(key) for key in ("kl", "entropy")}
        return {
            key: sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
            for key, values in found.items()
            if values and sum(weights)
        }

    def _mismatch(self) -> dict[str, float]:
        """How far vLLM's log-probabilities are from those of the weights in training, as TRL measures it."""
        found = {
            key: values for key, values in self._metrics["train"].items() if key.startswith("sampling/") and values
        }
        return {key: sum(values) / len(values) for key, values in found.items()}

    def stop(self) -> None:
        """End after this step. Nothing is saved: a run that is killed now must do this step again."""
        self.control.should_training_stop = True
        self.control.should_save = False

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the weights or the adapter unchanged in a checkpoint, else a whole model for `load_policy`."""
        folder, model = Path(output_dir or self.args.output_dir), self.accelerator.unwrap_model(self.model)
        if _internal_call or not isinstance(model, PeftModel):
            super().save_model(str(folder), _internal_call=_internal_call)
            return
        state = self.accelerator.get_state_dict(self.model)  # of all processes, where they share it
        if self.args.should_save:
            adapter = {name: value for name, value in state.items() if "lora_" in name}
            base: Any = model.get_base_model()
            own: Any = model.peft_config["default"]
            save_merged(folder, str(base.config._name_or_path), own, adapter, self.processing_class)

    def _save_rng_state(self, output_dir: str) -> None:
        """The last file that each process writes. Then the first process marks the checkpoint as complete."""
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: TRL would rewrite README.md at every checkpoint, and the run writes its own record."""

    def _send_telemetry(self) -> None:
        """Sends nothing."""


@contextmanager
def _own_precision(model: PreTrainedModel) -> Iterator[None]:
    """On a CPU, leave out accelerate's autocast: it would convert the whole cache for every sampled token."""
    autocast = model.__dict__.pop("forward", None) if model.device.type == "cpu" else None
    try:
        yield
    finally:
        if autocast is not None:
            model.forward = autocast


def _rollout_func(prompts: list[str], trainer: Trainer) -> JSON:
    return trainer.play_step(prompts)


def earned(rollout_reward: list[float], **_: Any) -> list[float]:
    """The reward travels as an extra field of the rollout."""
    return rollout_reward
