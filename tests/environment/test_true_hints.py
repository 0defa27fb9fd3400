"""Hints on failures that real models make: true, possible with the tools at hand, harmless, and not too telling."""

from __future__ import annotations

import re

import pytest

from envtune.data import bfcl
from envtune.environment.hint_rules import DESTRUCTIVE
from envtune.environment.hints import LIST_LENGTH, Strength, hint
from envtune.environment.simulator import RawResult, Simulators, ground_truth_run
from envtune.studies.failures import FS, MESSAGE, TRADING, TRAVEL, VEHICLE, Failure, play
from envtune.types import ToolCall

UNKNOWN = RawResult("Error during execution: name 'x' is not defined", True, unknown_tool=True)


def said(failure, without=(), strength=Strength.ONE):
    """The hint for a failure, without some of the tools."""
    played = play(failure)
    tools = [tool for tool in played.tools if tool["function"]["name"] not in without]
    found = hint(played.call, played.result, tools, played.observed, strength=strength)
    assert found is not None
    return found


# -- B1: liters only where the user named them -----------------------------------------------------------------------


def test_a_full_tank_is_no_matter_of_liters(by_id):
    """The user of this task names liters in a later turn; here the tank is simply too full."""
    task = by_id["multi_turn_base_82"]
    ground_truth_run(task)
    simulators, observed = Simulators(task), list(task.user_turns[:2])
    for call in task.ground_truth[0]:
        observed.append(simulators.call(call).text)
    call = ToolCall("fillFuelTank", {"fuelAmount": 50.0})
    result = simulators.call(call)
    found = hint(call, result, task.tools_at(1), observed)
    assert found is not None
    assert found.rule == "full_tank"
    assert "liters" not in found.text


def test_liters_are_named_where_this_number_was_said_to_be_liters():
    tank = {"fuelLevel": 40.0}
    full = Failure(VEHICLE, "fillFuelTank(fuelAmount=20.0)", config=tank)
    for text, rule in (("Fill in 20 liters.", "liters"), ("20.0 litres, please", "liters"), ("20 L of fuel", "liters"),
                       ("120 liters", "full_tank"), ("I used 9 liters; fill in 20 gallons", "full_tank"),
                       ('{"liter": 20.0}', "full_tank"), ("Please help.", "full_tank")):  # fmt: skip
        found = said(Failure(**{**vars(full), "said": text}))
        assert found.rule == rule, text
        assert "more than the tank holds" not in found.text or rule == "full_tank"
    assert said(Failure(VEHICLE, "fillFuelTank(fuelAmount=60.0)", said="60 liters")).text == (
        "fuelAmount must be in gallons, and this is more than the tank holds. Call liter_to_gallon with the liters "
        "that the user named, then repeat fillFuelTank with the gallons."
    )


# -- B2: a name that is near, or none --------------------------------------------------------------------------------

NAMES = {
    "get_order": "get_order_details", "getOrderDetails": "get_order_details", "stopEngine": None,
    "get_all_booking": "get_booking_history", "open_ticket": None, "get_current_fuel_level": None,
    "get_travel_cost": "get_flight_cost", "add_stock_to_watchlist": "add_to_watchlist", "unlockDoors": None,
    "remove_from_watchlist": "remove_stock_from_watchlist", "unfollow": "unfollow_user", "follow": "follow_user",
    "delete_tweet": None, "reopen_ticket": None, "sell_stock": None, "gallons_to_liters": "gallon_to_liter",
    "liters_to_gallons": "liter_to_gallon", "mkdirs": "mkdir", "fs.mkdir": "mkdir", "CD": "cd", "cd_to_folder": "cd",
    "list_files": None, "startEngine_v2": "startEngine", "do_mkdir": "mkdir", "lockdoorsTool": "lockDoors",
    "get_post_tweet_now": "post_tweet", "send_email": None, "ask_user": None, "get_balance": "get_credit_card_balance",
    "book_hotel": None, "retrieve_booking_history": "get_booking_history", "buy_insurance": "purchase_insurance",
    "get_user_tickets_list": "get_user_tickets", "place_orders": "place_order", "deposit_funds": None,
    "buy": None, "find_user": None, "display_status": "displayCarStatus", "lock_all_doors": "lockDoors",
    "abs": "absolute_value", "percent": "percentage", "cat_file": "cat", "list_all": None,
}  # fmt: skip
"""Name that models call -> the one tool that is offered, of all 128."""


@pytest.fixture(scope="module")
def all_tools(tasks):
    """Every tool that the tasks offer, under its name."""
    found = {tool["function"]["name"]: tool for task in tasks for tool in task.tools}
    assert len(found) > 120
    return list(found.values())


def test_an_unknown_name_is_taken_for_a_near_one_or_for_none(all_tools):
    wrong = {}
    for name, meant in NAMES.items():
        found = hint(ToolCall(name, {}), UNKNOWN, all_tools, [])
        assert found is not None
        if found.tools != ((meant,) if meant else ()):
            wrong[name] = found.tools
    assert wrong == {}


PAIRS = (
    "startEngine/stopEngine lockDoors/unlockDoors open_ticket/close_ticket add_contact/remove_contact "
    "buy_stock/sell_stock follow_user/unfollow_user book_flight/cancel_flight place_order/cancel_order "
    "add_to_watchlist/remove_from_watchlist liter_to_gallon/gallon_to_liter trading_login/trading_logout "
    "pressBrakePedal/releaseBrakePedal min_value/max_value fund_account/withdraw_funds mkdir/rmdir"
)


def test_without_the_tool_that_is_meant_none_is_offered_for_its_name(all_tools):
    for name, gone in (("GET_CREDIT_CARD_BALANCE", "get_credit_card_balance"), ("ticketLogin", "ticket_login")):
        left = [tool for tool in all_tools if tool["function"]["name"] != gone]
        assert hint(ToolCall(name, {}), UNKNOWN, left, []).tools == ()


def test_an_opposite_is_never_offered(all_tools):
    """Without the right tool, the opposite is what is written most alike."""
    names = [tool["function"]["name"] for tool in all_tools]
    for one, other in [pair.split("/") for pair in PAIRS.split()] + [pair.split("/")[::-1] for pair in PAIRS.split()]:
        left = [tool for tool in all_tools if tool["function"]["name"] != one]
        for strength in Strength:
            found = hint(ToolCall(one, {}), UNKNOWN, left, [], strength=strength)
            assert found is not None
            assert other not in found.tools, (one, found.text)
    assert "startEngine" in names


def test_of_two_near_names_the_one_that_takes_the_arguments_comes_first(all_tools):
    assert hint(ToolCall("get_order", {"order_id": 1}), UNKNOWN, all_tools, []).tools == ("get_order_details",)
    assert hint(ToolCall("get_stocks", {"sector": "x"}), UNKNOWN, all_tools, []).tools == ("get_available_stocks",)
    assert hint(ToolCall("login", {"user_id": "USR001"}), UNKNOWN, all_tools, []).tools == ("message_login",)


# -- B3: a tool that is withheld -------------------------------------------------------------------------------------


def test_a_withheld_tool_is_not_available_now(tasks):
    """The tool that a task hands over later is called too early, and fails: no other tool is named."""
    asked = 0
    for task in tasks:
        for turn, tools in task.withheld.items():
            for name in [tool["function"]["name"] for tool in tools]:
                call = ToolCall(name, {"?": 1})
                result = Simulators(task).call(call)
                found = hint(call, result, task.tools_at(turn - 1), [])
                assert found is not None
                assert found.text == f"No tool {name!r} is available now. Tell the user so, or go on without it."
                assert found.tools == ()
                asked += 1
    assert asked >= 200


# -- B4: nothing is destroyed ----------------------------------------------------------------------------------------


def test_a_copy_onto_itself_removes_nothing():
    for tool in ("cp", "mv"):
        for strength in Strength:
            found = said(Failure(FS, f"{tool}(destination='notes', source='notes')"), strength=strength)
            assert found.text.startswith("source and destination are the same.")
            assert "rm" not in re.findall(r"\w+", found.text)


def test_nothing_that_takes_away_is_offered_where_it_is_not_needed(catalogue):
    for failure, played in catalogue:
        for strength in Strength:
            found = hint(played.call, played.result, played.tools, played.observed, strength=strength)
            taking = DESTRUCTIVE & set(found.tools if found else ())
            allowed = {"rmdir": {"rm"}, "place_order": {"fund_account"}, "book_flight": {"set_budget_limit"},
                       "purchase_insurance": {"set_budget_limit"}}  # fmt: skip
            assert taking <= allowed.get(played.call.name, set()), (failure.call, found)
            if taking:
                assert re.search(r"if (the user (agrees|wants)|the file may go|all of it may go)", found.text), (
                    found.text
                )


# -- B5: true to the tool --------------------------------------------------------------------------------------------


def test_a_tool_is_called_with_what_it_takes():
    watch = Failure(TRADING, "add_to_watchlist(stock='GOR')")
    assert "Call get_symbol_by_name with the name of the company" in said(watch).text
    assert "Call get_available_stocks with a sector" in said(watch, without=["get_symbol_by_name"]).text
    book = "book_flight(access_token='token', card_id='card', travel_date='2024-05-01', travel_from='Boston', " \
        "travel_to='LAX', travel_class='economy')"  # fmt: skip
    airports = said(Failure(TRAVEL, book), without=["get_nearest_airport_by_city"]).text
    assert "Call list_all_airports to see all codes" in airports
    nobody = said(Failure(MESSAGE, "message_login(user_id='Alice')"), without=["get_user_id"])
    assert "list_users" not in nobody.text
    looked_up = said(Failure(TRADING, "add_to_watchlist(stock='GORI')", before="get_symbol_by_name(name='Gorilla')"))
    assert looked_up.text.startswith("Nothing was added, because that stock is not traded here.")


def test_stopping_the_engine_asks_for_no_brake():
    for config in ({}, {"doorStatus": dict.fromkeys(("driver", "passenger", "rear_left", "rear_right"), "locked")}):
        assert said(Failure(VEHICLE, "startEngine(ignitionMode='STOP')", config=config)).rule == "stopped"


def test_a_login_comes_before_a_wrong_type():
    """Else the corrected call fails for the same reason again."""
    failure = Failure(TRADING, "place_order(order_type='Buy', symbol='AAPL', price='high', amount=2.5)")
    assert said(failure).rule == "login"


# -- B6: possible with the tools at hand -----------------------------------------------------------------------------


def test_a_way_that_takes_a_missing_tool_is_not_proposed():
    failure = Failure(FS, "cp(source='nothing', destination='x')")
    for strength in Strength:
        found = said(failure, without=["cd"], strength=strength)
        assert "then repeat cp with" in found.text or strength is Strength.LIST
        assert "cd" not in re.findall(r"\w+", found.text)
        assert "find" not in found.tools or strength is Strength.LIST
    assert "to see what is there" not in said(failure, without=["find", "ls"]).text
    assert said(failure, without=["cd", "find", "ls"]).text.endswith("go on with what does not need it.")


def test_no_hint_names_a_tool_that_is_not_there(catalogue):
    """Whatever single tool is missing, at either strength."""
    names = {document["name"] for documents in bfcl.tool_documents().values() for document in documents}
    plain = {name for name in names if "_" in name or not name.islower()} | {"cd", "ls", "pwd", "rm", "mkdir"}
    for failure, played in catalogue:
        first = hint(played.call, played.result, played.tools, played.observed)
        named = set(re.findall(r"\w+", first.text)) & names if first else set()
        for gone in named:
            left = [tool for tool in played.tools if tool["function"]["name"] != gone]
            for strength in Strength:
                found = hint(played.call, played.result, left, played.observed, strength=strength)
                spoken = set(re.findall(r"\w+", re.sub(r"'[^']*'", "", found.text))) & plain
                assert gone not in spoken, (failure.call, gone, found.text)


# -- how much a list gives away --------------------------------------------------------------------------------------


def test_a_list_names_no_complete_next_call(catalogue):
    """With one tool, a hint may say what to call it with. With several it says neither that nor which."""
    told = []
    for failure, played in catalogue:
        one, several = (hint(played.call, played.result, played.tools, played.observed, strength=s) for s in Strength)
        if one is None or not one.tools:
            continue
        assert len(several.tools) == LIST_LENGTH, failure.call
        told += re.findall(r"unlock false|pedalPosition 1|path /", one.text)
        assert not re.search(r"unlock false|pedalPosition|all the way|path /", several.text), several.text
    assert {"unlock false", "pedalPosition 1", "path /"} <= set(told)
