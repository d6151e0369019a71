"""MACs of rows: pinned bytes, and rows that do not verify."""

from __future__ import annotations

from sidekey.store.integrity import TOMBSTONE, RowAuthenticator, RowHeader
from sidekey.store.records import PresetRow
from support.stores import PINNED, RING

AUTHENTICATOR = RowAuthenticator(RING, "0" * 32)
MAC = "7643621b68b97fb2fd29bf10347948f97ec3220f312ff9b00b5a1391f43ea8bd"
HEADER = RowHeader("integration", "1" * 32, "crm", 3, "k1", MAC, 9)


def test_authenticated_bytes_never_change() -> None:
    """With other bytes, every existing row would count as altered."""
    assert AUTHENTICATOR.sign(("integration", "crm"), "1" * 32, 3, 9, PINNED.body()) == HEADER
    assert AUTHENTICATOR.key_proof("k1") == "d406c3e043eb96856fb2ed6d7e8b6bf90b1087f0f8ca807c52058db66efb2310"


def test_altered_preset_has_only_its_id_and_version() -> None:
    """Callers get an error about the preset instead of "no such preset"."""
    row = PresetRow(row_id="1" * 32, id="hook", version=3, document='{"integration":"crm"}')
    header = AUTHENTICATOR.sign(("preset", "hook"), row.row_id, 3, 9, row.body())
    assert AUTHENTICATOR.verify(header, row.body()).record == row
    altered = AUTHENTICATOR.verify(header, row.body().replace("crm", "sms"))
    assert (altered.record, altered.verified) == (
        PresetRow(row_id="1" * 32, id="hook", version=3, verified=False),
        False,
    )


def test_row_of_another_store_does_not_verify() -> None:
    assert not RowAuthenticator(RING, "f" * 32).verify(HEADER, PINNED.body()).verified


def test_row_of_a_newer_version_counts_as_altered() -> None:
    """A newer Sidekey wrote it with the right key."""
    for kind, body in (
        ("later", "{}"),
        ("preset", "{}"),
        ("integration", "{}"),
        ("integration", "[]"),
        ("token", '{"role":"root"}'),
    ):
        header = RowHeader(kind, "1" * 32, "x", 1, "k1", "", 9)
        signed = header._replace(mac=AUTHENTICATOR._row_mac(header, body))
        assert not AUTHENTICATOR.verify(signed, body).verified


def test_tombstone_verifies_only_for_its_row_and_version() -> None:
    header = AUTHENTICATOR.sign(("integration", "crm"), "1" * 32, 4, 9, TOMBSTONE)
    assert AUTHENTICATOR.verify(header, TOMBSTONE).deleted
    for changed in (header._replace(version=5), header._replace(id="sms"), header._replace(row_id="2" * 32), HEADER):
        assert not AUTHENTICATOR.verify(changed, TOMBSTONE).deleted


def test_line_feed_in_an_id_does_not_shift_the_authenticated_parts() -> None:
    first, second = HEADER._replace(id="crm\n{}"), HEADER._replace(id="crm")
    assert AUTHENTICATOR._row_mac(first, "x") != AUTHENTICATOR._row_mac(second, "{}\nx")
