"""A notebook's side, without a kernel: `begin` and what it returns."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from IPython.core import display_functions
from matplotlib import pyplot as plt
from stub_chapters import ALPHA, BETA
from stub_project import ROOT

from envtune.training.machine import Machine
from envtune.workbook import Finding, begin, figures, provenance
from envtune.workbook.errors import ParamsError, SeriesError
from envtune.workbook.notebook import STEP_DIR, Workbook
from envtune.workbook.params_file import notebook_defaults

PARAMETERS = {"run": "lab", "results": "results", "seed": 7, "n": 2, "rate": "1e-3"}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The HTML that the notebook displays."""
    html: list[str] = []
    monkeypatch.setattr(display_functions, "display", lambda item: html.append(item.data))
    monkeypatch.setattr("IPython.display.display", lambda item: html.append(item.data))
    monkeypatch.setattr(provenance, "git_state", lambda: {"revision": None, "dirty": None})
    return html


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the working directory where JupyterLab starts its kernels."""
    for name in ("notebooks", "params"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.delenv(STEP_DIR, raising=False)
    with mpl.rc_context():
        yield tmp_path


@pytest.fixture
def nb(lab: Path, shown: list[str]) -> Workbook:
    return begin(ALPHA, **PARAMETERS)


def test_begin_checks_prepares_and_seeds(nb, lab, shown):
    assert nb.params.rate == 1e-3
    assert nb.folder == lab / "results/lab/01_alpha"
    assert shown[0].startswith("<style>")
    first = np.random.random()
    begin(ALPHA, **PARAMETERS)
    assert np.random.random() == first


def test_begin_says_all_that_is_wrong(lab, shown):
    with pytest.raises(ParamsError) as caught:
        begin(ALPHA, **PARAMETERS | {"seed": "abc", "sede": 1})
    assert str(caught.value).splitlines() == [
        "key 'seed': got 'abc', expected an integer",
        "unknown key 'sede': did you mean 'seed'?",
    ]
    assert not (lab / "results").exists()


def defaults(name: str) -> dict[str, object]:
    return notebook_defaults(ROOT / f"notebooks/{name}.ipynb")


def test_a_notebook_that_trains_has_the_plan_of_its_parameters(lab, shown, monkeypatch):
    threads: list[int | None] = []
    monkeypatch.setattr("envtune.workbook.notebook.set_threads", threads.append)
    given = defaults("04_stage1_training") | {"seed": 5, "machine": {"max_rows": 3}, "threads": 1}
    nb = begin("04_stage1_training", **given)
    assert (nb.plan.seed, nb.plan.machine, nb.plan.policy) == (5, Machine(max_rows=3), "tiny")
    assert threads == [1]
    with pytest.raises(ParamsError, match="key 'machine': a machine has no field 'lanes'"):
        begin("04_stage1_training", **given | {"machine": {"lanes": 3}})
    with pytest.raises(ParamsError, match=r"unknown key 'max_rows': did you mean machine: \{max_rows: 3\}"):
        begin("04_stage1_training", **given, max_rows=3)
    other = begin("01_data_prep", **defaults("01_data_prep"))
    with pytest.raises(TypeError, match="01_data_prep trains nothing, so it has no plan"):
        _ = other.plan


def test_an_unfinished_notebook_has_no_manifest(nb, lab):
    nb.finish(headline="Done.", detail="At once.", n=1)
    manifest = lab / "results/lab/01_alpha/manifest.json"
    assert "key" not in json.loads(manifest.read_text()), "the series does not take it for its own"
    begin(ALPHA, **PARAMETERS)
    assert not manifest.exists()


def test_a_notebook_run_again_without_the_series_goes_on_with_its_own_work_only(nb, lab, shown, monkeypatch, capsys):
    """As papermill and JupyterLab run it: what other code or parameters made is set aside, not stamped again."""
    folder, aside = lab / "results/lab/01_alpha", lab / "results/lab/.01_alpha.set-aside-"
    nb.path("1_stage/checkpoint-2/model.safetensors").write_text("weights of hours")
    nb.finish(headline="Done.", detail="At once.")
    for _ in range(2):
        begin(ALPHA, **PARAMETERS)
        assert (folder / "1_stage/checkpoint-2/model.safetensors").exists(), "the same code and parameters go on"
    assert capsys.readouterr().out == ""

    monkeypatch.setattr(provenance, "source_hash", lambda: "other")
    assert begin(ALPHA, **PARAMETERS).folder == folder
    name = f"set aside: 01_alpha is now {aside}1"
    assert capsys.readouterr().out == f"{name} (other code made it). Delete it when it is no longer needed\n"
    assert [path.name for path in folder.iterdir()] == [".work.json"]
    assert (lab / f"{aside}1/1_stage/checkpoint-2/model.safetensors").read_text() == "weights of hours"

    (folder / "before.jsonl").write_text("an episode")
    begin(ALPHA, **PARAMETERS | {"n": 3})
    assert f"{aside}2 (n was 2, now 3)." in capsys.readouterr().out
    (folder / "before.jsonl").write_text("an episode")
    (folder / ".work.json").unlink()
    begin(ALPHA, **PARAMETERS | {"n": 3})
    assert f"{aside}3 (it does not say what made it)." in capsys.readouterr().out
    (folder / "table.csv").write_text("1")
    begin(ALPHA, **PARAMETERS)
    assert capsys.readouterr().out == "", "tables and figures are made again in seconds"


def test_a_notebook_builds_on_no_other_run(nb, lab, shown, monkeypatch):
    nb.finish(headline="Done.", detail="At once.")
    shared = {"run": "lab", "results": "results", "note": ""}
    begin(BETA, **shared, seed=7)
    with pytest.raises(SeriesError, match=r"^02_beta builds on 01_alpha, which is .* run: seed was 7, now 0\. R"):
        begin(BETA, **shared, seed=0)
    for name, value, why in [
        ("source_hash", "other", "other code"),
        ("data_version", {"x": "0"}, "made with other data"),
    ]:
        with monkeypatch.context() as patch, pytest.raises(SeriesError, match=why):
            patch.setattr(provenance, name, lambda value=value: value)
            begin(BETA, **shared, seed=7)


def test_outside_of_a_project_the_error_says_where_to_go(tmp_path, monkeypatch, shown):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("envtune.workbook.paths.__file__", str(tmp_path / "a/b/c.py"))
    with pytest.raises(FileNotFoundError, match=r"holds both notebooks/ and params/\. Change into the project"):
        begin(ALPHA, **PARAMETERS)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", ".", ""])
def test_paths_stay_inside_the_folder(nb, name):
    with pytest.raises(ValueError, match="is not a file inside the notebook's output folder"):
        nb.path(name)
    assert nb.path("sub/x.csv").parent.is_dir()


def test_a_figure_is_written_shown_closed_and_the_same_each_time(nb, shown):
    written = []
    for _ in range(2):
        fig, ax = plt.subplots()
        ax.plot([1, 2])
        nb.figure(fig, "line", alt='rises "fast" & <far>', caption="Both `a` < b.")
        assert not plt.fignum_exists(fig.number)
        written.append([(nb.folder / f"line.{kind}").read_bytes() for kind in ("png", "svg")])
    assert written[0] == written[1]
    assert 'alt="rises &quot;fast&quot; &amp; &lt;far&gt;"' in shown[-1]
    assert "<figcaption>Both <code>a</code> &lt; b.</figcaption>" in shown[-1]
    assert 'src="data:image/png;base64,' in shown[-1]
    for alt in ("", "  "):
        with pytest.raises(ValueError, match="alt is empty"):
            nb.figure(fig, "line", alt=alt)
    with pytest.raises(ValueError, match="not a plain file name"):
        nb.figure(fig, "a/b", alt="x")


def test_a_table_is_written_in_full_and_shown_formatted(nb, shown):
    frame = pd.DataFrame({"who": ["<a>", "b"], "share": [1 / 3, np.nan], "n": [1000, 2], "x": [0.12345, 1.0]})
    nb.table(frame, "scores", caption="Scores & more", formats={"share": ".1%", "n": "{:,} tasks"})
    html = shown[-1]
    for part in (
        "<figcaption>Scores &amp; more</figcaption>",
        '<th scope="col" class="num">share</th>',
        '<td class="txt">&lt;a&gt;</td>',
        '<td class="num">33.3%</td>',
        '<td class="num">–</td>',
        '<td class="num">1,000 tasks</td>',
        '<td class="num">0.123</td>',
    ):
        assert part in html
    assert pd.read_csv(nb.folder / "scores.csv").share[0] == 1 / 3
    with pytest.raises(KeyError, match="no column 'shar'"):
        nb.table(frame, "scores", formats={"shar": ".1%"})


def test_an_index_that_says_something_becomes_row_headers(nb, shown):
    frame = pd.DataFrame({"n": [1, 2]}, index=pd.Index(["base", "all"], name="split"))
    nb.table(frame, "splits")
    assert '<th scope="col" class="txt">split</th>' in shown[-1]
    assert '<th scope="row" class="txt">base</th>' in shown[-1]
    assert (nb.folder / "splits.csv").read_text() == "split,n\nbase,1\nall,2\n"
    nested = pd.DataFrame({("a", "b"): [1]}, index=pd.MultiIndex.from_tuples([("x", 1)], names=["k", "l"]))
    assert "k / l" in figures.table_html(nested, "", {})
    assert "<tbody>" in figures.table_html(pd.DataFrame({"a": []}), "", {})


def test_finish_writes_what_the_run_was(nb, shown):
    nb.table(pd.DataFrame({"a": [1]}), "t", caption="T")
    found = Finding("Share of <half> (baseline: none)", np.float64(0.5), 0.25, 0.4, 0.6, np.int64(4))
    numbers = {"accuracy": np.float64(0.5), "missing": float("nan"), "by": {"a": np.int64(1)}}
    nb.finish(headline="Half < all.", detail="Of 4 & more.", results=[found], **numbers)
    texts = ["Half &lt; all.", "Of 4 &amp; more.", "Share of &lt;half&gt;", "50.0%", "25.0%", "40.0 to 60.0%"]
    assert [text for text in texts if text not in shown[-1]] == []
    manifest = json.loads((nb.folder / "manifest.json").read_text(), parse_constant=lambda c: pytest.fail(c))
    row = {"what": found.what, "value": 0.5, "baseline": 0.25, "low": 0.4, "high": 0.6, "n": 4, "unit": "share"}
    assert manifest["answer"] == {
        "headline": "Half < all.",
        "detail": "Of 4 & more.",
        "results": [row],
        "accuracy": 0.5,
        "missing": None,
        "by": {"a": 1},
    }
    assert manifest["notebook"] == "01_alpha"
    assert manifest["parameters"]["rate"] == 1e-3
    assert manifest["seed"] == 7
    assert manifest["outputs"] == {"t.csv": provenance.sha256_file(nb.folder / "t.csv")}
    assert manifest["seconds"] >= 0
    assert set(manifest) >= {"schema", "status", "run", "parameters_hash", "code", "python", "versions", "data"}
    assert set(manifest) >= {"machine", "started", "peak_memory_mb", "inputs", "figures", "tables"}


@pytest.mark.parametrize(
    ("headline", "detail", "problem"),
    [
        (" ", "x", "the headline is empty"),
        ("x", "", "the detail is empty"),
        ("word " * 26, "x", "the headline has 26 words, at most 25 are allowed"),
        ("x", "It solved nan% of them.", "the detail holds 'nan'"),
    ],
)
def test_finish_wants_an_answer(nb, headline, detail, problem):
    with pytest.raises(ValueError, match=problem):
        nb.finish(headline=headline, detail=detail)
    assert not (nb.folder / "manifest.json").exists()


def test_finish_writes_nothing_that_is_not_json(nb):
    with pytest.raises(TypeError, match="type object cannot be written as JSON"):
        nb.finish(headline="word " * 25, detail="x", n=object())
    assert not (nb.folder / "manifest.json").exists()


def test_inputs_are_recorded_and_must_be_there(nb, lab):
    with pytest.raises(FileNotFoundError, match=r"'manifest\.json' of 01_alpha is missing\. Run that chapter first"):
        begin(BETA, run="lab", results="results", seed=7, note="")
    nb.path("policy/weights.bin").write_bytes(b"w")
    nb.finish(headline="x", detail="y")
    later = begin(BETA, run="lab", results="results", seed=7, note="")
    assert later.input("01_alpha", "policy") == nb.folder / "policy"
    later.finish(headline="x", detail="y")
    inputs = json.loads((later.folder / "manifest.json").read_text())["inputs"]
    assert set(inputs) == {"01_alpha/manifest.json", "01_alpha/policy/weights.bin"}


def test_the_users_own_run_is_read_before_the_published_one(lab, shown):
    begin(ALPHA, **PARAMETERS).finish(headline="Done.", detail="At once.")
    published, own = lab / "results/published/other/table.csv", lab / "results/other/table.csv"
    for path in (published, own):
        path.parent.mkdir(parents=True)
        path.write_text(f"{path.parent.parent.name}\n")

    def read() -> tuple[Path, set[str]]:
        nb = begin(BETA, run="lab", results="results", seed=7, note="x")
        path = nb.read("other/table.csv")
        nb.finish(headline="Done.", detail="At once.")
        return path, set(json.loads((nb.folder / "manifest.json").read_text())["inputs"]) - {"01_alpha/manifest.json"}

    assert read() == (published, {"../published/other/table.csv"}), "an own run without a manifest is not finished"
    (own.parent / "manifest.json").write_text("{}")
    assert read() == (own, {"../other/table.csv"})
    own.unlink()
    assert read()[0] == published


def test_files_of_other_runs_are_read_if_listed_and_there(lab, shown):
    alpha = begin(ALPHA, **PARAMETERS)
    alpha.finish(headline="Done.", detail="At once.")
    nb = begin(BETA, run="lab", results="results", seed=7, note="x")
    assert nb.read("other/table.csv") is None
    table = lab / "results/other/table.csv"
    table.parent.mkdir()
    table.write_text("x\n")
    assert nb.read("other/table.csv") == table
    nb.finish(headline="Done.", detail="At once.")
    assert "../other/table.csv" in json.loads((nb.folder / "manifest.json").read_text())["inputs"]
    with pytest.raises(ValueError, match=r"'other/else.csv' is not among the files that 02_beta reads"):
        nb.read("other/else.csv")
