"""MACs of rows: the bytes are pinned, and nothing of a row may differ."""

from __future__ import annotations

from sidekey.store.integrity import TOMBSTONE, RowAuthenticator, RowHeader
from sidekey.store.records import PresetRow
from support.stores import PINNED, RING

AUTHENTICATOR = RowAuthenticator(RING, "0" * 32)
MAC = "7643621b68b97fb2fd29bf10347948f97ec3220f312ff9b00b5a1391f43ea8bd"
LINE = RowHeader("integration", "1" * 32, "crm", 3, "k1", MAC, 9)


def test_what_is_authenticated_is_pinned() -> None:
    """For good: with other bytes every row would count as altered."""
    assert AUTHENTICATOR.sign(("integration", "crm"), "1" * 32, 3, 9, PINNED.body()) == LINE
    assert AUTHENTICATOR.key_proof("k1") == "d406c3e043eb96856fb2ed6d7e8b6bf90b1087f0f8ca807c52058db66efb2310"


def test_an_altered_preset_shows_nothing_but_whose_row_it_is() -> None:
    """Its callers are told that it cannot be used, not that there is none."""
    row = PresetRow(row="1" * 32, id="hook", version=3, document='{"integration":"crm"}')
    line = AUTHENTICATOR.sign(("preset", "hook"), row.row, 3, 9, row.body())
    assert AUTHENTICATOR.verify(line, row.body()).record == row
    held = AUTHENTICATOR.verify(line, row.body().replace("crm", "sms"))
    assert (held.record, held.verified) == (PresetRow(row="1" * 32, id="hook", version=3, verified=False), False)


def test_a_row_of_another_store_does_not_count() -> None:
    assert not RowAuthenticator(RING, "f" * 32).verify(LINE, PINNED.body()).verified


def test_a_row_that_nobody_understands_counts_as_altered() -> None:
    """Written by a newer Sidekey with the right key."""
    for kind, body in (
        ("later", "{}"),
        ("preset", "{}"),
        ("integration", "{}"),
        ("integration", "[]"),
        ("token", '{"role":"root"}'),
    ):
        line = RowHeader(kind, "1" * 32, "x", 1, "k1", "", 9)
        signed = line._replace(mac=AUTHENTICATOR._row_mac(line, body))
        assert not AUTHENTICATOR.verify(signed, body).verified


def test_a_tombstone_verifies_for_its_own_row_and_version_alone() -> None:
    line = AUTHENTICATOR.sign(("integration", "crm"), "1" * 32, 4, 9, TOMBSTONE)
    assert AUTHENTICATOR.verify(line, TOMBSTONE).deleted
    for changed in (line._replace(version=5), line._replace(id="sms"), line._replace(row="2" * 32), LINE):
        assert not AUTHENTICATOR.verify(changed, TOMBSTONE).deleted


def test_the_parts_of_a_row_cannot_be_shifted() -> None:
    """A line feed within a name takes nothing of what follows."""
    one, other = LINE._replace(id="crm\n{}"), LINE._replace(id="crm")
    assert AUTHENTICATOR._row_mac(one, "x") != AUTHENTICATOR._row_mac(other, "{}\nx")
