"""The tables of docs/clients.md are those of the clients that the tests run."""

from __future__ import annotations

import json

from support.clients import CLIENTS, DOCUMENT, PROVEN, document, tables


def test_the_tables_are_up_to_date() -> None:
    """`make clients` writes them, from what tests/clients/test_services.py has seen."""
    assert DOCUMENT.read_text("utf-8") == document()


def test_every_client_was_seen() -> None:
    """None is in the tables that was not run, and none was run that is not in them."""
    assert list(json.loads(PROVEN.read_text("utf-8"))) == [kind.name for kind in CLIENTS]


def test_what_the_tables_say_of_a_services_code_is_in_the_service() -> None:
    """A line that a reader copies is one that was run."""
    for kind in CLIENTS:
        assert kind.code in kind.path.read_text("utf-8")
        assert not kind.code or f"`{kind.code}`" in tables()


def test_every_client_reads_a_proxy_and_a_certificate_variable() -> None:
    """One that needs less would bypass Sidekey, or trust more than it should."""
    for name, seen in json.loads(PROVEN.read_text("utf-8")).items():
        assert seen["reads"], name
        assert seen["version"][0].isdigit(), name
