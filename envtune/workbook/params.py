"""The parameters of the notebooks: one typed model per chapter, and the YAML file that fills them.

In: a flat YAML mapping, as for `papermill -f`, and the defaults in each notebook's `parameters` cell. Out: one frozen
model per notebook. Defaults are in the notebooks and nowhere else. A key shared by several notebooks (such as `seed`)
means the same in all of them. `CHAPTERS` is the order of the series: a new chapter is a model and a line there.

A file may begin with `extends: other.yaml`. Then it holds only the differences from that file in the same folder.
Mappings in both files (`override`, `machine`, `schedule`) are joined key by key. Anything else is replaced.
"""

from __future__ import annotations

import ast
import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

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
EXTENDS = "extends"


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
        """Refuse what commands outside of the series can use, such as `envtune train`, and its notebook cannot.

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
        record(_records()[name], value, f"a {name}")
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
        """Refuse stages that notebooks 04 and 05 cannot share out, and what this computer cannot do for them."""
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


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a mapping with a duplicate key, which YAML forbids and PyYAML accepts."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key.value}' appears twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def load_params(path: Path | str) -> dict[str, Any]:
    """The mapping in a YAML file, over the file that it `extends`. Only its shape is checked.

    Raises:
        FileNotFoundError: no such file.
        ParamsError: not YAML, not a mapping from names, a key that appears twice, or files that extend each other.
    """
    path, values = Path(path), _load_file(Path(path))
    seen = [path.resolve()]
    while EXTENDS in values:
        name = values.pop(EXTENDS)
        if not isinstance(name, str):
            raise ParamsError(f"{path}: key '{EXTENDS}': got {name!r}, expected the name of a file in the same folder")
        path = path.parent / name
        if path.resolve() in seen:
            raise ParamsError(f"{path}: these files extend each other. Remove `extends` from one of them")
        seen.append(path.resolve())
        values = _laid_over(_load_file(path), values)
    return values


def _laid_over(base: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    joined = {
        key: {**base[key], **value} for key, value in values.items() if isinstance(value, dict) and _is_dict(base, key)
    }
    return {**base, **values, **joined}


def _is_dict(values: Mapping[str, Any], key: str) -> bool:
    return isinstance(values.get(key), dict)


def _load_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no parameter file '{path}'. The project's own are in params/")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ParamsError(f"{path}{line}: {error.problem or error.context or 'not YAML'}") from error
    except (yaml.YAMLError, ValueError) as error:  # control characters, not UTF-8, impossible dates
        raise ParamsError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: expected a mapping such as `seed: 0`, found {_type_name(values)}")
    for key in values:
        if not isinstance(key, str):
            raise ParamsError(f"{path}: key {key!r} is not a name. Quote it if it is meant as one")
    return values


def notebook_defaults(path: Path) -> dict[str, Any]:
    """The assignments in a notebook's cell tagged `parameters`.

    Read with `ast`, because `papermill.inspect_notebook` drops a line whose comment holds `=` and cuts a text at `#`.

    Raises:
        ParamsError: not a notebook, not exactly one such cell, or a line that is not `name = literal`.
    """
    import nbformat  # takes a second, which kernels should not spend

    try:
        notebook = nbformat.read(path, as_version=4)
        cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    except (ValueError, TypeError, AttributeError, nbformat.ValidationError) as error:
        raise ParamsError(f"{path.name}: not a notebook ({' '.join(str(error).split())[:100]})") from error
    if len(cells) != 1:
        raise ParamsError(f"{path.name}: expected one cell tagged `parameters`, found {len(cells)}")
    try:
        lines = ast.parse(cells[0].source).body
    except SyntaxError as error:
        raise ParamsError(f"{path.name}: the `parameters` cell is not Python (line {error.lineno})") from error
    return dict(_assignment(line, path.name) for line in lines)


def _assignment(line: ast.stmt, notebook: str) -> tuple[str, Any]:
    target = line.targets[0] if isinstance(line, ast.Assign) and len(line.targets) == 1 else None
    target = line.target if isinstance(line, ast.AnnAssign) else target
    value = line.value if isinstance(line, ast.Assign | ast.AnnAssign) else None
    try:
        if isinstance(target, ast.Name) and value is not None:
            return target.id, ast.literal_eval(value)
    except ValueError:
        pass  # not a literal: said below
    raise ParamsError(
        f"{notebook}: `{ast.unparse(line)}` in the `parameters` cell: expected `name = literal`, nothing computed"
    )


def resolve(notebooks: Mapping[Path, Chapter], values: Mapping[str, Any], source: str) -> dict[str, Common]:
    """Every notebook's parameters: its defaults, with those keys replaced that `values` holds.

    Args:
        notebooks: notebook file -> its chapter.
        values: from `load_params`.
        source: the file's name, for messages.

    Returns:
        Chapter name -> validated model.

    Raises:
        ParamsError: a key that no notebook declares, an ill-typed value, a notebook that disagrees with its model.
    """
    problems: list[str] = []
    resolved: dict[str, Common] = {}
    defaults = {path: notebook_defaults(path) for path in notebooks}
    known = sorted({key for declared in defaults.values() for key in declared})
    problems += [f"{source}: {_unknown(key, known, value)}" for key, value in values.items() if key not in known]
    for path, found in notebooks.items():
        given = {key: value for key, value in values.items() if key in defaults[path]}
        try:
            resolved[found.name] = validate(found.model, defaults[path] | given)
        except ValidationError as error:
            for line in error.errors():
                where = path.name if line["loc"] and line["loc"][0] not in given else source
                problems.append(f"{where}: {explain(line, list(found.model.model_fields))}")
    if problems:
        raise ParamsError("\n".join(dict.fromkeys(problems)))
    return resolved


def validate(model: type[Common], values: Mapping[str, Any]) -> Common:
    """`values` as an instance of `model`, or a pydantic `ValidationError` (see `explain`)."""
    return model.model_validate(dict(values))


EXPECTED = {
    "int_type": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "literal_error": "one of {expected}",
    "enum": "one of {expected}",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "too_short": "at least {min_length} of them",
    "string_too_short": "text that is not empty",
    "string_pattern_mismatch": "a plain name of letters, digits, '_', '-' and '.', not beginning with '.' or '-'",
}


def explain(error: ErrorDetails, known: Sequence[str], place: str = "the notebook's `parameters` cell") -> str:
    """One line with the key, the given value and the expected one. `place` is where keys must be."""
    if not error["loc"]:  # each key is right, but they do not go together
        return str(error["ctx"]["error"])
    inner = [part for part in error["loc"][1:] if isinstance(part, int)]
    key = str(error["loc"][0]) + "".join(f"[{part}]" for part in inner)
    if error["type"] == "extra_forbidden":
        return _unknown(key, known, error["input"])
    if error["type"] == "missing":
        return f"key '{key}' is missing, expected in {place}"
    if error["type"] == "value_error":  # the record's own message, which names the value
        return f"key '{key}': {error['ctx']['error']}"
    template = EXPECTED.get(error["type"])
    expected = template.format(**error.get("ctx", {})) if template else error["msg"]
    return f"key '{key}': got {error['input']!r}, expected {expected}"


def _records() -> dict[str, type]:
    """Key of a parameter file -> the record whose fields its mapping holds."""
    from envtune.training.curriculum import PPOStage
    from envtune.training.machine import Machine
    from envtune.training.plan import Schedule

    return {"machine": Machine, "schedule": Schedule, "override": PPOStage}


def _unknown(key: str, known: Sequence[str], value: object) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    holders = [name for name in ("machine", "schedule", "override") if name in known]
    holders = [name for name in holders if key in {field.name for field in fields(_records()[name])}]
    way_out = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
    if holders:
        inner = yaml.safe_dump({key: value}, default_flow_style=True, width=math.inf).strip()
        way_out = f"did you mean {holders[0]}: {inner}?"
    return f"unknown key '{key}': {way_out}"


def _type_name(value: object) -> str:
    return {type(None): "an empty file", list: "a list", str: "text"}.get(type(value), f"a {type(value).__name__}")
