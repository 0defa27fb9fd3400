"""Chapter 2: the environment. `ToolUseEnv` plays one task; `replay` plays given calls."""

from envtune.environment.env import Observation, ToolUseEnv, replay
from envtune.environment.hints import Hint, Strength, hint

__all__ = ["Hint", "Observation", "Strength", "ToolUseEnv", "hint", "replay"]
