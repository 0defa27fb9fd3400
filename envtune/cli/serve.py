"""Commands that serve: `mcp`."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from envtune.types import Task

commands = typer.Typer()


@commands.command()
def mcp(
    task: Annotated[str | None, typer.Option(help="A task of the benchmark, such as multi_turn_base_0.")] = None,
    domains: Annotated[str | None, typer.Option(help="Or empty domains, such as GorillaFileSystem,MathAPI.")] = None,
    hints: Annotated[bool, typer.Option("--hints", help="Add hints to failed results.")] = False,
    entry: Annotated[bool, typer.Option("--entry", help="Print the entry for a client's settings, and end.")] = False,
    http: Annotated[
        int | None, typer.Option(min=1, max=65535, metavar="PORT", help="Streamable HTTP instead of stdio.")
    ] = None,
    host: Annotated[str, typer.Option(help="With --http: where to listen.")] = "127.0.0.1",
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="With --http: serve other machines too. Needs a token.")
    ] = False,
    token_variable: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --http: environment variable with the token that clients must send."),
    ] = None,
    sessions: Annotated[int, typer.Option(min=1, help="With --http: most sessions at once.")] = 64,
    idle: Annotated[float, typer.Option(min=1, help="With --http: seconds after which a silent session ends.")] = 600,
) -> None:
    """Serve simulated tools to any MCP client. Every session has its own copy of them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's handler would wait for the next line of the input
    if (task is None) == (domains is None):
        raise typer.BadParameter("give either --task ID or --domains A,B")
    if http is None and (allow_remote or token_variable or host != "127.0.0.1"):
        raise typer.BadParameter("--host, --allow-remote and --token-variable need --http PORT")
    if http is not None and entry:
        raise typer.BadParameter("--entry is for clients that start the server. Leave out --entry or --http")
    import anyio

    from envtune.interop import mcp_http, mcp_server

    world = _world(task, domains)
    if entry:
        print(_entry(["--task", task] if task else ["--domains", domains or ""], hints))
        return
    server = mcp_server.tool_server(world, lambda: mcp_server.ToolSession(world, hints))
    if http is None:
        anyio.run(mcp_server.serve_stdio, server)
    else:
        access = mcp_http.Access(_token(token_variable), allow_remote)
        mcp_http.serve_http(server, http, host, mcp_http.Limits(sessions, idle), access)


def _world(task: str | None, domains: str | None) -> Task:
    """The task by its ID, or one without a script."""
    from envtune.data import load_tasks
    from envtune.interop.mcp_server import domains_task

    if domains is not None:
        return domains_task(name.strip() for name in domains.split(",") if name.strip())
    found = [each for each in load_tasks("bfcl") if each.id == task]
    if not found:
        raise ValueError(f"unknown task {task!r}. The benchmark's tasks are multi_turn_<category>_<0 to 199>")
    return found[0]


def _entry(tools: list[str], hints: bool) -> str:
    """What a client needs to start this server from any folder: this Python, and no modules of that folder (`-P`)."""
    args = ["-P", "-m", "envtune", "mcp", *tools, *["--hints"] * hints]
    return json.dumps({"mcpServers": {"envtune": {"command": sys.executable, "args": args}}}, indent=2)


def _token(variable: str | None) -> str | None:
    if variable is None:
        return None
    if not os.environ.get(variable):
        raise ValueError(f"the environment variable {variable} is not set. It must hold the token that clients send")
    return os.environ[variable]
