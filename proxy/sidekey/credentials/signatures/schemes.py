"""The schemes that have a name, each with the page that says so."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from binascii import b2a_base64, hexlify
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final, Literal

from sidekey.credentials.secret_holder import SecretHolder
from sidekey.credentials.signatures.keys import SigningKey
from sidekey.credentials.signatures.template import (
    BODY,
    BODY_SHA256,
    KNOWN,
    SENT,
    Template,
    TemplateValues,
    filler,
    in_pieces,
    read,
)
from sidekey.credentials.signing import OutgoingRequest, RandomIds, Signer, SigningRules
from sidekey.errors import Problem
from sidekey.policy.headers import normalise

Encoding = Literal["hex", "base64", "base64url"]

ID: Final = "{id}"
"""The template of the field whose value a caller may choose."""

SIGNATURE: Final = "signature"
SIGNATURES: Final = "signatures"

_NONE: Final[Sequence[bytes]] = ()

_ENCODE: Mapping[Encoding, Callable[[bytes], bytes]] = {
    "hex": hexlify,
    "base64": partial(b2a_base64, newline=False),
    "base64url": lambda signature: urlsafe_b64encode(signature).rstrip(b"="),
}
_ID_VALUE = re.compile(rb"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True, slots=True)
class Scheme:
    """A scheme as data: templates of what is signed, and of the fields that are written, by their names.

    `each` is how a signature stands among several, which `join` separates. Where a scheme has `asymmetric`, how one by
    an Ed25519 key does, its keys are written as Standard Webhooks says. `source` is where all of this is said.
    """

    signed: str
    headers: Mapping[str, str]
    algorithm: str = "hmac-sha256"
    encoding: Encoding = "hex"
    each: str = "{signature}"
    join: str = ","
    asymmetric: str = ""
    source: str = ""

    @property
    def several(self) -> bool:
        """Whether it carries more than one signature."""
        return all(SIGNATURE not in read_field(text).names for text in self.headers.values())

    def rules(self) -> SigningRules:
        """What is known of its signer before any key is read."""
        signed = read_signed(self.signed)
        return SigningRules(
            frozenset(normalise(name.encode()) for name in self.headers),
            kept=frozenset(normalise(name.encode()) for name, text in self.headers.items() if text == ID),
            signed=frozenset(name.encode() for name in signed.fields),
            body=not signed.names.isdisjoint((BODY, BODY_SHA256)),
        )

    def signer(self, keys: Sequence[SigningKey]) -> Signer:
        """What signs with these keys, once with each."""
        return SchemeSigner(self, keys)


def read_signed(text: str) -> Template:
    """Read what is signed. Raises ValueError."""
    return read(text, (*SENT, *KNOWN, BODY), fields=True)


def read_each(text: str) -> tuple[str, str]:
    """Read how one signature stands among several: the texts around it. Raises ValueError."""
    template = read(text, (SIGNATURE,))
    if len(template.values) != 1:
        raise ValueError("must contain {signature}, once")
    return template.values[0][0], template.end


def read_field(text: str) -> Template:
    """Read the value of a field that is written. Raises ValueError."""
    return read(text, (SIGNATURE, SIGNATURES, *SENT))


class SchemeSigner(SecretHolder, Signer):
    """Signs by the templates of a scheme."""

    def __init__(self, scheme: Scheme, keys: Sequence[SigningKey]) -> None:
        signed = read_signed(scheme.signed)
        headers = {name: read_field(text) for name, text in scheme.headers.items()}
        self._id_name = next((name for name, text in scheme.headers.items() if text == ID), "")
        names = signed.names.union(*(template.names for template in headers.values()))
        self._needs_id = "id" in names
        self.draws = self._needs_id or "nonce" in names
        self._normal_id = normalise(self._id_name.encode())
        self._required = tuple((name, name.encode()) for name in sorted(signed.fields))
        self._signed = in_pieces(signed)
        self._encode = _ENCODE[scheme.encoding]
        self._keys = tuple((key, *_around(scheme.asymmetric if key.asymmetric else scheme.each)) for key in keys)
        self._join = scheme.join.encode()
        fillers = {name: filler(template, before=f"\r\n{name}: ") for name, template in headers.items()}
        self._names = [name.encode() for name in fillers]
        self._lines = tuple(fillers.values())
        self._lines_but_id = tuple(fill for name, fill in fillers.items() if name != self._id_name)

    def __repr__(self) -> str:
        return f"SchemeSigner({self._normal_id!r}, REDACTED)"

    def check(self, request: OutgoingRequest) -> Problem | None:
        """A message ID that could stand for another text, and a field that is signed and not there once."""
        if self._id_name:
            values = request.sent(self._normal_id)
            if values and (len(values) > 1 or not _ID_VALUE.fullmatch(values[0])):
                return Problem(
                    "request_invalid",
                    f"{self._id_name} must be 1 to 128 letters, digits, _ and -, and be sent once: it is signed; "
                    "without this header the message gets an ID",
                )
        for name, normal in self._required:
            if len(request.values(normal)) != 1:
                return Problem("request_invalid", f"the header {name} must be sent once: the signature covers it")
        return None

    def names(self, request: OutgoingRequest) -> list[bytes]:
        """Those of the scheme, but that of the message ID where the caller sends one."""
        is_kept = bool(self._id_name) and bool(request.sent(self._normal_id))
        return [name for name in self._names if not (is_kept and normalise(name) == self._normal_id)]

    def sign(self, request: OutgoingRequest, body: Sequence[bytes], now: float, unique: RandomIds) -> list[bytes]:
        """The fields of the scheme; that of the message ID where the caller sends none."""
        kept = request.sent(self._normal_id) if self._id_name else _NONE
        facts = TemplateValues(request, body, now, unique, kept[0] if kept else self._new_id(unique))
        pieces = self._signed(facts)
        first, every = b"", b""
        for key, before, after in self._keys:
            signature = self._encode(key.sign(pieces))
            if first:
                every += self._join + before + signature + after
            else:
                first, every = signature, before + signature + after
        facts.carry(first, every)
        return [fill(facts) for fill in (self._lines_but_id if kept else self._lines)]

    def explain(
        self, request: OutgoingRequest, body: Sequence[bytes] | None, now: float, unique: RandomIds
    ) -> list[bytes]:
        """One text: every key signs the same."""
        kept = request.sent(self._normal_id) if self._id_name else _NONE
        return [
            b"".join(
                self._signed(TemplateValues(request, body, now, unique, kept[0] if kept else self._new_id(unique)))
            )
        ]

    def _new_id(self, unique: RandomIds) -> bytes:
        return b"msg_" + hexlify(unique.message) if self._needs_id else b""


def _around(each: str) -> tuple[bytes, bytes]:
    before, after = read_each(each)
    return before.encode(), after.encode()


def _standard(prefix: str, source: str) -> Scheme:
    """Standard Webhooks, which came of Svix: the two differ by the names of their headers."""
    return Scheme(
        source=source,
        signed="{id}.{timestamp}.{body}",
        encoding="base64",
        each="v1,{signature}",
        asymmetric="v1a,{signature}",
        join=" ",
        headers={
            f"{prefix}-id": "{id}",
            f"{prefix}-timestamp": "{timestamp}",
            f"{prefix}-signature": "{signatures}",
        },
    )


SCHEMES: Final[Mapping[str, Scheme]] = MappingProxyType(
    {
        "standard-webhooks": _standard(
            "webhook", "https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md"
        ),
        "svix": _standard("svix", "https://docs.svix.com/receiving/verifying-payloads/how-manual"),
        "convoy": Scheme(
            source="https://getconvoy.io/docs/product-manual/signatures",
            signed="{timestamp},{body}",
            each="v1={signature}",
            headers={"X-Convoy-Signature": "t={timestamp},{signatures}"},
        ),
        "github": Scheme(
            source="https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries",
            signed="{body}",
            headers={"X-Hub-Signature-256": "sha256={signature}"},
        ),
        "slack": Scheme(
            source="https://docs.slack.dev/authentication/verifying-requests-from-slack",
            signed="v0:{timestamp}:{body}",
            headers={
                "X-Slack-Request-Timestamp": "{timestamp}",
                "X-Slack-Signature": "v0={signature}",
            },
        ),
        "stripe": Scheme(
            source="https://docs.stripe.com/webhooks/signature",
            signed="{timestamp}.{body}",
            each="v1={signature}",
            headers={"Stripe-Signature": "t={timestamp},{signatures}"},
        ),
        "shopify": Scheme(
            source="https://shopify.dev/docs/apps/build/webhooks/subscribe/https",
            signed="{body}",
            encoding="base64",
            headers={"X-Shopify-Hmac-Sha256": "{signature}"},
        ),
    }
)
"""By the name that `scheme` has in a config."""
