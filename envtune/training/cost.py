"""The calculated cost of a stage: memory of a GPU by part, arithmetic and seconds of a step.

In: the sizes of a model, a stage, a machine, the processes. Out: bytes, floating-point operations, seconds. N is the
number of all parameters, T of those in training, L of tokens in the longest sequence, W of processes, of which S share
the weights (S = W if they are sharded, else 1).

    weights      4 T/S bytes (float32), frozen ones 2 (bfloat16) or 0.52 (NF4 with its constants; embeddings 2)
    gradients    4 T/S           Adam  8 T/S, in 8 bits 2 T/S
    reference    4 N/S, if there is a KL term and no adapter
    cast         2 N for the weights' bfloat16 copies under autocast, or two layers and the head if sharded
    activations  b per number (2 in bfloat16, else 4), B rows: checkpointed B L b hidden (layers + 1) and one layer's
                 insides, B L b (8 hidden + 4 heads d + 4 kv d + 4 mlp); without checkpoints that of every layer
    logits       8 C_t C_v: probabilities and their gradient for a tile of tokens and words (TRL never makes all of
                 them), and 4 V hidden for the gradient of the head, if that is in training
    cache        2 layers kv d b per token, of all episodes in flight (sampler `cached`), or the share given to vLLM

    forward      2 N + 2 layers heads d L operations per token (causal attention reads half of L on average)
    update       3 forwards, 2 with an adapter (frozen weights need no gradient), one more with checkpoints;
                 reference and importance correction one forward each

`envtune bench step` measures the real cost. The formulas leave out fragmentation (add a tenth).
"""

from __future__ import annotations

from dataclasses import dataclass

from envtune.training.curriculum import PPOStage, Stage
from envtune.training.grpo import PROMPT_TOKENS
from envtune.training.machine import Machine

NF4_BYTES = 0.52
TILE = 4096 * 32_768
"""Most logits that exist at once, tokens times words (`trl/kernels/chunked_logprob.py`)."""
EFFICIENCY = 0.35
"""Share of the peak arithmetic that an update reaches: our assumption, until `envtune bench step` has measured it."""
DECODING = 0.5
"""Share of the memory's bandwidth that sampling reaches: our assumption."""
FILL = 0.4
"""Share of `episode_tokens` that an episode takes on average, half of it sampled: our assumption."""


@dataclass(frozen=True)
class Architecture:
    """Sizes of a causal language model, and the name of its chat template in TRL."""

    family: str
    """`qwen3`, `qwen2` or `llama`."""
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocabulary: int
    tied: bool
    """Whether the head is the embedding."""
    context: int
    """Tokens that the model reads."""
    template: str

    @property
    def linear(self) -> int:
        """Weights of the linear layers inside the blocks, without biases and norms."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.mlp)

    @property
    def embeddings(self) -> int:
        """Weights of embedding and head."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """N."""
        return self.linear + self.embeddings

    def adapter(self, rank: int) -> int:
        """Weights of a LoRA adapter on all linear layers."""
        d = self.head_dim
        ends = [
            (self.hidden, self.heads * d),
            (self.hidden, self.kv_heads * d),
            (self.hidden, self.kv_heads * d),
            (self.heads * d, self.hidden),
            (self.hidden, self.mlp),
            (self.hidden, self.mlp),
            (self.mlp, self.hidden),
        ]
        return self.layers * rank * sum(a + b for a, b in ends)

    def cache(self, element: int) -> int:
        """Bytes of keys and values per token."""
        return 2 * self.layers * self.kv_heads * self.head_dim * element

    def forward(self, length: float) -> float:
        """Floating-point operations per token of sequences of `length` tokens."""
        return 2 * self.parameters + 2 * self.layers * self.heads * self.head_dim * length


ARCHITECTURES = {
    "Qwen/Qwen3-4B-Instruct-2507": Architecture(
        "qwen3", 36, 2560, 32, 8, 128, 9728, 151_936, True, 262_144, "qwen3_instruct_2507.jinja"
    ),
    "Qwen/Qwen2.5-7B-Instruct": Architecture(
        "qwen2", 28, 3584, 28, 4, 128, 18_944, 152_064, False, 32_768, "qwen2_5.jinja"
    ),
    "meta-llama/Llama-3.1-8B-Instruct": Architecture(
        "llama", 32, 4096, 32, 8, 128, 14_336, 128_256, False, 131_072, "llama3_1.jinja"
    ),
}
"""As in the models' own configurations."""


def architecture(policy: str) -> Architecture | None:
    """Sizes of a policy, from the configuration in its folder, or for a hub name in `ARCHITECTURES`."""
    from transformers import AutoConfig

    from envtune.policy.checkpoint import TINY, folder_of, local_folder

    if policy != TINY and not local_folder(policy):
        return ARCHITECTURES.get(policy)
    folder = folder_of(policy)
    config = AutoConfig.from_pretrained(folder)
    heads = config.num_attention_heads
    return Architecture(
        config.model_type,
        config.num_hidden_layers,
        config.hidden_size,
        heads,
        config.num_key_value_heads,
        getattr(config, "head_dim", None) or config.hidden_size // heads,
        config.intermediate_size,
        config.vocab_size,
        bool(config.tie_word_embeddings),
        config.max_position_embeddings,
        str(folder),
    )


@dataclass(frozen=True)
class Device:
    """Speed and memory of a GPU, from its data sheet."""

    name: str
    memory: float
    """Bytes."""
    arithmetic: float
    """bfloat16 operations per second, dense."""
    bandwidth: float
    """Bytes per second."""


DEVICES = {
    "H200": Device("H200", 141e9, 989e12, 4.8e12),
    "H100": Device("H100", 80e9, 989e12, 3.35e12),
    "A100": Device("A100", 80e9, 312e12, 2.0e12),
    "RTX 4090": Device("RTX 4090", 24e9, 165e12, 1.0e12),
}


def memory(
    model: Architecture, stage: Stage, machine: Machine, processes: int = 1, sharded: bool = False
) -> dict[str, float]:
    """Bytes per GPU by part, at the longest sequence. `sampling` and `update` are the totals of these two phases."""
    shared = processes if sharded else 1
    training = model.adapter(stage.lora_rank) if stage.lora_rank else model.parameters
    length, element = PROMPT_TOKENS + stage.episode_tokens, 2 if machine.bf16 else 4
    rows = machine.micro_batch
    if stage.lora_rank:
        frozen = NF4_BYTES * model.linear + 2 * model.embeddings if machine.nf4 else element * model.parameters
    else:
        frozen = 0.0
    inside = 8 * model.hidden + 4 * model.head_dim * (model.heads + model.kv_heads) + 4 * model.mlp
    layer = rows * length * element * inside
    checkpoints = rows * length * element * model.hidden * (model.layers + 1)
    layers = checkpoints + layer if machine.gradient_checkpointing else model.layers * layer
    if sharded:
        cast = 2.0 * (2 * model.linear / model.layers + model.vocabulary * model.hidden)
    else:
        cast = 2.0 * training if machine.bf16 else 0.0
    parts = {
        "weights": 4 * training / shared + frozen,
        "gradients": 4 * training / shared,
        "adam": (8 if machine.optimizer == "adamw" else 2) * training / shared,
        "reference": 4 * model.parameters / shared if stage.beta and not stage.lora_rank else 0.0,
        "cast": cast,
        "activations": float(layers),
        "logits": 8.0 * TILE + (0 if stage.lora_rank else 4 * model.vocabulary * model.hidden),
    }
    resident = parts["weights"] + parts["adam"] + parts["reference"]
    update = sum(parts.values())
    cache = 0.0 if machine.sampler == "vllm" else float(machine.max_rows * length * model.cache(element))
    return {**parts, "cache": cache, "sampling": resident + cast + cache, "update": update}


def passes(stage: Stage, machine: Machine) -> int:
    """Forward passes per learned token: for the updates, the reference, and the ratios of vLLM or PPO."""
    update = (2 if stage.lora_rank else 3) + machine.gradient_checkpointing
    before = machine.sampler == "vllm" or isinstance(stage, PPOStage)
    return update * stage.updates + bool(stage.beta) + before


def step_operations(model: Architecture, stage: Stage, machine: Machine, length: float) -> float:
    """Arithmetic of a step without sampling."""
    tokens = stage.episodes * length
    return tokens * passes(stage, machine) * model.forward(length)


def step_seconds(
    model: Architecture, stage: Stage, machine: Machine, device: Device, processes: int = 1, prompt: float = 6000
) -> dict[str, float]:
    """Seconds of a step by phase, for a typical prompt of `prompt` tokens and a share `FILL` of the episode's tokens.

    Sampling is bound by the memory: for each token in turn, the weights and the cache of all rows are read once. An
    engine uses `vllm_memory` of the device, less the weights, as cache. `cached` plays `max_rows` rows.
    """
    length = prompt + FILL * stage.episode_tokens
    rows = stage.episodes / processes
    weights, cached = 2.0 * model.parameters, length * model.cache(2)
    room = (machine.vllm_memory * device.memory - weights) / cached if machine.sampler == "vllm" else machine.max_rows
    together = max(1.0, min(rows, room))
    sampled = FILL * stage.episode_tokens / 2
    reads = sampled * rows / together * (weights + together * cached * 0.75) / (DECODING * device.bandwidth)
    prefill = rows * length * model.forward(length) / (EFFICIENCY * device.arithmetic)
    update = step_operations(model, stage, machine, length) / processes / (EFFICIENCY * device.arithmetic)
    return {"sampling": reads + prefill, "update": update}
