"""Tool use over MCP as a gymnasium environment: `gymnasium.make("envtune/MCP-v0")` once this module is imported.

In: the agent's message, a text as `chat` reads it. Out: the next text that the agent reads, a reward, and whether the
episode has ended. The turn loop and the verdict are those of `ToolUseEnv`. Its calls go through an MCP client session
to the environment's own server, one session per episode, so the agent's texts have passed through the protocol. The
same task and actions give the same results and verdict as without MCP (tested).

The reward `execution` comes step by step (qwen-tool's five rows, `rewards.ExecutionReward`). Every other one of
`rewards.REWARDS` comes with the last step, and earlier steps give 0. The rewards of an episode sum to `REWARDS[name]`.

`info` holds `task_id`, `turn` (0-based), `success`, `calls` and `results` of the step, and, for a policy with a chat
template, `messages` (the observation as chat messages) and `tools` (schemas now available). Vectorise with
`gymnasium.make_vec`. Texts have no fixed size, so `vectorization_mode="async"` needs `shared_memory=False`.
"""

from __future__ import annotations

import copy
import string
from collections.abc import Sequence
from typing import Any, cast

from envtune.data import load_tasks
from envtune.environment import Observation, ToolUseEnv
from envtune.environment.rules import Rules, rules_of
from envtune.extras import naming_extra
from envtune.interop.mcp_tools import MCPTools
from envtune.rewards import REWARDS, execution_steps
from envtune.types import JSON, Message, StopReason, Task

with naming_extra():
    import gymnasium

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


class MCPGymEnv(gymnasium.Env[str, str]):
    """One task per episode: that of `reset(options={"task_id": ...})`, or one drawn at random.

    Args:
        tasks: the tasks to draw from. Default: `load_tasks(source, split=split)`.
        source, split: see `load_tasks`.
        reward: a name of `rewards.REWARDS`.
        rules, seed, changes: as in `ToolUseEnv`, such as `hints=True`. A longer episode than the rules allow is
            truncated.
        render_mode: "ansi", the conversation so far as text, or None.

    Raises:
        ValueError: no tasks, an unknown source, split, reward or render mode, or a rule out of its range.
        TypeError: there is no such rule.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012  gymnasium's own declaration

    def __init__(
        self,
        tasks: Sequence[Task] | None = None,
        *,
        source: str = "bfcl",
        split: str = "train",
        reward: str = "execution",
        rules: Rules | str | None = None,
        seed: int = 0,
        render_mode: str | None = None,
        **changes: Any,
    ) -> None:
        if reward not in REWARDS:
            raise ValueError(f"unknown reward {reward!r}. Known: {', '.join(REWARDS)}")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"unknown render mode {render_mode!r}. Known: 'ansi', the conversation as text")
        self._tasks = list(load_tasks(source, split=split) if tasks is None else tasks)
        if not self._tasks:
            raise ValueError("there are no tasks to draw from. Give at least one")
        self._by_id = {task.id: task for task in self._tasks}
        self._reward = reward
        self._rules = rules_of(rules, **changes)
        self._seed = seed
        self.render_mode = render_mode
        self.action_space = AnyText(MAX_ACTION)
        self.observation_space = AnyText(MAX_OBSERVATION)
        self._tools: list[MCPTools] = []
        self._env: ToolUseEnv | None = None
        self._messages: list[Message] = []

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
        self.close()
        self._tools = tools = []

        def simulators(task: Task) -> MCPTools:  # must not hold `self`, which then only the cycle collector could free
            tools.append(MCPTools(task))
            return tools[-1]

        self._env = ToolUseEnv(task, self._rules, seed=self._seed, simulators=simulators)
        self._messages = []
        return self._seen(self._env.reset())

    def step(self, action: str) -> tuple[str, float, bool, bool, JSON]:
        """Play one assistant message: observation, reward, terminated, truncated, `info`."""
        after = self.env.step(action)
        self._messages.append({"role": "assistant", "content": action})
        observation, info = self._seen(after)
        truncated = self.env.episode.stop is StopReason.STEP_LIMIT
        return observation, self._earned(), self.env.done and not truncated, truncated, info

    def render(self) -> str | None:
        """The conversation so far as text. None without `render_mode="ansi"`."""
        if self.render_mode is None:
            return None
        return "\n".join(f"{message['role']}: {message['content']}" for message in self._messages)

    def close(self) -> None:
        """End the session. It ends as well when nothing refers to the environment."""
        for tools in self._tools:
            tools.close()

    def _earned(self) -> float:
        """The reward of the last step."""
        episode = self.env.episode
        if self._reward == "execution":
            return float(execution_steps(episode)[-1])
        return float(REWARDS[self._reward](episode)) if self.env.done else 0.0

    def _choose(self, options: JSON) -> Task:
        if unknown := options.keys() - {"task_id"}:
            raise ValueError(f"unknown option {sorted(unknown)[0]!r}. Known: 'task_id'")
        if "task_id" not in options:
            return self._tasks[int(self.np_random.integers(len(self._tasks)))]
        if options["task_id"] not in self._by_id:
            raise ValueError(f"unknown task {options['task_id']!r}. This environment has {len(self._tasks)} tasks")
        return self._by_id[options["task_id"]]

    def _seen(self, observation: Observation) -> tuple[str, JSON]:
        """The observation as a text, and `info`. Adds to what `render` shows."""
        self._messages.extend(observation.messages)
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
