"""The series: what runs, what is skipped, what is left when something fails. Kernels are real."""

from __future__ import annotations

import json
import shutil
import threading
import time

import pytest
from filelock import FileLock
from stub_chapters import CHAPTERS
from stub_project import ALPHA_FINISH, ALPHA_PARAMETERS, ALPHA_WORK

from envtune import sources
from envtune.policy.tiny import WEIGHTS
from envtune.workbook import folders, kernel, provenance, series, work
from envtune.workbook.errors import ParamsError, SeriesError

slow = pytest.mark.slow


def fail_if_run(*_: object, **__: object) -> None:
    raise AssertionError("a notebook was executed")


@slow
def test_two_chapters_end_to_end(project, capfd):
    project.beta()
    said: list[str] = []
    assert project.ran(echo=said.append) == ["01_alpha", "02_beta"]
    assert [line.split()[0] for line in said] == ["01_alpha", "02_beta", "report"]
    assert said[0].endswith("s  Twice 3 is 6.")
    manifest = project.manifest("02_beta")
    assert manifest["answer"] == {"headline": "It was 6.", "detail": "As read.", "results": [], "length": 1}
    assert manifest["parameters"] == {"run": "test", "results": "results", "seed": 0, "note": "x"}
    assert set(manifest["inputs"]) == {"01_alpha/manifest.json", "01_alpha/data.txt"}
    assert set(manifest["outputs"]) == {"02_beta.ipynb"}
    assert manifest["question"] == "What was it?"
    assert manifest["status"] == "complete"
    left = sorted(path.relative_to(project.run_dir).as_posix() for path in project.run_dir.rglob("*"))
    assert left == [
        "01_alpha",
        "01_alpha/01_alpha.html",
        "01_alpha/01_alpha.ipynb",
        "01_alpha/data.txt",
        "01_alpha/manifest.json",
        "02_beta",
        "02_beta/02_beta.html",
        "02_beta/02_beta.ipynb",
        "02_beta/manifest.json",
        "index.html",
    ]
    assert str(project.root) not in (project.run_dir / "01_alpha/01_alpha.ipynb").read_text()
    assert "Traceback" not in capfd.readouterr().err

    assert project.ran() == []
    project.set(n=3, note="other")
    assert project.ran() == ["02_beta"], "only the chapter whose parameter changed"
    table = project.root / "results/other/table.csv"
    table.parent.mkdir()
    table.write_text("x\n1\n")
    assert project.ran() == ["02_beta"], "a file of another run that it reads"
    project.alpha(ALPHA_WORK, "pass")
    assert project.ran() == ["01_alpha", "02_beta"], "a changed cell, and what builds on its chapter"


@slow
def test_whatever_a_result_depends_on_makes_it_run_again(project, monkeypatch):
    assert project.ran() == ["01_alpha"]
    monkeypatch.setattr(kernel, "execute", fail_if_run)
    assert project.ran() == []

    def runs_again() -> bool:
        with pytest.raises((AssertionError, SeriesError), match="a notebook was executed"):
            project.run()
        return True

    final = project.run_dir / "01_alpha"
    project.set(n=4)
    assert runs_again(), "a parameter"
    project.set(n=3, rate="1e-3")
    assert project.ran() == [], "the same number, written differently"
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "source_hash", lambda: "changed")
        assert runs_again(), "the package's sources"
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "data_version", lambda: {"bfcl-eval": "0"})
        assert runs_again(), "the data"
    project.alpha(ALPHA_WORK, finish=ALPHA_FINISH + "  # changed")
    assert runs_again(), "a cell"
    project.alpha(ALPHA_WORK)
    assert project.ran() == []
    with pytest.raises(AssertionError, match="executed"):
        project.run(force=True)
    for damage in ("tampered", None):
        kept = (final / "data.txt").read_bytes()
        (final / "data.txt").write_text(damage) if damage else (final / "data.txt").unlink()
        assert runs_again(), "an output that is not the recorded one"
        (final / "data.txt").write_bytes(kept)
    (final / "manifest.json").write_text("{half")
    assert runs_again(), "a manifest that is not one"


def test_other_weights_in_a_folder_are_another_result(tmp_path):
    """A part of every chapter's key."""
    copy = shutil.copytree(WEIGHTS, tmp_path / "policy")
    before = work.weights(str(copy))
    assert before == work.weights(str(copy))
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert work.weights(str(copy)) not in (None, before)
    assert work.weights("tiny") is None, "the shipped weights are a part of the code"


@slow
def test_a_failing_cell_is_named_and_leaves_the_old_results(project):
    project.beta()
    project.run()
    before = (project.run_dir / "02_beta/manifest.json").read_bytes()
    project.beta("x = 1\n1 / 0")
    project.set(n=5)
    with pytest.raises(SeriesError) as caught:
        project.run()
    message, detail = str(caught.value), caught.value.detail
    assert message == "02_beta.ipynb, cell 5 (In [5]) failed: ZeroDivisionError: division by zero"
    assert "1 / 0" in detail
    partial = project.run_dir / ".02_beta.partial/02_beta.ipynb"
    assert str(partial) in detail
    assert "ZeroDivisionError" in partial.read_text(), "the notebook as far as it ran"
    assert project.manifest("01_alpha")["answer"]["double"] == 10, "finished steps stay"
    assert (project.run_dir / "02_beta/manifest.json").read_bytes() == before
    assert "Twice 5 is 10." in (project.run_dir / "index.html").read_text()
    project.beta()
    assert project.ran() == ["02_beta"]
    assert not partial.exists()


@slow
@pytest.mark.parametrize(
    ("work", "said"),
    [
        (["import sys; sys.exit(0)"], "01_alpha.ipynb, cell 4: SystemExit ended the notebook"),
        (["import os; os._exit(0)"], "01_alpha.ipynb, cell 4 failed: the kernel died"),
        (["import os, signal; os.kill(os.getpid(), 9)"], "01_alpha.ipynb, cell 4 failed: the kernel died"),
    ],
    ids=["sys.exit", "os._exit", "killed"],
)
def test_an_end_that_papermill_takes_for_success_is_a_failure(project, work, said):
    project.alpha(*work)
    with pytest.raises(SeriesError) as caught:
        project.run()
    assert str(caught.value).startswith(said)
    assert not (project.run_dir / "01_alpha").exists()


@slow
def test_a_notebook_must_answer_and_run_to_its_end(project):
    project.alpha(finish="pass")
    with pytest.raises(
        SeriesError, match=r"01_alpha\.ipynb ended without an answer: its last cell must call nb\.finish"
    ):
        project.run()
    project.alpha(ALPHA_FINISH, finish="import sys; sys.exit(0)")
    with pytest.raises(SeriesError, match="cell 5: SystemExit ended the notebook"):
        project.run()
    stale = project.run_dir / ".01_alpha.partial/manifest.json"
    assert stale.exists(), "it had called finish before"
    project.alpha(finish="pass")
    with pytest.raises(SeriesError, match="ended without an answer"):
        project.run()


@slow
def test_a_notebook_that_begins_as_another_chapter_is_refused(project):
    project.alpha("pass")
    source = project.root / "notebooks/01_alpha.ipynb"
    source.write_text(source.read_text().replace("begin(ALPHA", "begin(ALPHA.__class__('01_alhpa', ALPHA.model)"))
    with pytest.raises(SeriesError, match=r"begin\('01_alhpa'\) in a notebook that the series runs as"):
        project.run()


@slow
def test_the_kernel_is_this_interpreter_whatever_is_registered(project, tmp_path, monkeypatch):
    """A user's `python3` kernelspec, start-up file and matplotlib backend stay outside."""
    kernels = tmp_path / "share/kernels/python3"
    kernels.mkdir(parents=True)
    argv = ["/bin/false", "-f", "{connection_file}"]
    (kernels / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "share"))
    (tmp_path / "startup.py").write_text("surprise = 1")
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "startup.py"))
    monkeypatch.setenv("MPLBACKEND", "TkAgg")
    names = "HF_HUB_DISABLE_TELEMETRY DO_NOT_TRACK MPLBACKEND PYTHONHASHSEED OMP_WAIT_POLICY"
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    told = f"told = {{name: os.environ[name] for name in '{names}'.split()}}"
    finish = "nb.finish(headline='x', detail='y', exe=sys.executable, env=told, s='surprise' in globals())"
    project.alpha("import os, sys", told, finish=finish)
    project.run()
    answer = project.manifest("01_alpha")["answer"]
    assert answer["exe"] == kernel.sys.executable
    assert answer["env"] == {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONHASHSEED": "0",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    assert answer["s"] is False


@slow
def test_a_kernel_with_other_code_than_the_series_is_refused(project, monkeypatch):
    """The package was edited while the series ran, or the kernel imports another installation."""
    monkeypatch.setattr(sources, "running", lambda *_: "another")
    with pytest.raises(SeriesError, match=r"cell 3 .* 01_alpha runs the code in .*envtune, which is not the code that"):
        project.run()
    assert not (project.run_dir / "01_alpha").exists()


@slow
def test_braces_in_a_path_are_not_parameters(project):
    odd = project.root / "a {run} b"
    (project.root / "notebooks").rename(project.root / "n")
    odd.mkdir()
    (project.root / "n").rename(odd / "notebooks")
    project.run(notebooks_dir=odd / "notebooks")
    assert (odd / "results/test/01_alpha/manifest.json").exists()


def test_all_parameters_are_checked_before_the_first_notebook_starts(project, monkeypatch):
    monkeypatch.setattr(kernel, "execute", fail_if_run)
    project.beta()
    project.set(n=3, note=5, nn=1)
    with pytest.raises(ParamsError) as caught:
        project.run()
    assert str(caught.value).splitlines() == [
        f"{project.params}: unknown key 'nn': did you mean 'n'?",
        f"{project.params}: key 'note': got 5, expected text",
    ]
    project.set(n=3, run="../up")
    with pytest.raises(ParamsError, match="expected a plain name"):
        project.run()
    assert not project.run_dir.exists()


def test_notebooks_that_would_write_to_different_runs(project):
    project.beta()
    project.alpha(parameters=ALPHA_PARAMETERS.replace('"test"', '"tset"'))
    project.params.write_text("n: 1\n")
    with pytest.raises(SeriesError, match="Set both in the parameter file"):
        project.run()


@pytest.mark.parametrize("only", ["", "0", "03", "alpha", "01_alpha_"])
def test_only_must_name_one_chapter(project, only):
    project.beta()
    with pytest.raises(SeriesError, match=r"expected one of 01_alpha, 02_beta, or the beginning of exactly one"):
        project.run(only=only)


def test_only_wants_the_results_it_builds_on(project):
    project.beta()
    with pytest.raises(
        SeriesError, match=r"02_beta needs the results of 01_alpha\. Run that first, or leave out --only"
    ):
        project.run(only="02")


@slow
def test_only_refuses_results_of_other_parameters_code_or_cells(project, monkeypatch):
    project.beta()
    assert project.ran() == ["01_alpha", "02_beta"]
    assert project.ran(only="02") == []
    project.set(n=4)

    def refused(why: str) -> None:
        with pytest.raises(SeriesError, match=rf"^02_beta builds on 01_alpha, {why}\. Run 01_alpha again first"):
            project.run(only="02")

    refused("which is of another run: n was 3, now 4")
    assert project.manifest("02_beta")["answer"]["length"] == 1
    project.set(n=3)
    made = project.manifest("01_alpha")["code"]["source_hash"]
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "source_hash", lambda: "other")
        refused("which is of another run: other code made it")
        patch.setattr(provenance, "source_hash", lambda: made)
        patch.setattr(provenance, "data_version", lambda: {"bfcl-eval": "0"})
        refused("which is of another run: made with other data")
        patch.undo()
    monkeypatch.setattr(provenance, "source_hash", lambda: made)
    refused("whose cells, inputs or files have changed since")


def test_no_notebooks(project):
    (project.root / "notebooks/01_alpha.ipynb").unlink()
    with pytest.raises(FileNotFoundError, match="no notebook of the series"):
        project.run()


def test_two_series_on_one_run_do_not_meet(project):
    project.run_dir.parent.mkdir(parents=True)
    with FileLock(project.run_dir.with_name(".test.lock")):
        started = time.monotonic()
        with pytest.raises(SeriesError, match="another series is at work on run 'test'"):
            project.run()
        assert time.monotonic() - started < series.ORPHAN_TIMEOUT


def test_the_series_waits_for_a_kernel_that_a_killed_series_left(project, monkeypatch):
    monkeypatch.setattr(series, "ORPHAN_TIMEOUT", 20.0)
    ran_at: list[float] = []
    monkeypatch.setattr(kernel, "execute", lambda *_, **__: ran_at.append(time.monotonic()) or fail_if_run())
    project.run_dir.parent.mkdir(parents=True)
    orphan = FileLock(project.run_dir.with_name(".test.kernel.lock"), thread_local=False)
    orphan.acquire()
    let_go = time.monotonic() + 1.0
    threading.Timer(1.0, orphan.release).start()
    with pytest.raises(AssertionError, match="executed"):
        project.run()
    assert ran_at[0] >= let_go - 0.1


@slow
def test_a_kill_between_the_renames_loses_nothing(project, monkeypatch):
    project.run()
    final, old = project.run_dir / "01_alpha", project.run_dir / ".01_alpha.old"
    final.rename(old)
    assert project.ran() == [], "the old results are put back"
    project.set(n=8)
    with monkeypatch.context() as patch:
        patch.setattr(folders, "swap", fail_if_run)
        with pytest.raises(AssertionError):
            project.run()
    assert project.manifest("01_alpha")["answer"]["double"] == 6
    monkeypatch.setattr(kernel, "execute", fail_if_run)
    assert project.ran() == [], "complete, it only had to take its place"
    assert project.manifest("01_alpha")["answer"]["double"] == 16
    aside = project.run_dir / ".01_alpha.set-aside-1"
    assert sorted(project.run_dir.iterdir()) == [aside, final, project.run_dir / "index.html"]
    assert (aside / "data.txt").read_text() == "6", "what another parameter made is kept"


def test_chapters_are_listed_only_when_their_notebook_exists(project, monkeypatch):
    monkeypatch.setattr(kernel, "execute", fail_if_run)
    assert len(CHAPTERS) == 2
    with pytest.raises(AssertionError, match="executed"):
        project.run(only="01")
    assert "02_beta" not in (project.run_dir / "index.html").read_text()
