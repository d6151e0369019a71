"""The system's store of CAs, without those that must not verify upstreams (authority/roots.py)."""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

from sidekey.authority.roots import usable

_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")


def system() -> str:
    """What OpenSSL would read, `$SSL_CERT_FILE` and `$SSL_CERT_DIR` included, in PEM.

    It is read whole: OpenSSL looks into a folder when it verifies, and would find what was added to it meanwhile.
    """
    found: dict[bytes, None] = {}
    for path in _files():
        # What cannot be read is passed over, as OpenSSL does.
        with contextlib.suppress(OSError):
            found |= usable(path.read_bytes())
    return "".join(map(ssl.DER_cert_to_PEM_cert, found))


def _files() -> Iterator[Path]:
    # The paths are None where there is no such file or folder.
    paths = ssl.get_default_verify_paths()
    if paths.cafile is not None:
        yield Path(paths.cafile)
    if paths.capath is not None:
        with contextlib.suppress(OSError):
            yield from sorted(each for each in Path(paths.capath).iterdir() if _HASHED.fullmatch(each.name))
