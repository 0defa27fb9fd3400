"""The optional packages, and the extra that installs each.

The light core needs none of them. `naming_extra` turns a failed import into one line that names the extra. `require`
checks a whole extra before anything starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

TRAIN = (
    "accelerate",
    "datasets",
    "huggingface_hub",
    "jinja2",
    "nbformat",
    "peft",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
    "yaml",
)
MODULES = {
    "train": TRAIN,
    "workbook": (
        "IPython",
        "bleach",
        "bs4",
        "cycler",
        "ipykernel",
        "ipywidgets",
        "jupyter_client",
        "jupyterlab",
        "markupsafe",
        "matplotlib",
        "nbclient",
        "nbconvert",
        "papermill",
        "pygments",
        "seaborn",
        "trackio",
        *TRAIN,
    ),
    "interop": ("gymnasium", "mcp", "mcp_types", "starlette", "uvicorn"),
    "gpu": ("bitsandbytes", "vllm"),
    "zero": ("deepspeed",),
}
"""Extra -> top-level modules that it installs. A module of two extras belongs to the first."""
PURPOSE = {
    "train": "training and local language models",
    "workbook": "the notebook series and its reports",
    "interop": "MCP and gymnasium",
    "gpu": "vLLM and bitsandbytes",
    "zero": "ZeRO-3",
}


class MissingExtraError(ModuleNotFoundError):
    """A package of an extra is missing. The message is one line with the command that installs it."""


def extra_of(module: str) -> str | None:
    """The extra that installs a module, such as `torch` or `torch.nn`."""
    top = module.partition(".")[0]
    return next((extra for extra, modules in MODULES.items() if top in modules), None)


def install_command(module: str) -> str:
    """The command that installs a module."""
    extra = extra_of(module)
    return f"pip install 'envtune[{extra}]'" if extra else f"pip install {module.partition('.')[0]}"


def missing(extra: str) -> list[str]:
    """The modules of an extra that are not installed."""
    return [module for module in MODULES[extra] if find_spec(module) is None]


def require(extra: str) -> None:
    """Check that all of an extra is installed.

    Raises:
        MissingExtraError: it is not.
    """
    if absent := missing(extra):
        raise _error(extra, absent[0])


@contextmanager
def naming_extra() -> Iterator[None]:
    """Around imports, or as a decorator: a missing package of an extra becomes a `MissingExtraError`."""
    try:
        yield
    except MissingExtraError:
        raise
    except ModuleNotFoundError as error:
        extra = extra_of(error.name or "")
        if extra is None:
            raise
        raise _error(extra, error.name or "") from error


def _error(extra: str, module: str) -> MissingExtraError:
    return MissingExtraError(
        f"{PURPOSE[extra]} need the extra {extra!r}: pip install 'envtune[{extra}]' (no module {module!r})", name=module
    )
