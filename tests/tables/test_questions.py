"""Questions over five hand-made tables: exact figures, or a refusal that names what is missing."""

from collections.abc import Callable
from typing import Any

import pytest

Ask = Callable[..., dict[str, Any]]

ANSWERS: list[tuple[str, str, list[list[Any]]]] = [
    ("orders.csv", "How many orders failed in each region, and what was their total amount?",
     [["East", 0, "0.00"], ["North", 2, "1254.75"], ["South", 1, "12.00"]]),
    ("orders.csv", "How many orders are failing?", [[3]]),
    ("orders.csv", "How many orders did not fail?", [[4]]),
    ("orders.csv", "number of orders except failed and shipped", [[2]]),
    ("orders.csv", "top 2 customers by revenue", [["Acme Ltd", "1246.50"], ["Cory", "30.35"]]),
    ("orders.csv", "How many orders were refunded?", [[2]]),
    ("orders.csv", "How many orders were not refunded in February 2026?", [[2]]),
    ("orders.csv", "How many orders in March?", [[3]]),
    ("orders.csv", "How many orders since 2026-02-05?", [[5]]),
    ("orders.csv", "Total amount before March 2026", [["37.35"]]),
    ("orders.csv", "How many orders over $10?", [[4]]),
    ("orders.csv", "number of orders with an amount of at least 10.10", [[4]]),
    ("orders.csv", "How many orders between 10 and 20?", [[2]]),
    ("orders.csv", "How many orders per month?", [["2026-01", 1], ["2026-02", 3], ["2026-03", 3]]),
    ("orders.csv", "What did Acme Ltd spend in total?", [["1246.50"]]),
    ("orders.csv", "Which region has the most failed orders?", [["North", 2]]),
    ("orders.csv", "Which customers had failed orders?", [["Acme Ltd", 2], ["Cory", 1]]),
    ("orders.csv", "how many orders from Cory weren't shipped", [[1]]),
    ("orders.csv", "How many customers are in each region?", [["East", 2], ["North", 3], ["South", 2]]),
    ("orders.csv", "What is the average amount of shipped orders?", [["6.55"]]),
    ("orders.csv", "How many failed and how many shipped?",
     [["FAILED", 2], ["Failure", 1], ["shipped", 2]]),
    ("orders.csv", "How many units were ordered by Bolt?", [[10]]),
    ("orders.csv", "Which order has the highest amount?", [[1, "1234.50"]]),
    ("tickets.csv", "How many tickets are open in each team?", [["Desktop", 1], ["Network", 1]]),
    ("tickets.csv", "How many high priority tickets were closed?", [[1]]),
    ("tickets.csv", "total hours spent per team", [["Desktop", "10.75"], ["Network", "8.25"]]),
    ("tickets.csv", "How many tickets were escalated?", [[2]]),
    ("tickets.csv", "How many tickets were opened in February 2026?", [[2]]),
    ("tickets.csv", "median hours spent", [["2.250"]]),
    ("tickets.csv", "Which team has the most tickets in progress?", [["Network", 1]]),
    ("sensors.csv", "What is the average temperature per sensor?",
     [["s1", "22.25"], ["s2", "12.00"], ["s3", "30.00"]]),
    ("sensors.csv", "Which location has the highest temperature?", [["Attic", "30.00"]]),
    ("sensors.csv", "lowest and highest humidity in the cellar", [[71, 73]]),
    ("sensors.csv", "How many readings above 20 temperature?", [[3]]),
    ("sensors.csv", "How many readings on 2026-03-02?", [[2]]),
    ("payroll.csv", "What is the total salary in each department?",
     [["Engineering", "10051.00"], ["Sales", "8000.00"], ["Support", "3000.00"]]),
    ("payroll.csv", "Who has the highest salary?", [["Cid Orr", "5250.75"]]),
    ("payroll.csv", "How many employees work full time?", [[3]]),
    ("payroll.csv", "average bonus", [["112.625"]]),
    ("payroll.csv", "How many employees earn a salary over 4,000?", [[3]]),
    ("payroll.csv", "How many employees were hired after 2021?", [[2]]),
    ("inventory.json", "Total stock per warehouse", [["Bergen", 52], ["Oslo", 5]]),
    ("inventory.json", "How many products have a stock below 10?", [[2]]),
    ("inventory.json", "What is the average unit price in Oslo?", [["11.225"]]),
    ("inventory.json", "Which product has the lowest stock?", [["Blue Lamp", 0]]),
]  # fmt: skip

REFUSALS = [
    ("orders.csv", "How many orders were escalated in each region?", "escalated"),
    ("orders.csv", "total weight per region", "weight"),
    ("orders.csv", "How many orders per warehouse?", "warehouse"),
    ("orders.csv", "What share of orders failed?", "share"),
    ("orders.csv", "How many customers have more than 3 orders?", "groups"),
    ("orders.csv", 'How many orders are "on hold"?', "on hold"),
    ("orders.csv", "How many orders are there, and what is the total amount of failed orders?", "parts"),
    ("inventory.json", "How many items since March 2026?", "date column"),
    ("inventory.json", "What is the total revenue?", "numeric column"),
    ("payroll.csv", "What is the total?", "numeric column"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "question", "rows"), ANSWERS)
def test_the_figures_are_exact(ask: Ask, file: str, question: str, rows: list[list[Any]]) -> None:
    reply = ask(file, question)
    assert reply["answered"], reply["reason"]
    assert reply["rows"] == rows, (reply["sql"], reply["explanation"])


@pytest.mark.parametrize(("file", "question", "missing"), REFUSALS)
def test_a_question_that_the_table_cannot_answer_is_refused(
    ask: Ask, file: str, question: str, missing: str
) -> None:
    reply = ask(file, question)
    assert not reply["answered"], reply
    assert missing in reply["reason"]


def test_an_answer_says_what_it_ran_and_how_it_understood_each_phrase(ask: Ask) -> None:
    reply = ask("orders.csv", "How many orders failed in each region, and what was their total?")
    assert reply["sql"].startswith("SELECT")
    assert any("'failed'" in line and "status" in line for line in reply["explanation"])
    assert "North: count 2, total amount 1254.75 $." in reply["sentences"]
    assert "| North | 2 | 1254.75 |" in reply["markdown"]
    assert 0 < reply["confidence"] <= 1


def test_a_noun_that_the_table_does_not_know_is_named_as_a_guess(ask: Ask) -> None:
    reply = ask("orders.csv", "How many invoices failed?")
    assert reply["rows"] == [[3]]
    assert reply["not_understood"] == ["invoices"]
    assert reply["confidence"] < 0.8


def test_a_column_that_is_nearly_numeric_is_not_added_up(ask: Ask) -> None:
    text = "region,amount\nNorth,1.00\nSouth,2.00\nSouth,about 5\n"
    assert "about 5" in ask("sales.csv", "total amount", text)["reason"]


def test_amounts_in_two_currencies_are_not_added_up(ask: Ask) -> None:
    reply = ask("sales.csv", "total amount", "region,amount\nNorth,$1.00\nSouth,2.00 EUR\n")
    assert "currencies" in reply["reason"]


def test_a_value_of_two_columns_is_ambiguous_unless_its_column_is_named(ask: Ask) -> None:
    text = "id,origin,target\n1,Oslo,Rome\n2,Rome,Oslo\n3,Oslo,Bonn\n"
    assert "origin" in ask("trips.csv", "How many trips Oslo?", text)["reason"]
    assert ask("trips.csv", "How many trips with origin Oslo?", text)["rows"] == [[2]]


def test_cells_cannot_break_out_of_the_sql_or_the_markdown(ask: Ask) -> None:
    text = 'id,"na""me",v\n1,"a\'); DROP TABLE data; --",5\n2,"x|y",6\n'
    reply = ask("rows.csv", 'total v per na"me', text)
    assert reply["answered"], reply["reason"]
    assert "x\\|y" in reply["markdown"]


def test_of_several_files_the_one_that_fits_is_asked(tmp_path: Any) -> None:
    from handlers.tools import questions

    files = {"notes.csv": tmp_path / "a", "orders.csv": tmp_path / "b"}
    files["notes.csv"].write_text("note,author\nhello,me\n")
    files["orders.csv"].write_text("order_id,status\n1,failed\n2,ok\n")
    reply = questions.ask({"question": "How many orders failed?"}, files)
    assert (reply["file"], reply["rows"]) == ("orders.csv", [[1]])
