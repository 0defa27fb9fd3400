"""The parameters of the notebooks: one typed model per chapter.

`params_file` fills them from a YAML file and the defaults in each notebook's `parameters` cell. Defaults are in the
notebooks and nowhere else. A key shared by several notebooks (such as `seed`) means the same in all of them. `CHAPTERS`
is the order of the series: a new chapter is a model and a line there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from envtune.workbook.errors import ParamsError
from envtune.workbook.paths import PUBLISHED

if TYPE_CHECKING:
    from envtune.training.curriculum import Stage
    from envtune.training.plan import Plan

NUMERIC = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")


def _number_in_text(value: object) -> object:
    """A number that YAML 1.1 reads as text, such as `1e-5`."""
    return float(value) if isinstance(value, str) and NUMERIC.fullmatch(value) else value


Count = Annotated[int, Field(ge=1)]
Real = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_number_in_text)]
Split = Literal["all", "train", "val", "test", "heldout"]
Text = Annotated[str, Field(min_length=1)]
Plain = dict[str, Any]
"""Plain values, as papermill and YAML have them. A record of `training` checks them."""


def _not_published(name: str) -> str:
    if PUBLISHED in Path(name).parts:
        raise PydanticCustomError("taken", "another name, as results/published/ holds the published runs")
    return name


Results = Annotated[Text, AfterValidator(_not_published), AfterValidator(lambda path: str(Path(path).expanduser()))]
RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$"), AfterValidator(_not_published)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _is_policy(spec: str) -> str:
    from envtune.policy import check_policy

    check_policy(spec)
    return spec


class Common(_Strict):
    """Parameters of every notebook."""

    run: RunName
    results: Results
    seed: Annotated[int, Field(ge=0, lt=2**32)]

    def ready(self) -> None:
        """Refuse parameters that the notebook cannot use, although other commands such as `envtune train` can.

        Raises:
            ValueError: one line.
        """


class Staged(_Strict):
    """The stages of training: those of a recipe, or `stages` based on named ones (`training.recipes.stages_of`)."""

    recipe: Text
    stages: list[Plain]
    override: Plain

    @field_validator("recipe", "stages", "override")
    @classmethod
    def _are_stages(cls, value: Any, info: ValidationInfo) -> Any:
        from envtune.training.recipes import stages_of

        told = {**info.data, str(info.field_name): value}
        order = ("recipe", "stages", "override")
        wanted = order[: order.index(str(info.field_name)) + 1]
        if set(wanted) <= set(told):  # else one of them was refused before
            stages_of(*(told[name] for name in wanted))
        return value

    def curriculum(self) -> tuple[Stage, ...]:
        """The stages."""
        from envtune.training.recipes import stages_of

        return stages_of(self.recipe, self.stages, self.override)


class Trains(Staged):
    """Most fields of `training.plan.Plan`."""

    policy: Text
    machine: Plain
    """Fields of `training.machine.Machine`."""
    schedule: Plain
    """Fields of `training.plan.Schedule`."""

    @field_validator("machine", "schedule")
    @classmethod
    def _is_a_record(cls, value: Plain, info: ValidationInfo) -> Plain:
        from envtune.training.fields import record

        name = str(info.field_name)
        record(records()[name], value, f"a {name}")
        return value

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        from envtune.training.launch import fits

        for plan in self.plans():
            fits(plan)
        return self

    def plans(self) -> list[Plan]:
        """All that is trained."""
        raise NotImplementedError

    def plan_with(self, seed: int, **more: Any) -> Plan:
        """The plan of the whole recipe."""
        from envtune.training.plan import Plan

        records = {"machine": self.machine, "schedule": self.schedule}
        return Plan.of(self.curriculum(), self.policy, seed=seed, **records, **more)


class DataPrep(Common):
    """Notebook 01."""

    story: Annotated[int, Field(ge=0, lt=200)]
    synth_tasks: Count


class Environment(Common):
    """Notebook 02."""

    trajectories: Count
    hint_failures: Count
    limit: Count | None
    bench_seconds: Annotated[Real, Field(gt=0)]


class RewardDesign(Common):
    """Notebook 03."""

    group_size: Annotated[int, Field(ge=2)]
    limit: Count | None


class Training(Trains, Common):
    """Notebooks 04 and 05."""

    compare_tasks: Count
    launch: Text | None
    threads: Count | None
    trackio: bool

    @field_validator("launch")
    @classmethod
    def _is_there(cls, value: str | None) -> str | None:
        if value is not None:
            from envtune.training.launch import processes

            try:
                processes(value)
            except FileNotFoundError as error:
                raise ValueError(str(error)) from None
        return value

    def plan(self) -> Plan:
        """The training plan. Notebooks 04 and 05 share its stages."""
        return self.plan_with(self.seed, launch=self.launch, threads=self.threads)

    def plans(self) -> list[Plan]:
        """The one plan."""
        return [self.plan()]

    def ready(self) -> None:
        """Refuse stages that notebooks 04 and 05 cannot divide between them, or that this computer cannot train."""
        from envtune.training.machine import require

        plan = self.plan()
        for stage in (*plan.on_base.stages, *plan.on_all.stages):
            require(stage, plan.machine)
            if stage.split != "train":
                raise ValueError(
                    f"stage {stage.name} trains on the split {stage.split}, on which agents are judged. Notebooks need "
                    "`train`. `envtune train PARAMS` trains any recipe"
                )


class Evaluation(Staged, Common):
    """Notebook 06."""

    policies: Annotated[list[Annotated[Text, AfterValidator(_is_policy)]], Field(min_length=1)]
    split: Split
    limit: Count | None
    policy: Text
    synth_tasks: Count
    bfcl_tasks: Count | None
    sensitivity_tasks: Count | None
    batch_size: Count
    threads: Count | None
    jobs: Count


class ExecutionReward(Common):
    """Notebook 07."""

    group_size: Annotated[int, Field(ge=2)]
    limit: Count | None


@dataclass(frozen=True, slots=True)
class Chapter:
    """One notebook of the series, `notebooks/<name>.ipynb`."""

    name: str
    model: type[Common]
    needs: tuple[str, ...] = ()
    """Earlier chapters whose results are an input of this one."""
    reads: tuple[str, ...] = ()
    """Files of other runs, `<run>/<file>`, that it shows if they exist: the user's own, or the published ones."""


HINTS = tuple(f"laptop-hints/{name}" for name in ("manifest.json", "summary.csv", "curves.csv", "requests.csv"))
"""Files of `envtune arms params/laptop-hints.yaml`."""
PPO = tuple(f"laptop-ppo/{name}" for name in ("manifest.json", "summary.csv", "curves.csv"))
"""Files of `envtune arms params/laptop-ppo.yaml`."""

CHAPTERS = (
    Chapter("01_data_prep", DataPrep),
    Chapter("02_environment", Environment),
    Chapter("03_reward_design", RewardDesign),
    Chapter("04_stage1_training", Training),
    Chapter("05_stage2_training", Training, ("04_stage1_training",), HINTS),
    Chapter("06_evaluation", Evaluation, ("04_stage1_training", "05_stage2_training")),
    Chapter("07_execution_reward", ExecutionReward, (), (*PPO, *HINTS[:2])),
)


def chapter(name: str, chapters: Sequence[Chapter] = CHAPTERS) -> Chapter:
    """The chapter with that name.

    Raises:
        ParamsError: there is none. The message lists the names.
    """
    for candidate in chapters:
        if candidate.name == name:
            return candidate
    raise ParamsError(f"unknown notebook '{name}'. The chapters are {', '.join(c.name for c in chapters)}")


def records() -> dict[str, type]:
    """Key of a parameter file -> the record whose fields its mapping holds."""
    from envtune.training.curriculum import PPOStage
    from envtune.training.machine import Machine
    from envtune.training.plan import Schedule

    return {"machine": Machine, "schedule": Schedule, "override": PPOStage}
