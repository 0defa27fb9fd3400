"""Every decoder of the official registry reads the ground truth in its own format, or is refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envtune.benchmark import handlers
from envtune.benchmark.confined import Runner
from envtune.benchmark.handlers import StandIn, StandInUsedError, read_call
from envtune.benchmark.official import call_string
from envtune.benchmark.rescore import rescore
from envtune.benchmark.result_files import file_name
from envtune.chat import render_calls
from envtune.types import Task, ToolCall

LOAD_ALL = """
import json, os
from envtune.benchmark import confined, handlers
os.environ.update(confined.ENVIRONMENT)
runner, found = handlers.OfficialRunner(), {}
for name in runner.names:
    try:
        runner.choose([name])
        decoder = type(runner._handler).decode_execute
        found[name] = [decoder.__qualname__.removesuffix(".decode_execute"), runner._handler.is_fc_model]
    except handlers.UnknownHandlerError as error:
        found[name] = str(error)
print(json.dumps(found))
"""


def text(call: ToolCall, arguments: str = "arguments") -> str:
    return json.dumps({"name": call.name, arguments: call.arguments})


def gemma(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{gemma(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(gemma, value)) + "]"
    return f"<escape>{value}<escape>" if isinstance(value, str) else json.dumps(value)


def python(call: ToolCall) -> str:
    return f"[{call_string(call)}]"


def native(call: ToolCall) -> Any:
    return [{call.name: json.dumps(call.arguments)}]


def tagged(call: ToolCall) -> str:
    return render_calls([call])


def listed(call: ToolCall) -> str:
    return f"[{text(call)}]"


FORMATS: dict[tuple[str, bool], Callable[[ToolCall], Any]] = {
    ("ArchHandler", True): lambda call: [{call.name: call.arguments}],
    ("BitAgentHandler", True): listed,
    ("ClaudeHandler", False): python,
    ("ClaudeHandler", True): native,
    ("CohereHandler", True): lambda call: [{"tool_name": call.name, "parameters": call.arguments}],
    ("Falcon3FCHandler", True): lambda call: f"<tool_call>\n{listed(call)}\n</tool_call>",
    ("FunctionGemmaHandler", True): lambda call: (
        f"<start_function_call>call:{call.name}{gemma(call.arguments)}<end_function_call>"
    ),
    ("GLMHandler", True): lambda call: f"{call.name}\n{json.dumps(call.arguments)}",
    ("GeminiHandler", False): lambda call: f"```tool_code\n{python(call)}\n```",
    ("GeminiHandler", True): lambda call: [{call.name: call.arguments}],
    ("Granite3FCHandler", True): lambda call: [{call.name: call.arguments}],
    ("Granite4FCHandler", True): tagged,
    ("GraniteFunctionCallingHandler", True): lambda call: f"<function_call> {text(call)}",
    ("HammerHandler", True): lambda call: f"```\n{listed(call)}\n```",
    ("LlamaHandler_3_1", True): lambda call: f"<|python_tag|>{ {'name': call.name, 'parameters': call.arguments} }",
    ("MiniCPMFCHandler", True): lambda call: (
        f"<|tool_call_start|>\n```python\n{call_string(call)}\n```\n<|tool_call_end|>\n"
    ),
    ("MiningHandler", False): lambda call: [{"name": call.name, "arguments": call.arguments}],
    ("MiningHandler", True): lambda call: [{"name": call.name, "arguments": call.arguments}],
    ("MistralFCHandler", False): native,
    ("MistralHandler", False): lambda call: f"```\n{python(call)}\n```",
    ("MistralHandler", True): native,
    ("NanbeigeFCHandler", True): tagged,
    ("NemotronHandler", True): lambda call: f"I will look.\n<TOOLCALL>{python(call)}</TOOLCALL>",
    ("NovaHandler", True): lambda call: [{call.name: call.arguments}],
    ("NvidiaHandler", False): python,
    ("OSSHandler", False): python,
    ("OSSHandler", True): python,
    ("OpenAICompletionsHandler", False): python,
    ("OpenAICompletionsHandler", True): native,
    ("OpenAIResponsesHandler", False): python,
    ("OpenAIResponsesHandler", True): native,
    ("PelicanVLFCHandler", True): tagged,
    ("PhiFCHandler", True): lambda call: [{call.name: call.arguments}],
    ("PhiHandler", False): lambda call: f"```python\n{python(call)}\n```",
    ("QwenFCHandler", True): tagged,
    ("SalesforceLlamaHandler", True): listed,
    ("SalesforceQwenHandler", True): lambda call: text(call),
}
"""Decoder and whether the model has native calls -> a message with one call."""
BROKEN: dict[tuple[str, bool], Callable[[ToolCall], Any]] = {
    ("GorillaHandler", True): call_string,  # hands `ast_parse` a flag where it takes a language
    ("ThinkAgentHandler", True): listed,  # asks a text for `.items()`
}
"""Decoders that fail on every message."""


@pytest.fixture(scope="module")
def registry() -> dict[str, Any]:
    """Name -> decoder and kind, or the reason why the official runner has no handler."""
    done = subprocess.run([sys.executable, "-c", LOAD_ALL], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def families(registry: dict[str, Any]) -> dict[tuple[str, bool], str]:
    return {tuple(found): name for name, found in registry.items() if not isinstance(found, str)}


def ground_truth(task: Task, message: Callable[[ToolCall], Any]) -> dict[str, Any]:
    """One call a message, as the official runner would have written it."""
    return {"id": task.id, "result": [[*map(message, turn), "Done."] for turn in task.ground_truth]}


def write(folder: Path, model: str, tasks: list[Task], message: Callable[[ToolCall], Any]) -> Path:
    """A result file of the ground truth."""
    file = folder / model.replace("/", "_") / "multi_turn" / file_name("base")
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps(ground_truth(task, message)) + "\n" for task in tasks))
    return file


def test_every_name_of_the_registry_loads_or_is_refused_by_name(registry: dict[str, Any]) -> None:
    assert len(registry) == 175
    refused = {name: found for name, found in registry.items() if isinstance(found, str)}
    assert list(refused) == ["qwen3-4b-nothink-FC"]
    assert "cannot load its handler of qwen3-4b-nothink-FC (TypeError" in refused["qwen3-4b-nothink-FC"]
    with Runner(["qwen3-4b-nothink-FC"]) as runner, pytest.raises(ValueError, match=r"handler of qwen3-4b-nothink-FC"):
        runner.start()
    with Runner(["gpt-4o-FC"]) as runner, pytest.raises(ValueError, match="'gpt-4o-FC' is not a model of the official"):
        runner.start()


def test_every_family_of_decoders_is_known(families: dict[tuple[str, bool], str]) -> None:
    assert {*families} == {*FORMATS, *BROKEN}


READ_ALL = """
import json, os, sys
import envtune
from envtune.benchmark import confined, handlers

os.environ.update(confined.ENVIRONMENT)
runner, verdicts, right = handlers.OfficialRunner(), {}, {}
tasks = envtune.load_tasks("bfcl", categories=["base"])
truth = [[[[(c.name, c.arguments)] for c in turn] for turn in task.ground_truth] for task in tasks]
for model, results in json.load(sys.stdin).items():
    runner.choose([model])
    right[model] = 0
    for task, calls, result in zip(tasks, truth, results, strict=True):
        expressions = runner.expressions(result)
        key = task.id, str(expressions)  # many handlers write the same expressions
        verdicts[key] = verdicts.get(key) or runner.verdict(task, result).valid
        read = [[list(map(handlers.read_call, step)) for step in turn] for turn in expressions]
        steps = [[[(c.name, c.arguments) for c, exact in step if exact] for step in turn] for turn in read]
        same = calls == [[step for step in turn if step] for turn in steps]  # one handler takes any text as a call
        right[model] += same and verdicts[key]
print(json.dumps(right))
"""


def test_every_family_reads_the_ground_truth_in_its_own_format(
    families: dict[tuple[str, bool], str], tasks: list[Task], subtests: pytest.Subtests
) -> None:
    """By all decoders in one process. The official runner is asked once for equal expressions."""
    work = {
        families[family]: [ground_truth(task, message)["result"] for task in tasks[:200]]
        for family, message in FORMATS.items()
    }
    command = [sys.executable, "-c", READ_ALL]
    done = subprocess.run(command, input=json.dumps(work), capture_output=True, text=True, check=True)
    right = json.loads(done.stdout)
    assert len(right) == 37
    for model, n in right.items():
        with subtests.test(model):
            assert n == 200


def test_a_file_of_another_format_is_rescored(
    families: dict[tuple[str, bool], str], tasks: list[Task], tmp_path: Path
) -> None:
    """Calls in Python, in JSON text, and in JSON with names of its own."""
    for family in [("OSSHandler", False), ("HammerHandler", True), ("CohereHandler", True)]:
        found = rescore(write(tmp_path, families[family], tasks[:200], FORMATS[family]), tasks)
        assert (found.model, found.notes) == (families[family], ())
        assert found.table().loc["all", ["n", "ours", "official"]].tolist() == [200, 1.0, 1.0]


def test_a_decoder_that_reads_nothing_gives_no_number(
    families: dict[tuple[str, bool], str], tasks: list[Task], tmp_path: Path
) -> None:
    for family, message in BROKEN.items():
        file = write(tmp_path, families[family], tasks[:3], message)
        with pytest.raises(ValueError, match=f"^{file}: the official handler of {families[family]} reads no call"):
            rescore(file, tasks, partial=True)


def test_expressions_that_are_plain_calls_are_calls() -> None:
    for expression, call, same in [
        ("ls(a=True, b=[1, -2.5, {'x': None}])", ToolCall("ls", {"a": True, "b": [1, -2.5, {"x": None}]}), True),
        ("ls(a=(1, 2))", ToolCall("ls", {"a": [1, 2]}), False),
        ("ls(a={1: 2})", ToolCall("ls", {"a": {"1": 2}}), False),
        *(
            (text, None, False)
            for text in ("ls(True)", "ls(a=b)", "ls(a=ls())", "ls(**{'a': 1})", "os.ls()", "ls", "(", "")
        ),
    ]:
        assert read_call(expression) == (call, same), expression


def test_a_decoder_that_needs_an_absent_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    client = StandIn("vendor").Client("key")
    assert client(len_of := lambda text: len(text)) is len_of, "a decorator leaves the function as it is"
    monkeypatch.setattr(StandIn, "usable", False)
    with pytest.raises(StandInUsedError, match=r"^vendor\.Client\(\)\.parse$"):
        client.parse("text")
    assert not issubclass(handlers.StandInUsedError, Exception), "the runner would take it for a message without a call"
