"""Tool use over MCP as a gymnasium environment: `gymnasium.make("envtune/MCP-v0")` once this module is imported.

In: the agent's message, a text as `chat` reads it. Out: the next text that the agent reads, the step's execution reward
(qwen-tool's five rows, `rewards.ExecutionReward`), and whether the episode has ended. The turn loop and the verdict are
those of `ToolUseEnv`. Its calls go through an MCP client session to the environment's own server, one session per
episode, so the agent's texts have passed through the protocol. The same task and actions give the same results and
verdict as without MCP (tested).

`info` holds `task_id`, `turn` (0-based), `success`, `calls` and `results` of the step, and, for a policy with a chat
template, `messages` (the observation as chat messages) and `tools` (schemas now available). Vectorise with
`gymnasium.make_vec`. Texts have no fixed size, so `vectorization_mode="async"` needs `shared_memory=False`.
"""

from __future__ import annotations

import atexit
import copy
import string
from collections.abc import Sequence
from concurrent.futures import Future
from threading import Thread
from typing import Any, cast

import anyio
from anyio.from_thread import BlockingPortal

from envtune.data import load_tasks
from envtune.environment import Observation, ToolUseEnv
from envtune.environment.simulator import Expected, RawResult
from envtune.extras import naming_extra
from envtune.interop.mcp_server import ToolSession, from_mcp, tool_server
from envtune.rewards import execution_steps
from envtune.types import JSON, StopReason, Task, ToolCall

with naming_extra():
    import gymnasium
    from mcp import Client

ENV_ID = "envtune/MCP-v0"
MAX_ACTION, MAX_OBSERVATION = 1_000_000, 20_000_000
"""Longest texts, in characters: `chat` reads no longer message, and the guards let no longer result pass."""
SAMPLE_LENGTH = 64


class AnyText(gymnasium.Space[str]):
    """All texts up to a length, in any script. gymnasium's own `Text` wants every character listed."""

    def __init__(self, max_length: int, seed: int | None = None) -> None:
        self.max_length = max_length
        super().__init__(dtype=str, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """A text is no array."""
        return False

    def contains(self, x: object) -> bool:
        """Whether `x` is a text of at most `max_length` characters."""
        return isinstance(x, str) and len(x) <= self.max_length

    def sample(self, mask: None = None, probability: None = None) -> str:
        """A short text of printable characters."""
        letters = list(string.ascii_letters + string.digits + string.punctuation + " äßйの🙂")
        return "".join(self.np_random.choice(letters, size=self.np_random.integers(SAMPLE_LENGTH + 1)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AnyText) and self.max_length == other.max_length

    def __repr__(self) -> str:
        return f"AnyText({self.max_length})"


class LoopThread:
    """An event loop in its own thread. Blocking code calls into it through `portal`.

    anyio's `start_blocking_portal` waits for its thread when it is collected. At the end of a program that is too late:
    the thread no longer runs, so a program that forgot to close it would never exit.
    """

    def __init__(self) -> None:
        ready: Future[BlockingPortal] = Future()

        async def main() -> None:
            async with BlockingPortal() as portal:
                ready.set_result(portal)
                await portal.sleep_until_stopped()

        self._thread = Thread(target=anyio.run, args=(main,), daemon=True)
        self._thread.start()
        self.portal = ready.result()

    def close(self) -> None:
        """Stop the loop and wait for its thread."""
        self.portal.call(self.portal.stop, True)
        self._thread.join()


class MCPTools:
    """The tools of one episode behind an MCP client session (`environment.env.Tools`).

    The verdict reads the server's simulators directly. The agent's calls go through the protocol.
    """

    def __init__(self, portal: BlockingPortal, task: Task) -> None:
        self._session = session = ToolSession(task)
        self._portal = portal
        self._connection = portal.wrap_async_context_manager(Client(tool_server(task, lambda: session), mode="legacy"))
        self._client = self._connection.__enter__()

    def call(self, call: ToolCall) -> RawResult:
        """Run one call through the protocol."""
        result = from_mcp(self._portal.call(self._client.call_tool, call.name, call.arguments))
        return RawResult(result.text, result.error, result.guarded, result.unknown_tool)

    def reached(self, expected: Expected) -> bool:
        """Whether the state is the one that the ground truth leaves behind."""
        return self._session.reached(expected)

    def close(self) -> None:
        """End the session."""
        self._connection.__exit__(None, None, None)


class MCPGymEnv(gymnasium.Env[str, str]):
    """One task per episode: that of `reset(options={"task_id": ...})`, or one drawn at random.

    Args:
        tasks: the tasks to draw from. Default: `load_tasks(source, split=split)`.
        source, split: see `load_tasks`.
        max_steps_per_turn: tool steps allowed in one turn. A longer episode is truncated.
        settings: others of `ToolUseEnv`, such as `hints`.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  gymnasium's own declaration

    def __init__(
        self,
        tasks: Sequence[Task] | None = None,
        *,
        source: str = "bfcl",
        split: str = "train",
        max_steps_per_turn: int = 20,
        **settings: Any,
    ) -> None:
        self._tasks = list(load_tasks(source, split=split) if tasks is None else tasks)
        self._by_id = {task.id: task for task in self._tasks}
        self._settings = {"max_steps_per_turn": max_steps_per_turn, **settings}
        self.action_space = AnyText(MAX_ACTION)
        self.observation_space = AnyText(MAX_OBSERVATION)
        self._loop: LoopThread | None = None
        self._tools: MCPTools | None = None
        self._env: ToolUseEnv | None = None

    @property
    def env(self) -> ToolUseEnv:
        """The environment of the current episode. `env.episode` is its record.

        Raises:
            RuntimeError: no episode has begun.
        """
        if self._env is None:
            raise RuntimeError("no episode has begun. Call reset() first")
        return self._env

    def reset(self, *, seed: int | None = None, options: JSON | None = None) -> tuple[str, JSON]:
        """Begin an episode: the first user message, and `info`.

        Raises:
            ValueError: an unknown option or `task_id`.
        """
        super().reset(seed=seed)
        task = self._choose(options or {})
        if self._loop is None:
            self._loop = LoopThread()
            atexit.register(self.close)
        self._env = ToolUseEnv(task, simulators=self._open, **self._settings)
        return self._seen(self._env.reset())

    def step(self, action: str) -> tuple[str, float, bool, bool, JSON]:
        """Play one assistant message: observation, reward of this step, terminated, truncated, `info`."""
        observation, info = self._seen(self.env.step(action))
        episode = self.env.episode
        truncated = episode.stop is StopReason.STEP_LIMIT
        return observation, float(execution_steps(episode)[-1]), self.env.done and not truncated, truncated, info

    def close(self) -> None:
        """End the session and its thread. It happens at the end of the program if not before."""
        loop, self._loop = self._loop, None
        if loop is not None:
            atexit.unregister(self.close)
            self._end_session()
            loop.close()

    def _choose(self, options: JSON) -> Task:
        if unknown := options.keys() - {"task_id"}:
            raise ValueError(f"unknown option {sorted(unknown)[0]!r}. Known: 'task_id'")
        if "task_id" not in options:
            return self._tasks[int(self.np_random.integers(len(self._tasks)))]
        if options["task_id"] not in self._by_id:
            raise ValueError(f"unknown task {options['task_id']!r}. This environment has {len(self._tasks)} tasks")
        return self._by_id[options["task_id"]]

    def _open(self, task: Task) -> MCPTools:
        self._end_session()
        assert self._loop is not None
        self._tools = MCPTools(self._loop.portal, task)
        return self._tools

    def _end_session(self) -> None:
        if self._tools is not None:
            self._tools.close()
            self._tools = None

    def _seen(self, observation: Observation) -> tuple[str, JSON]:
        """The observation as a text, and `info`."""
        episode = self.env.episode
        steps = episode.steps
        step = steps[-1] if steps else None
        info = {
            "task_id": episode.task_id,
            "turn": self.env.turn,
            "success": episode.success,
            "calls": step.calls if step else (),
            "results": step.results if step else (),
            "messages": observation.messages,
            "tools": observation.tools,
        }
        info = copy.deepcopy(info)  # the caller may keep and change it
        return "\n".join(str(message["content"]) for message in observation.messages), cast(JSON, info)


gymnasium.register(ENV_ID, entry_point="envtune.interop.gym_env:MCPGymEnv")
