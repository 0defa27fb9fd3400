"""How well a tiny policy does single requests, and chains with and without hints. Greedy, on procedural tasks.

Chains are measured on tasks that contain only chains, so that easy single requests do not raise the number.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from envtune.cold_start.dialogues import SINGLES
from envtune.data import synth
from envtune.data.synth_kinds import KINDS
from envtune.environment.hints import Strength
from envtune.environment.rules import Rules
from envtune.training.curriculum import Limits
from envtune.training.rollout import play
from envtune.types import JSON, Category, Episode, Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MESSAGE_TOKENS = 160
"""Longest message of the tiny policy in tokens. The longest call of a procedural task has about 90."""
CHAINS = tuple(kind.name for kind in KINDS.values() if kind.train and kind.chain and not kind.half)
HINTS = {"none": (0.0, Strength.LIST), "list": (1.0, Strength.LIST), "one": (1.0, Strength.ONE)}
"""Name -> rate and strength of hints."""


LIMITS = Limits(MESSAGE_TOKENS, episode_tokens=1200)
"""Enough room for a chain."""
RULES = {
    name: Rules(max_steps_per_turn=10, temperature=0.0, hint_rate=rate, hint_strength=strength)
    for name, (rate, strength) in HINTS.items()
}
"""Setting of hints -> greedy rules with enough steps for a chain."""


def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, n: int, split: str, seed: int = 0) -> JSON:
    """Accuracies on `n` tasks of single requests and `n` tasks of chains of a split.

    Returns:
        `single_exact`: share of turns whose calls are exactly the ground truth's, over all categories and by category.
        `chains`: per setting of hints, the share of turns correct among those that expect calls, the share of tasks
        solved, and the share of turns correct by kind.
    """
    tasks = synth.load(n, split, seed, kinds=SINGLES)
    episodes = [rollout.episode for rollout in play(model, tokenizer, tasks, RULES["none"], LIMITS)]
    chains = synth.load(n, split, seed, [Category.BASE], kinds=CHAINS)
    return {
        "split": split,
        "seed": seed,
        "tasks": n,
        "single_exact": _exact(tasks, episodes),
        "single_exact_by_category": {
            str(category): _exact(
                [t for t in tasks if t.category is category], [e for e in episodes if e.category is category]
            )
            for category in dict.fromkeys(task.category for task in tasks)
        },
        "chains": {
            name: _right(chains, [r.episode for r in play(model, tokenizer, chains, rules, LIMITS, seed=seed)])
            for name, rules in RULES.items()
        },
    }


def _exact(tasks: list[Task], episodes: list[Episode]) -> float:
    pairs = [
        (list(expected), [call for step in turn.steps for call in step.calls])
        for task, episode in zip(tasks, episodes, strict=True)
        for expected, turn in zip(task.ground_truth, episode.turns, strict=False)
    ]
    return round(sum(a == b for a, b in pairs) / sum(task.n_turns for task in tasks), 4)


def _right(tasks: list[Task], episodes: list[Episode]) -> JSON:
    kinds: dict[str, list[bool]] = defaultdict(list)
    for task, episode in zip(tasks, episodes, strict=True):
        for turn, kind in enumerate(task.kinds):
            if task.ground_truth[turn]:
                kinds[kind].append(turn < len(episode.turns) and episode.turns[turn].correct)
    turns = [right for found in kinds.values() for right in found]
    return {
        "turns": len(turns),
        "turn_accuracy": round(sum(turns) / len(turns), 4),
        "tasks_right": round(sum(episode.success for episode in episodes) / len(episodes), 4),
        "by_kind": {kind: round(sum(found) / len(found), 3) for kind, found in sorted(kinds.items())},
    }
