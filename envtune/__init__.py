"""envtune: teach a language model to use tools over several turns by tuning the environment it explores.

    tasks = envtune.load_tasks("bfcl", split="train")
    env = envtune.ToolUseEnv(tasks[0])
    observation = env.reset()
    observation = env.step("<assistant text>")
    envtune.rewards.progress(env.episode)

The rooms are named after the notebooks: `data`, `environment`, `rewards`, `policy`, `training`, `evaluation`,
`workbook`.
"""

from typing import TYPE_CHECKING, Any

import envtune.system  # noqa: F401  it comes first, because it prepares the process
from envtune import display, rewards
from envtune.data import load_tasks
from envtune.environment import PROTOCOLS, Rules, ToolUseEnv, replay
from envtune.policy import load_policy
from envtune.types import Episode, Task, ToolCall, ToolResult

if TYPE_CHECKING:
    from envtune.evaluation import evaluate

__version__ = "0.1.0"
__all__ = [
    "PROTOCOLS",
    "Episode",
    "Rules",
    "Task",
    "ToolCall",
    "ToolResult",
    "ToolUseEnv",
    "display",
    "evaluate",
    "load_policy",
    "load_tasks",
    "replay",
    "rewards",
]


def __getattr__(name: str) -> Any:
    """`evaluate` brings pandas and scipy along, so it is imported when first asked for."""
    if name == "evaluate":
        from envtune.evaluation import evaluate

        return evaluate
    raise AttributeError(f"module 'envtune' has no attribute {name!r}")
