"""The driver: numbers of known agents, batches, protocol, and the table."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tqdm.auto import tqdm

from envtune.chat import render_calls
from envtune.environment import replay
from envtune.evaluation import Result, compare, evaluate, load_result
from envtune.evaluation.records import make_row
from envtune.policy import Chat, Noise, NoisyOracle, Oracle, Silent
from envtune.types import JSON, Category, StopReason, Task, ToolCall


def quick(policy, tasks: Sequence[Task], path: Path | None = None, **options) -> Result:  # type: ignore[no-untyped-def]
    return evaluate(policy, tasks, path, progress=False, **options)


@pytest.mark.slow
@pytest.mark.parametrize("reveal", ["message", "recompile"])
def test_oracle_is_perfect(tasks: list[Task], reveal) -> None:  # type: ignore[no-untyped-def]
    result = quick(Oracle(), tasks, reveal=reveal)
    assert (result.accuracy, result.turn_accuracy) == (1.0, 1.0)
    assert all(episode.strict_success for episode in result.episodes)


def test_silent_scores_nothing(tasks: list[Task]) -> None:
    result = quick(Silent(), tasks[::8])
    assert result.accuracy == 0
    assert result.table().loc["all", "steps_per_turn"] == 1
    assert math.isnan(result.table().loc["all", "error_rate"])


class Recorder:
    """Answers like an oracle and keeps what it was shown."""

    name = "recorder"

    def __init__(self) -> None:
        self.settings: JSON = {}
        self.batches: list[int] = []
        self.last: dict[str, Chat] = {}
        self.heads: dict[str, list[int]] = {}

    def reply(self, chats: Sequence[Chat]) -> list[str]:
        self.batches.append(len(chats))
        for chat in chats:
            self.last[chat.task.id] = chat
            self.heads.setdefault(chat.task.id, []).append(len(chat.tools))
        return Oracle().reply(chats)


def test_batches_are_full_and_rows_in_order(tasks: list[Task]) -> None:
    some = tasks[::100]
    policy = Recorder()
    result = quick(policy, some, batch_size=3)
    assert [row.task_id for row in result.rows] == [task.id for task in some]
    assert max(policy.batches) == 3
    assert policy.batches[:4] == [3] * 4
    assert result.rows == quick(Recorder(), some, batch_size=1).rows == quick(Recorder(), some, batch_size=99).rows


class OneByOne(Recorder):
    def reply_some(self, chats: Sequence[Chat]) -> list[str | None]:
        return [*self.reply(chats[-1:]), *[None] * (len(chats) - 1)][::-1]


def test_episodes_go_on_while_others_wait_for_their_message(tasks: list[Task]) -> None:
    some = tasks[::200]
    assert quick(OneByOne(), some, batch_size=3).rows == quick(Recorder(), some).rows


def test_a_policy_that_never_answers_is_refused(tasks: list[Task]) -> None:
    class Mute(Recorder):
        def reply_some(self, chats: Sequence[Chat]) -> list[str | None]:
            return [None] * len(chats)

    with pytest.raises(ValueError, match="recorder answered none of 2 chats"):
        quick(Mute(), tasks[:2])


def test_chat_holds_the_whole_conversation(tasks: list[Task]) -> None:
    policy = Recorder()
    episode = quick(policy, tasks[:1]).episodes[0]
    messages = policy.last[tasks[0].id].messages
    roles = [message["role"] for message in messages]
    assert roles[0] == "user"
    assert roles.count("user") == episode.n_turns
    assert roles.count("assistant") == len(episode.steps)
    assert [m["content"] for m in messages if m["role"] == "tool"] == [
        result.text for step in episode.steps for result in step.results
    ]


def test_withheld_tools_reach_the_head_of_the_chat_only_if_recompiled(by_id: dict[str, Task]) -> None:
    task = by_id["multi_turn_miss_func_0"]
    for reveal, grows in (("message", False), ("recompile", True)):
        policy = Recorder()
        assert quick(policy, [task], reveal=reveal).accuracy == 1
        assert (len(set(policy.heads[task.id])) > 1) is grows


class Endless:
    """Calls the same tool for ever."""

    name = "endless"

    def __init__(self) -> None:
        self.settings: JSON = {}

    def reply(self, chats: Sequence[Chat]) -> list[str]:
        return [render_calls([ToolCall("no_such_tool", {})])] * len(chats)


def test_step_limit(tasks: list[Task]) -> None:
    row = quick(Endless(), tasks[:1], max_steps_per_turn=5).rows[0]
    assert row.episode.stop is StopReason.STEP_LIMIT
    assert (row.steps, row.calls, row.failed_calls, row.played_turns) == (6, 6, 6, 1)
    assert not row.success


def test_table_counts_by_hand(by_id: dict[str, Task]) -> None:
    some = [by_id[f"multi_turn_{category}_{number}"] for category in ("miss_func", "base") for number in (3, 4, 5)]
    result = quick(NoisyOracle(Noise.level(0.6), seed=1), some)
    table, rows = result.table(), result.rows
    assert list(table.index) == ["base", "miss_func", "all"]
    assert list(table["n"]) == [3, 3, 6]
    total = table.loc["all"]
    assert total["task_accuracy"] == result.accuracy == sum(e.success for e in result.episodes) / 6
    assert total["calls_per_turn"] == sum(row.calls for row in rows) / sum(len(e.turns) for e in result.episodes)
    assert total["error_rate"] == sum(row.failed_calls for row in rows) / sum(row.calls for row in rows)
    assert total["format_error_rate"] == sum(row.format_errors for row in rows) / sum(row.steps for row in rows)
    for metric in ("task_accuracy", "strict_task_accuracy", "progress"):
        assert (table[f"{metric}_low"] <= table[metric]).all()
        assert (table[metric] <= table[f"{metric}_high"]).all()
    assert result.by_category.equals(table.iloc[:2])


def test_row_of_an_unfinished_episode(tasks: list[Task]) -> None:
    row = make_row(replay(tasks[0], [[list(tasks[0].ground_truth[0])]]))
    assert (row.correct_turns, row.played_turns, row.n_turns) == (1, 1, tasks[0].n_turns)
    assert (row.success, row.category) == (False, Category.BASE)


def test_compare(tasks: list[Task]) -> None:
    some = tasks[::8]
    good, bad = quick(Oracle(), some), quick(NoisyOracle(Noise.level(0.5)), some)
    difference = compare(good, bad)
    assert difference.value == pytest.approx(1 - bad.accuracy)
    assert difference.p_value < 0.01
    assert compare(replace(good, rows=good.rows[::-1]), bad) == difference
    assert compare(bad, good, "progress").value < 0
    assert compare(good, good).p_value == 1


def test_compare_refuses(tasks: list[Task]) -> None:
    a, b = quick(Silent(), tasks[:2]), quick(Silent(), tasks[:3])
    with pytest.raises(ValueError, match="do not share their tasks: 1 are in one only, such as multi_turn_base_2"):
        compare(a, b)
    with pytest.raises(ValueError, match=r"unknown metric 'acuracy'\. Known: task_accuracy, strict_task_acc"):
        compare(a, a, "acuracy")


class Short(Silent):
    def reply(self, chats: Sequence[Chat]) -> list[str]:
        return [""]


def test_refuses_wrong_arguments(tasks: list[Task], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no tasks"):
        quick(Silent(), [])
    with pytest.raises(ValueError, match="task multi_turn_base_0 is given more than once"):
        quick(Silent(), [tasks[0], tasks[1], tasks[0]])
    with pytest.raises(ValueError, match=r"batch_size is 0\. It must be at least 1"):
        quick(Silent(), tasks[:1], batch_size=0)
    with pytest.raises(ValueError, match="policy silent answered 1 of 2 chats"):
        quick(Short(), tasks[:2])
    with pytest.raises(TypeError, match=r"Give load_policy\('oracle'\)"):
        evaluate("oracle", tasks[:1])
    with pytest.raises(FileNotFoundError):
        load_result(tmp_path / "none.jsonl")


def test_a_part_of_a_result_is_never_empty(tasks: list[Task]) -> None:
    result = quick(Silent(), tasks[:2])
    assert result.only("base") == result
    with pytest.raises(ValueError, match=r"no task of miss_func was played\. There are base"):
        result.only("miss_func")
    with pytest.raises(ValueError, match="other"):
        result.only("other")


def test_one_bar_counts_several_evaluations(tasks: list[Task], tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    quick(Silent(), tasks[:3], file)
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:2]))  # one of three tasks is left
    with tqdm(total=5, file=io.StringIO()) as bar:
        evaluate(Silent(), tasks[:3], file, progress=bar)
        evaluate(Oracle(), tasks[:2], progress=bar)
        assert bar.n == 5
