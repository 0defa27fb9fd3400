"""Who acts: scripted agents and, in later rooms, language models. `load_policy` is the one way in."""

from __future__ import annotations

from envtune.policy.base import Chat, Policy
from envtune.policy.noise import Noise, perturb
from envtune.policy.scripted import NoisyOracle, Oracle, Silent

__all__ = ["Chat", "Noise", "NoisyOracle", "Oracle", "Policy", "Silent", "load_policy", "perturb"]


def load_policy(spec: str, seed: int = 0) -> Policy:
    """The agent that `spec` names.

    Args:
        spec: `"oracle"`, `"silent"`, `"noisy"`, or `"noisy:LEVEL"` with the share of disturbed calls, such as
            `"noisy:0.3"`.
        seed: of the agent's own randomness, if it has any.

    Raises:
        ValueError: unknown agent, or a level that is not a number from 0 to 1.
    """
    if spec == "oracle":
        return Oracle()
    if spec == "silent":
        return Silent()
    if spec == "noisy":
        return NoisyOracle(Noise(), seed)
    if spec.startswith("noisy:"):
        return NoisyOracle(Noise.level(_level(spec, spec.removeprefix("noisy:"))), seed)
    raise ValueError(
        f"unknown policy {spec!r}; known: 'oracle', 'silent', 'noisy', 'noisy:LEVEL' (such as 'noisy:0.3')"
    )


def _level(spec: str, level: str) -> float:
    try:
        return float(level)
    except ValueError:
        raise ValueError(f"policy {spec!r}: {level!r} is not a number; write for example 'noisy:0.3'") from None
