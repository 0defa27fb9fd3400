"""Guards: no call that a model writes can hang, exhaust or change the process.

In: a call and the simulator it goes to. Out: nothing, or an `ExceededError` whose message names the argument, the bound
and the way out. `environment.simulator` returns it as the call's result, marked `guarded`. Every guard looks at sizes,
all but the last two before the simulator runs. So no timer is needed, nothing is interrupted half-way, and nothing
depends on signals, threads or the speed of the machine. `studies.fuzz` searches for calls that get past the guards.

| what | bound | why |
|---|---|---|
| tool name | 200 characters | it is parsed to word the error |
| one call's arguments | JSON, 64 levels, 100,000 characters (4 more per item) | the simulator keeps and prints them |
| all arguments of an episode | 1,000,000 characters (50 more per call) | total size of the simulators |
| an integer, given or computed by `power` | 4,300 digits | Python does not print longer ones |
| `power` of a negative base | whole exponents | the result would be complex |
| `round_number` of an integer | -4,300 places | the power of ten is computed |
| `precision` of `logarithm`, `square_root` | 1,000 digits | time grows faster than precision |
| numbers given as text to `logarithm` | 40 characters | an exponent of thousands of digits |
| names and words that a tool copies per record | 300 characters | (records x length) is what it returns |
| directory nesting | 100 levels | recursion |
| `cp`, `mv`: directories | into themselves or their own contents: never | a tree that never ends |
| `cp`, `mv`, `find`, `du`: the tree | 10,000 entries, 10,000,000 characters with paths | copies share, trees double |
| one result | 200,000 characters | the agent must read it |
| all results of an episode | 10,000,000 characters | the episode's record |

For comparison, the 800 ground truths need at most: 6,701 characters for the arguments of one call, 31,706 for one
result, 70,454 for an episode, trees of 125 entries on 3 levels, and a `precision` of 10. The longest result of a
reading tool has 84,503 characters (long_context, `get_transaction_history`). No guard stops a ground truth (tested).

`environment.isolation` is the other half: tools that change process-wide state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

MAX_NAME = 200
MAX_DEPTH = 64
MAX_CALL = 100_000
MAX_EPISODE = 1_000_000
PER_ITEM, PER_CALL = 4, 50
MAX_DIGITS = 4_300
MAX_BITS = 14_284
"""Every integer of this many bits has at most `MAX_DIGITS` digits."""
MAX_PRECISION = 1_000
MAX_NUMBER_TEXT = 40
MAX_WORD = 300
MAX_NESTING = 100
MAX_NODES = 10_000
MAX_TREE = 10_000_000
MAX_RESULT = 200_000
MAX_RESULTS = 10_000_000

PREFIX = "limit exceeded: "
"""Beginning of every guard's message, after the executor's `Error during execution: `."""


class ExceededError(Exception):
    """A bound was exceeded. The agent reads the message."""

    def __init__(self, what: str, way_out: str) -> None:
        super().__init__(f"{PREFIX}{what}; {way_out}")


def exceeded(text: str) -> str | None:
    """The bound and the way out as a guard words them, if `text` is the result of a call that a guard stopped."""
    _, found, message = text.partition(PREFIX)
    return message if found and text.startswith(("Error during execution: ", PREFIX)) else None


def measure(arguments: Any) -> tuple[int, bool]:
    """Size of a call's arguments, and whether every number in them is finite.

    Shared parts count as often as they would be written, so the walk ends after `MAX_CALL` items, even in a cycle.

    Raises:
        ExceededError: not JSON, too deep, too large, or an integer too long.
    """
    if type(arguments) is not dict:
        raise ExceededError("the arguments are not a JSON object", "give them by name")
    size, finite, depth = 0, True, 0
    values: list[Any] = [arguments]
    while values:
        depth += 1
        below: list[Any] = []
        for value in values:
            size += PER_ITEM * len(value)
            items = value
            if type(value) is dict:
                if not all(type(key) is str for key in value):
                    raise ExceededError("a key in the arguments is not a string", "use JSON objects only")
                size += sum(map(len, value))
                items = value.values()
            if size > MAX_CALL:
                raise _too_large()
            for item in items:
                kind = type(item)
                if kind is str:
                    size += len(item)
                elif kind is int:
                    size += _digits(item)
                elif kind is float:
                    finite = finite and math.isfinite(item)
                elif kind is dict or kind is list:
                    below.append(item)
                elif item is not None and kind is not bool:
                    raise ExceededError(f"the arguments hold a {kind.__name__}, which is not JSON", "use JSON values")
        if below and depth > MAX_DEPTH:
            raise ExceededError(f"the arguments are nested deeper than {MAX_DEPTH} levels", "flatten them")
        values = below
    if size > MAX_CALL:
        raise _too_large()
    return size, finite


def _too_large() -> ExceededError:
    return ExceededError(
        f"the arguments of one call may hold {MAX_CALL:,} characters", "shorten them or split the call"
    )


def _digits(number: int) -> int:
    if (bits := number.bit_length()) > MAX_BITS:
        raise ExceededError(f"an integer may have at most {MAX_DIGITS:,} digits", "use a smaller number")
    return bits // 3


class Meter:
    """Counts the characters that one episode gave to its simulators, and those that they returned."""

    __slots__ = ("given", "returned")

    def __init__(self) -> None:
        self.given = self.returned = 0

    def give(self, size: int) -> None:
        """Count a call with arguments of `size` characters, unless that is too much."""
        if size:
            if self.given + size + PER_CALL > MAX_EPISODE:
                raise ExceededError(
                    f"the arguments of all calls of this episode may hold {MAX_EPISODE:,} characters",
                    "finish with calls that need no long arguments",
                )
            self.given += size + PER_CALL

    def take(self, text: str) -> None:
        """Count a result, unless it is too long. The call has run by then."""
        if len(text) > MAX_RESULT:
            raise ExceededError(
                f"the call ran, but its result has {len(text):,} characters, more than {MAX_RESULT:,}",
                "ask for a smaller part",
            )
        if self.returned + len(text) > MAX_RESULTS:
            raise ExceededError(
                f"the call ran, but the results of this episode hold more than {MAX_RESULTS:,} characters",
                "finish without reading more",
            )
        self.returned += len(text)


Guard = Callable[[Any, dict[str, Any]], None]
"""(live simulator, arguments) -> nothing, or raises `ExceededError`. It only reads, and ignores wrong types."""


def _power(simulator: Any, arguments: dict[str, Any]) -> None:
    base, exponent = arguments.get("base"), arguments.get("exponent")
    if not isinstance(base, int | float) or not isinstance(exponent, int | float):
        return
    if isinstance(exponent, float) and base < 0 and not exponent.is_integer():
        raise ExceededError("power of a negative base with a fractional exponent is not a real number", "change one")
    if not isinstance(base, int) or not isinstance(exponent, int) or abs(base) < 2 or exponent < 2:
        return
    if exponent > MAX_BITS or math.log2(abs(base)) * exponent > MAX_BITS:
        raise ExceededError(f"the result of power may have at most {MAX_DIGITS:,} digits", "use smaller numbers")


def _round_number(simulator: Any, arguments: dict[str, Any]) -> None:
    places = arguments.get("decimal_places")
    if isinstance(places, int) and places < -MAX_DIGITS and isinstance(arguments.get("number"), int):
        raise ExceededError(f"decimal_places must be at least {-MAX_DIGITS:,}", "use a small number such as 2")


def _precision(simulator: Any, arguments: dict[str, Any]) -> None:
    try:
        precision = int(arguments["precision"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return
    if precision > MAX_PRECISION:
        raise ExceededError(f"precision must be at most {MAX_PRECISION:,}", "use a small number such as 10")


def _logarithm(simulator: Any, arguments: dict[str, Any]) -> None:
    _precision(simulator, arguments)
    for name in ("value", "base"):
        if isinstance(text := arguments.get(name), str) and len(text) > MAX_NUMBER_TEXT:
            raise ExceededError(f"{name} must be a number, not text of {len(text):,} characters", "use a JSON number")


def _word(name: str) -> Guard:
    def rule(simulator: Any, arguments: dict[str, Any]) -> None:
        if name in arguments and (size := measure({"": arguments[name]})[0]) > MAX_WORD:
            raise ExceededError(f"{name} holds {size:,} characters, more than {MAX_WORD}", "use a short text")

    return rule


def _mkdir(system: Any, arguments: dict[str, Any]) -> None:
    depth, directory = 0, system._current_dir
    while directory is not None and depth <= MAX_NESTING:
        depth, directory = depth + 1, directory.parent
    if depth >= MAX_NESTING:
        raise ExceededError(f"directories may be nested at most {MAX_NESTING} deep", "work in a higher directory")


def _copy(system: Any, arguments: dict[str, Any]) -> None:
    """`cp` copies a directory's contents one level deep, `mv` copies nothing. So copies share their children."""
    here = system._current_dir
    source, destination = arguments.get("source"), arguments.get("destination")
    if not isinstance(source, str) or not isinstance(destination, str) or source not in here.contents:
        return
    item = here._get_item(source)
    into = here._get_item(destination) if destination in here.contents else here
    nodes = 0
    if hasattr(item, "contents") and hasattr(into, "contents"):
        for directory in _walk(item, 1):
            nodes += len(directory.contents)
            if directory.contents is into.contents:
                raise ExceededError(
                    f"the directory {source[:50]!r} cannot go into itself", "choose another destination"
                )
    for directory in _walk(system.root, 1):
        nodes += len(directory.contents)
    if nodes >= MAX_NODES:
        raise _too_many()


def _tree(system: Any, arguments: dict[str, Any]) -> None:
    """`find` writes the whole path of every match, beginning with the path it was given."""
    path = arguments.get("path", ".")
    start = system._navigate_to_directory(path) if isinstance(path, str) else None
    if hasattr(start, "contents"):
        for _ in _walk(start, len(path)):
            pass


def _walk(top: Any, path: int) -> Iterator[Any]:
    """Every directory below and including `top`, a shared one as often as it is reached.

    Args:
        top: where to begin.
        path: length of the path of `top`.

    Raises:
        ExceededError: more nodes, levels or characters than allowed. A directory within itself has endless levels.
    """
    nodes = characters = 0
    pending = [(top, path, 1)]
    while pending:
        directory, path, depth = pending.pop()
        yield directory
        nodes += len(directory.contents)
        if nodes > MAX_NODES:
            raise _too_many()
        if depth > MAX_NESTING:
            raise ExceededError(f"directories are nested more than {MAX_NESTING} deep", "remove or flatten some first")
        for name, item in directory.contents.items():
            length = path + len(name) + 1
            characters += length
            if hasattr(item, "contents"):
                pending.append((item, length, depth + 1))
            elif isinstance(item.content, str):
                characters += len(item.content)
        if characters > MAX_TREE:
            raise ExceededError(
                f"the files and paths hold more than {MAX_TREE:,} characters", "use a short path, or remove some files"
            )


def _too_many() -> ExceededError:
    return ExceededError(f"at most {MAX_NODES:,} files and directories are allowed", "remove some first")


GUARDS: dict[str, Guard] = {
    "power": _power,
    "round_number": _round_number,
    "square_root": _precision,
    "logarithm": _logarithm,
    "mkdir": _mkdir,
    "cp": _copy,
    "mv": _copy,
    "find": _tree,
    "du": _tree,
    "ticket_login": _word("username"),
    "get_user_tickets": _word("status"),
    "search_tweets": _word("keyword"),
    "get_flight_cost": _word("travel_date"),
    "compute_exchange_rate": _word("value"),
}
"""Tool -> its own bounds. Every name belongs to one simulator."""
