"""Worlds of the procedural tasks: small initial states of the simulators that can answer what the kinds ask.

In: `Values` and, later, the label of the state to start from. Out: a world (name -> value, or list of values to draw
from) and its `initial_config`, in the benchmark's format. A label says how far the preconditions are met: `out` and
`in` for a login, `parked` (two doors unlocked), `open` (all four), `pressed` (so is the brake), `locked`, `ready`,
`running` for a car, `root` and `sub` for the working directory.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from envtune.data.synth_values import DOORS, POOLS, Values
from envtune.types import JSON

World = dict[str, Any]
"""A list holds values to draw from. All other entries are there for every kind of the domain."""


class User(NamedTuple):
    """A member of the messaging workspace."""

    name: str
    id: str


class Tweet(NamedTuple):
    """A post."""

    author: str
    id: int
    text: str


class File(NamedTuple):
    """A file of two lines, not in sorted order."""

    name: str
    lines: tuple[str, str]


class Ticket(NamedTuple):
    """A support ticket."""

    id: int
    title: str


@dataclass(frozen=True)
class Domain:
    """One simulator."""

    cls: str
    starts: tuple[str, ...]
    """Labels that a task may start from."""
    world: Callable[[Values], World]
    config: Callable[[World, str], JSON]
    padded: bool = False
    """Whether the official long-context loader pads its state, not only some of its results."""


def _vehicle(values: Values) -> World:
    return {"pair": tuple(values.draw("doors", "VehicleControlAPI"))}


def _vehicle_config(world: World, label: str) -> JSON:
    open_doors = {"parked": world["pair"], "open": DOORS, "pressed": DOORS}.get(label, ())
    pressed = label in ("pressed", "ready", "running")
    return {
        "fuelLevel": 2.0,
        "engineState": "running" if label == "running" else "stopped",
        "doorStatus": {door: "unlocked" if door in open_doors else "locked" for door in DOORS},
        "brakePedalStatus": "pressed" if pressed else "released",
        "brakePedalForce": 1000.0 if pressed else 0.0,
    }


def _travel(values: Values) -> World:
    token, card, booking, client, secret, refresh = values.several("code", 6, "TravelAPI")
    seed = values.draw("id", "TravelAPI")
    return {
        "token": token,
        "card": card,
        "booking": booking,
        "client": client,
        "secret": secret,
        "refresh": refresh,
        "first": values.draw("name", "TravelAPI"),
        "last": values.draw("name", "TravelAPI"),
        "trip": values.draw("flight", "TravelAPI"),
        "cost": values.draw("number", "TravelAPI"),
        "day": values.draw("date", "TravelAPI"),
        "seed": seed,
        "new_token": str(random.Random(seed).randint(100000, 999999)),  # as `authenticate_travel` makes it
    }


def _travel_config(world: World, label: str) -> JSON:
    signed_in = {"access_token": world["token"], "token_type": "Bearer", "token_expires_in": 60}
    trip = {
        "card_id": world["card"],
        "travel_date": world["day"],
        "travel_from": world["trip"].start.airport,
        "travel_to": world["trip"].end.airport,
        "travel_class": "economy",
        "travel_cost": float(world["cost"]),
        "transaction_id": world["card"],
    }
    return {
        "random_seed": world["seed"],
        "credit_card_list": {world["card"]: {"balance": 90000.0 + world["cost"]}},
        "booking_record": {world["booking"]: trip},
        **(signed_in if label == "in" else {}),
    }


def _trading(values: Values) -> World:
    symbols = [company.symbol for company in POOLS["company"].items]
    prices = values.rng.sample(POOLS["number"].of(values.split, ""), len(symbols))
    return {
        "user": values.draw("name", "TradingBot"),
        "password": values.draw("code", "TradingBot"),
        "price": {symbol: price + 0.5 for symbol, price in zip(symbols, prices, strict=True)},
        "watched": values.several("company", 1, "TradingBot"),
        "order": values.several("id", 3, "TradingBot"),
        "next_order": values.draw("id", "TradingBot"),
        "balance": 20000.0 + values.draw("number", "TradingBot"),
    }


def _trading_config(world: World, label: str) -> JSON:
    symbols = list(world["price"])
    orders = {
        str(id): {"id": id, "order_type": "Buy", "symbol": symbols[id % len(symbols)], "amount": 9, "status": "Open"}
        for id in world["order"]
    }
    return {
        "orders": orders,
        "account_info": {"account_id": 1, "balance": world["balance"], "binding_card": 1},
        "authenticated": label == "in",
        "market_status": "Open",
        "order_counter": world["next_order"],
        "stocks": {symbol: {"price": price, "percent_change": 0.1} for symbol, price in world["price"].items()},
        "watch_list": [company.symbol for company in world["watched"]],
        "transaction_history": [],
    }


def _message(values: Values) -> World:
    names = values.several("name", 6, "MessageAPI")
    ids = values.several("id", 7, "MessageAPI")
    users = [User(name, f"USR{id}") for name, id in zip(names, ids, strict=False)]
    texts = values.several("text", 4, "MessageAPI")
    return {
        "me": users[0],
        "user": users[1:3],
        "mailed": users[3:6],
        "texts": tuple(texts),
        "mail": texts[3:],
        "new_id": f"USR{ids[-1]}",
        "count": ids[-1] - 1,
    }


def _message_config(world: World, label: str) -> JSON:
    return {
        "user_count": world["count"],
        "user_map": {user.name: user.id for user in (world["me"], *world["user"], *world["mailed"])},
        "inbox": [{u.id: text} for u, text in zip((*world["mailed"], world["me"]), world["texts"], strict=True)],
        "message_count": len(world["texts"]),
        "current_user": world["me"].id if label == "in" else None,
    }


def _twitter(values: Values) -> World:
    names, ids, texts = (values.several(pool, 4, "TwitterAPI") for pool in ("name", "id", "text"))
    tweets = [Tweet(*fields) for fields in zip(names, ids, texts, strict=True)]
    return {
        "user": values.draw("name", "TwitterAPI"),
        "password": values.draw("code", "TwitterAPI"),
        "next": values.draw("id", "TwitterAPI"),
        "tweet": tweets,
        "followed": values.several("name", 2, "TwitterAPI"),
    }


def _twitter_config(world: World, label: str) -> JSON:
    return {
        "username": world["user"],
        "password": world["password"],
        "authenticated": label == "in",
        "tweets": {
            str(tweet.id): {"id": tweet.id, "username": tweet.author, "content": tweet.text, "tags": [], "mentions": []}
            for tweet in world["tweet"]
        },
        "comments": {},
        "retweets": {},
        "following_list": world["followed"],
        "tweet_counter": world["next"],
    }


def _files(values: Values) -> World:
    names = values.several("file", 8, "GorillaFileSystem")
    lines = [sorted(values.several("text", 2, "GorillaFileSystem"), reverse=True) for _ in names]
    files = [File(name, (pair[0], pair[1])) for name, pair in zip(names, lines, strict=True)]
    folder, outer, nested = values.several("folder", 3, "GorillaFileSystem")
    return {
        "dir": folder,
        "outer": outer,
        "nested": nested,
        "file": files[:4],
        "inner": files[4:7],
        "core": files[7],
    }


def _files_config(world: World, _: str) -> JSON:
    def folder(*items: tuple[str, JSON]) -> JSON:
        return {"type": "directory", "contents": dict(items)}

    def file(item: File) -> tuple[str, JSON]:
        return item.name, {"type": "file", "content": "\n".join(item.lines)}

    inside = folder(*map(file, world["inner"]))
    outer = folder((world["nested"], folder(file(world["core"]))))
    home = folder((world["dir"], inside), (world["outer"], outer), *map(file, world["file"]))
    return {"root": {"home": home}}


def _tickets(values: Values) -> World:
    ids, titles = values.several("id", 3, "TicketAPI"), values.several("text", 3, "TicketAPI")
    return {
        "user": values.draw("name", "TicketAPI"),
        "password": values.draw("code", "TicketAPI"),
        "next": values.draw("id", "TicketAPI"),
        "ticket": [Ticket(id, title) for id, title in zip(ids, titles, strict=True)],
    }


def _tickets_config(world: World, label: str) -> JSON:
    return {
        "ticket_queue": [
            {"id": t.id, "title": t.title, "status": "Open", "priority": 1, "created_by": world["user"]}
            for t in world["ticket"]
        ],
        "ticket_counter": world["next"],
        "current_user": world["user"] if label == "in" else None,
    }


DOMAINS: dict[str, Domain] = {
    domain.cls: domain
    for domain in (
        Domain("GorillaFileSystem", ("root",), _files, _files_config, padded=True),
        Domain("MathAPI", ("",), lambda values: {}, lambda world, label: {}),
        Domain("MessageAPI", ("out", "in"), _message, _message_config),
        Domain("TwitterAPI", ("out", "in"), _twitter, _twitter_config),
        Domain("TicketAPI", ("out", "in"), _tickets, _tickets_config),
        Domain("TradingBot", ("out", "in"), _trading, _trading_config),
        Domain("TravelAPI", ("out", "in"), _travel, _travel_config, padded=True),
        Domain("VehicleControlAPI", ("parked", "open", "locked", "ready", "running"), _vehicle, _vehicle_config),
    )
}
"""In the benchmark's order."""
