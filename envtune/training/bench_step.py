"""The cost of one GRPO step on this computer by phase: sampling, environment, log-probabilities, update.

In: a plan, one of its stages, and lengths of episodes in tokens. Out: a row per length. The model is the policy. If
only its name is known, it is a model of the same sizes with random weights, which writes every message to its limit, so
episodes fill their length. The trainer is the one of a run. The first step warms up and is not counted.

Share of the peak: operations per second of log-probabilities and update (formulas: `training.cost`), divided by those
of a large matrix product here in the same precision.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from envtune.environment import ToolUseEnv
from envtune.policy import set_threads
from envtune.policy.checkpoint import TINY, folder_of, load_tokenizer, local_folder
from envtune.processes import peak_memory
from envtune.training import cost
from envtune.training.batches import Batch
from envtune.training.check import shortest
from envtune.training.cost import Architecture
from envtune.training.curriculum import PPOStage, Stage
from envtune.training.grpo import Trainer, grpo_config
from envtune.training.machine import Machine, accumulation, launched, load_model, require
from envtune.training.plan import Plan
from envtune.types import JSON, Task

LARGEST_ON_CPU = 2e8
"""Most parameters of a random model without a GPU."""
VOCABULARY = 16_384
"""Size of the vocabulary that is made for a random model."""
WHOLE = 8
"""Number of tasks that a measurement draws from."""


@dataclass(frozen=True)
class StepBench:
    """One measured step. Seconds are wall time, means over the counted steps."""

    tokens: int
    """Longest allowed episode, with its prompt."""
    length: float
    """Mean tokens of an episode, with its prompt."""
    rows: int
    sampling: float
    environment: float
    scoring: float
    update: float
    step: float
    sampled_per_second: float
    """Sampled tokens per second of sampling."""
    trained_per_second: float
    """Tokens, with prompts, per second of scoring and update."""
    peak_memory_gb: float
    """Memory allocated on the GPU. Without a GPU: resident memory of this process."""
    share_of_peak: float
    environment_share: float
    """Share of the step's seconds."""


def bench(
    plan: Plan,
    stage: str | None = None,
    lengths: Sequence[int] = (),
    *,
    steps: int = 1,
    echo: Callable[[str], None] = lambda line: None,
) -> list[StepBench]:
    """Measure a step of a stage for each length. Without lengths: once, with the stage's own limits.

    Args:
        plan: its policy is `tiny`, a folder, or one of `cost.ARCHITECTURES`.
        stage: name of a GRPO stage. None: the last.
        lengths: longest episodes in tokens, with their prompts.
        steps: counted steps.
        echo: takes a line per measurement.

    Raises:
        ValueError: there is no such stage, the policy is unknown or too large for this computer, or the machine cannot
            run it.
    """
    chosen, policy, machine = plan.stage(stage), plan.policy, plan.machine
    if isinstance(chosen, PPOStage):
        raise ValueError("bench step measures GRPO, but this recipe trains by PPO. Give a recipe with GRPO stages")
    model = cost.architecture(policy)
    if model is None:
        raise ValueError(f"the sizes of {policy!r} are not known. Known: {', '.join(cost.ARCHITECTURES)}")
    require(chosen, machine)
    accumulation(chosen, machine, launched())
    known = policy == TINY or local_folder(policy) is not None
    if not known and not torch.cuda.is_available() and model.parameters > LARGEST_ON_CPU:
        raise ValueError(f"{policy} has {model.parameters / 1e9:.1f} billion parameters. Measure it on a GPU")
    set_threads(plan.threads)
    tasks = shortest(chosen.load(), WHOLE)
    peak, found, context = peak_arithmetic(machine.bf16), list[StepBench](), max(lengths, default=0)
    with tempfile.TemporaryDirectory(prefix="envtune-bench-") as name:
        own = Path(name) / "policy"
        folder = folder_of(policy) if known else random_policy(model, tasks, own, context)
        for number, length in enumerate(lengths or (0,)):
            found.append(_measure(chosen, model, folder, tasks, machine, length, steps, peak, Path(name) / str(number)))
            row = found[-1]
            echo(f"{row.length:,.0f} tokens an episode: {row.step:.1f} s a step, {row.peak_memory_gb:.1f} GB")
    return found


class _Counting(Trainer):
    """Counts the tokens of what is trained on."""

    trained = 0.0
    operations = 0.0
    count: Callable[[float], float]

    def _compute_loss(self, model: object, inputs: Batch) -> torch.Tensor:
        for tokens in (inputs["prompt_mask"].sum(1) + inputs["completion_mask"].sum(1)).tolist():
            self.trained += tokens
            self.operations += tokens * self.count(tokens)
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        return loss


def _measure(
    stage: Stage,
    model: Architecture,
    folder: Path,
    tasks: Sequence[Task],
    machine: Machine,
    length: int,
    steps: int,
    peak: float,
    out: Path,
) -> StepBench:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    stage = replace(stage, steps=1 + steps, drop_zero_spread=False, plateau=0, watch=False)
    if length:
        prompt = _longest_prompt(stage, tokenizer, tasks)
        if length <= prompt:
            raise ValueError(
                f"episodes of {length} tokens are too short: the prompts have up to {prompt}. Give a greater length"
            )
        limit = (length - prompt) // (stage.max_steps or 30)
        stage = replace(stage, episode_tokens=length - prompt, message_tokens=max(limit, 32))
    lines: list[JSON] = []

    def note(line: JSON) -> JSON:
        lines.append({**line, "trained": trainer.trained, "operations": trainer.operations})
        if torch.cuda.is_available() and len(lines) == 1:
            torch.cuda.reset_peak_memory_stats()
        return line

    # passes over all tokens that need gradients. Those without are counted as part of the same phases
    n = cost.passes(stage, machine)
    config = grpo_config(stage, out, seed=0, machine=machine, save_every=stage.steps + 1)
    trainer = _Counting(load_model(str(folder), stage, machine), tokenizer, stage, tasks, config, machine, note)
    trainer.count = lambda tokens: n * model.forward(tokens)
    trainer.train()
    return _summary(length, stage, lines, peak)


def _longest_prompt(stage: Stage, tokenizer: object, tasks: Sequence[Task]) -> int:
    from envtune.policy.tokens import ChatTokens

    chat, rules = ChatTokens(tokenizer), stage.judged  # type: ignore[arg-type]
    first = [ToolUseEnv(task, rules).reset() for task in tasks]
    return max(len(chat.prompt(*rules.opening(seen.messages, seen.tools))) for seen in first)


def _summary(length: int, stage: Stage, lines: Sequence[JSON], peak: float) -> StepBench:
    counted, n = lines[1:], len(lines) - 1
    mean = {key: sum(line[f"seconds/{key}"] for line in counted) / n for key in _PHASES}
    rows = stage.episodes
    trained, operations = ((lines[-1][key] - lines[0][key]) / n for key in ("trained", "operations"))
    learning = mean["scoring"] + mean["update"]
    if torch.cuda.is_available():
        memory = torch.cuda.max_memory_allocated() / 1e9
    else:
        memory = peak_memory() / 1e9
    return StepBench(
        length or int(trained / rows),
        trained / rows,
        rows,
        mean["sampling"],
        mean["environment"],
        mean["scoring"],
        mean["update"],
        mean["step"],
        sum(line["tokens/sampled"] for line in counted) / n / mean["sampling"],
        trained / learning,
        memory,
        operations / learning / peak,
        mean["environment"] / mean["step"],
    )


_PHASES = ("sampling", "environment", "scoring", "update", "step")


def peak_arithmetic(bf16: bool) -> float:
    """Operations per second of a large matrix product here, the best of five."""
    gpu = torch.cuda.is_available()
    n, dtype = (8192 if gpu else 1024), torch.bfloat16 if bf16 else torch.float32
    a = torch.ones(n, n, dtype=dtype, device="cuda" if gpu else "cpu")
    best = 0.0
    for _ in range(5):
        begin = time.perf_counter()
        a @ a
        if gpu:
            torch.cuda.synchronize()
        best = max(best, 2 * n**3 / (time.perf_counter() - begin))
    return best


def random_policy(model: Architecture, tasks: Sequence[Task], folder: Path, context: int) -> Path:
    """Write a model of these sizes with random weights in bfloat16, and a tokenizer of the tasks' words."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from envtune.policy.miniature import miniature_tokenizer

    texts = [json.dumps(list(task.tools)) for task in tasks] + [task.user_turns[0] for task in tasks]
    words = min(VOCABULARY, model.vocabulary)
    known = Path(model.template).is_dir()
    tokenizer = load_tokenizer(model.template) if known else miniature_tokenizer(texts, words, model.template)
    config = AutoConfig.for_model(
        model.family,
        vocab_size=model.vocabulary,
        hidden_size=model.hidden,
        intermediate_size=model.mlp,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        num_key_value_heads=model.kv_heads,
        **({} if model.family == "qwen2" else {"head_dim": model.head_dim}),
        max_position_embeddings=max(context, 40_960),
        tie_word_embeddings=model.tied,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        made = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
