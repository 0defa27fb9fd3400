"""The audit's table: every proof holds, and a claim that is not proved is refused."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from envtune.benchmark import official
from envtune.cli import app
from envtune.data.audit import Fault, Finding, Judgement, Reading, findings, is_sound, readings, sound, unsound
from envtune.data.splits import split_numbers
from envtune.environment import replay
from envtune.studies.audit import audit, kappa, problems, told
from envtune.types import Category, Task, id_number

runner = CliRunner()


def test_every_line_names_an_instance_once_and_says_why(by_id: dict[str, Task]) -> None:
    assert len(unsound()) == len(findings()) > 0
    assert unsound() <= by_id.keys()
    for finding in findings():
        assert finding.verdict is not Judgement.SOUND
        assert 40 < len(finding.reason) < 300, finding
        assert finding.issue is None or finding.issue.startswith("https://github.com/ShishirPatil/gorilla/issues/")


def test_every_proof_holds(tasks: list[Task]) -> None:
    assert audit(tasks).failures == ()


def test_the_official_checker_says_the_same(by_id: dict[str, Task]) -> None:
    for finding in findings():
        task = by_id[finding.task_id]
        gold = [[[call] for call in turn] for turn in task.ground_truth]
        assert official.verdict(task, gold).valid, finding.task_id
        assert not official.verdict(task, finding.calls(task)).valid, finding.task_id


def test_an_altered_text_was_said_or_shown_and_the_ground_truths_was_not(by_id: dict[str, Task]) -> None:
    """Except in two numbers: a date written in another form, and names that have to be joined."""
    for finding in (f for f in findings() if f.kind is Fault.ALTERED_TEXT and id_number(f.task_id) not in (11, 197)):
        task = by_id[finding.task_id]
        gold = [call for turn in task.ground_truth for call in turn]
        heard, changes = "", []
        for turn, steps in enumerate(finding.calls(task)):
            heard += task.user_turns[turn].replace("\\'", "'")
            for step, played in zip(steps, replay(task, finding.calls(task)).turns[turn].steps, strict=False):
                expected, call = gold.pop(0), step[0]
                for name, value in call.arguments.items():
                    if value != expected.arguments[name]:
                        changes.append((value in heard, expected.arguments[name] in heard))
                text = played.results[0].text
                heard += "".join(map(str, json.loads(text).values())) if text.startswith("{") else ""
        assert changes == [(True, False)], finding.task_id


def refused(finding: Finding, task: Task) -> str:
    found = problems(finding, task)
    assert found, "a proof that proves nothing was accepted"
    return found[0]


def test_what_proves_nothing_is_refused(by_id: dict[str, Task]) -> None:
    known = next(f for f in findings() if f.task_id == "multi_turn_base_18")
    task = by_id[known.task_id]
    gold = tuple(tuple(official.call_string(call) for call in turn) for turn in task.ground_truth)
    assert "is the ground truth" in refused(replace(known, alternative=gold), task)
    with_look = (("ls()", *gold[0]), *gold[1:])
    assert "succeeds, so it proves nothing" in refused(replace(known, alternative=with_look), task)
    assert "has 2 turns" in refused(replace(known, alternative=gold[:2]), task)
    assert "call of cd fails" in refused(replace(known, alternative=(("cd(folder='nowhere')",), (), ())), task)
    assert "not a plain call" in refused(replace(known, alternative=(("sell()",), (), ())), task)
    held_back = by_id["multi_turn_miss_func_18"]
    early = replace(known, task_id=held_back.id, alternative=(("sort(file_name='report1.txt')",), (), (), ()))
    assert "sort is not on offer in turn 0" in refused(early, held_back)
    broken = replace(task, ground_truth=((), *task.ground_truth[1:]))
    assert replay(broken, [[], *([[call] for call in turn] for turn in broken.ground_truth[1:])]).success
    assert not audit([task], [known]).failures
    assert audit([task], [known, known]).failures == ("multi_turn_base_18: listed more than once",)
    assert audit([], [known]).failures == ("multi_turn_base_18: no such instance",)


def test_the_counts_are_those_of_the_table(tasks: list[Task]) -> None:
    table = audit(tasks).kinds()
    by_kind = Counter(finding.kind.replace("_", " ") for finding in findings())
    assert table.instances.to_dict() == by_kind | {"all": len(findings())}
    heldout = split_numbers("heldout")
    assert table.loc["all", "held out"] == sum(id_number(task_id) in heldout for task_id in unsound())
    columns = [str(category) for category in Category]
    for parts in (columns, ["train", "held out"], ["unreachable", "guess"]):
        assert (table[parts].sum(axis="columns") == table.instances).all(), parts


def test_kappa() -> None:
    assert kappa([("a", "a"), ("b", "b")]) == 1
    assert kappa([("a", "b"), ("b", "a")]) == -1
    assert kappa([("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")]) == 0
    assert kappa([(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15) == pytest.approx(0.4)
    assert math.isnan(kappa([("a", "a")]))


def test_agreement_counts_instances(tasks: list[Task]) -> None:
    one = dict.fromkeys(Category, Judgement.SOUND)
    other = one | {Category.BASE: Judgement.GUESS}
    read = [Reading(4, one, one, ""), Reading(18, one, other, ""), Reading(30, other, other, "")]
    found = audit(tasks, [], read).agreement().loc["sound or not"]
    assert (found.instances, found.agree) == (12, 11)


def test_where_two_readings_differ_a_reason_decides() -> None:
    listed = {finding.task_id: finding.verdict for finding in findings()}
    for reading in readings():
        for category in Category:
            decided = listed.get(f"multi_turn_{category}_{reading.number}", Judgement.SOUND)
            first, second = reading.first[category], reading.second[category]
            assert first == second == decided or reading.decision, (reading.number, category)


def test_sound_keeps_the_others_in_order(tasks: list[Task]) -> None:
    kept = sound(tasks)
    assert len(kept) == 800 - len(unsound())
    assert kept == [task for task in tasks if task.id not in unsound()]
    assert is_sound("synth_train_base_18")


def test_the_command_exits_with_1_if_a_proof_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    found = runner.invoke(app, ["audit"])
    assert found.exit_code == 0, found.output
    assert f"{len(findings())}" in found.output
    wrong = replace(findings()[0], alternative=((),))
    monkeypatch.setattr("envtune.studies.audit.findings", lambda: (wrong,))
    found = runner.invoke(app, ["audit"])
    assert found.exit_code == 1
    assert f"envtune: error: {wrong.task_id}: the alternative has 1 turns" in found.output


def test_one_instance_is_shown_with_its_reason(tasks: list[Task]) -> None:
    found = runner.invoke(app, ["audit", "multi_turn_base_4"])
    assert found.exit_code == 0, found.output
    for expected in (
        "multi_turn_base_4: unreachable, altered text",
        "issues/1367",
        "The ground truth succeeds, the alternative fails.",
        "user: I would appreciate it if you could share the sorted result",
        "ground truth  post_tweet(content='Initial report content More unsorted data Unsorted data'",
        "alternative   post_tweet(content='Initial report content Unsorted data More unsorted data'",
    ):
        assert expected in found.output, expected
    assert told("multi_turn_base_0", tasks).startswith("multi_turn_base_0: sound")
    assert "unknown task 'base_4'" in runner.invoke(app, ["audit", "base_4"]).output
