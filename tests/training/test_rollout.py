"""Token in, token out: what a rollout holds is what was sampled and what the environment said."""

from __future__ import annotations

import random
from functools import cache
from itertools import groupby

import pytest
import small
from hypothesis import given, settings
from hypothesis import strategies as st

import envtune
from envtune.chat import CUT_OFF, render_calls
from envtune.environment import ToolUseEnv
from envtune.environment.hints import Strength
from envtune.environment.rules import Rules
from envtune.policy.generate import Row
from envtune.policy.tokens import ChatTokens
from envtune.training.curriculum import Limits
from envtune.training.rollout import Clock, hint_seed, play, rollout
from envtune.types import StepKind, StopReason, ToolCall

LONG = Rules(), Limits(message_tokens=4000, episode_tokens=100_000)
ANSWER = "Done."


def test_tagged_calls_are_played_from_plain_messages():
    """The paper's way: tools in a system message, results in a user message; the episode is the same."""
    task = small.task(0, turns=2)
    says = lambda number, message: render_calls(task.ground_truth[message // 2]) if message % 2 == 0 else ANSWER  # noqa: E731
    (native,), (tagged,) = (
        rollout(Scripted(says), tokens(), [task], Rules(calls=calls), LONG[1], ["0"]) for calls in ("native", "tagged")
    )
    assert tagged.episode == native.episode
    assert tagged.episode.success
    first, whole = (small.tokenizer().decode(ids) for ids in (tagged.prompt_ids, tagged.completion_ids))
    assert "each between <tool_call> and </tool_call>" in first
    assert "# Tools" not in first
    assert "<|im_start|>user\n<tool_response>" in whole


@cache
def tokens() -> ChatTokens:
    return ChatTokens(small.tokenizer())


class Scripted:
    """A backend whose messages are given by a function of the conversation's number and the message's."""

    max_length = 1_000_000

    def __init__(self, says) -> None:
        self.says = says
        self.rows: list[Row] = []
        self.open_rows = self.most_rows = 0

    def open(self, ids, room, seed=0):
        row = Row([], 0, random.Random(seed), slot=len(self.rows))
        row.turn = 0
        self.rows.append(row)
        self.open_rows += 1
        self.most_rows = max(self.most_rows, self.open_rows)
        self.feed(row, ids, room)
        return row

    def feed(self, row, ids, room):
        row.ids += ids
        row.start, row.end, row.waits = len(row.ids), len(row.ids) + room, True

    def close(self, row):
        self.open_rows -= 1

    def run(self):
        ready = [row for row in self.rows if row.waits]
        for row in ready:
            ids = small.tokenizer().encode(self.says(row.slot, row.turn), add_special_tokens=False)
            room = row.end - row.start
            message = [*ids, tokens().end_id][:room]
            row.cut = message[-1] != tokens().end_id
            row.ids += message
            row.logprobs = [-0.5] * len(message)
            row.turn += 1
            row.waits = False
        return ready


def truth(task):
    """The messages that solve a task."""
    return [text for turn in task.ground_truth for text in [*(render_calls([call]) for call in turn), ANSWER]]


def segments(roll):
    """(mask, ids) of every stretch of one speaker."""
    pairs = zip(roll.env_mask, roll.completion_ids, strict=True)
    return [(mask, [i for _, i in group]) for mask, group in groupby(pairs, key=lambda pair: pair[0])]


def check(roll, task, rules, limits, seed="0"):
    """The invariants of design.md, number 5."""
    assert len(roll.completion_ids) == len(roll.env_mask) == len(roll.logprobs)
    assert len(roll.completion_ids) <= limits.episode_tokens
    assert (roll.env_mask[0], roll.env_mask[-1]) == (1, 1)
    assert all((logprob == 0) >= (mask == 0) for mask, logprob in zip(roll.env_mask, roll.logprobs, strict=True))
    parts = segments(roll)
    texts = [tokens().text(ids, ids[-1] != tokens().end_id) for mask, ids in parts if mask]
    assert texts == [step.text for step in roll.episode.steps]
    assert sum(text.endswith(CUT_OFF) for text in texts) == roll.cut_messages
    env = ToolUseEnv(task, rules, seed=hint_seed(seed))
    seen = env.reset()
    assert tokens().prompt(seen.messages, seen.tools) == roll.prompt_ids
    replayed: list[int] = []
    for (_, sampled), text in zip(parts[::2], texts, strict=True):
        if replayed:
            replayed += tokens().continuation(seen.messages, replayed[-1])
        replayed += sampled
        seen = env.step(text)
    assert replayed == roll.completion_ids
    assert env.episode == roll.episode


def test_ground_truth_earns_everything(by_id):
    chosen = [by_id[f"multi_turn_{c}_{n}"] for c, n in [("base", 0), ("base", 7), ("miss_func", 3), ("miss_param", 1)]]
    backend = Scripted(lambda row, turn: truth(chosen[row])[turn])
    clock = Clock()
    played = rollout(backend, tokens(), chosen, *LONG, ["0"] * 4, max_rows=2, clock=clock)
    assert backend.most_rows == 2
    assert clock.seconds["environment"] > 0
    for task, roll in zip(chosen, played, strict=True):
        assert roll.episode.task_id == task.id
        assert roll.episode.success
        assert (roll.rewards["progress"], roll.rewards["binary"], roll.rewards["syntax"]) == (1, 1, 2)
        check(roll, task, *LONG)


messages = st.one_of(
    st.sampled_from([*truth(small.task()), render_calls(small.task().ground_truth[0] * 3), "<tool_call>", ""]),
    st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=40),
)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(messages, min_size=1, max_size=12),
    st.builds(
        Rules,
        max_steps_per_turn=st.integers(1, 4),
        max_steps=st.one_of(st.none(), st.integers(1, 5)),
        hint_rate=st.sampled_from([0.0, 0.5, 1.0]),
        hint_strength=st.sampled_from(list(Strength)),
        turn_feedback=st.booleans(),
    ),
    st.builds(Limits, message_tokens=st.integers(1, 60), episode_tokens=st.integers(1, 400)),
)
def test_whatever_is_said_the_books_are_right(says, rules, limits):
    task = small.task(turns=3)
    backend = Scripted(lambda row, turn: says[turn % len(says)])
    (roll,) = rollout(backend, tokens(), [task], rules, limits, ["0"])
    check(roll, task, rules, limits)
    assert roll.out_of_room == (roll.episode.stop is StopReason.ABORTED)
    assert rules.max_steps is None or len(roll.episode.steps) <= rules.max_steps


def test_a_call_that_is_cut_off_is_never_executed():
    task = small.task(turns=1)
    call = render_calls(task.ground_truth[0])
    exact = len(small.tokenizer().encode(call, add_special_tokens=False))
    for room, kind in [(exact, StepKind.FORMAT_ERROR), (exact + 1, StepKind.TOOL_OK)]:
        backend = Scripted(lambda row, turn: [call, ANSWER][turn])
        limits = Limits(message_tokens=room, episode_tokens=500)
        (roll,) = rollout(backend, tokens(), [task], Rules(), limits, ["0"])
        assert roll.episode.steps[0].kind is kind
        assert roll.cut_messages == (kind is StepKind.FORMAT_ERROR)


def test_no_room_for_the_prompt_is_an_error():
    backend = Scripted(lambda row, turn: "")
    backend.max_length = 20
    with pytest.raises(ValueError, match=r"small_base_0 has \d+ tokens and the model reads 20"):
        rollout(backend, tokens(), [small.task()], *LONG, ["0"])


def test_a_model_plays():
    tasks = [small.task(i // 3) for i in range(9)]
    how = Rules(3, temperature=1.0), Limits(message_tokens=25, episode_tokens=120)
    played = play(small.model(), small.tokenizer(), tasks, *how, seed=1, max_rows=4)
    for task, roll in zip(tasks, played, strict=True):
        check(roll, task, *how)
    assert len({tuple(roll.completion_ids) for roll in played}) == 9
    again = play(small.model(), small.tokenizer(), tasks, *how, seed=1, max_rows=9)
    assert [r.completion_ids for r in again] == [r.completion_ids for r in played]
    assert envtune.rewards.progress(played[0].episode) == played[0].rewards["progress"]


def test_hints_are_drawn_per_rollout():
    task = small.task(turns=1)
    wrong = render_calls([ToolCall("mkdir", {"name": "x"})])
    backend = Scripted(lambda row, turn: wrong if turn < 10 else ANSWER)
    rules, limits = Rules(hint_rate=0.5), LONG[1]
    seeds = [f"0/{i}" for i in range(100)]
    played = rollout(backend, tokens(), [task] * 100, rules, limits, seeds)
    drawn = [{r.hint is not None for s in roll.episode.steps for r in s.results} for roll in played]
    assert all(len(found) == 1 for found in drawn)
    assert 30 < sum(found == {True} for found in drawn) < 70
    for roll, seed in zip(played, seeds, strict=True):
        check(roll, task, rules, limits, seed)
