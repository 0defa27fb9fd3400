"""Procedural tasks: valid by execution, different between splits, and never solved by accident."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import asdict
from itertools import combinations, permutations
from string import Formatter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envtune
from envtune import rewards
from envtune.benchmark import official
from envtune.data import bfcl, synth
from envtune.data.synth_kinds import KINDS, SUPPLY
from envtune.data.synth_values import POOLS, ROUTES, Conversion, ExhaustedError, Flight, Liters, Route, Values
from envtune.data.synth_worlds import DOMAINS
from envtune.environment import replay
from envtune.environment.simulator import Simulators, ground_truth_run
from envtune.types import Category, ToolCall

N = 240
LONG = 600
"""Characters that a result may have."""


@pytest.fixture(scope="module")
def instances():
    return {split: synth.generate(N, split) for split in synth.SPLITS}


@pytest.fixture(scope="module")
def made(instances):
    return {split: [instance.task() for instance in some] for split, some in instances.items()}


@pytest.fixture(scope="module")
def all_made(made):
    return [task for tasks in made.values() for task in tasks]


def steps(task):
    return [[[call] for call in turn] for turn in task.ground_truth]


def test_load_tasks():
    tasks = envtune.load_tasks("synth", n=8)
    assert [t.category for t in tasks] == list(Category) * 2
    assert [t.id for t in tasks[:2]] == ["synth_train_base_0", "synth_train_miss_func_1"]
    assert len(envtune.load_tasks("synth")) == 64
    only = envtune.load_tasks("synth", n=5, split="test", seed=3, categories=["miss_param"])
    assert {t.category for t in only} == {Category.MISS_PARAM}
    assert [t.number for t in only] == [3_000_000 + i for i in range(5)]
    for wrong in ({"split": "all"}, {"n": -1}, {"seed": -1}, {"categories": ["hard"]}):
        with pytest.raises(ValueError, match=r"split 'all'.*Known: train|n is|seed is|unknown categories"):
            envtune.load_tasks("synth", **wrong)
    with pytest.raises(ValueError, match="procedural tasks"):
        envtune.load_tasks("bfcl", n=3)
    with pytest.raises(ValueError, match="Known: 'bfcl', 'synth', 'chains'"):
        envtune.load_tasks("other")


def test_every_ground_truth_replays_to_full_reward(all_made):
    for task in all_made:
        episode = replay(task, steps(task))
        errors = [(c, r.text) for s in episode.steps for c, r in zip(s.calls, s.results, strict=True) if r.error]
        assert not errors, (task.id, errors)
        assert (rewards.progress(episode), rewards.binary(episode), rewards.syntax(episode)) == (1, 1, 2), task.id
        assert episode.success and episode.strict_success, task.id


def test_the_official_checker_agrees(made):
    for tasks in (*made.values(), envtune.load_tasks("chains", n=160)):
        for task, other in zip(tasks[::3], tasks[4::3], strict=False):
            assert official.verdict(task, steps(task)).valid, task.id
            assert not official.verdict(task, [[] for _ in task.ground_truth]).valid, task.id
            if other.n_turns == task.n_turns:
                calls = steps(other)
                assert not official.verdict(task, calls).valid, task.id


def test_every_turn_that_expects_calls_can_be_told_from_silence(all_made):
    """Its responses are new, or the state has changed; and an episode with that turn left out is wrong."""
    for task in all_made:
        simulators, seen, ground_truth = Simulators(task), Counter(), ground_truth_run(task)
        for i, calls in enumerate(task.ground_truth):
            before = copy.deepcopy(simulators.state())
            for call in calls:
                simulators.call(call)
            new = not Counter(ground_truth[i].responses) <= seen
            assert not calls or new or not simulators.state_equals(before), (task.id, i)
            seen.update(ground_truth[i].responses)
            silent = steps(task)
            silent[i] = []
            assert not calls or not replay(task, silent).success, (task.id, i)


def test_the_calls_of_another_instance_do_not_pass(made):
    for tasks in made.values():
        alike = defaultdict(list)
        for task in tasks:
            alike[task.kinds].append(task)
        pairs = [pair for group in alike.values() for pair in permutations(group, 2)]
        pairs += [(a, b) for a, b in zip(tasks, tasks[4:], strict=False) if a.n_turns == b.n_turns]
        for task, other in pairs[:1500]:
            assert not replay(task, steps(other)).success, (task.id, other.id)


def test_the_goal_of_a_chain_asked_for_at_once_is_an_error(instances, made):
    """A hint has something to explain: the simulator says `error`, and nothing has changed."""
    documents = {doc["name"]: doc for docs in bfcl.tool_documents().values() for doc in docs}
    seen = set()
    half = [kind.name for kind in KINDS.values() if kind.half]
    for split, some in instances.items():
        practice = synth.generate(24, split, categories=[Category.BASE], kinds=half) if split != "ood" else []
        tasks = made[split] + [instance.task() for instance in practice]
        for instance, task in zip(some + practice, tasks, strict=True):
            simulators = Simulators(task)
            for kind, naive, calls in zip(task.kinds, instance.naive, task.ground_truth, strict=True):
                if naive:
                    seen.add(kind)
                    before = copy.deepcopy(simulators.state())
                    result = simulators.call(bfcl.parse_call(naive, documents))
                    assert result.error and not result.unknown_tool, (task.id, naive, result)
                    assert simulators.state_equals(before), (task.id, naive)
                for call in calls:
                    simulators.call(call)
    assert seen == {kind.name for kind in KINDS.values() if kind.chain}


def test_tasks_of_one_chain_each():
    """Categories and kinds in turn, one request per task, solvable."""
    tasks = envtune.load_tasks("chains", n=160)
    assert [asdict(task) for task in tasks[:9]] == [asdict(task) for task in envtune.load_tasks("chains", n=9)]
    assert {task.id for task in tasks}.isdisjoint(task.id for task in envtune.load_tasks("synth", n=160))
    assert Counter(task.category for task in tasks) == dict.fromkeys(Category, 40)
    for category in Category:
        own = Counter(kind for task in tasks if task.category is category for kind in task.kinds if kind != synth.WAIT)
        assert own.total() == 40 and max(own.values()) - min(own.values()) <= 1, own
        assert all(KINDS[kind].chain and KINDS[kind].train for kind in own)
        assert any(KINDS[kind].half for kind in own) or category is Category.LONG_CONTEXT
    for task in tasks:
        assert task.n_turns == 1 + (task.category in (Category.MISS_FUNC, Category.MISS_PARAM))
        assert replay(task, steps(task)).success, task.id
    assert {t.category for t in envtune.load_tasks("chains", n=5, split="val", categories=["base"])} == {Category.BASE}


def test_table_of_kinds():
    rows = synth.kinds_table()
    chains = [row for row in rows if row["type"] == "chain"]
    assert len(chains) >= 20
    per_domain = Counter(domain for row in chains for domain in row["domain"].split(" + "))
    assert set(per_domain) == set(bfcl.TOOL_DOCS)
    assert min(per_domain.values()) >= 2
    assert all((row["calls"] == 1) == (row["type"] == "single") for row in rows)
    trained = {row["domain"] for row in rows if "train" in row["splits"]}
    assert len(set(bfcl.TOOL_DOCS) - trained) == 2
    assert {row["splits"] for row in rows} == {"train, val, test", "ood"}
    assert {row["domain"] for row in chains if row["splits"] == "ood"} >= trained


def test_every_kind_is_drawn(made):
    for split, tasks in made.items():
        drawn = {kind for task in tasks for kind in task.kinds} - {synth.WAIT}
        held = {kind.name for kind in KINDS.values() if split in kind.splits and not kind.half}
        assert drawn <= held
        assert {name for name in held if KINDS[name].chain} <= drawn


def _wordings(split):
    return [text for kind in KINDS.values() for text in getattr(kind, split)] + list(SUPPLY[split])


def _words(split):
    literal = [text for wording in _wordings(split) for text, *_ in Formatter().parse(wording)]
    literal += [KINDS[name].hold[0] for name in KINDS if KINDS[name].hold and split in KINDS[name].splits]
    return {word for text in literal for word in re.findall(r"\w+", text)}


def test_splits_share_no_wording_and_need_no_new_word():
    for a, b in combinations(synth.SPLITS, 2):
        assert not set(_wordings(a)) & set(_wordings(b))
    assert _words("val") | _words("test") <= _words("train")


@given(st.sampled_from(sorted(KINDS)), st.sampled_from(sorted(POOLS)))
def test_a_kind_draws_no_value_in_two_splits(kind, pool):
    """Pools of fewer than five members are shared; `ood` draws from the values of val and test."""
    members = {split: POOLS[pool].of(split, kind) for split in synth.SPLITS}
    assert all(members.values())
    if POOLS[pool].shared:
        assert pool in ("cabin", "side", "currency", "option")
        return
    for a, b in combinations(["train", "val", "test"], 2):
        assert not [item for item in members[a] if item in members[b]]
    assert not [item for item in members["ood"] if item in members["train"]]


def test_open_pools_are_disjoint_for_all_kinds_together():
    for pool in (pool for pool in POOLS.values() if not pool.closed):
        train, test = ({str(i) for kind in KINDS for i in pool.of(split, kind)} for split in ("train", "test"))
        assert train.isdisjoint(test)


def _strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield repr(value)
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _atoms(text, vocabulary):
    """Longest match; fails if something is left."""
    pattern = "|".join(re.escape(atom) for atom in sorted(vocabulary, key=len, reverse=True))
    assert not re.sub(rf"{pattern}|\s", "", text), text
    return re.findall(pattern, text)


def test_vocabulary_covers_what_users_say_and_calls_hold(made):
    vocabulary = synth.vocabulary()
    assert len(vocabulary) == len(set(vocabulary)) < 400
    for tasks in made.values():
        for task in tasks:
            arguments = [call.arguments for turn in task.ground_truth for call in turn]
            for text in (*task.user_turns, *_strings(arguments)):
                _atoms(text, vocabulary)


def test_held_out_values_are_made_of_pieces_that_training_shows():
    vocabulary = synth.vocabulary()
    trained = [kind for kind in KINDS.values() if kind.train]
    pieces = {"train": set(), "held out": set()}
    for name in {source for kind in trained for source in kind.draws.values() if not source.startswith("@")}:
        for split, part in (("train", "train"), ("val", "held out"), ("test", "held out")):
            items = [
                item for kind in trained if name in kind.draws.values() for item in POOLS[name].of(split, kind.name)
            ]
            texts = {text for item in items for text in _strings(json.loads(json.dumps(item)))}
            pieces[part] |= {atom for text in texts for atom in _atoms(text, vocabulary)}
    assert pieces["held out"] <= pieces["train"]


def test_turns_tools_and_lengths(all_made):
    for task in all_made:
        assert 1 <= task.n_turns <= 4
        assert len(task.kinds) == task.n_turns
        assert [kind == synth.WAIT for kind in task.kinds] == [not turn for turn in task.ground_truth]
        names = [tool["function"]["name"] for tool in task.tools_at(task.n_turns)]
        assert 4 <= len(names) <= 8 and len(set(names)) == len(names)
        assert {call.name for turn in task.ground_truth for call in turn} <= set(names)
        assert max(len(text) for turn in ground_truth_run(task) for text in (*turn.responses, "")) < LONG, task.id


def test_a_withheld_tool_is_handed_over_in_an_empty_turn(all_made):
    for task in (t for t in all_made if t.category is Category.MISS_FUNC):
        ((turn, (schema,)),) = task.withheld.items()
        name = schema["function"]["name"]
        assert task.user_turns[turn] == "" and task.kinds[turn - 1] == synth.WAIT
        assert name == task.ground_truth[turn][-1].name
        assert name not in {tool["function"]["name"] for tool in task.tools_at(turn - 1)}
        assert not any(call.name == name for i, calls in enumerate(task.ground_truth) if i != turn for call in calls)


def test_a_withheld_value_is_needed_and_given_later(all_made):
    """What the second sentence says stands in the calls and not in the first sentence."""
    for task in (t for t in all_made if t.category is Category.MISS_PARAM):
        wait = task.kinds.index(synth.WAIT)
        kind = KINDS[task.kinds[wait + 1]]
        asked, given_ = task.user_turns[wait : wait + 2]
        assert kind.hold is not None and kind.hold[0] in given_
        assert "<" not in asked and "{" not in asked + given_
        value = re.sub(r" (gallons|liters|dollars|degrees|stocks|meters)\b", "", given_).replace(kind.hold[0], "")
        values = [text for call in task.ground_truth[wait + 1] for text in _strings(call.arguments)]
        held = [v for v in values if re.search(rf"\b{re.escape(v)}\b", value)]
        assert held or kind.name in ("city_distance", "find_close"), (asked, given_, values)
        assert not any(re.search(rf"\b{re.escape(v)}\b", asked) for v in held), (asked, given_)


def test_long_context_is_padded(all_made):
    for task in (t for t in all_made if t.category is Category.LONG_CONTEXT):
        assert any(DOMAINS[cls].padded for cls in task.involved_classes)
        assert len(str(Simulators(task).state())) > 2000


def test_deterministic_across_processes_and_prefix_stable(instances, tmp_path):
    code = (
        "import json; from envtune.data import synth; print(json.dumps([i.entry for i in synth.generate(40, 'ood')]))"
    )
    for salt in ("1", "2"):
        out = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(out.stdout) == [json.loads(json.dumps(i.entry)) for i in instances["ood"][:40]]
    other = synth.generate(40, "ood", seed=1)
    assert not {i.entry["id"] for i in other} & {i.entry["id"] for i in instances["ood"]}
    assert [i.ground_truth for i in other] != [i.ground_truth for i in instances["ood"][:40]]


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(synth.SPLITS), st.integers(0, 10**6), st.sampled_from(list(Category)))
def test_any_seed_gives_valid_tasks(split, seed, category):
    for instance in synth.generate(4, split, seed, [category]):
        task = instance.task()
        assert replay(task, steps(task)).strict_success
        assert json.loads(json.dumps(instance.entry)) == instance.entry


def test_no_answer_stands_twice(made):
    for tasks in made.values():
        answers = [repr(task.ground_truth) for task in tasks]
        assert len(set(answers)) == len(answers)


def test_kinds_can_be_chosen():
    tasks = synth.load(12, kinds=["engine_start", "navigate"], categories=[Category.BASE, Category.MISS_FUNC])
    assert {kind for task in tasks for kind in task.kinds} <= {"engine_start", "navigate", synth.WAIT}
    with pytest.raises(ValueError, match=r"unknown kinds \['deep_cat'\] in split 'train'\. Known: cd_cat"):
        synth.load(1, kinds=["deep_cat"])
    with pytest.raises(ValueError, match="no miss_param task can be made from the kinds engine_start"):
        synth.load(1, categories=[Category.MISS_PARAM], kinds=["engine_start"])


def test_file_format(instances, tmp_path):
    path = tmp_path / "synth_test.json"
    synth.write_jsonl(instances["test"][:20], path)
    back = synth.read_jsonl(path)
    assert [(i.entry, i.ground_truth) for i in back] == [(i.entry, i.ground_truth) for i in instances["test"][:20]]
    assert [t.kinds for t in (i.task() for i in back)] == [t.kinds for t in (i.task() for i in instances["test"][:20])]
    (tmp_path / "possible_answer" / "synth_test.json").write_text("")
    with pytest.raises(ValueError, match="same ids"):
        synth.read_jsonl(path)


def test_fixed_tables_say_what_the_simulators_say():
    """Values that a chain looks up are written down in `synth_values`, so that `data` needs no simulator."""
    (task,) = synth.load(1, "train", kinds=["navigate"], categories=[Category.BASE])
    (travel,) = synth.load(1, "train", kinds=["airport"], categories=[Category.BASE])
    car, agent = Simulators(task), Simulators(travel)
    for route in (r for routes in ROUTES.values() for r in routes):
        calls = [ToolCall("get_zipcode_based_on_city", {"city": city.name}) for city in route[:2]]
        assert [json.loads(car.call(c).text)["zipcode"] for c in calls] == [city.zipcode for city in route[:2]]
        zipcodes = {"cityA": route.a.zipcode, "cityB": route.b.zipcode}
        assert json.loads(car.call(ToolCall("estimate_distance", zipcodes)).text) == {"distance": route.km}
    for liters in POOLS["liters"].items:
        assert isinstance(liters, Liters)
        assert json.loads(car.call(ToolCall("liter_to_gallon", {"liter": liters.n})).text)["gallon"] == liters.gallons
    costs = Counter()
    for flight in POOLS["flight"].items:
        for cabin, day in ((cabin, day) for cabin in POOLS["cabin"].items for day in ("2024-11-11", "2024-11-12")):
            trip = {"travel_from": flight.start.airport, "travel_to": flight.end.airport, "travel_date": day}
            costs[agent.call(ToolCall("get_flight_cost", {**trip, "travel_class": cabin})).text] += 1
    assert max(costs.values()) == 1, "two flights that cost the same cannot be distinguished by their price"


def test_conversions_say_what_the_simulator_says():
    (task,) = synth.load(1, "ood", kinds=["add"], categories=[Category.BASE])
    calculator = Simulators(task)
    for name, first in (("to_imperial", "si_unit_conversion"), ("to_metric", "imperial_si_conversion")):
        for item in POOLS[name].items:
            assert isinstance(item, Conversion)
            tool = first if item.a != "miles" else "imperial_si_conversion"
            result = calculator.call(ToolCall(tool, {"value": item.n, "unit_in": item.a, "unit_out": item.b}))
            assert json.loads(result.text) == {"result": item.middle}, item


def test_an_id_without_category_is_an_error():
    with pytest.raises(ValueError, match="'synth_train_0' names no category"):
        bfcl._category("synth_train_0")


def test_values_of_a_task_never_collide_and_a_pool_is_drawn_to_its_last_value():
    """A city inside a route or a flight is taken as well; small pools are shared and may repeat."""
    pools = [name for name, pool in POOLS.items() if not pool.shared]
    for seed in range(40):
        values, taken = Values(random.Random(seed), "train"), set()
        for pool in random.Random(seed).choices(["zip_city", "air_city", "route", "flight", *pools], k=30):
            try:
                item = values.draw(pool, "kind")
            except ExhaustedError:
                continue
            parts = (
                set(item[:2]) if isinstance(item, Route | Flight) else {tuple(item) if isinstance(item, list) else item}
            )
            assert not taken & parts, f"{item} of {pool}"
            taken |= parts
    members = POOLS["digit"].of("val", "kind")
    values = Values(random.Random(0), "val")
    assert sorted(values.several("digit", len(members), "kind")) == sorted(members)
    with pytest.raises(ExhaustedError, match="no value of pool 'digit' is left"):
        values.draw("digit", "kind")
