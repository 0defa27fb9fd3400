"""The model card of a run's policy: a README.md whose metadata the Hugging Face hub reads.

In: the manifests and tables of `results/<run>/`, and the evaluations there of weights with the same hash. Out: text
with generated numbers. Nothing is uploaded.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from envtune.benchmark.rescore import is_run
from envtune.data.splits import Split
from envtune.evaluation import Result, load_result, readable
from envtune.evaluation.published import protocol_text
from envtune.policy.checkpoint import fingerprint
from envtune.policy.portable import OLDEST
from envtune.workbook import provenance
from envtune.workbook.errors import SeriesError
from envtune.workbook.figures import HERE
from envtune.workbook.manifest import Manifest, finished
from envtune.workbook.overview import markdown_table
from envtune.workbook.trained import TRAINING, trained_policy

BENCHMARK = "gorilla-llm/Berkeley-Function-Calling-Leaderboard"
GREEDY = 0.001
"""Up to this temperature, the benchmark's own, a policy counts as greedy."""
SHOWN = ["n", "task accuracy", "strict task accuracy", "progress", "turn accuracy"]
UNSEEN = (Split.HELDOUT, Split.TEST, Split.VAL)
TITLES = {"04_stage1_training": "Base split", "05_stage2_training": "All splits"}


def write_card(run_dir: Path, out: Path, license: str = "apache-2.0") -> Path:
    """Write the card of a run's trained policy to `out`.

    Raises:
        SeriesError: there is no such run, or it has not trained a policy.
        ValueError: the policy's files are damaged.
    """
    card = make_card(run_dir, license)
    out.parent.mkdir(parents=True, exist_ok=True)
    provenance.write_atomic(out, str(card))
    return out


def make_card(run_dir: Path, license: str = "apache-2.0") -> ModelCard:
    """The card of a run's trained policy, see `write_card`."""
    policy = trained_policy(run_dir)
    if policy is None:
        raise SeriesError(
            f"run '{run_dir.name}' has no trained policy. Train one first (envtune run params/..., notebooks 04 and 05)"
        )
    chapters = finished(run_dir, sorted(TRAINING))
    if policy.parent.name not in chapters:
        raise SeriesError(
            f"run '{run_dir.name}' was trained by `envtune train`, without the notebooks that a card is made from. "
            "Train it by `envtune run params/...`"
        )
    last = chapters[policy.parent.name]
    result = _evaluation(run_dir, fingerprint(policy))
    base = str(next(iter(chapters.values()))["parameters"].get("policy", "unknown"))
    laptop = provenance.is_laptop(base, last["machine"]["gpus"])
    name = f"envtune-{run_dir.name}"
    return ModelCard.from_template(
        ModelCardData(
            model_name=name,
            base_model=base if _on_hub(base) else None,
            license=license,
            language="en",
            library_name="transformers",
            pipeline_tag="text-generation",
            tags=["tool-use", "function-calling", "reinforcement-learning", "environment-tuning", "bfcl"],
            datasets=[BENCHMARK],
            eval_results=list(_eval_results(result)) if result else None,
        ),
        template_path=str(HERE / "card.md"),
        name=name,
        base_sentence=_base_sentence(base),
        laptop=laptop,
        facts=list(_facts(chapters, last)),
        chapters=[_chapter(run_dir / name, manifest) for name, manifest in chapters.items()],
        data=_training_data(run_dir, list(chapters)),
        bfcl=last["versions"].get("bfcl-eval", "unknown"),
        protocol=protocol_text(result).capitalize() if result else "",
        results=_results(result) if result else "",
        license=license,
        oldest=OLDEST,
    )


def _evaluation(run_dir: Path, weights: str) -> Result | None:
    """The largest evaluation of these weights on held-out instances of the benchmark, else on a whole split."""
    found = [load_result(path) for path in sorted(run_dir.rglob("*.jsonl")) if is_run(path) and _is_of(path, weights)]
    fit = [result for result in found if result.split or result.drawn_from in UNSEEN]
    return max(fit, key=lambda result: (result.drawn_from in UNSEEN, len(result)), default=None)


def _is_of(path: Path, weights: str) -> bool:
    """Whether a file is a finished, greedy evaluation of these weights."""
    with path.open(encoding="utf-8") as file:
        config = json.loads(file.readline())["config"]
        complete = sum(line.endswith("\n") for line in file) == config["tasks"]["n"]
    settings = config["settings"]
    return complete and settings.get("sha256") == weights and (settings.get("temperature") or 0) <= GREEDY


def _eval_results(result: Result) -> Iterator[EvalResult]:
    """Task accuracy and strict task accuracy, by category and over all, for the hub's model-index."""
    for category, row in result.table().iterrows():
        for metric, title in (("task_accuracy", "task accuracy"), ("strict_task_accuracy", "strict task accuracy")):
            yield EvalResult(
                task_type="text-generation",
                task_name="multi-turn tool use",
                dataset_type=BENCHMARK,
                dataset_name=f"BFCL V3 multi-turn, {str(category).replace('_', ' ')}",
                dataset_config=f"multi_turn_{category}",
                dataset_split=result.drawn_from,
                dataset_args={"n": int(row["n"]), **result.config["data"]},
                metric_type=metric,
                metric_name=title,
                metric_value=round(100 * float(row[metric]), 2),
            )


def _results(result: Result) -> str:
    table = readable(result.table(sound=True))[SHOWN]
    return markdown_table(
        [["category", *table.columns], *([str(i), *row] for i, row in zip(table.index, table.to_numpy(), strict=True))]
    )


def _facts(chapters: dict[str, Manifest], last: Manifest) -> Iterator[tuple[str, str]]:
    parameters = last["parameters"]
    yield "recipe", f"`{parameters.get('recipe', 'unknown')}` of `envtune.training.curriculum`"
    if parameters.get("override"):
        yield "changed", ", ".join(f"{key} = {value}" for key, value in parameters["override"].items())
    yield "seed", str(last["seed"])
    yield "time", f"{sum(manifest['seconds'] for manifest in chapters.values()) / 60:.0f} minutes, evaluation included"
    machine = last["machine"]
    yield "machine", ", ".join(machine["gpus"]) or f"{machine['cpu']}, {machine['cores']} cores, no GPU"
    versions = last["versions"]
    wanted = [name for name in ("envtune", "torch", "transformers", "trl") if name in versions]
    yield "versions", ", ".join(f"{name} {versions[name]}" for name in wanted)
    revision = last["code"].get("revision")
    yield (
        "code",
        f"`{revision}`{provenance.changes_text(last['code'])}" if revision else "unknown",
    )


def _chapter(folder: Path, manifest: Manifest) -> dict[str, Any]:
    return {
        "title": TITLES[folder.name],
        "answer": f"{manifest['answer']['headline']} {manifest['answer']['detail']}".strip(),
        "stages": markdown_table(rows) if (rows := _csv(folder / "recipe.csv")) else "",
    }


def _training_data(run_dir: Path, chapters: list[str]) -> str:
    """Sources of the stages' tasks, read from the recipe's tables."""
    sources = {
        cell
        for chapter in chapters
        for row in _csv(run_dir / chapter / "recipe.csv")
        if row and row[0] == "source"
        for cell in row[1:]
    }
    procedural = "procedural tasks over the benchmark's tools"
    words = {"bfcl": "instances of the benchmark's train split", "synth": procedural, "chains": procedural}
    return " and ".join(dict.fromkeys(words[source] for source in sorted(sources & words.keys()))) or "see the recipe"


def _csv(path: Path) -> list[list[str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def _base_sentence(base: str) -> str:
    if base == "tiny":
        return "A language model of about a million parameters, the stand-in that ships with envtune."
    return f"`{base if _on_hub(base) else Path(base).name}`, fine-tuned."


def _on_hub(base: str) -> bool:
    """Whether this looks like a name on the hub: `owner/model`."""
    return base.count("/") == 1 and not base.startswith((".", "/")) and not Path(base).exists()
