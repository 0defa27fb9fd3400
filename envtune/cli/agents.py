"""How a command names an agent and the tasks it plays."""

from __future__ import annotations

import json
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
MessageTokens = Annotated[int | None, typer.Option(min=1, help="Server: longest message in tokens (default: 4096).")]
Body = Annotated[
    str | None,
    typer.Option(metavar="JSON", help="Server: more fields of each request. null as a value leaves a field out."),
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Episodes in flight (default: 32; server: 2 x --concurrency).")
]


def server_options(
    model: str | None,
    tokenizer: str | None,
    concurrency: int | None,
    key_variable: str | None,
    message_tokens: int | None,
    body: str | None,
) -> dict[str, Any]:
    """The options of a server that were given, for `load_policy`."""
    options = {
        "model": model,
        "tokenizer": tokenizer,
        "concurrency": concurrency,
        "key_variable": key_variable,
        "message_tokens": message_tokens,
        "body": _fields(body),
    }
    return {name: value for name, value in options.items() if value is not None}


def degrees(temperature: str) -> float | None:
    """A temperature, or None for the server's own."""
    if temperature == "none":
        return None
    try:
        found = float(temperature)
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise typer.BadParameter(f"--temperature must be a number from 0 up, or none, got {temperature!r}")
    return found


def _fields(body: str | None) -> dict[str, Any] | None:
    """The fields that `--body` holds."""
    try:
        fields = json.loads(body) if body else None
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"--body is not JSON ({error}), got {body!r:.80}") from None
    if not isinstance(fields, dict | None):
        raise typer.BadParameter(f"--body must be a JSON object, such as '{{\"top_k\": null}}', got {body!r:.80}")
    return fields


def episodes_in_flight(concurrency: int | None) -> int:
    """How many episodes are played at once, unless the user says so."""
    return 2 * concurrency if concurrency else 32


def named_by(params: str) -> tuple[str, Path, list[str]]:
    """The policy that a parameter file names, the folder of its run, and the parts of names for files about it."""
    from envtune.workbook import trained

    policy, run_dir = trained.named_by(Path(params))
    typer.echo(f"policy {policy}")
    name = Path(policy).parent.name if Path(policy).name == "policy" else Path(policy).name
    if not Path(policy).is_dir():
        return policy, run_dir, [name]
    from envtune.policy.checkpoint import fingerprint

    return policy, run_dir, [name, fingerprint(Path(policy))[:8]]
