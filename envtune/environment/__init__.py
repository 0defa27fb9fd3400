"""Chapter 2: the environment. `ToolUseEnv` plays one task, `replay` plays given calls."""

from envtune.environment.env import Observation, ToolUseEnv, replay
from envtune.environment.hints import Hint, Strength, hint
from envtune.environment.rules import PROTOCOLS, Rules

__all__ = ["PROTOCOLS", "Hint", "Observation", "Rules", "Strength", "ToolUseEnv", "hint", "replay"]
