"""Commands that serve: `mcp`."""

from __future__ import annotations

from typing import Annotated

import typer

commands = typer.Typer()


@commands.command()
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
