"""The forms of wrong calls, one function per family: what a model calls by mistake where another call is right.

In: a `Place` in a task's ground truth. Out: a wrong call, or None where the family has none. `FAMILIES` is the table.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from envtune.types import JSON, Task, ToolCall


@dataclass(frozen=True)
class Place:
    """Where a wrong call is made: before call `right` of turn `turn`."""

    task: Task
    turn: int
    right: ToolCall
    rng: random.Random
    pool: dict[str, list[ToolCall]]
    """Tool -> its calls in the ground truths of all tasks."""

    @property
    def names(self) -> list[str]:
        """The tools of the turn."""
        return [tool["function"]["name"] for tool in self.task.tools_at(self.turn)]

    @property
    def schema(self) -> JSON:
        """The parameters of the right call's tool."""
        return next(
            (t["function"]["parameters"] for t in self.task.tools if t["function"]["name"] == self.right.name),
            {"properties": {}},
        )


Family = Callable[[Place], ToolCall | None]


def calls_of(task: Task) -> list[ToolCall]:
    """The ground truth's calls, in order."""
    return [call for turn in task.ground_truth for call in turn]


def _changed(here: Place, change: Callable[[Any, str, Place], Any]) -> ToolCall | None:
    if not here.right.arguments:
        return None
    name = here.rng.choice(list(here.right.arguments))
    value = change(here.right.arguments[name], name, here)
    return ToolCall(here.right.name, {**here.right.arguments, name: value})


def _other_value(value: Any, name: str, here: Place) -> Any:
    """Another value of the same type, as a model confuses them."""
    rng = here.rng
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return rng.choice(
            (value * 10, -value, 0 * value, value + 1, value * 1000, value / 2 if value % 2 else value * 3)
        )
    if isinstance(value, list):
        return rng.choice(([], value[:-1], [*value, "x"], value[::-1]))
    if isinstance(value, str):
        same = [c.arguments[name] for c in here.pool[here.right.name] if name in c.arguments]
        texts = [v for c in calls_of(here.task) for v in c.arguments.values() if isinstance(v, str)]
        return rng.choice(
            (f"{value}_2", value.upper(), value.lower(), "", rng.choice(same), rng.choice(texts), *_confusions(value))
        )
    return value


_CITIES = {"RMS": "Rivermist", "SFO": "San Francisco", "LAX": "Los Angeles", "JFK": "New York", "ORD": "Chicago",
           "BOS": "Boston", "OKD": "Oakendale", "CRH": "Crescent Hollow", "94016": "San Francisco",
           "83214": "Rivermist", "74532": "Stonebrook", "62947": "Silverpine"}  # fmt: skip
_COMPANIES = {"AAPL": "Apple", "GOOG": "Google", "TSLA": "Tesla", "MSFT": "Microsoft", "NVDA": "Nvidia",
              "ZETA": "Zeta Corp", "OMEG": "Omega Industries", "QUAS": "Quasar Ltd.", "AMZN": "Amazon"}  # fmt: skip


def _confusions(value: str) -> list[str]:
    """What else a model writes for a value: a path for a name, a city for a code, a company for a symbol."""
    found = [f"./{value}", f"folder/{value}", f"/{value}", "unknown", "GOR", "USR999", "Nobody"]
    found += [table[value] for table in (_CITIES, _COMPANIES) if value in table] * 3
    if re.fullmatch(r"USR\d+", value):
        found += ["Alice", "John Levy"] * 2
    if re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        found += [f"{value[5:7]}/{value[8:]}/{value[:4]}"] * 2
    return found


_RETYPED: tuple[Any, ...] = (None, 7, 2.5, True, "?", "12", ["?"], {"?": 7}, [], {})


def _retype(here: Place) -> ToolCall | None:
    return _changed(here, lambda value, name, place: place.rng.choice(_RETYPED))


def _as_text(here: Place) -> ToolCall | None:
    """A number as text, a text as a list of one: the commonest wrong types."""
    return _changed(here, lambda value, name, place: [value] if isinstance(value, str) else str(value))


def _drop(here: Place) -> ToolCall | None:
    if not here.right.arguments:
        return None
    gone = here.rng.choice(list(here.right.arguments))
    return ToolCall(here.right.name, {k: v for k, v in here.right.arguments.items() if k != gone})


def _extra(here: Place) -> ToolCall | None:
    name = here.rng.choice(("verbose", "path", "user", "format", "limit", "unit", "recursive"))
    return None if name in here.schema["properties"] else ToolCall(here.right.name, {**here.right.arguments, name: 1})


def _rename(here: Place) -> ToolCall | None:
    if not here.right.arguments:
        return None
    old = here.rng.choice(list(here.right.arguments))
    new = here.rng.choice((old.replace("_", ""), f"{old}_value", old.split("_")[-1], "name", "value", "id", "filename"))
    if new in here.schema["properties"]:
        return None
    return ToolCall(here.right.name, {new if k == old else k: v for k, v in here.right.arguments.items()})


def _another_task(here: Place) -> ToolCall | None:
    """A call that another task needs."""
    known = [name for name in here.names if name in here.pool]
    return here.rng.choice(here.pool[here.rng.choice(known)]) if known else None


def _any_tool(here: Place) -> ToolCall | None:
    """The right arguments for another tool."""
    return ToolCall(here.rng.choice(here.names), here.right.arguments)


def _later(here: Place) -> ToolCall | None:
    """A later call of the task, too early."""
    calls = [call for turn in here.task.ground_truth[here.turn :] for call in turn if call.name in here.names]
    return here.rng.choice(calls) if calls else None


def _itself(here: Place) -> ToolCall | None:
    return here.right


def _same_place(here: Place) -> ToolCall | None:
    """A move or a copy onto itself, or onto something that is there."""
    items = [v for c in calls_of(here.task) for k, v in c.arguments.items() if k in _ITEMS and isinstance(v, str)]
    if not items or not {"cp", "mv"} & set(here.names):
        return None
    tool = here.rng.choice([name for name in ("cp", "mv") if name in here.names])
    source = here.rng.choice(items)
    return ToolCall(tool, {"source": source, "destination": here.rng.choice([source, source, *items])})


_ITEMS = ("file_name", "source", "destination", "file_name1", "dir_name")


def _amount(here: Place) -> ToolCall | None:
    """Wrong amounts and units: liters for gallons, more than a tank or an account holds, unknown units."""
    tried: dict[str, JSON] = {
        "fillFuelTank": {"fuelAmount": here.rng.choice([*_liters(here), 50.0, 45, 60, 10, -5.0])},
        "imperial_si_conversion": {"value": 10, **here.rng.choice(_UNITS)},
        "si_unit_conversion": {"value": 10, **here.rng.choice(_UNITS)},
        "place_order": {"order_type": "Buy", "symbol": here.rng.choice(["AAPL", "Apple", "GORI", "AMZN"]),
                        "price": here.rng.choice([150.0, 0, 99999.0]), "amount": here.rng.choice([1, 0, 9999])},
        "withdraw_funds": {"amount": here.rng.choice([1e9, 0, -5.0, 10.0])},
        "add_to_watchlist": {"stock": here.rng.choice(["GOR", "GORI", "Apple", "AMZN"])},
        "compute_exchange_rate": {"base_currency": here.rng.choice(_MONEY), "target_currency": here.rng.choice(_MONEY),
                                  "value": 10.0},
        "startEngine": {"ignitionMode": here.rng.choice(["START", "STOP", "ON"])},
        "setCruiseControl": {"speed": here.rng.choice([65, 62.0, 130]), "activate": True, "distanceToNextVehicle": 50},
        "pressBrakePedal": {"pedalPosition": here.rng.choice([100, 1.5, -1])},
    }  # fmt: skip
    known = [name for name in tried if name in here.names]
    if not known:
        return None
    name = here.rng.choice(known)
    return ToolCall(name, tried[name])


def _liters(here: Place) -> list[float]:
    said = " ".join(here.task.user_turns[: here.turn + 1])
    return [float(number) for number in re.findall(r"(\d+(?:\.\d+)?) ?-?(?:liter|litre)", said)] * 2


_MONEY = ("USD", "EUR", "GBP", "RMB", "Euro", "dollar")
_UNITS = tuple(
    {"unit_in": a, "unit_out": b}
    for a, b in (
        ("miles", "km"), ("mi", "km"), ("km", "mile"), ("kilometers", "miles"), ("celsius", "fahrenheit"), ("C", "F"),
        ("inches", "cm"), ("m", "feet"), ("pounds", "kg"), ("km", "m"), ("cm", "m"), ("kilometer", "meter"),
    )
)  # fmt: skip


_ONCE = frozenset(
    {"fillFuelTank", "add_contact", "mkdir", "touch", "follow_user", "retweet", "rm"}
    | {"close_ticket", "resolve_ticket", "cancel_booking"}
)


def _added(here: Place) -> ToolCall | None:
    """An addition that is repeated until it no longer fits."""
    known = set(here.names) & _ONCE
    calls = [call for call in calls_of(here.task) if call.name in known]
    if "fillFuelTank" in known and here.rng.random() < 0.5:
        return ToolCall("fillFuelTank", {"fuelAmount": here.rng.choice([10.0, 15, 20.0])})
    return here.rng.choice(calls) if calls else None


def _other_name(here: Place) -> ToolCall | None:
    """A name that a model makes up for the right tool."""
    made = [name for name in _made_up(here.right.name) if name not in here.names]
    return ToolCall(here.rng.choice(made), here.right.arguments) if made else None


@cache
def _made_up(name: str) -> tuple[str, ...]:
    parts = [part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]
    camel = parts[0] + "".join(part.capitalize() for part in parts[1:])
    made = ["_".join(parts), camel, camel.capitalize(), f"{name}_v2", f"do_{name}", f"functions.{name}", f"{name}Tool"]
    made += [name.upper(), "".join(parts), f"{name}_tool", f"{'_'.join(parts)}s", f"tools.{name}"]
    if parts[0] in _VERB_SWAPS and len(parts) > 1:
        made += ["_".join([verb, *parts[1:]]) for verb in _VERB_SWAPS[parts[0]]]
    if len(parts) > 2:
        made += ["_".join(parts[:-1]), "_".join([parts[0], *parts[2:]])]
    return tuple(dict.fromkeys(made))


_VERB_SWAPS = {
    "get": ("fetch", "retrieve", "show"), "list": ("get", "show"), "view": ("get",), "estimate": ("calculate",),
    "create": ("make", "new"), "remove": ("delete",), "find": ("search",), "search": ("find",), "display": ("show",),
    "retrieve": ("get",), "purchase": ("buy",), "compute": ("calculate",), "edit": ("modify",), "book": ("reserve",),
}  # fmt: skip


def _invented(here: Place) -> ToolCall | None:
    """A name that is like no tool's, or the opposite of one."""
    names = [name for name in INVENTED if name not in here.names]
    return ToolCall(here.rng.choice(names), here.right.arguments)


INVENTED: dict[str, str] = {
    "get_order": "get_order_details get_order_history", "stopEngine": "", "get_all_booking": "get_booking_history",
    "open_ticket": "create_ticket", "get_current_fuel_level": "displayCarStatus", "turn_off_engine": "",
    "get_travel_cost": "get_flight_cost", "add_stock_to_watchlist": "add_to_watchlist",
    "unlockDoors": "", "unlock_doors": "", "sell_stock": "place_order", "buy_stock": "place_order",
    "unfollow": "unfollow_user", "follow": "follow_user", "delete_tweet": "", "remove_from_watchlist":
    "remove_stock_from_watchlist", "cancel_ticket": "", "delete_ticket": "", "reopen_ticket": "",
    "get_weather": "get_outside_temperature_from_google get_outside_temperature_from_weather_com",
    "read_file": "cat", "write_file": "echo", "create_file": "touch", "delete_file": "rm", "move_file": "mv",
    "copy_file": "cp", "create_directory": "mkdir", "list_files": "ls find", "change_directory": "cd",
    "rename": "", "count_words": "wc", "get_balance": "get_account_info get_credit_card_balance",
    "check_fuel": "displayCarStatus", "release_brake": "releaseBrakePedal", "press_brake": "pressBrakePedal",
    "get_distance": "estimate_distance", "get_zipcode": "get_zipcode_based_on_city", "get_airport":
    "get_nearest_airport_by_city list_all_airports", "book_hotel": "", "send_email": "",
    "deposit_funds": "fund_account",
    "send_tweet": "post_tweet", "get_tweets": "get_user_tweets search_tweets get_tweet", "get_card_balance":
    "get_credit_card_balance", "login":
    "message_login ticket_login trading_login authenticate_twitter authenticate_travel", "logout_user":
    "logout trading_logout", "get_user_info": "get_user_id get_user_stats", "get_invoice": "retrieve_invoice",
    "exit": "", "ask_user": "", "final_answer": "", "get_stock_price": "get_stock_info", "lock_door": "lockDoors",
    "start_car": "startEngine", "get_car_status": "displayCarStatus", "update_ticket": "edit_ticket",
    "get_messages": "view_messages_sent search_messages get_message_stats", "max": "max_value", "average": "mean",
    "convert_currency": "compute_exchange_rate", "gallons_to_liters": "gallon_to_liter", "liters_to_gallons":
    "liter_to_gallon", "get_order_status": "get_order_details get_order_history", "remove_contact": "",
}  # fmt: skip
"""Name that real models call -> the tools that it can mean, read from their descriptions. Empty: no tool does this."""
SAME_AIM = {
    "get_order_details": "get_order_history", "get_order_history": "get_order_details",
    "get_tweet": "get_user_tweets search_tweets", "get_user_tweets": "get_tweet search_tweets",
    "get_ticket": "get_user_tickets", "get_user_tickets": "get_ticket", "get_user_id": "get_user_stats",
    "message_login": "ticket_login trading_login", "trading_logout": "logout",
    "get_outside_temperature_from_google": "get_outside_temperature_from_weather_com",
}  # fmt: skip
"""Tool -> other tools that a name made up for it can mean as well."""

FAMILIES: dict[str, Family] = {
    "wrong value": lambda here: _changed(here, _other_value),
    "another wrong value": lambda here: _changed(here, _other_value),
    "argument missing": _drop,
    "argument too many": _extra,
    "argument misnamed": _rename,
    "wrong type": _retype,
    "number as text": _as_text,
    "another task's call": _another_task,
    "another tool": _any_tool,
    "too early": _later,
    "made twice": _itself,
    "added again": _added,
    "onto itself": _same_place,
    "units and amounts": _amount,
    "tool withheld": _any_tool,
    "made-up name": _other_name,
    "invented name": _invented,
}
UNWANTED = frozenset({"another task's call", "another tool", "onto itself", "units and amounts", "tool withheld"})
"""Families whose calls mean nothing that the task wants."""
