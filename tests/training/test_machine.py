"""What a machine may be told: each saver trains on a CPU where its library can, and is refused where it cannot."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import small
import torch
from safetensors.torch import load_file, save_file

from envtune.policy.checkpoint import load_checkpoint
from envtune.rewards import REWARDS
from envtune.training import machine as machines
from envtune.training.curriculum import PPOStage, Stage
from envtune.training.fields import record
from envtune.training.grpo import Trainer, grpo_config
from envtune.training.machine import Machine, load_model, lora, require
from envtune.training.plan import Plan, Schedule
from envtune.training.recipes import recipe
from envtune.training.rollout import Clock
from envtune.training.train import train

REWARDS["esses"] = lambda episode: sum(step.text.count("s") for step in episode.steps) % 3
STAGE = Stage(
    "s", "esses", steps=2, message_tokens=8, episode_tokens=40, num_generations=4, prompts_per_step=2,
    max_steps_per_turn=3, learning_rate=1e-2, beta=0.05,
)  # fmt: skip
LORA = replace(STAGE, lora_rank=4)
TASKS = [small.task(i) for i in range(3)]
BASE = Machine(micro_batch=4)
OFTEN = Schedule(validate_every=1, save_every=1)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    small.model(hidden=64).save_pretrained(folder)
    small.tokenizer().save_pretrained(folder)
    return folder


def run(policy, out, stage, machine, **options):
    tasks = {stage.name: TASKS, "val": TASKS[:2]}
    result = train(
        Plan((stage,), str(policy), machine=machine, schedule=OFTEN), out, tasks=tasks, progress=False, **options
    )
    lines = [line for line in result.lines() if line["step"]]
    assert len(lines) == stage.steps
    assert all(math.isfinite(line["loss"]) and math.isfinite(line["grad_norm"]) for line in lines)
    before, after = (load_checkpoint(str(folder))[0].state_dict() for folder in (policy, result.policy))
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved, "nothing was learned"
    return result, moved


def numbers(result):
    return [{k: v for k, v in line.items() if not k.startswith("seconds/")} for line in result.lines()]


@pytest.mark.xdist_group("machine")
def test_an_adapter_learns_and_leaves_a_whole_model(policy, tmp_path):
    result, moved = run(policy, tmp_path / "a", LORA, BASE)
    assert all("proj" in name for name in moved), "an adapter on the linear layers moves nothing else"
    assert not list(result.policy.glob("*adapter*"))
    assert result.lines()[1]["kl"] == pytest.approx(0, abs=1e-5)
    assert result.lines()[2]["kl"] > 0


def test_weights_that_lack_a_parameter_are_not_trained(policy, tmp_path):
    """They would be filled at random."""
    copy = shutil.copytree(policy, tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 parameters, such as model\.norm\.weight"):
        load_model(str(copy), STAGE, BASE)


@pytest.mark.xdist_group("machine")
def test_a_killed_adapter_goes_on_bit_for_bit(policy, tmp_path):
    stage = replace(LORA, steps=3)
    whole, _ = run(policy, tmp_path / "whole", stage, BASE)

    def kill(line):
        if line["step"] == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(policy, tmp_path / "killed", stage, BASE, on_step=kill)
    resumed, _ = run(policy, tmp_path / "killed", stage, BASE)
    assert numbers(resumed) == numbers(whole)


@pytest.mark.xdist_group("machine")
def test_checkpointing_changes_memory_and_not_the_numbers(policy, tmp_path):
    plain, _ = run(policy, tmp_path / "a", STAGE, BASE)
    saving, _ = run(policy, tmp_path / "b", STAGE, replace(BASE, gradient_checkpointing=True))
    for mine, theirs in zip(numbers(plain), numbers(saving), strict=True):
        assert mine.keys() == theirs.keys()
        for key, value in mine.items():
            assert theirs[key] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-3, abs=1e-5)), key


@pytest.mark.xdist_group("machine")
def test_eight_bit_adam(policy, tmp_path):
    pytest.importorskip("bitsandbytes")
    _, moved = run(policy, tmp_path, STAGE, replace(BASE, optimizer="paged_adamw_8bit"))
    assert any("norm" in name for name in moved)


@pytest.mark.xdist_group("machine")
def test_a_base_in_four_bits_under_an_adapter(policy, tmp_path):
    pytest.importorskip("bitsandbytes")
    machine = replace(BASE, nf4=True, optimizer="paged_adamw_8bit", gradient_checkpointing=True, bf16=True)
    loaded = load_model(str(policy), LORA, machine)
    kinds = {type(module).__name__ for name, module in loaded.named_modules() if name.endswith("_proj")}
    assert kinds == {"Linear4bit"}
    _, moved = run(policy, tmp_path, LORA, machine)
    assert all("proj" in name for name in moved)


def test_an_adapter_on_four_bits_learns_in_full_precision(policy, tmp_path):
    """At 1e-5, most steps of a number in bfloat16 would round to nothing."""
    pytest.importorskip("bitsandbytes")
    machine = replace(BASE, nf4=True)
    config = grpo_config(LORA, tmp_path, seed=0, machine=machine, save_every=100)
    model = load_model(str(policy), LORA, machine)
    trainer = Trainer(model, small.tokenizer(), LORA, TASKS, config, machine, lambda line: line)
    learning = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    assert learning
    assert {weight.dtype for weight in learning} == {torch.float32}


@pytest.mark.xdist_group("machine")
def test_gradients_reach_the_first_layer_through_four_bits_after_sampling(policy):
    pytest.importorskip("bitsandbytes")
    from peft import get_peft_model

    model = get_peft_model(load_model(str(policy), LORA, replace(BASE, nf4=True)), lora(LORA))
    tokens = torch.arange(4, 20)[None]

    def reached() -> set[str]:
        model.train()
        model(input_ids=tokens, labels=tokens).loss.backward()
        found = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
        model.zero_grad()
        return found

    before = reached()
    with torch.no_grad():
        model.eval()(input_ids=tokens)
    assert any("layers.0" in name for name in before)
    assert reached() == before


@pytest.mark.xdist_group("machine")
def test_tensorboard_takes_the_same_numbers(policy, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(policy, tmp_path, STAGE, replace(BASE, report_to=("tensorboard",)))
    (file,) = tmp_path.rglob("events.out.tfevents.*")
    events = EventAccumulator(str(file.parent)).Reload()
    assert {"train/reward", "train/progress", "train/grad_norm"} <= set(events.Tags()["scalars"])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"sampler": "vllm-server"}, "mixes up ragged multi-turn rollouts"),
        ({"sampler": "vllm", "nf4": True}, "cannot be merged"),
        ({"optimizer": "sgd"}, "unknown optimizer 'sgd'. Known: 'adamw', 'paged_adamw_8bit'"),
        ({"report_to": "wandb"}, "unknown tracker 'wandb'. Known: 'trackio', 'tensorboard'"),
        ({"max_row": 3}, "a machine has no field 'max_row': did you mean 'max_rows'"),
        ({"lanes": 3}, "a machine has no field 'lanes': it has micro_batch, max_rows"),
        ({"max_rows": "many"}, "max_rows of a machine is 'many', expected int"),
        ({"max_rows": True}, "max_rows of a machine is True, expected int"),
        ({"vllm_memory": 1.5}, "vllm_memory 1.5"),
    ],
)
def test_what_does_not_go_together_is_refused(values, says):
    with pytest.raises(ValueError, match=says):
        record(Machine, values, "a machine")


def test_trackers_are_text_or_a_list_in_a_file():
    for value in ("trackio, tensorboard", ["trackio", "tensorboard"]):
        assert record(Machine, {"report_to": value}, "a machine").report_to == ("trackio", "tensorboard")


PPO = recipe("laptop-ppo").stages[0]
assert isinstance(PPO, PPOStage)


@pytest.mark.parametrize(
    ("stage", "values", "shared", "says"),
    [
        (STAGE, {"nf4": True}, "none", "a base of 4 bits is not trained. Set lora_rank"),
        (LORA, {"nf4": True}, "fsdp", "a base of 4 bits is not sharded"),
        (STAGE, {"sampler": "cached"}, "fsdp", "would wait for each other forever. Use sampler 'vllm'"),
        (PPO, {}, "zero", "PPO does not shard its critic"),
        (STAGE, {}, "zero", r"ZeRO-3 needs the package deepspeed: pip install 'envtune\[zero\]'"),
        (STAGE, {"sampler": "vllm"}, "none", "sampler 'vllm' needs an NVIDIA GPU"),
    ],
)
def test_what_this_computer_or_launch_cannot_do_is_refused(monkeypatch, stage, values, shared, says):
    monkeypatch.setattr(machines, "sharding", lambda: shared)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=says):
        require(stage, Machine(**values))


def test_accelerate_says_what_is_shared(monkeypatch):
    assert machines.sharding() == "none"
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert machines.sharding() == "fsdp"


def test_vllm_stays_awake_from_the_first_message_to_the_last(tmp_path):
    """What is asked of the engine, which cannot run here: one transfer of weights per step, greedy in validation."""
    asked: list[str] = []

    def generate(prompts):
        assert not engine.enable_sleep_mode, "it would throw its cache and weights away after this message"
        asked.append(f"generate at {engine.temperature:g}")
        return [[5, end]] * len(prompts), [[-1.0, -1.0]] * len(prompts)

    config = grpo_config(STAGE, tmp_path, seed=0, machine=BASE, save_every=100)
    folder = tmp_path / "base"
    small.model().save_pretrained(folder)
    model = small.model()
    model.config._name_or_path = str(folder)
    trainer = Trainer(model, small.tokenizer(), STAGE, TASKS, config, BASE, lambda line: line)
    end = small.tokenizer().eos_token_id
    engine = SimpleNamespace(
        temperature=1.0,
        enable_sleep_mode=True,
        _llm_weights_sleeping=True,
        sync_weights=lambda: asked.append("weights"),
        llm=SimpleNamespace(
            wake_up=lambda tags: asked.append(f"wake {tags[0]}"), sleep=lambda level: asked.append(f"sleep {level}")
        ),
    )
    trainer.use_vllm, trainer.machine, trainer.vllm_generation = True, replace(BASE, sampler="vllm"), engine
    trainer._generate_single_turn = lambda prompts, *_: generate(prompts)  # type: ignore[method-assign]
    trainer.validate(TASKS[:1])
    assert asked == ["weights", "wake kv_cache", "generate at 0", "generate at 0", "sleep 2"]
    assert (engine.temperature, engine.enable_sleep_mode, engine._llm_weights_sleeping) == (1.0, True, True)
    asked.clear()
    engine._llm_weights_sleeping = False  # as TRL leaves it when it begins a step
    trainer.sample(TASKS[:1], Clock())
    assert asked == ["wake kv_cache", "generate at 1", "generate at 1", "sleep 2"]
