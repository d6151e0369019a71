"""What vouches for the rows: the bytes are pinned, and nothing of a row may differ."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidekey.store.integrity import Head, Line, Seals, digest
from sidekey.store.records import IntegrationRow, PresetRow
from support.stores import PINNED, RING

SEALS = Seals(RING, "0" * 32)
LINE = Line("integration", "1" * 32, "crm", 3, "k1", "389fa17af2b5cc2eff0d13a073702a06ab7428bcbfde9cb804b4193d858cbc33")
DIGEST = "1b3a2be35b9722b91063e2f71e2e649cb4dff1b3ffdcc3a53a25acb6d2e6dfe5"
HEAD = Head(1_700_000_000_000, 9, DIGEST, "k1", "c4463eed558f0c426d4bd1977ec0490e2056d1fa1d79a4b7015d3116174d5a0f")


def test_what_is_authenticated_is_pinned() -> None:
    """For good: with other bytes every row would count as altered."""
    assert SEALS.line(PINNED) == LINE
    assert digest([LINE.text()]) == DIGEST
    assert SEALS.head(HEAD.epoch, HEAD.revision, DIGEST) == HEAD
    assert SEALS.key_check("k1") == "d406c3e043eb96856fb2ed6d7e8b6bf90b1087f0f8ca807c52058db66efb2310"


def test_a_row_that_bears_its_mac_is_read() -> None:
    held = SEALS.held(LINE, PINNED.body())
    assert (held.record, held.intact) == (PINNED, True)


@pytest.mark.parametrize(
    "change",
    [{"kind": "caller"}, {"row": "2" * 32}, {"id": "crn"}, {"version": 4}, {"key": "k2"}, {"mac": "0" * 64}],
    ids=str,
)
def test_nothing_of_a_line_may_differ(change: dict[str, object]) -> None:
    assert not SEALS.held(LINE._replace(**change), PINNED.body()).intact


def test_nothing_of_a_body_may_differ() -> None:
    """And the altered integration shows nothing but whose row it is."""
    held = SEALS.held(LINE, PINNED.body().replace("basic", "Basic"))
    assert not held.intact
    assert held.record == IntegrationRow(row="1" * 32, id="crm", version=3, state="altered")


def test_an_altered_preset_shows_nothing_but_whose_row_it_is() -> None:
    """Its callers are told that it cannot be used, not that there is none."""
    row = PresetRow(row="1" * 32, id="hook", version=3, document='{"integration":"crm"}')
    line = SEALS.line(row)
    assert SEALS.held(line, row.body()).record == row
    held = SEALS.held(line, row.body().replace("crm", "sms"))
    assert (held.record, held.intact) == (PresetRow(row="1" * 32, id="hook", version=3, state="altered"), False)


def test_an_altered_caller_is_not_there() -> None:
    assert SEALS.held(LINE._replace(kind="caller"), "{}").record is None


def test_a_row_of_another_store_does_not_count() -> None:
    assert not Seals(RING, "f" * 32).held(LINE, PINNED.body()).intact


def test_a_row_that_nobody_understands_counts_as_altered() -> None:
    """Written by a newer Sidekey with the right key."""
    for kind, body in (
        ("later", "{}"),
        ("preset", "{}"),
        ("integration", "{}"),
        ("integration", "[]"),
        ("token", '{"role":"root"}'),
    ):
        line = Line(kind, "1" * 32, "x", 1, "k1", "")
        signed = line._replace(mac=SEALS._row_mac(line, body))
        assert not SEALS.held(signed, body).intact


@pytest.mark.parametrize("change", [{"epoch": 1}, {"revision": 8}, {"digest": "0" * 64}, {"mac": "0" * 64}], ids=str)
def test_nothing_of_a_head_may_differ(change: dict[str, object]) -> None:
    assert SEALS.vouches(HEAD)
    assert not SEALS.vouches(replace(HEAD, **change))


def test_a_head_by_a_key_that_is_missing_vouches_for_nothing() -> None:
    assert not SEALS.vouches(replace(HEAD, key="k2"))


def test_a_digest_does_not_depend_on_the_order_of_rows() -> None:
    other = LINE._replace(row="2" * 32).text()
    assert digest([LINE.text(), other]) == digest([other, LINE.text()])
    assert digest([LINE.text()]) != digest([LINE.text(), LINE.text()])


def test_the_parts_of_a_row_cannot_be_shifted() -> None:
    """A line feed within a name takes nothing of what follows."""
    one, other = LINE._replace(id="crm\n{}"), LINE._replace(id="crm")
    assert SEALS._row_mac(one, "x") != SEALS._row_mac(other, "{}\nx")
