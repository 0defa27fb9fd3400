"""Imports run one way. A broken rule is named with its file and line."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import envtune
from envtune import extras

PACKAGE = Path(envtune.__file__).parent
GROUND = {"types", "fastjson", "rewards", "chat", "processes", "extras", "sources", "locks", "system", "differences"}
CORE = GROUND | {"display", "data", "environment", "policy"}
ROOM_IMPORTS = {
    "types": set(),
    "fastjson": set(),
    "processes": set(),
    "extras": set(),
    "sources": set(),
    "locks": set(),
    "system": set(),
    "differences": set(),
    "rewards": {"types"},
    "chat": {"types", "fastjson"},
    "display": {"types", "rewards", "chat"},
    "data": {"types"},
    "environment": {"types", "fastjson", "chat", "display", "data"},
    "policy": {"types", "fastjson", "chat", "extras"},
    "evaluation": CORE,
    "training": CORE,
    "benchmark": CORE | {"evaluation"},
    "studies": CORE | {"evaluation", "benchmark"},
    "cold_start": CORE | {"training"},
    "interop": CORE,
    "workbook": CORE | {"evaluation", "training", "benchmark", "studies"},
}
"""Room -> the rooms above it here that it may import. `cli` may import all."""
LIGHT = GROUND | {"__init__", "cli", "data", "environment", "display", "evaluation"}
"""Rooms that `pip install envtune` runs, and of `policy`:"""
LIGHT_POLICIES = {"__init__", "base", "scripted", "noise", "endpoint"}
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


# The light core: what a plain installation runs, without the packages of any extra.


def top_level(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and module of every import that runs when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((child.lineno, alias.name) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield child.lineno, str(child.module)
            yield from ((child.lineno, f"{child.module}.{alias.name}") for alias in child.names)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from (found for other in child.orelse for found in top_level(other))
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from top_level(child)


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in SOURCES}
CORE_MODULES = sorted(
    module
    for module, path in MODULES.items()
    if room_of(path) in LIGHT or (room_of(path) == "policy" and path.stem in LIGHT_POLICIES)
)


def heavy_import(module: str, trail: tuple[str, ...] = (), seen: set[str] | None = None) -> str | None:
    """How a module comes to import a package of an extra, line by line; None if it does not."""
    seen = set() if seen is None else seen
    if module in seen:
        return None
    seen.add(module)
    for parent in (module.rsplit(".", n)[0] for n in range(1, module.count(".") + 1)):
        if found := heavy_import(parent, trail, seen):
            return found
    path = MODULES[module]
    for line, name in top_level(ast.parse(path.read_text())):
        step = (*trail, f"{path.relative_to(PACKAGE.parent)}:{line} imports {name}")
        if extra := extras.extra_of(name):
            return " -> ".join(step) + f", of the extra {extra!r}"
        if name in MODULES and (found := heavy_import(name, step, seen)):
            return found
    return None


def test_the_light_core_imports_no_package_of_an_extra():
    seen: set[str] = set()
    for module in CORE_MODULES:
        found = heavy_import(module, seen=seen)
        assert found is None, found


def test_training_without_notebooks_needs_the_extra_train_alone():
    for module in ("envtune.workbook.plan", "envtune.workbook.series", "envtune.training.launch"):
        found = heavy_import(module)
        assert found is None or found.endswith("of the extra 'train'"), found


PLAY = """
import json, sys
import envtune
task = envtune.load_tasks("synth", n=1)[0]
envtune.evaluate(envtune.load_policy("noisy:0.2"), [task], progress=False)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_an_episode_is_played_without_what_is_slow_to_import():
    done = subprocess.run([sys.executable, "-c", PLAY], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert "pydantic" in loaded
    assert not {name for name in loaded if extras.extra_of(name)}
    assert not loaded & {"pandas", "scipy"}, "tables and intervals bring them: import them where those are made"
