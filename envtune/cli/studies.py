"""Commands that measure the benchmark and its protocol: `sensitivity`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from envtune.cli.agents import (
    Agent,
    BatchSize,
    Body,
    Categories,
    Concurrency,
    KeyVariable,
    Limit,
    MessageTokens,
    Model,
    Split,
    Tokenizer,
    episodes_in_flight,
    named_by,
    server_options,
)
from envtune.cli.tables import print_table

commands = typer.Typer()


@commands.command()
def sensitivity(
    policy: Agent,
    split: Split = "heldout",
    category: Categories = None,
    limit: Limit = None,
    out: Annotated[Path | None, typer.Option(help="Folder for a JSONL per variation.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="The baseline, instead of the default rules: bfcl_fc, t3rl or paper.")
    ] = None,
    vary: Annotated[
        list[str] | None, typer.Option(help="Only protocol, step-limit, tool-order or seed. Can be repeated.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Number of tool orders and of further seeds.")] = 3,
    metric: Annotated[str, typer.Option(help="task_accuracy, strict_task_accuracy or progress.")] = "task_accuracy",
    seed: Annotated[int, typer.Option(help="Seed of the policy.")] = 0,
    model: Model = None,
    tokenizer: Tokenizer = None,
    concurrency: Concurrency = None,
    key_variable: KeyVariable = None,
    message_tokens: MessageTokens = None,
    body: Body = None,
    batch_size: BatchSize = None,
    temperature: Annotated[
        float,
        typer.Option(min=0, help="Sampling temperature, unless the protocol sets it. At 0, seeds are not varied."),
    ] = 0.0,
) -> None:
    """How far do protocol, step limit, tool order and seed move a score? With --out, a killed study goes on."""
    from envtune.data import load_tasks, spread
    from envtune.environment.rules import rules_of
    from envtune.evaluation import readable
    from envtune.evaluation.result import METRICS
    from envtune.policy import load_policy
    from envtune.studies.sensitivity import INSTANCES, VARIED, detectable, ranges, shifts
    from envtune.studies.sensitivity import sensitivity as study

    if metric not in METRICS:
        raise typer.BadParameter(f"unknown metric {metric!r}. Known: {', '.join(METRICS)}")
    if unknown := [kind for kind in vary or () if kind not in VARIED]:
        raise typer.BadParameter(f"cannot vary {unknown[0]!r}. Known: {', '.join(VARIED)}")
    tasks = spread(load_tasks("bfcl", split=split, categories=category), limit)
    if policy.endswith((".yaml", ".yml")):
        policy, folder, parts = named_by(policy)
        parts += [split, *(category or []), *([str(limit)] if limit else []), *([protocol] if protocol else [])]
        out = out or folder / "-".join(["sensitivity", *parts])
    given = server_options(model, tokenizer, concurrency, key_variable, message_tokens, body)

    def load(seed: int, temperature: float) -> Any:
        return load_policy(policy, seed=seed, temperature=temperature, **given)

    played = study(
        load,
        tasks,
        out,
        baseline=rules_of(protocol),
        seed=seed,
        temperature=temperature,
        repeats=repeats,
        kinds=[kind for kind in VARIED if not vary or kind in vary],
        batch_size=batch_size or episodes_in_flight(concurrency),
    )
    moved = shifts(played, metric)
    title = f"{next(iter(played.values())).policy}, {split} split, {len(tasks)} tasks, {metric}"
    for table, about in (
        (moved, f"{title}; paired difference to the baseline, 95 % intervals by id number"),
        (ranges(moved), "how far each choice moves the score"),
        (detectable(played, metric), f"smallest difference that shows at 95 % with {INSTANCES} instances"),
    ):
        print_table(readable(table).reset_index(), about)
    if "seed" in (vary or VARIED) and not moved.query("varied == 'seed'").size:
        typer.echo("seeds: not varied, because this agent answers the same every time. --temperature 0.7 samples")
    if out:
        typer.echo(f"episodes in {out}")
