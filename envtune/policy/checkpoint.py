"""Checkpoints: a folder as transformers writes it, the name of a model on the hub, or `tiny`, which is shipped.

In: one of these. Out: model, tokenizer and what identifies them. A hub name is downloaded to the cache and then is a
folder like any other. Files are checked before transformers reads them, so that an error names the file, and weights
that lack a parameter are refused: transformers would fill it with random numbers and warn.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envtune.policy.tiny import WEIGHTS
from envtune.types import JSON

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TINY = "tiny"
REQUIRED = ("config.json", "tokenizer.json", "tokenizer_config.json")
PATTERNS = ("*.json", "*.safetensors", "*.jinja", "*.txt")
"""What is downloaded from the hub."""


class CheckpointError(ValueError):
    """A checkpoint that is missing, incomplete or damaged; the message is one line and names the file."""


def folder_of(spec: str) -> Path:
    """The folder that holds `spec`, downloaded if it is the name of a model on the hub.

    Raises:
        CheckpointError: there is no such folder or model.
    """
    if spec == TINY:
        return WEIGHTS
    if Path(spec).is_dir():
        return Path(spec)
    if spec.count("/") != 1 or spec.startswith((".", "/")) or spec.endswith("/"):
        raise CheckpointError(
            f"there is no checkpoint {spec!r}: neither a folder nor a hub name such as 'Qwen/Qwen3-4B'"
        )
    return Path(_download(spec))


def load_checkpoint(spec: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, JSON]:
    """Model (in evaluation mode, on the GPU if there is one), tokenizer, and identity.

    Raises:
        CheckpointError: as in `folder_of`, or a file is missing or damaged.
    """
    folder = folder_of(spec)
    weights = _check_files(folder)
    tokenizer = load_tokenizer(str(folder))
    name = folder.name if folder == Path(spec) else spec  # where it lies does not matter, the hash does
    return _load_model(folder), tokenizer, {"checkpoint": name, "sha256": _digest(weights)}


def load_tokenizer(spec: str) -> PreTrainedTokenizerBase:
    """The tokenizer alone, of what `load_checkpoint` takes; no weights are needed or downloaded.

    Raises:
        CheckpointError: it is missing or cannot be read.
    """
    from transformers import AutoTokenizer

    source = WEIGHTS if spec == TINY else Path(spec) if Path(spec).is_dir() else spec
    where = source / "tokenizer.json" if isinstance(source, Path) else f"the tokenizer of {spec!r}"
    try:
        return AutoTokenizer.from_pretrained(source)
    except Exception as error:  # noqa: BLE001  the tokenizers library raises bare exceptions
        raise CheckpointError(f"{where} cannot be read: {_first_line(error)}") from None


def fingerprint(folder: Path) -> str:
    """What `load_checkpoint` says of these weights under `sha256`.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    return _digest(_check_files(folder))


def _download(spec: str) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return str(snapshot_download(spec, allow_patterns=list(PATTERNS)))
    except (OSError, HfHubHTTPError, HFValidationError, ValueError) as error:
        raise CheckpointError(
            f"the model {spec!r} cannot be had from the Hugging Face hub ({type(error).__name__}): check the name and "
            "the connection, or give a local folder"
        ) from None


def _check_files(folder: Path) -> list[Path]:
    """The files with weights."""
    from safetensors import SafetensorError, safe_open

    for name in REQUIRED:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} is missing: not a complete checkpoint")
    for path in sorted(folder.glob("*.json")):
        try:
            json.loads(path.read_bytes())
        except ValueError as error:
            raise CheckpointError(f"{path} is damaged: {_first_line(error)}") from None
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise CheckpointError(f"{folder / 'model.safetensors'} is missing: not a complete checkpoint")
    for path in weights:
        try:
            with safe_open(path, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is damaged: {_first_line(error)}") from None
    return weights


def _load_model(folder: Path) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM

    gpu = torch.cuda.is_available()
    kind: Any = AutoModelForCausalLM
    try:
        model, info = kind.from_pretrained(
            folder, dtype="auto" if gpu else torch.float32, attn_implementation="sdpa", output_loading_info=True
        )
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise CheckpointError(f"{folder} does not hold a causal language model: {_first_line(error)}") from None
    if missing := sorted(info["missing_keys"]):
        raise CheckpointError(f"the weights in {folder} lack {len(missing)} parameters, such as {missing[0]}")
    return model.eval().to("cuda" if gpu else "cpu")


def _digest(weights: list[Path]) -> str:
    """First 16 digits of the SHA-256 of all weights."""
    digest = hashlib.sha256()
    for path in weights:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()[:16]


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
