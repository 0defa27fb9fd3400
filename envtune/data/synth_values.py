"""Values of the procedural tasks: pools, and which split may draw what.

In: a random generator and a split. Out: values, each at most once per task. Values are made of few pieces (name parts,
two words, digits). So a small tokenizer covers them, and a value of the test split is a new combination of known
pieces. A pool is divided in one of three ways:

- *Open* pools (names, texts, files, numbers, ...) are divided once: no value of one split ever occurs in another.
- *Closed* pools are tables that the simulators fix (cities, companies, routes, ...). They are divided separately for
  each task kind. So a kind never repeats a value over splits, while every member is drawn somewhere in training.
- Pools with fewer than five members (flight classes, buy or sell, currencies, parts of a car) are shared by all splits.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product
from typing import Any, NamedTuple

SPLIT_SHARES: dict[str, tuple[int, ...]] = {"train": (0, 1, 2), "val": (3,), "test": (4,), "ood": (3, 4)}
"""Split -> fifths of a pool. `ood` tasks are new in kind. Their values are those of val and test."""
PARTS = 5


class City(NamedTuple):
    """A city as `get_zipcode_based_on_city` and `get_nearest_airport_by_city` know it."""

    name: str
    zipcode: str = ""
    airport: str = ""


class Route(NamedTuple):
    """Two cities whose distance `estimate_distance` knows, in km."""

    a: City
    b: City
    km: float


class Flight(NamedTuple):
    """Two cities with a route that `get_flight_cost` knows. No two cost the same in any class on any day."""

    start: City
    end: City


class Company(NamedTuple):
    """A company as `get_symbol_by_name` knows it."""

    name: str
    symbol: str


class Liters(NamedTuple):
    """A number of liters larger than the tank's capacity in gallons, and what `liter_to_gallon` returns for it."""

    n: int
    gallons: float


class Side(NamedTuple):
    """The user's word for an order, and the argument."""

    word: str
    order_type: str


class Conversion(NamedTuple):
    """`n` of unit `a`, its value in unit `b`, and a unit `c` that only `b` converts to."""

    n: int
    a: str
    b: str
    c: str
    middle: float


NAME_PARTS = (
    ("Ka", "Li", "Mo", "Ro", "Ti", "Sa", "Ni", "Da", "Fi", "Jo"),
    ["ra", "na", "la", "mi", "ta", "do", "ko", "sa"],
)
VERBS = ["bring", "call", "check", "clean", "fix", "move", "paint", "send", "show", "wash"]
NOUNS = ["bike", "boat", "cake", "dog", "garden", "lamp", "piano", "roof", "shoes", "table", "tent", "window"]
STEMS = ["bill", "data", "draft", "list", "map", "notes", "plan", "poem"]
FOLDERS = ["box", "club", "desk", "farm", "shop", "trip", "work", "yard"]
TREES = ["Birch", "Elm", "Maple", "Oak", "Pine"]
DOORS = ("driver", "passenger", "rear_left", "rear_right")
DIGITS = "123456789"

CITIES = {
    city.name: city
    for city in (
        City("Rivermist", "83214", "RMS"),
        City("Stonebrook", "74532", "SBK"),
        City("Maplecrest", "56108", "MPC"),
        City("Silverpine", "62947", "SVP"),
        City("Shadowridge", "71354", "SHD"),
        City("Sunset Valley", "83462", "SSV"),
        City("Oakendale", "47329", "OKD"),
        City("Willowbend", "52013", "WLB"),
        City("Crescent Hollow", "69238", "CRH"),
        City("Autumnville", "51479", "ATV"),
        City("San Francisco", "94016", "SFO"),
        City("Los Angeles", airport="LAX"),
        City("New York", airport="JFK"),
        City("Pinehaven", airport="PHV"),
        City("Rome", airport="CIA"),
        City("Tokyo", airport="HND"),
        City("Beijing", airport="PEK"),
    )
}


def _routes(rows: str) -> list[Route]:
    pairs = (row.split(",") for row in rows.split(";"))
    return [Route(CITIES[a.strip()], CITIES[b.strip()], float(km)) for a, b, km in pairs]


ROUTES = {
    (0, 1, 2): _routes(
        "Rivermist,San Francisco,980; Stonebrook,San Francisco,880; Maplecrest,Silverpine,320; "
        "Oakendale,Willowbend,290; Shadowridge,Sunset Valley,450; Crescent Hollow,Autumnville,630"
    ),
    (3,): _routes("Silverpine,Oakendale,1053"),
    (4,): _routes("Rivermist,Stonebrook,750; San Francisco,Silverpine,780"),
}
"""Every city of a held-out route also occurs in another route of training."""

_FLIGHTS = (
    ("San Francisco", "Maplecrest Shadowridge Sunset_Valley Willowbend Crescent_Hollow Autumnville Rome"),
    ("Los Angeles", "Pinehaven Tokyo"),
    ("New York", "Rivermist Maplecrest Shadowridge Oakendale Crescent_Hollow Los_Angeles Beijing"),
)
_COMPANIES = (
    "Apple:AAPL Google:GOOG Tesla:TSLA Microsoft:MSFT Nvidia:NVDA Amazon:AMZN Gorilla:GORI Zeta_Corp:ZETA "
    "Alpha_Tech:ALPH Omega_Industries:OMEG Neptune_Systems:NEPT Synex_Solutions:SYNX"
)
_METERS = {"km": 1000, "m": 1, "cm": 0.01, "mm": 0.001}
_IMPERIAL = {("cm", "in"): 0.393701, ("in", "cm"): 2.54, ("m", "ft"): 3.28084, ("ft", "m"): 0.3048}
_IMPERIAL |= {("m", "yd"): 1.09361, ("yd", "m"): 0.9144, ("miles", "km"): 1.60934}


def convert(n: float, a: str, b: str) -> float:
    """The answer of `imperial_si_conversion` or `si_unit_conversion`, operation by operation."""
    return n * _IMPERIAL[a, b] if (a, b) in _IMPERIAL else n * _METERS[a] * (1 / _METERS[b])


def _conversions(*units: str) -> list[Conversion]:
    """`a-b-c` for the numbers 2 to 99 whose intermediate value is short to write."""
    found = []
    for a, b, c in (route.split("-") for route in units):
        found += [Conversion(n, a, b, c, convert(n, a, b)) for n in range(2, 100)]
    return [conversion for conversion in found if len(repr(conversion.middle)) <= 6]


def _digit_sum(item: Any) -> int:
    return sum(int(char) for char in str(item) if char.isdigit())


@dataclass(frozen=True)
class Pool:
    """Values of one sort. `parts[i]` is the fifth of `items[i]`. A closed pool is rotated by the kind's name."""

    items: tuple[Any, ...]
    parts: tuple[int, ...]
    closed: bool = False

    @property
    def shared(self) -> bool:
        """Too small to be divided."""
        return len(self.items) < PARTS

    def of(self, split: str, kind: str) -> list[Any]:
        """The values that `kind` may draw in a split."""
        if self.shared:
            return list(self.items)
        turn = zlib.crc32(kind.encode()) if self.closed else 0
        return [
            item
            for item, part in zip(self.items, self.parts, strict=True)
            if (part + turn) % PARTS in SPLIT_SHARES[split]
        ]


def _open(items: Iterable[Any]) -> Pool:
    """Divided by position. If a product's last factor is no multiple of five, every piece is in every part."""
    items = tuple(items)
    return Pool(items, tuple(i % PARTS for i in range(len(items))))


def _numbers(items: Iterable[Any], digits_of: str = "") -> Pool:
    """Divided by the sum of the digits, so that a number is in the same part of every pool."""
    items = tuple(items)
    return Pool(items, tuple(_digit_sum(getattr(i, digits_of) if digits_of else i) % PARTS for i in items))


def _closed(items: Iterable[Any]) -> Pool:
    pool = _open(items)
    return Pool(pool.items, pool.parts, closed=True)


POOLS: dict[str, Pool] = {
    "name": _open("".join(parts) for parts in product(*NAME_PARTS)),
    "text": _open(" ".join(words) for words in product(VERBS, NOUNS)),
    "file": _open(f"{stem}{digit}.txt" for stem, digit in product(STEMS, DIGITS)),
    "folder": _open(f"{stem}{digit}" for stem, digit in product(FOLDERS, DIGITS)),
    "street": _open(f"{number} {tree} Street" for tree, number in product(TREES, range(12, 20))),
    "number": _numbers(range(11, 100)),
    "hundreds": _numbers(range(100, 1000, 100)),
    "digit": _numbers(range(2, 10)),
    "prime": _numbers((11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97)),
    "id": _numbers(range(101, 1000)),
    "code": _numbers(str(n) for n in range(101, 1000)),
    "gallons": _numbers(range(3, 12)),
    "liters": _numbers((Liters(n, g) for n in range(60, 99) if len(repr(g := n * 0.264172)) <= 9), "n"),
    "speed": _numbers(range(20, 121, 5)),
    "degrees": _numbers(range(16, 31)),
    "date": _numbers(f"2024-11-{day}" for day in range(11, 30)),
    "route": Pool(
        tuple(r for routes in ROUTES.values() for r in routes),
        tuple(p[i % len(p)] for p, routes in ROUTES.items() for i in range(len(routes))),
    ),
    "doors": _closed(list(pair) for pair in combinations(DOORS, 2)),
    "zip_city": _closed(city for city in CITIES.values() if city.zipcode),
    "air_city": _closed(city for city in CITIES.values() if city.airport),
    "flight": _closed(
        Flight(CITIES[start], CITIES[end.replace("_", " ")]) for start, ends in _FLIGHTS for end in ends.split()
    ),
    "company": _closed(Company(*row.replace("_", " ").split(":")) for row in _COMPANIES.split()),
    "option": _closed(["battery", "doors", "climate", "engine"]),
    "cabin": _closed(("economy", "first")),
    "side": _closed((Side("buy", "Buy"), Side("sell", "Sell"))),
    "currency": _closed(("EUR", "RMB", "JPY")),
    "to_imperial": _numbers(_conversions("km-m-ft", "km-m-yd", "m-cm-in", "cm-m-ft", "cm-m-yd"), "n"),
    "to_metric": _numbers(_conversions("ft-m-cm", "ft-m-km", "in-cm-m", "in-cm-mm", "yd-m-cm", "miles-km-m"), "n"),
}


@cache
def _members(pool: str, split: str, kind: str) -> list[Any]:
    return POOLS[pool].of(split, kind)


@cache
def _places(pool: str, split: str, kind: str) -> dict[Any, list[int]]:
    """Part of a value -> positions of the members that contain it."""
    places: dict[Any, list[int]] = {}
    if not POOLS[pool].shared:
        for place, item in enumerate(_members(pool, split, kind)):
            for atom in _atoms(item):
                places.setdefault(atom, []).append(place)
    return places


class ExhaustedError(Exception):
    """A split has no unused value left for this task. The generator starts the task again."""


class Values:
    """The values of one task. Nothing is drawn twice, so no turn asks for what an earlier one has answered."""

    def __init__(self, rng: random.Random, split: str) -> None:
        self.rng = rng
        self.split = split
        self._taken: set[Any] = set()

    def draw(self, pool: str, kind: str) -> Any:
        """An unused value of a pool.

        Raises:
            ExhaustedError: every value of the split is taken.
        """
        members, places = _members(pool, self.split, kind), _places(pool, self.split, kind)
        used = sorted({place for atom in self._taken for place in places.get(atom, ())})
        if len(used) == len(members):
            raise ExhaustedError(f"no value of pool {pool!r} is left for {kind!r} in split {self.split!r}")
        drawn = self.rng.choice(range(len(members) - len(used)))
        for place in used:
            drawn += place <= drawn
        item = members[drawn]
        self._taken.update(_atoms(item))
        return item

    def several(self, pool: str, n: int, kind: str) -> list[Any]:
        """`n` different unused values."""
        return [self.draw(pool, kind) for _ in range(n)]


def _atoms(item: Any) -> tuple[Any, ...]:
    """The parts that make two values collide. A city inside a route counts."""
    if isinstance(item, Route | Flight):
        return item[0], item[1]
    return (tuple(item),) if isinstance(item, list) else (item,)
