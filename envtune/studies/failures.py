"""The catalogue: an example of every way in which the eight simulators can fail, each reachable by calls alone.

In: nothing. Out: `CATALOGUE`, one `Failure` per failing site of the simulators' sources (bfcl-eval 2026.3.23), and
`play`, which runs one. The entries were written from the sources. `studies.hint_coverage` traces the runs: every line
that says `"error"` or raises is reached or stands in `UNREACHABLE`. Wrong types can fail at almost every line. The
table holds a few of them, and `ill_typed` makes the others from the schemas.

An entry without a hint says why none can help (`no_hint`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any

from envtune.data import bfcl
from envtune.environment.hint_rules import FS, MATH, MESSAGE, TICKET, TRADING, TRAVEL, TWITTER, VEHICLE
from envtune.environment.simulator import RawResult, Simulators
from envtune.types import JSON, Task, ToolCall


class Kind(StrEnum):
    """The form of a failure."""

    ERROR = "error"
    """The simulator answers with an error."""
    EXCEPTION = "exception"
    """It raises, and the executor answers `Error during execution: ...`."""
    SOFT = "soft"
    """It answers as if it had succeeded, but has not done what it was asked for."""


@dataclass(frozen=True)
class Failure:
    """One way to fail: `call` fails after the calls of `before`, in the domain's small scenario changed by `config`."""

    domain: str
    call: str
    """The failing call, written as in the benchmark's ground truth."""
    kind: Kind = Kind.ERROR
    before: str = ""
    """Calls that must precede it, separated by `; `."""
    config: JSON = field(default_factory=dict)
    """Attributes of the scenario that differ from `SCENARIOS`."""
    no_hint: str = ""
    """Why no hint can help. Empty if there is one."""
    said: str = "Please help."
    """The user's request."""


@dataclass(frozen=True)
class Played:
    """A played failure: the failing call, its raw result, the tools, and the texts that the agent had seen before."""

    call: ToolCall
    result: RawResult
    tools: tuple[JSON, ...]
    observed: tuple[str, ...]


def play(failure: Failure) -> Played:
    """Run the calls of `before`, then the failing one."""
    task = make_task(failure.domain, failure.config)
    simulators = Simulators(task)
    observed = [failure.said]
    for text in filter(None, failure.before.split("; ")):
        observed.append(simulators.call(_parse(failure.domain, text)).text)
    call = _parse(failure.domain, failure.call)
    return Played(call, simulators.call(call), task.tools, tuple(observed))


def make_task(domain: str, config: JSON) -> Task:
    """A task of one turn in the domain's small scenario."""
    entry = {
        "id": "multi_turn_base_0",
        "question": [[{"role": "user", "content": "Please help."}]],
        "initial_config": {domain: {**SCENARIOS[domain], **config}},
        "involved_classes": [domain],
    }
    return bfcl.make_task(entry, [[]], bfcl.tool_documents())


@cache
def _documents(domain: str) -> dict[str, JSON]:
    return {document["name"]: document for document in bfcl.tool_documents()[domain]}


def _parse(domain: str, text: str) -> ToolCall:
    return bfcl.parse_call(text, _documents(domain))


WRONG_VALUES: tuple[Any, ...] = (None, 7, True, "?", ["?"], {"?": 7})
"""One value of each JSON type."""


def ill_typed(domain: str) -> Iterator[Failure]:
    """Calls with one argument of a wrong type, one missing or one too many, for every argument of every tool."""
    logged_in = {"authenticated": True} if domain in (TWITTER, TRADING) else {}
    config = logged_in | ({"current_user": "USR001"} if domain in (MESSAGE, TICKET) else {})
    for name, document in _documents(domain).items():
        properties = document["parameters"]["properties"]
        right = {key: _RIGHT.get(key, _EXAMPLES[schema["type"]]) for key, schema in properties.items()}
        variants = [{**right, key: value} for key in properties for value in WRONG_VALUES]
        variants += [{k: v for k, v in right.items() if k != key} for key in document["parameters"].get("required", ())]
        for arguments in [*variants, {**right, "extra": 1}]:
            text = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            yield Failure(domain, f"{name}({text})", Kind.EXCEPTION, config=config)


_EXAMPLES: JSON = {
    "string": "notes.txt", "integer": 1, "float": 1.0, "number": 1.0, "boolean": True, "array": [], "dict": {},
}  # fmt: skip
_RIGHT: JSON = {
    "access_token": "token", "card_id": "card", "travel_from": "SFO", "travel_to": "LAX", "travel_class": "economy",
    "travel_date": "2024-05-01", "booking_id": "whole", "symbol": "AAPL", "start_date": "2024-05-01",
    "end_date": "2024-05-02", "first_name": "Ann", "last_name": "Lee", "date_of_birth": "1990-01-01",
    "base_currency": "USD", "target_currency": "EUR", "unit_in": "km", "unit_out": "m", "tweet_id": 1,
}  # fmt: skip


def _file(content: str) -> JSON:
    return {"type": "file", "content": content}


def _folder(**contents: JSON) -> JSON:
    return {"type": "directory", "contents": contents}


_CARD: JSON = {
    "card_number": "4111", "expiration_date": "12/2030", "cardholder_name": "Ann Lee", "card_verification_number": 123,
    "balance": 5000.0,
}  # fmt: skip
_BOOKING: JSON = {
    "card_id": "card", "travel_date": "2024-05-01", "travel_from": "SFO", "travel_to": "LAX",
    "travel_class": "economy", "travel_cost": 200.0, "transaction_id": "45451592",
}  # fmt: skip
_LOCKED = dict.fromkeys(("driver", "passenger", "rear_left", "rear_right"), "locked")

SCENARIOS: dict[str, JSON] = {
    FS: {
        "root": {
            "home": _folder(
                docs=_folder(plan=_file("one"), inner=_folder()),
                empty=_folder(),
                notes=_file("b\na"),
                plan=_file("two"),
            )
        }
    },
    MATH: {},
    MESSAGE: {},
    TWITTER: {
        "tweets": {
            "1": {"id": 1, "username": "ann", "content": "Hello", "tags": [], "mentions": []},
            "2": {"id": 2, "username": "bob", "content": "Bye", "tags": []},
        }
    },
    TICKET: {
        "ticket_queue": [
            {"id": 1, "title": "a", "description": "", "status": "Closed", "priority": 1, "created_by": "ann"},
            {"id": 2, "title": "b", "description": "", "status": "Resolved", "priority": 1, "created_by": "ann"},
        ]
    },
    TRADING: {},
    TRAVEL: {
        "access_token": "token",
        "token_expires_in": 2,
        "user_first_name": "Ann",
        "user_last_name": "Lee",
        "credit_card_list": {"card": _CARD, "blank": {"card_number": "4222"}},
        "booking_record": {"whole": _BOOKING, "torn": {"price": 3}, "lost": {**_BOOKING, "card_id": "gone"}},
    },
    VEHICLE: {},
}
"""Per domain, a scenario just large enough to fail in. What is absent has the simulator's default."""

_LOGGED_IN: JSON = {"authenticated": True}
_USER: JSON = {"current_user": "ann"}
_OPEN: JSON = {"authenticated": True, "market_status": "Open"}
_READY: JSON = {"doorStatus": _LOCKED, "brakePedalStatus": "pressed", "brakePedalForce": 1000.0}
_EXPIRED: JSON = {"token_expires_in": 0}
_FLIGHT = "travel_date='2024-05-01', travel_from='SFO', travel_to='LAX', travel_class='economy'"
_BOOK = "book_flight(access_token='token', card_id='card', "
_REGISTER = "card_number='9', expiration_date='12/2030', cardholder_name='Ann Lee', card_verification_number=1)"
_INSURE = "insurance_type='full', insurance_cost=10.0"
_HUGE = 10**400
E, X, S = Kind.ERROR, Kind.EXCEPTION, Kind.SOFT

CATALOGUE: tuple[Failure, ...] = (
    # -- GorillaFileSystem -------------------------------------------------------------------------------------------
    Failure(FS, "cd(folder='docs/inner')"),
    Failure(FS, "cd(folder='/home/docs')"),
    Failure(FS, "cd(folder='..')"),
    Failure(FS, "cd(folder='nowhere')"),
    Failure(FS, "cd(folder='notes')"),
    Failure(FS, "cd(folder='notes.txt')"),
    Failure(FS, "cd(folder=5)", X),
    Failure(FS, "mkdir(dir_name='docs/new')"),
    Failure(FS, "mkdir(dir_name='what?')"),
    Failure(FS, "mkdir(dir_name='docs')"),
    Failure(FS, "mkdir(dir_name=5)", X),
    Failure(FS, "touch(file_name='docs/new')"),
    Failure(FS, "touch(file_name='what?')"),
    Failure(FS, "touch(file_name='notes')"),
    Failure(FS, "echo(content='x', file_name='docs/new')"),
    Failure(FS, "echo(content='x', file_name='what?')"),
    Failure(FS, "echo(content='x', file_name='new')"),
    Failure(FS, "echo(content='x', file_name='docs')", X),
    Failure(FS, "cat(file_name='docs/plan')"),
    Failure(FS, "cat(file_name='what?')"),
    Failure(FS, "cat(file_name='docs')"),
    Failure(FS, "cat(file_name='nothing')"),
    Failure(FS, "find(path='nowhere', name='x')"),
    Failure(FS, "find(path=None)", X),
    Failure(FS, "wc(file_name='notes', mode='x')"),
    Failure(FS, "wc(file_name='nothing', mode='l')"),
    Failure(FS, "wc(file_name='docs')"),
    Failure(FS, "sort(file_name='nothing')"),
    Failure(FS, "sort(file_name='docs/plan')"),
    Failure(FS, "grep(file_name='nothing', pattern='a/b')"),
    Failure(FS, "grep(file_name='notes', pattern=5)", X),
    Failure(FS, "tail(file_name='nothing', lines=1)"),
    Failure(FS, "tail(file_name='notes', lines='x')", X),
    Failure(FS, "diff(file_name1='notes', file_name2='nothing')"),
    Failure(FS, "diff(file_name1='notes', file_name2='docs')"),
    Failure(FS, "mv(source='nothing', destination='x')"),
    Failure(FS, "mv(source='notes', destination='docs/notes')"),
    Failure(FS, "mv(source='plan', destination='docs')"),
    Failure(FS, "mv(source='notes', destination='plan')"),
    Failure(FS, "mv(source='notes', destination='notes')"),
    Failure(FS, "rm(file_name='nothing')"),
    Failure(FS, "rm(file_name='docs/plan')"),
    Failure(FS, "rm(file_name=['notes'])", X),
    Failure(FS, "rmdir(dir_name='docs')"),
    Failure(FS, "rmdir(dir_name='notes')"),
    Failure(FS, "rmdir(dir_name='nothing')"),
    Failure(FS, "cp(source='nothing', destination='x')"),
    Failure(FS, "cp(source='notes', destination='docs/notes')"),
    Failure(FS, "cp(source='notes', destination='plan')"),
    Failure(FS, "cp(source='plan', destination='docs')", X),
    Failure(FS, "cp(source='empty', destination='docs')", X, "cp(source='empty', destination='docs')"),
    # -- MathAPI -----------------------------------------------------------------------------------------------------
    Failure(MATH, "logarithm(value=8, base=1, precision=5)"),
    Failure(MATH, "logarithm(value='x', base=2, precision=5)"),
    Failure(MATH, "logarithm(value=8, base=2, precision='x')"),
    Failure(MATH, "mean(numbers=[])"),
    Failure(MATH, "mean(numbers=['x'])"),
    Failure(MATH, "standard_deviation(numbers=[])"),
    Failure(MATH, "standard_deviation(numbers=['x'])"),
    Failure(MATH, "standard_deviation(numbers=[1e200, -1e200])", X),
    Failure(MATH, "si_unit_conversion(value='x', unit_in='km', unit_out='m')"),
    Failure(MATH, "si_unit_conversion(value=1, unit_in='kilometer', unit_out='m')"),
    Failure(MATH, f"si_unit_conversion(value={_HUGE}, unit_in='cm', unit_out='km')"),
    Failure(MATH, "imperial_si_conversion(value='x', unit_in='cm', unit_out='in')"),
    Failure(MATH, "imperial_si_conversion(value=1, unit_in='mile', unit_out='km')"),
    Failure(MATH, "imperial_si_conversion(value=1, unit_in='inch', unit_out='cm')"),
    Failure(MATH, f"imperial_si_conversion(value={_HUGE}, unit_in='in', unit_out='cm')"),
    Failure(MATH, "add(a='x', b=1)"),
    Failure(MATH, f"add(a={_HUGE}, b=0.5)", X),
    Failure(MATH, "subtract(a='x', b=1)"),
    Failure(MATH, f"subtract(a={_HUGE}, b=0.5)", X),
    Failure(MATH, "multiply(a='x', b=1)"),
    Failure(MATH, f"multiply(a={_HUGE}, b=0.5)", X),
    Failure(MATH, "divide(a=1, b=0)"),
    Failure(MATH, "divide(a='x', b=1)"),
    Failure(MATH, f"divide(a={_HUGE}, b=1)", X),
    Failure(MATH, "power(base='x', exponent=1)"),
    Failure(MATH, "power(base=10.0, exponent=400)", X),
    Failure(MATH, "power(base=0, exponent=-1)", X),
    Failure(MATH, "square_root(number=-1, precision=5)"),
    Failure(MATH, "square_root(number='x', precision=5)"),
    Failure(MATH, "square_root(number=2, precision=0)", X),
    Failure(MATH, "absolute_value(number='x')"),
    Failure(MATH, "round_number(number='x')"),
    Failure(MATH, "percentage(part=1, whole=0)"),
    Failure(MATH, "percentage(part='x', whole=1)"),
    Failure(MATH, f"percentage(part={_HUGE}, whole=1)", X),
    Failure(MATH, "min_value(numbers=[])"),
    Failure(MATH, "min_value(numbers=['x', 1])"),
    Failure(MATH, "max_value(numbers=[])"),
    Failure(MATH, "max_value(numbers=['x', 1])"),
    Failure(MATH, "sum_values(numbers=[])"),
    Failure(MATH, "sum_values(numbers=['x'])"),
    # -- MessageAPI --------------------------------------------------------------------------------------------------
    Failure(MESSAGE, "get_user_id(user='Eve')"),
    Failure(MESSAGE, "message_login(user_id='Alice')", S),
    Failure(MESSAGE, "message_login(user_id='USR009')", S),
    Failure(MESSAGE, "send_message(receiver_id='USR002', message='Hi')"),
    Failure(MESSAGE, "send_message(receiver_id='Bob', message='Hi')", before="message_login(user_id='USR001')"),
    Failure(MESSAGE, "send_message(receiver_id='USR009', message='Hi')", before="message_login(user_id='USR001')"),
    Failure(MESSAGE, "delete_message(receiver_id='USR002')"),
    Failure(MESSAGE, "delete_message(receiver_id='USR001')", before="message_login(user_id='USR001')"),
    Failure(MESSAGE, "view_messages_sent()"),
    Failure(MESSAGE, "add_contact(user_name='Alice')"),
    Failure(MESSAGE, "add_contact(user_name='Eve')", config={"user_count": 3}),
    Failure(MESSAGE, "search_messages(keyword='x')"),
    Failure(MESSAGE, "search_messages(keyword=5)", X, "message_login(user_id='USR001')"),
    Failure(MESSAGE, "get_message_stats()"),
    Failure(MESSAGE, "search_messages(keyword='x')", X,
            config={"current_user": "USR001", "inbox": [{"USR002": ["x"]}]}),
    # -- TwitterAPI --------------------------------------------------------------------------------------------------
    Failure(TWITTER, "authenticate_twitter(username='john', password='x')", S),
    Failure(TWITTER, "post_tweet(content='Hi')"),
    Failure(TWITTER, "retweet(tweet_id=1)"),
    Failure(TWITTER, "retweet(tweet_id=9)", config=_LOGGED_IN),
    Failure(TWITTER, "retweet(tweet_id=1)", S, "retweet(tweet_id=1)", _LOGGED_IN),
    Failure(TWITTER, "comment(tweet_id=1, comment_content='Hi')"),
    Failure(TWITTER, "comment(tweet_id=9, comment_content='Hi')", config=_LOGGED_IN),
    Failure(TWITTER, "mention(tweet_id=9, mentioned_usernames=['bob'])"),
    Failure(TWITTER, "mention(tweet_id=2, mentioned_usernames=['bob'])", X),
    Failure(TWITTER, "mention(tweet_id=1, mentioned_usernames=5)", X),
    Failure(TWITTER, "follow_user(username_to_follow='eve')"),
    Failure(TWITTER, "follow_user(username_to_follow='alice')", S, config=_LOGGED_IN),
    Failure(TWITTER, "list_all_following()"),
    Failure(TWITTER, "unfollow_user(username_to_unfollow='alice')"),
    Failure(TWITTER, "unfollow_user(username_to_unfollow='eve')", S, config=_LOGGED_IN),
    Failure(TWITTER, "get_tweet(tweet_id=9)"),
    Failure(TWITTER, "get_tweet_comments(tweet_id=9)"),
    Failure(TWITTER, "search_tweets(keyword=5)", X),
    Failure(TWITTER, "search_tweets(keyword='zzz')", X, "post_tweet(content=['a'])", _LOGGED_IN),
    Failure(TWITTER, "search_tweets(keyword='zzz')", X, "post_tweet(content='a', tags=5)", _LOGGED_IN),
    Failure(TWITTER, "mention(tweet_id=9, mentioned_usernames=['bob'])", X, "post_tweet(content='a', mentions='b')",
            {**_LOGGED_IN, "tweet_counter": 9}),
    Failure(TWITTER, "search_tweets(keyword='zzz')", X,
            config={"tweets": {"3": {"id": 3, "username": "ann", "content": "Hello", "mentions": []}}}),
    # -- TicketAPI ---------------------------------------------------------------------------------------------------
    Failure(TICKET, "create_ticket(title='c')"),
    Failure(TICKET, "create_ticket(title='c', priority=9)", config=_USER),
    Failure(TICKET, "create_ticket(title='c', priority='high')", X, config=_USER),
    Failure(TICKET, "get_ticket(ticket_id=9)"),
    Failure(TICKET, "close_ticket(ticket_id=9)"),
    Failure(TICKET, "close_ticket(ticket_id=1)"),
    Failure(TICKET, "resolve_ticket(ticket_id=9, resolution='done')"),
    Failure(TICKET, "resolve_ticket(ticket_id=2, resolution='done')"),
    Failure(TICKET, "edit_ticket(ticket_id=9, updates={'priority': 2})"),
    Failure(TICKET, "edit_ticket(ticket_id=1, updates={'owner': 'bob'})"),
    Failure(TICKET, "edit_ticket(ticket_id=1, updates='priority 2')", X),
    Failure(TICKET, "ticket_login(username='', password='x')", S),
    Failure(TICKET, "logout()", S),
    Failure(TICKET, "get_user_tickets()"),
    Failure(TICKET, "get_user_tickets()", X, config={"current_user": "ann", "ticket_queue": [{"id": 3}]}),
    Failure(TICKET, "get_ticket(ticket_id=3)", X, config={"ticket_queue": [{"title": "c"}]}),
    Failure(TICKET, "get_user_tickets(status=5)", X, config={"current_user": "ann"}),
    # -- TradingBot --------------------------------------------------------------------------------------------------
    Failure(TRADING, "get_symbol_by_name(name='Nowhere Inc.')", S),
    Failure(TRADING, "get_stock_info(symbol='Apple')"),
    Failure(TRADING, "get_stock_info(symbol='GORI')", before="get_symbol_by_name(name='Gorilla')"),
    Failure(TRADING, "get_order_details(order_id=1)"),
    Failure(TRADING, "get_order_details(order_id=1)", config={"orders": {}}),
    Failure(TRADING, "cancel_order(order_id=1)"),
    Failure(TRADING, "cancel_order(order_id=12345)"),
    Failure(TRADING, "place_order(order_type='Buy', symbol='AAPL', price=1.0, amount=1)"),
    Failure(TRADING, "place_order(order_type='Buy', symbol='Apple', price=1.0, amount=1)", config=_LOGGED_IN),
    Failure(TRADING, "place_order(order_type='Buy', symbol='AAPL', price=0.0, amount=1)", config=_LOGGED_IN),
    Failure(TRADING, "place_order(order_type='Buy', symbol='AAPL', price=1e6, amount=9)", config=_LOGGED_IN),
    Failure(TRADING, "place_order(order_type=1, symbol='AAPL', price=1.0, amount=1)", X, config=_LOGGED_IN),
    Failure(TRADING, "withdraw_funds(amount=1.0)"),
    Failure(TRADING, "withdraw_funds(amount=1.0)", config=_LOGGED_IN),
    Failure(TRADING, "withdraw_funds(amount=-1.0)", config=_OPEN),
    Failure(TRADING, "withdraw_funds(amount=1e9)", config=_OPEN),
    Failure(TRADING, "get_account_info()"),
    Failure(TRADING, "trading_login(username='ann', password='x')", S, config=_LOGGED_IN,
            no_hint="'Already logged in' is what the caller wants, and the answer says so."),
    Failure(TRADING, "trading_logout()", S,
            no_hint="'No user is currently logged in' is what the caller wants, and the answer says so."),
    Failure(TRADING, "fund_account(amount=1.0)"),
    Failure(TRADING, "fund_account(amount=0.0)", config=_LOGGED_IN),
    Failure(TRADING, "remove_stock_from_watchlist(symbol='NVDA')"),
    Failure(TRADING, "remove_stock_from_watchlist(symbol='AAPL')", config=_LOGGED_IN),
    Failure(TRADING, "get_watchlist()"),
    Failure(TRADING, "get_order_history()"),
    Failure(TRADING, "get_transaction_history()"),
    Failure(TRADING, "get_transaction_history(start_date='May')", X, config=_LOGGED_IN),
    Failure(TRADING, "get_transaction_history(end_date='May')", X, config=_LOGGED_IN),
    Failure(TRADING, "get_available_stocks(sector='Tech')", S),
    Failure(TRADING, "add_to_watchlist(stock='Apple')", S),
    Failure(TRADING, "add_to_watchlist(stock='GORI')", S, "get_symbol_by_name(name='Gorilla')"),
    Failure(TRADING, "filter_stocks_by_price(stocks=['AAPL'], min_price='a', max_price='b')", X),
    Failure(TRADING, "notify_price_change(stocks=['AAPL'], threshold='x')", X),
    # -- TravelAPI ---------------------------------------------------------------------------------------------------
    Failure(TRAVEL, f"register_credit_card(access_token='token', {_REGISTER}", config={"token_expires_in": None}),
    Failure(TRAVEL, f"register_credit_card(access_token='token', {_REGISTER}", config=_EXPIRED),
    Failure(TRAVEL, f"register_credit_card(access_token='x', {_REGISTER}"),
    Failure(TRAVEL, f"register_credit_card(access_token='token', {_REGISTER.replace('9', 'card', 1)}"),
    Failure(TRAVEL, "get_flight_cost(travel_from='Boston', travel_to='LAX', travel_date='2024-05-01', "
            "travel_class='economy')", X),
    Failure(TRAVEL, f"get_flight_cost({_FLIGHT.replace('LAX', 'HND')})", X),
    Failure(TRAVEL, f"get_flight_cost({_FLIGHT.replace('economy', 'coach')})", X),
    Failure(TRAVEL, "get_credit_card_balance(access_token='token', card_id='card')", config=_EXPIRED),
    Failure(TRAVEL, "get_credit_card_balance(access_token='x', card_id='card')"),
    Failure(TRAVEL, "get_credit_card_balance(access_token='x', card_id='card')",
            before="authenticate_travel(client_id='c', client_secret='s', refresh_token='r', grant_type='read', "
            "user_first_name='Ann', user_last_name='Lee')"),
    Failure(TRAVEL, "get_credit_card_balance(access_token='token', card_id='x')"),
    Failure(TRAVEL, "get_credit_card_balance(access_token='token', card_id='x')", config={"credit_card_list": {}}),
    Failure(TRAVEL, "get_credit_card_balance(access_token='token', card_id='blank')", X),
    Failure(TRAVEL, f"{_BOOK}{_FLIGHT})", config=_EXPIRED),
    Failure(TRAVEL, f"{_BOOK.replace('token', 'x').replace('access_x', 'access_token')}{_FLIGHT})"),
    Failure(TRAVEL, f"{_BOOK.replace(chr(39) + 'card', chr(39) + 'x')}{_FLIGHT})"),
    Failure(TRAVEL, f"{_BOOK.replace(chr(39) + 'card', chr(39) + 'blank')}{_FLIGHT})"),
    Failure(TRAVEL, f"{_BOOK}{_FLIGHT.replace('SFO', 'San Francisco')})"),
    Failure(TRAVEL, f"{_BOOK}{_FLIGHT.replace('LAX', 'Los Angeles')})"),
    Failure(TRAVEL, f"{_BOOK}{_FLIGHT.replace('2024-05-01', 'May 1')})"),
    Failure(TRAVEL, f"{_BOOK}{_FLIGHT.replace('economy', 'coach')})"),
    Failure(TRAVEL, f"{_BOOK}{_FLIGHT.replace('LAX', 'HND')})"),
    Failure(TRAVEL, f"{_BOOK}{_FLIGHT})", config={"credit_card_list": {"card": {**_CARD, "balance": 5.0}}}),
    Failure(TRAVEL, f"{_BOOK}{_FLIGHT})", config={"budget_limit": 9000.0}),
    Failure(TRAVEL, "retrieve_invoice(access_token='token', booking_id='whole')", config=_EXPIRED),
    Failure(TRAVEL, "retrieve_invoice(access_token='x', booking_id='whole')"),
    Failure(TRAVEL, "retrieve_invoice(access_token='token', booking_id='x')"),
    Failure(TRAVEL, "retrieve_invoice(access_token='token', booking_id='torn')", X),
    Failure(TRAVEL, "get_booking_history(access_token='token')", config=_EXPIRED),
    Failure(TRAVEL, "get_booking_history(access_token='x')"),
    Failure(TRAVEL, "cancel_booking(access_token='token', booking_id='whole')", config=_EXPIRED),
    Failure(TRAVEL, "cancel_booking(access_token='x', booking_id='whole')"),
    Failure(TRAVEL, "cancel_booking(access_token='token', booking_id='x')"),
    Failure(TRAVEL, "cancel_booking(access_token='token', booking_id='torn')", X),
    Failure(TRAVEL, "cancel_booking(access_token='token', booking_id='lost')", X),
    Failure(TRAVEL, "compute_exchange_rate(base_currency='EUR', target_currency='GBP', value=1.0)", X),
    Failure(TRAVEL, "compute_exchange_rate(base_currency='USD', target_currency='USD', value=1.0)", X),
    Failure(TRAVEL, "compute_exchange_rate(base_currency='Euro', target_currency='USD', value=1.0)", X),
    Failure(TRAVEL, "verify_traveler_information(first_name='Bob', last_name='Lee', date_of_birth='1990-01-01', "
            "passport_number='US1')", S),
    Failure(TRAVEL, "verify_traveler_information(first_name='Ann', last_name='Lee', date_of_birth='May 1', "
            "passport_number='US1')", S),
    Failure(TRAVEL, "verify_traveler_information(first_name='Ann', last_name='Lee', date_of_birth='2020-01-01', "
            "passport_number='US1')", S),
    Failure(TRAVEL, "verify_traveler_information(first_name='Ann', last_name='Lee', date_of_birth='1990-01-01', "
            "passport_number='DE1')", S),
    Failure(TRAVEL, "verify_traveler_information(first_name='Ann', last_name='Lee', date_of_birth='1990-01-01', "
            "passport_number='US2')", S, config={"user_first_name": None, "user_last_name": None}),
    Failure(TRAVEL, "set_budget_limit(access_token='token', budget_limit=5.0)", config=_EXPIRED),
    Failure(TRAVEL, "set_budget_limit(access_token='x', budget_limit=5.0)"),
    Failure(TRAVEL, "set_budget_limit(access_token='token', budget_limit='x')", X),
    Failure(TRAVEL, "get_nearest_airport_by_city(location='Nowhere')", S),
    Failure(TRAVEL, f"purchase_insurance(access_token='token', booking_id='whole', card_id='card', {_INSURE})",
            config=_EXPIRED),
    Failure(TRAVEL, f"purchase_insurance(access_token='x', booking_id='whole', card_id='card', {_INSURE})"),
    Failure(TRAVEL, f"purchase_insurance(access_token='token', booking_id='whole', card_id='card', {_INSURE})",
            config={"budget_limit": 5.0}),
    Failure(TRAVEL, f"purchase_insurance(access_token='token', booking_id='x', card_id='card', {_INSURE})"),
    Failure(TRAVEL, f"purchase_insurance(access_token='token', booking_id='whole', card_id='x', {_INSURE})"),
    Failure(TRAVEL, f"purchase_insurance(access_token='token', booking_id='whole', card_id='blank', {_INSURE})", X),
    Failure(TRAVEL, "contact_customer_support(booking_id='x', message='Help')"),
    # -- VehicleControlAPI -------------------------------------------------------------------------------------------
    Failure(VEHICLE, "startEngine(ignitionMode='START')"),
    Failure(VEHICLE, "startEngine(ignitionMode='START')", config={"doorStatus": _LOCKED}),
    Failure(VEHICLE, "startEngine(ignitionMode='START')", before="pressBrakePedal(pedalPosition=0.5)",
            config={"doorStatus": _LOCKED}),
    Failure(VEHICLE, "startEngine(ignitionMode='START')", config={**_READY, "fuelLevel": -1.0}),
    Failure(VEHICLE, "startEngine(ignitionMode='ON')", config=_READY),
    Failure(VEHICLE, "startEngine(ignitionMode='STOP')", config=_READY),
    Failure(VEHICLE, "startEngine(ignitionMode='STOP')"),
    Failure(VEHICLE, "fillFuelTank(fuelAmount=-1.0)"),
    Failure(VEHICLE, "fillFuelTank(fuelAmount=60.0)"),
    Failure(VEHICLE, "fillFuelTank(fuelAmount=60.0)", said="Fill in 60 liters."),
    Failure(VEHICLE, "fillFuelTank(fuelAmount=20.0)", said="Fill in 20 liters.", config={"fuelLevel": 40.0}),
    Failure(VEHICLE, "fillFuelTank(fuelAmount=1.0)", config={"fuelLevel": -5.0}),
    Failure(VEHICLE, "fillFuelTank(fuelAmount='full')", X),
    Failure(VEHICLE, "lockDoors(unlock=False, door=['front'])", X),
    Failure(VEHICLE, "lockDoors(unlock=True, door=['front'])", X),
    Failure(VEHICLE, "lockDoors(unlock=False, door='driver')", X),
    Failure(VEHICLE, "adjustClimateControl(temperature=20.0, fanSpeed=200)"),
    Failure(VEHICLE, "get_outside_temperature_from_weather_com()"),
    Failure(VEHICLE, "setHeadlights(mode='dim')"),
    Failure(VEHICLE, "displayCarStatus(option='wheels')"),
    Failure(VEHICLE, "activateParkingBrake(mode='on')"),
    Failure(VEHICLE, "pressBrakePedal(pedalPosition=2.0)"),
    Failure(VEHICLE, "setCruiseControl(speed=60.0, activate=True, distanceToNextVehicle=50.0)"),
    Failure(VEHICLE, "setCruiseControl(speed=62.0, activate=True, distanceToNextVehicle=50.0)",
            config={"engineState": "running"}),
    Failure(VEHICLE, "setCruiseControl(speed=200.0, activate=True, distanceToNextVehicle=50.0)",
            config={"engineState": "running"}),
    Failure(VEHICLE, "setCruiseControl(speed='fast', activate=True, distanceToNextVehicle=50.0)", X),
    Failure(VEHICLE, "estimate_distance(cityA='Rivermist', cityB='Stonebrook')"),
    Failure(VEHICLE, "estimate_distance(cityA='83214', cityB='83462')"),
    Failure(VEHICLE, "get_zipcode_based_on_city(city='Nowhere')", S),
    Failure(VEHICLE, "estimate_drive_feasibility_by_mileage(distance='far')", X),
    Failure(VEHICLE, "liter_to_gallon(liter='x')", X),
    Failure(VEHICLE, "gallon_to_liter(gallon='x')", X),
    Failure(VEHICLE, "set_navigation(destination=5)", X),
)  # fmt: skip

_NEVER_OTHER = "A directory holds files and directories only, so no item is anything else."
UNREACHABLE: dict[tuple[str, int], str] = {
    (FS, 314): "Only the root has no parent, and the root equals itself.",
    (FS, 636): _NEVER_OTHER,
    (FS, 691): _NEVER_OTHER,
    (FS, 748): _NEVER_OTHER,
    (FS, 761): "It looks for a name with a slash, and no name has one; the copy then raises instead.",
    (MATH, 207): "The types are checked before, and the product of two numbers raises no TypeError.",
    (TRADING, 306): "The texts that are formatted have no other field than the symbol.",
    (TRAVEL, 543): "The cost has just been stored under the key that is looked up.",
}
"""(domain, first line of the statement) -> why no call reaches it. The sources' hashes are checked, so lines stay."""
