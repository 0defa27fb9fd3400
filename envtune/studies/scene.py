"""A failed call and its world, and what the claims of hints ask about them.

In: a `Scene`, sometimes the words of a claim. Out: answers from the live simulators, hidden attributes included, from
the schemas, and from the call.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envtune.environment.hint_rules import FS, MESSAGE, TICKET, TRAVEL, TWITTER, VEHICLE
from envtune.environment.simulator import RawResult, Simulators
from envtune.types import JSON, ToolCall


@dataclass(frozen=True)
class Scene:
    """A call that failed, and the world in which it failed."""

    call: ToolCall
    result: RawResult
    simulators: Simulators
    """Their state right after the failure."""
    schemas: Mapping[str, JSON]
    """Name -> function schema, of the tools that were available."""
    observed: Sequence[str]

    @property
    def a(self) -> dict[str, Any]:
        """The arguments of the call."""
        return self.call.arguments

    def of(self, cls: str) -> Any:
        """A live simulator."""
        return self.simulators.live(cls)

    @property
    def here(self) -> dict[str, Any]:
        """Name -> item of the current directory."""
        contents: dict[str, Any] = self.of(FS)._current_dir.contents
        return contents

    @property
    def properties(self) -> dict[str, JSON]:
        """Argument -> schema, of the tool that failed."""
        found: dict[str, JSON] = self.schemas[self.call.name]["parameters"]["properties"]
        return found


def is_folder(item: Any) -> bool:
    """A folder, and not a file."""
    return hasattr(item, "contents")


def named_items(s: Scene) -> list[str]:
    """The items that the call names."""
    keys = ("file_name", "file_name1", "file_name2", "dir_name", "source", "folder")
    return [s.a[key] for key in keys if isinstance(s.a.get(key), str)]


def missing_item(s: Scene) -> bool:
    """Whether an item that the call names is not here, or not of the kind that the tool takes."""
    if s.call.name in ("mv", "cp", "rm", "rmdir"):
        return any(name not in s.here for name in named_items(s))
    return any(name not in s.here or is_folder(s.here[name]) for name in named_items(s))


def path_exists(s: Scene) -> bool:
    """Whether `path` leads to a folder from where the agent is."""
    path = s.a.get("path", ".")
    if not path:
        return False
    at = s.of(FS).root if path.startswith("/") else s.of(FS)._current_dir
    for part in filter(None, path.split("/")):
        if part == ".":
            continue
        if not is_folder(at) or part not in at.contents:
            return False
        at = at.contents[part]
    return is_folder(at)


def numbers_in(value: Any) -> list[float]:
    """Every number inside a value."""
    if isinstance(value, dict | list):
        return [n for item in (value.values() if isinstance(value, dict) else value) for n in numbers_in(item)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def divides_by_zero(s: Scene) -> bool:
    """Whether the arguments of an arithmetic tool divide by zero."""
    a = s.a
    asked = {
        "divide": lambda: a["b"] == 0,
        "percentage": lambda: a["whole"] == 0,
        "power": lambda: a["base"] == 0 and a["exponent"] < 0,
        "logarithm": lambda: a["base"] == 1,
    }
    return asked[s.call.name]()


_PAIRS = {("cm", "in"), ("m", "ft"), ("m", "yd"), ("km", "miles"), ("kg", "lb"), ("celsius", "fahrenheit")}
WRITTEN_OUT = ("mile", "miles", "mi", "celsius", "fahrenheit", "c", "f")
METRIC = {"km", "m", "cm", "mm", "um", "nm"}


def units(s: Scene) -> tuple[str, str]:
    """The two units of a conversion."""
    return s.a["unit_in"], s.a["unit_out"]


def known_pair(s: Scene) -> bool:
    """Whether `imperial_si_conversion` knows the two units as a pair."""
    return bool({units(s), units(s)[::-1]} & _PAIRS)


def user_ids(s: Scene) -> list[str]:
    """The IDs of the workspace."""
    return list(s.of(MESSAGE).user_map.values())


def given_id(s: Scene) -> Any:
    """The ID that the call gives."""
    return s.a.get("user_id", s.a.get("receiver_id"))


def is_name(s: Scene) -> bool:
    """Whether a name stands where an ID is needed."""
    return given_id(s) not in user_ids(s) and not re.search(r"\d", str(given_id(s)))


def tweet_of(s: Scene) -> Any:
    """The tweet that the call is about."""
    return s.of(TWITTER).tweets.get(s.a.get("tweet_id"))


def ticket_of(s: Scene) -> Any:
    """The ticket that the call is about."""
    return next((t for t in s.of(TICKET).ticket_queue if t.get("id") == s.a.get("ticket_id")), None)


def bad_token(s: Scene) -> bool:
    """Whether the access token is expired, missing or wrong."""
    return s.of(TRAVEL).token_expires_in in (0, None) or s.a.get("access_token") != s.of(TRAVEL).access_token


def card_of(s: Scene) -> Any:
    """The card that the call is about."""
    return s.of(TRAVEL).credit_card_list.get(s.a.get("card_id"))


def airports_of(s: Scene) -> tuple[Any, Any]:
    """The airports of departure and arrival, as the call gives them."""
    return s.a.get("travel_from"), s.a.get("travel_to")


def bad_date(value: Any) -> bool:
    """Whether a value is no date of the form YYYY-MM-DD."""
    try:
        datetime.datetime.strptime(value, "%Y-%m-%d")
    except (TypeError, ValueError):
        return True
    return False


def zip_codes(s: Scene) -> list[str]:
    """The two zip codes."""
    return [str(s.a.get("cityA")), str(s.a.get("cityB"))]


def flight_cost(s: Scene) -> float:
    """What the flight costs, in US dollars."""
    flight = {key: s.a[key] for key in ("travel_from", "travel_to", "travel_date", "travel_class")}
    answer = s.simulators.fork().live(TRAVEL)
    answer.get_flight_cost(**flight)
    return float(answer._flight_cost_lookup["|".join(flight[k] for k in _KEY)]["cost"])


_KEY = ("travel_from", "travel_to", "travel_class", "travel_date")
_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "float": (int, float), "boolean": (bool,),
    "array": (list,), "object": (dict,), "dict": (dict,), "null": (type(None),),
}  # fmt: skip


def _is(kind: str, value: Any) -> bool:
    return isinstance(value, _KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))


def listed_names(text: str) -> list[str]:
    """The items of a list in words."""
    return [part.strip() for part in re.split(r", | and | or ", text)]


def allowed_only(s: Scene, m: re.Match[str]) -> bool:
    """Whether a value is none of those listed, and each of those is in the tool's description."""
    values = s.a[m["name"]]
    listed = listed_names(m["values"])
    described = str(s.properties[m["name"]])
    values = values if isinstance(values, list) else [values]
    return any(str(value) not in listed for value in values) and all(item in described for item in listed)


def outside(s: Scene, m: re.Match[str]) -> bool:
    """Whether a number is outside the range that is named."""
    return not float(m["low"]) <= s.a[m["name"]] <= float(m["high"])


def wrong_type(s: Scene, m: re.Match[str]) -> bool:
    """Whether a value has the type that the hint says it has, and not the one that the schema asks for."""
    value = s.a[m["name"]]
    return not _is(m["kind"], value) and (_is(m["not"], value)) and _is_schema_type(s, m["name"], m["kind"])


def _is_schema_type(s: Scene, name: str, kind: str) -> bool:
    aliases = {"float": "number", "dict": "object"}
    found = s.properties[name]["type"]
    return kind == aliases.get(found, found)


def ill_typed_items(s: Scene, m: re.Match[str]) -> bool:
    """Whether an item of a list has the type that the hint says it has, and not the required one."""
    return any(not _is(m["kind"], item) and _is(m["not"], item) for item in s.a[m["name"]])


def ill_typed_key(s: Scene, m: re.Match[str]) -> bool:
    """Whether a value inside an object has the type that the hint says it has, and not the required one."""
    value = s.a[m["name"]][m["key"]]
    return not _is(m["kind"], value) and _is(m["not"], value)


def unknown_arguments(s: Scene, m: re.Match[str]) -> bool:
    """Whether exactly the arguments named are not in the schema."""
    named = listed_names(m["names"])
    extra = [name for name in s.a if name not in s.properties]
    return len(extra) == len(named) and all(name in extra or name == "of that name" for name in named)


def missing_arguments(s: Scene, m: re.Match[str]) -> bool:
    """Whether exactly the arguments named are missing, with the types of the schema."""
    named = re.findall(r"(\w+) \((\w+)\)", m["names"])
    required = s.schemas[s.call.name]["parameters"].get("required", [])
    return {n for n, _ in named} == {n for n in required if n not in s.a} and all(
        _is_schema_type(s, name, kind) for name, kind in named
    )


def absent(s: Scene, m: re.Match[str]) -> bool:
    """Whether the tool that was called is not available."""
    return s.call.name not in s.schemas and m["name"] == s.call.name


def was_said(s: Scene, pattern: str) -> bool:
    """Whether a pattern stands in a text that the agent was shown."""
    return any(re.search(pattern, text) for text in s.observed)


def fuel_level(s: Scene) -> float:
    """Gallons in the tank."""
    return float(s.of(VEHICLE).fuelLevel)


def named_in_liters(s: Scene) -> bool:
    """Whether a text names the amount in liters."""
    number = re.escape(f"{s.a['fuelAmount']:g}")
    return was_said(s, rf"(?<![\d.]){number}(\.0+)?[ -]?(liter|litre|Liter|Litre|L\b|l\b)")


def birth_of(s: Scene) -> datetime.date:
    """The date of birth."""
    return datetime.datetime.strptime(s.a["date_of_birth"], "%Y-%m-%d").date()


def at_least(born: datetime.date, years: int) -> bool:
    """Whether somebody born on this day is at least `years` old today."""
    today = datetime.date.today()
    return (today.year - years, today.month, today.day) >= (born.year, born.month, born.day)


def guarded(s: Scene, m: re.Match[str]) -> bool:
    """Whether a guard stopped the call."""
    return s.result.guarded
