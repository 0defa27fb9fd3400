"""The picture of a conversation before and after training."""

from dataclasses import replace
from itertools import pairwise

import pytest

from envtune.types import Category, Episode, Step, StepKind, StopReason, ToolCall, ToolResult, Turn
from envtune.workbook.conversation import CHARACTERS, clearest, conversation
from envtune.workbook.figures import figure_files, set_style


def called(name: str, text: str, error: bool = False, **arguments: object) -> Step:
    kind = StepKind.TOOL_ERROR if error else StepKind.TOOL_OK
    message = f'<tool_call>\n{{"name": "{name}", "arguments": {{}}}}\n</tool_call>'
    return Step(kind, message, (ToolCall(name, arguments),), (ToolResult(text, error),))


def turn(user: str, *steps: Step, right: bool) -> Turn:
    return Turn(user, expects_calls=True, steps=steps, state_ok=right, response_ok=right)


DONE, GAVE_UP = Step(StepKind.ANSWER, "Done."), Step(StepKind.ANSWER, "That did not work.")
REFUSED = called("send_message", '{"error": "No user is currently logged in."}', True, receiver_id="USR2")
LIST = turn("list the files", called("ls", '{"files": ["a"]}'), DONE, right=True)
FAILED = turn("write to USR2", REFUSED, GAVE_UP, right=False)
SOLVED = turn("write to USR2", REFUSED, called("message_login", "ok"), called("send_message", "sent"), DONE, right=True)


def episode(task_id: str, *turns: Turn, n_turns: int | None = None) -> Episode:
    return Episode(task_id, Category.BASE, n_turns or len(turns), turns, StopReason.FINISHED)


BEFORE, AFTER = episode("a_base_0", LIST, FAILED), episode("a_base_0", LIST, SOLVED)


def texts(before: Episode, after: Episode) -> list[str]:
    return [text.get_text() for text in conversation(before, after).axes[0].texts]


def test_both_columns_are_told_with_their_verdicts():
    said = texts(BEFORE, AFTER)
    assert said[:3] == ["Before training", "After training", "User: list the files"]
    assert said.count("User: write to USR2") == 1  # across both columns
    assert said.count("send_message(receiver_id='USR2')") == 2
    assert said.count("✗ Turn 2 wrong") == said.count("✓ Turn 2 correct") == 1
    assert "message_login()" in said and "Agent: That did not work." in said


def test_columns_do_not_touch_and_nothing_is_below_the_page():
    axes = conversation(BEFORE, AFTER).axes[0]
    bottom, width = axes.get_ylim()[0], axes.get_xlim()[1]
    boxes = sorted((box.get_y(), box.get_x(), box.get_x() + box.get_width(), box.get_height()) for box in axes.patches)
    assert all(y + height <= bottom and right <= width for y, _, right, height in boxes)
    assert all(below[0] >= above[0] for above, below in pairwise(boxes))
    left = [right for _, x, right, _ in boxes if x < width / 4 and right < width * 0.6]
    assert max(left) < min(x for _, x, _, _ in boxes if x > width / 4)


def test_long_texts_and_long_turns_are_shortened():
    long = turn("go " * 200, *[called("cat", "word " * 400, n=i) for i in range(20)], DONE, right=False)
    said = texts(episode("a_base_0", long), episode("a_base_0", long))
    assert "… 15 more messages …" in said
    assert all(len(line) <= 2 * CHARACTERS for line in said)
    assert sum("word" in line for line in said) == 2 * 5 * 3  # columns x results x lines


def test_a_turn_that_was_not_reached_is_said():
    assert "Turn 2 not reached" in texts(replace(BEFORE, turns=(LIST,)), AFTER)


def test_two_tasks_are_not_compared():
    with pytest.raises(ValueError, match="a_base_0 and a_base_1"):
        conversation(BEFORE, replace(AFTER, task_id="a_base_1"))


def test_the_file_is_the_same_each_time():
    set_style()
    assert figure_files(conversation(BEFORE, AFTER)) == figure_files(conversation(BEFORE, AFTER))


def test_the_clearest_task_has_two_turns_and_few_steps():
    one = (episode("b_base_1", FAILED), episode("b_base_1", SOLVED))
    long = (episode("c_base_2", LIST, LIST, FAILED), episode("c_base_2", LIST, LIST, SOLVED))
    nothing = (BEFORE, BEFORE)
    pairs = [nothing, one, long, (BEFORE, AFTER)]
    assert clearest(*zip(*pairs, strict=True)) == 3
    assert clearest(*zip(*pairs[:2], strict=True)) == 1


def test_without_a_clear_task_the_one_that_grew_most():
    worse = (episode("a_base_0", LIST, LIST), episode("a_base_0", FAILED, LIST))
    partly = (episode("b_base_1", FAILED, FAILED), episode("b_base_1", LIST, FAILED))
    assert clearest(*zip(worse, partly, strict=True)) == 1
