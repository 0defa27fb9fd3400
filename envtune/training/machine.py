"""Settings that depend on where training runs and not on what is learned: backends, memory savers, trackers.

`Machine` is the mapping `machine` of a parameter file: a field here is a key there. It refuses settings that do not go
together, with the reason. `require` refuses what this computer cannot do. accelerate's configuration
(`params/accelerate/*.yaml`) says whether processes shard the weights. It reaches a process through its environment. The
reasons come from the code of TRL 1.16 and transformers 5.17.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envtune.extras import install_command
from envtune.training.curriculum import PPOStage, Stage

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState
    from peft import LoraConfig
    from transformers import PreTrainedModel

SAMPLERS = ("cached", "vllm")
OPTIMIZERS = ("adamw", "paged_adamw_8bit")
TRACKERS = ("trackio", "tensorboard")
LORA_ALPHA = 2
"""Scale of the adapter, in multiples of its rank."""


@dataclass(frozen=True)
class Machine:
    """Settings that depend on where training runs and not on what is learned."""

    micro_batch: int = 8
    """Rows in one forward and backward pass."""
    max_rows: int = 64
    """Episodes in flight at once."""
    sampler: str = "cached"
    """`cached`: `policy.generate` on the training weights. `vllm`: colocated, tensor parallel 1, asleep while weights
    are updated."""
    bf16: bool = False
    gradient_checkpointing: bool = False
    nf4: bool = False
    """The frozen base in 4 bits, under an adapter (`Stage.lora_rank`)."""
    optimizer: str = "adamw"
    """`adamw` or `paged_adamw_8bit`. The latter's states need a quarter and move to the CPU when memory runs out."""
    vllm_memory: float = 0.3
    """Share of the GPU that vLLM may fill with its weights and cache while it is awake."""
    keep_rollouts: int = 0
    """Write the episodes of every `keep_rollouts`-th step to `rollouts/`. 0: none."""
    report_to: tuple[str, ...] = ()
    """Trackers of transformers in addition to `metrics.jsonl`: `trackio`, `tensorboard`."""

    @property
    def free(self) -> tuple[str, ...]:
        """Fields that a resumed run may change, because they do not change what is learned."""
        return ("vllm_memory", "keep_rollouts", "report_to", *(("max_rows",) if self.sampler == "vllm" else ()))

    def __post_init__(self) -> None:
        if self.sampler == "vllm-server":
            raise ValueError(
                "sampler 'vllm-server': TRL 1.16 mixes up ragged multi-turn rollouts between processes in server mode; "
                "use 'vllm' (colocated)"
            )
        if self.sampler not in SAMPLERS:
            raise ValueError(f"unknown sampler {self.sampler!r}. Known: {', '.join(map(repr, SAMPLERS))}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"unknown optimizer {self.optimizer!r}. Known: {', '.join(map(repr, OPTIMIZERS))}")
        if self.micro_batch < 1 or self.max_rows < 1:
            raise ValueError(f"micro_batch is {self.micro_batch}, max_rows {self.max_rows}. Both must be at least 1")
        if self.keep_rollouts < 0 or not 0 < self.vllm_memory < 1:
            raise ValueError(
                f"keep_rollouts {self.keep_rollouts} must be at least 0, vllm_memory {self.vllm_memory} below 1"
            )
        if unknown := [name for name in self.report_to if name not in TRACKERS]:
            raise ValueError(f"unknown tracker {unknown[0]!r}. Known: {', '.join(map(repr, TRACKERS))}")
        if self.nf4 and self.sampler != "cached":
            raise ValueError(
                f"nf4 with sampler {self.sampler!r}: an adapter on a base of 4 bits cannot be merged into the weights "
                "that the engine wants. Use sampler 'cached'"
            )


def world() -> PartialState:
    """The processes that train together. On a machine without a GPU they communicate through gloo."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available())


def sharding() -> str:
    """How this process shards weights: `none`, `fsdp` or `zero`."""
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        return "fsdp"
    return "zero" if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true" else "none"


def launched() -> int:
    """How many processes were launched together with this one, itself included."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def accumulation(stage: Stage, machine: Machine, processes: int) -> int:
    """Micro-batches of each process whose gradients add up to one update.

    Raises:
        ValueError: the episodes of a step do not divide into micro-batches.
    """
    rows, at_once = stage.episodes, machine.micro_batch * processes
    if rows % at_once:
        raise ValueError(
            f"stage {stage.name}: {stage.prompts_per_step} prompts x {stage.num_generations} generations = {rows} rows "
            f"do not divide into micro-batches of {at_once} (rows x processes). Change micro_batch"
        )
    return rows // at_once


def fit(stage: Stage, machine: Machine, sharded: str) -> None:
    """Refuse settings that do not go together on any computer, when the weights are sharded as `sharded` says.

    Raises:
        ValueError: one line with the reason and the way out.
    """
    problems = [
        (machine.nf4 and not stage.lora_rank, "nf4: a base of 4 bits is not trained. Set lora_rank in `override`"),
        (
            machine.nf4 and sharded != "none",
            "nf4: a base of 4 bits is not sharded. Launch with params/accelerate/ddp-8gpu",
        ),
        (
            machine.sampler != "vllm" and sharded == "fsdp",
            f"sampler {machine.sampler!r} under FSDP: processes play episodes of different lengths, and processes that "
            "share weights would wait for each other forever. Use sampler 'vllm'",
        ),
        (
            isinstance(stage, PPOStage) and sharded != "none",
            "PPO does not shard its critic. Launch it as data-parallel",
        ),
        (
            isinstance(stage, PPOStage) and machine.sampler == "vllm",
            "PPO with sampler 'vllm': TRL 1.16 would hand the critic over as a part of the policy. Use 'cached'",
        ),
    ]
    _refuse(problems)


def require(stage: Stage, machine: Machine) -> None:
    """Refuse what this computer, or the way this process was launched, cannot do for a stage.

    Raises:
        ValueError: one line with the reason and the way out.
    """
    sharded = sharding()
    fit(stage, machine, sharded)
    problems = [
        (machine.sampler == "vllm" and not _has_gpu(), "sampler 'vllm' needs an NVIDIA GPU. Without one use 'cached'"),
        *(
            (wanted and find_spec(package) is None, f"{name} needs the package {package}: {install_command(package)}")
            for wanted, name, package in (
                (machine.nf4, "nf4", "bitsandbytes"),
                (machine.optimizer != "adamw", machine.optimizer, "bitsandbytes"),
                (machine.sampler == "vllm", "sampler 'vllm'", "vllm"),
                ("tensorboard" in machine.report_to, "tensorboard", "tensorboard"),
                (sharded == "zero", "ZeRO-3", "deepspeed"),
            )
        ),
    ]
    _refuse(problems)


def _has_gpu() -> bool:
    import torch  # slow, and most machines need not be asked

    return torch.cuda.is_available()


def cuda() -> tuple[str | None, bool]:
    """The version of CUDA that torch is built for (None: built without), and whether it can use a GPU here."""
    import torch

    return torch.version.cuda, torch.cuda.is_available()


def _refuse(problems: Sequence[tuple[bool, str]]) -> None:
    if found := [text for wrong, text in problems if wrong]:
        raise ValueError(found[0])


def lora(stage: Stage) -> LoraConfig | None:
    """The adapter on all linear layers, or None where all weights are trained."""
    from peft import LoraConfig

    if not stage.lora_rank:
        return None
    rank = stage.lora_rank
    return LoraConfig(r=rank, lora_alpha=LORA_ALPHA * rank, target_modules="all-linear", task_type="CAUSAL_LM")


def load_model(folder: str, stage: Stage, machine: Machine) -> PreTrainedModel:
    """The policy that enters a stage.

    Weights in training are float32, whatever autocast computes in. A base frozen under an adapter is bfloat16 if the
    machine computes in it, or NF4 (double quantisation, as in QLoRA).
    """
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    frozen = bool(stage.lora_rank)
    how: dict[str, Any] = {"dtype": "bfloat16" if frozen and machine.bf16 else "float32"}
    if machine.nf4:
        how["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        how["device_map"] = {"": int(os.environ.get("LOCAL_RANK", "0")) if torch.cuda.is_available() else "cpu"}
    kind: Any = AutoModelForCausalLM
    model, found = kind.from_pretrained(folder, output_loading_info=True, **how)
    if missing := sorted(found["missing_keys"]):  # they would be random
        raise ValueError(f"the weights in {folder} lack {len(missing)} parameters, such as {missing[0]}")
    if machine.nf4 and not torch.cuda.is_available():
        # With AVX512-BF16 the first pass in eval mode would repack these layers for a kernel without gradients.
        layers: Any = model.modules()
        for layer in layers:
            if hasattr(layer, "support_avx512bf16_for_cpu"):
                layer.support_avx512bf16_for_cpu = False
    return model


def save_merged(folder: Path, base: str, config: LoraConfig, adapter: dict[str, torch.Tensor], tokenizer: Any) -> None:
    """Write the policy that an adapter makes of its base: a whole model, merged in float32 on the CPU.

    Args:
        folder: where to write.
        base: the folder or hub name that the base was loaded from, never in 4 bits.
        config: of the adapter.
        adapter: its weights by name, as in the trained model's state.
        tokenizer: saved with it.
    """
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype="float32"), config)
    unknown = model.load_state_dict({name: value.cpu().float() for name, value in adapter.items()}, strict=False)
    if unknown.unexpected_keys:
        raise ValueError(f"the adapter has weights that {base} lacks: {unknown.unexpected_keys[0]}")
    model.merge_and_unload().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
