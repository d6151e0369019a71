"""Read the CAs that verify upstreams."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from sidekey.config.ca_bundles import MAX_BUNDLE_SIZE, check_bundle, check_no_local_ca
from sidekey.config.secrets import RecordingReader, ReferenceReader, SecretReader, describe_source
from sidekey.snapshot.snapshot import Trust

TrustOf = Callable[[Trust], tuple[Trust, str | None]]
"""`build_trust`, cached for one load."""


def load_trust(
    setting: Trust | None, default: Trust, read: ReferenceReader, trust_of: TrustOf
) -> tuple[Trust, str | None]:
    """Return the CAs of a `trusted_ca`, and the error if they cannot be read. Without a setting, return `default`.

    If `read` records, it records the file.
    """
    if setting is None:
        return default, None
    if setting.path is not None and isinstance(read, RecordingReader):
        read.record(setting.path)
    return trust_of(setting)


def build_trust(trust: Trust, read: SecretReader) -> tuple[Trust, str | None]:
    """Return the trust with its file's absolute path and content, or without content and the error."""
    if trust.path is None:
        return trust, None
    path = str(read.path(trust.path))
    try:
        data = read.content(trust.path, MAX_BUNDLE_SIZE)
        # Text between the certificates may be in any encoding.
        pem = data.decode("latin-1").encode("ascii", "replace").decode()
        check_bundle(pem)
        check_no_local_ca(data)
    except ValueError as error:
        return Trust(trust.source, path), f"{describe_source('file', trust.path)} {error}"
    return Trust(trust.source, path, hashlib.sha256(data).hexdigest(), pem), None
