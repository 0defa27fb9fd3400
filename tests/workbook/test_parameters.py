"""Parameters: what is refused, how that is said, and the traps of YAML and of papermill."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from stub_chapters import ALPHA, CHAPTERS, Alpha
from stub_project import ALPHA_PARAMETERS, write_notebook

from envtune.workbook import params
from envtune.workbook.errors import ParamsError
from envtune.workbook.params import chapter
from envtune.workbook.params_file import explain, load_params, notebook_defaults, resolve

GOOD = {"run": "test", "results": "results", "seed": 0, "n": 1, "rate": 0.1}


def complaint(**values: object) -> str:
    with pytest.raises(ValidationError) as caught:
        Alpha.model_validate(GOOD | values)
    return "\n".join(explain(error, list(Alpha.model_fields)) for error in caught.value.errors())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"seed": "abc"}, "key 'seed': got 'abc', expected an integer"),
        ({"seed": "3"}, "key 'seed': got '3', expected an integer"),
        ({"seed": True}, "key 'seed': got True, expected an integer"),
        ({"seed": 1.5}, "key 'seed': got 1.5, expected an integer"),
        ({"seed": 1.0}, "key 'seed': got 1.0, expected an integer"),
        ({"seed": None}, "key 'seed': got None, expected an integer"),
        ({"seed": -1}, "key 'seed': got -1, expected at least 0"),
        ({"seed": 2**32}, f"key 'seed': got {2**32}, expected less than {2**32}"),
        ({"n": 0}, "key 'n': got 0, expected at least 1"),
        ({"rate": True}, "key 'rate': got True, expected a number"),
        ({"rate": "fast"}, "key 'rate': got 'fast', expected a number"),
        ({"rate": "nan"}, "key 'rate': got 'nan', expected a number"),
        ({"rate": float("inf")}, "key 'rate': got inf, expected a finite number"),
        ({"rate": "1e999"}, "key 'rate': got inf, expected a finite number"),
        ({"run": 5}, "key 'run': got 5, expected text"),
        ({"sed": 1}, "unknown key 'sed': did you mean 'seed'?"),
        ({"zzz": 1}, "unknown key 'zzz': known are run, results, seed, n, rate"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(values, said):
    assert complaint(**values) == said


@pytest.mark.parametrize("run", ["", ".hidden", "a/b", "..", "a b", "-x", "a\\b", "tiny\n", "é", "x" * 101])
def test_a_run_is_a_plain_name(run):
    assert complaint(run=run).startswith(f"key 'run': got {run!r}, expected a plain name")


@pytest.mark.parametrize("text", ["1e-5", "1E-5", "-2.", ".5", "+3e+4"])
def test_numbers_that_yaml_reads_as_text_are_numbers(text):
    assert Alpha.model_validate(GOOD | {"rate": text}).rate == float(text)


@given(value=st.floats(allow_nan=False, allow_infinity=False), seed=st.integers(0, 2**32 - 1))
def test_typed_values_survive_yaml_and_back(value, seed):
    typed = Alpha.model_validate(GOOD | {"rate": value, "seed": seed})
    assert Alpha.model_validate(yaml.safe_load(yaml.safe_dump(typed.model_dump()))) == typed


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@given(values=st.dictionaries(st.sampled_from([*GOOD, "other"]), anything))
def test_any_mapping_is_either_valid_or_explained_line_by_line(values):
    try:
        typed = Alpha.model_validate(GOOD | values)
    except ValidationError as error:
        assert all("key '" in explain(line, list(GOOD)) for line in error.errors())
    else:
        assert type(typed.seed) is int
        assert type(typed.rate) is float


def test_models_are_frozen_and_have_no_defaults_of_their_own():
    for found in params.CHAPTERS:
        assert all(field.is_required() for field in found.model.model_fields.values()), found.name
    with pytest.raises(ValidationError):
        Alpha.model_validate(GOOD).seed = 1


def test_chapters_are_in_order_and_need_only_earlier_ones():
    names = [found.name for found in params.CHAPTERS]
    assert names == sorted(set(names))
    assert all(need in names[: names.index(found.name)] for found in params.CHAPTERS for need in found.needs)
    with pytest.raises(ParamsError, match=r"unknown notebook '09_x'\. The chapters are 01_data_prep"):
        chapter("09_x")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a mapping such as `seed: 0`, found an empty file"),
        ("- 1\n- 2\n", "found a list"),
        ("seed\n", "found text"),
        ("seed: 1\nrun: a\nseed: 2\n", "line 3: key 'seed' appears twice"),
        ("a: {b: 1, b: 2}\n", "line 1: key 'b' appears twice"),
        ("seed: [1, 2\n", "line 2"),
        ("1: a\n", "key 1 is not a name"),
        ("on: a\n", "key True is not a name"),
        ("? [a]\n: 1\n", "line 1"),
        ("seed: \x07\n", "not readable as YAML"),
        ("seed: !!python/object:os.system ls\n", "could not determine a constructor"),
    ],
)
def test_a_file_that_is_not_a_mapping_of_names_is_refused_in_one_line(tmp_path, text, said):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError) as caught:
        load_params(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_lies_over_the_one_it_extends(tmp_path):
    (tmp_path / "base.yaml").write_text("run: base\nseed: 1\noverride: {steps: 4, beta: 0.1}\nlimit: {a: 1}\n")
    (tmp_path / "middle.yaml").write_text("extends: base.yaml\nrun: middle\noverride: {steps: 5}\nlimit: null\n")
    (tmp_path / "top.yaml").write_text("extends: middle.yaml\nseed: 2\n")
    expected = {"run": "middle", "seed": 2, "override": {"steps": 5, "beta": 0.1}, "limit": None}
    assert load_params(tmp_path / "top.yaml") == expected
    assert load_params(tmp_path / "middle.yaml") == expected | {"seed": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("extends: other.yaml\n", "extend each other"),
        ("extends: [a]\n", "expected the name of a file in the same folder"),
    ],
)
def test_what_cannot_be_extended(tmp_path, text, said):
    (tmp_path / "one.yaml").write_text(text)
    (tmp_path / "other.yaml").write_text("extends: one.yaml\n")
    with pytest.raises(ParamsError, match=said):
        load_params(tmp_path / "one.yaml")
    (tmp_path / "lost.yaml").write_text("extends: nowhere.yaml\n")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_params(tmp_path / "lost.yaml")


def test_a_missing_or_binary_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no parameter file .*none\.yaml"):
        load_params(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ParamsError, match="not readable as YAML"):
        load_params(tmp_path / "binary.yaml")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from("ab1:-{}[]?&*!<>|'\"#%@, \n\t~"), max_size=20) | st.text(max_size=20))
def test_load_params_returns_a_mapping_or_says_why_not(tmp_path, text):
    path = tmp_path / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert isinstance(load_params(path), dict)
    except ParamsError as error:
        assert "\n" not in str(error)


def alpha_notebook(folder: Path, parameters: str = ALPHA_PARAMETERS) -> Path:
    path = folder / "01_alpha.ipynb"
    write_notebook(path, "Alpha", parameters, "pass")
    return path


def test_defaults_are_read_where_papermill_loses_them(tmp_path):
    """Its reader drops a line whose comment holds `=`, and cuts a text at `#`."""
    lines = 'run = "a#b"  # name\nlimit: int = None  # None=all\nlist_of = [\n    "x",  # one\n    "y",\n]\nlow = -1e-3'
    found = notebook_defaults(alpha_notebook(tmp_path, lines))
    assert found == {"run": "a#b", "limit": None, "list_of": ["x", "y"], "low": -0.001}


@pytest.mark.parametrize("line", ["n = 2 + len('x')", "import os", "a = b = 1", "n: int", "n += 1", "a, b = 1, 2"])
def test_a_parameters_cell_holds_nothing_computed(tmp_path, line):
    with pytest.raises(ParamsError, match=r"01_alpha\.ipynb: .* expected `name = literal`"):
        notebook_defaults(alpha_notebook(tmp_path, line))


def test_a_parameters_cell_that_is_not_there_or_not_python(tmp_path):
    with pytest.raises(ParamsError, match="not Python"):
        notebook_defaults(alpha_notebook(tmp_path, "n = = 1"))
    path = tmp_path / "none.ipynb"
    path.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    with pytest.raises(ParamsError, match="expected one cell tagged `parameters`, found 0"):
        notebook_defaults(path)


@pytest.mark.parametrize("text", ["", "{", '{"cells": 3}', "<<<<<<< HEAD"])
def test_a_file_that_is_no_notebook(tmp_path, text):
    path = tmp_path / "01_alpha.ipynb"
    path.write_text(text)
    with pytest.raises(ParamsError, match=r"01_alpha\.ipynb: not a notebook"):
        notebook_defaults(path)


def test_resolve_overlays_defaults_with_what_the_file_says(tmp_path):
    notebooks = {alpha_notebook(tmp_path): ALPHA}
    resolved = resolve(notebooks, {"n": 7, "rate": "1e-5"}, "p.yaml")
    assert resolved["01_alpha"].model_dump() == GOOD | {"n": 7, "rate": 1e-5}


def test_resolve_names_all_problems_at_once_each_with_its_file(tmp_path):
    notebooks = {alpha_notebook(tmp_path, ALPHA_PARAMETERS.replace("n = 2", "n = 2.5")): ALPHA}
    with pytest.raises(ParamsError) as caught:
        resolve(notebooks, {"seed": "abc", "raet": 1}, "p.yaml")
    assert str(caught.value).splitlines() == [
        "p.yaml: unknown key 'raet': did you mean 'rate'?",
        "p.yaml: key 'seed': got 'abc', expected an integer",
        "01_alpha.ipynb: key 'n': got 2.5, expected an integer",
    ]


def test_resolve_says_a_shared_problem_once_and_finds_notebooks_that_disagree_with_their_model(tmp_path):
    alpha = alpha_notebook(tmp_path, ALPHA_PARAMETERS.replace("rate = 1e-3  # learning rate", "sede = 1"))
    beta = tmp_path / "02_beta.ipynb"
    write_notebook(beta, "Beta", 'run = "test"\nresults = "results"\nseed = 0\nnote = "x"', "pass")
    with pytest.raises(ParamsError) as caught:
        resolve({alpha: ALPHA, beta: CHAPTERS[1]}, {"seed": None}, "p.yaml")
    assert sorted(str(caught.value).splitlines()) == [
        "01_alpha.ipynb: key 'rate' is missing, expected in the notebook's `parameters` cell",
        "01_alpha.ipynb: unknown key 'sede': did you mean 'seed'?",
        "p.yaml: key 'seed': got None, expected an integer",
    ]
