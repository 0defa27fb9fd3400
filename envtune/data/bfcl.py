"""The benchmark: 800 multi-turn instances of BFCL V3, read from the installed `bfcl-eval` package.

In: the package's own files, whose SHA-256 is checked. Out: `Task` records. Follows `utils.py`
(`populate_test_cases_with_predefined_functions`, the Python note on tool descriptions) and `model_handler/utils.py`
(`convert_to_tool` for OpenAI-style models) of bfcl-eval 2026.3.23 without any departure. A tool withheld in `miss_func`
gets no Python note there, so it gets none here. `excluded_function` is never read there, so it is only carried along
here.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from envtune.types import JSON, Category, Task, ToolCall

MakeSchema = Callable[[JSON, str], JSON]

PACKAGE_VERSION = "2026.3.23"
INSTALL_COMMAND = f"pip install --no-deps bfcl-eval=={PACKAGE_VERSION}"

TOOL_DOCS = {
    "GorillaFileSystem": "gorilla_file_system",
    "MathAPI": "math_api",
    "MessageAPI": "message_api",
    "TwitterAPI": "posting_api",
    "TicketAPI": "ticket_api",
    "TradingBot": "trading_bot",
    "TravelAPI": "travel_booking",
    "VehicleControlAPI": "vehicle_control",
}
"""Simulator class -> stem of its tool document and of its source file (`executable_backend_config.py`)."""

PYTHON_NOTE = " Note that the provided function is in Python 3 syntax."

# Data, answers, tool documents, and the code that decides a verdict. Scores are comparable only if all are equal.
_ANSWERS = "data/possible_answer/BFCL_v4_multi_turn"
_DOCS = "data/multi_turn_func_doc"
_CHECKER = "eval_checker/multi_turn_eval"
_SOURCES = f"{_CHECKER}/func_source_code"
SHA256 = {
    "data/BFCL_v4_multi_turn_base.json": "1a21a995d06fd6f20ba55de7bced30ef953ec35e998f502ec2ecf4d66ef1c43a",
    "data/BFCL_v4_multi_turn_miss_func.json": "87d28ce10e37d864b72de85d5732eef2a867b241d6c1c99b4ae682c9e3ea921c",
    "data/BFCL_v4_multi_turn_miss_param.json": "f0c66dda3795f5f53e3e1c0cc8ba0246b6761c8f58bdba8317203bf451ab8838",
    "data/BFCL_v4_multi_turn_long_context.json": "78c3268c5cc8e97c0f4ec6c811b3b9a2bba14323b1830b7a874b06d822749324",
    f"{_ANSWERS}_base.json": "1fee67823b317571649177dd89d63969feaae4e810cc7448ee55ba797fb7c8fc",
    f"{_ANSWERS}_miss_func.json": "69e679b806d1c871b05393a4b95583bb973248e5b8d96c2d7f4ca05e29fc32e6",
    f"{_ANSWERS}_miss_param.json": "59c442901779e2c31c33abcd566d032e03736e5ad8069de2fe05489873046ecf",
    f"{_ANSWERS}_long_context.json": "e82aa0e839c39d23c64a05834f7ae024d7c9738ec21738ecee78dc876e3d0d18",
    f"{_DOCS}/gorilla_file_system.json": "c4c1b741c71e2a17c97a5dc9c4a91d89978c4eaece56494d14272d5df6c650e9",
    f"{_DOCS}/math_api.json": "83fa31708c89442bdcf12ac4dfbe3be8663ec9183a1b1524a9fda98164bc7e0b",
    f"{_DOCS}/message_api.json": "4d58ea933a5d2b280d7a52366617fb47fecd333d7b0e08e724db6fa12fb5f847",
    f"{_DOCS}/posting_api.json": "87f9fc404a06e4107d7c366f1399c596440e84c16cb119faf374b2f532d86e8b",
    f"{_DOCS}/ticket_api.json": "31324e0380782664fe82ba05bd23517808ad55692b45a5fe7c3d4d395fe4f0f8",
    f"{_DOCS}/trading_bot.json": "1a7933fd8f0cb8fbec38aeae05cb8c24132747cad4904fe1c13ac3d01fc22c2d",
    f"{_DOCS}/travel_booking.json": "f17b950c13adddf41d0848077df58788252e4c2e7cad5cfa71c8c4bf04f57b26",
    f"{_DOCS}/vehicle_control.json": "0c8a66292844874ef7b168f343bc394d8615d2d9e1f4387999a9ee23011eac78",
    f"{_SOURCES}/gorilla_file_system.py": "84173750930b09aaa31b90547c9bd79ce75714682608b35e78a9c1ea259faf2b",
    f"{_SOURCES}/math_api.py": "abde32cc25e71b2ff3acf4d028a3c005b98409c174aba4abddbfe1c018afb9a8",
    f"{_SOURCES}/message_api.py": "cf72af1635654147af17df1891a7fb354549e78a61930139f741a31f4be21121",
    f"{_SOURCES}/posting_api.py": "32b887aaa37c7167ad9c84ddfa7bbb855c75d3c1edab19ba868aba29acc4cfa1",
    f"{_SOURCES}/ticket_api.py": "6a9375aa6425410c07a151aef27f3e44e9ed1023bb5cc5c25f14f4a9b3c99116",
    f"{_SOURCES}/trading_bot.py": "cc2e3949035b561e9d07418b081561aa07b211672200e2e511aec074bf79fcb2",
    f"{_SOURCES}/travel_booking.py": "e698e22adccf0d6d41b297f2d5e44faebd828cef4752df6a4ffb1570c0c35296",
    f"{_SOURCES}/vehicle_control.py": "f5f7a2f28968728927a98ae12ec68a32d70781cfb74c2d7b14801772362b12d1",
    f"{_SOURCES}/long_context.py": "5c9a5710115609c779e5b2ccb43f6ad58271ed96f2ea7a797edb0d65c385aa38",
    f"{_CHECKER}/multi_turn_checker.py": "b3b787515eda3bf0e365e39634a8fc7f831763f010f716d35d86f96fd5aab1b5",
    f"{_CHECKER}/multi_turn_utils.py": "9fdbd779ec715959c310445b54b431e91abaa8b45a302abb6fd8db8d61b62ba2",
}

_JSON_TYPES = {
    "float": "number",
    "dict": "object",
    "tuple": "array",
    "any": "string",
    "list": "array",
    "bool": "boolean",
}
_JSON_TYPES |= {name: name for name in ("integer", "number", "string", "boolean", "array", "object")}


def package_dir() -> Path:
    """Folder of the installed benchmark package.

    Raises:
        ModuleNotFoundError: it is not installed. The message gives the command that installs it.
    """
    spec = importlib.util.find_spec("bfcl_eval")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f"the benchmark package bfcl-eval is not installed. Install it with: {INSTALL_COMMAND}"
        )
    return Path(spec.origin).parent


def check_files(root: Path | None = None) -> None:
    """Compare every benchmark file under `root` (default: the installed package) with its known SHA-256.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file differs. The message names the file, the expected hash and the hash found.
    """
    root = root or package_dir()
    for name in SHA256:
        _read(root, name)


def data_version() -> dict[str, str]:
    """The benchmark's identity: package version, and one hash over all file hashes."""
    try:
        installed = version("bfcl-eval")
    except PackageNotFoundError:
        installed = "unknown"
    together = hashlib.sha256("\n".join(f"{name} {digest}" for name, digest in SHA256.items()).encode())
    return {"bfcl-eval": installed, "sha256": together.hexdigest()}


def load(root: Path | None = None) -> list[Task]:
    """All 800 instances, by category and id number.

    The records are read once per process and shared. Treat them as constants.

    Args:
        root: folder of the benchmark package. Default: where it is installed.

    Raises:
        ModuleNotFoundError, FileNotFoundError, ValueError: see `package_dir` and `check_files`.
    """
    return list(_load(root or package_dir()))


@cache
def _load(root: Path) -> tuple[Task, ...]:
    check_files(root)
    docs, schema = tool_documents(root), _once(tool_schema)
    instances = (instance for category in Category for instance in raw(category, root))
    return tuple(make_task(entry, answer, docs, schema) for entry, answer in instances)


def _once(make: MakeSchema) -> MakeSchema:
    """A schema is made once per document and note: 800 tasks have 22,000 tools, which are 192 different ones."""
    made: dict[tuple[int, str], JSON] = {}

    def schema(doc: JSON, note: str = "") -> JSON:
        key = (id(doc), note)  # two simulators may have a tool of the same name
        return made[key] if key in made else made.setdefault(key, make(doc, note))

    return schema


def raw(category: Category, root: Path | None = None) -> list[tuple[JSON, list[list[str]]]]:
    """Entries of one category as they stand in the files, each with its ground truth as call strings by turn."""
    root = root or package_dir()
    answers = {answer["id"]: answer["ground_truth"] for answer in _read_lines(root, f"{_ANSWERS}_{category}.json")}
    return [(entry, answers[entry["id"]]) for entry in _read_lines(root, f"data/BFCL_v4_multi_turn_{category}.json")]


def tool_documents(root: Path | None = None) -> dict[str, list[JSON]]:
    """Simulator class -> the lines of its tool document."""
    root = root or package_dir()
    return {cls: _read_lines(root, f"{_DOCS}/{stem}.json") for cls, stem in TOOL_DOCS.items()}


def make_task(
    entry: JSON, ground_truth: list[list[str]], docs: dict[str, list[JSON]], schema: MakeSchema | None = None
) -> Task:
    """A `Task` from one line of a data file, its answer, and the tool documents of its simulators.

    Args:
        entry: `id`, `question`, `initial_config`, `involved_classes`, and optionally `missed_function`
            (turn index -> tool names), `excluded_function` and `kinds` (procedural tasks only).
        ground_truth: per turn, calls such as `"cd(folder='document')"`.
        docs: per simulator class, the lines of its tool document.
        schema: makes the schema of a tool from its document and a note. Default: `tool_schema`.
    """
    schema = schema or tool_schema
    documents = {doc["name"]: doc for cls in entry["involved_classes"] for doc in docs[cls]}
    missed = {int(turn): names for turn, names in entry.get("missed_function", {}).items()}
    held_back = {name for names in missed.values() for name in names}
    return Task(
        id=entry["id"],
        category=_category(entry["id"]),
        involved_classes=tuple(entry["involved_classes"]),
        initial_config=entry["initial_config"],
        user_turns=tuple(messages[0]["content"] if messages else "" for messages in entry["question"]),
        ground_truth=tuple(tuple(parse_call(call, documents) for call in turn) for turn in ground_truth),
        tools=tuple(schema(doc, PYTHON_NOTE) for name, doc in documents.items() if name not in held_back),
        withheld={turn: tuple(schema(documents[name], "") for name in names) for turn, names in missed.items()},
        excluded_functions=tuple(entry.get("excluded_function", ())),
        kinds=tuple(entry.get("kinds", ())),
    )


def _category(task_id: str) -> Category:
    """`multi_turn_miss_func_7` and `synth_train_miss_func_7` are both `miss_func`."""
    stem = task_id.rsplit("_", 1)[0]
    found = [category for category in Category if stem.endswith(f"_{category}")]
    if not found:
        raise ValueError(f"task id {task_id!r} names no category. Known: {', '.join(Category)}")
    return found[0]


def parse_call(text: str, documents: dict[str, JSON]) -> ToolCall:
    """A `ToolCall` from a ground-truth string such as `"sort('final_report.pdf')"`. Nothing is evaluated.

    Positional arguments get the names that the tool document gives them, in its order.

    Raises:
        ValueError: the text is not a plain call with literal arguments.
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            raise ValueError("not a plain call")
        names = list(documents[node.func.id]["parameters"]["properties"])
        arguments = {name: ast.literal_eval(value) for name, value in zip(names, node.args, strict=False)}
        arguments |= {str(kw.arg): ast.literal_eval(kw.value) for kw in node.keywords}
    except (SyntaxError, ValueError, KeyError) as error:
        raise ValueError(f"ground-truth call {text!r} is not a plain call of a known tool: {error}") from error
    return ToolCall(node.func.id, arguments)


def tool_schema(doc: JSON, note: str = "") -> JSON:
    """An OpenAI-style tool schema from a tool document: type names mapped, required and default kept.

    Args:
        doc: a line of a tool document: `name`, `description`, `parameters`, `response`.
        note: text appended to the description.
    """
    parameters = {**doc["parameters"], "type": "object", "properties": _properties(doc["parameters"]["properties"])}
    return {"type": "function", "function": {**doc, "description": doc["description"] + note, "parameters": parameters}}


def _properties(properties: dict[str, JSON]) -> dict[str, JSON]:
    return {name: _property(schema) for name, schema in properties.items()}


def _property(schema: JSON) -> JSON:
    mapped = {**schema, "type": _JSON_TYPES.get(schema.get("type", "string"), "string")}
    if schema.get("type") == "float":
        mapped["format"] = "float"
        mapped["description"] += " This is a float type value."
    if mapped["type"] in ("array", "object"):
        if "properties" in mapped:
            mapped["properties"] = _properties(mapped["properties"])
        elif "items" in mapped:
            mapped["items"] = _items(mapped["items"])
    return mapped


def _items(items: JSON) -> JSON:
    """The official conversion maps types two levels down and notes no floats here."""
    mapped = {**items, "type": _JSON_TYPES[items["type"]]}
    if mapped["type"] == "array" and "items" in mapped:
        mapped["items"] = {**mapped["items"], "type": _JSON_TYPES[mapped["items"]["type"]]}
    elif mapped["type"] == "object" and "properties" in mapped:
        mapped["properties"] = _properties(mapped["properties"])
    return mapped


def _read(root: Path, name: str) -> bytes:
    path = root / name
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"benchmark file {path} is missing (expected SHA-256 {SHA256[name]}). Reinstall with: {INSTALL_COMMAND}"
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[name]:
        raise ValueError(
            f"benchmark file {path} was changed or truncated: expected SHA-256 {SHA256[name]}, found {found} "
            f"({len(content)} bytes). Reinstall with: {INSTALL_COMMAND}"
        )
    return content


def _read_lines(root: Path, name: str) -> list[Any]:
    return [json.loads(line) for line in _read(root, name).splitlines() if line.strip()]
