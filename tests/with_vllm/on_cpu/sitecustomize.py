"""What training with vLLM needs and a CPU lacks, replaced in processes that have this folder on their path.

Python imports this file when it starts, and vLLM calls `on_cpu` as its plugin. Only these three are replaced:

- Training asks for a GPU before it loads anything.
- vLLM has its sleep mode on GPUs only. On a CPU it ignores both calls, but refuses to start.
- On a CPU vLLM packs weights when it loads them, so that later ones cannot be handed over.
"""

from __future__ import annotations

from envtune.training import machine

machine._has_gpu = lambda: True


def on_cpu() -> None:
    """Let the engine start with sleep mode, and keep its weights as they are."""
    from torch.nn.functional import linear
    from vllm.model_executor.layers import utils
    from vllm.platforms.cpu import CpuPlatform

    def keep(layer, remove_weight: bool) -> None:
        layer.cpu_linear = linear

    CpuPlatform.is_sleep_mode_available = lambda self: True
    utils.dispatch_cpu_unquantized_gemm = keep
