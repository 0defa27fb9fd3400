"""The file: killed anywhere and resumed it has the same bytes, and nothing foreign is taken for a result."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from envtune import locks, sources
from envtune.data.splits import task_digest
from envtune.evaluation import Result, evaluate, load_result
from envtune.policy import Chat, Noise, NoisyOracle, Silent, load_policy
from envtune.types import Task, Unusable

POLICY = NoisyOracle(Noise.level(0.4), seed=2)


@pytest.fixture(scope="module")
def some(tasks: list[Task]) -> list[Task]:
    return tasks[::50]


def run(tasks: list[Task], path: Path, **options) -> Result:  # type: ignore[no-untyped-def]
    return evaluate(POLICY, tasks, path, progress=False, **options)


@pytest.fixture(scope="module")
def whole(some: list[Task], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "deep" / "run.jsonl"
    run(some, path)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, whole: bytes) -> Path:
    path = tmp_path / "run.jsonl"
    path.write_bytes(whole)
    return path


def test_load_result(some: list[Task], path: Path) -> None:
    result = load_result(path)
    assert result == evaluate(POLICY, some, progress=False)
    assert result.policy == "noisy"
    assert len(result) == len(some)


def test_a_finished_file_is_read_not_played(some: list[Task], path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NoisyOracle, "reply", lambda self, chats: pytest.fail("played again"))
    assert run(some, path) == load_result(path)


def test_resumes_from_any_prefix(some: list[Task], path: Path, whole: bytes) -> None:
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    rng = random.Random(0)
    cuts = [0, 1, ends[0] - 1, ends[0], ends[0] + 1, ends[1] - 1, ends[-1] - 1, *rng.sample(range(len(whole)), 8)]
    for i, cut in enumerate(cuts):
        path.write_bytes(whole[:cut])
        run(some, path, batch_size=1 + 7 * (i % 3))
        assert path.read_bytes() == whole


class Slow(NoisyOracle):
    def reply(self, chats):  # type: ignore[no-untyped-def]
        time.sleep(0.002)
        return super().reply(chats)


def play_slowly(tasks: list[Task], path: Path) -> None:
    evaluate(Slow(Noise.level(0.4), seed=2), tasks, path, batch_size=2, progress=False)


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed(tasks: list[Task], tmp_path: Path) -> None:
    """Forked, because twenty starts of Python would take longer than the test."""
    path, many = tmp_path / "run.jsonl", tasks[::5]
    run(many, tmp_path / "whole.jsonl")
    whole = (tmp_path / "whole.jsonl").read_bytes()
    rng = random.Random(1)
    sizes = [0]
    for _ in range(20):
        goal = sizes[-1] + rng.randrange(1, len(whole) // 25)
        process = multiprocessing.get_context("fork").Process(target=play_slowly, args=(many, path))
        process.start()
        while process.is_alive() and (not path.exists() or path.stat().st_size < goal):
            time.sleep(0.001)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        sizes.append(path.stat().st_size)
    assert sizes[-1] < len(whole)
    assert len(set(sizes)) > 10
    play_slowly(many, path)
    assert path.read_bytes() == whole


@pytest.mark.long
@pytest.mark.slow
def test_a_language_model_resumes_to_the_same_bytes(tasks: list[Task], tmp_path: Path) -> None:
    """Its replies do not depend on who else is in the batch, which differs in a resumed run."""
    path, few, policy = tmp_path / "run.jsonl", tasks[7::160], load_policy("tiny")
    evaluate(policy, few, path, batch_size=4, progress=False)
    whole = path.read_bytes()
    rng = random.Random(2)
    for cut in sorted(rng.sample(range(len(whole)), 20)):
        path.write_bytes(whole[:cut])
        evaluate(policy, few, path, batch_size=rng.choice([1, 3, 4, 8]), progress=False)
        assert path.read_bytes() == whole


def refused(some: list[Task], path: Path, message: str) -> None:
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message) as caught:
        run(some, path)
    assert "delete the file to start again" in str(caught.value)
    assert path.read_bytes() == before


def test_refuses_another_configuration(some: list[Task], path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds another evaluation: policy is noisy there and silent here; sett"):
        evaluate(Silent(), some, path, progress=False)
    with pytest.raises(ValueError, match=r"evaluation: protocol\.max_steps_per_turn is 20 there and 10 here\. Give"):
        run(some, path, max_steps_per_turn=10)
    with pytest.raises(ValueError, match=r"tasks\.n is 16 there and 15 here; tasks\.sha256"):
        run(some[:-1], path)
    with pytest.raises(ValueError, match=r"tasks\.sha256 is [0-9a-f]{10} there and [0-9a-f]{10} here\. Give"):
        run(some[::-1], path)


def test_what_failed_before_its_first_task_does_not_bar_the_corrected_command(
    some: list[Task], path: Path, whole: bytes
) -> None:
    path.unlink()

    class Mute(Silent):
        name = "mute"

        def reply(self, chats: Sequence[Chat]) -> list[str]:
            return []

    with pytest.raises(ValueError, match="answered 0 of"):
        evaluate(Mute(), some, path, progress=False)
    assert path.read_bytes().count(b"\n") == 1
    run(some, path)
    assert path.read_bytes() == whole


def test_rows_of_two_codes_do_not_meet_in_one_file(
    some: list[Task], path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = whole[: len(whole) // 2]
    for content in (begun, whole):
        path.write_bytes(content)
        with monkeypatch.context() as patch:
            patch.setattr(sources, "running", lambda only: "other code")
            refused(some, path, r"holds another evaluation: made by other code \([0-9a-f]{10}, now other code\)\. Give")
    path.write_bytes(begun)
    run(some, path)
    assert path.read_bytes() == whole


def edit(path: Path, line: int, old: str, new: str) -> None:
    lines = path.read_text().split("\n")
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new, 1)
    path.write_text("\n".join(lines))


def test_refuses_a_damaged_middle_line(some: list[Task], path: Path) -> None:
    edit(path, 4, '"category"', '"categ')
    refused(some, path, r"run\.jsonl, line 4: not a task's line \(")
    with pytest.raises(ValueError, match="line 4: not a task's line"):
        load_result(path)


def test_refuses_a_changed_number(some: list[Task], path: Path) -> None:
    edit(path, 3, '"steps":', '"steps":1')
    refused(some, path, r"line 3: does not match its episode \(task multi_turn_base_50\)")


def test_refuses_rows_out_of_place(some: list[Task], path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], *lines[2:]]))
    refused(some, path, "line 2: task multi_turn_base_50 where task multi_turn_base_0 belongs")
    path.write_bytes(b"".join([*lines, lines[1]]))
    refused(some, path, "line 18: task multi_turn_base_0 where the end of the file belongs")


def test_refuses_a_foreign_torn_line(some: list[Task], path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"garbage")
    refused(some, path, "line 18: not the start of a task's line")
    first_two = path.read_bytes().splitlines(keepends=True)[:2]
    path.write_bytes(b"".join(first_two) + b'{"task_id":"multi_turn_base_0",')
    refused(some, path, "line 3: not the start of a task's line")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"my notes", "line 1: not the start of an evaluation"),
        (b"my notes\n", r"line 1: not the header of an evaluation \(Invalid JSON"),
        (b'{"schema_version":1}\n', r"line 1: not the header of an evaluation \(config: Field required"),
        (b'{"schema_version":2,"config":{},"config_hash":""}\n', "written in format 2, this version reads 1"),
        (b'{"schema_version":1,"config":{},"config_hash":""}\n', "config_hash is not the hash of config"),
    ],
)
def test_refuses_another_file(some: list[Task], path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    refused(some, path, message)


def test_an_unfinished_file_is_no_result(path: Path, whole: bytes) -> None:
    path.write_bytes(whole[:-5])
    with pytest.raises(ValueError, match=r"holds 15 of 16 tasks\. Run the same evaluation again to finish it"):
        load_result(path)
    path.write_bytes(whole[:5])
    with pytest.raises(ValueError, match="no complete header line"):
        load_result(path)


def test_two_processes_cannot_write_the_same_file(some: list[Task], path: Path) -> None:
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="is being written by another process"):
            run(some, path)


def test_a_file_system_without_flock_has_another_lock(
    some: list[Task], path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    path.write_bytes(whole[:-9])
    with pytest.warns(locks.NoLockWarning, match=r"has no locks \(flock\)\. A marker file replaces them"):
        run(some, path)
    assert path.read_bytes() == whole
    with path.open("a+b") as file, pytest.warns(locks.NoLockWarning), locks.alone_with(path, file.fileno()):
        done = subprocess.run([sys.executable, "-c", SECOND, str(path)], capture_output=True, text=True, check=True)
    assert "is being written by another process" in done.stdout
    assert [file.name for file in path.parent.iterdir()] == [path.name]


SECOND = """
import fcntl, sys
def refuse(*_):
    raise OSError(38, "Function not implemented")
fcntl.flock = refuse
from envtune import evaluate, load_policy, load_tasks
try:
    evaluate(load_policy("silent"), load_tasks("synth", n=1), sys.argv[1], progress=False)
except ValueError as error:
    print(error)
"""


def test_lines_are_plain_json_and_hold_no_time_or_place(whole: bytes) -> None:
    header, *rows = [json.loads(line) for line in whole.splitlines()]
    assert header["config"]["data"]["bfcl-eval"]
    assert rows[0]["task_id"] == rows[0]["episode"]["task_id"]
    assert os.getcwd().encode() not in whole  # noqa: PTH109


def test_digest_sees_every_change(some: list[Task]) -> None:
    assert task_digest(some) == task_digest(list(some))
    assert task_digest(some) != task_digest(some[::-1])


class Odd(Silent):
    """Answers with one message of every unusable kind, and notes something about each."""

    name = "odd"

    def reply(self, chats: Sequence[Chat]) -> list[str]:
        for chat in chats:
            chat.notes["short_prompt"] += 1
        return [["", *(kind.mark for kind in Unusable if kind is not Unusable.EMPTY)][chat.turn % 4] for chat in chats]


def test_unusable_messages_and_notes_are_stored_and_counted(some: list[Task], tmp_path: Path, capfd) -> None:
    path = tmp_path / "run.jsonl"
    result = evaluate(Odd(), some, path, progress=False)
    steps = sum(row.steps for row in result.rows)
    assert load_result(path) == result
    assert sum(result.unusable.values()) == steps == result.notes["short_prompt"]
    assert set(result.unusable) == set(Unusable)
    assert f"100.0% of {steps} messages could not be used" in capfd.readouterr().err
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))
    assert evaluate(Odd(), some, path, progress=False) == result
    assert path.read_bytes() == b"".join(lines)
    edit(path, 3, '"empty":', '"empty":1')
    with pytest.raises(ValueError, match="line 3: does not match its episode"):
        load_result(path)


def test_rows_of_older_files_do_not_say_what_was_unusable(some: list[Task], tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    result = evaluate(Odd(), some, path, progress=False)
    path.write_text(re.sub(r',"unusable":\{[^}]*\}', "", path.read_text()))
    assert [row.episode for row in load_result(path).rows] == [row.episode for row in result.rows]


def test_what_is_no_file_is_refused(some: list[Task], tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/null")):
        with pytest.raises(ValueError, match=f"{path} is no regular file"):
            run(some, path)


def test_a_full_disk_is_named_and_the_rows_are_kept(some: list[Task], path: Path, whole: bytes) -> None:
    """A limit on the size of files stands for the disk."""
    path.unlink()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) // 2, before[1]))
    try:
        with pytest.raises(OSError, match=f"the rows so far were kept: '{path}'"):
            run(some, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(path.read_bytes()) == len(whole) // 2
    run(some, path)
    assert path.read_bytes() == whole
