"""The study of hints: it finds what is wrong with them, and finds little."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from envtune.environment import hint_rules
from envtune.environment.hints import Hint, Strength
from envtune.environment.simulator import Simulators
from envtune.studies import hint_truth, literal
from envtune.studies.failures import FS, MESSAGE, TRADING, Failure, make_task, play
from envtune.studies.hint_claims import CLAIMS, holds
from envtune.studies.hint_truth import FAULTS, GOAL, check, checked, tool_names, truth_table
from envtune.studies.literal import Outcome, Wanted, follow
from envtune.studies.scene import Scene
from envtune.studies.wrong_calls import Wrong, wrong_calls
from envtune.studies.wrong_forms import FAMILIES, INVENTED
from envtune.types import ToolCall


def wrong(failure, without=(), meant=None, means=()):
    """A failure of the catalogue, as the study sees it."""
    played = play(failure)
    simulators = Simulators(make_task(failure.domain, failure.config))
    for call in _before(failure):
        simulators.call(call)
    simulators.call(played.call)
    tools = tuple(tool for tool in played.tools if tool["function"]["name"] not in without)
    schemas = {tool["function"]["name"]: tool["function"] for tool in tools}
    scene = Scene(played.call, played.result, simulators, schemas, played.observed)
    return Wrong("test", "test", scene, Wanted(meant, ()), frozenset(means), tools)


def _before(failure):
    return [play(Failure(failure.domain, text, config=failure.config)).call
            for text in filter(None, failure.before.split("; "))]  # fmt: skip


def faults(monkeypatch, case, text, tools=()):
    """What the study says about a hint."""
    monkeypatch.setattr(hint_truth, "hint", lambda *args, **settings: Hint("made up", text, tools))
    monkeypatch.setattr(literal, "hint", lambda *args, **settings: Hint("made up", text, tools))
    found = check(case, Strength.ONE)
    assert found is not None
    return set(found.faults)


COPY = Failure(FS, "cp(source='nothing', destination='x')")
ONTO = Failure(FS, "mv(source='notes', destination='plan')")
WATCH = Failure(TRADING, "add_to_watchlist(stock='Apple')")
HERE = "cp found nothing suitable of that name in the current directory."


def test_each_fault_is_found(monkeypatch):
    """Hints as they once were, and what was wrong with them."""
    for case, text, expected in (
        (wrong(COPY, ["find"]), f"{HERE} Call find with path / and that name to see where it is.", {"unavailable"}),
        (wrong(COPY, ["cd"]), f"{HERE} Call ls to see what is there, then cd to its folder.", {"unavailable"}),
        (wrong(COPY), f"{HERE} Call pwd, then repeat cp.", {"same failure"}),
        (wrong(ONTO), "The destination is a file that exists, and only a folder or a new name can take the item. "
         "Call one of rm, ls or pwd, then repeat mv.", {"destroyed"}),
        (wrong(ONTO), "source and destination are the same. Go on with the next step.", {"untrue"}),
        (wrong(Failure(MESSAGE, "message_login(user_id='USR009')")), "The login was refused, because user_id must be "
         "the ID of a user and not a name. Tell the user.", {"untrue"}),
        (wrong(Failure(MESSAGE, "message_login(user_id='Alice')"), ["get_user_id"]), "The login was refused, because "
         "user_id must be the ID of a user and not a name. Call list_users with the name of the user to get the ID, "
         "then repeat message_login.", {"untrue", "same failure"}),
        (wrong(WATCH, ["get_symbol_by_name"]), "Nothing was added, because stock must be the symbol of a stock that is "
         "traded here. Call get_available_stocks with the name of the company to get its symbol, and go on.",
         {"untrue"}),
        (wrong(WATCH), "A sentence that nobody knows. Go on.", {"untrue"}),
    ):  # fmt: skip
        assert faults(monkeypatch, case, text) == expected, text


def test_a_wrong_suggestion_is_found(monkeypatch):
    case = wrong(Failure(TRADING, "get_account_info()"))
    scene = Scene(ToolCall("get_order", {}), case.scene.result, case.scene.simulators, case.scene.schemas, ())
    unknown = Wrong("test", "test", scene, Wanted(None, ()), frozenset({"get_order_details"}), case.tools)
    for name, expected in (("get_order_details", set()), ("place_order", {"same failure"})):
        text = f"There is no tool 'get_order' in the list. Call {name} if that is what you mean, or tell the user."
        assert faults(monkeypatch, unknown, text, (name,)) == expected


def test_an_agent_follows_a_hint_to_the_end():
    """The folder is found, the agent goes there, and the call works."""
    case = wrong(Failure(FS, "cat(file_name='inner')"))
    text = (
        "cat found nothing. Call find with path / and that name to see where it is, then cd to its folder and "
        "repeat cat."
    )
    done = follow(text, case.scene, case.wanted, tool_names())
    assert [call.name for call in done.made] == ["find", "cd", "cd", "cat"]
    assert done.outcome is Outcome.WORKED
    assert not done.destroyed


def test_every_sentence_of_the_rules_is_a_claim_that_can_be_checked():
    for rule in hint_rules.RULES:
        for why in filter(None, (rule.why, rule.vague)):
            said = why.format(call=rule.tools.split()[0])
            assert any(re.fullmatch(pattern, said) for pattern, _ in CLAIMS[:-1]), said


def test_a_claim_about_what_is_not_there_is_false():
    scene = wrong(COPY).scene
    assert holds("There is no tweet with that ID. Go on.", scene) is False
    assert holds("Nobody has said so. Go on.", scene) is None


def test_hints_are_true(tasks):
    """A sample. The command plays 50,000 failures."""
    found = list(checked(tasks, 2500, seed=3))
    table = truth_table(found).set_index("failure")
    everything = table.loc["all"]
    assert everything.hints == len(found) > 2500
    assert everything.share < GOAL, [(one.call, one.text, one.faults) for one in found if one.faults]
    assert everything.unavailable == everything.destroyed == 0
    assert set(FAMILIES) <= set(table.index)
    assert table.drop("all")[["hints", *FAULTS]].sum().tolist() == everything[["hints", *FAULTS]].tolist()
    outcomes = [one.outcome for one in found]
    assert outcomes.count(Outcome.WORKED) > 0.4 * len(found)


@pytest.mark.slow
def test_hints_are_true_in_a_larger_sample(tasks):
    everything = truth_table(list(checked(tasks, 8000, seed=11))).set_index("failure").loc["all"]
    assert everything.share < GOAL
    assert everything.destroyed == 0


def test_invented_names_mean_tools_that_exist():
    meant = {tool for tools in INVENTED.values() for tool in tools.split()}
    assert meant <= tool_names()
    assert not INVENTED.keys() & tool_names()


_PRINT = """
from envtune.data import bfcl
from envtune.studies.hint_truth import checked
for one in checked(bfcl.load()[:60], 150, seed=1): print(one)
"""


def test_the_same_failures_in_every_process(tasks):
    """The order of sets differs from process to process."""
    printed = subprocess.run(
        [sys.executable, "-c", _PRINT],
        env={"PYTHONHASHSEED": "1", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed == "".join(f"{one}\n" for one in checked(tasks[:60], 150, seed=1))


def test_a_wrong_call_fails_where_it_is_said_to_fail(tasks):
    """Played again on its own copy, the call gives the result that the hint explains."""
    for case in wrong_calls(tasks[:40], 200, seed=2):
        if case.family not in ("made twice", "added again") and case.scene.result.error:
            again = case.scene.simulators.fork().call(case.scene.call)
            assert again.error, case
