"""The model card is text made from manifests, and the hub's library reads it back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from typer.testing import CliRunner

import envtune
from envtune.cli import agents, app
from envtune.data import spread
from envtune.evaluation import evaluate
from envtune.policy import Noise, NoisyOracle
from envtune.policy.checkpoint import fingerprint
from envtune.policy.tiny import WEIGHTS
from envtune.types import Task
from envtune.workbook.card import make_card
from envtune.workbook.errors import SeriesError
from envtune.workbook.provenance import is_laptop
from envtune.workbook.trained import named_by, trained_policy

runner = CliRunner()
RECIPE = "field,hints,all,changes\nsource,synth,bfcl,\nsteps,60,120,yes\n"


def manifest(name: str, policy: str, gpus: list[str]) -> dict[str, object]:
    return {
        "notebook": name,
        "key": "k",
        "answer": {"headline": f"After {name}, 40 % | more.", "detail": "On 8 tasks.", "results": []},
        "outputs": {},
        "parameters": {"policy": policy, "recipe": "laptop", "override": {"steps": 4}},
        "seed": 7,
        "seconds": 90.0,
        "machine": {"cpu": "a processor", "cores": 2, "gpus": gpus},
        "versions": {"envtune": "0.1.0", "trl": "1.16.0", "bfcl-eval": "2026.3.23"},
        "code": {"revision": "abc123", "dirty": True},
        "data": {"bfcl-eval": "2026.3.23"},
    }


def trained_run(folder: Path, policy: str = "tiny", gpus: list[str] | None = None) -> Path:
    for name in ("04_stage1_training", "05_stage2_training"):
        (folder / name).mkdir(parents=True)
        (folder / name / "manifest.json").write_text(json.dumps(manifest(name, policy, gpus or [])))
        (folder / name / "recipe.csv").write_text(RECIPE)
        shutil.copytree(WEIGHTS, folder / name / "policy")
    return folder


class Trained(NoisyOracle):
    """Stands for the weights that the run left, without playing them."""

    def __init__(self) -> None:
        super().__init__(Noise.level(0.2))
        self.name = "05_stage2_training"
        self.settings = {"temperature": 0.0, "sha256": fingerprint(WEIGHTS)}


def heldout_part(n: int) -> list[Task]:
    return spread(envtune.load_tasks("bfcl", split="heldout"), n)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = trained_run(tmp_path / "results" / "mine")
    evaluate(Trained(), envtune.load_tasks("bfcl", split="val"), folder / "06" / "val.jsonl", progress=False)
    evaluate(NoisyOracle(), envtune.load_tasks("bfcl", split="val"), folder / "other.jsonl", progress=False)
    return folder


def test_read_back_by_the_hubs_library(run_dir: Path) -> None:
    found = runner.invoke(app, ["card", str(run_dir)])
    assert found.exit_code == 0, found.output
    card = ModelCard.load(run_dir / "README.md")
    assert card.data.model_name == "envtune-mine"
    assert (card.data.license, card.data.library_name, card.data.base_model) == ("apache-2.0", "transformers", None)
    index = {(r.dataset_config, r.metric_type): r for r in card.data.eval_results}
    assert len(index) == 10
    result = envtune.evaluation.load_result(run_dir / "06" / "val.jsonl")
    for category, row in result.table().iterrows():
        entry = index[f"multi_turn_{category}", "task_accuracy"]
        assert entry.metric_value == pytest.approx(100 * row["task_accuracy"], abs=0.01)
        assert (entry.dataset_split, entry.dataset_args["n"]) == ("val", int(row["n"]))
    text = card.text
    assert "After 05\\_stage2" in text or "After 05_stage2_training, 40 % | more." in text
    for expected in (
        "Laptop run",
        "abc123",
        "with local changes",
        "| steps | 60 | 120 | yes |",
        "steps = 4",
        "3 minutes",
    ):
        assert expected in text
    for expected in (
        "vllm serve",
        "transformers 4.57 or newer",
        "sglang",
        "from_pretrained",
        "@inproceedings",
        "2510.10197",
        "| all | 100 |",
    ):
        assert expected in text
    assert "Training tasks: instances of the benchmark's train split and procedural tasks" in text
    assert "Val, 20 steps a turn, greedy. Scored" in text
    assert str(run_dir) not in str(card)
    assert "{{" not in text
    assert "\n\n\n" not in text


def test_held_out_instances_come_first_be_they_a_part(run_dir: Path) -> None:
    played = {"train": envtune.load_tasks("bfcl", split="train"), "part": heldout_part(120)}
    for name, tasks in played.items():
        evaluate(Trained(), tasks, run_dir / f"{name}.jsonl", progress=False)
    card = make_card(run_dir)
    assert "Part of held out, 20 steps a turn, greedy. Scored" in card.text
    assert {(r.dataset_split, r.dataset_args["n"]) for r in card.data.eval_results} == {
        ("heldout", 30),
        ("heldout", 120),
    }


def test_a_full_size_run_names_its_base(tmp_path: Path) -> None:
    card = make_card(trained_run(tmp_path / "big", "Qwen/Qwen3-4B-Instruct-2507", ["H200"]), "other")
    assert card.data.base_model == "Qwen/Qwen3-4B-Instruct-2507"
    assert card.data.license == "other"
    assert "Laptop" not in card.text
    assert "were not evaluated on held-out instances" in card.text
    assert card.data.eval_results is None


def test_the_shipped_policy_is_a_laptop_run_on_any_machine(tmp_path: Path) -> None:
    assert "Laptop run" in make_card(trained_run(tmp_path / "run", "tiny", ["H200"])).text
    assert is_laptop("Qwen/Qwen3-4B", [])
    assert not is_laptop("Qwen/Qwen3-4B", ["H200"])


def test_the_benchmarks_own_temperature_counts_as_greedy(tmp_path: Path) -> None:
    folder = trained_run(tmp_path / "run")
    warm, policy = Trained(), Trained()
    warm.settings = {**warm.settings, "temperature": 0.7}
    evaluate(warm, heldout_part(8), folder / "warm.jsonl", progress=False)
    assert make_card(folder).data.eval_results is None
    policy.settings = {**policy.settings, "temperature": 0.001}
    evaluate(policy, heldout_part(4), folder / "official.jsonl", rules="bfcl_fc", progress=False)
    assert {r.dataset_args["n"] for r in make_card(folder).data.eval_results} == {1, 4}


def test_a_run_without_notebooks_is_one_line(tmp_path: Path) -> None:
    shutil.copytree(WEIGHTS, tmp_path / "alone" / "train" / "policy")
    with pytest.raises(SeriesError, match=r"run 'alone' was trained by `envtune train`.*`envtune run params"):
        make_card(tmp_path / "alone")


def test_a_local_base_is_not_given_away(tmp_path: Path) -> None:
    card = str(make_card(trained_run(tmp_path / "run", str(tmp_path / "secret" / "base"))))
    assert str(tmp_path) not in card
    assert "`base`, fine-tuned" in card


def test_no_trained_policy_is_one_line(tmp_path: Path) -> None:
    for run in (tmp_path, tmp_path / "none"):
        with pytest.raises(SeriesError, match=r"has no trained policy\. Train one first"):
            make_card(run)
    failed = runner.invoke(app, ["card", "no-such-run"])
    assert failed.exit_code == 1
    assert len(failed.stderr.splitlines()) == 1


def test_a_parameter_file_names_a_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envtune.workbook.trained.planned", lambda path: (tmp_path / "mine", []))
    assert named_by(Path("x.yaml")) == ("tiny", tmp_path / "mine")
    folder = trained_run(tmp_path / "mine")
    assert named_by(Path("x.yaml"))[0] == str(folder / "05_stage2_training" / "policy")
    assert agents.named_by("x.yaml")[2] == ["05_stage2_training", fingerprint(WEIGHTS)[:8]]
    (folder / "05_stage2_training" / "manifest.json").unlink()
    assert trained_policy(folder) == folder / "04_stage1_training" / "policy"


def test_evaluate_takes_a_parameter_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envtune.workbook.trained.named_by", lambda path: ("silent", tmp_path))
    played = runner.invoke(app, ["evaluate", "params/tiny.yaml", "--limit", "4"])
    assert played.exit_code == 0, played.output
    assert len((tmp_path / "silent-heldout-4.jsonl").read_bytes().splitlines()) == 5
    again = runner.invoke(app, ["evaluate", "params/tiny.yaml", "--limit", "4", "--protocol", "t3rl"])
    assert again.exit_code == 0, again.output
    assert (tmp_path / "silent-heldout-4-t3rl.jsonl").exists()
    missing = runner.invoke(app, ["evaluate", str(tmp_path / "none.yaml")])
    assert missing.exit_code == 0, "the stub answers for any file"


def test_the_default_parameter_file(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, run_dir = named_by(Path("params/tiny.yaml"))
    assert run_dir.name == "tiny"
    assert policy == "tiny" or policy.endswith("_training/policy")
    missing = runner.invoke(app, ["evaluate", "params/none.yaml"])
    assert missing.exit_code == 1
    assert "no parameter file" in missing.stderr
