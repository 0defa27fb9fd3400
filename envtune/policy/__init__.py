"""Agents: scripted ones and language models, here or behind a server. `load_policy` makes them all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from envtune.extras import naming_extra
from envtune.policy.base import Chat, Policy
from envtune.policy.checkpoint import TINY, folder_here, local_folder
from envtune.policy.noise import Noise, perturb
from envtune.policy.scripted import NoisyOracle, Oracle, Silent

__all__ = ["Chat", "Noise", "NoisyOracle", "Oracle", "Policy", "Silent", "load_policy", "perturb", "set_threads"]

SERVER = ("http://", "https://")
"""Beginnings of a server's address."""
MESSAGE_TOKENS = 1024
"""Longest message of a language model whose generation config does not say."""


@naming_extra()
def load_policy(
    spec: str | Path, seed: int = 0, *, name: str | None = None, temperature: float | None = 0.0, **endpoint: Any
) -> Policy:
    """The agent that `spec` names.

    Args:
        spec: one of: `"tiny"`, the shipped language model. The folder of a checkpoint, such as
            `"results/tiny/05_stage2_training/policy"`, or of a PEFT adapter, whose base is a folder or on the hub. A
            model on the hub, such as `"Qwen/Qwen3-4B"`. The address of an OpenAI-compatible server, such as
            `"http://localhost:8000/v1"`. A scripted agent: `"oracle"`, `"silent"`, `"noisy"`, or `"noisy:LEVEL"` with
            the share of disturbed calls.
        seed: of the agent's own randomness, if it has any.
        name: a language model's name in tables and files. Default: after its folder.
        temperature: of a language model's sampling. 0 is greedy. None: the server's own, for a server only.
        endpoint: of a server only: `model` and more, see `policy.endpoint.Endpoint`.

    Raises:
        ValueError: unknown agent, `endpoint` options without a server, a level that is not a number from 0 to 1, or a
            checkpoint that is missing or damaged (`policy.checkpoint.CheckpointError`, which names the file).
        MissingExtraError: a language model here, without the extra `train`.
    """
    spec = str(spec)
    if spec.startswith(SERVER):
        from envtune.policy.endpoint import Endpoint

        return Endpoint(spec, seed=seed, temperature=temperature, **endpoint)
    if endpoint:
        raise ValueError(f"{', '.join(endpoint)}: for a server only, such as http://localhost:8000/v1, got {spec!r}")
    if temperature is None:
        raise ValueError(f"no temperature: for a server only, such as http://localhost:8000/v1, got {spec!r}")
    if spec == "oracle":
        return Oracle()
    if spec == "silent":
        return Silent()
    if spec == "noisy":
        return NoisyOracle(Noise(), seed)
    if spec.startswith("noisy:"):
        return NoisyOracle(Noise.level(_level(spec, spec.removeprefix("noisy:"))), seed)
    if spec == TINY or "/" in spec or local_folder(spec):
        return _language_policy(spec, seed, name, temperature)
    raise ValueError(
        f"unknown policy {spec!r}. Known: 'oracle', 'silent', 'noisy', 'noisy:LEVEL' (such as 'noisy:0.3'), 'tiny', "
        "the folder of a checkpoint, a hub name such as 'Qwen/Qwen3-4B', or a server such as 'http://localhost:8000/v1'"
    )


def check_policy(spec: str) -> None:
    """Refuse a `spec` that `load_policy(spec)` would refuse whatever the weights are. Loads and downloads none.

    Raises:
        ValueError: unknown agent, a server, or a checkpoint that is neither a folder nor a hub name.
    """
    if not spec.startswith(SERVER) and (spec == TINY or "/" in spec or local_folder(spec)):
        folder_here(spec)
    else:  # a scripted agent, or a server without the name of its model
        load_policy(spec)


def _language_policy(spec: str, seed: int, name: str | None, temperature: float) -> Policy:
    """torch and transformers are imported here, so that scripted agents do not wait for them."""
    from envtune.policy.checkpoint import load_checkpoint
    from envtune.policy.language import LanguagePolicy

    model, tokenizer, identity = load_checkpoint(spec)
    longest = model.generation_config.max_new_tokens if model.generation_config else None
    folder = Path(spec)
    name = name or (folder.parent.name if folder.name == "policy" else folder.name)
    return LanguagePolicy(
        model,
        tokenizer,
        name=name,
        temperature=temperature,
        message_tokens=longest or MESSAGE_TOKENS,
        seed=seed,
        identity=identity,
    )


def set_threads(n: int | None) -> None:
    """Let torch use `n` threads on the CPU, or with None as many as it likes. A tiny model is quickest with one."""
    if n is not None:
        import torch

        torch.set_num_threads(n)


def _level(spec: str, level: str) -> float:
    try:
        return float(level)
    except ValueError:
        raise ValueError(f"policy {spec!r}: {level!r} is not a number. Write for example 'noisy:0.3'") from None
