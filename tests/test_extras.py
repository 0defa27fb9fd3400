"""What is optional is known as such, and a missing part of it is named. The bare wheel works where only it is."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from policy.scripted_server import serving
from typer.testing import CliRunner

import envtune
from envtune import cli, extras

ROOT = Path(__file__).parents[1]
PACKAGE = Path(envtune.__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OWN = {"envtune", "bfcl_eval"}
"""Ours, and what is installed by a command of its own."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def named_by(requirements: list[str]) -> set[str]:
    """Distributions of requirements, those of the extras of ours that they name included."""
    found = set()
    for requirement in requirements:
        name, parts = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", requirement).groups()
        if name == "envtune":
            found |= {each for part in parts.split(",") for each in named_by(PROJECT["optional-dependencies"][part])}
        else:
            found.add(normal(name))
    return found


CORE = named_by(PROJECT["dependencies"])


def imported() -> dict[str, str]:
    """Top-level module -> a place that imports it, for all that is neither ours nor Python's."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                found.setdefault(name.partition(".")[0], f"{path.relative_to(PACKAGE.parent)}:{node.lineno}")
    return {name: place for name, place in found.items() if name not in sys.stdlib_module_names | OWN}


def test_every_import_comes_with_the_core_or_an_extra():
    brought_by = metadata.packages_distributions()
    core = CORE | {"pydantic-core", "anyio"}  # which pydantic and httpx bring
    for module, place in imported().items():
        extra = extras.extra_of(module)
        if extra is None:
            assert {normal(name) for name in brought_by.get(module, ())} & core, f"{place} imports {module}: no extra"
        else:
            assert not {normal(name) for name in brought_by.get(module, ())} & core, f"{module} is of the core"


@pytest.mark.parametrize("extra", extras.MODULES)
def test_an_extra_brings_its_modules(extra):
    brought_by = metadata.packages_distributions()
    listed = named_by(PROJECT["optional-dependencies"][extra])
    for module in extras.MODULES[extra]:
        names = {normal(name) for name in brought_by.get(module, (module,))}
        assert names & (listed | {"mcp-types"}), f"extra {extra} does not list {module}"  # mcp brings its types


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "envtune.policy.language", raising=False)
    with pytest.raises(extras.MissingExtraError, match=r"the extra 'train': pip install 'envtune\[train\]'") as caught:
        envtune.load_policy("tiny")
    assert isinstance(caught.value, ModuleNotFoundError)
    assert "\n" not in str(caught.value)


def test_other_missing_packages_keep_their_own_words():
    with pytest.raises(ModuleNotFoundError, match="No module named 'unheard_of'") as caught, extras.naming_extra():
        import unheard_of  # noqa: F401
    assert not isinstance(caught.value, extras.MissingExtraError)


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["run", "p.yaml"], "workbook"),
        (["readme"], "workbook"),
        (["card", "x"], "workbook"),
        (["train", "p.yaml"], "train"),
    ],
)
def test_a_command_looks_for_its_extra_before_it_starts(command, extra, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 1
    assert f"pip install 'envtune[{extra}]'" in result.output
    assert len(result.output.splitlines()) == 1


# The bare wheel, in an environment where nothing else is.

PLAY = """
import json
import envtune
from envtune.chat import call_block

task = envtune.load_tasks("bfcl", categories=["base"])[0]
env = envtune.ToolUseEnv(task)
assert env.reset().tools
for turn in task.ground_truth:
    for call in turn:
        env.step(call_block(json.dumps({"name": call.name, "arguments": call.arguments})))
    env.step("Done.")
assert env.episode.success, env.episode
result = envtune.evaluate(envtune.load_policy("noisy:0.2"), envtune.load_tasks("synth", n=2), progress=False)
assert len(result.table()) == 3
try:
    envtune.load_policy("tiny")
except ModuleNotFoundError as error:
    assert "pip install 'envtune[train]'" in str(error), error
from envtune.evaluation.published import published
from envtune.policy.tiny import WEIGHTS
assert {"model.safetensors", "tokenizer.json", "chat_template.jinja"} <= {path.name for path in WEIGHTS.iterdir()}
print(envtune.__file__)
"""


def run(command: list[object], cwd: Path, **options) -> subprocess.CompletedProcess[str]:
    """A command that knows nothing of this checkout."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def pip(python: Path, cwd: Path, *arguments: object) -> None:
    done = run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments], cwd)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy of the sources, so that nothing is left in the checkout."""
    if not os.environ.get("ENVTUNE_REQUIRE_INDEX"):
        pytest.skip("for CI, which sets ENVTUNE_REQUIRE_INDEX")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(PACKAGE, source / "envtune", ignore=shutil.ignore_patterns("__pycache__"))
    done = run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source], folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def bare(wheel, tmp_path_factory) -> Path:
    """The folder of an environment's commands, where the wheel and the benchmark are."""
    folder = tmp_path_factory.mktemp("bare")
    done = run([sys.executable, "-m", "venv", folder / "venv"], folder)
    assert done.returncode == 0, done.stderr
    python = folder / "venv/bin/python"
    pip(python, folder, "--constraint", ROOT / "constraints.txt", wheel)
    pip(python, folder, "--constraint", ROOT / "constraints.txt", "--no-deps", "bfcl-eval")
    return python.parent


@pytest.mark.slow
@pytest.mark.xdist_group("wheel")
def test_the_wheel_holds_every_file_of_the_package(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path.relative_to(PACKAGE.parent).as_posix() for path in files} <= held
    assert wheel.stat().st_size < 6e6


@pytest.mark.slow
@pytest.mark.xdist_group("wheel")
def test_the_bare_wheel_plays(bare, tmp_path):
    done = run([bare / "python", "-c", textwrap.dedent(PLAY)], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert str(ROOT) not in done.stdout
    listed = run([bare / "python", "-m", "pip", "list", "--format=freeze"], tmp_path).stdout
    assert not re.findall(r"^(?:torch|transformers|ipython|jupyter|matplotlib)\b.*", listed, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.xdist_group("wheel")
def test_the_commands_of_the_bare_wheel(bare, tmp_path):
    envtune_command = bare / "envtune"
    assert "Teach a language model" in run([envtune_command, "--help"], tmp_path).stdout
    done = run([envtune_command, "evaluate", "noisy:0.2", "--limit", "2"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "turn accuracy" in done.stdout
    with serving(
        answer=lambda body: {"choices": [{"message": {"content": "Done."}, "finish_reason": "stop"}]}
    ) as server:
        done = run([envtune_command, "evaluate", server.url, "--model", "m", "--limit", "2"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert server.answered


@pytest.mark.slow
@pytest.mark.xdist_group("wheel")
@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["run", ROOT / "params/tiny.yaml"], "workbook"),
        (["train", ROOT / "params/tiny.yaml"], "train"),
        (["evaluate", "tiny", "--limit", "1"], "train"),
        (["mcp", "--domains", "MathAPI"], "interop"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_command_without_its_extra_names_it(bare, tmp_path, command, extra):
    done = run([bare / "envtune", *command], tmp_path, stdin=subprocess.DEVNULL)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.fullmatch(rf"envtune: error: .*the extra '{extra}': pip install 'envtune\[{extra}\]'.*\n", done.stderr)
