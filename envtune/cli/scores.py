"""Commands that count: `evaluate`, `compare`, `rescore`, `audit`, `verify`."""

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
    degrees,
    episodes_in_flight,
    named_by,
    server_options,
)
from envtune.cli.tables import print_table

commands = typer.Typer()
SOUND = "Add a line over the sound instances, see `envtune audit`."


@commands.command()
def evaluate(
    policy: Agent,
    split: Split = "heldout",
    category: Categories = None,
    limit: Limit = None,
    out: Annotated[Path | None, typer.Option(help="JSONL to append episodes to (with --samples: a folder).")] = None,
    protocol: Annotated[str | None, typer.Option(help="Rules of a published system: bfcl_fc, t3rl or paper.")] = None,
    max_steps_per_turn: Annotated[
        int | None, typer.Option(min=1, help="Tool steps per turn: official 20 (default), T3RL 10, paper 5.")
    ] = None,
    reveal: Annotated[
        str | None, typer.Option(help="Hand over withheld tools by `message` (default) or `recompile`.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the policy.")] = 0,
    model: Model = None,
    tokenizer: Tokenizer = None,
    concurrency: Concurrency = None,
    key_variable: KeyVariable = None,
    message_tokens: MessageTokens = None,
    body: Body = None,
    batch_size: BatchSize = None,
    temperature: Annotated[
        str | None,
        typer.Option(
            metavar="T|none", help="Sampling temperature (default: the protocol's, or 0). none: the server's."
        ),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Times that every task is played.")] = 1,
    sound: Annotated[bool, typer.Option("--sound", help=SOUND)] = False,
    export: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Also write the benchmark's own result files to this folder."),
    ] = None,
    export_as: Annotated[
        str | None, typer.Option(help="With --export: the model's name in the registry (default: ours).")
    ] = None,
) -> None:
    """Score a policy, without hints. With --out, a killed run goes on."""
    if export and samples > 1:
        raise typer.BadParameter("--export writes one sample, as the benchmark's files hold one. Leave --samples out")
    if export_as and not export:
        raise typer.BadParameter("--export-as names what --export writes. Give --export FOLDER as well")
    from envtune.benchmark.result_files import write_results
    from envtune.data import load_tasks, spread
    from envtune.environment.rules import rules_of
    from envtune.evaluation import evaluate_samples, readable, sample_table
    from envtune.policy import load_policy

    changes = {"max_steps_per_turn": max_steps_per_turn, "reveal": reveal}
    rules = rules_of(protocol, **{rule: value for rule, value in changes.items() if value is not None})
    tasks = spread(load_tasks("bfcl", split=split, categories=category), limit)
    if policy.endswith((".yaml", ".yml")):
        policy, folder, parts = named_by(policy)
        parts += [split, *(category or []), *([str(limit)] if limit else []), *([protocol] if protocol else [])]
        out = out or folder / ("-".join(parts) + (".jsonl" if samples == 1 else f"-{samples}-samples"))

    given = server_options(model, tokenizer, concurrency, key_variable, message_tokens, body)
    sampling = (rules.temperature or 0.0) if temperature is None else degrees(temperature)

    def load(seed: int) -> Any:
        return load_policy(policy, seed=seed, temperature=sampling, **given)

    in_flight = batch_size or episodes_in_flight(concurrency)
    results = evaluate_samples(load, tasks, out, samples, seed, rules=rules, batch_size=in_flight)
    table = results[0].table(sound) if samples == 1 else sample_table(results, sound)
    scores = readable(table).T.reset_index(names="95 % interval by id number")
    print_table(scores, f"{results[0].policy}, {split} split, {len(tasks)} tasks")
    if out:
        typer.echo(f"episodes in {out}")
    for file in write_results(export, export_as or results[0].policy, results[0].episodes) if export else []:
        typer.echo(f"official result file {file}")


@commands.command()
def compare(
    a: Annotated[Path, typer.Argument(help="A run's JSONL, or the folder of its samples.")],
    b: Annotated[Path, typer.Argument(help="The run to compare it with.")],
    sound: Annotated[bool, typer.Option("--sound", help="Only sound instances, see `envtune audit`.")] = False,
) -> None:
    """Is A better than B? Paired by task, with intervals and p-values clustered by id number."""
    from envtune.evaluation import comparison, load_runs

    first, second = ([run.sound if sound else run for run in load_runs(path)] for path in (a, b))
    table = comparison(first, second).reset_index()
    for name in ("a", "b"):
        table[name] = table[name].map("{:.1%}".format)
    for name in ("difference", "low", "high"):
        table[name] = table[name].map("{:+.1%}".format)
    table["p"] = table["p"].map("{:.4f}".format)
    print_table(table, f"a: {first[0].policy} ({a}), b: {second[0].policy} ({b}); 95 % intervals")


@commands.command()
def rescore(
    path: Annotated[Path, typer.Argument(help="A result file of the official runner, or its `result/` folder.")],
    partial: Annotated[bool, typer.Option("--partial", help="Score an incomplete split.")] = False,
    handler: Annotated[
        str | None, typer.Option(help="Model of the official registry whose handler reads (default: by the folder).")
    ] = None,
    sound: Annotated[bool, typer.Option("--sound", help=SOUND)] = False,
) -> None:
    """Give our verdict and the official one on files that the benchmark's own runner wrote."""
    from envtune.benchmark.rescore import rescore as score_again
    from envtune.data import load_tasks

    found = score_again(path, load_tasks("bfcl"), partial, handler)
    read_by = f", read by the official handler of {found.model}" if found.model else ""
    print_table(found.readable(sound), f"{path.name}: our verdict and the official one{read_by}")
    for note in found.notes:
        typer.echo(f"Note: {note}.")
    if len(differences := found.differences()):
        print_table(differences, "where they differ")
    if found.unexplained:
        raise ValueError(
            f"{len(found.unexplained)} differences without a known cause, such as {found.unexplained[0].task_id}"
        )


@commands.command()
def audit(
    task: Annotated[str | None, typer.Argument(help="Show one instance, such as multi_turn_base_18.")] = None,
) -> None:
    """Check the list of instances that cannot be solved by doing as told. Exit with 1 if a proof does not hold."""
    from envtune.data import load_tasks
    from envtune.studies import audit as study

    tasks = load_tasks("bfcl")
    if task is not None:
        typer.echo(study.told(task, tasks))
        return
    report = study.audit(tasks)
    print_table(report.kinds().reset_index(names="kind"), "instances that cannot be solved by doing as told")
    agreement = report.agreement().reset_index(names="verdict")
    agreement["kappa"] = agreement["kappa"].map("{:.2f}".format)
    print_table(agreement, "two independent readings")
    for failure in report.failures:
        typer.echo(f"envtune: error: {failure}", err=True)
    if report.failures:
        raise typer.Exit(1)


@commands.command()
def verify(
    trajectories: Annotated[int, typer.Option(min=0, help="Perturbed trajectories to compare.")] = 5600,
    seed: Annotated[int, typer.Option(help="Seed of the perturbations.")] = 0,
) -> None:
    """Check the environment against the official code, on all ground truths and on perturbed calls."""
    from envtune.benchmark.verify import verify as compare
    from envtune.data import load_tasks

    report = compare(load_tasks("bfcl"), trajectories=trajectories, seed=seed)
    print_table(report.table(), "benchmark against environment")
    for failure in report.failures[:20]:
        typer.echo(f"envtune: error: {failure}", err=True)
    if not report.ok:
        raise typer.Exit(1)
