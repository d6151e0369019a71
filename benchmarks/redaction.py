"""Cost of the search for repeated secrets: for each response head, and for a redacted body."""

from __future__ import annotations

import gzip
import random
from base64 import b64encode
from time import process_time

from sidekey.policy.framing import UNTIL_CLOSE
from sidekey.policy.messages import ResponseHead
from sidekey.policy.redaction import MARK, Redactor
from sidekey.proxy.exchange.response_body import RedactedBody

ROUNDS = 60
HEADS = 400
READ = 64 << 10
BODY = 4 << 20

PASSWORD = b"correct-horse/42"
SECRETS = (PASSWORD, b64encode(b"svc:" + PASSWORD))


def head(number: int) -> list[bytes]:
    """Build the fields of an API's response: 15 with 750 bytes, two of which differ between responses."""
    fields = (
        "Server: nginx/1.26.3",
        "Date: Tue, 24 Nov 2026 12:00:00 GMT",
        "Content-Type: application/json; charset=utf-8",
        f"X-Request-Id: 7f8a0d3c-33aa-4c15-9b1d-{number:012x}",
        f"X-RateLimit-Remaining: {number}",
        "X-RateLimit-Limit: 5000",
        "X-RateLimit-Reset: 1795780800",
        "Cache-Control: no-cache, no-store, max-age=0, must-revalidate",
        "Strict-Transport-Security: max-age=31536000; includeSubDomains; preload",
        "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
        "X-Content-Type-Options: nosniff",
        "X-Frame-Options: DENY",
        "Referrer-Policy: origin-when-cross-origin, strict-origin-when-cross-origin",
        "Vary: Accept, Authorization, Cookie, Accept-Encoding",
        "Access-Control-Expose-Headers: ETag, Link, Location, Retry-After, X-RateLimit-Limit",
    )
    return [b"\r\n" + field.encode() for field in fields]


def run() -> dict[str, float]:
    """Return microseconds for a response head with a Basic credential, and MB/s of bodies, best rounds.

    `hostile_mb_s` is that of a body of beginnings of a token that was made for it, the slowest that was found.
    """
    body = _json()
    hostile = (b"ab" * 1999 + b"ac") * (BODY // 4000)
    return {
        "head_us": min(_head_round() for _ in range(ROUNDS)),
        "plain_mb_s": _rate(SECRETS, body, []),
        "gzip_mb_s": _rate(SECRETS, gzip.compress(body), [b"\r\nContent-Encoding: gzip"]),
        "hostile_mb_s": _rate((b"ab" * 2000 + b"c",), hostile, []),
    }


def _head_round() -> float:
    """Time response heads with new objects, as from a parser. The first response is not counted."""
    redactor = Redactor(SECRETS)
    first, *heads = (head(number) for number in range(HEADS + 1))
    if redactor.clean([*first, b"\r\nX-Echo: " + SECRETS[1]]) != [*first, b"\r\nX-Echo: " + MARK]:
        raise RuntimeError("the secret is not found")
    began = process_time()
    for fields in heads:
        redactor.clean(fields)
    return (process_time() - began) / HEADS * 1e6


def _rate(secrets: tuple[bytes, ...], raw: bytes, fields: list[bytes]) -> float:
    """Return the output in megabytes a second, for long reads of the body."""
    redactor = Redactor(secrets)
    reads = [raw[at : at + READ] for at in range(0, len(raw), READ)]
    best = 0.0
    for _ in range(ROUNDS // 10):
        body = RedactedBody(ResponseHead(200, fields, None, UNTIL_CLOSE, None), redactor)
        size = 0
        began = process_time()
        for read in reads:
            body.add([read], whole=False)
            while body.can_step:
                size += len(body.step())
        best = max(best, size / (process_time() - began) / 1e6)
        if size < BODY // 2:
            raise RuntimeError(f"{size} bytes of the body came out")
    return best


def _json() -> bytes:
    """Build records as an API lists them, with the secret in each hundredth."""
    chance = random.Random(1)
    records = bytearray()
    number = 0
    while len(records) < BODY:
        number += 1
        note = PASSWORD if number % 100 == 0 else b'a \\"quoted\\" word'
        token = b64encode(chance.randbytes(20))
        records += b'{"id": %d, "name": "name %d", "key": "%b", "note": "%b"},\n' % (number, number * 7, token, note)
    return bytes(records)


def main() -> None:
    """Print the figures."""
    figures = run()
    print(
        f"a response head:   {figures['head_us']:.2f} us\n"
        f"a plain body:      {figures['plain_mb_s']:.0f} MB/s\n"
        f"a body in gzip:    {figures['gzip_mb_s']:.0f} MB/s, decoded\n"
        f"a hostile body:    {figures['hostile_mb_s']:.0f} MB/s"
    )


if __name__ == "__main__":
    main()
