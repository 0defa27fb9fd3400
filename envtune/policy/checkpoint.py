"""Checkpoints: a folder as transformers or PEFT writes it, a model's name on the hub, or `tiny`, which is shipped.

In: one of these. Out: model, tokenizer and what identifies them. A hub name is downloaded to the cache, which gives a
folder like any other. An adapter is merged in float32 into the base that its `adapter_config.json` names. Files are
checked before they are loaded, so that an error names the file. Weights that lack a parameter are refused, because the
libraries would fill it with random numbers and only warn.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envtune.policy.tiny import WEIGHTS
from envtune.types import JSON

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TINY = "tiny"
MODEL, TOKENIZER = ("config.json",), ("tokenizer.json", "tokenizer_config.json")
ADAPTER = "adapter_config.json"
"""The file that marks a folder as an adapter."""
PATTERNS = ("*.json", "*.safetensors", "*.jinja", "*.txt")
"""Patterns of the files that are downloaded from the hub."""


class CheckpointError(ValueError):
    """A checkpoint that is missing, incomplete or damaged. The message is one line and names the file."""


@dataclass(frozen=True)
class _Files:
    """Checked files of a checkpoint."""

    model: Path
    """Folder of the model, or of the base of an adapter."""
    tokenizer: Path
    weights: tuple[Path, ...]
    adapter: Path | None = None
    base: str | None = None
    """The base as an adapter names it."""
    config: JSON | None = None
    """An adapter's settings, without the name of its base."""

    @property
    def digest(self) -> str:
        """First 16 digits of the SHA-256 of all weights, and of an adapter's settings."""
        digest = hashlib.sha256()
        for path in self.weights:
            with path.open("rb") as file:
                while block := file.read(1 << 22):
                    digest.update(block)
        if self.config is not None:
            digest.update(json.dumps(self.config, sort_keys=True).encode())
        return digest.hexdigest()[:16]


def local_folder(spec: str) -> Path | None:
    """The folder of that name, here or in a folder above. None: there is none, or `tiny` or a hub name is meant."""
    if spec == TINY:  # also if there is a run of that name
        return None
    here = Path.cwd()
    return next((folder / spec for folder in (here, *here.parents) if (folder / spec).is_dir()), None)


def folder_of(spec: str, revision: str | None = None) -> Path:
    """The folder that holds `spec`, downloaded if it is the name of a model on the hub, at `revision` there.

    Raises:
        CheckpointError: there is no such folder or model.
    """
    return folder_here(spec) or Path(_download(spec, revision))


def folder_here(spec: str) -> Path | None:
    """The folder that holds `spec` on this computer. None: it is a hub name.

    Raises:
        CheckpointError: it is neither a folder with a model nor the form of a hub name.
    """
    folder = WEIGHTS if spec == TINY else local_folder(spec)
    if folder is None and (spec.count("/") != 1 or spec.startswith((".", "/")) or spec.endswith("/")):
        raise CheckpointError(
            f"there is no checkpoint {spec!r}: neither a folder nor a hub name such as 'Qwen/Qwen3-4B'"
        )
    if folder and not any((folder / name).is_file() for name in (*MODEL, ADAPTER)):
        raise CheckpointError(f"{folder / MODEL[0]} is missing: not a complete checkpoint")
    return folder


def load_checkpoint(spec: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, JSON]:
    """Model (in evaluation mode, bfloat16 on the GPU if there is one, else float32), tokenizer, and identity.

    Raises:
        CheckpointError: as in `folder_of`, a file is missing or damaged, or an adapter does not fit its base.
    """
    folder = folder_of(spec)
    files = _check(folder)
    tokenizer = load_tokenizer(str(files.tokenizer))
    identity = {"checkpoint": _name(spec, folder), "sha256": files.digest}
    if files.base is not None:
        identity["base"] = _name(files.base, files.model)
    return _load(files), tokenizer, identity


def load_tokenizer(spec: str) -> PreTrainedTokenizerBase:
    """The tokenizer alone, from the same `spec` as `load_checkpoint`. No weights are needed or downloaded.

    Raises:
        CheckpointError: it is missing or cannot be read.
    """
    from transformers import AutoTokenizer

    source = WEIGHTS if spec == TINY else local_folder(spec) or spec
    where = source / "tokenizer.json" if isinstance(source, Path) else f"the tokenizer of {spec!r}"
    try:
        return AutoTokenizer.from_pretrained(source)
    except Exception as error:  # noqa: BLE001  the tokenizers library raises bare exceptions
        raise CheckpointError(f"{where} cannot be read: {_first_line(error)}") from None


def fingerprint(folder: Path) -> str:
    """The identity of these weights that `load_checkpoint` gives under `sha256`.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    return _check(folder).digest


def placement() -> tuple[str, torch.dtype]:
    """Device and number format of a policy: the GPU in bfloat16 if there is one, else the CPU in float32."""
    import torch

    return ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)


def _name(spec: str, folder: Path) -> str:
    """The place of a folder does not matter, its hash does."""
    return folder.name if folder == local_folder(spec) else spec


def _download(spec: str, revision: str | None) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return str(snapshot_download(spec, revision=revision, allow_patterns=list(PATTERNS)))
    except (OSError, HfHubHTTPError, HFValidationError, ValueError) as error:
        raise CheckpointError(
            f"the model {spec!r} cannot be loaded from the Hugging Face hub ({type(error).__name__}). Check the name "
            "and the connection, or give a local folder"
        ) from None


def _check(folder: Path) -> _Files:
    if not (folder / ADAPTER).is_file():
        _check_json(folder, (*MODEL, *TOKENIZER))
        return _Files(folder, folder, _weights(folder, "model.safetensors"))
    _check_json(folder, ())
    weights = _weights(folder, "adapter_model.safetensors")
    config = _read_json(folder / ADAPTER)
    base, revision = (config.pop(key, None) for key in ("base_model_name_or_path", "revision"))
    if not base or not isinstance(base, str):
        raise CheckpointError(f"{folder / ADAPTER} names no base model. Set base_model_name_or_path there")
    try:
        model = folder_of(base, revision)
        tokenizer = folder if all((folder / name).is_file() for name in TOKENIZER) else model
        _check_json(model, MODEL)
        _check_json(tokenizer, TOKENIZER)
        if "quantization_config" in _read_json(model / MODEL[0]):
            raise CheckpointError(f"{base!r} is quantised, and an adapter is merged in full precision")
        weights = (*_weights(model, "model.safetensors"), *weights)
    except CheckpointError as error:
        raise CheckpointError(
            f"the base model of the adapter {folder}: {error}. Correct base_model_name_or_path in {ADAPTER}"
        ) from None
    return _Files(model, tokenizer, weights, folder, base, config)


def _check_json(folder: Path, required: tuple[str, ...]) -> None:
    for name in required:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} is missing: not a complete checkpoint")
    for path in sorted(folder.glob("*.json")):
        _read_json(path)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {_first_line(error)}") from None


def _weights(folder: Path, name: str) -> tuple[Path, ...]:
    """The files with weights. If there is only one, it is called `name`."""
    from safetensors import SafetensorError, safe_open

    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise CheckpointError(f"{folder / name} is missing: not a complete checkpoint")
    for path in weights:
        try:
            with safe_open(path, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is damaged: {_first_line(error)}") from None
    return tuple(weights)


def _load(files: _Files) -> PreTrainedModel:
    import torch

    device, dtype = placement()
    if files.adapter:
        return _merge(_load_model(files.model, torch.float32), files.adapter).eval().to(device, dtype)
    return _load_model(files.model, dtype).eval().to(device)


def _load_model(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    kind: Any = AutoModelForCausalLM
    try:
        model, info = kind.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa", output_loading_info=True)
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise CheckpointError(f"{folder} does not contain a causal language model: {_first_line(error)}") from None
    if missing := sorted(info["missing_keys"]):
        raise CheckpointError(f"the weights in {folder} lack {len(missing)} parameters, such as {missing[0]}")
    return model


def _merge(model: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """The base with the adapter merged in."""
    from peft import PeftConfig, get_peft_model

    try:
        config = PeftConfig.from_pretrained(str(adapter))
        whole: Any = get_peft_model(model, config)
        found = whole.load_adapter(str(adapter), "default")
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise CheckpointError(f"the adapter {adapter} does not fit its base model: {_first_line(error)}") from None
    if not hasattr(whole, "merge_and_unload"):
        raise CheckpointError(
            f"the adapter {adapter} is of type {config.peft_type.value}, which cannot be merged. Use a LoRA adapter"
        )
    for what, names in (("lacks", found.missing_keys), ("has, unlike its base,", found.unexpected_keys)):
        if names:
            raise CheckpointError(f"the adapter {adapter} {what} {len(names)} parameters, such as {sorted(names)[0]}")
    return whole.merge_and_unload()


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
