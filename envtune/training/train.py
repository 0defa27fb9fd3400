"""Run a plan: stage after stage, with checkpoints, validation and one line of numbers per step.

In: a plan and a folder. Out: the trained policy in `<out>/policy`. The folder:

    run.json              what the run is: seed, policy (a folder: relative to this one), weights, stages, machine,
                          schedule, processes, code, data. Another run in the same folder is refused
    metrics.jsonl         one line per step. Step 0 of a stage holds the validation before it
    rollouts/             episodes of every n-th step, if the machine says so
    <n>_<stage>/          checkpoint-<step>/, best/, last/, done.json
    policy/               model and tokenizer of the last stage

After a kill, the same call goes on: finished stages are skipped, and an unfinished one starts from its last checkpoint.
On one kind of CPU with the same number of threads the result is the same bit for bit. Another kind of CPU has kernels
that add in another order, so after some steps a token differs, and then the numbers. Samples of vLLM do not repeat, as
its batches depend on time. Such a run goes on from its checkpoint, but with other numbers.

Where several processes train, or vLLM samples, every stage has processes of its own (`training.launch`). All that a
stage held ends with them, including what vLLM would leave behind. Each process plays its share of the episodes, and the
first one writes. A stage ends after its steps, on a plateau, or with an error if it collapses (`training.watch`).

Validation plays held-out tasks greedily, without hints, like the final evaluation. A stage that ends without hints
hands on the weights with the highest reward there, of equal ones the later. A stage that ends with hints hands on its
last weights, because validation without hints says little about them. `Schedule.keep_best=False` switches the choice
off, so that runs with different hints can be compared.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers import AutoTokenizer, TrainerCallback
from transformers.utils import logging as transformers_logging

from envtune.policy import set_threads
from envtune.policy.checkpoint import folder_of
from envtune.policy.portable import make_portable
from envtune.processes import end_with_parent
from envtune.training import folders, metrics, watch
from envtune.training.curriculum import PPOStage
from envtune.training.grpo import Trainer, grpo_config
from envtune.training.identity import claim, write_json
from envtune.training.launch import FAILED, LAUNCHED, fits, launch, tasks_from_json
from envtune.training.machine import load_model, require, world
from envtune.training.plan import Plan, TrainResult
from envtune.training.ppo import PPOTrainer
from envtune.types import JSON, Episode, Task

SCORE = "score.json"
"""Next to the best weights: the step at which they were validated, and their validation numbers."""


def train(
    plan: Plan,
    out: str | Path,
    *,
    on_step: Callable[[JSON], None] | None = None,
    on_episode: Callable[[Episode], None] | None = None,
    tasks: Mapping[str, Sequence[Task]] | None = None,
    progress: bool = True,
) -> TrainResult:
    """Train a policy through the stages of a plan, in this process or in those that `launch` starts for each stage.

    Args:
        plan: what to train.
        out: the run's folder.
        on_step: called with every line of `metrics.jsonl`, for live curves.
        on_episode: called before it with the first episode of the step. In this process only.
        tasks: by stage name, tasks to use instead of those the stage loads, and `val` for validation.
        progress: show a bar.

    Raises:
        ValueError: the folder holds another run, the stages do not go with the machine or the processes (then nothing
            is written), or there is no such policy. The message says what differs.
        LaunchError: the launched processes failed.
    """
    fits(plan)
    if plan.stages_apart:
        return launch(plan, Path(out).resolve(), tasks or {}, on_step, progress)
    run = _Run(Path(out), plan, tasks or {}, on_step, on_episode)
    run.go_on(progress)
    return TrainResult(run.out / "policy", run.metrics_path)


@dataclass
class _Run:
    """What stays the same through a run."""

    out: Path
    plan: Plan
    tasks: Mapping[str, Sequence[Task]]
    on_step: Callable[[JSON], None] | None
    on_episode: Callable[[Episode], None] | None

    @property
    def is_main(self) -> bool:
        """Whether this process writes the folder."""
        return os.environ.get("RANK", "0") == "0"

    @property
    def metrics_path(self) -> Path:
        return self.out / "metrics.jsonl"

    def go_on(self, progress: bool, most: int | None = None) -> None:
        """Run the stages that are not finished, or the first `most` of them. After the last one, write the policy."""
        set_threads(self.plan.threads)
        entering, stages = folder_of(self.plan.policy), self.plan.stages
        if self.is_main:
            claim(self.out, self.plan, self.tasks)
        transformers_logging.disable_progress_bar()
        weights = [entering, *folders.handed_on(self.out, stages)]
        for number in range(len(weights) - 1, len(stages))[:most]:
            weights.append(self._stage(number, str(weights[-1]), progress and self.is_main))
        if self.is_main and len(weights) > len(stages):
            folders.replace_folder(weights[-1], self.out / "policy")

    def _stage(self, number: int, entering: str, progress: bool) -> Path:
        """Run one stage, or the rest of it. Returns the folder of the weights that it hands on."""
        stage, folder = self.plan.stages[number], folders.stage_folder(self.out, self.plan.stages, number)
        worker = _StageRun(self, number, folder, entering)
        desc = f"stage {number + 1} of {len(self.plan.stages)}, {stage.name}"
        with tqdm(total=stage.steps, initial=worker.step, desc=desc, disable=not progress) as bar:
            kept = worker.train(bar)
        world().wait_for_everyone()
        if self.is_main:
            folders.finish(folder, kept)
        world().wait_for_everyone()
        worker.release()  # last, because vLLM then takes the group of processes with it
        return folder / kept


class _StageRun:
    """One stage of a run, from its start or its last checkpoint."""

    def __init__(self, run: _Run, number: int, folder: Path, entering: str) -> None:
        self.run, self.number, self.folder, self.entering = run, number, folder, Path(entering)
        plan, self.stage = run.plan, run.plan.stages[number]
        stage, machine = self.stage, plan.machine
        require(stage, machine)
        self.checkpoint = folders.last_checkpoint(folder)
        self.step = int(self.checkpoint.name.rsplit("-", 1)[1]) // stage.updates if self.checkpoint else 0
        world().wait_for_everyone()  # all have found the same checkpoint
        if run.is_main:
            metrics.cut_back(run.metrics_path, number, self.step if self.checkpoint else -1)
            folders.put_back(folder / "best")
        world().wait_for_everyone()
        self.lines = [line for line in metrics.read(run.metrics_path) if line["stage"] == number]
        self.best = self._kept_score()
        tasks = list(run.tasks.get(stage.name, ())) or stage.load()
        self.validation = self._validation_tasks()
        kind: Any = PPOTrainer if isinstance(stage, PPOStage) else Trainer
        self.trainer = kind(
            load_model(entering, stage, machine),
            AutoTokenizer.from_pretrained(entering, padding_side="left"),
            stage,
            tasks,
            grpo_config(stage, folder, seed=plan.seed, machine=machine, save_every=plan.schedule.save_every),
            machine,
            self._on_step,
        )

    def train(self, bar: Any) -> str:
        """Train to the end. Returns the name of the folder that is handed on."""
        self.bar = bar
        if not self.checkpoint:
            self.trainer.add_callback(_AtTheStart(lambda: self._record({"step": 0, **self._validate(0)})))
        self.trainer.train(resume_from_checkpoint=str(self.checkpoint) if self.checkpoint else None)
        self._save("last")
        return "best" if self._chooses else "last"

    def release(self) -> None:
        """Free the memory before the next stage builds its own trainer."""
        self.trainer.accelerator.free_memory()
        del self.trainer
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @property
    def _chooses(self) -> bool:
        """Whether validation says which weights the stage hands on."""
        return bool(self.run.plan.schedule.keep_best and self.validation and self.stage.ends_without_hints)

    def _validation_tasks(self) -> list[Task]:
        schedule = self.run.plan.schedule
        if not schedule.validate_every:
            return []
        return list(self.run.tasks.get("val", ())) or self.stage.load("val", schedule.validate_tasks)

    def _on_step(self, numbers: JSON) -> JSON:
        extra = self._validate(int(numbers["step"]))
        if self.run.on_episode and self.run.is_main:
            self.run.on_episode(self.trainer.episode)
        self._record({**numbers, **extra})
        self._stop_early()
        self.bar.update()
        self.bar.set_postfix_str(f"reward {numbers['reward']:.3f}, progress {numbers['progress']:.0%}")
        return {**{key: value for key, value in numbers.items() if key != "step"}, **extra}

    def _record(self, numbers: JSON) -> None:
        line = {"stage": self.number, "name": self.stage.name, **numbers}
        self.lines.append(line)
        if self.run.is_main:
            metrics.append(self.run.metrics_path, line)
            if self.run.on_step:
                self.run.on_step(line)

    def _stop_early(self) -> None:
        if self.stage.watch and (why := watch.collapsed(self.lines)):
            best = self.folder / "best"
            kept = f", the best weights in {best}" if best.exists() else ""
            raise ValueError(
                f"stage {self.stage.name} collapsed at step {self.lines[-1]['step']}: {why}. The numbers are in "
                f"{self.run.metrics_path}{kept}. Change the recipe by `override` (learning_rate, beta), or set "
                "watch: false there to go on"
            )
        if watch.plateaued(self.lines, f"val/rewards/{self.stage.reward}", self.stage.plateau):
            self.trainer.stop()

    def _validate(self, step: int) -> dict[str, float]:
        """The validation numbers if validation is due. Keeps the weights if they are the best so far."""
        every = self.run.plan.schedule.validate_every
        if not self.validation or (step % every and step != self.stage.steps):
            return {}
        numbers = (step == 0 and self._entered_with()) or self.trainer.validate(self.validation)
        score = numbers[self._score_key]
        if self.best is None or score >= self.best:
            self._save("best", {"step": step, **numbers})
            self.best = score
        return {f"val/{key}": value for key, value in numbers.items()}

    def _entered_with(self) -> dict[str, float]:
        """The previous stage's validation of the weights it handed on. Empty if it validated in another way."""
        if not self.number:
            return {}
        before, schedule = self.run.plan.stages[self.number - 1], self.run.plan.schedule
        asked = self.run.tasks.get("val") or before.load("val", schedule.validate_tasks)
        played = [(stage.judged, stage.limits) for stage in (before, self.stage)]
        if played[0] != played[1] or [t.id for t in asked] != [t.id for t in self.validation]:
            return {}
        score = self.entering / SCORE
        if score.exists():
            return {key: value for key, value in json.loads(score.read_text()).items() if key != "step"}
        last = [line for line in metrics.read(self.run.metrics_path) if line["stage"] == self.number - 1][-1]
        return {key.removeprefix("val/"): value for key, value in last.items() if key.startswith("val/")}

    @property
    def _score_key(self) -> str:
        return f"rewards/{self.stage.reward}"

    def _kept_score(self) -> float | None:
        """Validation score of `best/`, which after a resume may hold weights of later steps that do not repeat."""
        score = self.folder / "best" / SCORE
        return float(json.loads(score.read_text())[self._score_key]) if score.exists() else None

    def _save(self, name: str, note: JSON | None = None) -> None:
        """Write model and tokenizer to a folder of the stage, in one step."""
        temporary = self.folder / f".{name}"
        self.trainer.save_model(str(temporary))
        if self.run.is_main:
            make_portable(temporary)
            (temporary / "training_args.bin").unlink(missing_ok=True)
            if note:
                write_json(temporary / SCORE, note)
            folders.move_folder(temporary, self.folder / name)


class _AtTheStart(TrainerCallback):
    """Does something when the weights are on their device, sharded if necessary."""

    def __init__(self, do: Callable[[], None]) -> None:
        self.do = do

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.do()


def main(spec: str) -> None:
    """Train the next stage of the plan that `launch` wrote, as one of its processes.

    A refusal is one line after `FAILED`.
    """
    end_with_parent()
    if LAUNCHED in os.environ and os.getppid() == 1:
        raise SystemExit("the launcher ended before this process had begun")
    told: JSON = json.loads(Path(spec).read_text())
    try:
        if (found := world().num_processes) != told["processes"]:
            raise ValueError(f"{told['processes']} processes were asked for, {found} started. Check the configuration")
        plan, tasks = Plan.from_json(told["plan"]), tasks_from_json(told["tasks"])
        _Run(Path(spec).parent, plan, tasks, None, None).go_on(progress=False, most=1)
    except ValueError as error:
        print(FAILED, *str(error).split(), file=sys.stderr)  # in one line
        raise SystemExit(1) from None
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
