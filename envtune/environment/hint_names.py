"""Which known tool does an unknown name mean? No answer is better than a wrong one.

In: the name that was called, its arguments, and the tools now available. Out: the names of the tools that it may mean,
the best first. Names are compared word by word (`getOrder` and `get_order_details` share two words). A tool is left out

- if a word of the one name is the opposite of a word of the other (`stopEngine`, `startEngine`), or both begin with
  verbs of different meaning (`post_tweet`, `get_tweet`);
- if the unknown name holds a word that is neither in the tool's name nor in its description
  (`get_current_fuel_level`, `get_current_speed`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from functools import cache

from envtune.types import JSON, ToolCall

SHARED = 0.5
"""Smallest share of common words with which a name is offered: twice the common words, divided by the words of both
names. A name with words that were not asked for needs a larger share."""
ALIKE = 0.8
"""Smallest similarity of two words that differ by a typing error."""

_OPPOSITES = (
    "start/stop begin/end open/close lock/unlock add/remove add/delete add/subtract create/delete create/remove "
    "create/close buy/sell follow/unfollow book/cancel place/cancel purchase/cancel fund/withdraw deposit/withdraw "
    "login/logout press/release engage/release engage/disengage on/off min/max minimum/maximum send/delete "
    "post/delete send/receive multiply/divide enable/disable activate/deactivate register/remove mkdir/rmdir "
    "mkdir/rm touch/rm sent/received google/weather"
)
OPPOSITES = frozenset(frozenset(pair.split("/")) for pair in _OPPOSITES.split())
_VERBS = (
    "get/fetch/retrieve/show/view/list/display/check/read/see/query/lookup search/find/look create/make/new add "
    "remove/delete/erase cancel close open start/begin stop/end lock unlock buy/purchase sell book/reserve "
    "place/submit send post/publish set/adjust edit/modify update resolve estimate/calculate/compute convert "
    "login/authenticate/signin logout/signout follow unfollow fund/deposit withdraw press release "
    "register verify/validate contact notify navigate filter sort mention comment"
)
VERBS = tuple(frozenset(group.split("/")) for group in _VERBS.split())
"""Words for what a tool does, by meaning."""
_FILLERS = "all tool function func api call do run execute now please the a an of to for from by in on with my v and"
FILLERS = frozenset(_FILLERS.split())
"""Words that do not distinguish tools."""


def nearest(call: ToolCall, schemas: Mapping[str, JSON]) -> list[str]:
    """The tools that the name of `call` may mean, the best first. Empty if none is near.

    Args:
        call: an unknown tool's call. Between equally near names, the one that takes its arguments comes first.
        schemas: name -> function schema, of the tools now available.
    """
    asked = words(call.name)
    scored = [(score, name) for name, schema in schemas.items() if (score := _score(call, asked, name, schema))]
    return [name for _, name in sorted(scored, key=lambda pair: pair[0], reverse=True)]


@cache
def words(name: str) -> tuple[str, ...]:
    """The words of a name in lower case and singular, without what stands before the last dot and without fillers."""
    last = re.split(r"[./:]+", name.strip("./: ")[:200])[-1]
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", last)
    found = tuple(_singular(part.lower()) for part in parts)
    return tuple(word for word in found if word not in FILLERS) or found


_PREFIX = re.compile(r"^(get|do|call|run|use)")


@cache
def _letters(name: str) -> str:
    """The letters of a name alone, without what marks it as a tool or a version."""
    last = re.split(r"[./:]+", name.strip("./: ")[:200])[-1]
    return re.sub(r"(tool|function|func|api|v)$", "", re.sub(r"[^a-z]", "", last.lower()))


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _score(call: ToolCall, asked: tuple[str, ...], name: str, schema: JSON) -> tuple[float, ...] | None:
    """How near a known name is: equal letters, arguments that fit, a common beginning, common words. None: not near."""
    known = words(name)
    arguments = len(call.arguments.keys() & schema["parameters"]["properties"].keys())
    if _letters(name) in (whole := _letters(call.name), _PREFIX.sub("", whole).removesuffix("now")):
        return (1, arguments, 1, 1.0)
    left, right, common = _compared(asked, known)
    if _contrary(left, right) or _other_verb(asked, known) or _reversed(asked, known):
        return None
    letters, own = "".join(asked), "".join(known)
    begins = own.startswith(letters) or letters.startswith(own)
    share = 2 * common / (len(asked) + len(known))
    slip = begins and min(len(letters), len(own)) >= 4 and abs(len(letters) - len(own)) <= 3
    longer = whole.startswith(_letters(name)) and len(known) > 1
    shorter = own.startswith(letters) and len(letters) >= 3 and len(asked) == 1 and _verb(asked) is None
    subject = [word for word in asked if word not in left and (word in known or _verb((word,)) is None)]
    told = subject and subject != [word for word in subject if word in VERBS[0]]
    shared = told and (share > SHARED or (share == SHARED and not right)) and _explained(left, schema)
    return (0, arguments, begins, share) if slip or longer or shorter or shared else None


def _compared(asked: tuple[str, ...], known: tuple[str, ...]) -> tuple[list[str], list[str], float]:
    """The words of each name without a counterpart in the other, and how many have one. A word that only means the
    same, or is only written alike, counts a little less."""
    right, left, common = list(known), [], 0.0
    for word in asked:
        match = word if word in right else next((other for other in right if _same(word, other)), None)
        if match is None:
            left.append(word)
        else:
            right.remove(match)
            common += 1 if match == word else 0.9
    return left, right, common


@cache
def _same(word: str, other: str) -> bool:
    """Whether two words mean the same, or differ by a typing error."""
    if frozenset((word, other)) in OPPOSITES or word.endswith(other) or other.endswith(word):
        return False
    if any(word in group and other in group for group in VERBS):
        return True
    return min(len(word), len(other)) > 3 and difflib.SequenceMatcher(None, word, other).ratio() >= ALIKE


def _contrary(left: list[str], right: list[str]) -> bool:
    return any(frozenset((a, b)) in OPPOSITES or f"un{a}" == b or f"un{b}" == a for a in left for b in right)


def _other_verb(asked: tuple[str, ...], known: tuple[str, ...]) -> bool:
    """Whether both names hold a verb, and the first one of each differs in meaning."""
    mine, theirs = _verb(asked), _verb(known)
    return mine is not None and theirs is not None and mine != theirs


@cache
def _verb(name: tuple[str, ...]) -> frozenset[str] | None:
    """The group of the first word that is a verb."""
    return next((group for word in name for group in VERBS if word in group), None)


def _reversed(asked: tuple[str, ...], known: tuple[str, ...]) -> bool:
    """Whether the names hold the same two words in the other order, as `liter_to_gallon` and `gallon_to_liter`."""
    common = [word for word in asked if word in known]
    return len(common) == 2 == len(known) and tuple(common) == known[::-1] and common[0] != common[1]


def _explained(left: list[str], schema: JSON) -> bool:
    """Whether the descriptions of a tool and its arguments hold all of these words."""
    if not left:
        return True
    properties: dict[str, JSON] = schema["parameters"]["properties"]
    said = [str(schema.get("description", "")).split("Tool description: ")[-1], *properties]
    said += [str(item.get("description", "")) for item in properties.values()]
    spoken = {_singular(word.lower()) for text in said for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", text)}
    return all(word in spoken or word in ("get",) for word in left)
