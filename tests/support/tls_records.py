"""TLS records that no library sends, encrypted with the keys of a real handshake (RFC 8446, RFC 5246)."""

from __future__ import annotations

import hmac
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

HANDSHAKE, DATA = 22, 23


def secret_of(log: Path, label: str) -> tuple[bytes, bytes]:
    """Return the client's random and the secret under a label of a key log."""
    lines = [line for line in log.read_text().splitlines() if not line.startswith("#")]
    for line in lines:
        label_read, random, secret = line.split()
        if label_read == label:
            return bytes.fromhex(random), bytes.fromhex(secret)
    raise AssertionError(f"{label} is not in the key log")


class Records13:
    """Records of a client that has not sent data yet, in TLS 1.3 with AES-256."""

    def __init__(self, log: Path) -> None:
        _, self._secret = secret_of(log, "CLIENT_TRAFFIC_SECRET_0")
        self._use()

    def _expand(self, label: str, length: int) -> bytes:
        name = b"tls13 " + label.encode()
        info = length.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0"
        return HKDFExpand(SHA384(), length, info).derive(self._secret)

    def _use(self) -> None:
        self._key, self._iv, self._sequence = AESGCM(self._expand("key", 32)), self._expand("iv", 12), 0

    def _record(self, kind: int, content: bytes) -> bytes:
        plain = content + bytes([kind])
        header = b"\x17\x03\x03" + (len(plain) + 16).to_bytes(2, "big")
        nonce = bytes(a ^ b for a, b in zip(self._iv, self._sequence.to_bytes(12, "big"), strict=True))
        self._sequence += 1
        return header + self._key.encrypt(nonce, plain, header)

    def data(self, content: bytes) -> bytes:
        """Build a record of data."""
        return self._record(DATA, content)

    def key_update(self, *, asking: bool) -> bytes:
        """Build a key update (4.6.3), which may request one in return."""
        record = self._record(HANDSHAKE, b"\x18\0\0\1" + bytes([asking]))
        self._secret = self._expand("traffic upd", 48)
        self._use()
        return record


class Records12:
    """Records of a client after its Finished, in TLS 1.2 with AES-256 in GCM."""

    def __init__(self, log: Path, received: bytes) -> None:
        """`received` has the bytes from the server, from its ServerHello on."""
        client_random, master = secret_of(log, "CLIENT_RANDOM")
        assert (received[0], received[5]) == (HANDSHAKE, 2)
        seed = b"key expansion" + received[11:43] + client_random
        block, link = b"", seed
        while len(block) < 72:
            link = hmac.digest(master, link, "sha384")
            block += hmac.digest(master, link + seed, "sha384")
        self._key, self._iv, self._sequence = AESGCM(block[:32]), block[64:68], 1

    def _record(self, kind: int, content: bytes) -> bytes:
        sequence = self._sequence.to_bytes(8, "big")
        self._sequence += 1
        associated_data = sequence + bytes([kind]) + b"\x03\x03" + len(content).to_bytes(2, "big")
        sealed = sequence + self._key.encrypt(self._iv + sequence, content, associated_data)
        return bytes([kind]) + b"\x03\x03" + len(sealed).to_bytes(2, "big") + sealed

    def data(self, content: bytes) -> bytes:
        """Build a record of data."""
        return self._record(DATA, content)

    def hello(self) -> bytes:
        """Build a ClientHello: the attempt to renegotiate."""
        body = b"\x03\x03" + bytes(32) + b"\0" + b"\0\2\xc0\x30" + b"\1\0"
        return self._record(HANDSHAKE, b"\1" + len(body).to_bytes(3, "big") + body)
