"""A training cell that someone stops and runs again, in a real kernel: as JupyterLab does it, without a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from jupyter_client.manager import start_new_kernel
from stub_project import ROOT

BEGIN = """
from envtune import workbook
from envtune.training.train import train
nb = workbook.begin(
    "04_stage1_training", run="stopped", results={results!r}, seed=0, policy="tiny", recipe="laptop", stages=[],
    override={{"prompts_per_step": 2, "num_generations": 2, "tasks": 8}}, compare_tasks=4,
    machine={{"micro_batch": 4, "max_rows": 4}}, schedule={{"validate_tasks": 2, "save_every": 2}}, launch=None,
    threads=1, trackio=False,
)
plan = nb.plan.on_base
"""
TRAIN = """
with nb.live(plan) as live:
    live.every = 0
    trained = train(plan, nb.folder, on_step=live, on_episode=live.show)
"""
SAID = re.compile(
    r"Stopped at step (\d+) of 36 in stage hints: run this cell again to go on from step (\d+), the last .*\n"
)


def run(kernel, client, code: str, stop_at: str = "") -> Iterator[str]:
    """Run a cell as someone who looks, and interrupt it when its output says `stop_at`. Yields what it shows."""
    request = client.execute(code, allow_stdin=True)
    while True:
        message = client.get_iopub_msg(timeout=120)
        kind, content = message["msg_type"], message["content"]
        if message["parent_header"].get("msg_id") != request:
            continue
        if kind == "status" and content["execution_state"] == "idle":
            return
        html = content.get("data", {}).get("text/html", "")
        text = content.get("text") or "\n".join(content.get("traceback", ())) or re.sub(r"<[^>]+>", "", html)
        if stop_at and stop_at in text:
            kernel.interrupt_kernel()
            stop_at = ""
        yield text


@pytest.mark.slow
@pytest.mark.xdist_group("training")
def test_a_stopped_training_says_how_to_go_on_and_does(tmp_path):
    kernel, client = start_new_kernel(cwd=str(ROOT))
    try:
        list(run(kernel, client, BEGIN.format(results=str(tmp_path))))
        *_, first = run(kernel, client, TRAIN, stop_at="hints: step 3 of 36")
        *shown, second = run(kernel, client, TRAIN, stop_at="hints: step 7 of 36")
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
    lines = [json.loads(line) for line in (tmp_path / "stopped/04_stage1_training/metrics.jsonl").open()]
    steps = [line["step"] for line in lines if line["name"] == "hints"]
    assert steps == list(range(len(steps))), "each step once"
    for said, at_least in ((first, 3), (second, 7)):
        stopped, saved = map(int, SAID.fullmatch(said).groups())  # the interrupt arrives a moment after the step
        assert stopped >= at_least and stopped - saved in (0, 1, 2)
    assert not any("Traceback" in text for text in shown)
