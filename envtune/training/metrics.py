"""The numbers of a training step: from rollouts to one line of `metrics.jsonl`.

`summary` takes from a rollout what the numbers need, as plain data that can be sent between processes. `measure` adds
summaries up. Rates are shares from 0 to 1, and absent where they have no denominator. The file is append-only. A
resumed run first cuts it back to its checkpoint.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envtune.types import JSON, Counts, Task

if TYPE_CHECKING:
    from envtune.training.rollout import Rollout

_SUMMED = ("success", "played", "cut", "out_of_room", "sampled", "read")


def summary(rollout: Rollout, task: Task) -> JSON:
    """Counts of one episode."""
    episode = rollout.episode
    kinds: Sequence[str] = getattr(task, "kinds", ())
    right = [turn.correct for turn in episode.turns] + [False] * (episode.n_turns - len(episode.turns))
    abstained = [turn.abstained for turn in episode.turns if turn.abstained is not None]
    return {
        "rewards": rollout.rewards,
        "success": episode.success,
        "category": str(episode.category),
        "kinds": [[kind, ok] for kind, ok in zip(kinds, right, strict=False)],
        "played": len(episode.turns),
        **asdict(episode.counts),
        "abstained": [sum(abstained), len(abstained)],
        "cut": rollout.cut_messages,
        "out_of_room": rollout.out_of_room,
        "sampled": sum(rollout.env_mask),
        "read": len(rollout.env_mask) - sum(rollout.env_mask),
    }


def measure(summaries: Sequence[JSON]) -> dict[str, float]:
    """The numbers of a set of episodes.

    Keys: `rewards/*` (means), `progress` (mean over episodes of the share of their turns correct), `task_accuracy`,
    `task_accuracy/<category>`, `kind/<kind>` (share of the turns of that kind correct), `error_rate` and
    `unknown_tool_rate` (of calls), `format_error_rate` and `invalid_json_rate` (of messages), `abstention_rate` (of
    turns that expect no call), `hints` (per episode), `calls_per_turn`, `steps_per_turn`, `cut_rate` (of messages),
    `out_of_room` (of episodes), `tokens/sampled`, `tokens/environment` (sums), `tokens/episode` (mean).
    """
    n = len(summaries)
    total = {key: sum(s[key] for s in summaries) for key in (*_SUMMED, *(field.name for field in fields(Counts)))}
    abstained, could = (sum(s["abstained"][i] for s in summaries) for i in (0, 1))
    groups: dict[str, list[float]] = defaultdict(list)
    for s in summaries:
        groups[f"task_accuracy/{s['category']}"].append(s["success"])
        for kind, ok in s["kinds"]:
            groups[f"kind/{kind}"].append(ok)
        for name, reward in s["rewards"].items():
            groups[f"rewards/{name}"].append(reward)
    numbers = {
        "progress": math.fsum(s["rewards"]["progress"] for s in summaries) / n,
        "task_accuracy": total["success"] / n,
        **{key: math.fsum(values) / len(values) for key, values in sorted(groups.items())},
        **_ratio("error_rate", total["failed_calls"], total["calls"]),
        **_ratio("unknown_tool_rate", total["unknown_tools"], total["calls"]),
        **_ratio("format_error_rate", total["format_errors"], total["steps"]),
        **_ratio("invalid_json_rate", total["invalid_json"], total["steps"]),
        **_ratio("abstention_rate", abstained, could),
        **_ratio("cut_rate", total["cut"], total["steps"]),
        **_ratio("calls_per_turn", total["calls"], total["played"]),
        **_ratio("steps_per_turn", total["steps"], total["played"]),
        "hints": total["hints"] / n,
        "out_of_room": total["out_of_room"] / n,
        "tokens/sampled": total["sampled"],
        "tokens/environment": total["read"],
        "tokens/episode": (total["sampled"] + total["read"]) / n,
    }
    return {key: float(value) for key, value in numbers.items()}


def _ratio(name: str, part: float, whole: float) -> dict[str, float]:
    return {name: part / whole} if whole else {}


def append(path: Path, line: JSON) -> None:
    """Add one line. Numbers that are not finite become null."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({key: _finite(value) for key, value in line.items()}) + "\n")


def read(path: str | Path) -> list[JSON]:
    """The lines of a metrics file. An incomplete last line is left out."""
    path = Path(path)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def cut_back(path: Path, stage: int, step: int) -> None:
    """Keep the lines up to and including step `step` of stage `stage`."""
    write(path, [line for line in read(path) if (line["stage"], line["step"]) <= (stage, step)])


def write(path: Path, lines: Iterable[JSON]) -> None:
    """Replace the file."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    temporary.replace(path)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
