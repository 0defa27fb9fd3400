"""The identity of a training run: `run.json` in its folder.

In: a folder, a plan, tasks. Out: nothing, or a refusal that names what differs. A run goes on with the code, the data,
the weights and the plan that it began with. The computer, the number of its cores and the place of the folder may
change. The way in which the processes are started may change, too, but not their number.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from envtune import sources
from envtune.data.bfcl import data_version
from envtune.data.splits import task_digest
from envtune.differences import brief, differences
from envtune.policy.checkpoint import fingerprint, folder_of, local_folder
from envtune.training.machine import world
from envtune.training.plan import Plan
from envtune.types import JSON, Task


def claim(out: Path, plan: Plan, tasks: Mapping[str, Sequence[Task]]) -> None:
    """Write `run.json`, or check that it says the same.

    Raises:
        ValueError: it does not. The message names the first difference.
    """
    told, record = identity(out, plan, tasks), out / "run.json"
    if not record.exists():
        out.mkdir(parents=True, exist_ok=True)
        write_json(record, told)
        return
    found = json.loads(record.read_text())
    same = {key: found.get(key) for key in told} | {"policy": told["policy"]}  # where the weights lie may change
    if difference := next(differences(same, told), None):
        where, was, now = difference
        raise ValueError(
            f"{out} holds another run: {where} is {brief(was)}, now {brief(now)}. Choose another folder (in a "
            "parameter file: `run`), or move this one away"
        )


def identity(out: Path, plan: Plan, tasks: Mapping[str, Sequence[Task]]) -> JSON:
    """What a run depends on, as JSON."""
    local, told = local_folder(plan.policy), plan.to_json()
    told["policy"] = os.path.relpath(local, out) if local else plan.policy
    told["weights"] = fingerprint(folder_of(plan.policy))
    told["machine"] = {key: value for key, value in told["machine"].items() if key not in plan.machine.free}
    told["processes"] = world().num_processes
    told |= {"code": sources.running(sources.TRAINING), "data": data_version()}
    told["tasks"] = {name: task_digest(own) for name, own in tasks.items()}
    del told["launch"], told["threads"]  # how it is started, which may change
    return dict(json.loads(json.dumps(told)))


def write_json(path: Path, value: JSON) -> None:
    """Write a record in one step."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
