"""How a command names an agent and the tasks it plays."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Agent = Annotated[
    str,
    typer.Argument(
        help="The agent: a parameter file (the policy of its run), tiny, a folder, a hub name, http://HOST/v1, "
        "oracle, silent, noisy, noisy:LEVEL."
    ),
]
Split = Annotated[str, typer.Option(help="all, train, val, test or heldout.")]
Categories = Annotated[list[str] | None, typer.Option(help="Only this category. Can be repeated.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Number of tasks, spread evenly.")]
Model = Annotated[str | None, typer.Option(help="Server: the model's name there.")]
Tokenizer = Annotated[
    str | None, typer.Option(help="Server: render the chat template here, with this folder or hub name.")
]
Concurrency = Annotated[int | None, typer.Option(min=1, help="Server: requests at once.")]
KeyVariable = Annotated[
    str | None, typer.Option(help="Server: environment variable with the key (default: ENVTUNE_API_KEY).")
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Episodes in flight (default: 32; server: 2 x --concurrency).")
]


def server_options(
    model: str | None, tokenizer: str | None, concurrency: int | None, key_variable: str | None
) -> dict[str, Any]:
    """The options of a server that were given, for `load_policy`."""
    options = {"model": model, "tokenizer": tokenizer, "concurrency": concurrency, "key_variable": key_variable}
    return {name: value for name, value in options.items() if value is not None}


def episodes_in_flight(concurrency: int | None) -> int:
    """How many episodes are played at once, unless the user says so."""
    return 2 * concurrency if concurrency else 32


def named_by(params: str) -> tuple[str, Path, list[str]]:
    """The policy that a parameter file names, the folder of its run, and what files about it are named after."""
    from envtune.workbook import trained

    policy, run_dir = trained.named_by(Path(params))
    typer.echo(f"policy {policy}")
    name = Path(policy).parent.name if Path(policy).name == "policy" else Path(policy).name
    if not Path(policy).is_dir():
        return policy, run_dir, [name]
    from envtune.policy.checkpoint import fingerprint

    return policy, run_dir, [name, fingerprint(Path(policy))[:8]]
