"""The benchmark's result files: what is written is read back, and half a file is an error of one line."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from bfcl_eval.utils import extract_test_category, get_directory_structure_by_id, load_file, sort_key

from envtune.benchmark.confined import Runner
from envtune.benchmark.result_files import entry_of, file_name, read_results, write_results
from envtune.chat import CUT_OFF, parse_reply, render_calls
from envtune.environment import replay
from envtune.evaluation import evaluate
from envtune.policy import load_policy
from envtune.types import Task, ToolCall

CALL = '<tool_call>\n{"name": "ls", "arguments": {"a": true}}\n</tool_call>'


@pytest.fixture(scope="module")
def some(tasks: list[Task]) -> list[Task]:
    return [task for task in tasks if task.number % 40 == 3]


@pytest.fixture
def folder(some: list[Task], tmp_path: Path) -> Path:
    episodes = evaluate(load_policy("noisy:0.3"), some, progress=False).episodes
    write_results(tmp_path, "owner/model-FC", episodes[::-1])
    return tmp_path


def test_written_as_the_official_runner_writes(some: list[Task], folder: Path) -> None:
    """Names, folders, order and content are checked with the benchmark's own functions."""
    files = sorted(folder.rglob("*.json"))
    assert len(files) == 4
    for file in files:
        entries = load_file(file, sort_by_id=False, use_lock=False)
        assert entries == sorted(entries, key=sort_key)
        assert len(entries) == 5
        category = extract_test_category(file)
        assert {entry["id"].rsplit("_", 1)[0] for entry in entries} == {category}
        assert file.parent == folder / "owner_model-FC" / get_directory_structure_by_id(entries[0]["id"])


def test_round_trip(some: list[Task], folder: Path, tasks: list[Task]) -> None:
    found = {entry.task_id: entry for entry in read_results(folder, tasks, partial=True).entries}
    episodes = evaluate(load_policy("noisy:0.3"), some, progress=False).episodes
    assert found == {episode.task_id: entry_of(episode) for episode in episodes}


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with Runner() as runner:
        yield runner


@pytest.mark.parametrize(
    ("text", "official", "ours"),
    [
        ("Done.", 0, 0),
        (CALL.replace("\n", ""), 0, 1),
        (CALL + "\n<tool_call>\n{broken\n</tool_call>", 1, 0),
        (CALL.replace("true", "NaN"), 1, 0),
        (CALL.replace('{"a": true}', "[]"), 0, 0),
        (CALL.replace('{"a": true}', "[]") + CALL, 0, 0),
    ],
)
def test_where_the_two_read_differently(runner: Runner, tasks: list[Task], text: str, official: int, ours: int) -> None:
    steps = runner.judge(tasks[0], [[text]]).expressions[0]
    assert (sum(map(len, steps)), len(parse_reply(text).calls)) == (official, ours)


def test_reasoning_and_marks_are_not_written(tasks: list[Task]) -> None:
    class Thinker:
        name, settings = "thinker", {}

        def reply(self, chats):  # type: ignore[no-untyped-def]
            return ["<think>\n" + CALL + "\n</think>\n\nDone." + CUT_OFF] * len(chats)

    (episode,) = evaluate(Thinker(), tasks[:1], progress=False).episodes
    assert entry_of(episode).turns == (("Done.",),) * tasks[0].n_turns


def break_line(folder: Path, change) -> Path:  # type: ignore[no-untyped-def]
    file = sorted(folder.rglob("*base_result.json"))[0]
    lines = file.read_text().splitlines()
    lines[1] = change(lines[1])
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: line[:40], r"line 2: not complete JSON \(half a result file"),
        (lambda line: "[]", 'line 2: not an entry with "id" and "result"'),
        (
            lambda line: line.replace("multi_turn_base_", "simple_python_"),
            "line 2: unknown instance 'simple_python_43'",
        ),
        (lambda line: json.dumps({**json.loads(line), "id": ["a", "b"]}), r"line 2: unknown instance \['a', 'b'\]"),
        (
            lambda line: line.replace("_43", "_3", 1),
            r"multi_turn_base_3 is in the files more than once, in .*base_result\.json and in",
        ),
        (lambda line: json.dumps({**json.loads(line), "result": [1]}), '"result" of multi_turn_base_43 is not a list'),
    ],
)
def test_bad_files_are_refused(folder: Path, tasks: list[Task], change, message: str) -> None:  # type: ignore[no-untyped-def]
    break_line(folder, change)
    with pytest.raises(ValueError, match=message) as caught:
        read_results(folder, tasks, partial=True)
    assert "\n" not in str(caught.value)


def test_half_a_split_must_be_asked_for(folder: Path, tasks: list[Task], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"5 instances of base, which is no whole split \(half a result file"):
        read_results(folder, tasks)
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "none.json"):
        with pytest.raises(FileNotFoundError, match=r"no result file at .*: give BFCL_v4_multi_turn_"):
            read_results(path, tasks)


def test_an_error_of_the_runner_is_an_entry(tasks: list[Task], tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(json.dumps({"id": tasks[0].id, "result": "Error during inference: timeout"}) + "\n")
    (entry,) = read_results(file, tasks, partial=True).entries
    assert (entry.turns, entry.result) == (None, "Error during inference: timeout")


def test_rendered_calls_are_read_by_both(runner: Runner, tasks: list[Task]) -> None:
    calls = [ToolCall("ls", {"a": True}), ToolCall("pwd", {})]
    text = render_calls(calls)
    judged = runner.judge(tasks[0], [[text]])
    assert judged.expressions == [[["ls(a=True)", "pwd()"]]]
    assert judged.calls == [[calls]] == [[list(parse_reply(text).calls)]]


def test_other_layouts_of_the_same_json_are_read(some: list[Task], tasks: list[Task], tmp_path: Path) -> None:
    lines = [{"id": task.id, "result": [["é"]] * task.n_turns} for task in some]
    plain = [json.dumps(line, ensure_ascii=False) for line in lines]
    pretty = [json.dumps(line, indent=2, ensure_ascii=False) for line in lines]
    file = tmp_path / "x.json"
    for text in [
        "\n".join(plain),
        "\n".join(plain) + "\n\n",
        "\ufeff" + "\n\n".join(plain),
        "\r\n".join(plain) + "\r\n",
        "\n".join(pretty) + "\n",
        json.dumps(lines, indent=2),
        json.dumps(lines),
    ]:
        file.write_bytes(text.encode())
        found = read_results(file, tasks, partial=True).entries
        assert [entry.task_id for entry in found] == [task.id for task in some], text[:20]
        assert found[0].turns == (("é",),) * some[0].n_turns
    file.write_text(pretty[0] + pretty[1][:30])
    with pytest.raises(ValueError, match=r"x\.json, entry 2: not complete JSON"):
        read_results(file, tasks, partial=True)


def test_files_of_two_models_are_both_named(some: list[Task], tasks: list[Task], tmp_path: Path) -> None:
    for model in ("one", "two"):
        write_results(tmp_path, model, [replay(some[0], [])])
    name = file_name("base")
    with pytest.raises(ValueError, match=rf"two models, in .*/one/multi_turn/{name} and in .*/two/multi_turn/{name}"):
        read_results(tmp_path, tasks, partial=True)


def test_folders_behind_links_are_found_once(some: list[Task], tasks: list[Task], tmp_path: Path) -> None:
    write_results(tmp_path / "elsewhere", "model", [replay(some[0], [])])
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "linked").symlink_to(tmp_path / "elsewhere" / "model")
    (tmp_path / "result" / "circle").symlink_to(tmp_path / "result")
    found = read_results(tmp_path / "result", tasks, partial=True)
    assert len(found.files) == len(found.entries) == 1
    assert "linked" in found.folders
    assert "model" in found.folders, "the model's name may be that of the folder or of the link"


def test_logs_are_not_kept(some: list[Task], tasks: list[Task], tmp_path: Path) -> None:
    """A result file is mostly the runner's log: 200 MB of it are read in the memory of one line."""
    log = [{"step_0": [{"role": "assistant", "content": "thinking " * 100_000}]}]
    lines = [{"id": task.id, "result": [["Done."]] * task.n_turns, "inference_log": log} for task in some]
    file = tmp_path / "x.json"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    tracemalloc.start()
    assert len(read_results(file, tasks, partial=True).entries) == len(some) == 20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.4 * file.stat().st_size
