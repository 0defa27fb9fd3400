"""The four properties of a hint, on every example of the catalogue and on failures of perturbed trajectories.

No leak of the ground truth, no over-constraint, actionable, well written (arXiv 2510.10197, section 3); and pure.
"""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections import Counter

import pytest

import envtune
from envtune.data import bfcl
from envtune.environment.hint_rules import RULES
from envtune.environment.hints import LIST_LENGTH, Hint, Strength, hint
from envtune.environment.simulator import RawResult, Simulators, ground_truth_run
from envtune.policy import Noise, perturb
from envtune.studies.failures import ill_typed, make_task, play
from envtune.types import ToolCall

FAILED = RawResult("Error during execution: it failed", True)
DOMAINS = list(bfcl.TOOL_DOCS)
TOOLS = {document["name"] for documents in bfcl.tool_documents().values() for document in documents}
VERBS = {"Repeat", "Call", "Choose", "Go", "Check", "Tell", "Copy", "Give"}


def check(call, result, tools, observed, strength=Strength.ONE):
    """Purity, determinism and everything that does not need the ground truth; returns the hint."""
    before = copy.deepcopy((call.arguments, observed))
    found = hint(call, result, tools, observed, strength=strength)
    assert found == hint(call, result, tools, observed, strength=strength)
    assert before == (call.arguments, observed)
    assert found is not None, (call, result.text)
    sentences = re.split(r"(?<=[.!?])\s+", found.text)
    assert len(sentences) == 2, found.text
    assert all(s[0].isupper() or s.split()[0] in [*TOOLS, *_arguments(tools)] for s in sentences), found.text
    assert sentences[-1].split()[0] in VERBS, found.text
    assert all(s.endswith(".") for s in sentences)
    available = {tool["function"]["name"] for tool in tools}
    named = set(re.findall(r"[\w]+", found.text)) & (TOOLS - _WORDS)
    assert named <= available | {call.name}, (found.text, named - available)
    asked_for = set(re.findall(r"(?:[Cc]all|[Rr]epeat|with) (\w+)", found.text)) & TOOLS
    assert asked_for <= available | {call.name}, found.text
    assert set(found.tools) <= available
    assert not re.search(r"\b(must not call|never call|do not call|don't)\b", found.text, re.I)
    if strength is Strength.ONE:
        assert len(found.tools) <= 1
    else:
        assert len(found.tools) <= LIST_LENGTH
    return found


_WORDS = {"add", "find", "comment", "mean", "sort", "power", "mention", "touch", "echo"}
"""Tools whose names are words."""


def _arguments(tools):
    return [name for tool in tools for name in tool["function"]["parameters"]["properties"]]


def secrets(task):
    """Values of the ground truth's arguments, and of the state before and after each of its turns."""
    values = set(
        leaves([call.arguments[name] for turn in task.ground_truth for call in turn for name in call.arguments])
    )
    for state in (Simulators(task).state(), *(expected.state for expected in ground_truth_run(task))):
        values |= {leaf for attributes in state.values() for leaf in leaves(list(attributes.values()))}
    return {value for value in values if len(value) >= 3}


def leaves(value):
    """Every name and value inside: keys, items, names and contents of files."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from (str(key), *leaves(item))
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from leaves(item)
    elif hasattr(value, "contents"):
        yield from leaves(value.contents)
    elif hasattr(value, "content"):
        yield value.content
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def leaked(found, values, call, result, tools, observed):
    """Those of `values` that stand in the hint and that the agent could not know from anything else."""
    own = [call.name, json.dumps(call.arguments), result.text]
    known = " ".join([*observed, *own, json.dumps(tools), VOCABULARY])
    said = {value for value in values if re.search(rf"(?<!\w){re.escape(value)}(?!\w)", found.text)}
    return {value for value in said if value not in known}


VOCABULARY = " ".join(f"{rule.why} {rule.do}" for rule in RULES)
"""Fixed sentences: the same whatever the ground truth is, so a word in them is no leak."""


def test_properties_on_the_catalogue(catalogue, subtests):
    """252 failures at two strengths, in one test: a test each costs more than what it checks."""
    for failure, played in catalogue:
        if failure.no_hint:
            continue
        values = secrets(make_task(failure.domain, failure.config))
        for strength in Strength:
            with subtests.test(failure.call, strength=strength):
                found = check(played.call, played.result, played.tools, played.observed, strength)
                assert leaked(found, values, played.call, played.result, played.tools, played.observed) == set()


def failures_of(task, seed, level):
    """The failing calls of a perturbed trajectory, each with what the agent could see."""
    simulators = Simulators(task)
    observed = []
    for index, turn in enumerate(perturb(task, Noise.level(level), seed)):
        observed.append(task.user_turns[index])
        for call in (call for step in turn for call in step):
            raw = simulators.call(call)
            if raw.error:
                yield call, raw, task.tools_at(index), tuple(observed)
            observed.append(raw.text)


@pytest.mark.slow
def test_properties_on_real_failures():
    """At three levels of noise and both strengths."""
    failures: Counter[float] = Counter()
    for task in envtune.load_tasks("bfcl", split="train"):
        values = secrets(task)
        for level in (0.1, 0.4, 0.8):
            for call, raw, tools, observed in failures_of(task, 7, level):
                failures[level] += 1
                for strength in Strength:
                    found = check(call, raw, tools, observed, strength)
                    assert leaked(found, values, call, raw, tools, observed) == set(), (task.id, call, found.text)
    assert len(failures) == 3
    assert min(failures.values()) > 100


def test_the_leak_test_can_fail(by_id):
    task = by_id["multi_turn_base_0"]
    cheat = Hint("x", "Call cd with document, then mv of final_report.pdf.")
    assert leaked(cheat, secrets(task), ToolCall("cd", {}), FAILED, task.tools, ()) >= {"document", "final_report.pdf"}
    assert leaked(cheat, secrets(task), ToolCall("cd", {}), FAILED, task.tools, ("document final_report.pdf",)) == set()


def test_fixed_sentences_hold_no_value():
    """What `VOCABULARY` hides: no sentence of the table names an item that tasks differ in."""
    words = set(re.findall(r"[\w.-]+", VOCABULARY))
    calls = [call for task in envtune.load_tasks("bfcl") for turn in task.ground_truth for call in turn]
    values = {value for call in calls for value in leaves(list(call.arguments.values()))}
    common = {v for v in words & values if len(v) >= 3 and not v.islower()}
    assert common == set()


def test_a_tool_that_is_not_there_is_not_named(catalogue):
    """Every example again, without the tools that its hint names: it then names others or says that one is missing."""
    for _, played in catalogue:
        found = hint(played.call, played.result, played.tools, played.observed)
        if found is None or not found.tools:
            continue
        names = set(re.findall(r"\w+", found.text))
        left = tuple(t for t in played.tools if t["function"]["name"] not in names - {played.call.name})
        check(played.call, played.result, left, played.observed)


_PRINT = """
from envtune.studies.failures import CATALOGUE, play
from envtune.environment.hints import hint
for failure in CATALOGUE:
    p = play(failure)
    print(hint(p.call, p.result, p.tools, p.observed), hint(p.call, p.result, p.tools, p.observed, strength="list"))
"""


def test_same_in_every_process():
    outputs = {
        subprocess.run(
            [sys.executable, "-c", _PRINT],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_ill_typed_call_that_fails_gets_a_hint(domain):
    failed = 0
    for failure in ill_typed(domain):
        played = play(failure)
        if played.result.error:
            failed += 1
            check(played.call, played.result, played.tools, played.observed)
    assert failed > 40
