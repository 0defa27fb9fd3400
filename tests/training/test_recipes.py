"""What the files of params/ train, compared with a table of the published numbers and with the launcher's command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from envtune.training import cost
from envtune.training.check import check
from envtune.training.curriculum import PPOStage, Stage
from envtune.training.grpo import grpo_config
from envtune.training.launch import config_file, launch_command, processes, sharded
from envtune.training.plan import Plan
from envtune.types import Category
from envtune.workbook.params_file import load_params
from envtune.workbook.paths import find_root
from envtune.workbook.plan import training_plan

PARAMS = find_root() / "params"
ALL, BASE = tuple(Category), (Category.BASE,)
QWEN3, QWEN25, LLAMA = (
    "Qwen/Qwen3-4B-Instruct-2507", "Qwen/Qwen2.5-7B-Instruct", "meta-llama/Llama-3.1-8B-Instruct",
)  # fmt: skip

# Environment Tuning (arXiv 2510.10197 and its released configurations), then T3RL: what every stage shares
PAPER = {
    "learning_rate": 1e-6, "lr_scheduler_type": "constant", "beta": 0.1, "entropy_coef": 0.001, "epsilon": 0.2,
    "epsilon_high": 0.28, "delta": 10.0, "num_generations": 16, "loss_type": "dapo", "scale_rewards": "group",
    "temperature": 1.0, "num_iterations": 1, "max_grad_norm": 1.0,
}  # fmt: skip
T3RL = PAPER | {"beta": 0.0, "weight_decay": 0.01}
VLLM = {
    "use_vllm": True, "vllm_mode": "colocate", "vllm_tensor_parallel_size": 1, "vllm_enable_sleep_mode": True,
    "vllm_importance_sampling_correction": True, "vllm_gpu_memory_utilization": 0.5, "bf16": True,
    "gradient_checkpointing": True, "per_device_train_batch_size": 1,
}  # fmt: skip
# name, categories, tasks, reward, hint rate, prompts a step, response tokens, steps a turn
SYNTAX = ("syntax", BASE, 75, "syntax", 0.0, 16, 10_000, 5)
HINTS = ("hints", BASE, 100, "progress", 1.0, 32, 10_000, 5)
HARD = ("hard", ALL, 400, "progress", 1.0, 32, 24_576, 5)
INDEPENDENT = ("independent", ALL, 400, "progress", 0.0, 32, 24_576, 5)
FOUR = (SYNTAX, HINTS, HARD, INDEPENDENT)


def changed(row, **values):
    names = ("name", "categories", "tasks", "reward", "hint_rate", "prompts", "tokens", "turn")
    return tuple(values.get(name, value) for name, value in zip(names, row, strict=True))


PUBLISHED = {
    "qwen3-4b-t3rl": (QWEN3, T3RL | VLLM, 8, (
        ("base", BASE, 100, "progress", 0.0, 32, 10_000, 10), ("all", ALL, 400, "progress", 0.0, 32, 10_000, 10),
    )),
    "qwen2.5-7b-paper": (QWEN25, PAPER | VLLM, 8, FOUR),
    "llama3.1-8b-paper": (LLAMA, PAPER | VLLM, 8, FOUR),
    "single-stage": (QWEN25, PAPER | VLLM, 8, (changed(INDEPENDENT, name="single"),)),
    "no-hints": (QWEN25, PAPER | VLLM, 8, (
        SYNTAX, changed(HINTS, name="base", hint_rate=0.0), changed(HARD, hint_rate=0.0),
    )),
    "binary": (QWEN25, PAPER | VLLM, 8, (
        SYNTAX, *(changed(row, reward="binary") for row in (HINTS, HARD, INDEPENDENT)),
    )),
    "qwen3-4b-lora-1gpu": (QWEN3, T3RL | {
        "learning_rate": 1e-5, "optim": "paged_adamw_8bit", "use_vllm": False, "bf16": True,
        "gradient_checkpointing": True, "per_device_train_batch_size": 1,
    }, 1, (
        ("base", BASE, 100, "progress", 0.0, 8, 10_000, 10), ("all", ALL, 400, "progress", 0.0, 8, 10_000, 10),
    )),
}  # fmt: skip


def plan_of(name: str) -> Plan:
    run_dir, plan = training_plan(PARAMS / f"{name}.yaml")
    assert run_dir.name == name
    return plan


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_is_what_was_published(name, tmp_path):
    policy, settings, world, rows = PUBLISHED[name]
    plan = plan_of(name)
    assert plan.policy == policy
    assert (
        tuple(
            (
                s.name,
                s.categories,
                s.tasks,
                s.reward,
                s.hint_rate,
                s.prompts_per_step,
                s.episode_tokens,
                s.max_steps_per_turn,
            )
            for s in plan.stages
        )
        == rows
    )
    assert processes(plan.launch) == world
    for stage in plan.stages:
        config = grpo_config(stage, tmp_path, seed=0, machine=plan.machine, save_every=10, processes=world)
        expected = settings | {
            "max_steps": stage.steps,
            "gradient_accumulation_steps": stage.prompts_per_step * 16 // world,
        }
        assert {key: getattr(config, key) for key in expected} == expected
        assert stage.max_steps == (30 if "t3rl" in name or "lora" in name else None)
        assert stage.drop_zero_spread == ("qwen3" in name)
        assert stage.calls == ("native" if "qwen3" in name else "tagged")
        assert stage.lora_rank == (32 if "lora" in name else 0)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_launcher_is_fsdp_on_eight_gpus_or_none(name):
    plan = plan_of(name)
    if name == "qwen3-4b-lora-1gpu":
        assert plan.launch is None
        assert (plan.machine.nf4, plan.machine.optimizer, plan.machine.sampler) == (True, "paged_adamw_8bit", "cached")
        return
    assert plan.launch == "params/accelerate/fsdp2-8gpu.yaml"
    assert sharded(plan.launch)
    command = launch_command(config_file(plan.launch), Path("launch.json"))
    assert " ".join(command[1:]) == (
        f"-m accelerate.commands.launch --config_file {PARAMS / 'accelerate/fsdp2-8gpu.yaml'} --main_process_port 0 "
        "-m envtune.training.train launch.json"
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_no_two_stages_of_a_recipe_are_equal(name):
    stages = plan_of(name).stages
    assert len({replace(stage, name="", steps=1) for stage in stages}) == len(stages)


def test_hints_and_reward_change_where_the_paper_changes_them():
    stages = plan_of("qwen2.5-7b-paper").stages
    assert [stage.hint_rate for stage in stages] == [0.0, 1.0, 1.0, 0.0]
    assert [stage.reward for stage in stages] == ["syntax", "progress", "progress", "progress"]
    assert all(stage.plateau for stage in stages)
    ablated = plan_of("no-hints").stages
    assert not any(stage.hint_rate for stage in ablated)
    assert sum(stage.steps for stage in ablated) == sum(stage.steps for stage in stages)


def test_overlays_say_only_what_differs():
    for name in ("llama3.1-8b-paper", "single-stage", "no-hints", "binary"):
        own = [line for line in (PARAMS / f"{name}.yaml").read_text().splitlines() if line and not line.startswith("#")]
        assert own[0] == "extends: qwen2.5-7b-paper.yaml"
        assert len(own) == 3
        whole, base = load_params(PARAMS / f"{name}.yaml"), load_params(PARAMS / "qwen2.5-7b-paper.yaml")
        assert len({key for key in base if whole[key] != base[key]}) == 2


def test_long_episodes_fit_as_the_recipe_says():
    plan = plan_of("qwen3-4b-t3rl")
    model = cost.ARCHITECTURES[plan.policy]
    assert model.parameters == pytest.approx(4.02e9, rel=0.01)
    gb = [
        round(cost.memory(model, stage, plan.machine, 8, sharded=True)["update"] / 1e9)
        for stage in (plan.stages[1], replace(plan.stages[1], episode_tokens=24_576))
    ]
    assert gb == [18, 23]
    text = (PARAMS / "qwen3-4b-t3rl.yaml").read_text()
    assert "18 GB at 18,192 tokens" in text
    assert "23 GB at 32,768 tokens" in text
    lora = plan_of("qwen3-4b-lora-1gpu")
    fits = cost.memory(model, lora.stages[1], lora.machine)
    assert (round(fits["update"] / 1e9), round(fits["sampling"] / 1e9)) == (11, 14)
    roomy = cost.memory(model, lora.stages[1], replace(lora.machine, nf4=False, max_rows=16))
    assert round(roomy["sampling"] / 1e9) == 51


def own_stages(name: str, plan: Plan) -> tuple[Stage, ...]:
    """The stages that no other file's check plays: an overlay's new ones; one of another backbone."""
    if name == "llama3.1-8b-paper":
        return plan.stages[:1]
    if name not in ("single-stage", "no-hints", "binary"):
        return plan.stages
    played = {replace(stage, name="", steps=1, plateau=0) for stage in plan_of("qwen2.5-7b-paper").stages}
    new = [stage for stage in plan.stages if replace(stage, name="", steps=1, plateau=0) not in played]
    return tuple(new[-1:] or plan.stages[-1:])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PUBLISHED, "tiny", "qwen-tool-ppo"])
def test_every_recipe_passes_its_check(name):
    whole = plan_of(name)
    plan = replace(whole, stages=own_stages(name, whole))
    said: list[str] = []
    check(plan, echo=said.append)
    steps = [line for line in said if "one step with a random model" in line]
    assert len(steps) == len(plan.stages)
    assert said[-1] == f"all {len(plan.stages)} stages run"
    assert any("hours on paper" in line for line in said)
    told = [line for line in said if "budget" in line]
    if plan.policy == "tiny":
        assert len(told) == len(plan.stages) and all("model reads 4,096" in line for line in told)
    else:
        assert told == [
            f"not checked here: budgets of tokens, as the tokenizer of {plan.policy} is not on this computer"
        ]
    assert isinstance(plan.stages[0], PPOStage) == (name == "qwen-tool-ppo")


def test_an_unknown_policy_is_refused():
    plan = plan_of("qwen3-4b-t3rl")
    with pytest.raises(ValueError, match=r"the sizes of 'some/model' are not known\. Give a folder, or one of Qwen"):
        check(replace(plan, policy="some/model"))
