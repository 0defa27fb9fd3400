"""A small model of a real architecture with random weights, for tests, benchmarks and dry runs.

In: nothing, or texts to learn a vocabulary from. Out: a Qwen3 (or Qwen2, or Llama) and a byte-level tokenizer with the
special tokens of its family and a chat template as TRL ships it, by default that of Qwen3-Instruct-2507. The model is
untrained. The tiny policy of the package is another one.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TEMPLATE = "qwen3_instruct_2507.jinja"
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LLAMA_SPECIAL = (
    "<|finetune_right_pad_id|>",
    "<|begin_of_text|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
)
TAGS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
_CORPUS = (
    '{"type": "function", "function": {"name": "ls", "description": "List the files.", "parameters": {"type": "object"',
    '<tool_call>\n{"name": "ls", "arguments": {}}\n</tool_call>',
    "user\n assistant\n system\n the file was not found; please give the name of the directory and try again",
)


def miniature_tokenizer(
    texts: Iterable[str] = (), vocab_size: int = 560, template: str = TEMPLATE
) -> PreTrainedTokenizerBase:
    """A small Qwen-style tokenizer.

    Args:
        texts: what the vocabulary is learned from, in addition to a few built-in lines.
        vocab_size: most ids, of which at least 265 are bytes and special tokens.
        template: file name of one of TRL's chat templates.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    llama = template.startswith("llama")
    special = LLAMA_SPECIAL if llama else SPECIAL
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(TAGS),
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([*_CORPUS, *texts], trainer)
    bpe.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|begin_of_text|>" if llama else None,
        eos_token="<|eot_id|>" if llama else "<|im_end|>",
        pad_token=special[0],
        additional_special_tokens=list(special[3:] if llama else special[1:2]),
        padding_side="left",
    )
    tokenizer.chat_template = files("trl").joinpath("chat_templates", template).read_text()
    return tokenizer


def miniature_model(
    tokenizer: PreTrainedTokenizerBase,
    *,
    hidden: int = 32,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    context: int = 4096,
    seed: int = 0,
    family: str = "qwen3",
    tied: bool = True,
) -> PreTrainedModel:
    """A model with random weights. `hidden=128, layers=4, kv_heads=4` has about a million parameters.

    Args:
        family: `qwen3`, `qwen2` or `llama`, as `model_type` in a configuration.
        tied: whether the head is the embedding.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        family,
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        **({} if family == "qwen2" else {"head_dim": hidden // heads}),
        max_position_embeddings=context,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).eval()
    torch.random.set_rng_state(state)
    return model
