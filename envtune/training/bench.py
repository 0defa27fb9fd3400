"""How fast are rollouts? Ours against TRL's own tool loop, on the same weights and tasks.

`bench_rollout` makes a Qwen3 of about a million random parameters. It teaches the model in some seconds to write a
given number of files one call at a time, so that episodes have about six tool rounds. Then both loops play the same
single-turn tasks: TRL through `environment_factory`, which reads the whole conversation again for every message, and
`training.rollout`, which keeps the cache. The measure is sampled tokens per second of wall time, environment included.

The environment's share of a training step is measured on one step of `training.grpo` over the same tasks.
`training.bench_step` measures the other phases.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers.utils import get_json_schema
from trl import GRPOConfig, GRPOTrainer

from envtune.chat import render_calls
from envtune.environment import ToolUseEnv
from envtune.environment.simulator import Simulators
from envtune.policy.miniature import miniature_model, miniature_tokenizer
from envtune.policy.tokens import ChatTokens
from envtune.training.curriculum import Stage
from envtune.training.grpo import Trainer, grpo_config
from envtune.training.machine import Machine
from envtune.training.rollout import play
from envtune.types import Category, Task, ToolCall

FILES = (5, 6, 7)
"""Number of files to write, and so of tool rounds, in the three tasks."""
STAGE = Stage(
    "bench",
    "progress",
    steps=2,
    message_tokens=64,
    episode_tokens=900,
    num_generations=8,
    prompts_per_step=8,
    learning_rate=1e-6,
    max_steps_per_turn=20,
)


@dataclass(frozen=True)
class RolloutBench:
    """The measurements."""

    ours: float
    """Sampled tokens per second, `training.rollout`."""
    trl: float
    """Sampled tokens per second, TRL's tool loop."""
    tool_rounds: float
    """Tool rounds per episode, in ours."""
    environment_share: float
    """Seconds in the environment over seconds of a training step."""
    parameters: int
    threads: int
    """torch's."""

    @property
    def ratio(self) -> float:
        """How many times faster."""
        return self.ours / self.trl


def bench_rollout(
    rounds: int = 3,
    echo: Callable[[str], None] = lambda line: None,
    threads: int | None = None,
    stage: Stage = STAGE,
) -> RolloutBench:
    """Measure both loops. The best of `rounds` runs of each counts. They run in turns, so both see the same machine.

    Args:
        rounds: runs of each loop.
        echo: gets a line per run.
        threads: torch's threads. None: unchanged.
        stage: sizes of the batch and its limits.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    tasks = [_task(n) for n in FILES]
    tokenizer = _tokenizer(tasks)
    model = miniature_model(tokenizer, hidden=128, layers=4, kv_heads=4, context=2048)
    echo(f"teaching {model.num_parameters():,} parameters to write files")
    _teach(model, ChatTokens(tokenizer), tasks)
    batch = [tasks[i % len(tasks)] for i in range(stage.prompts_per_step) for _ in range(stage.num_generations)]
    with tempfile.TemporaryDirectory() as folder:
        theirs = _trl_trainer(model, tokenizer, tasks, folder)
        ours, trl, tool_rounds = 0.0, 0.0, 0.0
        for number in range(rounds):
            speed, tool_rounds = _ours(model, tokenizer, batch, number)
            other = _trl(theirs, batch)
            ours, trl = max(ours, speed), max(trl, other)
            echo(f"round {number + 1}: ours {speed:,.0f} tokens/s, TRL {other:,.0f} tokens/s")
        share = _environment_share(model, tokenizer, tasks, stage, Path(folder))
    return RolloutBench(ours, trl, tool_rounds, share, model.num_parameters(), torch.get_num_threads())


class Files:
    """The environment as TRL wants it: its public methods are the tools."""

    def reset(self, **_: Any) -> None:
        """A new, empty file system."""
        self._simulators = Simulators(_task(1))

    def touch(self, file_name: str) -> str:
        """Create a new file in the current directory.

        Args:
            file_name: Name of the new file.
        """
        return self._simulators.call(ToolCall("touch", {"file_name": file_name})).text


def _task(n: int) -> Task:
    calls = tuple(ToolCall("touch", {"file_name": f"f{i}.txt"}) for i in range(n))
    return Task(
        id=f"bench_base_{n}",
        category=Category.BASE,
        involved_classes=("GorillaFileSystem",),
        initial_config={"GorillaFileSystem": {"root": {"home": {"type": "directory", "contents": {}}}}},
        user_turns=(f"Write {n} files, one by one.",),
        ground_truth=(calls,),
        tools=(get_json_schema(Files.touch),),
    )


def _script(task: Task) -> list[str]:
    return [*(render_calls([call]) for call in task.ground_truth[0]), f"I wrote {len(task.ground_truth[0])} files."]


def _tokenizer(tasks: list[Task]) -> Any:
    bare = miniature_tokenizer()
    user = [{"role": "user", "content": task.user_turns[0]} for task in tasks]
    prompts = [
        bare.apply_chat_template([u], tools=list(t.tools), tokenize=False) for u, t in zip(user, tasks, strict=True)
    ]
    return miniature_tokenizer([str(p) for p in prompts] + [text for task in tasks for text in _script(task)])


def _teach(model: Any, tokens: ChatTokens, tasks: list[Task], steps: int = 100) -> None:
    """Memorise the scripts: cross entropy on the assistant's tokens."""
    rows = [_transcript(tokens, task) for task in tasks]
    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([row + [0] * (width - len(row)) for row, _ in rows])
    labels = torch.tensor([row + [-100] * (width - len(row)) for _, row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, betas=(0.9, 0.95))
    warm = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps, pct_start=0.2)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        warm.step()
    model.eval()


def _transcript(tokens: ChatTokens, task: Task) -> tuple[list[int], list[int]]:
    """Ids of the scripted episode, and its labels."""
    env = ToolUseEnv(task)
    seen = env.reset()
    ids = tokens.prompt(seen.messages, seen.tools)
    labels = [-100] * len(ids)
    for text in _script(task):
        said = [*tokens.tokenizer.encode(text, add_special_tokens=False), tokens.end_id]
        ids, labels = ids + said, labels + said
        if not (seen := env.step(text)).done:
            new = tokens.continuation(seen.messages, ids[-1])
            ids, labels = ids + new, labels + [-100] * len(new)
    return ids, labels


def _ours(model: Any, tokenizer: Any, batch: list[Task], seed: int) -> tuple[float, float]:
    """Sampled tokens per second, and tool rounds per episode."""
    begin = time.perf_counter()
    played = play(model, tokenizer, batch, STAGE.rules(0), STAGE.limits, seed=seed, max_rows=len(batch))
    seconds = time.perf_counter() - begin
    rounds = sum(bool(step.calls) for rollout in played for step in rollout.episode.steps)
    return sum(sum(rollout.env_mask) for rollout in played) / seconds, rounds / len(played)


def _trl_trainer(model: Any, tokenizer: Any, tasks: list[Task], folder: str) -> GRPOTrainer:
    config = GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=STAGE.episodes,
        num_generations=STAGE.num_generations,
        max_completion_length=STAGE.episode_tokens,
        temperature=STAGE.temperature,
        max_steps=1,
        report_to=[],
        use_cpu=not torch.cuda.is_available(),
        disable_tqdm=True,
    )
    prompts = [[{"role": "user", "content": task.user_turns[0]}] for task in tasks]
    return GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=config,
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        processing_class=tokenizer,
        environment_factory=Files,
    )


def _trl(trainer: GRPOTrainer, batch: list[Task]) -> float:
    """Sampled tokens per second of TRL's tool loop."""
    inputs = [{"prompt": [{"role": "user", "content": task.user_turns[0]}]} for task in batch]
    begin = time.perf_counter()
    output = trainer._generate_and_score_completions(inputs)
    seconds = time.perf_counter() - begin
    return int((output["completion_mask"] * output["tool_mask"]).sum()) / seconds


def _environment_share(model: Any, tokenizer: Any, tasks: list[Task], stage: Stage, folder: Path) -> float:
    lines: list[dict[str, float]] = []

    def note(line: dict[str, float]) -> dict[str, float]:
        lines.append(line)
        return line

    machine = Machine(micro_batch=8)
    config = grpo_config(stage, folder, seed=0, machine=machine, save_every=stage.steps + 1)
    trainer = Trainer(model, tokenizer, stage, tasks, config, machine, note)
    trainer.train()
    return lines[-1]["seconds/environment"] / lines[-1]["seconds/step"]
