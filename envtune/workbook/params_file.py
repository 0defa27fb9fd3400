"""Fills the parameters of the notebooks: from a flat YAML mapping, as for `papermill -f`, over the notebooks' defaults.

In: a file, and the notebooks. Out: one frozen model per notebook (`params`), or one line per problem.

A file may begin with `extends: other.yaml`. Then it holds only the differences from that file in the same folder.
Mappings in both files (`override`, `machine`, `schedule`) are joined key by key. Anything else is replaced.
"""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from envtune.workbook.errors import ParamsError
from envtune.workbook.params import Chapter, Common, records

EXTENDS = "extends"


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


def _unknown(key: str, known: Sequence[str], value: object) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    holders = [name for name in ("machine", "schedule", "override") if name in known]
    holders = [name for name in holders if key in {field.name for field in fields(records()[name])}]
    way_out = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
    if holders:
        inner = yaml.safe_dump({key: value}, default_flow_style=True, width=math.inf).strip()
        way_out = f"did you mean {holders[0]}: {inner}?"
    return f"unknown key '{key}': {way_out}"


def _type_name(value: object) -> str:
    return {type(None): "an empty file", list: "a list", str: "text"}.get(type(value), f"a {type(value).__name__}")
