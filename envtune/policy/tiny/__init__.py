"""The tiny policy: a Qwen3 of about a million parameters with its own tokenizer and chat template, shipped here.

`envtune.load_policy("tiny")` loads it, `envtune tiny build` builds it again (`cold_start`). `weights/card.json` says
how it was made and what it can do.
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""The shipped checkpoint, a folder as transformers writes it, and `card.json`."""
TEMPLATE = Path(__file__).parent / "chat_template.jinja"
