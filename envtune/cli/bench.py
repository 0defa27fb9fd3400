"""Commands that measure what things cost: `bench env`, `bench rollout`, `bench step`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from envtune.cli.tables import print_table

commands = typer.Typer(help="Measure what things cost on this machine.", no_args_is_help=True)


@commands.command("env")
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
    print_table(table, "replay against the official checker")
    if memory_episodes:
        grown = speed.memory_growth(tasks, memory_episodes)
        typer.echo(", ".join(f"{name} {value:,.0f}" for name, value in grown.items()) + " (memory in MB)")


@commands.command("rollout")
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


@commands.command("step")
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
    print_table(shown, f"one GRPO step of stage {chosen.name}, {plan.policy}; seconds by phase")
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
