"""The campaigns about many clients, in short."""

from headrace.tools.launch import headrace_program
from headrace.tools.selftest.clients import churn, connections


def test_of_clients_that_all_talk_none_is_dropped_or_starved() -> None:
    rows = connections(headrace_program(), count=100, subscriptions=20, rounds=3)
    assert [row.what for row in rows if not row.passed] == []


def test_memory_and_open_files_stay_flat_while_clients_come_and_go() -> None:
    rows = churn(headrace_program(), seconds=3)
    assert [row.what for row in rows if not row.passed] == []
