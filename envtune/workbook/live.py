"""A training as it runs: what a reader of the notebook sees below the cell, and what an interrupt says.

Shown are the stage, the time left, what to expect, the curves, and one fresh episode. If papermill runs the notebook,
nothing is shown, because a report draws the final curves.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from html import escape
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

from envtune.display import folded, style
from envtune.training import metrics
from envtune.training.plan import Plan
from envtune.types import JSON, Episode
from envtune.workbook.figures import figure_files, figure_html
from envtune.workbook.frontend import interactive
from envtune.workbook.learning import WINDOW, along, curves

EVERY = 4.0
"""Smallest number of seconds between two drawings."""
SHARE = 20
"""The pause after a drawing is at least this many times as long as the drawing took."""


class Live:
    """Below the running cell: progress in words, the curves so far, one episode. Also logs to trackio.

        with Live(plan, nb.folder) as live:
            train(plan, nb.folder, on_step=live, on_episode=live.show)

    Args:
        plan: what is trained.
        folder: the run's folder. A resumed run also shows its earlier steps.
        track: name of the run in the local trackio project `envtune`, which needs no account. None: no trackio.
        expected: lines of another run of the same plan, for what to expect.
        every: smallest number of seconds between two drawings. 0: draw after every step.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        track: str | None = None,
        expected: Sequence[JSON] = (),
        every: float = EVERY,
    ) -> None:
        self.plan, self.folder, self.expected, self.every = plan, folder, expected, every
        self._track = track if find_spec("trackio") else None
        self._handle: Any = None
        self._next = 0.0
        self._times: list[float] = []  # seconds per episode, of every step of this call
        self._episode: Episode | None = None

    def __enter__(self) -> Live:
        self._last = time.monotonic()
        if interactive():
            from IPython.display import HTML, display

            self._handle = display(HTML(self._page()), display_id=True)
        if self._track:
            import trackio

            with redirect_stdout(io.StringIO()):
                trackio.init(project="envtune", name=self._track, resume="allow", auto_log_cpu=False, embed=False)
        return self

    def show(self, episode: Episode) -> None:
        """Take an episode that was just played. The next drawing shows it."""
        self._episode = episode

    def __call__(self, line: Mapping[str, Any]) -> None:
        """Take a line of numbers, and draw if it is time."""
        now = time.monotonic()
        if line["step"]:
            self._times.append((now - self._last) / self.plan.stages[line["stage"]].episodes)
        self._last = now
        if self._track:
            import trackio

            numbers = {key: value for key, value in line.items() if value is not None and key != "step"}
            trackio.log(numbers, step=along(self._lines())[0][-1][0])
        if self._handle is not None and now >= self._next:
            from IPython.display import HTML

            self._handle.update(HTML(self._page()))
            took = time.monotonic() - now
            self._next = now + max(self.every, SHARE * took) if self.every else now

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Remove what was shown. After an interrupt, say where training stopped and how it goes on."""
        if self._track:
            import trackio

            with redirect_stdout(io.StringIO()):
                trackio.finish()
        if self._handle is not None:
            from IPython.display import HTML

            self._handle.update(HTML(""))
            if kind is KeyboardInterrupt:
                raise KeyboardInterrupt(self._stopped()) from None

    def _lines(self) -> list[JSON]:
        return metrics.read(self.folder / "metrics.jsonl")

    def _place(self) -> tuple[int, int]:
        """Index of the stage and its last finished step."""
        lines = self._lines()
        stage, step = (int(lines[-1][key]) for key in ("stage", "step")) if lines else (0, 0)
        following = step >= self.plan.stages[stage].steps and stage + 1 < len(self.plan.stages)
        return (stage + 1, 0) if following else (stage, step)

    def _where(self) -> str:
        number, step = self._place()
        stage = self.plan.stages[number]
        return f"stage {number + 1} of {len(self.plan.stages)}, {stage.name}: step {step} of {stage.steps}"

    def _stopped(self) -> str:
        number, step = self._place()
        stage = self.plan.stages[number]
        folder = self.folder / f"{number + 1}_{stage.name}"
        kept = [int(path.parent.name.rsplit("-", 1)[1]) for path in folder.glob("checkpoint-*/trainer_state.json")]
        saved = max(kept, default=0) // stage.updates
        return (
            f"Stopped at step {step} of {stage.steps} in stage {stage.name}: run this cell again to go on from step "
            f"{saved}, the last that was saved."
        )

    def _page(self) -> str:
        """Everything that is shown, as HTML."""
        lines = self._lines()
        words = [f"<strong>{escape(self._where())}</strong>", self._so_far(lines), self._left()]
        parts = [f"<p>{' · '.join(words)}</p>", f"<p>{escape(self._expectation())}</p>"]
        if len(lines) > 1:
            from matplotlib import pyplot

            fig = curves(lines)
            parts.append(figure_html(figure_files(fig, ["png"])["png"], f"Curves so far: {self._where()}.", ""))
            pyplot.close(fig)
        if self._episode is not None:
            parts.append(folded("An episode of the last step", self._episode, unfolded=True).html)
        return f'{style()}<div class="et-record wb-live">{"".join(parts)}</div>'

    def _so_far(self, lines: Sequence[JSON]) -> str:
        number, _ = self._place()
        rewards = [line["reward"] for line in lines if line["stage"] == number and line.get("reward") is not None]
        if not rewards:
            return "validation and the first step come first"
        return f"reward {fmean(rewards[-WINDOW:]):.2f}, at first {fmean(rewards[:WINDOW]):.2f}"

    def _left(self) -> str:
        """The time left, from the last steps of this call."""
        if not self._times:
            return "the time left is known after a step"
        number, step = self._place()
        episodes = sum(stage.steps * stage.episodes for stage in self.plan.stages[number:])
        episodes -= step * self.plan.stages[number].episodes
        seconds = fmean(self._times[-WINDOW:]) * episodes
        return "under a minute left" if seconds < 60 else f"about {seconds / 60:.0f} min left"

    def _expectation(self) -> str:
        number, _ = self._place()
        stage = self.plan.stages[number]
        own = [line for line in self.expected if line["stage"] == number and line.get("reward") is not None]
        if own:
            first, last = (fmean(line["reward"] for line in part) for part in (own[:WINDOW], own[-WINDOW:]))
            seconds = sum(line["seconds/step"] for line in own)
            return (
                f"What to expect: rewards differ from step to step. In the published run, the mean of {WINDOW} steps "
                f"went from {first:.2f} to {last:.2f} in this stage, in {seconds:.0f} s."
            )
        every = self.plan.schedule.validate_every
        checked = f" Validation without hints comes every {every} steps." if every else ""
        return f"What to expect: the reward ({stage.reward}) differs from step to step and should rise slowly.{checked}"


def published_lines(folder: Path, parameters: Mapping[str, Any]) -> list[JSON]:
    """The numbers of a published training with the same parameters. Empty if there is none.

    Args:
        folder: of the published chapter.
        parameters: of the training that runs.
    """
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return []
    told = json.loads(manifest.read_text(encoding="utf-8"))["parameters"]
    same = all(told.get(key) == parameters[key] for key in ("policy", "recipe", "stages", "override", "seed"))
    return metrics.read(folder / "metrics.jsonl") if same else []
