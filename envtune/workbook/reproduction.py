"""Does a run reproduce the published one? Number by number, with the likely reason for a difference.

In: two runs from `read_run`: the manifests, and the tables whose columns have intervals. Out: a record for each
published number. The rule of `judge`:

1. A number is equal if nine digits are.
2. Else it is inside or outside of the published 95 % interval. That interval covers the draw of tasks. Training with
   another seed, or on a machine that rounds otherwise, varies more, so of hundreds of numbers some must fall outside.
3. A share or a count of n tasks without a published interval gets the binomial (Wilson) interval of n.
4. Any other number must be equal if it does not depend on training. If it does, it is listed and not judged.

Times and speeds are listed and never judged. Numbers that the published run does not have are ignored.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from envtune.workbook.errors import SeriesError
from envtune.workbook.manifest import Manifest
from envtune.workbook.measured import Number, Source, numbers, read_run
from envtune.workbook.paths import PUBLISHED, published_folder

TIMED = re.compile(r"speed|second|minute|time|per_s\b|/s\b|µs|memory", re.IGNORECASE)


class Verdict(StrEnum):
    """The verdict on one published number."""

    EQUAL = "equal"
    INSIDE = "inside"
    OUTSIDE = "outside"
    MISSING = "missing"
    """The run does not have it."""
    UNJUDGED = "not judged"
    """It differs, and no interval says how much it may."""
    TIMED = "timing"


DIFFERENT = (Verdict.OUTSIDE, Verdict.MISSING, Verdict.UNJUDGED, Verdict.INSIDE)


@dataclass(frozen=True, slots=True)
class Record:
    """One published number and the run's."""

    chapter: str
    number: str
    value: float | None
    published: float
    interval: tuple[float, float] | None
    verdict: Verdict
    reason: str = ""
    """Why it may differ, in a few words. Empty if it does not."""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """How a run compares with a published one.

    Attributes:
        records: one per published number of the run's chapters.
        absent: chapters that the run does not have.
        reasons: chapter -> all that differs between the two runs, for chapters with a number that is not equal.
    """

    published: str
    records: tuple[Record, ...]
    absent: tuple[str, ...]
    reasons: Mapping[str, tuple[str, ...]]

    @property
    def ok(self) -> bool:
        """Whether every chapter is there, and every number equal or inside."""
        count = self._count()
        return not (count[Verdict.OUTSIDE] or count[Verdict.MISSING] or self.absent)

    @property
    def different(self) -> list[Record]:
        """Numbers that are not equal, without times, those outside first."""
        return [record for verdict in DIFFERENT for record in self.records if record.verdict is verdict]

    @property
    def timings(self) -> list[Record]:
        """Times and speeds, which are not compared."""
        return [record for record in self.records if record.verdict is Verdict.TIMED]

    def sentence(self) -> str:
        """The verdict in one line."""
        count = self._count()
        parts = [f"{count[Verdict.EQUAL]} numbers equal", f"{count[Verdict.INSIDE]} inside the published interval"]
        parts += [f"{count[Verdict.OUTSIDE]} outside"]
        parts += [f"{n} not in this run"] if (n := count[Verdict.MISSING]) else []
        parts += [f"{n} different, without an interval to judge by"] if (n := count[Verdict.UNJUDGED]) else []
        parts += [f"not run: {', '.join(name[:2] for name in self.absent)}"] if self.absent else []
        failed = count[Verdict.OUTSIDE] or count[Verdict.MISSING]
        verdict = "reproduced" if self.ok else "not reproduced" if failed else "incomplete"
        return f"{verdict}: {', '.join(parts)}"

    def _count(self) -> Counter[Verdict]:
        return Counter(record.verdict for record in self.records)


COLUMNS = ("chapter", "number", "value", "published", "interval", "verdict", "likely reason")


def cells(record: Record) -> list[str]:
    """A record as the texts of `COLUMNS`."""
    interval = " to ".join(f"{end:.4g}" for end in record.interval) if record.interval else "–"
    value = "–" if record.value is None else f"{record.value:.4g}"
    named = [record.chapter, record.number, value, f"{record.published:.4g}", interval]
    return [*named, str(record.verdict), record.reason]


def against_published(run_dir: Path, root: Path, published: str | None = None) -> Reproduction | None:
    """Compare a run with the published run of its name, or of another name. None if there is none."""
    folder = published_folder(root, published or run_dir.name)
    sources = read_run(folder)
    return compare(read_run(run_dir), sources, folder.name) if sources else None


def reproduction(run_dir: Path, root: Path, published: str | None = None) -> Reproduction:
    """`against_published`, with an error if there is nothing to compare.

    Raises:
        SeriesError: the run has no results, or there is no such published run.
    """
    if not read_run(run_dir):
        raise SeriesError(f"no results of a run in '{run_dir}'. Run it first (envtune run params/...)")
    found = against_published(run_dir, root, published)
    if found is None:
        there = sorted(path.name for path in (root / "results" / PUBLISHED).glob("[!.]*"))
        raise SeriesError(
            f"no published run '{published or run_dir.name}' to compare with. Published: {', '.join(there) or 'none'}. "
            "`--with NAME` compares with one of another name"
        )
    return found


def compare(mine: Mapping[str, Source], published: Mapping[str, Source], name: str) -> Reproduction:
    """Judge every published number of the chapters that the run has.

    Args:
        mine: chapter -> the run's numbers.
        published: the same of the published run.
        name: of the published run.
    """
    if len(published) == len(mine) == 1:  # an experiment is named after its run, which may have another name
        mine = dict(zip(published, mine.values(), strict=True)) if not set(published) & set(mine) else mine
    records: list[Record] = []
    reasons: dict[str, tuple[str, ...]] = {}
    for chapter, source in published.items():
        if chapter not in mine:
            continue
        why = why_different(mine[chapter].manifest, source.manifest)
        own = judge(chapter, numbers(mine[chapter]), numbers(source), learned(source.manifest), ", ".join(why))
        records += own
        if any(record.reason for record in own):
            reasons[chapter] = tuple(f"{kind} ({text})" if text else kind for kind, text in why.items())
    return Reproduction(name, tuple(records), tuple(c for c in published if c not in mine), reasons)


def judge(
    chapter: str, mine: Mapping[str, Number], published: Mapping[str, Number], learned: bool, reason: str
) -> list[Record]:
    """One record per published number, by the rule of this module.

    Args:
        chapter: what the numbers are of.
        mine: name -> number of the run.
        published: name -> number of the published run.
        learned: whether the numbers depend on training, so that one without an interval need not be equal.
        reason: for numbers that are not equal.
    """
    records = []
    for name, theirs in published.items():
        own = mine.get(name)
        interval = theirs.interval()
        verdict = _verdict(name, own, theirs, interval, learned)
        why = "" if verdict in (Verdict.EQUAL, Verdict.TIMED) else reason
        value = own.value if own else None
        records.append(Record(chapter, name, value, theirs.value, interval, verdict, why))
    return records


def _verdict(
    name: str, own: Number | None, theirs: Number, interval: tuple[float, float] | None, learned: bool
) -> Verdict:
    if own is None:
        return Verdict.MISSING
    if TIMED.search(name):
        return Verdict.TIMED
    if math.isclose(own.value, theirs.value, rel_tol=1e-9, abs_tol=1e-12):
        return Verdict.EQUAL
    if interval is not None:
        return Verdict.INSIDE if interval[0] <= own.value <= interval[1] else Verdict.OUTSIDE
    return Verdict.UNJUDGED if learned else Verdict.OUTSIDE


def learned(manifest: Manifest) -> bool:
    """Whether numbers depend on training: the chapter runs a policy, or reads another run."""
    return "policy" in manifest["parameters"] or any(name.startswith("../") for name in manifest.get("inputs", {}))


def why_different(mine: Manifest, published: Manifest) -> dict[str, str]:
    """What differs in the origin of two results: kind -> detail. These are the likely reasons for other numbers."""
    found: dict[str, str] = {}
    parameters = _changed(mine["parameters"], published["parameters"], skip=("run", "results"))
    seeds = {name for name in parameters if name in ("seed", "seeds")}
    if seeds:
        found["other seed"] = _pairs(seeds, mine["parameters"], published["parameters"])
    if parameters - seeds:
        found["other parameters"] = _pairs(parameters - seeds, mine["parameters"], published["parameters"])
    mine_read, read = _read(mine), _read(published)
    if mine_read != read:
        other = sorted(name for name in {*mine_read, *read} if mine_read.get(name) != read.get(name))
        found["other runs read"] = ", ".join(dict.fromkeys(name.split("/")[0] for name in other))
    if mine["code"]["source_hash"] != published["code"]["source_hash"]:
        found["other code"] = f"revision {_revision(mine)}, published {_revision(published)}"
    if data := _changed(mine["data"], published["data"]):
        found["other data"] = _pairs(data, mine["data"], published["data"])
    both = mine["versions"].keys() & published["versions"].keys()
    versions = {name for name in both if mine["versions"][name] != published["versions"][name]}
    if versions:
        found["other packages"] = _pairs(versions, mine["versions"], published["versions"])
    machine = _changed(mine["machine"], published["machine"], skip=("memory_gb",))
    if machine:
        found["other machine"] = _pairs(machine, mine["machine"], published["machine"])
    return found or {"same seed, code, data, packages and kind of machine: the order of sums": ""}


def _changed(mine: Mapping[str, Any], published: Mapping[str, Any], skip: Sequence[str] = ()) -> set[str]:
    names = {*mine, *published} - set(skip)
    return {name for name in names if mine.get(name) != published.get(name)}


def _pairs(names: set[str], mine: Mapping[str, Any], published: Mapping[str, Any]) -> str:
    shown = [f"{name} {mine.get(name)}, published {published.get(name)}" for name in sorted(names)]
    return "; ".join(shown[:3]) + (f"; and {len(shown) - 3} more" if len(shown) > 3 else "")


def _read(manifest: Manifest) -> dict[str, str]:
    """`<run>/<file>` -> hash of the files of other runs, from any folder."""
    inputs = manifest.get("inputs", {})
    return {"/".join(name.split("/")[-2:]): digest for name, digest in inputs.items() if name.startswith("../")}


def _revision(manifest: Manifest) -> str:
    return str(manifest["code"]["revision"] or "unknown")[:10]
