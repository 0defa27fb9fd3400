"""Who acts: scripted agents and language models. `load_policy` is the one way in."""

from __future__ import annotations

from pathlib import Path

from envtune.policy.base import Chat, Policy
from envtune.policy.noise import Noise, perturb
from envtune.policy.scripted import NoisyOracle, Oracle, Silent

__all__ = ["Chat", "Noise", "NoisyOracle", "Oracle", "Policy", "Silent", "load_policy", "perturb"]

MESSAGE_TOKENS = 1024
"""Longest message of a language model whose generation config does not say."""


def load_policy(spec: str | Path, seed: int = 0, *, temperature: float = 0.0) -> Policy:
    """The agent that `spec` names.

    Args:
        spec: `"tiny"`, the shipped language model; the folder of a checkpoint, such as
            `"results/tiny/05_stage2_training/policy"`; the name of a model on the hub, such as `"Qwen/Qwen3-4B"`; or a
            scripted agent: `"oracle"`, `"silent"`, `"noisy"`, or `"noisy:LEVEL"` with the share of disturbed calls.
        seed: of the agent's own randomness, if it has any.
        temperature: at which a language model samples its answers; 0: greedy.

    Raises:
        ValueError: unknown agent, a level that is not a number from 0 to 1, or a checkpoint that is missing or damaged
            (`policy.checkpoint.CheckpointError`, which names the file).
    """
    spec = str(spec)
    if spec == "oracle":
        return Oracle()
    if spec == "silent":
        return Silent()
    if spec == "noisy":
        return NoisyOracle(Noise(), seed)
    if spec.startswith("noisy:"):
        return NoisyOracle(Noise.level(_level(spec, spec.removeprefix("noisy:"))), seed)
    if spec == "tiny" or "/" in spec or Path(spec).is_dir():
        return _language_policy(spec, seed, temperature)
    raise ValueError(
        f"unknown policy {spec!r}; known: 'oracle', 'silent', 'noisy', 'noisy:LEVEL' (such as 'noisy:0.3'), 'tiny', "
        "the folder of a checkpoint, or a hub name such as 'Qwen/Qwen3-4B'"
    )


def _language_policy(spec: str, seed: int, temperature: float) -> Policy:
    """torch and transformers are imported here, so that scripted agents do not wait for them."""
    from envtune.policy.checkpoint import load_checkpoint
    from envtune.policy.language import LanguagePolicy

    model, tokenizer, identity = load_checkpoint(spec)
    longest = model.generation_config.max_new_tokens if model.generation_config else None
    folder = Path(spec)
    name = folder.parent.name if folder.name == "policy" else folder.name
    return LanguagePolicy(
        model,
        tokenizer,
        name=name,
        temperature=temperature,
        message_tokens=longest or MESSAGE_TOKENS,
        seed=seed,
        identity=identity,
    )


def _level(spec: str, level: str) -> float:
    try:
        return float(level)
    except ValueError:
        raise ValueError(f"policy {spec!r}: {level!r} is not a number; write for example 'noisy:0.3'") from None
