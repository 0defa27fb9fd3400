"""Play a policy on tasks and count: no hints, one episode per task, resumable.

In: a policy, tasks, perhaps a path. Out: a `Result`. With a path also a JSONL (`evaluation.records`), to which finished
tasks are appended in task order and from which a killed run goes on. The protocol is the benchmark's
(`environment.env`).

The resumed file is byte-identical if the policy's answer does not depend on the rest of the batch. That holds for
scripted agents. A language model's floating-point sums may differ with the size of the batch.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from envtune import sources
from envtune.data.bfcl import data_version
from envtune.data.splits import task_digest
from envtune.environment import Observation, ToolUseEnv
from envtune.environment.rules import Rules, rules_of
from envtune.evaluation import records
from envtune.evaluation.records import Row, Writer
from envtune.evaluation.result import Result
from envtune.policy.base import Chat, Policy, Streaming
from envtune.types import JSON, Task


def evaluate(
    policy: Policy,
    tasks: Sequence[Task],
    path: str | Path | None = None,
    *,
    rules: Rules | str | None = None,
    batch_size: int = 32,
    progress: bool | tqdm[Any] = True,
    **changes: Any,
) -> Result:
    """Play `policy` on every task, without hints.

    Args:
        policy: the agent.
        tasks: what to play, each task once.
        path: JSONL to append to. If it holds the beginning of this evaluation, only the rest is played. None: nothing
            is written.
        rules: limits, or a name of `PROTOCOLS` (`bfcl_fc`, `t3rl`, `paper`). None: the benchmark's limits.
        batch_size: episodes in flight at once, which the policy sees together.
        progress: show a progress bar, or the bar to move on: by one for each task.
        changes: single rules by name, such as `max_steps_per_turn=10`, see `rules_of`.

    Raises:
        ValueError: no tasks or a task given twice, `batch_size` below 1, unknown rules or rules that help the agent, a
            policy whose temperature is not that of the rules or that does not answer every chat, or a file at `path`
            that belongs to something else. The message names file, line and what differs.
    """
    _check_arguments(policy, tasks, batch_size)
    rules = _checked(rules_of(rules, **changes), policy)
    header = records.make_header(_config(policy, tasks, rules))
    with ExitStack() as stack:
        writer: Writer | None = None
        if path is not None:
            writer = stack.enter_context(records.writer(Path(path), header, [task.id for task in tasks]))
        rows: list[Row] = list(writer.rows) if writer else []
        if isinstance(progress, tqdm):
            bar = progress
            bar.update(len(rows))
        else:
            own = tqdm(total=len(tasks), initial=len(rows), desc=f"evaluate {policy.name}", disable=not progress)
            bar = stack.enter_context(own)
        for row in _in_order(_play(policy, tasks[len(rows) :], rules, batch_size)):
            if writer:
                writer.append(row)
            rows.append(row)
            bar.update()
    result = Result(header.config, tuple(rows))
    for line in result.warnings:
        tqdm.write(f"envtune: warning: {line}", file=sys.stderr)
    return result


def load_result(path: str | Path) -> Result:
    """The result that `evaluate` wrote to `path`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or the evaluation is not finished. `evaluate` goes on with it.
    """
    header, rows = records.read(Path(path))
    if len(rows) != (n := header.config["tasks"]["n"]):
        raise ValueError(f"{path} holds {len(rows)} of {n} tasks. Run the same evaluation again to finish it")
    return Result(header.config, tuple(rows))


@dataclass
class _Running:
    """One episode in flight."""

    index: int
    env: ToolUseEnv
    chat: Chat
    done: bool = False


def _check_arguments(policy: Policy, tasks: Sequence[Task], batch_size: int) -> None:
    if isinstance(policy, str):
        raise TypeError(f"{policy!r} is the name of a policy. Give load_policy({policy!r})")
    if not tasks:
        raise ValueError("no tasks to evaluate on. Give at least one")
    if twice := [task_id for task_id, count in Counter(task.id for task in tasks).items() if count > 1]:
        raise ValueError(f"task {twice[0]} is given more than once. Evaluate each task once")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}. It must be at least 1")


def _checked(rules: Rules, policy: Policy) -> Rules:
    if rules.helps:
        raise ValueError("these rules give hints or feedback, which an evaluation must not. Use rules.judged")
    found = policy.settings.get("temperature")
    if None not in (found, rules.temperature) and found != rules.temperature:
        raise ValueError(
            f"policy {policy.name} samples at temperature {found}, protocol {rules.name or 'of these rules'} at "
            f"{rules.temperature}. Leave --temperature out, or the protocol. In Python: load_policy(..., "
            f"temperature={rules.temperature})"
        )
    return rules


def _config(policy: Policy, tasks: Sequence[Task], rules: Rules) -> JSON:
    return {
        "policy": policy.name,
        "settings": policy.settings,
        "protocol": rules.record,
        "data": data_version(),
        "code": sources.running(sources.EPISODES),
        "tasks": {"n": len(tasks), "sha256": task_digest(tasks)},
    }


def _play(policy: Policy, tasks: Sequence[Task], rules: Rules, batch_size: int) -> Iterator[tuple[int, Row]]:
    """Index and row of every task, in the order in which they finish."""
    ask = policy.reply_some if isinstance(policy, Streaming) else policy.reply
    waiting = iter(enumerate(tasks))
    running: list[_Running] = []
    while True:
        while len(running) < batch_size and (following := next(waiting, None)) is not None:
            running.append(_start(*following, rules))
        if not running:
            return
        texts = ask([episode.chat for episode in running])
        if len(texts) != len(running):
            raise ValueError(f"policy {policy.name} answered {len(texts)} of {len(running)} chats. It must answer each")
        if all(text is None for text in texts):
            raise ValueError(f"policy {policy.name} answered none of {len(running)} chats. It must answer at least one")
        for episode, text in zip(running, texts, strict=True):
            if text is not None:
                _advance(episode, text, rules)
        for episode in running:
            if episode.done:
                yield episode.index, records.make_row(episode.env.episode, episode.chat.notes)
        running = [episode for episode in running if not episode.done]


def _start(index: int, task: Task, rules: Rules) -> _Running:
    env = ToolUseEnv(task, rules)
    observation = env.reset()
    return _Running(index, env, Chat(task, *rules.opening(observation.messages, observation.tools)))


def _advance(episode: _Running, text: str, rules: Rules) -> None:
    chat, env = episode.chat, episode.env
    observation: Observation = env.step(text)
    episode.done = env.done
    chat.messages += [{"role": "assistant", "content": text}, *rules.shown(observation.messages)]
    if observation.recompiled:
        chat.tools = observation.tools
    chat.step = chat.step + 1 if env.turn == chat.turn else 0
    chat.turn = env.turn


def _in_order(finished: Iterator[tuple[int, Row]]) -> Iterator[Row]:
    """Rows in task order. A row that finishes early waits for those before it."""
    early: dict[int, Row] = {}
    following = 0
    for index, row in finished:
        early[index] = row
        while following in early:
            yield early.pop(following)
            following += 1
