"""How a secret that is a key is written: as the text itself, or in base64 or hex."""

from __future__ import annotations

import re
from base64 import b64decode
from typing import Literal

SecretEncoding = Literal["text", "base64", "hex"]

_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_URL_SAFE = str.maketrans("-_", "+/")


def decoded(text: str, encoding: SecretEncoding) -> bytes:
    """The bytes of a secret. Raises ValueError, which repeats nothing of it."""
    if encoding == "text":
        return text.encode()
    if encoding == "hex":
        if not _HEX.fullmatch(text):
            raise ValueError("must be hex, as secret_encoding says: two digits a byte")
        return bytes.fromhex(text)
    # RFC 4648 4 and 5: no text is valid in both alphabets and means something else; padding tells nothing more.
    bare = text.rstrip("=").translate(_URL_SAFE)
    try:
        return b64decode(f"{bare}{'=' * (-len(bare) % 4)}", validate=True)
    except ValueError:
        raise ValueError("must be base64, as secret_encoding says (RFC 4648)") from None
