"""A PEFT adapter is a policy: its base with the adapter merged in, and one line for whatever is wrong with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import small
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file

from envtune.policy import checkpoint, load_policy
from envtune.policy.base import Chat
from envtune.policy.checkpoint import CheckpointError, fingerprint, load_checkpoint


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, an adapter on it that changes much, and the model that both make."""
    root = tmp_path_factory.mktemp("made")
    small.model().save_pretrained(root / "base")
    small.tokenizer().save_pretrained(root / "base")
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    model = get_peft_model(load_checkpoint(str(root / "base"))[0], config)
    model.save_pretrained(root / "adapter")
    model.merge_and_unload().save_pretrained(root / "merged")
    small.tokenizer().save_pretrained(root / "merged")
    return root


@pytest.fixture
def adapter(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "adapter", tmp_path / "adapter")


def change(adapter: Path, **settings: object) -> Path:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return adapter


def refused(adapter: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as found:
        load_policy(adapter)
    assert "\n" not in str(found.value)


def test_it_is_its_base_with_the_adapter_merged_in(made: Path) -> None:
    states = {name: load_checkpoint(str(made / name))[0].state_dict() for name in ("base", "adapter", "merged")}
    assert states["adapter"].keys() == states["merged"].keys()
    for name, value in states["adapter"].items():
        torch.testing.assert_close(value, states["merged"][name])
    assert any(not torch.equal(value, states["base"][name]) for name, value in states["adapter"].items())


def test_it_answers_as_the_merged_model_does(made: Path) -> None:
    task = small.task()
    replies = {}
    for name in ("base", "adapter", "merged"):
        chat = Chat(task, [{"role": "user", "content": task.user_turns[0]}], task.tools)
        policy = load_policy(made / name)
        policy._message_tokens = 12
        replies[name] = policy.reply([chat])
    assert replies["adapter"] == replies["merged"] != replies["base"]


def test_its_identity_is_its_weights_and_its_bases(made: Path, adapter: Path) -> None:
    policy = load_policy(adapter)
    assert policy.name == "adapter"
    assert (policy.settings["checkpoint"], policy.settings["base"]) == ("adapter", "base")
    assert policy.settings["sha256"] == fingerprint(made / "adapter") != fingerprint(made / "base")
    moved = shutil.copytree(made / "base", adapter.parent / "elsewhere")
    assert fingerprint(change(adapter, base_model_name_or_path=str(moved))) == policy.settings["sha256"]
    assert fingerprint(change(adapter, lora_alpha=8)) != policy.settings["sha256"]


def test_its_own_tokenizer_comes_first(adapter: Path) -> None:
    small.tokenizer().save_pretrained(adapter)
    assert load_checkpoint(str(adapter))[1].name_or_path == str(adapter)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_damaged_file_is_named(adapter: Path, name: str) -> None:
    whole = (adapter / name).read_bytes()
    (adapter / name).write_bytes(whole[: len(whole) // 2])
    refused(adapter, f"{name} is damaged")


def test_missing_weights_are_named(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    refused(adapter, r"adapter_model\.safetensors is missing")


def test_its_base_must_be_there(made: Path, adapter: Path) -> None:
    way_out = r"Correct base_model_name_or_path in adapter_config\.json"
    refused(change(adapter, base_model_name_or_path="./gone"), rf"there is no checkpoint '\./gone'.*{way_out}")
    refused(change(adapter, base_model_name_or_path=None), r"adapter_config\.json names no base model\. Set")
    base = shutil.copytree(made / "base", adapter.parent / "broken")
    change(adapter, base_model_name_or_path=str(base))
    (base / "model.safetensors").unlink()
    refused(adapter, rf"broken/model\.safetensors is missing.*{way_out}")


def test_a_base_on_the_hub_is_downloaded_at_its_revision(
    made: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(spec: str, revision: str | None, **_: object) -> Path:
        asked.append((spec, revision))
        return made / "base"

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    policy = load_policy(change(adapter, base_model_name_or_path="owner/model", revision="v1"))
    assert asked == [("owner/model", "v1")]
    assert policy.settings["base"] == "owner/model"


def test_a_quantised_base_is_refused(made: Path, adapter: Path) -> None:
    base = shutil.copytree(made / "base", adapter.parent / "small")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"quantization_config": {"load_in_4bit": True}}))
    refused(change(adapter, base_model_name_or_path=str(base)), "is quantised, and an adapter is merged in full prec")


def test_an_adapter_of_another_model_is_refused(adapter: Path) -> None:
    other = adapter.parent / "other"
    small.model(hidden=64).save_pretrained(other)
    small.tokenizer().save_pretrained(other)
    refused(change(adapter, base_model_name_or_path=str(other)), "does not fit its base model")


def test_weights_that_are_missing_or_too_many_are_refused(adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    weights = load_file(path)
    first = sorted(weights)[0]
    save_file({name: value for name, value in weights.items() if name != first}, path)
    refused(adapter, "lacks 1 parameters, such as")
    save_file(weights | {first.replace("layers.0", "layers.9"): weights[first].clone()}, path)
    refused(adapter, "has, unlike its base, 1 parameters, such as")


def test_what_cannot_be_merged_is_refused(made: Path, tmp_path: Path) -> None:
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    get_peft_model(load_checkpoint(str(made / "base"))[0], config).save_pretrained(tmp_path / "prompt")
    refused(tmp_path / "prompt", "is of type PROMPT_TUNING, which cannot be merged. Use a LoRA adapter")


def test_a_gpu_computes_in_bfloat16(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert checkpoint.placement() == ("cuda", torch.bfloat16)
    monkeypatch.undo()
    assert checkpoint.placement() == (("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32))
    monkeypatch.setattr(checkpoint, "placement", lambda: ("cpu", torch.bfloat16))
    for name in ("merged", "adapter"):
        assert {value.dtype for value in load_checkpoint(str(made / name))[0].parameters()} == {torch.bfloat16}
