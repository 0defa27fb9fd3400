"""The arguments with which the literal agent calls a tool, from the failed call, from results and from the user.

In: an agent and the name of a tool. Out: the arguments of the calls to make, none if the agent cannot know them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from envtune.environment.hint_rules import FS, MESSAGE, TWITTER
from envtune.environment.simulator import RawResult, Simulators
from envtune.studies.scene import Scene
from envtune.types import ToolCall


class Knowing(Protocol):
    """The part of an agent that is read here."""

    scene: Scene
    world: Simulators
    results: list[RawResult]

    @property
    def known_calls(self) -> Sequence[ToolCall]: ...  # noqa: D102
    @property
    def a(self) -> dict[str, Any]: ...  # noqa: D102
    @property
    def sentence(self) -> str: ...  # noqa: D102


def arguments_for(agent: Knowing, tool: str) -> list[dict[str, Any]]:
    """The arguments of the calls of `tool` that the agent's sentence asks for."""
    if (own := OWN.get(tool)) is not None:
        return list(own(agent))
    known = [call.arguments for call in agent.known_calls if call.name == tool]
    if not known and not agent.scene.schemas[tool]["parameters"].get("required"):
        return [{}]
    return known[:1]


def _names(agent: Knowing) -> list[str]:
    """The last parts of the paths that the failed call names."""
    keys = ("file_name", "file_name1", "file_name2", "dir_name", "source", "folder", "name", "path")
    texts = [agent.a[key] for key in keys if isinstance(agent.a.get(key), str)]
    return [text.rstrip("/").rsplit("/", 1)[-1] for text in texts]


def _folders_of(agent: Knowing) -> list[str]:
    """The folders on the way to what the failed call names, from its own path or from what was found."""
    for key in ("folder", "file_name", "dir_name", "source", "file_name1"):
        path = agent.a.get(key)
        if isinstance(path, str) and "/" in path.rstrip("/"):
            return [part for part in path.rstrip("/").split("/")[:-1] if part not in ("", ".")]
    for result in reversed(agent.results):
        for path in matches(result.text):
            if path.rsplit("/", 1)[-1] in _names(agent):
                return ["/", *filter(None, path.split("/")[:-1])]
    return []


def _cd(agent: Knowing) -> Iterator[dict[str, Any]]:
    """One call for each folder on the way."""
    parts = [] if "both" in agent.sentence else _folders_of(agent)
    if "both" in agent.sentence or (not parts and "find with" not in agent.sentence):
        parts = _place(agent)
    if parts and parts[0] not in ("/", "..") and parts[0] not in agent.world.live(FS)._current_dir.contents:
        parts = ["/", *parts]
    if not parts and re.search("into it", agent.sentence):
        parts = _names(agent)[:1]
    yield from ({"folder": part} for part in parts)


def _place(agent: Knowing) -> list[str]:
    """The way to the folder that holds what the failed call names, which the user knows."""
    for folder, names in _folders(agent.world.live(FS).root):
        wanted = set(_names(agent))
        if wanted <= names or (wanted & names and "both" not in agent.sentence):
            return ["/", *folder]
    return []


def path_like(key: str, value: Any) -> bool:
    """Whether an argument names an item of the file system."""
    return isinstance(value, str) and key in (
        "file_name", "file_name1", "file_name2", "dir_name", "source", "destination"
    )  # fmt: skip


SHAPES = {
    "order_id": r"\b\d+\b", "ticket_id": r"'id': (\d+)", "tweet_id": r"'id': (\d+)", "booking_id": r'"(\d{7,})": ',
    "card_id": r'"([\w-]+)": \{"card_number', "user": r'"([A-Z]\w+)"', "receiver_id": r"USR\d+",
    "user_id": r"USR\d+", "access_token": r'"access_token": "(\d+)"', "symbol": r'"([A-Z]{1,5})"',
    "stock": r'"([A-Z]{1,5})"',
}  # fmt: skip
"""Argument -> how its values look in results."""


def example(schema: dict[str, Any], used: Sequence[Any] = ()) -> Any:
    """A value that a schema and its description allow, and that is not one of `used` if there is another."""
    text = str(schema.get("description", ""))
    listed = re.search(r"\[Enum\]: *\[?([^\].]+)|[Oo]ptions(?: are)?: ([^.]+)", text)
    values = re.split(r",", next(filter(None, listed.groups()))) if listed else []
    values = [value for item in values if (value := item.strip(" \"'[]")) not in used]
    first = "l" if "'l' for lines" in text else values[0] if values else None
    bound = re.search(r"multiple of (\d+)|(?:from|between) (\d+)", text)
    number = float(next(filter(None, bound.groups()))) if bound else 1.0
    made: dict[str, Any] = {
        "string": first or ("2024-05-01" if "YYYY-MM-DD" in text else "x"), "integer": int(number),
        "number": number, "float": number,
        "boolean": True, "array": [], "object": {}, "dict": {},
    }  # fmt: skip
    if schema.get("type") == "array":
        return [example({**schema.get("items", {}), "description": text})]
    return made[schema.get("type", "string")]


def matches(text: str) -> list[str]:
    """The paths in a result of `find`."""
    try:
        found = json.loads(text)
    except ValueError:
        return []
    matches = found.get("matches", []) if isinstance(found, dict) else []
    return [path for path in matches if isinstance(path, str)]


def _folders(folder: Any, way: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """The way to each folder, and the names of what it holds."""
    yield way, set(folder.contents)
    for name, item in folder.contents.items():
        if _is_folder(item) and len(way) < 10:
            yield from _folders(item, (*way, name))


def _is_folder(item: Any) -> bool:
    return hasattr(item, "contents")


Own = Callable[[Knowing], Iterator[dict[str, Any]]]


def _lookup(key: str, tool: str, shape: str) -> Own:
    """Looks up the values that are given where something of another shape is needed."""

    def arguments(agent: Knowing) -> Iterator[dict[str, Any]]:
        known = [call.arguments for call in agent.known_calls if call.name == tool]
        given = [text for key_, text in agent.a.items() if isinstance(text, str) and key_ in _CODED]
        asked = [text for text in given if not re.fullmatch(shape, text)]
        yield from ({key: text} for text in asked)
        if not asked:
            yield from known[:2]

    return arguments


_CODED = frozenset(["user_id", "receiver_id", "symbol", "stock", "travel_from", "travel_to", "cityA", "cityB"])


def _unlocked(agent: Knowing) -> Iterator[dict[str, Any]]:
    doors = re.search(r"unlocked doors: ([\w, ]+)", agent.scene.result.text)
    yield {"unlock": False, "door": doors[1].split(", ") if doors else ["driver"]}


def _credentials(agent: Knowing) -> Iterator[dict[str, Any]]:
    twitter = agent.world.live(TWITTER)
    yield {"username": twitter.username, "password": twitter.password}


def _anybody(agent: Knowing) -> Iterator[dict[str, Any]]:
    known = [call.arguments for call in agent.known_calls if call.name == "message_login"]
    yield known[0] if known else {"user_id": next(iter(agent.world.live(MESSAGE).user_map.values()))}


def _option(agent: Knowing) -> Iterator[dict[str, Any]]:
    words = re.findall(r"\b(fuel|engine|doors|battery)\b", agent.sentence)
    yield {"option": words[0] if words else "fuel"}


_IDENTITY = {
    "client_id": "c", "client_secret": "s", "refresh_token": "r", "grant_type": "read_write",
    "user_first_name": "Ann", "user_last_name": "Lee",
}  # fmt: skip
OWN: dict[str, Own] = {
    "find": lambda agent: ({"path": "/", "name": name} for name in _names(agent)[:1]),
    "cd": _cd,
    "ls": lambda agent: iter([{}]),
    "authenticate_travel": lambda agent: iter([_IDENTITY]),
    "touch": lambda agent: ({"file_name": name} for name in _names(agent)[:1]),
    "rm": lambda agent: ({"file_name": name} for name in _names(agent)[:1]),
    "lockDoors": _unlocked,
    "pressBrakePedal": lambda agent: iter([{"pedalPosition": 1.0}]),
    "fillFuelTank": lambda agent: iter([{"fuelAmount": 1.0}]),
    "startEngine": lambda agent: iter([{"ignitionMode": "START"}]),
    "displayCarStatus": _option,
    "liter_to_gallon": lambda agent: iter([{"liter": agent.a.get("fuelAmount", 1.0)}]),
    "authenticate_twitter": _credentials,
    "trading_login": lambda agent: iter([{"username": "ann", "password": "x"}]),
    "ticket_login": lambda agent: iter([{"username": "ann", "password": "x"}]),
    "message_login": _anybody,
    "get_user_id": _lookup("user", "get_user_id", r"USR\d+"),
    "get_symbol_by_name": _lookup("name", "get_symbol_by_name", r"[A-Z]{1,5}"),
    "get_nearest_airport_by_city": _lookup("location", "get_nearest_airport_by_city", r"[A-Z]{3}"),
    "get_zipcode_based_on_city": _lookup("city", "get_zipcode_based_on_city", r"\d{5}"),
    "get_available_stocks": lambda agent: iter([{"sector": "Technology"}]),
    "add_contact": lambda agent: ({"user_name": text} for text in agent.a.values() if isinstance(text, str)),
    "get_booking_history": lambda agent: iter([{"access_token": agent.a.get("access_token")}]),
    "get_credit_card_balance": lambda agent: iter([{k: agent.a.get(k) for k in ("access_token", "card_id")}]),
    "get_user_tickets": lambda agent: iter([{}]),
    "get_user_tweets": lambda agent: iter([{"username": agent.world.live(TWITTER).username}]),
}
"""Tool -> the agent's calls of it, where they follow from the failure. Others are called as the task calls them."""
