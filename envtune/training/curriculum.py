"""The curriculum: a stage is one frozen record.

A `Stage` says which tasks, which reward, how much the environment helps, and the trainer's numbers. Nothing else
differs between stages. `changes` lists the differences. The published stages are in `training.recipes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from html import escape
from itertools import pairwise
from typing import Any

from envtune.data import SOURCES, load_tasks, spread
from envtune.data.audit import sound
from envtune.display import View, grid, shown
from envtune.environment.hints import Strength
from envtune.environment.rules import Calls, Rules
from envtune.rewards import REWARDS
from envtune.training.fields import as_fields, record
from envtune.types import JSON, Category, Task

ALL = tuple(Category)


@dataclass(frozen=True)
class Fade:
    """A hint rate that moves linearly from `start` to `end` over the first `share` of a stage and then stays."""

    start: float
    end: float
    share: float
    hold: float = 0.0
    """The share of the stage before it begins to change. Equal to `share`: it drops at once."""

    def __post_init__(self) -> None:
        if not (0 <= self.start <= 1 and 0 <= self.end <= 1 and 0 <= self.hold <= self.share <= 1 and self.share > 0):
            raise ValueError(f"{self}: rates are from 0 to 1, the share above 0 and up to 1, the hold up to the share")

    def __str__(self) -> str:
        if self.hold == self.share:
            return f"{self.start:g}, then {self.end:g} from {self.share:.0%} on"
        return f"{self.start:g} to {self.end:g} over {self.hold:.0%} to {self.share:.0%}"

    def at(self, progress: float) -> float:
        """The rate after the share `progress` (0 to 1) of the stage."""
        if progress >= self.share:
            return self.end
        if progress <= self.hold:
            return self.start
        done = (progress - self.hold) / (self.share - self.hold)
        return self.start + done * (self.end - self.start)


@dataclass(frozen=True)
class Limits:
    """Most tokens of a message and of an episode."""

    message_tokens: int
    """In one assistant message."""
    episode_tokens: int
    """After the prompt, sampled or not."""


def stages_view(name: str, stages: Sequence[Stage]) -> View:
    """A column per stage, a row per field."""
    facts = [f"<strong>{escape(name)}</strong>", " → ".join(f"{escape(s.name)} ({s.steps} steps)" for s in stages)]
    rows = table(stages)
    header = list(rows[0]) if len(stages) > 1 else list(rows[0])[:-1]  # one stage has no changes
    return View(facts, grid(header, ([row[name] for name in header] for row in rows)))


@shown(lambda stage: stages_view("stage", [stage]))
@dataclass(frozen=True)
class Stage:
    """One stage of training: everything that may change between stages."""

    name: str
    reward: str
    """A name of `rewards.REWARDS`."""
    steps: int
    """Optimizer steps. Each plays `episodes` new episodes."""
    message_tokens: int
    """Most tokens in one assistant message."""
    episode_tokens: int
    """Most tokens after the prompt."""
    source: str = "bfcl"
    """A name of `data.SOURCES`, see `load_tasks`."""
    split: str = "train"
    categories: tuple[Category, ...] = ALL
    tasks: int | None = None
    """Number of tasks. None: all of the split."""
    exclude_unsound: bool = False
    """Leave out benchmark instances in which the reward punishes an agent that does as told (`data.audit`)."""
    hint_rate: float | Fade = 0.0
    """Share of the failures that get a hint, drawn once per tool and turn (`ToolUseEnv`)."""
    hint_strength: Strength = Strength.ONE
    """Whether a hint names the one tool that helps, or lists several."""
    turn_feedback: bool = False
    """Tell the agent after a turn that it acted although no call was expected."""
    learning_rate: float = 1e-6
    beta: float = 0.0
    """Weight of the KL divergence to the policy that entered the stage, low-variance estimator."""
    entropy: float = 0.0
    """Weight of the entropy bonus."""
    clip_low: float = 0.2
    """The ratio of new to old probability counts from 1 - `clip_low` to 1 + `clip_high`."""
    clip_high: float = 0.28
    num_generations: int = 16
    """Rollouts per prompt, the group whose rewards are compared."""
    prompts_per_step: int = 32
    drop_zero_spread: bool = False
    """Leave groups with equal rewards out of the loss: no KL term, no entropy term, not counted."""
    temperature: float = 1.0
    max_steps_per_turn: int = 10
    max_steps: int | None = None
    """Assistant messages in one episode."""
    calls: Calls = "native"
    """`native`: the chat template renders tools and results. `tagged`: instructions and tags in plain messages do."""
    lora_rank: int = 0
    """Rank of an adapter on all linear layers, with the base as the reference of the KL. 0: all weights are trained."""
    plateau: int = 0
    """End after so many validations without improvement, if the gradient norm is stable. 0: end by steps."""
    watch: bool = True
    """Stop a stage that collapses, see `training.watch`."""

    def __post_init__(self) -> None:
        splits = SOURCES[self.source].splits if self.source in SOURCES else (self.split,)
        odd = sorted(set(self.categories) - set(Category))
        problems = [
            (self.source not in SOURCES, f"source {self.source!r} is unknown, known: {', '.join(SOURCES)}"),
            (self.split not in splits, f"{self.source} has no split {self.split!r}, known: {', '.join(splits)}"),
            (bool(odd), f"categories {', '.join(odd)} are unknown, known: {', '.join(Category)}"),
            (self.reward not in REWARDS, f"reward {self.reward!r} is unknown, known: {', '.join(REWARDS)}"),
            (self.steps < 1, f"steps is {self.steps}, must be at least 1"),
            (self.tasks is not None and self.tasks < 1, f"tasks is {self.tasks}, must be at least 1, or null for all"),
            *(
                (limit is not None and limit < 1, f"{name} is {limit}, limits on steps must be at least 1")
                for name, limit in (("max_steps_per_turn", self.max_steps_per_turn), ("max_steps", self.max_steps))
            ),
            (self.learning_rate <= 0, f"learning_rate is {self.learning_rate}, must be above 0"),
            (self.num_generations < 2, f"num_generations is {self.num_generations}, must be at least 2"),
            (self.prompts_per_step < 1, f"prompts_per_step is {self.prompts_per_step}, must be at least 1"),
            (self.temperature <= 0, f"temperature is {self.temperature}, must be above 0 as training samples"),
            (not 0 <= self.clip_low <= 1, f"clip_low is {self.clip_low}, must be from 0 to 1"),
            (self.clip_high < 0, f"clip_high is {self.clip_high}, must be at least 0"),
            (min(self.beta, self.entropy) < 0, f"beta is {self.beta}, entropy {self.entropy}, must be at least 0"),
            (
                self.hint_strength not in set(Strength),
                f"hint_strength {self.hint_strength!r} is unknown, known: {', '.join(Strength)}",
            ),
            (not self.categories, "categories is empty"),
            (isinstance(self.hint_rate, float | int) and not 0 <= self.hint_rate <= 1, "hint_rate must be 0 to 1"),
            (min(self.message_tokens, self.episode_tokens) < 1, "token limits must be at least 1"),
            (self.calls not in ("native", "tagged"), f"calls {self.calls!r} is unknown, known: native, tagged"),
            (min(self.lora_rank, self.plateau) < 0, "lora_rank and plateau must be at least 0"),
        ]
        if found := [text for wrong, text in problems if wrong]:
            raise ValueError(f"stage {self.name}: {'; '.join(found)}")

    def rate(self, step: int) -> float:
        """The hint rate of step `step`, 0-based."""
        if isinstance(self.hint_rate, Fade):
            return self.hint_rate.at(step / self.steps)
        return self.hint_rate

    @property
    def ends_without_hints(self) -> bool:
        """Whether the hint rate is 0 at the stage's end, so that validation plays as training did."""
        return self.rate(self.steps) == 0

    @property
    def episodes(self) -> int:
        """Episodes of one step."""
        return self.prompts_per_step * self.num_generations

    @property
    def updates(self) -> int:
        """Optimizer steps on the episodes of one step."""
        return 1

    def rules(self, step: int) -> Rules:
        """How the episodes of step `step` are played. Validation plays by `.judged`."""
        return Rules(
            max_steps_per_turn=self.max_steps_per_turn,
            max_steps=self.max_steps,
            calls=self.calls,
            hint_rate=self.rate(step),
            hint_strength=self.hint_strength,
            turn_feedback=self.turn_feedback,
            temperature=self.temperature,
        )

    @property
    def judged(self) -> Rules:
        """How validation plays: the same limits, greedy, without hints and without feedback."""
        return self.rules(0).judged

    @property
    def limits(self) -> Limits:
        """Most tokens of a message and of an episode."""
        return Limits(self.message_tokens, self.episode_tokens)

    @property
    def judged_on(self) -> str:
        """The source of the tasks that judge it. `chains` are for practice only: mixed tasks of `synth` judge them."""
        return "synth" if self.source == "chains" else self.source

    def load(self, split: str | None = None, tasks: int | None = None) -> list[Task]:
        """The stage's tasks. With `split`: `tasks` of another split of `judged_on`, sound or not, same categories."""
        n = self.tasks if split is None else tasks
        source = self.judged_on if split else self.source
        where: JSON = {"categories": self.categories, "split": split or self.split}
        if source != "bfcl" and n is not None:
            where["n"] = n
        found = load_tasks(source, **where)
        return spread(sound(found) if self.exclude_unsound and split is None else found, n)

    def to_json(self) -> JSON:
        """Plain values, for records and comparisons."""
        return {**asdict(self), "categories": [str(category) for category in self.categories]}

    @staticmethod
    def from_json(values: JSON) -> Stage:
        """The stage that `to_json` wrote, of either kind."""
        return record(PPOStage if "gamma" in values else Stage, values, f"stage {values['name']}")


@dataclass(frozen=True)
class PPOStage(Stage):
    """A stage that `training.ppo` trains by the reward of every step, so `reward` is `execution`.

    `beta` is the weight of the KL divergence in the reward. Groups have no role.
    """

    gamma: float = 1.0
    """Discount per sampled token."""
    lam: float = 0.95
    """Lambda of the generalised advantage estimate: 1 trusts the returns, 0 the critic."""
    epochs: int = 2
    """Passes over the episodes of a step, an update each."""
    value_weight: float = 0.1
    """Weight of the value loss."""
    value_learning_rate: float = 1e-3
    """Learning rate of the critic's own layer."""
    value_clip: float = 0.2
    """How far a value may move from what it was when the episodes were played."""
    reward_scale: float = 0.1
    """Step rewards are multiplied by it, so that success is worth 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = [
            (self.reward != "execution", f"reward {self.reward!r} is not given step by step, PPO takes 'execution'"),
            (not (0 < self.gamma <= 1 and 0 <= self.lam <= 1), "gamma and lam must be from 0 to 1"),
            (self.epochs < 1, f"epochs is {self.epochs}, must be at least 1"),
            *(
                (getattr(self, name) <= 0, f"{name} is {getattr(self, name)}, must be above 0")
                for name in ("value_clip", "value_learning_rate", "reward_scale")
            ),
            (self.value_weight < 0, f"value_weight is {self.value_weight}, must be at least 0"),
            (self.drop_zero_spread, "drop_zero_spread is for groups, which PPO does not compare"),
        ]
        if found := [text for wrong, text in problems if wrong]:
            raise ValueError(f"stage {self.name}: {'; '.join(found)}")

    @property
    def updates(self) -> int:
        """Optimizer steps on the episodes of one step."""
        return self.epochs


def override(stages: Sequence[Stage], values: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The same stages with some fields of all of them replaced, for a smaller run or an ablation.

    Raises:
        ValueError: no such field, or a value that a stage refuses.
    """
    return tuple(replace(stage, **as_fields(type(stage), values, "a stage", without=["name"])) for stage in stages)


def table(stages: Sequence[Stage]) -> list[dict[str, str]]:
    """One row per field: `field`, its text in each stage, and `changes` ("yes" or "")."""
    names = list(dict.fromkeys(f.name for stage in stages for f in fields(stage)))[1:]
    changed = {name for change in changes(stages) for name in change}
    return [
        {"field": name}
        | {stage.name: _text(getattr(stage, name, None)) for stage in stages}
        | {"changes": "yes" if name in changed else ""}
        for name in names
    ]


def describe(change: Mapping[str, tuple[Any, Any]]) -> str:
    """One entry of `changes` as a line of text."""
    return "; ".join(f"{name}: {_text(before)} → {_text(now)}" for name, (before, now) in change.items())


def _text(value: Any) -> str:
    """A field's value for a table."""
    if isinstance(value, tuple):
        return "all four" if value == ALL else ", ".join(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else str(value)


def changes(stages: Sequence[Stage]) -> list[dict[str, tuple[Any, Any]]]:
    """For each stage after the first: field -> (before, now), for the fields that differ from the stage before."""
    names = [f.name for f in fields(Stage) if f.name != "name"]
    return [
        {name: (getattr(a, name), getattr(b, name)) for name in names if getattr(a, name) != getattr(b, name)}
        for a, b in pairwise(stages)
    ]
