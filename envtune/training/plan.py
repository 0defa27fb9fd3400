"""A training run as one record: the policy, the stages, and where it runs.

A `Plan` is the whole input of `train.train`, `check.check` and `bench_step.bench`. A parameter file makes one
(`workbook.plan`). The arms of an experiment are `dataclasses.replace(plan, stages=...)`. A launched process reads one
as JSON. In a parameter file, `machine` and `schedule` are mappings with the same fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from envtune.display import View, grid, shown
from envtune.training import metrics
from envtune.training.curriculum import Stage, stages_view
from envtune.training.fields import record
from envtune.training.machine import Machine
from envtune.types import JSON, Category


@dataclass(frozen=True)
class Schedule:
    """How often a stage is validated and saved, in steps."""

    validate_every: int = 10
    """0: never, and the last weights are handed on."""
    validate_tasks: int = 64
    """Number of tasks, from the split `val` of the stage's source and categories."""
    save_every: int = 10
    keep_best: bool = True
    """Hand on the best validated weights of a stage that ends without hints. False: the last ones of every stage."""

    def __post_init__(self) -> None:
        if self.validate_every < 0 or min(self.validate_tasks, self.save_every) < 1:
            raise ValueError(f"{self}: validate_every is at least 0, validate_tasks and save_every at least 1")


def plan_view(plan: Plan) -> View:
    """The stages, and below them where and how they run."""
    stages = stages_view(f"plan to train {plan.policy}", plan.stages)
    told = {"seed": plan.seed, "launch": plan.launch, "threads": plan.threads}
    told |= asdict(plan.machine) | asdict(plan.schedule)
    settings = grid(["setting", "value"], ([name, str(value)] for name, value in told.items()))
    return View(stages.facts, stages.body + settings)


@shown(plan_view)
@dataclass(frozen=True)
class Plan:
    """A training run."""

    stages: tuple[Stage, ...]
    policy: str
    """What `load_policy` takes: `tiny`, the folder of a checkpoint, or a hub name."""
    seed: int = 0
    """Seed of task order, sampling and hints."""
    machine: Machine = field(default_factory=Machine)
    schedule: Schedule = field(default_factory=Schedule)
    launch: str | None = None
    """Configuration of accelerate for several processes: `params/accelerate/fsdp2-8gpu.yaml`. None: this one."""
    threads: int | None = None
    """Threads of torch in each process. None: torch's default."""

    @staticmethod
    def of(stages: tuple[Stage, ...], policy: str, **values: Any) -> Plan:
        """A plan whose other fields are plain values of a parameter file.

        Raises:
            ValueError: a field is unknown or has a wrong value. The message names it.
        """
        return record(Plan, {"stages": stages, "policy": policy, **values}, "a plan")

    @property
    def stages_apart(self) -> bool:
        """Whether every stage has processes of its own, which free everything when they end.

        vLLM's engine does not free itself. Torch keeps its weights alive, its end takes the group of processes with it,
        and on a GPU its allocator admits one engine per process.
        """
        return self.launch is not None or self.machine.sampler == "vllm"

    @property
    def on_base(self) -> Plan:
        """The first stages, which train on the base split alone: chapter 4.

        Raises:
            ValueError: there is none, there is no other stage, or the two chapters would be judged differently.
        """
        found = tuple(stage for stage in self.stages if stage.categories == (Category.BASE,))
        if not found or len(found) == len(self.stages) or found != self.stages[: len(found)]:
            raise ValueError(
                f"the stages {', '.join(stage.name for stage in self.stages)} do not train on the base split first. "
                "Chapters 4 and 5 need a recipe that does. `envtune train PARAMS` trains any recipe"
            )
        judged = [{"source": stage.judged_on, **stage.judged.record} for stage in (found[-1], self.stages[-1])]
        if odd := [rule for rule in judged[0] | judged[1] if judged[0].get(rule) != judged[1].get(rule)]:
            values = " and ".join(str(by.get(odd[0])) for by in judged)
            raise ValueError(
                f"the stages {found[-1].name} and {self.stages[-1].name} are judged differently: {odd[0]} is {values}. "
                "Chapters 4 and 5 compare on the same tasks by the same rules. `envtune train PARAMS` trains any recipe"
            )
        return replace(self, stages=found)

    @property
    def on_all(self) -> Plan:
        """The stages after those of `on_base`: chapter 5."""
        return replace(self, stages=self.stages[len(self.on_base.stages) :])

    def stage(self, name: str | None = None) -> Stage:
        """The stage of that name. None: the last.

        Raises:
            ValueError: there is none.
        """
        found = [stage for stage in self.stages if name in (None, stage.name)]
        if not found:
            raise ValueError(f"no stage {name!r}. Known: {', '.join(stage.name for stage in self.stages)}")
        return found[-1]

    def to_json(self) -> JSON:
        """Plain values, see `from_json`."""
        told: JSON = {"stages": [stage.to_json() for stage in self.stages], "policy": self.policy, "seed": self.seed}
        told |= {"machine": asdict(self.machine), "schedule": asdict(self.schedule)}
        return told | {"launch": self.launch, "threads": self.threads}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Plan:
        """The plan that `to_json` wrote, also after a round trip through text.

        Raises:
            ValueError: it is not a plan. The message names the field.
        """
        stages = tuple(Stage.from_json(stage) for stage in values["stages"])
        return Plan.of(**{**values, "stages": stages})


@dataclass(frozen=True)
class TrainResult:
    """Where a run left its policy and its numbers."""

    policy: Path
    metrics: Path

    def lines(self) -> list[JSON]:
        """The numbers of every step."""
        return metrics.read(self.metrics)
