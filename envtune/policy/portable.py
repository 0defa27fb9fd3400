"""Saved policies that transformers 4.57 reads as transformers 5 does.

transformers 5 writes two files in a form of its own. Version 4 refuses that of the tokenizer. In that of the model, it
silently ignores the base of the rotary embedding, so every reply differs. Both versions read the older form, so a saved
policy holds that as well.
"""

from __future__ import annotations

import json
from pathlib import Path

from envtune.types import JSON

OLDEST = "4.57"
"""The oldest version of transformers that reads the shipped policy and gives the same replies (run with 4.57.6)."""


def make_portable(folder: Path) -> None:
    """Rewrite `config.json` and `tokenizer_config.json` in a folder that transformers 5 wrote."""
    for name, change in (("config.json", _older_model), ("tokenizer_config.json", _older_tokenizer)):
        path = folder / name
        settings = json.loads(path.read_text(encoding="utf-8"))
        change(settings)
        path.write_text(json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _older_model(config: JSON) -> None:
    """Version 4 has separate keys for what version 5 collects in `rope_parameters`."""
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict) or "rope_theta" not in rope:  # none, or a record for each kind of layer
        return
    alone = {key: rope[key] for key in ("rope_theta", "partial_rotary_factor") if key in rope}
    config |= alone
    if rope.get("rope_type", "default") != "default":
        config["rope_scaling"] = {key: value for key, value in rope.items() if key not in alone}


def _older_tokenizer(config: JSON) -> None:
    """Version 4 knows neither the class's new name nor the new key of further special tokens."""
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
