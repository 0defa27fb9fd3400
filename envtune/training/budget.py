"""Can a stage's ground truth be played at all within its limits on tokens?

In: a stage, its tasks, a policy's tokenizer, the tokens that its model reads. Out: a line or two. The ground truth is
played as `policy.scripted.Oracle` plays it, a call per message and "Done." at the end of a turn, by the stage's rules
without limits on steps. An agent that thinks, or errs, needs more. Results of the tools count, as in training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from envtune.chat import render_calls
from envtune.environment import ToolUseEnv
from envtune.environment.rules import Rules
from envtune.policy.scripted import ANSWER
from envtune.policy.tokens import ChatTokens
from envtune.training.curriculum import Stage
from envtune.types import Task


@dataclass(frozen=True)
class Length:
    """Tokens that the ground truth of a task takes."""

    prompt: int
    """Tools and first user message."""
    message: int
    """The longest message of the agent, with its end."""
    episode: int
    """All that follows the prompt, up to the end of the last message."""

    def fits(self, stage: Stage, reads: int) -> bool:
        """Whether a stage's limits, and a model that reads so many tokens, have room for it."""
        return self.message <= stage.message_tokens and self.episode <= min(stage.episode_tokens, reads - self.prompt)


@lru_cache(maxsize=2048)
def length(task: Task, rules: Rules, tokens: ChatTokens) -> Length:
    """Play the ground truth of a task and count."""
    env = ToolUseEnv(task, rules)
    seen = env.reset()
    prompt = len(tokens.prompt(*rules.opening(seen.messages, seen.tools)))
    texts = [text for turn in task.ground_truth for text in (*(render_calls([call]) for call in turn), ANSWER)]
    messages = [len(tokens.tokenizer.encode(text, add_special_tokens=False, verbose=False)) + 1 for text in texts]
    between = 0
    for text in texts:
        seen = env.step(text)
        between += 0 if seen.done else len(tokens.continuation(rules.shown(seen.messages), tokens.end_id))
    return Length(prompt, max(messages), sum(messages) + between)


def budget(stage: Stage, tasks: Sequence[Task], tokens: ChatTokens, reads: int) -> list[str]:
    """How many tasks' ground truth fits, and what the others need, as lines of text.

    Raises:
        ValueError: the prompt of a task leaves the model no room for a message.
    """
    rules = replace(stage.judged, max_steps_per_turn=None, max_steps=None)
    found = {task: length(task, rules, tokens) for task in tasks}
    shortest, longest = (some(found, key=lambda task: found[task].prompt) for some in (min, max))
    if found[longest].prompt >= reads:
        raise ValueError(
            f"stage {stage.name}: the prompt of task {longest.id} has {found[longest].prompt:,} tokens and the model "
            f"reads {reads:,}. Use a model with a longer context"
        )
    over = {task: each for task, each in found.items() if not each.fits(stage, reads)}
    lines = [
        f"  budget: the ground truth of {len(found) - len(over)} of {len(found)} tasks fits into the "
        f"{stage.episode_tokens:,} tokens after the prompt. Prompts have {found[shortest].prompt:,} to "
        f"{found[longest].prompt:,}, the model reads {reads:,}"
    ]
    if over:
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(task.category for task in over).items())
        ends = [extreme(each.episode for each in over.values()) for extreme in (min, max)]
        lines.append(
            f"  WARN: no episode of this stage can solve {len(over)} tasks ({kinds}). Their ground truth takes "
            f"{ends[0]:,} to {ends[1]:,} tokens, in messages of up to {max(each.message for each in over.values()):,}"
        )
    return lines
