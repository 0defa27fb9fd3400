"""The command line. Exit code 0: what was asked for is done. 1: an error, with its reason in one line. 2: wrong usage.

Each command imports what it needs when it runs, so that `envtune --help` is quick.
"""

from __future__ import annotations

from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from envtune.extras import naming_extra, require
from envtune.workbook.errors import SeriesError

EXPECTED = (ValueError, SeriesError, OSError, ModuleNotFoundError)
"""Errors that the user can mend. Only their message is shown."""


class _Group(TyperGroup):
    """Turns expected errors of any command into one line each on standard error, and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with naming_extra():
                return super().invoke(ctx)
        except EXPECTED as error:
            if detail := getattr(error, "detail", ""):
                typer.echo(detail, err=True)
            for line in str(error).splitlines():
                typer.echo(f"envtune: error: {line}", err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            typer.echo("\nenvtune: error: interrupted. The same command goes on from here", err=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Group,
    help="Teach a language model to use tools by tuning the environment it explores.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"envtune {installed_version('envtune')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""


@app.command()
def run(
    params: Annotated[Path, typer.Argument(help="Parameter file, such as params/tiny.yaml.")],
    only: Annotated[str | None, typer.Option(metavar="NN", help="Run one notebook, such as 03.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Run everything from scratch, even if up to date.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Print the plan, try one step of each stage, and stop.")
    ] = False,
    device: Annotated[str, typer.Option(help="With --check, plan for: H200, H100, A100, RTX 4090.")] = "H100",
) -> None:
    """Run the notebook series and render its reports. What is up to date is skipped."""
    require("train" if check else "workbook")
    if check:
        return _check(params, device)
    from envtune.workbook.series import run_series

    run_series(params, only=only, force=force, echo=typer.echo)
    return None


def _check(params: Path, device: str) -> None:
    from envtune.training import cost
    from envtune.training.check import check
    from envtune.workbook.plan import training_plan

    if device not in cost.DEVICES:
        raise typer.BadParameter(f"unknown device {device!r}. Known: {', '.join(cost.DEVICES)}")
    _, plan = training_plan(params)
    check(plan, device=cost.DEVICES[device], echo=typer.echo)


@app.command()
def train(
    params: Annotated[Path, typer.Argument(help="Parameter file, such as params/single-stage.yaml.")],
) -> None:
    """Train the whole recipe without notebooks, into results/<run>/train/. A killed run goes on."""
    require("train")
    from envtune.training.train import train as run_plan
    from envtune.workbook import provenance
    from envtune.workbook.params import load_params
    from envtune.workbook.paths import MANIFEST
    from envtune.workbook.plan import training_plan
    from envtune.workbook.series import alone

    run_dir, plan = training_plan(params)
    folder = run_dir / "train"
    made_with = {"parameters": load_params(params), **provenance.where_from()}
    with alone(run_dir):
        trained = run_plan(plan, folder)
    provenance.write_json(folder / MANIFEST, made_with)
    typer.echo(f"policy {trained.policy}")


@app.command()
def doctor() -> None:
    """Check that this machine can run the workbook."""
    from envtune.workbook.doctor import Verdict, examine

    failed = False
    for finding in examine():
        typer.echo(f"{finding.verdict:<5} {finding.subject:<10} {finding.text}")
        failed |= finding.verdict is Verdict.FAIL
    if failed:
        raise typer.Exit(1)


@app.command()
def readme(
    run: Annotated[str, typer.Option(help="The published run whose answers the README shows.")] = "tiny",
    check: Annotated[bool, typer.Option("--check", help="Write nothing. Exit with 1 if the README is stale.")] = False,
) -> None:
    """Put the answers of a published run into the README, and its tables into docs/."""
    require("workbook")
    from envtune.workbook.overview import update_readme, update_tables
    from envtune.workbook.paths import find_root, published_folder

    root = find_root()
    folder = published_folder(root, run)
    stale = ["README.md"] if update_readme(root / "README.md", folder, check=check) else []
    stale += [
        f"docs/{file.name}" for file in sorted(root.glob("docs/*.md")) if update_tables(file, folder, check=check)
    ]
    if stale and check:
        raise SeriesError(f"{', '.join(stale)}: stale. `envtune readme` updates it")
    typer.echo(f"{', '.join(stale)} updated" if stale else "README.md and docs/ are up to date")


@app.command()
def verify(
    trajectories: Annotated[int, typer.Option(min=0, help="Perturbed trajectories to compare.")] = 5600,
    seed: Annotated[int, typer.Option(help="Seed of the perturbations.")] = 0,
) -> None:
    """Check the environment against the official code, on all ground truths and on perturbed calls."""
    from envtune.benchmark.verify import verify as compare
    from envtune.data import load_tasks

    report = compare(load_tasks("bfcl"), trajectories=trajectories, seed=seed)
    _print_table(report.table(), "benchmark against environment")
    for failure in report.failures[:20]:
        typer.echo(f"envtune: error: {failure}", err=True)
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def evaluate(
    policy: Annotated[
        str,
        typer.Argument(
            help="The agent: a parameter file (the policy of its run), tiny, a folder, a hub name, http://HOST/v1, "
            "oracle, silent, noisy, noisy:LEVEL."
        ),
    ],
    split: Annotated[str, typer.Option(help="all, train, val, test or heldout.")] = "heldout",
    category: Annotated[list[str] | None, typer.Option(help="Only this category. Can be repeated.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Number of tasks, spread evenly.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSONL to append episodes to (with --samples: a folder).")] = None,
    protocol: Annotated[str | None, typer.Option(help="Rules of a published system: bfcl_fc, t3rl or paper.")] = None,
    max_steps_per_turn: Annotated[
        int | None, typer.Option(min=1, help="Tool steps per turn: official 20 (default), T3RL 10, paper 5.")
    ] = None,
    reveal: Annotated[
        str | None, typer.Option(help="Hand over withheld tools by `message` (default) or `recompile`.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the policy.")] = 0,
    model: Annotated[str | None, typer.Option(help="Server: the model's name there.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Server: render the chat template here, with this folder or hub name.")
    ] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Server: requests at once.")] = None,
    key_variable: Annotated[
        str | None, typer.Option(help="Server: environment variable with the key (default: ENVTUNE_API_KEY).")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Episodes in flight (default: 32; server: 2 x --concurrency).")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="Sampling temperature (default: the protocol's, or 0).")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Times that every task is played.")] = 1,
    export: Annotated[
        Path | None, typer.Option(help="Also write the benchmark's own result files to this folder.")
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
        policy, folder, parts = _named_by(policy)
        parts += [split, *(category or []), *([str(limit)] if limit else []), *([protocol] if protocol else [])]
        out = out or folder / ("-".join(parts) + (".jsonl" if samples == 1 else f"-{samples}-samples"))

    server = {"model": model, "tokenizer": tokenizer, "concurrency": concurrency, "key_variable": key_variable}
    given: Any = {name: value for name, value in server.items() if value is not None}
    if temperature is None:
        temperature = rules.temperature or 0.0

    def load(seed: int) -> Any:
        return load_policy(policy, seed=seed, temperature=temperature, **given)

    in_flight = batch_size or (2 * concurrency if concurrency else 32)
    results = evaluate_samples(load, tasks, out, samples, seed, rules=rules, batch_size=in_flight)
    table = results[0].table() if samples == 1 else sample_table(results)
    scores = readable(table).T.reset_index(names="95 % interval by id number")
    _print_table(scores, f"{results[0].policy}, {split} split, {len(tasks)} tasks")
    if out:
        typer.echo(f"episodes in {out}")
    for file in write_results(export, export_as or results[0].policy, results[0].episodes) if export else []:
        typer.echo(f"official result file {file}")


def _named_by(params: str) -> tuple[str, Path, list[str]]:
    """The policy that a parameter file names, the folder of its run, and what files about it are named after."""
    from envtune.workbook.trained import named_by

    policy, run_dir = named_by(Path(params))
    typer.echo(f"policy {policy}")
    name = Path(policy).parent.name if Path(policy).name == "policy" else Path(policy).name
    if not Path(policy).is_dir():
        return policy, run_dir, [name]
    from envtune.policy.checkpoint import fingerprint

    return policy, run_dir, [name, fingerprint(Path(policy))[:8]]


@app.command()
def rescore(
    path: Annotated[Path, typer.Argument(help="A result file of the official runner, or its `result/` folder.")],
    partial: Annotated[bool, typer.Option("--partial", help="Score an incomplete split.")] = False,
    handler: Annotated[
        str | None, typer.Option(help="Model of the official registry whose handler reads (default: by the folder).")
    ] = None,
) -> None:
    """Give our verdict and the official one on files that the benchmark's own runner wrote."""
    from envtune.benchmark.rescore import rescore as score_again
    from envtune.data import load_tasks

    found = score_again(path, load_tasks("bfcl"), partial, handler)
    table = found.table().reset_index()
    for name in ("ours", "official"):
        table[name] = table[name].map("{:.1%}".format, na_action="ignore").fillna("no verdict")
    read_by = f", read by the official handler of {found.model}" if found.model else ""
    _print_table(table, f"{path.name}: our verdict and the official one{read_by}")
    for note in found.notes:
        typer.echo(f"Note: {note}.")
    if len(differences := found.differences()):
        _print_table(differences, "where they differ")
    if found.unexplained:
        raise ValueError(
            f"{len(found.unexplained)} differences without a known cause, such as {found.unexplained[0].task_id}"
        )


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="A run's JSONL, or the folder of its samples.")],
    b: Annotated[Path, typer.Argument(help="The run to compare it with.")],
) -> None:
    """Is A better than B? Paired by task, with intervals and p-values clustered by id number."""
    from envtune.evaluation import comparison, load_runs

    first, second = load_runs(a), load_runs(b)
    table = comparison(first, second).reset_index()
    for name in ("a", "b"):
        table[name] = table[name].map("{:.1%}".format)
    for name in ("difference", "low", "high"):
        table[name] = table[name].map("{:+.1%}".format)
    table["p"] = table["p"].map("{:.4f}".format)
    _print_table(table, f"a: {first[0].policy} ({a}), b: {second[0].policy} ({b}); 95 % intervals")


@app.command()
def card(
    run: Annotated[str, typer.Argument(help="Name of a run, such as tiny, or its folder.")],
    out: Annotated[Path | None, typer.Option(help="File to write (default: README.md in the run's folder).")] = None,
    license: Annotated[str, typer.Option(help="Licence of the weights, that of the base model.")] = "apache-2.0",
) -> None:
    """Write the model card of the policy that a run trained. Nothing is uploaded."""
    require("workbook")
    from envtune.workbook.card import write_card
    from envtune.workbook.paths import run_folder

    run_dir = run_folder(run)
    typer.echo(f"model card {write_card(run_dir, out or run_dir / 'README.md', license)}")


@app.command()
def publish(
    run: Annotated[str, typer.Argument(help="Name of a finished run, such as tiny, or its folder.")],
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Publish even if it was made with uncommitted changes.")
    ] = False,
) -> None:
    """Copy a run's reports, figures and tables to results/published/, which git tracks. No weights, no episodes."""
    from envtune.workbook.paths import find_root, run_folder
    from envtune.workbook.publishing import publish as copy

    folder = copy(run_folder(run), find_root(), allow_dirty=allow_dirty)
    typer.echo(f"published in {folder}. `envtune readme` puts its numbers into the README")


@app.command()
def reproduced(
    run: Annotated[str, typer.Argument(help="Name of a run, such as tiny, or its folder.")],
    published: Annotated[
        str | None, typer.Option("--with", help="Published run to compare with (default: same name).")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also list the equal numbers.")] = False,
) -> None:
    """Compare a run with the published one, number by number. Exit with 1 if a number is outside its interval."""
    import pandas as pd

    from envtune.workbook.paths import find_root, run_folder
    from envtune.workbook.reproduction import COLUMNS, cells, reproduction

    found = reproduction(run_folder(run), find_root(), published)
    shown = [record for record in found.records if record not in found.timings] if everything else found.different
    for records, title in ((shown, "numbers"), (found.timings, "times and speeds, not compared")):
        if records:
            _print_table(pd.DataFrame(map(cells, records), columns=list(COLUMNS)), title)
    for chapter, reasons in found.reasons.items():
        typer.echo(f"{chapter}: {', '.join(reasons)}")
    if not found.ok:
        raise SeriesError(found.sentence())
    typer.echo(found.sentence())


@app.command()
def arms(
    params: Annotated[Path, typer.Argument(help="Parameter file, such as params/laptop-hints.yaml.")],
) -> None:
    """Run an experiment: several arms (hints, or PPO against GRPO), several seeds each. A killed run goes on."""
    require("workbook")
    from envtune.workbook.experiment import run_arms

    typer.echo(f"tables in {run_arms(params, typer.echo)}")


@app.command()
def mcp(
    task: Annotated[str | None, typer.Option(help="A task of the benchmark, such as multi_turn_base_0.")] = None,
    domains: Annotated[str | None, typer.Option(help="Or empty domains, such as GorillaFileSystem,MathAPI.")] = None,
    hints: Annotated[bool, typer.Option("--hints", help="Add hints to failed results.")] = False,
    http: Annotated[
        int | None, typer.Option(min=1, max=65535, metavar="PORT", help="Streamable HTTP instead of stdio.")
    ] = None,
    host: Annotated[str, typer.Option(help="With --http: where to listen.")] = "127.0.0.1",
    sessions: Annotated[int, typer.Option(min=1, help="With --http: most sessions at once.")] = 64,
    idle: Annotated[float, typer.Option(min=1, help="With --http: seconds after which a silent session ends.")] = 600,
) -> None:
    """Serve simulated tools to any MCP client. Every session has its own copy of them."""
    if (task is None) == (domains is None):
        raise typer.BadParameter("give either --task ID or --domains A,B")
    import anyio

    from envtune.data import load_tasks
    from envtune.interop import mcp_server

    if domains is not None:
        world = mcp_server.domains_task(name.strip() for name in domains.split(",") if name.strip())
    else:
        found = [each for each in load_tasks("bfcl") if each.id == task]
        if not found:
            raise ValueError(f"unknown task {task!r}. The benchmark's tasks are multi_turn_<category>_<0 to 199>")
        world = found[0]
    server = mcp_server.tool_server(world, lambda: mcp_server.ToolSession(world, hints))
    if http is None:
        anyio.run(mcp_server.serve_stdio, server)
    else:
        mcp_server.serve_http(server, http, host, mcp_server.Limits(sessions, idle))


bench_app = typer.Typer(help="Measure what things cost on this machine.", no_args_is_help=True)
app.add_typer(bench_app, name="bench")


@bench_app.command("env")
def bench_env(
    seconds: Annotated[float, typer.Option(min=1, help="Time for the comparison.")] = 60.0,
    memory_episodes: Annotated[int, typer.Option(min=0, help="Episodes of the memory test (0: none).")] = 100_000,
) -> None:
    """Episodes per second of the environment against the official checker, on the same trajectories in the same run."""
    from envtune.data import load_tasks
    from envtune.studies import speed

    tasks = load_tasks("bfcl")
    table = speed.bench_env(tasks, seconds)
    columns = [name for name in table.columns if name.endswith("/s")]
    formats = dict.fromkeys(columns, "{:,.0f}") | {"ratio": "{:.1f}"}
    for name, text in formats.items():
        table[name] = table[name].map(text.format)
    _print_table(table, "replay against the official checker")
    if memory_episodes:
        grown = speed.memory_growth(tasks, memory_episodes)
        typer.echo(", ".join(f"{name} {value:,.0f}" for name, value in grown.items()) + " (memory in MB)")


@bench_app.command("rollout")
def bench_rollout(
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each loop, of which the best counts.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
) -> None:
    """Sampled tokens per second of multi-turn rollouts against TRL's own tool loop, on the same model and tasks."""
    from envtune.training.bench import bench_rollout as measure

    found = measure(rounds, typer.echo, threads)
    typer.echo(
        f"ours {found.ours:,.0f} tokens/s, TRL {found.trl:,.0f} tokens/s, ratio {found.ratio:.1f}; "
        f"{found.tool_rounds:.1f} tool rounds an episode, {found.parameters:,} parameters, {found.threads} threads; "
        f"environment {found.environment_share:.2%} of a training step on these tasks (of others: metrics.jsonl)"
    )


@bench_app.command("step")
def bench_step(
    params: Annotated[Path, typer.Argument(help="Parameter file, such as params/tiny.yaml.")],
    tokens: Annotated[
        list[int] | None, typer.Option(min=64, help="Longest episode in tokens, with its prompt. Can be repeated.")
    ] = None,
    stage: Annotated[str | None, typer.Option(help="Name of the stage (default: the last).")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps to count, after one to warm up.")] = 1,
    prompts: Annotated[int | None, typer.Option(min=1, help="Tasks per step (default: the stage's).")] = None,
    record: Annotated[bool, typer.Option("--record", help="Write results and machine to results/bench/.")] = False,
) -> None:
    """Seconds of a training step by phase, tokens per second, memory, share of the peak arithmetic."""
    from dataclasses import asdict, replace

    import pandas as pd

    from envtune.training.bench_step import bench
    from envtune.training.curriculum import override
    from envtune.workbook import provenance
    from envtune.workbook.paths import find_root
    from envtune.workbook.plan import training_plan

    run_dir, plan = training_plan(params)
    if prompts:
        plan = replace(plan, stages=override(plan.stages, {"prompts_per_step": prompts}))
    chosen = plan.stage(stage)
    measured = bench(plan, chosen.name, tokens or (), steps=steps, echo=typer.echo)
    frame = pd.DataFrame([asdict(row) for row in measured])
    formats = {"share_of_peak": "{:.1%}", "environment_share": "{:.2%}"}
    shown = frame.astype(object)
    for name in frame.columns:
        shown[name] = frame[name].map(formats.get(name, "{:,.2f}" if frame[name].dtype == float else "{:,}").format)
    shown = shown.set_index("tokens").T.reset_index(names="longest episode, tokens")
    _print_table(shown, f"one GRPO step of stage {chosen.name}, {plan.policy}; seconds by phase")
    if record:
        where = provenance.gpus()[0].split(",")[0].replace(" ", "-") if provenance.gpus() else "cpu"
        path = find_root() / "results" / "bench" / f"step_{run_dir.name}_{where}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        told: dict[str, Any] = {
            "stage": chosen.to_json(),
            "machine_settings": asdict(plan.machine),
            "policy": plan.policy,
        }
        told |= {"measured": [asdict(row) for row in measured], "machine": provenance.machine()}
        provenance.write_json(path, {**told, "versions": provenance.versions(), "code": provenance.git_state()})
        typer.echo(f"recorded in {path}")


tiny = typer.Typer(help="The shipped policy of a million parameters.", no_args_is_help=True)
app.add_typer(tiny, name="tiny")


@tiny.command("build")
def tiny_build(
    out: Annotated[Path | None, typer.Option(help="Folder to write (default: the package's own weights).")] = None,
    minutes: Annotated[float, typer.Option(min=0.01, help="Nominal minutes, which set the number of tokens.")] = 12.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and data.")] = 0,
) -> None:
    """Train the tiny policy's cold start from nothing."""
    from envtune.cold_start.build import build
    from envtune.policy.tiny import WEIGHTS

    card = build(out or WEIGHTS, minutes, seed, echo=typer.echo)
    typer.echo(f"{out or WEIGHTS}: {card['parameters']:,} parameters, {card['seconds']} s")
    _print_tiny(card["measured"])


@tiny.command("check")
def tiny_check(
    policy: Annotated[str, typer.Argument(help="`tiny` or the folder of a checkpoint.")] = "tiny",
    split: Annotated[str, typer.Option(help="val, test, ...")] = "val",
    tasks: Annotated[int, typer.Option(min=1, help="Tasks per measurement.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the tasks.")] = 0,
) -> None:
    """Measure a tiny policy: single requests, and chains with and without hints."""
    from envtune.cold_start.measure import measure
    from envtune.policy.checkpoint import load_checkpoint

    model, tokenizer, _ = load_checkpoint(policy)
    _print_tiny([measure(model, tokenizer, tasks, split, seed)])


def _print_tiny(measured: list[dict[str, Any]]) -> None:
    """A line per split."""
    import pandas as pd

    rows = [
        {"split": m["split"], "seed": m["seed"], "tasks": m["tasks"], "single calls exact": f"{m['single_exact']:.1%}"}
        | {f"chain turns, hints {name}": f"{how['turn_accuracy']:.1%}" for name, how in m["chains"].items()}
        for m in measured
    ]
    if rows:
        _print_table(pd.DataFrame(rows), "tiny policy, greedy")


def _print_table(frame: Any, title: str) -> None:
    """A data frame as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for i, name in enumerate(frame.columns):
        table.add_column(str(name), justify="right" if i else "left")
    for row in frame.itertuples(index=False):
        table.add_row(*map(str, row))
    terminal = Console()
    (terminal if terminal.is_terminal else Console(width=160)).print(table)


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="envtune")


if __name__ == "__main__":
    main()
