"""Imports run one way. A broken rule is named with its file and line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import envtune

PACKAGE = Path(envtune.__file__).parent
GROUND = {"types", "fastjson", "rewards", "chat", "processes"}
CORE = GROUND | {"data", "environment", "policy"}
ROOM_IMPORTS = {
    "types": set(),
    "fastjson": set(),
    "processes": set(),
    "rewards": {"types"},
    "chat": {"types", "fastjson"},
    "data": {"types"},
    "environment": {"types", "fastjson", "chat", "data"},
    "policy": {"types", "fastjson", "chat"},
    "display": {"types", "rewards", "chat"},
    "evaluation": CORE,
    "training": CORE,
    "benchmark": CORE | {"evaluation"},
    "studies": CORE | {"evaluation", "benchmark"},
    "cold_start": CORE | {"training"},
    "interop": CORE,
    "workbook": CORE | {"display", "evaluation", "training", "benchmark", "studies"},
}
"""Room -> what it may import besides itself: only rooms that stand above it here. `cli` may import all."""
HEAVY = {"torch", "transformers", "trl", "peft", "vllm", "accelerate"}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full module name of every import, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the full name"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


SOURCES = sorted(PACKAGE.rglob("*.py"))
ROOMS = [path for path in SOURCES if room_of(path) in ROOM_IMPORTS]


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    room = room_of(path)
    allowed = {f"envtune.{name}" for name in {*ROOM_IMPORTS[room], room}} | {"envtune.__version__"}
    for line, name in imports(path):
        if name.split(".")[0] == "envtune":
            assert any(name == a or name.startswith(f"{a}.") for a in allowed), (
                f"{path.relative_to(PACKAGE.parent)}:{line} imports {name}; {room} may import {sorted(allowed)}"
            )


def test_heavy_libraries_stay_in_their_rooms():
    for path in SOURCES:
        for line, name in imports(path):
            if name.split(".")[0] in HEAVY:
                assert room_of(path) in ("policy", "training", "cold_start"), (
                    f"{path.relative_to(PACKAGE.parent)}:{line} imports {name}"
                )


def test_rooms_form_no_circle():
    above = set()
    for room, allowed in ROOM_IMPORTS.items():
        assert allowed <= above, f"{room} imports {allowed - above}, which stand below it"
        above.add(room)


def test_every_room_is_known():
    rooms = {room_of(path) for path in SOURCES} - {"__init__", "__main__", "cli"}
    assert rooms <= set(ROOM_IMPORTS), f"add {rooms - set(ROOM_IMPORTS)} to ROOM_IMPORTS"
