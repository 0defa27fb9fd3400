"""The benchmark as we read it against the benchmark as its own code reads it."""

from __future__ import annotations

import ast
import copy
import inspect
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import envtune
from envtune.data import bfcl
from envtune.environment import store
from envtune.types import Category, ToolCall


def test_all_instances(tasks):
    assert len(tasks) == 800
    assert {c: sum(t.category == c for t in tasks) for c in Category} == dict.fromkeys(Category, 200)
    assert [t.number for t in tasks] == list(range(200)) * 4
    assert 1 <= min(t.n_turns for t in tasks) <= max(t.n_turns for t in tasks) <= 8
    assert {c for t in tasks for c in t.involved_classes} == set(bfcl.TOOL_DOCS)


def test_every_documented_tool_is_a_method_and_no_name_stands_twice(tasks):
    """128 tools in this version; the ground truth uses 81 of them (the paper speaks of 84)."""
    names = [doc["name"] for docs in bfcl.tool_documents().values() for doc in docs]
    assert len(names) == len(set(names)) == 128
    assert {call.name for task in tasks for turn in task.ground_truth for call in turn} <= set(names)
    for cls, docs in bfcl.tool_documents().items():
        assert store._tools(cls) == {doc["name"] for doc in docs}


def _official_convert_to_tool() -> Any:
    """The official function, taken from its source: its module needs parsers that are not installed."""
    from bfcl_eval.constants.enums import ModelStyle
    from bfcl_eval.constants.type_mappings import GORILLA_TO_OPENAPI

    source = ast.parse((bfcl.package_dir() / "model_handler/utils.py").read_text())
    wanted = [n for n in source.body if getattr(n, "name", "") in ("_cast_to_openai_type", "convert_to_tool")]
    namespace: dict[str, Any] = {
        "copy": copy,
        "re": re,
        "ModelStyle": ModelStyle,
        "GORILLA_TO_OPENAPI": GORILLA_TO_OPENAPI,
    }
    exec(compile(ast.Module(wanted, []), "utils.py", "exec"), namespace)
    style = ModelStyle.OPENAI_COMPLETIONS
    return lambda docs: namespace["convert_to_tool"](docs, GORILLA_TO_OPENAPI, style)


@pytest.mark.parametrize("category", list(Category))
def test_tool_schemas_are_the_official_ones(category, by_id, tmp_path, monkeypatch):
    monkeypatch.setenv("BFCL_PROJECT_ROOT", str(tmp_path))
    import bfcl_eval.utils as official

    convert = _official_convert_to_tool()
    for entry in official.load_dataset_entry(f"multi_turn_{category}"):
        task = by_id[entry["id"]]
        assert list(task.tools) == convert(entry["function"])
        withheld = {int(turn): tuple(convert(docs)) for turn, docs in entry.get("missed_function", {}).items()}
        assert task.withheld == withheld
        assert [[m["content"] for m in turn] or [""] for turn in entry["question"]] == [[u] for u in task.user_turns]


def test_withheld_tools_are_absent_until_handed_over(tasks):
    for task in (t for t in tasks if t.category is Category.MISS_FUNC):
        (turn,) = task.withheld
        names = {tool["function"]["name"] for tool in task.withheld[turn]}
        assert names.isdisjoint(tool["function"]["name"] for tool in task.tools_at(turn - 1))
        assert names <= {tool["function"]["name"] for tool in task.tools_at(turn)}


def test_positional_arguments_get_the_method_s_names(tasks):
    """The tool document's order is the method's order wherever the ground truth is positional."""
    documents = bfcl.tool_documents()
    for cls, docs in documents.items():
        by_name = {doc["name"]: doc for doc in docs}
        for category in Category:
            for _, answer in bfcl.raw(category):
                for text in (text for turn in answer for text in turn):
                    call = ast.parse(text, mode="eval").body
                    if call.func.id in by_name and call.args:
                        method = getattr(store._simulator_class(cls), call.func.id)
                        names = list(inspect.signature(method).parameters)[1 : len(call.args) + 1]
                        assert list(by_name[call.func.id]["parameters"]["properties"])[: len(names)] == names


def test_parse_call():
    docs = {"tail": {"parameters": {"properties": {"file_name": {}, "lines": {}}}}}
    assert bfcl.parse_call("tail('a(b).txt', lines=-2)", docs) == ToolCall(
        "tail", {"file_name": "a(b).txt", "lines": -2}
    )
    for bad in ["tail", "a.tail()", "tail(x)", "head()", "tail(", "__import__('os')", "tail(lines=[print()])"]:
        with pytest.raises(ValueError, match="not a plain call"):
            bfcl.parse_call(bad, docs)


@pytest.fixture
def benchmark_copy(tmp_path: Path) -> Path:
    for name in bfcl.SHA256:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(bfcl.package_dir() / name, tmp_path / name)
    return tmp_path


def test_changed_truncated_and_missing_files_are_named(benchmark_copy):
    bfcl.check_files(benchmark_copy)
    name = "data/BFCL_v4_multi_turn_base.json"
    path = benchmark_copy / name
    content = path.read_bytes()
    path.write_bytes(content[:1000])
    with pytest.raises(ValueError, match=rf"{name}.* expected SHA-256 {bfcl.SHA256[name]}, found [0-9a-f]{{64}}"):
        bfcl.check_files(benchmark_copy)
    path.write_bytes(content.replace(b"final_report", b"filan_report", 1))
    with pytest.raises(ValueError, match="changed or truncated"):
        bfcl.load(benchmark_copy)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name} is missing.*pip install --no-deps bfcl-eval=="):
        bfcl.load(benchmark_copy)


def test_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps bfcl-eval=="):
        bfcl.package_dir()


def test_every_source_has_tasks_in_every_split():
    for name, source in envtune.data.SOURCES.items():
        few = {} if name == "bfcl" else {"n": 2}
        for split in source.splits:
            assert envtune.load_tasks(name, split=split, **few)
        by_default = [task.id for task in envtune.load_tasks(name, **few)]
        assert by_default == [task.id for task in envtune.load_tasks(name, split=source.splits[0], **few)]


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"source": "gsm8k"}, "unknown task source 'gsm8k'. Known: 'bfcl', 'synth', 'chains'"),
        ({"split": "dev"}, "unknown split 'dev'. Known: all, train"),
        ({"categories": ["base", "hard"]}, r"unknown categories \['hard'\]. Known: base"),
    ],
)
def test_bad_requests_name_the_value(kwargs, words):
    with pytest.raises(ValueError, match=words):
        envtune.load_tasks(**kwargs)
