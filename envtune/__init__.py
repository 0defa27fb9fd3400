"""envtune: teach a language model to use tools over several turns by tuning the environment it explores.

    tasks = envtune.load_tasks("bfcl", split="train")
    env = envtune.ToolUseEnv(tasks[0])
    observation = env.reset()
    observation = env.step("<assistant text>")
    envtune.rewards.progress(env.episode)

The rooms are named after the notebooks: `data`, `environment`, `rewards`, `policy`, `training`, `evaluation`,
`workbook`.
"""

from envtune import display, rewards
from envtune.data import load_tasks
from envtune.environment import ToolUseEnv, replay
from envtune.types import Episode, Task, ToolCall, ToolResult

__version__ = "0.1.0"
__all__ = ["Episode", "Task", "ToolCall", "ToolResult", "ToolUseEnv", "display", "load_tasks", "replay", "rewards"]
