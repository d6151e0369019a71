"""How a stored integration reads: never a secret, nor its length, a part or a hash of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sidekey.credentials.certificates.chain import name_of
from sidekey.credentials.certificates.material import leaf_of
from sidekey.settings.stored.document import kept_as, listed_in, replaced, without
from sidekey.settings.stored.saving import Former
from sidekey.store.records import SealedField


def shown(former: Former, secrets: Mapping[str, SealedField]) -> Any:
    """The document as it is sent out; sent back unchanged, it keeps everything.

    A secret that an earlier version saved as plain text is left out: it must be entered again.
    """
    listed = {each.pointer: each for each in listed_in(former.saved.written)}
    values: dict[str, Any] = {
        where: {
            **kept_as(listed.get(where)),
            "updated_at": instant(each.updated_at),
            "updated_by": each.updated_by,
        }
        for where, each in secrets.items()
    }
    for where, written in former.certificates().items():
        pem = written if isinstance(written, str) else written["inline"]
        values[where] = {"set": True, **_of_certificate(pem)}
    return without(replaced(former.saved.written, values), former.in_the_open)


def instant(seconds: float) -> str:
    """A time as APIs write it (RFC 3339), in seconds and UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _of_certificate(pem: str) -> dict[str, str]:
    leaf = leaf_of(pem.encode())
    return {
        "subject": name_of(leaf.subject),
        "issuer": name_of(leaf.issuer),
        "not_after": instant(leaf.not_valid_after_utc.timestamp()),
    }
