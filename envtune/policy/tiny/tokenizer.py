"""The tiny policy's tokenizer: a given list of words, and single bytes for all else.

In: the words. Out: a fast tokenizer of transformers. A text is cut into the longest words that match, from left to
right. What no word covers becomes bytes, so decode(encode(x)) == x for every text x. No word holds two digits, so
numbers are read and written digit by digit. Ids depend on the words alone, not on their order.

It is built from bytes and `AddedToken`s, which the library matches by an Aho-Corasick automaton (leftmost-longest), in
one pass over the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from envtune.policy.tiny import TEMPLATE
from envtune.types import JSON

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TAGS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
ROLES = ("system\n", "user\n", "assistant\n")
"""Words after `<|im_start|>`."""
GLUE = (
    '\n{"name": "', '", "arguments": {"', '", "arguments": {}}\n', '": "', '": ', '": ["', '", "', ', "', '"}}\n',
    '}}\n', '"]}}\n', '"]', '{"', '"}', '": {"', '"}]', '[{"', '{"error": "', '", "hint": "', '": true', '": false',
    "?: ", ": ", ", ", ")\n", "()\n", " '", "' ", "\n",
)  # fmt: skip
"""Punctuation between the words of calls, results and signatures."""
CONTEXT = 4096
RESPONSE: JSON = {
    "defaults": {"role": "assistant", "content": ""},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "tool_calls": {
            "open_pattern": r"\s*<tool_call>",
            "close": "</tool_call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close_pattern": r"\s*<\|im_end\|>", "content": "text"},
    },
}
"""How the library reads a reply back into OpenAI's `content` and `tool_calls`, for its pipeline, its server and TRL."""


def make_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerBase:
    """A tokenizer that knows `words`.

    Raises:
        ValueError: a word is empty or holds two digits in a row.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = sorted({*TAGS, *ROLES, *GLUE, *words})
    if odd := [word for word in words if not word or re.search(r"\d\d", word)]:
        raise ValueError(f"{odd[0]!r} cannot be a word of the tokenizer: empty, or two digits in a row")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_only = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytes_only.decoder = decoders.ByteLevel()
    bytes_only.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    longer = [word for word in words if word not in alphabet]
    bytes_only.add_tokens([AddedToken(word, special=False, normalized=False) for word in longer])
    return PreTrainedTokenizerFast(
        tokenizer_object=bytes_only,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=TEMPLATE.read_text(),
        response_template=RESPONSE,
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
    )
