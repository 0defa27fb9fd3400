"""Live tools against the official executor, call by call."""

from __future__ import annotations

import gc
import weakref

import pytest

from envtune.benchmark import official
from envtune.environment.simulator import Simulators, ground_truth_run
from envtune.types import ToolCall


def ours(task, *calls):
    simulators = Simulators(task)
    return [simulators.call(call) for call in calls]


def theirs(task, *calls):
    return official.results(task, [[list(calls)]])[0][0]


AWKWARD = [
    ToolCall("cd", {"folder": "document"}),
    ToolCall("cd", {}),
    ToolCall("cd", {"folder": "document", "deep": True}),
    ToolCall("cd", {"folder": None}),
    ToolCall("cd", {"self": 1}),
    ToolCall("ls", {"a": True}),
    ToolCall("touch", {"file_name": "ünï ✓\n\x00\ud800'\""}),
    ToolCall("post_tweet", {"content": "x", "tags": ["#a"], "mentions": []}),
    ToolCall("tail", {"file_name": "final_report.pdf", "lines": "x"}),
    ToolCall("no_such_tool", {"a": 1}),
    ToolCall("no_such_tool", {"a": float("nan")}),
    ToolCall("touch", {"file_name": float("nan")}),
    ToolCall("touch", {"file_name": [1, {"a": -float("inf")}]}),
    ToolCall("file.system.touch", {"file_name": "x"}),
    ToolCall("kill", {}),
    ToolCall("os.kill", {"pid": 1}),
    ToolCall("exit", {"a b": 1}),
    ToolCall("touch", {"file name": "x"}),
    ToolCall("touch", {"class": "x"}),
    ToolCall("touch", {"": "x"}),
    ToolCall("my-tool", {}),
    ToolCall("two words", {}),
    ToolCall("_load_scenario", {"scenario": {}}),
    ToolCall("_navigate_to_directory", {"path": "/"}),
]


@pytest.mark.parametrize("call", AWKWARD, ids=lambda call: f"{call.name}-{list(call.arguments)}"[:40])
def test_awkward_calls_read_as_in_the_official_executor(by_id, call):
    task = by_id["multi_turn_base_0"]
    assert [result.text for result in ours(task, call)] == theirs(task, call)


@pytest.mark.parametrize(
    "call",
    [
        ToolCall("print", {"x": 1}),
        ToolCall("open", {"file": "/etc/hostname"}),
        ToolCall("importlib.import_module", {"name": "os"}),
        ToolCall("__import__('os').system", {"command": "true"}),
        ToolCall("(lambda x: x)", {"x": 1}),
        ToolCall("", {}),
        ToolCall("touch", {"file_name='a') or print(x": 1}),
    ],
    ids=lambda call: call.name,
)
def test_what_the_official_executor_would_run_is_refused(by_id, call, capsys):
    (result,) = ours(by_id["multi_turn_base_0"], call)
    assert result.error
    assert result.text.startswith("Error during execution: ")
    assert result.guarded
    assert capsys.readouterr().out == ""


def test_unknown_tools_and_failures_are_told_apart(by_id):
    unknown, failed, fine = ours(
        by_id["multi_turn_base_0"],
        ToolCall("walk", {}),
        ToolCall("cd", {"folder": "nowhere"}),
        ToolCall("cd", {"folder": "document"}),
    )
    assert (unknown.unknown_tool, unknown.error) == (True, True)
    assert (failed.unknown_tool, failed.error) == (False, True)
    assert (fine.unknown_tool, fine.error) == (False, False)


def test_errors_inside_lists_count_as_errors(tasks):
    task = next(t for t in tasks if "TradingBot" in t.involved_classes)
    simulators = Simulators(task)
    simulators.call(ToolCall("trading_logout", {}))
    assert simulators.call(ToolCall("get_order_history", {})).error
    assert simulators.call(ToolCall("get_watchlist", {})).error


def test_arguments_stay_the_agent_s_own(by_id):
    """A simulator that keeps a list must not share it with the record of the call, nor with the next episode."""
    task = by_id["multi_turn_base_0"]
    login = ToolCall("authenticate_twitter", {"username": "tech_guru", "password": "securePass123"})
    post = ToolCall("post_tweet", {"content": "x", "mentions": ["@a"]})
    bare = ToolCall("post_tweet", {"content": "y"})
    for _ in range(2):
        simulators = Simulators(task)
        simulators._instances["TwitterAPI"].authenticated = True
        simulators.call(login)
        simulators.call(post)
        first = simulators.call(bare).text
        for tweet_id in (3, 4):
            assert not simulators.call(ToolCall("mention", {"tweet_id": tweet_id, "mentioned_usernames": ["@b"]})).error
        assert post.arguments["mentions"] == ["@a"]
        assert '"mentions": []' in first


def test_rewritten_text_is_the_named_departure(by_id):
    task = by_id["multi_turn_base_0"]
    echo = ToolCall("echo", {"content": "see note (a) and sort(b)"})
    (text,) = [result.text for result in ours(task, echo)]
    assert text == '{"terminal_output": "see note (a) and sort(b)"}'
    assert "note(a)" in theirs(task, echo)[0]
    assert official.rewrites_text(task, [[[echo]]])
    assert not official.rewrites_text(task, [[[ToolCall("echo", {"content": "plain"})]]])


def test_every_episode_starts_afresh_and_frees_its_simulators(by_id):
    task = by_id["multi_turn_long_context_0"]
    simulators = Simulators(task)
    simulators.call(ToolCall("mkdir", {"dir_name": "mine"}))
    assert "mine" not in Simulators(task).call(ToolCall("ls", {})).text
    alive = weakref.ref(simulators._instances["GorillaFileSystem"])
    del simulators
    gc.collect()
    assert alive() is None


def test_ground_truth_runs_once_and_is_not_touched_by_episodes(by_id):
    task = by_id["multi_turn_base_0"]
    run = ground_truth_run(task)
    assert run is ground_truth_run(task)
    assert Simulators(task).call(ToolCall("cd", {"folder": "document"})).text == run[0].responses[0]
    assert len(run) == task.n_turns
    assert [len(turn.responses) for turn in run] == [len(turn) for turn in task.ground_truth]


def test_a_fork_goes_its_own_way_from_the_same_state(tasks):
    """Calls on the copy leave the original alone, and chance goes on as it would have."""
    for task in tasks[::40]:
        calls = [call for turn in task.ground_truth for call in turn]
        plain, watched = Simulators(task), Simulators(task)
        for call in calls[: len(calls) // 2]:
            plain.call(call)
            watched.call(call)
        fork = watched.fork()
        expected = [plain.call(call) for call in calls[len(calls) // 2 :]]
        assert [fork.call(call) for call in calls[len(calls) // 2 :]] == expected
        assert [watched.call(call) for call in calls[len(calls) // 2 :]] == expected
        assert fork.state_equals(watched.state())
