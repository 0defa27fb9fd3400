"""The rules of the eight domains, in one table. To add a rule, add a row.

A row says: when one of `tools` answers with a text in which `fails` is found, tell the agent `why`, and to `do` what
resolves it, with the first tool of `by` that is in its list. Rows are tried in their order, after the rules from the
schemas (`hint_schema`). They were written from the simulators' sources (`func_source_code/*.py` of bfcl-eval
2026.3.23). Every site there that can fail is in `failures.py`, with the hint it gets.

`why` and `do` are one sentence each and end with a full stop. In both, `{call}` is the tool that failed. In `do`,
`{tool}` is the tool that resolves it. Any other tool that is named stands in braces as well, so a hint whose tools are
not all in the list falls back to a shorter sentence. No row holds a value: the agent knows its own call, and the error
says the rest.
"""

from __future__ import annotations

import json
import re
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
    """Pattern in a text that the agent was shown before."""
    soft: bool = False
    """The result is no error for the benchmark, but the call did not do its job."""
    absent: str = ""
    """Argument whose value is missing in a result that should hold it."""

    @property
    def resolving(self) -> tuple[str, ...]:
        """`by` as names."""
        return tuple(self.by.split())

    def matches(self, call: ToolCall, text: str, error: bool, observed: Sequence[str]) -> bool:
        """Whether this row applies to this result of this call. `call.name` is one of `tools`."""
        return (
            error is not self.soft
            and re.search(self.fails, text) is not None
            and (not self.given or re.search(self.given, json.dumps(call.arguments)) is not None)
            and (not self.absent or json.dumps(call.arguments.get(self.absent)) not in text)
            and (not self.seen or any(re.search(self.seen, shown) for shown in observed))
        )


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
_NOT_ZIP = r'"city[AB]": "(?!\d{5}")'

RULES: tuple[Rule, ...] = (
    # -- GorillaFileSystem: names, not paths; everything happens in the current directory ---------------------------
    Rule(FS, "cd_one_level", "cd", r"Only one folder level",
         "cd goes down one folder at a time.",
         "Call cd once for each folder of the path, beginning with the first."),
    Rule(FS, "cd_above_root", "cd", r"already the root",
         "There is no folder above this one.",
         "Call {tool} to see what is here, then go on from this folder.", by="ls pwd find"),
    Rule(FS, "cd_unknown", "cd", r"No such (file or )?directory",
         "The current directory holds no folder of that name.",
         "Call {tool} with path / and that name to see where it is, then repeat {call} one folder at a time.",
         by="find"),
    Rule(FS, "cd_unknown", "cd", r"No such (file or )?directory",
         "The current directory holds no folder of that name.",
         "Call {tool} to see where you are and what is there, then repeat {call} with a folder of that list.",
         by="ls pwd"),
    Rule(FS, "find_path", "find", r"No such file",
         "path must be a folder that exists, not the name that is looked for.",
         "Repeat find with path / to search everywhere, and give what you look for as name."),
    Rule(FS, "deep_destination", "mv cp", r"path not allowed in destination",
         "destination must be one name, either of a folder in the current directory or a new name.",
         "Repeat {call} with the name of that folder alone, and go into it with {tool} for anything deeper.", by="cd"),
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
    Rule(FS, "not_here", f"{_READERS} mv cp rm rmdir", r"No such file",
         "{call} found nothing suitable of that name in the current directory.",
         "Call {tool} with path / and that name to see where it is, then {cd} to its folder and repeat {call}.",
         by="find"),
    Rule(FS, "not_here", f"{_READERS} mv cp rm rmdir", r"No such file",
         "{call} found nothing suitable of that name in the current directory.",
         "Call {tool} to see where you are and what is there, then go to its folder and repeat {call}.", by="ls pwd"),
    Rule(FS, "not_here", f"{_READERS} mv cp rm rmdir", r"No such file",
         "{call} found nothing suitable of that name in the current directory.",
         "Call {tool} with the folder that holds it, then repeat {call}.", by="cd"),
    Rule(FS, "exists", "touch mkdir", r"File exists",
         "An item of that name is there already.",
         "Go on with it as it is, or repeat {call} with another name."),
    Rule(FS, "taken", "mv cp", r"File exists|already exists in directory",
         "The destination already holds an item of that name.",
         "Go on if it is the one you want, or call {tool} on it first if it may be replaced.", by="rm"),
    Rule(FS, "onto_file", "mv cp", r"Not a directory",
         "The destination is a file that exists, and only a folder or a new name can take the item.",
         "Repeat {call} with another destination, or call {tool} on that file first if it may be replaced.", by="rm"),
    Rule(FS, "rmdir_file", "rmdir", r"Not a directory",
         "That name is a file, and rmdir removes folders.",
         "Call {tool} with that name instead.", by="rm"),
    Rule(FS, "rmdir_full", "rmdir", r"Directory not empty",
         "rmdir removes empty folders only.",
         "Call {tool} on what is in it first, or on the folder itself if all of it may go.", by="rm"),
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
         "Call {tool} with the ID of the user who is asking, then repeat {call}.", by="message_login"),
    Rule(MESSAGE, "unknown_name", "get_user_id", r"not found in the workspace",
         "There is no user of exactly that name.",
         "Call {tool} to see all names, then repeat {call} with one of them.", by="list_users"),
    Rule(MESSAGE, "unknown_name", "get_user_id", r"not found in the workspace",
         "There is no user of exactly that name.",
         "Call {tool} with the name if this user is new, and go on with the ID that it returns.", by="add_contact"),
    Rule(MESSAGE, "login_refused", "message_login", r'"login_status": false', soft=True,
         why="The login was refused, because user_id must be the ID of a user and not a name.",
         do="Call {tool} with the name of the user to get the ID, then repeat {call}.", by="get_user_id list_users"),
    Rule(MESSAGE, "receiver", "send_message", r"Receiver ID .* not found",
         "receiver_id must be the ID of a user and not a name.",
         "Call {tool} with the name of the receiver to get the ID, then repeat {call}.",
         by="get_user_id list_users"),
    Rule(MESSAGE, "receiver", "send_message", r"Receiver ID .* not found",
         "receiver_id must be the ID of a user and not a name.",
         "Call {tool} with the name if the receiver is new, then repeat {call} with the ID that it returns.",
         by="add_contact"),
    Rule(MESSAGE, "nothing_sent", "delete_message", r"Receiver ID .* not found",
         "No message was sent to a user with that ID.",
         "Call {tool} to see to which IDs messages were sent, then repeat {call} with one of them.",
         by="view_messages_sent get_user_id"),
    Rule(MESSAGE, "contact_exists", "add_contact", r"User name .* already exists",
         "That contact exists already, so there is nothing to add.",
         "Call {tool} if you need the ID of this user, and go on.", by="get_user_id list_users"),
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
         by="authenticate_twitter"),
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
         "Call {tool} with the username and the password that the user gave, then repeat {call}.", by="ticket_login"),
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
    Rule(TICKET, "odd_ticket", "get_ticket close_ticket resolve_ticket edit_ticket get_user_tickets", r"execution: '",
         "A ticket was stored without something that {call} needs.",
         "Call {tool} to read what can be read, or tell the user.", by="get_user_tickets get_ticket"),
    # -- TradingBot --------------------------------------------------------------------------------------------------
    Rule(TRADING, "login", "place_order withdraw_funds get_account_info fund_account remove_stock_from_watchlist "
         "get_watchlist get_order_history get_transaction_history", r"not authenticated",
         "This can be done only while the user is logged in.",
         "Call {tool} with the username and the password that the user gave, then repeat {call}.", by="trading_login"),
    Rule(TRADING, "symbol", "get_stock_info place_order", r"Stock with symbol|Invalid stock symbol",
         "symbol must be the symbol of a stock that is traded here, not the name of a company.",
         "Call {tool} with the name of the company to get its symbol, then repeat {call}.",
         by="get_symbol_by_name get_available_stocks"),
    Rule(TRADING, "watch_symbol", "add_to_watchlist", r"watchlist", soft=True, absent="stock",
         why="Nothing was added, because stock must be the symbol of a stock that is traded here.",
         do="Call {tool} with the name of the company to get its symbol, then repeat {call}.",
         by="get_symbol_by_name get_available_stocks"),
    Rule(TRADING, "company", "get_symbol_by_name", r"Stock not found", soft=True,
         why="No company of exactly that name is known.",
         do="Repeat {call} with the short, usual name of the company, or call {tool} to see symbols by sector.",
         by="get_available_stocks"),
    Rule(TRADING, "sector", "get_available_stocks", r'"stock_list": \[\]', soft=True,
         why="No sector of that name is known.",
         do="Repeat {call} with the name of a sector written as in the description of the tool."),
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
         "Tell the user that this has to wait until the market opens."),
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
         by="get_all_credit_cards register_credit_card"),
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
         by="get_nearest_airport_by_city list_all_airports"),
    Rule(TRAVEL, "airport", "get_flight_cost", r"No available route", given=_NOT_CODE,
         why="travel_from and travel_to must be three-letter codes of airports, not names of cities.",
         do="Call {tool} with the name of each city to get its code, then repeat {call}.",
         by="get_nearest_airport_by_city list_all_airports"),
    Rule(TRAVEL, "route", "get_flight_cost book_flight", r"No available route",
         "There is no flight from the one airport to the other.",
         "Check both codes with {tool} and repeat {call}, or tell the user that there is no direct flight.",
         by="get_nearest_airport_by_city list_all_airports"),
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
         by="get_booking_history book_flight"),
    Rule(TRAVEL, "odd_booking", "retrieve_invoice cancel_booking purchase_insurance", r"execution: '",
         "The record of this booking lacks something that {call} needs.",
         "Call {tool} to see what is recorded, and tell the user.", by="get_booking_history"),
    Rule(TRAVEL, "currencies", "compute_exchange_rate", r"No available exchange rate",
         "Only rates between the US dollar and another currency are known.",
         "Call {call} twice, first into the dollar and then into the target currency."),
    Rule(TRAVEL, "city", "get_nearest_airport_by_city", r"Unknown", soft=True,
         why="No airport is known for that location.",
         do="Repeat {call} with the plain name of the city, or call {tool} to see all codes.", by="list_all_airports"),
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
    Rule(VEHICLE, "doors", "startEngine", r"doors must be locked",
         "The engine starts only while all doors are locked, and the error lists those that are not.",
         "Call {tool} with unlock false for these doors, then repeat {call}.", by="lockDoors"),
    Rule(VEHICLE, "brake", "startEngine", r"Brake pedal needs|press the brake fully",
         "The engine starts only while the brake pedal is pressed all the way.",
         "Call {tool} with pedalPosition 1, then repeat {call}.", by="pressBrakePedal"),
    Rule(VEHICLE, "no_fuel", "startEngine", r"Fuel tank is empty",
         "The engine does not start without fuel.",
         "Call {tool} to add some, then repeat {call}.", by="fillFuelTank"),
    Rule(VEHICLE, "stopped", "startEngine", r"Invalid ignition mode", given=r'"STOP"',
         why="The engine was stopped although the result is an error.",
         do="Call {tool} for the engine if you want to make sure, and go on.", by="displayCarStatus"),
    Rule(VEHICLE, "negative_fuel", "fillFuelTank", r"cannot be negative|Min fuel level",
         "fuelAmount is what is added to the tank, and must bring it above zero.",
         "Repeat {call} with a larger number of gallons."),
    Rule(VEHICLE, "liters", "fillFuelTank", r"above the tank capacity", seen=r"\b[Ll]iters?\b",
         why="fuelAmount must be in gallons, and this is more than the tank holds.",
         do="Call {tool} with the liters that the user named, then repeat {call} with the gallons.",
         by="liter_to_gallon"),
    Rule(VEHICLE, "full_tank", "fillFuelTank", r"above the tank capacity",
         "fuelAmount is added to what is in the tank, in gallons, and together it is more than the tank holds.",
         "Call {tool} for the fuel that is left, then repeat {call} with no more than fits.", by="displayCarStatus"),
    Rule(VEHICLE, "weather", "get_outside_temperature_from_weather_com", r"404",
         "This service is down, and trying again does not help.",
         "Call {tool} instead.", by="get_outside_temperature_from_google"),
    Rule(VEHICLE, "engine_off", "setCruiseControl", r"Start the engine",
         "Cruise control works only while the engine runs.",
         "Call {tool} first, then repeat {call}.", by="startEngine"),
    Rule(VEHICLE, "zipcode", "estimate_distance", r"distance not found", given=_NOT_ZIP,
         why="cityA and cityB must be zip codes, not names of cities.",
         do="Call {tool} with the name of each city to get its zip code, then repeat {call}.",
         by="get_zipcode_based_on_city"),
    Rule(VEHICLE, "distance", "estimate_distance", r"distance not found",
         "No distance between these two zip codes is stored.",
         "Check both with {tool} and repeat {call}, or tell the user that the distance is not known.",
         by="get_zipcode_based_on_city"),
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
