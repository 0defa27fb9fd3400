"""Is a hint's first sentence true? Each sentence that a hint can begin with, as a question to the live simulators.

In: the text of a hint and the failed call's `Scene`. Out: True, False, or None if the sentence is not known. Nothing
here is shared with the rules that write the hints: the sentences are read as text, and the answers come from the state
that the simulators hide, from the schemas and from the call.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from envtune.environment.hint_rules import FS, MESSAGE, TICKET, TRADING, TRAVEL, TWITTER, VEHICLE
from envtune.studies.scene import (
    METRIC,
    WRITTEN_OUT,
    Scene,
    absent,
    airports_of,
    allowed_only,
    at_least,
    bad_date,
    bad_token,
    birth_of,
    card_of,
    divides_by_zero,
    flight_cost,
    fuel_level,
    given_id,
    guarded,
    ill_typed_items,
    ill_typed_key,
    is_folder,
    is_name,
    known_pair,
    listed_names,
    missing_arguments,
    missing_item,
    named_in_liters,
    named_items,
    numbers_in,
    outside,
    path_exists,
    ticket_of,
    tweet_of,
    units,
    unknown_arguments,
    user_ids,
    was_said,
    wrong_type,
    zip_codes,
)

Claim = Callable[[Scene, re.Match[str]], bool]


def holds(text: str, scene: Scene) -> bool | None:
    """Whether the first sentence of a hint is true. None: the sentence is not in `CLAIMS`."""
    why = re.split(r"(?<=[.!?])\s+(?=[A-Z])", text)[0]
    for pattern, claim in CLAIMS:
        if (found := re.fullmatch(pattern, why)) is not None:
            try:
                return bool(claim(scene, found))
            except (KeyError, TypeError, AttributeError, ValueError):  # the sentence names what does not exist
                return False
    return None


_A = r"\w+"
CLAIMS: tuple[tuple[str, Claim], ...] = (
    # -- any tool ----------------------------------------------------------------------------------------------------
    (r"There is no tool '(?P<name>.+)' in the list\.", absent),
    (r"There is no tool of that name in the list\.", lambda s, m: s.call.name not in s.schemas),
    (r"No tool '(?P<name>.+)' is available now\.", absent),
    (rf"{_A} has no argument (?P<names>.+)\.", unknown_arguments),
    (rf"{_A} also needs (?P<names>.+)\.", missing_arguments),
    (r"(?P<key>\w+) in (?P<name>\w+) must be of type (?P<kind>\w+), not (?P<not>\w+)\.", ill_typed_key),
    (r"Every item of (?P<name>\w+) must be of type (?P<kind>\w+), not (?P<not>\w+)\.", ill_typed_items),
    (r"(?P<name>\w+) must be of type (?P<kind>\w+), not (?P<not>\w+)\.", wrong_type),
    (r"(?P<name>\w+) must be a finite number\.", lambda s, m: s.a[m["name"]] in (float("inf"), float("-inf"))
     or s.a[m["name"]] != s.a[m["name"]]),
    (r"(?P<name>\w+) may only have the keys (?P<keys>.+)\.",
     lambda s, m: any(key not in listed_names(m["keys"]) for key in s.a[m["name"]])),
    (r"(?:Every item of )?(?P<name>\w+) must be one of (?P<values>(?!the )[^.]+)\.", allowed_only),
    (r"(?P<name>\w+) must be a date in the format YYYY-MM-DD\.", lambda s, m: bad_date(s.a[m["name"]])),
    (r"(?P<name>\w+) must be between (?P<low>\S+) and (?P<high>\S+)\.", outside),
    (r"(?P<name>\w+) must be a multiple of (?P<of>\d+)\.", lambda s, m: s.a[m["name"]] % int(m["of"]) != 0),
    # -- GorillaFileSystem -------------------------------------------------------------------------------------------
    (r"cd goes down one folder at a time\.", lambda s, m: "/" in s.a["folder"].rstrip("/")),
    (r"There is no folder above this one\.", lambda s, m: s.of(FS)._current_dir.parent is None),
    (r"The current directory holds no folder of that name\.",
     lambda s, m: not is_folder(s.here.get(s.a["folder"].rstrip("/")))),
    (r"The current directory holds no folder of that name, and the name looks like one of a file\.",
     lambda s, m: not is_folder(s.here.get(s.a["folder"])) and "." in s.a["folder"]),
    (r"path must be a folder that exists, not the name that is looked for\.", lambda s, m: not path_exists(s)),
    (r"destination must be one name, .+\.", lambda s, m: "/" in s.a["destination"]),
    (rf"{_A} takes the bare name of an item of the current directory, not a path\.",
     lambda s, m: any("/" in name for name in named_items(s))),
    (r"That name holds a character that no name may hold\.",
     lambda s, m: any(mark in name for name in named_items(s) for mark in '|/\\?%*:"><')),
    (r"echo writes into a file that exists .+\.", lambda s, m: s.a["file_name"] not in s.here),
    (r"That name is a folder, and (echo|cat) .+\.", lambda s, m: is_folder(s.here.get(s.a["file_name"]))),
    (rf"{_A} found nothing suitable of that name in the current directory\.", lambda s, m: missing_item(s)),
    (r"An item of that name is there already\.", lambda s, m: all(name in s.here for name in named_items(s))),
    (r"source and destination are the same\.", lambda s, m: s.a["source"] == s.a["destination"]),
    (r"The destination already holds an item of that name\.",
     lambda s, m: s.a["source"] in s.here[s.a["destination"]].contents),
    (r"The destination is a file that exists, .+\.",
     lambda s, m: s.a["destination"] in s.here and not is_folder(s.here[s.a["destination"]])
     and s.a["source"] != s.a["destination"]),
    (r"That name is a file, and rmdir removes folders\.",
     lambda s, m: s.a["dir_name"] in s.here and not is_folder(s.here[s.a["dir_name"]])),
    (r"rmdir removes empty folders only\.", lambda s, m: bool(s.here[s.a["dir_name"]].contents)),
    # -- MathAPI -----------------------------------------------------------------------------------------------------
    (r"numbers must hold at least one number\.", lambda s, m: s.a["numbers"] == []),
    (r"This has no value, because it divides by zero\.", lambda s, m: divides_by_zero(s)),
    (r"The two units must be metric units of length, .+\.", lambda s, m: not {*units(s)} <= METRIC),
    (r"Of these units only the pairs km and miles, and celsius and fahrenheit, are known, .+\.",
     lambda s, m: not known_pair(s) and any(unit.lower().strip("°º") in WRITTEN_OUT for unit in units(s))),
    (r"One unit must be imperial and the other its metric counterpart, as one abbreviates them\.",
     lambda s, m: not known_pair(s) and not any(unit.lower() in WRITTEN_OUT for unit in units(s))),
    (rf"{_A} does not know one of these units, or not how they belong together\.", lambda s, m: not (
        {*units(s)} <= METRIC if s.call.name == "si_unit_conversion" else known_pair(s))),
    (r"number must not be negative\.", lambda s, m: s.a["number"] < 0),
    (r"precision must be at least 1, .+\.", lambda s, m: s.a["precision"] < 1 or abs(s.a["number"]) > 1e300),
    (r"The numbers are too large to compute with\.", lambda s, m: any(abs(n) >= 100 for n in numbers_in(s.a))),
    # -- MessageAPI --------------------------------------------------------------------------------------------------
    (r"Messages can be used only while a user is logged in\.", lambda s, m: not s.of(MESSAGE).current_user),
    (r"There is no user of exactly that name\.", lambda s, m: s.a["user"] not in s.of(MESSAGE).user_map),
    (r"(The login was refused, because no|No) user has that ID\.", lambda s, m: given_id(s) not in user_ids(s)),
    (r"The login was refused, because user_id must be the ID of a user and not a name\.", lambda s, m: is_name(s)),
    (r"receiver_id must be the ID of a user and not a name\.", lambda s, m: is_name(s)),
    (r"No message was sent to a user with that ID\.",
     lambda s, m: all(s.a["receiver_id"] != next(iter(message)) for message in s.of(MESSAGE).inbox)),
    (r"That contact exists already, .+\.", lambda s, m: s.a["user_name"] in s.of(MESSAGE).user_map),
    (r"The ID that the new contact was to get is taken, .+\.",
     lambda s, m: f"USR{s.of(MESSAGE).user_count:03}" in user_ids(s)),
    (rf"A message was stored in a form that {_A} cannot read\.",
     lambda s, m: any(not isinstance(v, str) for message in s.of(MESSAGE).inbox for v in message.values())),
    # -- TwitterAPI --------------------------------------------------------------------------------------------------
    (r"This can be done only while a user is authenticated\.", lambda s, m: not s.of(TWITTER).authenticated),
    (r"The username and the password do not belong together\.", lambda s, m:
     (s.a["username"], s.a["password"]) != (s.of(TWITTER).username, s.of(TWITTER).password)),
    (r"There is no tweet with that ID\.", lambda s, m: tweet_of(s) is None),
    (r"A tweet that is needed here was stored without its lists of tags or mentions\.",
     lambda s, m: any(not {"tags", "mentions"} <= tweet.keys() for tweet in s.of(TWITTER).tweets.values())),
    (rf"An earlier tweet was posted with a value of the wrong type, which {_A} cannot read\.", lambda s, m: any(
        not (isinstance(t["content"], str) and isinstance(t.get("tags", []), list)
             and isinstance(t.get("mentions", []), list)) for t in s.of(TWITTER).tweets.values())),
    (r"This tweet was retweeted before, .+\.",
     lambda s, m: s.a["tweet_id"] in s.of(TWITTER).retweets[s.of(TWITTER).username]),
    (r"This user is followed already, .+\.",
     lambda s, m: s.a["username_to_follow"] in s.of(TWITTER).following_list),
    (r"This user is not followed, .+\.",
     lambda s, m: s.a["username_to_unfollow"] not in s.of(TWITTER).following_list),
    # -- TicketAPI ---------------------------------------------------------------------------------------------------
    (r"Tickets can be made and listed only while a user is logged in\.", lambda s, m: not s.of(TICKET).current_user),
    (r"Neither username nor password may be empty\.", lambda s, m: not (s.a["username"] and s.a["password"])),
    (r"Nobody is logged in, so nothing has changed\.", lambda s, m: not s.of(TICKET).current_user),
    (r"There is no ticket with that ID\.", lambda s, m: ticket_of(s) is None),
    (r"The ticket is in this state already, so nothing has changed\.", lambda s, m: ticket_of(s)["status"] == {
        "close_ticket": "Closed", "resolve_ticket": "Resolved"}[s.call.name]),
    (rf"A ticket was stored without something that {_A} needs\.", lambda s, m: any(
        not {"id", "status", "created_by"} <= ticket.keys() for ticket in s.of(TICKET).ticket_queue)),
    # -- TradingBot --------------------------------------------------------------------------------------------------
    (r"This can be done only while the user is logged in\.", lambda s, m: not s.of(TRADING).authenticated),
    (r"That is the symbol of a stock that is not traded here\.", lambda s, m: s.a["symbol"] not in s.of(TRADING).stocks
     and was_said(s, re.escape(f'"symbol": "{s.a["symbol"]}"'))),
    (r"symbol must be the symbol of a stock that is traded here, not the name of a company\.",
     lambda s, m: s.a["symbol"] not in s.of(TRADING).stocks),
    (r"Nothing was added, because (that stock is not|stock must be the symbol of a stock that is) traded here\.",
     lambda s, m: s.a["stock"] not in s.of(TRADING).stocks and s.a["stock"] not in s.of(TRADING).watch_list),
    (r"No company of exactly that name is known\.", lambda s, m: "Stock not found" in s.result.text),
    (r"No sector of that name is known\.", lambda s, m: s.a["sector"] not in ("Technology", "Automobile")),
    (r"There is no order with that ID, and no other order either\.", lambda s, m: not s.of(TRADING).orders),
    (r"There is no order with that ID, and the error lists those that exist\.", lambda s, m:
     s.a["order_id"] not in s.of(TRADING).orders and bool(s.of(TRADING).orders)
     and all(str(order) in s.result.text for order in s.of(TRADING).orders)),
    (r"There is no order with that ID\.", lambda s, m: s.a["order_id"] not in s.of(TRADING).orders),
    (r"A completed order can no longer be cancelled\.",
     lambda s, m: s.of(TRADING).orders[s.a["order_id"]]["status"] == "Completed"),
    (r"price and amount must be greater than zero\.", lambda s, m: s.a["price"] <= 0 or s.a["amount"] <= 0),
    (r"price times amount is more than the balance of the account\.",
     lambda s, m: s.a["price"] * s.a["amount"] > s.of(TRADING).account_info["balance"]),
    (r"Money can be withdrawn only while the market is open\.", lambda s, m: s.of(TRADING).market_status != "Open"),
    (r"amount must be greater than zero\.", lambda s, m: s.a["amount"] <= 0),
    (r"amount is more than the balance of the account\.",
     lambda s, m: s.a["amount"] > s.of(TRADING).account_info["balance"]),
    (r"The watchlist does not hold that symbol\.", lambda s, m: s.a["symbol"] not in s.of(TRADING).watch_list),
    # -- TravelAPI ---------------------------------------------------------------------------------------------------
    (r"access_token must be the token from the latest authentication\.",
     lambda s, m: bad_token(s) and was_said(s, re.escape(f'"access_token": "{s.of(TRAVEL).access_token}"'))),
    (r"This needs a valid access token, .+\.", lambda s, m: bad_token(s)),
    (r"card_id must be the ID of a registered card, and the error lists those\.", lambda s, m: card_of(s) is None
     and bool(s.of(TRAVEL).credit_card_list) and all(card in s.result.text for card in s.of(TRAVEL).credit_card_list)),
    (r"No card is registered yet\.", lambda s, m: not s.of(TRAVEL).credit_card_list),
    (r"card_id must be the ID of a registered card, not the number of the card\.", lambda s, m: card_of(s) is None),
    (r"This card is registered already, .+\.", lambda s, m: s.a["card_number"] in s.of(TRAVEL).credit_card_list),
    (r"That card has no balance on record, .+\.", lambda s, m: "balance" not in card_of(s)),
    (r"travel_from and travel_to must be three-letter codes of airports, not names of cities\.",
     lambda s, m: any(code not in s.of(TRAVEL).list_all_airports() for code in airports_of(s))),
    (r"There is no flight from the one airport to the other\.", lambda s, m: "No available route" in s.result.text
     and all(re.fullmatch("[A-Z]{3}", str(code)) for code in airports_of(s))),
    (r"travel_class must be one of the classes that the error lists\.",
     lambda s, m: s.a["travel_class"] not in ("economy", "business", "first") and "economy" in s.result.text),
    (r"The balance of the card is less than the cost of the flight\.",
     lambda s, m: card_of(s)["balance"] < flight_cost(s)),
    (r"The balance of the card is less than the budget limit\.",
     lambda s, m: card_of(s)["balance"] < s.of(TRAVEL).budget_limit),
    (r"The insurance costs more than the budget limit\.",
     lambda s, m: s.a["insurance_cost"] > s.of(TRAVEL).budget_limit),
    (r"booking_id must be the ID of a booking that exists\.",
     lambda s, m: s.a.get("booking_id") not in s.of(TRAVEL).booking_record),
    (rf"The record of this booking lacks something that {_A} needs\.", lambda s, m: not (
        {"card_id", "travel_cost", "travel_date", "travel_from", "travel_to", "travel_class", "transaction_id"}
        <= s.of(TRAVEL).booking_record[s.a["booking_id"]].keys()
        and s.of(TRAVEL).booking_record[s.a["booking_id"]]["card_id"] in s.of(TRAVEL).credit_card_list)),
    (r"Both currencies are the same, .+\.", lambda s, m: s.a["base_currency"] == s.a["target_currency"]),
    (r"Only rates between the US dollar and another currency are known\.",
     lambda s, m: "USD" not in (s.a["base_currency"], s.a["target_currency"])),
    (r"No airport is known for that location\.", lambda s, m: "Unknown" in s.result.text),
    (r"Nobody is authenticated, and only the user who is can be verified\.",
     lambda s, m: s.of(TRAVEL).user_first_name is None),
    (r"Only the user who is authenticated can be verified, .+\.", lambda s, m:
     (s.a["first_name"], s.a["last_name"]) != (s.of(TRAVEL).user_first_name, s.of(TRAVEL).user_last_name)
     and str(s.of(TRAVEL).user_first_name) in s.result.text and s.of(TRAVEL).user_first_name is not None),
    (r"The date of birth makes the traveler too young\.", lambda s, m: not at_least(birth_of(s), 18)),
    (r"Only the number of a passport of the United States is accepted\.",
     lambda s, m: not s.a["passport_number"].startswith("US")),
    # -- VehicleControlAPI -------------------------------------------------------------------------------------------
    (r"The engine was stopped although the result is an error\.",
     lambda s, m: s.of(VEHICLE).engine_state == "stopped" and s.a["ignitionMode"] == "STOP"),
    (r"The engine starts only while all doors are locked.*\.", lambda s, m: s.a["ignitionMode"] != "STOP"
     and "unlocked" in s.of(VEHICLE).doorStatus.values() and all(
         door in s.result.text for door, status in s.of(VEHICLE).doorStatus.items() if status == "unlocked")),
    (r"The engine starts only while the brake pedal is pressed.*\.",
     lambda s, m: s.a["ignitionMode"] != "STOP" and s.of(VEHICLE)._brakePedalForce != 1000.0),
    (r"The engine does not start without fuel\.", lambda s, m: fuel_level(s) < 0),
    (r"fuelAmount is what is added to the tank, and must bring it above zero\.",
     lambda s, m: s.a["fuelAmount"] < 0 or fuel_level(s) + s.a["fuelAmount"] < 0),
    (r"fuelAmount must be in gallons, and this is more than the tank holds\.",
     lambda s, m: s.a["fuelAmount"] > 50 and named_in_liters(s)),
    (r"fuelAmount must be in gallons, and this number was named in liters\.", lambda s, m: named_in_liters(s)),
    (r"fuelAmount is added to what is in the tank, in gallons, and together it is more than the tank holds\.",
     lambda s, m: fuel_level(s) + s.a["fuelAmount"] > 50),
    (r"This service is down, and trying again does not help\.",
     lambda s, m: s.call.name == "get_outside_temperature_from_weather_com"),
    (r"Cruise control works only while the engine runs\.", lambda s, m: s.of(VEHICLE).engine_state == "stopped"),
    (r"cityA and cityB must be zip codes, not names of cities\.",
     lambda s, m: any(not re.fullmatch(r"\d{5}", code) for code in zip_codes(s))),
    (r"No distance between these two zip codes is stored\.", lambda s, m: "not found" in s.result.text
     and all(re.fullmatch(r"\d{5}", code) for code in zip_codes(s))),
    (r"No zip code is known for that city\.", lambda s, m: "00000" in s.result.text),
    # -- guards ------------------------------------------------------------------------------------------------------
    (r"The call was stopped before it ran\.", guarded),
    (r".*(may (have|hold)|at most|cannot go into itself|characters|not JSON|JSON object|too|real number|at least).*",
     guarded),
)  # fmt: skip
