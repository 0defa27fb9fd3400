"""Figures of learning, and the hint experiment at its smallest."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pandas as pd
import pytest
import yaml
from filelock import FileLock
from matplotlib import pyplot, rc_context
from stub_project import ROOT

from envtune.evaluation.mistakes import Mistake
from envtune.evaluation.seeds import base_gains
from envtune.policy.checkpoint import fingerprint, folder_of
from envtune.training import metrics
from envtune.training.curriculum import Stage
from envtune.training.plan import Plan, Schedule
from envtune.training.recipes import stages_of
from envtune.types import Category
from envtune.workbook import figures, provenance
from envtune.workbook.errors import ParamsError, SeriesError
from envtune.workbook.experiment import CURVES, load, run_arms
from envtune.workbook.figures import figure_files
from envtune.workbook.learning import (
    COURSE,
    along,
    arms_figure,
    curves,
    feedback_figure,
    first_and_last,
    gains_figure,
    scores_figure,
)
from envtune.workbook.live import Live, published_lines
from envtune.workbook.scoring import mistakes_figure

LINES = [
    {"stage": 0, "name": "a", "step": 0, "val/progress": 0.1, "val/task_accuracy": 0.0},
    {"stage": 0, "name": "a", "step": 1, "reward": 1.0, "progress": 0.2, "task_accuracy": 0.1, "hint_rate": 0.0},
    {"stage": 0, "name": "a", "step": 2, "reward": 1.5, "progress": 0.3, "task_accuracy": 0.1, "hint_rate": 0.0},
    {"stage": 1, "name": "b", "step": 0, "val/progress": 0.4, "val/task_accuracy": None},
    {"stage": 1, "name": "b", "step": 1, "reward": 0.5, "progress": 0.5, "task_accuracy": 0.2, "hint_rate": 1.0},
]


def test_stages_follow_one_another():
    placed, starts = along(LINES)
    assert [x for x, _ in placed] == [0, 1, 2, 2, 3]
    assert starts == [("a", 0), ("b", 2)]


def test_the_first_and_the_last_step_of_each_stage():
    table = first_and_last(LINES)
    assert list(table) == ["a 1", "a 2", "b 1"], "a stage of one step stands there once"
    assert table.loc["reward"].tolist() == [1.0, 1.5, 0.5]
    assert table.loc["KL"].isna().all()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_curves_of_any_length(n):
    fig = curves(LINES[:n])
    fig.canvas.draw()
    pyplot.close(fig)


def stages(*steps: int) -> Plan:
    """A plan of stages `a`, `b` with so many steps."""
    first = stages_of("laptop", [], {})[0]
    made = [replace(first, name=name, steps=n) for name, n in zip("abc", steps, strict=False)]
    return Plan(tuple(made), "tiny", schedule=Schedule(validate_every=5))


def test_live_curves_outside_of_a_notebook_do_nothing(tmp_path):
    before = pyplot.get_fignums()
    with Live(stages(2, 4), tmp_path) as live:
        for line in LINES:
            metrics.append(tmp_path / "metrics.jsonl", line)
            live(line)
    assert pyplot.get_fignums() == before
    with pytest.raises(KeyboardInterrupt, match=r"^$"), Live(stages(2, 4), tmp_path):
        raise KeyboardInterrupt


def test_live_says_where_it_is_and_what_to_expect(tmp_path):
    live = Live(stages(2, 4), tmp_path)
    assert "stage 1 of 2, a: step 0 of 2" in live._page()
    assert "should rise slowly. Validation without hints comes every 5 steps" in live._page()
    metrics.write(tmp_path / "metrics.jsonl", LINES[:3])
    assert "stage 2 of 2, b: step 0 of 4" in live._page(), "the first stage has taken its steps"
    metrics.write(tmp_path / "metrics.jsonl", LINES)
    assert "stage 2 of 2, b: step 1 of 4 · reward 0.50, at first 0.50" in strip(live._page())
    live._times = [2.0] * 3
    assert f"about {2 * 3 * live.plan.stages[1].episodes / 60:.0f} min left" in live._page()
    (tmp_path / "2_b/checkpoint-1").mkdir(parents=True)
    (tmp_path / "2_b/checkpoint-1/trainer_state.json").touch()
    said = "Stopped at step 1 of 4 in stage b: run this cell again to go on from step 1, the last that was saved."
    assert live._stopped() == said
    told = Live(stages(2, 4), tmp_path, expected=[line | {"seconds/step": 3.0} for line in LINES if line["step"]])
    assert "went from 0.50 to 0.50 in this stage, in 3 s" in told._page()


def test_what_to_expect_is_of_the_same_training():
    folder = ROOT / "results/published/tiny/04_stage1_training"
    same = json.loads((folder / "manifest.json").read_text())["parameters"]
    assert len(published_lines(folder, same)) > 10
    assert published_lines(folder, same | {"override": {"steps": 9}}) == []
    assert published_lines(folder.parent / "none", same) == []


def test_a_run_is_tracked_without_what_trackio_would_rename(tmp_path, monkeypatch):
    trackio = pytest.importorskip("trackio")
    logged: list[tuple[dict, int]] = []
    log = trackio.log
    monkeypatch.setattr(trackio, "log", lambda numbers, step: (logged.append((numbers, step)), log(numbers, step=step)))
    with Live(stages(2, 4), tmp_path, "a/run") as live:
        for line in LINES:
            metrics.append(tmp_path / "metrics.jsonl", line)
            live(line)
    assert [step for _, step in logged] == [0, 1, 2, 2, 3]
    assert logged[3][0] == {"stage": 1, "name": "b", "val/progress": 0.4}


def test_the_strong_line_is_the_mean_of_a_stage(tmp_path):
    lines = [
        {"stage": stage, "name": name, "step": step, "reward": reward}
        for stage, (name, rewards) in enumerate({"a": [0.0, 1.0], "b": [4.0, 6.0, 8.0, 2.0, 0.0, 1.0]}.items())
        for step, reward in enumerate(rewards, 1)
    ]
    fig = curves(lines)
    thin, strong = [line for line in fig.axes[0].lines if line.get_color() == "C1"]
    assert list(thin.get_ydata()) == [4.0, 6.0, 8.0, 2.0, 0.0, 1.0]
    assert list(strong.get_ydata()) == [4.0, 5.0, 6.0, 5.0, 4.0, 3.4]
    assert strong.get_linewidth() > 2 * thin.get_linewidth() and strong.get_alpha() is None
    pyplot.close(fig)


@pytest.fixture
def styled():
    with rc_context():
        figures.set_style()
        yield


def test_the_figures_fit_the_page(styled):
    columns = ["n", "before", "before_low", "before_high", "after", "after_low", "after_high"]
    gains = pd.DataFrame([[4, 0.1, 0, 0.2, 0.5, 0.4, 0.6]] * 2, index=["cd_cat", "all"], columns=columns)
    arms = pd.DataFrame(
        {"arm": arm, "seed": seed, "step": step, "progress": 0.5, "hint_rate": rate}
        for arm in ("faded", "none")
        for seed in (0, 1)
        for step, rate in ((0, None), (10, 0.5), (10, None), (20, 0.5))
    )
    scores = pd.DataFrame(
        {"tasks": "t", "policy": p, "category": c}
        | {"turn_accuracy": 0.5, "turn_accuracy_low": 0.4, "turn_accuracy_high": 0.6}
        for p in ("x", "y")
        for c in ("base", "all")
    )
    feedback = arms.assign(**dict.fromkeys(COURSE, arms.progress))
    compared = arms_figure(arms, {"faded": [0.5] * 20, "none": [0.0] * 20})
    assert len(compared.axes[0].lines) == 2 * 2 + 1, "two arms, broken where the second stage begins, and its mark"
    course = curves(metrics.read(ROOT / "results/published/tiny/05_stage2_training/metrics.jsonl"))
    mistakes = mistakes_figure(pd.DataFrame({"turns": 9} | dict.fromkeys(Mistake, 1), index=["base", "all"]))
    for fig in (course, gains_figure(gains), compared, scores_figure(scores), feedback_figure(feedback), mistakes):
        width = figure_width(figure_files(fig, ["png"])["png"])
        assert width <= COLUMN, "no report scales it down"
        pyplot.close(fig)


COLUMN = 50 * 17 - 2.5 * 17
"""CSS pixels: the width of a report's text (page.css)."""


def figure_width(png: bytes) -> float:
    return int.from_bytes(png[16:20], "big") * 96 / 150


def strip(html: str) -> str:
    return re.sub(r"<[^>]+>", "", html)


@pytest.fixture
def small(tmp_path):
    values = yaml.safe_load((ROOT / "params/laptop-hints.yaml").read_text())
    values |= {"results": str(tmp_path), "run": "hints", "arms": ["faded", "none"], "seeds": [0], "tasks": 4}
    values["schedule"] |= {"validate_tasks": 4}
    values["machine"] |= {"micro_batch": 4}
    values["override"] = {"steps": 1, "prompts_per_step": 2, "num_generations": 2, "tasks": 4}
    path = tmp_path / "hints.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_the_parameter_file_is_checked(small):
    assert load(ROOT / "params/laptop-hints.yaml").seeds == [0, 1, 2]
    small.write_text(small.read_text().replace("jobs: 2", "jobs: two\narm: faded"))
    with pytest.raises(ParamsError, match=r"key 'jobs': got 'two', expected an integer\n.*unknown key 'arm'"):
        load(small)
    small.write_text((ROOT / "params/laptop-hints.yaml").read_text().replace("[0, 1, 2]", "[0, 0]"))
    with pytest.raises(ParamsError, match="each at most once"):
        load(small)
    assert load(ROOT / "params/laptop-ppo.yaml").arms == ["ppo", "grpo"]
    assert load(ROOT / "params/qwen-tool-ppo.yaml").plan().machine.gradient_checkpointing is True


@pytest.mark.parametrize("run", ["laptop-hints", "laptop-ppo"])
def test_the_tables_in_results_are_of_the_shipped_policy_and_recipe(run):
    """If this fails, `envtune arms params/<run>.yaml` makes the tables again."""
    made = json.loads((ROOT / f"results/published/{run}/manifest.json").read_text())
    params = load(ROOT / f"params/{run}.yaml")
    assert made["policy"] == fingerprint(folder_of(params.policy))
    told = params.model_dump(mode="json")
    same = {"run", "policy", "recipe", "arms", "seeds", "split", "tasks", "batch_size", "threads"}
    assert {key: made["parameters"][key] for key in same} == {key: told[key] for key in same}
    assert tuple(Stage.from_json(stage) for stage in made["stages"]) == params.curriculum()


def test_two_calls_do_not_work_on_one_run(small, tmp_path):
    with FileLock(tmp_path / ".hints.lock"), pytest.raises(SeriesError, match="another call is at work on run 'hints'"):
        run_arms(small, lambda line: None)
    assert not (tmp_path / "hints").exists()


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.xdist_group("training")
def test_ppo_against_grpo_writes_the_same_tables(small):
    values = yaml.safe_load(small.read_text()) | {"recipe": "laptop-ppo", "arms": ["ppo", "grpo"]}
    small.write_text(yaml.safe_dump(values | {"machine": {"max_rows": 4, "micro_batch": 4}}))
    folder = run_arms(small, lambda line: None)
    course = pd.read_csv(folder / "curves.csv")
    assert course.groupby("arm").step.apply(list).to_dict() == {"ppo": [0, 1], "grpo": [0, 1]}
    assert course.notna().all()[["execution", "progress", "task_accuracy"]].all()
    assert base_gains(pd.read_csv(folder / "summary.csv"), "error_rate").arm.tolist() == ["ppo", "grpo"]
    runs = folder.parent / "other/runs"
    runs.mkdir(parents=True)
    (runs / "ppo-0").write_text("a file where a folder must be")
    small.write_text(yaml.safe_dump(values | {"run": "other", "arms": ["ppo"]}))
    with pytest.raises(SeriesError, match="these runs failed: ppo-0"):
        run_arms(small, lambda line: None)
    assert "ppo-0" in (runs / "ppo-0.log").read_text().splitlines()[-1]


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.xdist_group("training")
def test_the_hint_experiment_writes_its_tables_and_goes_on(small, monkeypatch):
    said: list[str] = []
    folder = run_arms(small, said.append)
    summary, course = pd.read_csv(folder / "summary.csv"), pd.read_csv(folder / "curves.csv")
    wanted = ["arm", "seed", "category", "turns", "turn_accuracy", "episodes", "task_accuracy", "execution"]
    wanted += ["error_rate", "unknown_tool_rate", "invalid_json_rate", "structure_rate"]
    assert list(summary) == wanted
    assert summary.groupby("arm").category.apply(list)["none"] == [*map(str, Category), "all"]
    assert list(course) == ["arm", "seed", "step", *CURVES]
    assert json.loads((folder / "manifest.json").read_text())["runs"] == 3
    assert any(line.startswith("none-0: test split ") for line in said)
    requests = pd.read_csv(folder / "requests.csv")
    assert set(requests.arm) == {"base", "faded", "none"} and requests[requests.arm == "base"].seed.isna().all()
    whole = summary[summary.category == "all"].set_index("arm").turns
    chains = requests[requests.request == "chains"].set_index("arm").turns
    assert (requests.groupby("arm").turns.sum() == whole + chains).all(), "chains are counted by kind and together"
    stamps = {path: path.stat().st_mtime for path in folder.rglob("model.safetensors") if path.parent.name == "best"}
    assert stamps
    took = json.loads((folder / "manifest.json").read_text())["seconds"]
    run_arms(small, said.append)
    assert {path: path.stat().st_mtime for path in stamps} == stamps, "nothing is trained again"
    assert pd.read_csv(folder / "summary.csv").equals(summary)
    assert json.loads((folder / "manifest.json").read_text())["seconds"] > took
    monkeypatch.setattr(provenance, "source_hash", lambda: "other")
    with pytest.raises(SeriesError, match="began with other code"):
        run_arms(small, said.append)
