"""Nothing that a model writes can hang, exhaust or change the process, and no ground truth meets a guard."""

from __future__ import annotations

import copy
import decimal
import importlib
import json
import random
import threading
import time
from dataclasses import replace

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envtune
from envtune.benchmark import official
from envtune.data.bfcl import TOOL_DOCS
from envtune.environment import guards, isolation
from envtune.environment.simulator import RawResult, Recorded, Simulators, ground_truth_run
from envtune.environment.store import SOURCES
from envtune.policy.noise import Noise, perturb
from envtune.studies.fuzz import fuzz, search
from envtune.studies.hostile import all_simulators
from envtune.studies.speed import memory_growth
from envtune.types import ToolCall


@pytest.fixture
def task(tasks):
    """A task with all eight simulators and all 128 tools."""
    return all_simulators(tasks, random.Random(0))


@pytest.fixture
def everything(task):
    return Simulators(task)


def call(simulators, name, /, **arguments):
    began = time.thread_time()
    result = simulators.call(ToolCall(name, arguments))
    assert time.thread_time() - began < 1
    assert type(result.text) is str
    return result


def nested(depth):
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


CYCLE: list = []
CYCLE.append(CYCLE)
SHARED: list = []
for _ in range(60):
    SHARED = [SHARED, SHARED]

HOSTILE = {
    "power: exponent": ("power", {"base": 10, "exponent": 10**10}),
    "power: base and exponent": ("power", {"base": 10**4000, "exponent": 10**4000}),
    "power: not real": ("power", {"base": -8, "exponent": 0.5}),
    "round_number": ("round_number", {"number": 5, "decimal_places": -(10**8)}),
    "square_root": ("square_root", {"number": 2, "precision": 10**7}),
    "square_root, text": ("square_root", {"number": 2, "precision": "10000000"}),
    "logarithm": ("logarithm", {"value": 7, "base": 3, "precision": 10**6}),
    "logarithm: exponent of 4,000 digits": ("logarithm", {"value": "1e" + "9" * 4000, "base": 3, "precision": 10}),
    "an integer that cannot be printed": ("add", {"a": 10**5000, "b": 1}),
    "a long text": ("echo", {"content": "x" * 200_000}),
    "deep nesting": ("display_log", {"messages": nested(70)}),
    "a cycle": ("display_log", {"messages": CYCLE}),
    "2 ** 60 shared lists": ("display_log", {"messages": SHARED}),
    "bytes": ("display_log", {"messages": b"x"}),
    "a key that is no text": ("edit_ticket", {"ticket_id": 1, "updates": {1: 2}}),
    "a long path for every match": ("find", {"path": "./" * 49_000}),
    "a name that every ticket repeats": ("ticket_login", {"username": "x" * 1000, "password": "x"}),
    "a long tool name": ("x" * 300, {}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_calls_end_with_an_error_that_says_what_to_do(everything, name):
    tool, arguments = HOSTILE[name]
    result = call(everything, tool, **arguments)
    assert result.error
    assert result.guarded
    message = guards.exceeded(result.text)
    assert message is not None
    assert "; " in message
    assert len(result.text) < 200
    assert call(everything, "pwd").text.startswith("{")


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("cd", {"folder": 5}),
        ("touch", {"file_name": {}}),
        ("tail", {"file_name": "a", "lines": "x"}),
        ("mkdir", {"dir_name": None}),
        ("mean", {"numbers": 5}),
        ("add", {"a": [], "b": {}}),
        ("lockDoors", {"unlock": True, "door": [[]]}),
        ("book_flight", {"access_token": None}),
        ("power", {"base": 7, "exponent": -(10**4000)}),
    ],
)
def test_wrong_types_are_the_tool_s_own_error(everything, tool, arguments):
    everything.call(ToolCall("touch", {"file_name": "a"}))
    result = call(everything, tool, **arguments)
    assert (result.error, result.guarded) == (True, False)
    assert guards.exceeded(result.text) is None


@pytest.mark.parametrize("arguments", [None, [], "x", {1: 2}, {"a": object()}])
def test_what_is_no_json_object_is_refused_whatever_the_tool(everything, arguments):
    for name in ("ls", "no_such_tool", "", None, ["ls"]):
        result = everything.call(ToolCall(name, arguments))
        assert (result.error, result.guarded) == (True, True)
        assert result.unknown_tool == (name != "ls")


def directory(simulators):
    return simulators._instances["GorillaFileSystem"]._current_dir


@pytest.mark.parametrize("move", ["cp", "mv"])
@pytest.mark.parametrize("name", ["a", "."])
def test_a_directory_never_goes_into_itself(everything, move, name):
    for made in ("a", name):
        everything.call(ToolCall("mkdir", {"dir_name": made}))
    result = call(everything, move, source=name, destination="a" if name == "a" else "new")
    assert "into itself" in result.text
    assert result.guarded
    assert not call(everything, "find").error


def test_a_directory_never_goes_into_what_it_shares(everything):
    """`mv a b` makes the contents of `a` appear below `b` as well; then `mv a x` would close a circle."""
    calls = [("mkdir", "a"), ("cd", "a"), ("mkdir", "x"), ("cd", "..")]
    for tool, name in calls:
        everything.call(ToolCall(tool, {"folder" if tool == "cd" else "dir_name": name}))
    call(everything, "cp", source="a", destination="b")
    call(everything, "mv", source="a", destination="b")
    call(everything, "cd", folder="b")
    for move in ("cp", "mv"):
        assert "into itself" in call(everything, move, source="a", destination="x").text
    assert not call(everything, "find").error


def test_trees_cannot_double_for_ever(everything):
    """`cp` copies one level and shares the rest: each round doubles the paths, with five calls."""
    everything.call(ToolCall("mkdir", {"dir_name": "a"}))
    for _ in range(60):
        copied = call(everything, "cp", source="a", destination="b")
        call(everything, "mkdir", dir_name="t")
        for source, destination in (("a", "t"), ("b", "t"), ("t", "a")):
            call(everything, "mv", source=source, destination=destination)
        for tool in ("find", "du"):
            call(everything, tool)
    assert copied.guarded
    assert "remove some first" in copied.text


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["'\\d'", "1if", "a+1if", "0x1for x", 'f"{1if 1}"', "-" * 190 + "x", "(" * 190])
def test_no_name_makes_the_parser_warn_or_fail(everything, name):
    assert call(everything, name, x=1).unknown_tool
    assert not everything.call(ToolCall("ls", {name: 1})).unknown_tool


def test_directories_have_a_last_level(everything):
    for _ in range(guards.MAX_NESTING + 5):
        made = everything.call(ToolCall("mkdir", {"dir_name": "a"}))
        everything.call(ToolCall("cd", {"folder": "a"}))
    assert made.guarded
    everything.call(ToolCall("cd", {"folder": "/"}))
    assert not call(everything, "find").error


def test_an_episode_has_a_total_size(everything):
    results = [call(everything, "mention", tweet_id=0, mentioned_usernames="é" * 90_000) for _ in range(20)]
    assert "this episode" in results[-1].text
    assert results[-1].guarded
    assert not call(everything, "pwd").error


def test_results_have_a_size_and_a_total(everything):
    everything.call(ToolCall("touch", {"file_name": "a"}))
    everything.call(ToolCall("echo", {"content": "\U0001f600" * 30_000, "file_name": "a"}))
    result = call(everything, "cat", file_name="a")
    assert "360,0" in result.text
    assert result.guarded
    everything.call(ToolCall("echo", {"content": "x" * 90_000, "file_name": "a"}))
    results = [call(everything, "cat", file_name="a") for _ in range(120)]
    assert not results[50].guarded
    assert "results of this episode" in results[-1].text


def test_the_tree_that_an_agent_could_not_make_does_no_harm_either(task):
    """Comparison at the end of a turn: a directory within itself, 2 ** 60 paths, 100,000 directories."""
    folder = type(directory(Simulators(task)))
    for kind in ("cycle", "shared", "large"):
        simulators = Simulators(task)
        expected = ground_truth_run(task)[-1]
        here = directory(simulators)
        if kind == "cycle":
            here.contents["a"] = here
        elif kind == "shared":
            for _ in range(60):
                here.contents["a"] = here.contents["b"] = here = folder("x", here)
        else:
            here.contents |= {str(i): folder(str(i), here) for i in range(100_000)}
        began = time.thread_time()
        assert not simulators.reached(expected)
        assert time.thread_time() - began < 1
        for tool in ("find", "du"):
            assert call(simulators, tool).guarded
        call(simulators, "ls")


def test_no_guard_touches_a_ground_truth(tasks):
    for task in tasks:
        simulators = Simulators(task)
        simulators._record = ()
        for truth in (c for turn in task.ground_truth for c in turn):
            assert not simulators.call(truth).guarded, truth


def test_an_episode_that_follows_the_record_reads_what_the_tools_say(tasks):
    """The same results and states, whether the ground truth is read or run, and wherever an episode leaves it."""
    look = ToolCall("no_such_tool", {})
    for i, task in enumerate(tasks):
        expected = ground_truth_run(task)
        calls = [copy.deepcopy(c) for turn in task.ground_truth for c in turn]
        calls.insert(i % (len(calls) + 1), look)
        reading, running = Simulators(task), Simulators(task)
        running._record = ()
        for c in calls:
            assert reading.call(c) == running.call(c)
        assert reading.reached(expected[-1]) == running.reached(expected[-1])
        assert reading.state() == running.state()


def test_the_record_is_followed_to_the_letter(by_id):
    task = by_id["multi_turn_base_0"]
    ground_truth_run(task)
    first = task.ground_truth[0][0]
    assert first.arguments == {"folder": "document"}
    for other in ({"folder": "documents"}, {"folder": ["document"]}, {}, None):
        assert Simulators(task).call(ToolCall(first.name, other)).error
    one, true = ({"x": value} for value in (1, True))
    assert not Recorded(ToolCall("t", one), repr(one), RawResult("", False)).same(ToolCall("t", true))


def test_the_table_says_what_the_code_does():
    for name in ("NAME", "DEPTH", "CALL", "EPISODE", "DIGITS", "PRECISION", "NUMBER_TEXT", "WORD", "NESTING"):
        assert f"{getattr(guards, f'MAX_{name}'):,}" in guards.__doc__
    for name in ("NODES", "TREE", "RESULT", "RESULTS"):
        assert f"{getattr(guards, f'MAX_{name}'):,}" in guards.__doc__
    assert len(str(2**guards.MAX_BITS - 1)) == guards.MAX_DIGITS


def test_guards_know_tools_by_names_that_belong_to_one_simulator(everything):
    alone = [set(Simulators(replace(TASK, involved_classes=(cls,))).tools) for cls in TOOL_DOCS]
    assert sum(map(len, alone)) == len(everything.tools) == 128
    assert set(guards.GUARDS) | set(isolation.ISOLATED) <= set(everything.tools)


TASK = envtune.load_tasks()[0]


def process_state():
    modules = [importlib.import_module(f"{SOURCES}.{stem}") for stem in (*TOOL_DOCS.values(), "long_context")]
    plain = (int, float, str, dict, list, tuple, set)
    return (
        {m.__name__: {k: repr(v) for k, v in vars(m).items() if isinstance(v, plain) and k[0] != "_"} for m in modules},
        [repr(f.__defaults__) for m in modules for c in vars(m).values() if isinstance(c, type) for f in functions(c)],
        (mpmath.mp.dps, mpmath.mp.prec),
        repr(decimal.getcontext()),
        random.getstate(),
        time.tzname,
    )


def functions(cls):
    return [f for f in vars(cls).values() if hasattr(f, "__defaults__")]


def test_no_call_changes_the_process(tasks):
    before = process_state()
    assert search(tasks, 3000, seed=1).ok
    for task in tasks[600:]:
        simulators = Simulators(task)
        for truth in (c for turn in task.ground_truth for c in turn):
            simulators.call(truth)
        for name in ("get_outside_temperature_from_google", "get_watchlist", "get_all_credit_cards"):
            simulators.call(ToolCall(name, {}))
        for name in ("logarithm", "square_root"):
            simulators.call(ToolCall(name, {"value": 2, "base": 3, "number": 2, "precision": 40}))
            simulators.call(ToolCall("square_root", {"number": 2, "precision": 40}))
            simulators.call(ToolCall("logarithm", {"value": 2, "base": 3, "precision": 40}))
    assert process_state() == before


@pytest.mark.parametrize("precision", [1, 5, 15, 30, 200])
@pytest.mark.parametrize(("tool", "names"), [("logarithm", ("value", "base")), ("square_root", ("number",))])
def test_isolated_tools_say_what_the_official_executor_says(tasks, tool, names, precision):
    task = next(t for t in tasks if "MathAPI" in t.involved_classes)
    calls = [ToolCall(tool, {**dict.fromkeys(names, n), "precision": precision}) for n in (2, 10, 0.3, 0, -1)]
    calls += [ToolCall(tool, {"value": 7, "base": 3, "precision": precision}), ToolCall(tool, {"wrong": 1})]
    precisions = mpmath.mp.dps, decimal.getcontext().prec
    try:
        theirs = official.results(task, [[calls]])[0][0]
    finally:
        mpmath.mp.dps, decimal.getcontext().prec = precisions
    assert [Simulators(task).call(c).text for c in calls] == theirs


def test_threads_do_not_meet(everything):
    texts: dict[int, set[str]] = {digits: set() for digits in (5, 20, 50, 100)}

    def work(digits):
        for _ in range(200):
            texts[digits].add(call(everything, "logarithm", value=7, base=3, precision=digits).text)
            texts[digits].add(call(everything, "square_root", number=7, precision=digits).text)

    threads = [threading.Thread(target=work, args=(digits,)) for digits in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(found) for found in texts.values()] == [2, 2, 2, 2]


def test_two_interleaved_episodes_are_the_same_two_run_apart(tasks):
    rng = random.Random(0)
    for pair in range(200):
        first, second = rng.sample(tasks[600:] if pair % 2 else tasks, 2)
        if pair % 5 == 0:
            second = first
        plans = [
            [c for turn in perturb(task, Noise.level(0.3), seed) for step in turn for c in step]
            for seed, task in enumerate((first, second))
        ]
        apart = []
        for task, plan in zip((first, second), plans, strict=True):
            simulators = Simulators(task)
            apart.append([simulators.call(c) for c in plan])
        together: list[list] = [[], []]
        both = Simulators(first), Simulators(second)
        while any(len(done) < len(plan) for done, plan in zip(together, plans, strict=True)):
            i = rng.randrange(2)
            if len(together[i]) < len(plans[i]):
                together[i].append(both[i].call(plans[i][len(together[i])]))
        assert together == apart


def test_memory_is_flat(tasks):
    assert memory_growth(tasks[::8], episodes=4000)["growth"] < 8


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([10**300, "a", "/"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(data=st.data(), seed=st.integers(0, 50))
def test_no_chain_of_calls_hurts(data, seed):
    simulators = Simulators(all_simulators(envtune.load_tasks(), random.Random(seed)))
    for _ in range(20):
        name = data.draw(st.sampled_from(sorted(simulators.tools)))
        parameters = sorted(simulators.tools[name].parameters) or ["x"]
        arguments = data.draw(st.dictionaries(st.sampled_from(parameters), json_values, max_size=4))
        result = call(simulators, name, **arguments)
        assert len(result.text) <= guards.MAX_RESULT


def test_every_tool_meets_every_kind_of_value(task):
    values = [None, True, -1, 10**4000, 1e308, "", "x" * 5000, "9" * 300, [], [1, "a", None], {}, {"a": []}, nested(60)]
    for name, tool in Simulators(task).tools.items():
        simulators = Simulators(task)
        for value in values:
            call(simulators, name, **dict.fromkeys(tool.parameters, value))


def test_fuzzing_finds_nothing(tasks):
    report = fuzz(20_000, seed=100, tasks=tasks)
    assert report.ok, report.summary()
    assert len(report.tools) > 128
    assert report.guarded > 1000


@pytest.mark.parametrize("hints", [False, True])
def test_replay_survives_arguments_that_no_message_can_hold(by_id, hints):
    task = by_id["multi_turn_base_0"]
    for value in (float("nan"), CYCLE, SHARED, b"x", 10**5000, nested(2000)):
        episode = envtune.replay(task, [[[ToolCall("cd", {"folder": value})]]], hints=hints)
        (step, _) = episode.steps
        assert step.results[0].error
        assert not episode.success


def test_a_guarded_call_is_visible_in_the_episode(by_id):
    task = by_id["multi_turn_base_0"]
    episode = envtune.replay(task, [[[ToolCall("echo", {"content": "x" * 150_000})]]])
    (result,) = episode.steps[0].results
    assert result.guarded
    assert json.loads(episode.to_json())["turns"][0]["steps"][0]["results"][0]["guarded"]
