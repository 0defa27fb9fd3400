"""A dry run: everything that a run would build, with a small random model as the policy.

In: a plan. Out: lines of text. First come the stages with their estimated memory and hours (`training.cost`), then
whether their limits on tokens have room for the ground truth (`training.budget`), if the policy's tokenizer is here.
Then one step of each stage is played, trained and validated: the stage's own tasks, reward, rules and settings, on a
model of two layers with the policy's architecture, special tokens and chat template. Groups are cut to two rollouts,
messages and episodes to a few tokens. What this computer cannot check is named.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from envtune.policy.checkpoint import TINY, load_tokenizer, local_folder
from envtune.policy.miniature import miniature_model, miniature_tokenizer
from envtune.policy.tokens import ChatTokens
from envtune.training import cost
from envtune.training.budget import budget
from envtune.training.cost import Architecture, Device
from envtune.training.curriculum import Stage
from envtune.training.grpo import grpo_config
from envtune.training.launch import config_file, fits, processes, sharded
from envtune.training.machine import Machine, require
from envtune.training.plan import Plan, Schedule
from envtune.training.train import train
from envtune.types import Task

MESSAGE_TOKENS, EPISODE_TOKENS, PROMPTS, GENERATIONS = 12, 160, 1, 2
VOCABULARY = 2048
CONTEXT = 40_960
HIDDEN = 128
"""Four heads of 32 numbers, the smallest that vLLM's kernels for a CPU take."""
GB = 1e9


def check(plan: Plan, *, device: Device = cost.DEVICES["H100"], echo: Callable[[str], None] = print) -> None:
    """Print what the plan costs, then play one step of each stage.

    Raises:
        ValueError: something would not run. The message says what.
    """
    stages, machine, model = plan.stages, plan.machine, cost.architecture(plan.policy)
    if model is None:
        raise ValueError(
            f"the sizes of {plan.policy!r} are not known. Give a folder, or one of {', '.join(cost.ARCHITECTURES)}"
        )
    fits(plan)
    count = processes(plan.launch)
    for line in on_paper(plan, model, count, sharded(plan.launch) != "none", device):
        echo(line)
    with tempfile.TemporaryDirectory(prefix="envtune-check-") as folder:
        for stage in stages:  # the settings of TRL at full size
            grpo_config(stage, Path(folder) / "config", seed=plan.seed, machine=machine, save_every=10, processes=count)
        small = tuple(shrunk(stage) for stage in stages)
        here, left_out = feasible(small, machine)
        tasks: dict[str, list[Task]] = {stage.name: shortest(stage.load(), PROMPTS) for stage in stages}
        tasks["val"] = shortest(stages[-1].load("val", plan.schedule.validate_tasks), 1)
        for line in budgets(plan, model):
            echo(line)
        policy = Path(folder) / "policy"
        build(plan.policy, model, stages, [task for own in tasks.values() for task in own], policy)
        often = Schedule(validate_every=1, validate_tasks=1, save_every=1)
        tried = replace(plan, stages=small, policy=str(policy), machine=here, schedule=often, launch=None)
        for row in train(tried, Path(folder) / "run", tasks=tasks, progress=False).lines():
            if row["step"]:
                echo(
                    f"stage {row['name']}: one step with a random model: {row['tokens/sampled']:.0f} tokens sampled, "
                    f"reward {row['reward']:.3f}, loss {row['loss']:.4f}, {row['seconds/step']:.1f} s"
                )
    for reason in left_out:
        echo(f"not checked here: {reason}")
    if plan.launch:
        echo(f"not checked here: {count} processes by {config_file(plan.launch).name}, as only one process played")
    echo(f"all {len(stages)} stages run")


def on_paper(plan: Plan, model: Architecture, count: int, share: bool, device: Device) -> list[str]:
    """Stages, steps, tokens, memory and hours, as lines of text."""
    lines = [f"{model.parameters / GB:.2f} billion parameters, {count} processes on {device.name}"]
    hours, machine = 0.0, plan.machine
    for stage in plan.stages:
        seconds = cost.step_seconds(model, stage, machine, device, count)
        hours += stage.steps * sum(seconds.values()) / 3600
        lines += [_work(stage), *_memory(cost.memory(model, stage, machine, count, share), machine, device)]
        lines.append("  a step: " + ", ".join(f"{name} {value:,.0f} s" for name, value in seconds.items()))
    lines.append(
        f"{hours:.1f} hours on paper: arithmetic at {cost.EFFICIENCY:.0%} of the peak, sampling at {cost.DECODING:.0%} "
        f"of the bandwidth, {cost.FILL:.0%} of an episode's tokens used (formulas: envtune/training/cost.py)"
    )
    return lines


def budgets(plan: Plan, model: Architecture) -> list[str]:
    """Whether the ground truth fits into each stage, if the policy's tokenizer is on this computer.

    Raises:
        ValueError: a prompt does not fit into the model.
    """
    if not tokenizer_is_here(plan.policy):
        return [f"not checked here: budgets of tokens, as the tokenizer of {plan.policy} is not on this computer"]
    tokens = ChatTokens(load_tokenizer(plan.policy))
    return [
        line
        for stage in plan.stages
        for line in (f"stage {stage.name}:", *budget(stage, stage.load(), tokens, model.context))
    ]


def tokenizer_is_here(policy: str) -> bool:
    """Whether a policy's tokenizer can be loaded without a download."""
    here = policy == TINY or local_folder(policy) is not None
    return here or isinstance(try_to_load_from_cache(policy, "tokenizer.json"), str)


def _work(stage: Stage) -> str:
    episodes = stage.steps * stage.episodes
    steps = f"{stage.steps} steps{' at most' if stage.plateau else ''}"
    return (
        f"stage {stage.name}: {steps} x {stage.prompts_per_step} tasks x {stage.num_generations} rollouts = "
        f"{episodes:,} episodes of up to {stage.episode_tokens:,} tokens, {episodes * stage.episode_tokens:,} in all; "
        f"reward {stage.reward}, hints {stage.hint_rate}, {stage.calls} calls"
    )


def _memory(memory: dict[str, float], machine: Machine, device: Device) -> list[str]:
    parts = {name: size for name, size in memory.items() if name not in ("sampling", "update")}
    engine = machine.vllm_memory * device.memory if machine.sampler == "vllm" else 0.0
    peaks = f"updating {memory['update'] / GB:.1f} GB, sampling {memory['sampling'] / GB:.1f} GB"
    peaks += f" + vLLM {engine / GB:.1f} GB" if engine else ""
    lines = ["  memory: " + ", ".join(f"{name} {size / GB:.1f}" for name, size in parts.items()) + f" GB; {peaks}"]
    if max(memory["update"], memory["sampling"] + engine) > 0.9 * device.memory:
        lines.append(f"  WARN: this does not fit a {device.name} of {device.memory / GB:.0f} GB with a tenth to spare")
    return lines


def shrunk(stage: Stage) -> Stage:
    """The same stage, small enough for a minute on a CPU."""
    return replace(
        stage,
        steps=1,
        prompts_per_step=PROMPTS,
        num_generations=GENERATIONS,
        message_tokens=min(stage.message_tokens, MESSAGE_TOKENS),
        episode_tokens=min(stage.episode_tokens, EPISODE_TOKENS),
        lora_rank=min(stage.lora_rank, 4),
    )


def feasible(stages: Sequence[Stage], machine: Machine) -> tuple[Machine, list[str]]:
    """The machine without the settings that this computer refuses, and the reasons."""
    here = replace(machine, micro_batch=GENERATIONS, max_rows=4, keep_rollouts=0, report_to=())
    reasons: list[str] = []
    for change in ({"sampler": "cached"}, {"nf4": False}, {"optimizer": "adamw"}):
        for stage in stages:
            alone = replace(Machine(), **{name: getattr(here, name) for name in change})
            try:
                require(stage, alone)
            except ValueError as error:
                reasons.append(str(error))
                here = replace(here, **change)
    for stage in stages:
        require(stage, here)
    return here, list(dict.fromkeys(reasons))


def shortest(tasks: Sequence[Task], n: int) -> list[Task]:
    """The `n` tasks with the shortest tool documents."""
    return sorted(tasks, key=lambda task: (len(json.dumps(task.tools)), task.id))[:n]


def build(policy: str, model: Architecture, stages: Sequence[Stage], tasks: Sequence[Task], folder: Path) -> None:
    """Write the random model, with the policy's tokenizer if it is here, else one of the tasks' own words."""
    if policy == TINY or local_folder(policy):
        tokenizer = load_tokenizer(policy)
    else:
        rules = stages[-1].judged
        texts = []
        for task in tasks:
            messages, tools = rules.opening([{"role": "user", "content": task.user_turns[0]}], task.tools)
            texts += [json.dumps(list(tools)), *(str(message["content"]) for message in messages)]
        tokenizer = miniature_tokenizer(texts, VOCABULARY, model.template)
    tokenizer.padding_side = "left"
    small = miniature_model(tokenizer, hidden=HIDDEN, context=CONTEXT, family=model.family, tied=model.tied)
    small.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
