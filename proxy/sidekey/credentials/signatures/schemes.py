"""Signature schemes as templates, the table of the platforms' schemes, and the signer that uses a scheme."""

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
    FROM_REQUEST,
    GENERATED,
    Template,
    TemplateValues,
    compile_pieces,
    compile_text,
    parse_template,
)
from sidekey.credentials.signing import OutgoingRequest, RandomIds, Signer, SigningRules
from sidekey.errors import Problem
from sidekey.policy.headers import normalise

Encoding = Literal["hex", "base64", "base64url"]

ID: Final = "{id}"
"""The template of the field with the message ID, whose value a caller may choose."""

SIGNATURE: Final = "signature"
SIGNATURES: Final = "signatures"

_ENCODE: Mapping[Encoding, Callable[[bytes], bytes]] = {
    "hex": hexlify,
    "base64": partial(b2a_base64, newline=False),
    "base64url": lambda signature: urlsafe_b64encode(signature).rstrip(b"="),
}
_ID_VALUE = re.compile(rb"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True, slots=True)
class Scheme:
    """A signature scheme: templates of the text to sign and of the fields to write, by name.

    `{signatures}` formats each signature with `each`, or `asymmetric` for Ed25519, and separates them with `join`. In a
    field, `{signature}` is the signature of the first key alone. A scheme with `asymmetric` has the key encodings of
    Standard Webhooks. `source` is the URL of the documentation.
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
    def allows_several(self) -> bool:
        """Return True if its fields can carry more than one signature."""
        return all(SIGNATURE not in parse_header_template(text).names for text in self.headers.values())

    def rules(self) -> SigningRules:
        """Return the rules of its signer."""
        signed = parse_signed_text(self.signed)
        return SigningRules(
            frozenset(normalise(name.encode()) for name in self.headers),
            caller_fields=frozenset(normalise(name.encode()) for name, text in self.headers.items() if text == ID),
            signed=frozenset(name.encode() for name in signed.fields),
            body=not signed.names.isdisjoint((BODY, BODY_SHA256)),
        )

    def signer(self, keys: Sequence[SigningKey]) -> Signer:
        """Build a signer that makes one signature with each key."""
        return SchemeSigner(self, keys)


def parse_signed_text(text: str) -> Template:
    """Parse the template of the text to sign. Raises ValueError."""
    return parse_template(text, (*GENERATED, *FROM_REQUEST, BODY), fields=True)


def parse_signature_format(text: str) -> tuple[str, str]:
    """Parse the format of one signature. Return the texts before and after it. Raises ValueError."""
    template = parse_template(text, (SIGNATURE,))
    if len(template.values) != 1:
        raise ValueError("must contain {signature}, once")
    return template.values[0][0], template.end


def parse_header_template(text: str) -> Template:
    """Parse the template of a field. Raises ValueError."""
    return parse_template(text, (SIGNATURE, SIGNATURES, *GENERATED))


class SchemeSigner(SecretHolder, Signer):
    """Signs requests with the templates of a scheme."""

    def __init__(self, scheme: Scheme, keys: Sequence[SigningKey]) -> None:
        signed = parse_signed_text(scheme.signed)
        headers = {name: parse_header_template(text) for name, text in scheme.headers.items()}
        self._id_name = next((name for name, text in scheme.headers.items() if text == ID), "")
        names = signed.names.union(*(template.names for template in headers.values()))
        self._needs_id = "id" in names
        self.uses_random_ids = self._needs_id or "nonce" in names
        self._normal_id = normalise(self._id_name.encode())
        self._signed_fields = tuple((name, name.encode()) for name in sorted(signed.fields))
        self._signed = compile_pieces(signed)
        self._encode = _ENCODE[scheme.encoding]
        self._formatted_keys = tuple(
            (key, *_split_around_signature(scheme.asymmetric if key.asymmetric else scheme.each)) for key in keys
        )
        self._join = scheme.join.encode()
        fillers = {name: compile_text(template, before=f"\r\n{name}: ") for name, template in headers.items()}
        self._names = [name.encode() for name in fillers]
        self._lines = tuple(fillers.values())
        self._lines_without_id = tuple(fill for name, fill in fillers.items() if name != self._id_name)

    def __repr__(self) -> str:
        return f"SchemeSigner({self._normal_id!r}, REDACTED)"

    def check(self, request: OutgoingRequest) -> Problem | None:
        """Require each signed field once, and a message ID that cannot change the meaning of the signed text."""
        if self._id_name:
            values = request.caller_values(self._normal_id)
            if values and (len(values) > 1 or not _ID_VALUE.fullmatch(values[0])):
                return Problem(
                    "request_invalid",
                    f"{self._id_name} must be 1 to 128 letters, digits, _ and -, and be sent once: it is signed; "
                    "without this header the message gets an ID",
                )
        for name, normal in self._signed_fields:
            if len(request.values(normal)) != 1:
                return Problem("request_invalid", f"the header {name} must be sent once: the signature covers it")
        return None

    def names(self, request: OutgoingRequest) -> list[bytes]:
        """Return the names of the scheme's fields, without the message ID if the caller sends one."""
        keeps_id = self._caller_id(request) is not None
        return [name for name in self._names if not (keeps_id and normalise(name) == self._normal_id)]

    def sign(self, request: OutgoingRequest, body: Sequence[bytes], now: float, random_ids: RandomIds) -> list[bytes]:
        """Return the lines of the scheme's fields, without the message ID if the caller sends one."""
        caller_id = self._caller_id(request)
        message_id = self._new_id(random_ids) if caller_id is None else caller_id
        values = TemplateValues(request, body, now, random_ids, message_id)
        pieces = self._signed(values)
        first, signatures = b"", b""
        for key, before, after in self._formatted_keys:
            signature = self._encode(key.sign(pieces))
            if first:
                signatures += self._join + before + signature + after
            else:
                first, signatures = signature, before + signature + after
        values.set_signatures(first, signatures)
        return [fill(values) for fill in (self._lines if caller_id is None else self._lines_without_id)]

    def explain(
        self, request: OutgoingRequest, body: Sequence[bytes] | None, now: float, random_ids: RandomIds
    ) -> list[bytes]:
        """Return the one text that every key signs."""
        caller_id = self._caller_id(request)
        message_id = self._new_id(random_ids) if caller_id is None else caller_id
        return [b"".join(self._signed(TemplateValues(request, body, now, random_ids, message_id)))]

    def _caller_id(self, request: OutgoingRequest) -> bytes | None:
        values = request.caller_values(self._normal_id) if self._id_name else ()
        return values[0] if values else None

    def _new_id(self, random_ids: RandomIds) -> bytes:
        return b"msg_" + hexlify(random_ids.message) if self._needs_id else b""


def _split_around_signature(each: str) -> tuple[bytes, bytes]:
    before, after = parse_signature_format(each)
    return before.encode(), after.encode()


def _standard(prefix: str, source: str) -> Scheme:
    """Build the scheme of Standard Webhooks or Svix, which differ only in the names of their headers."""
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
"""The schemes by the value of `scheme` in the config."""
