"""The rules of the eight domains, in one table. To add a rule, add a row.

A row says: when one of `tools` answers with a text in which `fails` is found, tell the agent `why`, and to `do` what
resolves it, with the first tool of `by` that is in its list. Rows are tried in their order, after the rules from the
schemas (`hint_schema`). They were written from the simulators' sources (`func_source_code/*.py` of bfcl-eval
2026.3.23). Every site there that can fail is in `failures.py`, with the hint it gets.

`why` and `do` are one sentence each and end with a full stop. In both, `{call}` is the tool that failed. In `do`,
`{tool}` is the tool that resolves it. Any other tool that is named stands in braces as well, so a row whose tools are
not all in the list gives way to the next row that applies.

No row holds a value of a task: the agent knows its own call, and the error says the rest. Some rows hold a value of the
tool itself, the same in every task: `unlock false`, `pedalPosition 1` and path `/`. Such a hint names a complete next
call. With `Strength.LIST` no hint does. Where `why` would tell the value, `vague` takes its place.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from envtune.types import ToolCall


@dataclass(frozen=True, slots=True)
class Rule:
    """One row. The three patterns are regular expressions that are searched for."""

    domain: str
    name: str
    tools: str
    """Tools that fail like this, separated by spaces."""
    fails: str
    """Pattern in the raw result."""
    why: str
    do: str
    by: str = ""
    """Tools that resolve the failure, the best first. Empty if the failed call only has to be made differently."""
    given: str = ""
    """Pattern in the arguments of the call, as JSON."""
    seen: str = ""
    """Pattern in a text that the agent was shown before. `{value}` in it is the value of the argument `about`."""
    about: str = ""
    also: str = ""
    """Further tools that `do` needs but does not name."""
    soft: bool = False
    """The result is no error for the benchmark, but the call did not do its job."""
    absent: str = ""
    """Argument whose value is missing in a result that should hold it."""
    vague: str = ""
    """Replaces `why` in a hint that lists several tools, if `why` says how to call the right one."""
    state: bool = False
    """The call fails whatever its arguments are, so it comes before what is wrong with them."""

    @property
    def resolving(self) -> tuple[str, ...]:
        """`by` as names."""
        return tuple(self.by.split())

    @property
    def needs(self) -> frozenset[str]:
        """The tools that `do` needs, without that of `by`."""
        named = {name for _, name, _, _ in string.Formatter().parse(self.do) if name}
        return frozenset(named - {"call", "tool"} | set(self.also.split()))

    def matches(self, call: ToolCall, text: str, error: bool, observed: Sequence[str]) -> bool:
        """Whether this row applies to this result of this call. `call.name` is one of `tools`."""
        return (
            error is not self.soft
            and re.search(self.fails, text) is not None
            and (not self.given or re.search(self.given, json.dumps(call.arguments)) is not None)
            and (not self.absent or json.dumps(call.arguments.get(self.absent)) not in text)
            and (not self.seen or self._was_shown(call, observed))
        )

    def _was_shown(self, call: ToolCall, observed: Sequence[str]) -> bool:
        """Whether `seen` is found in a text."""
        pattern = self.seen
        if self.about:
            value = call.arguments.get(self.about)
            if not isinstance(value, str | int | float) or isinstance(value, bool) or value == "":
                return False
            pattern = pattern.replace("{value}", re.escape(f"{value:g}" if isinstance(value, float) else str(value)))
        return any(re.search(pattern, shown) for shown in observed)


FS, MATH, MESSAGE, TWITTER = "GorillaFileSystem", "MathAPI", "MessageAPI", "TwitterAPI"
TICKET, TRADING, TRAVEL, VEHICLE = "TicketAPI", "TradingBot", "TravelAPI", "VehicleControlAPI"

_READERS = "cat sort grep tail wc diff"
_PATH = r'"(file_name\d?|dir_name|source)": "[^"]*/'
_TOKEN = (
    "register_credit_card get_credit_card_balance book_flight retrieve_invoice get_booking_history cancel_booking "
    "set_budget_limit purchase_insurance"
)
_ARITHMETIC = (
    "add subtract multiply divide power mean standard_deviation sum_values percentage absolute_value round_number "
    "si_unit_conversion imperial_si_conversion logarithm square_root min_value max_value"
)
_BOOKED = "retrieve_invoice cancel_booking purchase_insurance contact_customer_support"
_TWEET = "retweet comment mention get_tweet get_tweet_comments"
_NOT_CODE = r'"travel_(from|to)": "(?![A-Z]{3}")'
_CODES = r'(?=.*"travel_from": "[A-Z]{3}")(?=.*"travel_to": "[A-Z]{3}")'
_ZIPS = r'(?=.*"cityA": "\d{5}")(?=.*"cityB": "\d{5}")'
_NOT_ZIP = r'"city[AB]": "(?!\d{5}")'
_SAME = r'(?=.*"source": ("(?:[^"\\]|\\.)*"))(?=.*"destination": \1)'
_SAME_CURRENCY = r'(?=.*"base_currency": ("[^"]*"))(?=.*"target_currency": \1)'
_LITERS = r"(?<![\d.]){value}(\.0+)?[ -]?(?i:lit(er|re)s?|l)\b"
_OVER_50 = r'"fuelAmount": (5[1-9]|[6-9]\d|\d{3,})'
_LOOKED_UP = r'"symbol": "{value}"'
_ID = r'"(user|receiver)_id": "[^"]*\d'
_NAME = r'"(user|receiver)_id": "[^"\d]*"'
_UNIT_WORDS = r'"unit_(in|out)": "(?i:mi|miles?|[°º]?[cf]|celsius|fahrenheit|(degrees? ?)?(celsius|fahrenheit|[cf]))"'

RULES: tuple[Rule, ...] = (
    # -- GorillaFileSystem: names, not paths; everything happens in the current directory ---------------------------
    Rule(FS, "cd_one_level", "cd", r"Only one folder level",
         "cd goes down one folder at a time.",
         "Call cd once for each folder of the path, beginning with the first."),
    Rule(FS, "cd_above_root", "cd", r"already the root",
         "There is no folder above this one.",
         "Call {tool} to see what is here, then go on from this folder.", by="ls find"),
    Rule(FS, "cd_above_root", "cd", r"already the root",
         "There is no folder above this one.",
         "Go on from this folder."),
    Rule(FS, "cd_file", "cd", r"No such (file or )?directory", given=r'"folder": "[^"/]+\.\w{1,5}"',
         why="The current directory holds no folder of that name, and the name looks like one of a file.",
         do="Call {tool} with path / and that name to see where it is, then repeat {call} with the folders above it.",
         by="find"),
    Rule(FS, "cd_unknown", "cd", r"No such (file or )?directory",
         "The current directory holds no folder of that name.",
         "Call {tool} with path / and that name to see where it is, then repeat {call} one folder at a time.",
         by="find"),
    Rule(FS, "cd_unknown", "cd", r"No such (file or )?directory",
         "The current directory holds no folder of that name.",
         "Call {tool} to see where you are and what is there, then repeat {call} with a folder of that list.",
         by="ls"),
    Rule(FS, "cd_unknown", "cd", r"No such (file or )?directory",
         "The current directory holds no folder of that name.",
         "Call {tool} to see where you are, then repeat {call} with a folder that is there.", by="pwd"),
    Rule(FS, "find_path", "find", r"No such file",
         "path must be a folder that exists, not the name that is looked for.",
         "Repeat find with path / to search everywhere, and give what you look for as name."),
    Rule(FS, "deep_destination", "mv cp", r"path not allowed in destination",
         "destination must be one name, either of a folder in the current directory or a new name.",
         "Repeat {call} with the name of that folder alone, and go into it with {tool} for anything deeper.", by="cd"),
    Rule(FS, "deep_destination", "mv cp", r"path not allowed in destination",
         "destination must be one name, either of a folder in the current directory or a new name.",
         "Repeat {call} with the name of that folder alone."),
    Rule(FS, "name_not_path", f"{_READERS} touch mkdir echo mv cp rm rmdir", r"Invalid character|No such", given=_PATH,
         why="{call} takes the bare name of an item of the current directory, not a path.",
         do="Go to the folder with {tool}, one level per call, then repeat {call} with the name alone.", by="cd"),
    Rule(FS, "odd_name", "touch mkdir echo cat", r"Invalid character",
         "That name holds a character that no name may hold.",
         "Repeat {call} with a name of letters, digits, dots, dashes and underscores."),
    Rule(FS, "echo_new_file", "echo", r"No such file",
         "echo writes into a file that exists in the current directory, and makes none.",
         "Call {tool} with that name first, then repeat {call}.", by="touch"),
    Rule(FS, "echo_folder", "echo", r"'Directory' object has no attribute",
         "That name is a folder, and echo writes into files.",
         "Go into it with {tool} and repeat {call} with the name of a file there.", by="cd"),
    Rule(FS, "cat_folder", "cat", r"Is a directory",
         "That name is a folder, and cat shows files.",
         "Go into it with {tool}, then repeat {call} with the name of a file there.", by="cd"),
    Rule(FS, "not_here", "diff", r"No such file",
         "{call} found nothing suitable of that name in the current directory.",
         "Call {tool} with path / and each name, then {cd} to the folder of both and repeat {call}, or tell the user "
         "that they lie apart.", by="find"),
    Rule(FS, "not_here", f"{_READERS} mv cp rm rmdir", r"No such file",
         "{call} found nothing suitable of that name in the current directory.",
         "Call {tool} with path / and that name to see where it is, then {cd} to its folder and repeat {call}.",
         by="find"),
    Rule(FS, "not_here", f"{_READERS} mv cp rm rmdir", r"No such file",
         "{call} found nothing suitable of that name in the current directory.",
         "Call {tool} to see where you are and what is there, then go to its folder and repeat {call}.", by="ls",
         also="cd"),
    Rule(FS, "not_here", f"{_READERS} mv cp rm rmdir", r"No such file",
         "{call} found nothing suitable of that name in the current directory.",
         "Call {tool} to see where you are, then {cd} to its folder and repeat {call}.", by="pwd"),
    Rule(FS, "not_here", f"{_READERS} mv cp rm rmdir", r"No such file",
         "{call} found nothing suitable of that name in the current directory.",
         "Call {tool} with the folder that holds it, then repeat {call}.", by="cd"),
    Rule(FS, "not_here", f"{_READERS} mv cp rm rmdir", r"No such file",
         "{call} found nothing suitable of that name in the current directory.",
         "Call {tool} to see what is here, then repeat {call} with a name of that list or tell the user.",
         by="ls find"),
    Rule(FS, "exists", "touch mkdir", r"File exists",
         "An item of that name is there already.",
         "Go on with it as it is, or repeat {call} with another name."),
    Rule(FS, "onto_itself", "mv cp", r"File exists|already exists in directory|Not a directory", given=_SAME,
         why="source and destination are the same.",
         do="Go on if nothing has to change, or repeat {call} with another destination."),
    Rule(FS, "taken", "mv cp", r"File exists|already exists in directory",
         "The destination already holds an item of that name.",
         "Go on if it is the one you want, or repeat {call} with another destination."),
    Rule(FS, "onto_file", "mv cp", r"Not a directory",
         "The destination is a file that exists, and only a folder or a new name can take the item.",
         "Repeat {call} with another destination."),
    Rule(FS, "rmdir_file", "rmdir", r"Not a directory",
         "That name is a file, and rmdir removes folders.",
         "Call {tool} with that name instead if the file may go.", by="rm"),
    Rule(FS, "rmdir_full", "rmdir", r"Directory not empty",
         "rmdir removes empty folders only.",
         "Tell the user what is in it, or call {tool} on the folder if all of it may go.", by="rm"),
    # -- MathAPI -----------------------------------------------------------------------------------------------------
    Rule(MATH, "empty_list", "mean standard_deviation min_value max_value sum_values", r"empty list",
         "numbers must hold at least one number.",
         "Repeat {call} with the numbers that it is about."),
    Rule(MATH, "zero", "divide percentage power logarithm", r'[Zz]ero|negative power|"error": ""',
         "This has no value, because it divides by zero.",
         "Check the arguments and repeat {call}, or tell the user that the result is not defined."),
    Rule(MATH, "other_unit", "si_unit_conversion", r"is not supported",
         "The two units must be metric units of length, each in its short lower-case form.",
         "Repeat {call} with such units, or call {tool} for any other kind.", by="imperial_si_conversion"),
    Rule(MATH, "unit_word", "imperial_si_conversion", r"is not supported", given=_UNIT_WORDS,
         why="Of these units only the pairs km and miles, and celsius and fahrenheit, are known, written like this.",
         do="Repeat {call} with such a pair, or tell the user that it does not convert these units."),
    Rule(MATH, "other_unit", "imperial_si_conversion", r"is not supported",
         "One unit must be imperial and the other its metric counterpart, as one abbreviates them.",
         "Repeat {call} with such a pair, or call {tool} between metric lengths.", by="si_unit_conversion"),
    Rule(MATH, "other_unit", "si_unit_conversion imperial_si_conversion", r"is not supported",
         "{call} does not know one of these units, or not how they belong together.",
         "Repeat {call} with the short lower-case form of both units."),
    Rule(MATH, "negative_root", "square_root", r"negative number",
         "number must not be negative.",
         "Check the number and repeat {call}, or tell the user that the root is not real."),
    Rule(MATH, "precision", "square_root", r"valid range for prec|invalid operation",
         "precision must be at least 1, and number an ordinary number.",
         "Repeat {call} with such a precision."),
    Rule(MATH, "too_large", _ARITHMETIC, r"too large|out of range|Exceeds the limit|cannot convert",
         "The numbers are too large to compute with.",
         "Check them and repeat {call} with smaller ones."),
    # -- MessageAPI --------------------------------------------------------------------------------------------------
    Rule(MESSAGE, "login", "send_message delete_message view_messages_sent search_messages get_message_stats",
         r"No user is currently logged in",
         "Messages can be used only while a user is logged in.",
         "Call {tool} with the ID of the user who is asking, then repeat {call}.", by="message_login", state=True),
    Rule(MESSAGE, "unknown_name", "get_user_id", r"not found in the workspace",
         "There is no user of exactly that name.",
         "Call {tool} to see all names, then repeat {call} with one of them.", by="list_users"),
    Rule(MESSAGE, "unknown_name", "get_user_id", r"not found in the workspace",
         "There is no user of exactly that name.",
         "Call {tool} with the name if this user is new, and go on with the ID that it returns.", by="add_contact"),
    Rule(MESSAGE, "login_id", "message_login", r'"login_status": false', soft=True, given=_ID,
         why="The login was refused, because no user has that ID.",
         do="Call {tool} with the name of the user to get the ID, then repeat {call} with it.", by="get_user_id"),
    Rule(MESSAGE, "login_refused", "message_login", r'"login_status": false', soft=True, given=_NAME,
         why="The login was refused, because user_id must be the ID of a user and not a name.",
         do="Call {tool} with the name of the user to get the ID, then repeat {call}.", by="get_user_id"),
    Rule(MESSAGE, "receiver_id", "send_message", r"Receiver ID .* not found", given=_ID,
         why="No user has that ID.",
         do="Call {tool} with the name of the receiver to get the ID, then repeat {call} with it.", by="get_user_id"),
    Rule(MESSAGE, "receiver", "send_message", r"Receiver ID .* not found", given=_NAME,
         why="receiver_id must be the ID of a user and not a name.",
         do="Call {tool} with the name of the receiver to get the ID, then repeat {call}.", by="get_user_id"),
    Rule(MESSAGE, "receiver", "send_message", r"Receiver ID .* not found", given=_NAME,
         why="receiver_id must be the ID of a user and not a name.",
         do="Call {tool} with the name if the receiver is new, then repeat {call} with the ID that it returns.",
         by="add_contact"),
    Rule(MESSAGE, "nothing_sent", "delete_message", r"Receiver ID .* not found",
         "No message was sent to a user with that ID.",
         "Call {tool} to see to which IDs messages were sent, then repeat {call} with one of them.",
         by="view_messages_sent"),
    Rule(MESSAGE, "contact_exists", "add_contact", r"User name .* already exists",
         "That contact exists already, so there is nothing to add.",
         "Call {tool} if you need the ID of this user, and go on.", by="get_user_id"),
    Rule(MESSAGE, "contact_exists", "add_contact", r"User name .* already exists",
         "That contact exists already, so there is nothing to add.",
         "Go on with the next step."),
    Rule(MESSAGE, "id_taken", "add_contact", r"User ID .* already exists",
         "The ID that the new contact was to get is taken, and the next call tries the next ID.",
         "Repeat {call} with the same name."),
    Rule(MESSAGE, "odd_message", "search_messages view_messages_sent delete_message", r"execution: ",
         "A message was stored in a form that {call} cannot read.",
         "Call {tool} to see what there is, or tell the user.", by="view_messages_sent get_message_stats"),
    # -- TwitterAPI --------------------------------------------------------------------------------------------------
    Rule(TWITTER, "login", "post_tweet retweet comment follow_user list_all_following unfollow_user",
         r"not authenticated",
         "This can be done only while a user is authenticated.",
         "Call {tool} with the username and the password that the user gave, then repeat {call}.",
         by="authenticate_twitter", state=True),
    Rule(TWITTER, "login_refused", "authenticate_twitter", r'"authentication_status": false', soft=True,
         why="The username and the password do not belong together.",
         do="Repeat {call} with exactly what the user gave, or ask the user for both."),
    Rule(TWITTER, "tweet", _TWEET, r"Tweet with ID .* not found",
         "There is no tweet with that ID.",
         "Call {tool} to find the ID of the tweet that is meant, then repeat {call} with it.",
         by="get_user_tweets search_tweets"),
    Rule(TWITTER, "odd_tweet", "mention search_tweets", r"execution: 'mentions'|execution: 'tags'",
         "A tweet that is needed here was stored without its lists of tags or mentions.",
         "Call {tool} to read the tweet instead, or tell the user.", by="get_tweet get_user_tweets"),
    Rule(TWITTER, "spoiled_tweet", "mention search_tweets", r"object has no attribute|object is not iterable",
         "An earlier tweet was posted with a value of the wrong type, which {call} cannot read.",
         "Call {tool} to read tweets instead of {call}, or tell the user about the damaged tweet.",
         by="get_user_tweets get_tweet"),
    Rule(TWITTER, "retweeted", "retweet", r"Already retweeted", soft=True,
         why="This tweet was retweeted before, so nothing has changed.",
         do="Go on with the next step."),
    Rule(TWITTER, "following", "follow_user", r'"follow_status": false', soft=True,
         why="This user is followed already, so nothing has changed.",
         do="Go on with the next step, or call {tool} to see who is followed.", by="list_all_following"),
    Rule(TWITTER, "not_following", "unfollow_user", r'"unfollow_status": false', soft=True,
         why="This user is not followed, so nothing has changed.",
         do="Call {tool} to see the names that are followed, then repeat {call} with one of them.",
         by="list_all_following"),
    # -- TicketAPI ---------------------------------------------------------------------------------------------------
    Rule(TICKET, "login", "create_ticket get_user_tickets", r"not authenticated",
         "Tickets can be made and listed only while a user is logged in.",
         "Call {tool} with the username and the password that the user gave, then repeat {call}.", by="ticket_login",
         state=True),
    Rule(TICKET, "login_refused", "ticket_login", r'"success": false', soft=True,
         why="Neither username nor password may be empty.",
         do="Repeat {call} with what the user gave, or ask the user for both."),
    Rule(TICKET, "logged_out", "logout", r'"success": false', soft=True,
         why="Nobody is logged in, so nothing has changed.",
         do="Go on with the next step."),
    Rule(TICKET, "ticket", "get_ticket close_ticket resolve_ticket edit_ticket", r"not found",
         "There is no ticket with that ID.",
         "Call {tool} to see the IDs of the tickets of the user, then repeat {call} with one of them.",
         by="get_user_tickets"),
    Rule(TICKET, "done", "close_ticket resolve_ticket", r"is already (closed|resolved)",
         "The ticket is in this state already, so nothing has changed.",
         "Go on with the next step, or call {tool} to read the ticket.", by="get_ticket"),
    Rule(TICKET, "odd_ticket", "get_ticket close_ticket resolve_ticket edit_ticket get_user_tickets", r"execution: '\w",
         "A ticket was stored without something that {call} needs.",
         "Call {tool} to read what can be read, or tell the user.", by="get_user_tickets get_ticket"),
    # -- TradingBot --------------------------------------------------------------------------------------------------
    Rule(TRADING, "login", "place_order withdraw_funds get_account_info fund_account remove_stock_from_watchlist "
         "get_watchlist get_order_history get_transaction_history", r"not authenticated",
         "This can be done only while the user is logged in.",
         "Call {tool} with the username and the password that the user gave, then repeat {call}.", by="trading_login",
         state=True),
    Rule(TRADING, "untraded", "get_stock_info place_order", r"Stock with symbol|Invalid stock symbol",
         about="symbol", seen=_LOOKED_UP,
         why="That is the symbol of a stock that is not traded here.",
         do="Tell the user so, or repeat {call} with the symbol of another stock."),
    Rule(TRADING, "symbol", "get_stock_info place_order", r"Stock with symbol|Invalid stock symbol",
         "symbol must be the symbol of a stock that is traded here, not the name of a company.",
         "Call {tool} with the name of the company to get its symbol, then repeat {call}.", by="get_symbol_by_name"),
    Rule(TRADING, "symbol", "get_stock_info place_order", r"Stock with symbol|Invalid stock symbol",
         "symbol must be the symbol of a stock that is traded here, not the name of a company.",
         "Call {tool} with a sector to see its symbols, then repeat {call} with the one that is meant.",
         by="get_available_stocks"),
    Rule(TRADING, "watch_untraded", "add_to_watchlist", r"watchlist", soft=True, absent="stock",
         about="stock", seen=_LOOKED_UP,
         why="Nothing was added, because that stock is not traded here.",
         do="Tell the user so, or repeat {call} with the symbol of another stock."),
    Rule(TRADING, "watch_symbol", "add_to_watchlist", r"watchlist", soft=True, absent="stock",
         why="Nothing was added, because stock must be the symbol of a stock that is traded here.",
         do="Call {tool} with the name of the company to get its symbol, then repeat {call}.",
         by="get_symbol_by_name"),
    Rule(TRADING, "watch_symbol", "add_to_watchlist", r"watchlist", soft=True, absent="stock",
         why="Nothing was added, because stock must be the symbol of a stock that is traded here.",
         do="Call {tool} with a sector to see its symbols, then repeat {call} with the one that is meant.",
         by="get_available_stocks"),
    Rule(TRADING, "company", "get_symbol_by_name", r"Stock not found", soft=True,
         why="No company of exactly that name is known.",
         do="Repeat {call} with the short, usual name of the company, or call {tool} to see symbols by sector.",
         by="get_available_stocks"),
    Rule(TRADING, "sector", "get_available_stocks", r'"stock_list": \[\]', soft=True,
         why="No sector of that name is known.",
         do="Repeat {call} with the name of a sector written as in the description of the tool."),
    Rule(TRADING, "no_orders", "get_order_details", r"Order with ID .* not found.*\[\]",
         "There is no order with that ID, and no other order either.",
         "Tell the user that there is no order."),
    Rule(TRADING, "order_listed", "get_order_details", r"Order with ID .* not found",
         "There is no order with that ID, and the error lists those that exist.",
         "Repeat {call} with the ID from that list that is meant."),
    Rule(TRADING, "order", "cancel_order", r"Order with ID .* not found",
         "There is no order with that ID.",
         "Call {tool} to see the IDs of all orders, then repeat {call} with one of them.", by="get_order_history"),
    Rule(TRADING, "completed", "cancel_order", r"already completed",
         "A completed order can no longer be cancelled.",
         "Tell the user so, or call {tool} to see which other order may be meant.", by="get_order_history"),
    Rule(TRADING, "positive", "place_order", r"must be positive",
         "price and amount must be greater than zero.",
         "Call {tool} for the current price if you need it, then repeat {call}.", by="get_stock_info"),
    Rule(TRADING, "funds", "place_order", r"Insufficient funds",
         "price times amount is more than the balance of the account.",
         "Repeat {call} with a smaller amount, or call {tool} first if the user wants to add money.",
         by="fund_account"),
    Rule(TRADING, "closed", "withdraw_funds", r"Market is closed",
         "Money can be withdrawn only while the market is open.",
         "Tell the user that this has to wait until the market opens.", state=True),
    Rule(TRADING, "amount", "withdraw_funds fund_account", r"must be positive",
         "amount must be greater than zero.",
         "Repeat {call} with the amount that the user named."),
    Rule(TRADING, "withdrawal", "withdraw_funds", r"Insufficient funds",
         "amount is more than the balance of the account.",
         "Call {tool} to see the balance, then repeat {call} with no more than that.", by="get_account_info"),
    Rule(TRADING, "not_watched", "remove_stock_from_watchlist", r"not found in watchlist",
         "The watchlist does not hold that symbol.",
         "Call {tool} to see the symbols on it, then repeat {call} with one of them.", by="get_watchlist"),
    # -- TravelAPI ---------------------------------------------------------------------------------------------------
    Rule(TRAVEL, "token_seen", _TOKEN, r"Invalid access token", seen=r'"access_token": ',
         why="access_token must be the token from the latest authentication.",
         do="Copy it from that result and repeat {call}."),
    Rule(TRAVEL, "token", _TOKEN, r"Invalid access token|Token not initialized|Token expired",
         "This needs a valid access token, either the one that the user gave or a new one.",
         "Call {tool} if the user gave none, then repeat {call} with the token.", by="authenticate_travel"),
    Rule(TRAVEL, "card_listed", "get_credit_card_balance", r"Card not registered.*\['",
         "card_id must be the ID of a registered card, and the error lists those.",
         "Repeat {call} with the ID from that list that is meant."),
    Rule(TRAVEL, "card_none", "get_credit_card_balance", r"Card not registered.*\[\]",
         "No card is registered yet.",
         "Call {tool} with the data of the card, then repeat {call} with the ID that it returns.",
         by="register_credit_card"),
    Rule(TRAVEL, "card", "book_flight purchase_insurance", r"[Cc]ard not registered",
         "card_id must be the ID of a registered card, not the number of the card.",
         "Call {tool} for the IDs of all cards, then repeat {call} with one of them.",
         by="get_all_credit_cards"),
    Rule(TRAVEL, "card", "book_flight purchase_insurance", r"[Cc]ard not registered",
         "card_id must be the ID of a registered card, not the number of the card.",
         "Call {tool} with the data of the card, then repeat {call} with the ID that it returns.",
         by="register_credit_card"),
    Rule(TRAVEL, "card_known", "register_credit_card", r"already registered",
         "This card is registered already, so nothing has to be done.",
         "Call {tool} for its ID and go on with that.", by="get_all_credit_cards"),
    Rule(TRAVEL, "no_balance", "book_flight get_credit_card_balance purchase_insurance",
         r"Balance not found|execution: 'balance'",
         "That card has no balance on record, so it cannot pay.",
         "Call {tool} to see the other cards, then repeat {call} with one of them.", by="get_all_credit_cards"),
    Rule(TRAVEL, "airport", "book_flight", r"Invalid (departure|destination) airport code",
         "travel_from and travel_to must be three-letter codes of airports, not names of cities.",
         "Call {tool} with the name of each city to get its code, then repeat {call}.",
         by="get_nearest_airport_by_city"),
    Rule(TRAVEL, "airport", "book_flight", r"Invalid (departure|destination) airport code",
         "travel_from and travel_to must be three-letter codes of airports, not names of cities.",
         "Call {tool} to see all codes, then repeat {call} with two of them.", by="list_all_airports"),
    Rule(TRAVEL, "airport", "get_flight_cost", r"No available route", given=_NOT_CODE,
         why="travel_from and travel_to must be three-letter codes of airports, not names of cities.",
         do="Call {tool} with the name of each city to get its code, then repeat {call}.",
         by="get_nearest_airport_by_city"),
    Rule(TRAVEL, "airport", "get_flight_cost", r"No available route", given=_NOT_CODE,
         why="travel_from and travel_to must be three-letter codes of airports, not names of cities.",
         do="Call {tool} to see all codes, then repeat {call} with two of them.", by="list_all_airports"),
    Rule(TRAVEL, "route", "get_flight_cost book_flight", r"No available route", given=_CODES,
         why="There is no flight from the one airport to the other.",
         do="Check both codes with {tool} and repeat {call} if one is wrong, or tell the user that there is none.",
         by="get_nearest_airport_by_city list_all_airports"),
    Rule(TRAVEL, "route", "get_flight_cost book_flight", r"No available route", given=_CODES,
         why="There is no flight from the one airport to the other.",
         do="Tell the user that there is no direct flight, or repeat {call} with other airports."),
    Rule(TRAVEL, "class", "book_flight", r"Invalid travel class",
         "travel_class must be one of the classes that the error lists.",
         "Repeat {call} with the one that the user wants."),
    Rule(TRAVEL, "date", "book_flight", r"Invalid date format",
         "travel_date must be a date in the format YYYY-MM-DD.",
         "Repeat {call} with the date in that format."),
    Rule(TRAVEL, "card_funds", "book_flight", r"Insufficient funds",
         "The balance of the card is less than the cost of the flight.",
         "Call {tool} to compare the cards, then repeat {call} with one that suffices or tell the user.",
         by="get_all_credit_cards get_credit_card_balance"),
    Rule(TRAVEL, "below_limit", "book_flight", r"less than budget limit",
         "The balance of the card is less than the budget limit.",
         "Repeat {call} with another card, or call {tool} first if the user agrees to a lower limit.",
         by="set_budget_limit"),
    Rule(TRAVEL, "over_limit", "purchase_insurance", r"Exceeded budget limit",
         "The insurance costs more than the budget limit.",
         "Call {tool} first if the user agrees to a higher limit, then repeat {call}.", by="set_budget_limit"),
    Rule(TRAVEL, "booking", _BOOKED, r"Booking not found",
         "booking_id must be the ID of a booking that exists.",
         "Call {tool} to see the IDs of all bookings, then repeat {call} with one of them.",
         by="get_booking_history"),
    Rule(TRAVEL, "odd_booking", "retrieve_invoice cancel_booking purchase_insurance", r"execution: '\w",
         "The record of this booking lacks something that {call} needs.",
         "Call {tool} to see what is recorded, and tell the user.", by="get_booking_history"),
    Rule(TRAVEL, "same_currency", "compute_exchange_rate", r"No available exchange rate", given=_SAME_CURRENCY,
         why="Both currencies are the same, so value stays as it is.",
         do="Go on with value itself."),
    Rule(TRAVEL, "currencies", "compute_exchange_rate", r"No available exchange rate",
         "Only rates between the US dollar and another currency are known.",
         "Call {call} twice, first into the dollar and then into the target currency."),
    Rule(TRAVEL, "city", "get_nearest_airport_by_city", r"Unknown", soft=True,
         why="No airport is known for that location.",
         do="Repeat {call} with the plain name of the city, or call {tool} to see all codes.", by="list_all_airports"),
    Rule(TRAVEL, "no_traveler", "verify_traveler_information", r"Expected None", soft=True, state=True,
         why="Nobody is authenticated, and only the user who is can be verified.",
         do="Call {tool} with the data of the user, then repeat {call}.", by="authenticate_travel"),
    Rule(TRAVEL, "traveler", "verify_traveler_information", r"another user", soft=True,
         why="Only the user who is authenticated can be verified, and the message says whose name is expected.",
         do="Repeat {call} with that first and last name, or tell the user."),
    Rule(TRAVEL, "birth", "verify_traveler_information", r"Invalid date of birth", soft=True,
         why="date_of_birth must be a date in the format YYYY-MM-DD.",
         do="Repeat {call} with the date in that format."),
    Rule(TRAVEL, "age", "verify_traveler_information", r"at least 18", soft=True,
         why="The date of birth makes the traveler too young.",
         do="Check the date with the user, or tell the user that the verification fails."),
    Rule(TRAVEL, "passport", "verify_traveler_information", r"United States", soft=True,
         why="Only the number of a passport of the United States is accepted.",
         do="Check the number with the user, or tell the user that the verification fails."),
    # -- VehicleControlAPI -------------------------------------------------------------------------------------------
    Rule(VEHICLE, "stopped", "startEngine", r"", given=r'"ignitionMode": "STOP"',
         why="The engine was stopped although the result is an error.",
         do="Call {tool} for the engine if you want to make sure, and go on.", by="displayCarStatus"),
    Rule(VEHICLE, "stopped", "startEngine", r"", given=r'"ignitionMode": "STOP"',
         why="The engine was stopped although the result is an error.",
         do="Go on with the next step."),
    Rule(VEHICLE, "doors", "startEngine", r"doors must be locked",
         "The engine starts only while all doors are locked, and the error lists those that are not.",
         "Call {tool} with unlock false for these doors, then repeat {call}.", by="lockDoors",
         vague="The engine starts only while all doors are locked.", state=True),
    Rule(VEHICLE, "brake", "startEngine", r"Brake pedal needs|press the brake fully",
         "The engine starts only while the brake pedal is pressed all the way.",
         "Call {tool} with pedalPosition 1, then repeat {call}.", by="pressBrakePedal",
         vague="The engine starts only while the brake pedal is pressed.", state=True),
    Rule(VEHICLE, "no_fuel", "startEngine", r"Fuel tank is empty",
         "The engine does not start without fuel.",
         "Call {tool} to add some, then repeat {call}.", by="fillFuelTank", state=True),
    Rule(VEHICLE, "negative_fuel", "fillFuelTank", r"cannot be negative|Min fuel level",
         "fuelAmount is what is added to the tank, and must bring it above zero.",
         "Repeat {call} with a larger number of gallons."),
    Rule(VEHICLE, "liters", "fillFuelTank", r"above the tank capacity", about="fuelAmount", seen=_LITERS,
         given=_OVER_50,
         why="fuelAmount must be in gallons, and this is more than the tank holds.",
         do="Call {tool} with the liters that the user named, then repeat {call} with the gallons.",
         by="liter_to_gallon"),
    Rule(VEHICLE, "liters", "fillFuelTank", r"above the tank capacity", about="fuelAmount", seen=_LITERS,
         why="fuelAmount must be in gallons, and this number was named in liters.",
         do="Call {tool} with these liters, then repeat {call} with as many of the gallons as fit.",
         by="liter_to_gallon"),
    Rule(VEHICLE, "full_tank", "fillFuelTank", r"above the tank capacity",
         "fuelAmount is added to what is in the tank, in gallons, and together it is more than the tank holds.",
         "Call {tool} for the fuel that is left, then repeat {call} with no more than fits.", by="displayCarStatus"),
    Rule(VEHICLE, "weather", "get_outside_temperature_from_weather_com", r"404",
         "This service is down, and trying again does not help.",
         "Call {tool} instead.", by="get_outside_temperature_from_google", state=True),
    Rule(VEHICLE, "engine_off", "setCruiseControl", r"Start the engine",
         "Cruise control works only while the engine runs.",
         "Call {tool} first, then repeat {call}.", by="startEngine", state=True),
    Rule(VEHICLE, "zipcode", "estimate_distance", r"distance not found", given=_NOT_ZIP,
         why="cityA and cityB must be zip codes, not names of cities.",
         do="Call {tool} with the name of each city to get its zip code, then repeat {call}.",
         by="get_zipcode_based_on_city"),
    Rule(VEHICLE, "distance", "estimate_distance", r"distance not found", given=_ZIPS,
         why="No distance between these two zip codes is stored.",
         do="Check both with {tool} and repeat {call} if one is wrong, or tell the user that it is not known.",
         by="get_zipcode_based_on_city"),
    Rule(VEHICLE, "distance", "estimate_distance", r"distance not found", given=_ZIPS,
         why="No distance between these two zip codes is stored.",
         do="Tell the user that the distance is not known."),
    Rule(VEHICLE, "zip_unknown", "get_zipcode_based_on_city", r'"zipcode": "00000"', soft=True,
         why="No zip code is known for that city.",
         do="Repeat {call} with the plain name of the city, or ask the user for the zip code."),
)  # fmt: skip


@cache
def _by_tool() -> dict[str, tuple[Rule, ...]]:
    table: dict[str, list[Rule]] = {}
    for rule in RULES:
        for tool in rule.tools.split():
            table.setdefault(tool, []).append(rule)
    return {tool: tuple(rules) for tool, rules in table.items()}


RULES_BY_TOOL = _by_tool()
"""Tool that fails -> its rows, in the order of the table."""


@cache
def resolvers(domain: str) -> frozenset[str]:
    """The tools that resolve some failure of a domain."""
    return frozenset(tool for rule in RULES if rule.domain == domain for tool in rule.resolving)


_DESTRUCTIVE = (
    "rm rmdir delete_message unfollow_user close_ticket resolve_ticket edit_ticket cancel_order cancel_booking "
    "withdraw_funds fund_account place_order remove_stock_from_watchlist book_flight purchase_insurance "
    "set_budget_limit logout trading_logout"
)
DESTRUCTIVE = frozenset(_DESTRUCTIVE.split())
"""Tools that take something away or spend money. A list names one only if it is the right tool."""
