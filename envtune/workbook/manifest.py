"""Read the manifests of `nb.finish` and the series, and check the files that they record."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from envtune.workbook.errors import SeriesError
from envtune.workbook.paths import MANIFEST
from envtune.workbook.provenance import sha256_file

Manifest = dict[str, Any]
ORIGIN = {"parameters", "code", "data", "versions", "machine"}
"""Keys that say where a result comes from."""


def read_manifest(folder: Path) -> Manifest:
    """A chapter's manifest. In one written before `finish` took a headline, the sentence is the headline.

    Raises:
        SeriesError: there is none, or the file is not one.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if "sentence" in manifest["answer"]:
            manifest["answer"] |= {"headline": manifest["answer"].pop("sentence"), "detail": "", "results": []}
        if isinstance(manifest["answer"]["headline"], str) and isinstance(manifest["outputs"], dict):
            return dict(manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # said below
    raise SeriesError(f"'{folder.name}/{MANIFEST}' is missing or not a manifest. Delete that folder and run again")


def read_experiment(folder: Path) -> Manifest:
    """The manifest of `envtune arms`.

    Raises:
        SeriesError: the file is not one.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest.keys() >= ORIGIN:
            return dict(manifest)
    except (OSError, ValueError, AttributeError, TypeError):
        pass  # said below
    raise SeriesError(f"'{folder.name}/{MANIFEST}' is not a manifest of `envtune arms`. Run it again")


def finished(run_dir: Path, names: Iterable[str]) -> dict[str, Manifest]:
    """Name -> manifest of the chapters that the series has completed, in the order of `names`."""
    found = {}
    for name in names:
        try:
            manifest = read_manifest(run_dir / name)
        except SeriesError:
            continue
        if manifest.get("key") and manifest.keys() >= ORIGIN:
            found[name] = manifest
    return found


def is_current(folder: Path, key: str) -> bool:
    """Whether the results in `folder` are complete, have that key, and are unchanged."""
    manifest = finished(folder.parent, [folder.name]).get(folder.name)
    if manifest is None or manifest["key"] != key:
        return False
    recorded = manifest["outputs"]
    there = {name: sha256_file(folder / name) for name in recorded if (folder / name).is_file()}
    return bool(there == recorded)
