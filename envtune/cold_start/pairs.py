"""Dialogues in which a call really fails. Hints are followed, and errors without a hint are admitted.

In: two single requests of one generated task, the *goal* and the *helper*. The goal is made to fail: either the state
of its simulator is changed (`_broken`), or one of its values is replaced by the name of something that the helper looks
up (`_value_scene`). The hint keeps the real reason of `environment.hints` for this failure. But the tool that it names
is the helper's, drawn from the requests of the task, whatever the goal is. So a tool that helps is named no more often
than any other, and the goal does not reveal which one it will be. Where it would help (`TRUE_PAIRS`), the dialogue ends
with its call, and the outcome is not shown. Elsewhere the repeated goal mostly gets the answer that the simulators give
in the intact state, so the policy sees that following a hint pays.
"""

from __future__ import annotations

import ast
import copy
import itertools
import random
from dataclasses import dataclass, replace
from typing import Any

from envtune.chat import render_calls
from envtune.cold_start.dialogues import DONE, FAILED, SINGLES, Dialogue, Source
from envtune.cold_start.disguise import disguise, rename
from envtune.data.synth_kinds import KINDS
from envtune.data.synth_values import POOLS
from envtune.environment import ToolUseEnv
from envtune.environment.hint_rules import RULES
from envtune.environment.hint_schema import listed
from envtune.environment.hints import LIST_LENGTH, Hint, hint, hinted_text
from envtune.types import JSON, Category, Task, ToolCall, ToolResult

TRUE_PAIRS = frozenset(
    (kind.tools[-1], helper) for kind in KINDS.values() if kind.chain for helper in kind.tools[:-1]
) | frozenset((goal, helper) for rule in RULES for goal in rule.tools.split() for helper in rule.resolving)
"""Goal tool and a tool that it needs, in a chain of any split or by a rule of the hints."""
LOOKUPS = ("user_id", "zipcode", "airport", "symbol", "stock_info", "user_tweets", "to_gallons", "add_contact")
"""Kinds that look something up: their result holds a value for their argument."""
SENTENCES = tuple(
    rule.do for rule in RULES if "{tool}" in rule.do and "repeat {call}" in rule.do and rule.do.count("{") == 2
)
"""The wording with which hints advise to call one tool."""
HINTED = 0.8
"""Share of failures with a hint."""
LISTED = 0.65
"""Share of hints that name three tools instead of one."""
TWO_HINTS = 0.5
"""Share of scenes, among those with a third request, in which the repeated goal fails with another hint."""
DISGUISED, RENAMED = 0.5, 0.5
"""Shares of disguised tasks and dialogues, see `disguise`."""
DETAILS = (
    "{word} {value}",
    "{value}",
    "in {value}",
    "for {value}",
    "with {word} {value}",
    "my {word} is {value}",
    "{word} is {value}",
)
"""Wordings with which the user gives the details for the helper."""
PER_TASK = 3
"""Most dialogues about one generated task."""
TABLES = {"zipcode": "zip_city", "airport": "air_city", "symbol": "company"}
"""Lookups that can be made twice, and the pool of their arguments."""
TWO_LOOKUPS = 0.8
"""Share of scenes with such a lookup, and a goal with two values to replace, in which the lookup is made twice."""
UNKNOWN = ("Stock not found", "Unknown", "00000", "Invalid")
"""Beginnings of results in which a lookup found nothing."""
GIVEN_UP = 0.15
"""Share of failures whose real hint says that no tool helps, and after which the user is told so."""
PAYS = 0.8
"""Share of repeated goals that get the answer of the intact state instead of the failure."""
EXPLORE = 0.12
"""Share of failures without a hint after which the helper is called unasked."""


@dataclass
class _Scene:
    """The calls to play: the goal first as the user asks for it, then again with what the helpers found."""

    task: Task
    goal: ToolCall
    intact: Task
    """The task in which the goal succeeds."""
    right: ToolCall
    """The goal as it succeeds there."""
    helpers: tuple[ToolCall, ...]
    """Calls of one tool, made together."""
    slots: tuple[str, ...] = ()
    """Arguments of the goal that take what the helpers find, one each. Empty: the goal is repeated unchanged."""
    types: tuple[type, ...] = ()
    later: ToolCall | None = None
    """Another tool, for when the repeated goal fails as well."""


_Request = tuple[str, str, ToolCall]
"""Kind, wording and call of a turn."""


class Pairs:
    """An endless stream of such dialogues."""

    def __init__(self, seed: int | str) -> None:
        self._rng = random.Random(f"pairs {seed}")
        self._source = Source(SINGLES, (Category.BASE,), seed)
        self._ready: list[Dialogue] = []

    def next(self) -> Dialogue:
        """Another one."""
        while not self._ready:
            instance = self._source.next()
            task = (disguise(instance, self._rng) if self._rng.random() < DISGUISED else instance).task()
            calls = [calls[0] for calls in task.ground_truth]
            turns = list(zip(task.kinds, task.user_turns, calls, strict=True))
            scenes = [scene for pair in itertools.permutations(turns, 2) for scene in self._scenes(task, turns, *pair)]
            self._rng.shuffle(scenes)
            scenes.sort(key=lambda scene: len(scene.helpers), reverse=True)  # two lookups are rare
            for scene in scenes[:PER_TASK]:
                if dialogue := self._play(scene):
                    if self._rng.random() < RENAMED:
                        for helper in dict.fromkeys(call.name for call in (scene.helpers[0], scene.later) if call):
                            rename(dialogue, helper, _needed(scene.goal.name), self._rng)
                    self._ready.append(dialogue)
        return self._ready.pop()

    def _scenes(self, task: Task, turns: list[_Request], goal: _Request, helper: _Request) -> list[_Scene]:
        if not _may_pair(goal[2], helper[2]):
            return []
        others = [turn[2] for turn in turns if turn is not goal and turn is not helper and _may_pair(goal[2], turn[2])]
        scenes = [_state_scene(self._rng, task, goal, helper[2], others)]
        if helper[0] in LOOKUPS:
            scenes.append(_value_scene(self._rng, task, goal, helper))
        return [scene for scene in scenes if scene is not None]

    def _play(self, scene: _Scene) -> Dialogue | None:
        """The dialogue. None if the goal does not fail, or the helper fails."""
        rng, env = self._rng, ToolUseEnv(scene.task)
        seen = env.reset()
        dialogue = Dialogue(seen.tools, list(seen.messages))
        result = _act(dialogue, env, scene.goal)
        if not result.error:
            return None
        real = hint(scene.goal, result, dialogue.tools, [str(dialogue.messages[0]["content"])])
        if real and "Tell the user" in real.text and rng.random() < GIVEN_UP:
            dialogue.messages[-1]["content"] = hinted_text(result.text, real)
            dialogue.say(FAILED)
            return dialogue
        if rng.random() < HINTED:
            self._lay(dialogue, scene.goal, scene.helpers[0].name, result)
        elif rng.random() > EXPLORE:
            dialogue.say(FAILED)
            return dialogue
        if (scene.goal.name, scene.helpers[0].name) in TRUE_PAIRS:
            dialogue.say(render_calls(scene.helpers[:1]))
            return dialogue
        found = [_act(dialogue, env, helper) for helper in scene.helpers]
        again = _carried(scene, [result.text for result in found])
        if again is None or any(result.error for result in found):
            return None
        if scene.later is not None:
            self._lay(dialogue, scene.goal, scene.later.name, _act(dialogue, env, again))
            if (scene.goal.name, scene.later.name) in TRUE_PAIRS:
                dialogue.say(render_calls([scene.later]))
                return dialogue
            if _act(dialogue, env, scene.later).error:
                return None
        if rng.random() > PAYS:
            dialogue.say(FAILED if _act(dialogue, env, again).error else DONE)
            return dialogue
        answer = _intact(scene, again)
        if answer is None:
            return None
        dialogue.say(render_calls([again]))
        dialogue.messages.append({"role": "tool", "name": again.name, "content": answer})
        dialogue.say(DONE)
        return dialogue

    def _lay(self, dialogue: Dialogue, goal: ToolCall, helper: str, result: ToolResult) -> None:
        """Add a hint to the failure that the dialogue ends with."""
        rng = self._rng
        real = hint(goal, result, dialogue.tools, [str(dialogue.messages[0]["content"])])
        why = real.text.split(". ", 1)[0] + "." if real else f"{goal.name} did not work like this."
        if rng.random() < LISTED:
            names = [tool["function"]["name"] for tool in dialogue.tools]
            others = [name for name in names if name not in (goal.name, helper)]
            offered = [helper, *rng.sample(others, min(LIST_LENGTH - 1, len(others)))]
            rng.shuffle(offered)
            do = f"Call one of {listed(offered, 'or')}, then repeat {goal.name}."
        else:
            do = rng.choice(SENTENCES).format(tool=helper, call=goal.name)
        dialogue.messages[-1]["content"] = hinted_text(result.text, Hint("", f"{why} {do}"))


def _state_scene(
    rng: random.Random, task: Task, goal: _Request, helper: ToolCall, others: list[ToolCall]
) -> _Scene | None:
    """The goal asked for in a state in which it fails, with the details of the helper, and perhaps of another."""
    later = rng.choice(others) if others and rng.random() < TWO_HINTS else None
    helpers = [call for call in (helper, later) if call is not None]
    rng.shuffle(helpers)
    arguments = [item for call in helpers for item in call.arguments.items() if _is_detail(item[1])]
    details = " , ".join(rng.choice(DETAILS).format(word=_word(key), value=value) for key, value in arguments)
    if len(details) > 80:
        return None
    text = rng.choice((f"{details} , {goal[1]}", f"{goal[1]} , {details}")) if details else goal[1]
    broken = _one_turn(task, text, _broken(task.initial_config, goal[2]))
    return _Scene(broken, goal[2], _one_turn(task, text, task.initial_config), goal[2], (helper,), later=later)


def _value_scene(rng: random.Random, task: Task, goal: _Request, helper: _Request) -> _Scene | None:
    """The goal asked for with names instead of values, one for each slot."""
    (_, text, call), (kind, _, first) = goal, helper
    slots = [key for key, value in call.arguments.items() if text.count(str(value)) == 1 and not _is_switch(value)]
    if not slots:
        return None
    helpers = [first]
    if len(slots) < 2 or kind not in TABLES or rng.random() > TWO_LOOKUPS:
        slots = rng.sample(slots, 1)
    else:
        first_slot = rng.randrange(len(slots) - 1)
        slots = slots[first_slot : first_slot + 2]
        item = rng.choice(POOLS[TABLES[kind]].of("train", kind))
        helpers.append(ToolCall(first.name, dict.fromkeys(first.arguments, item.name)))
    arguments = dict(call.arguments)
    for slot, found in zip(slots, helpers, strict=True):
        name = next(iter(found.arguments.values()))
        text = text.replace(str(arguments[slot]), str(name))
        arguments[slot] = name
    if helpers[1:] and helpers[0] == helpers[1]:
        return None
    types = tuple(type(call.arguments[slot]) for slot in slots)
    one = _one_turn(task, text, task.initial_config)
    return _Scene(one, ToolCall(call.name, arguments), one, call, tuple(helpers), tuple(slots), types)


def _needed(goal: str) -> set[str]:
    """The tools that this goal may need."""
    return {helper for tool, helper in TRUE_PAIRS if tool == goal}


def _may_pair(goal: ToolCall, helper: ToolCall) -> bool:
    return goal.name != helper.name


def _is_detail(value: Any) -> bool:
    """Whether a user would mention it: neither a switch nor a constant of the tool."""
    return not _is_switch(value) and value not in ("START", "read_write", "USD", "on", 1.0)


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool | list)


def _word(argument: str) -> str:
    return argument.replace("_", " ").lower()


def _one_turn(task: Task, text: str, config: JSON) -> Task:
    return replace(task, user_turns=(text,), ground_truth=((),), kinds=("pair",), initial_config=config)


def _broken(config: JSON, goal: ToolCall) -> JSON:
    """The initial state changed so that many goals fail for a reason unrelated to their values."""
    config = copy.deepcopy(config)
    for domain, changes in _BROKEN.items():
        if domain in config:
            config[domain].update(changes)
    if files := config.get("GorillaFileSystem"):
        name = goal.arguments.get("file_name") or goal.arguments.get("source")
        files["root"]["home"]["contents"].pop(name, None)
    if "TravelAPI" in config:
        config["TravelAPI"].pop("access_token", None)
    return config


_BROKEN: JSON = {
    "TwitterAPI": {"authenticated": False},
    "TradingBot": {"authenticated": False},
    "MessageAPI": {"current_user": None},
    "VehicleControlAPI": {"engineState": "stopped", "brakePedalStatus": "released", "brakePedalForce": 0.0},
}


def _act(dialogue: Dialogue, env: ToolUseEnv, call: ToolCall) -> ToolResult:
    reply = render_calls([call])
    dialogue.say(reply)
    dialogue.messages += [dict(message) for message in env.step(reply).messages]
    return env.episode.steps[-1].results[0]


def _intact(scene: _Scene, again: ToolCall) -> str | None:
    """The simulators' answer to the goal in the intact state, about the values of `again`. None: an error."""
    env = ToolUseEnv(scene.intact)
    env.reset()
    env.step(render_calls([scene.right]))
    result = env.episode.steps[-1].results[0]
    text = result.text
    for slot in scene.slots:
        text = text.replace(str(scene.right.arguments[slot]), str(again.arguments[slot]))
    return None if result.error else text


def _carried(scene: _Scene, found: list[str]) -> ToolCall | None:
    """The goal with what the helpers found in its slots. None if a result holds nothing that fits."""
    arguments = dict(scene.goal.arguments)
    for slot, wanted, text in zip(scene.slots, scene.types, found, strict=False):
        value = next((v for v in _scalars(ast.literal_eval(_python(text))) if v != arguments[slot]), None)
        if value is None or str(value).startswith(UNKNOWN):
            return None
        if wanted is not str and isinstance(value, str) and value.isdigit():
            value = int(value)
        elif wanted is str:
            value = str(value)
        arguments[slot] = value
    return ToolCall(scene.goal.name, arguments)


def _python(text: str) -> str:
    """A result as a Python literal: most are JSON, lists are already Python."""
    return text.replace(": true", ": True").replace(": false", ": False").replace(": null", ": None")


def _scalars(value: Any) -> list[Any]:
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return [scalar for item in items for scalar in _scalars(item)]
    return [] if isinstance(value, bool) or value is None else [value]
