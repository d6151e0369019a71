"""The tables of docs/clients.md match the clients that the tests run."""

from __future__ import annotations

import json

from support.clients import CLIENTS, DOCUMENT, PROVEN, document, tables


def test_tables_are_up_to_date() -> None:
    """`make clients` writes them from the results of tests/clients/test_services.py."""
    assert DOCUMENT.read_text("utf-8") == document()


def test_tables_list_exactly_the_tested_clients() -> None:
    assert list(json.loads(PROVEN.read_text("utf-8"))) == [kind.name for kind in CLIENTS]


def test_code_in_the_tables_is_in_the_service() -> None:
    """A reader copies only lines that ran."""
    for kind in CLIENTS:
        assert kind.code in kind.path.read_text("utf-8")
        assert not kind.code or f"`{kind.code}`" in tables()


def test_every_client_reads_a_proxy_and_a_certificate_variable() -> None:
    """A client that needs fewer would bypass Sidekey, or trust too much."""
    for name, seen in json.loads(PROVEN.read_text("utf-8")).items():
        assert seen["reads"], name
        assert seen["version"][0].isdigit(), name
