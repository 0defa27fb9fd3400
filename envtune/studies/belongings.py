"""Everything in the simulators that a call can take away.

In: simulators. Out: a `Counter` of things. The counter before a call minus the one after it is what the call took away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from envtune.environment.hint_rules import FS, MESSAGE, TICKET, TRADING, TRAVEL, TWITTER
from envtune.environment.simulator import Simulators


def belongings(world: Simulators) -> Counter[str]:
    """Files by content, messages, tickets, orders, bookings, who is followed and watched, and money."""
    found: Counter[str] = Counter()
    classes = {tool.cls for tool in world.tools.values()}
    if FS in classes:
        found.update(_files(world.live(FS).root))
    if MESSAGE in classes:
        found.update(f"message {message}" for message in world.live(MESSAGE).inbox)
    if TWITTER in classes:
        found.update(f"follows {name}" for name in world.live(TWITTER).following_list)
    if TICKET in classes:
        found.update(f"ticket {ticket}" for ticket in world.live(TICKET).ticket_queue)
    if TRADING in classes:
        bot = world.live(TRADING)
        found.update(f"order {order}" for order in bot.orders.values())
        found.update([f"login {bot.authenticated}", f"balance {bot.account_info.get('balance')}"])
        found.update(f"watches {symbol}" for symbol in bot.watch_list)
    if TRAVEL in classes:
        travel = world.live(TRAVEL)
        found.update(f"booking {booking}" for booking in travel.booking_record)
        found.update(f"card {card} {data.get('balance')}" for card, data in travel.credit_card_list.items())
        found.update([f"limit {travel.budget_limit}"])
    return found


def _files(folder: Any, depth: int = 0) -> Iterator[str]:
    for name, item in folder.contents.items():
        if hasattr(item, "contents"):
            yield f"folder {name}"
            if depth < 20:
                yield from _files(item, depth + 1)
        else:
            yield f"file {name} {len(item.content)} {item.content[:60]}"
