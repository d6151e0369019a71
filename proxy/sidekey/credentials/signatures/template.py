"""Templates of the text to sign and of the fields with the signature: text with the names of values in braces.

A template is compiled once. Braces inside a value have no meaning.
"""

from __future__ import annotations

import hashlib
import re
from binascii import hexlify
from collections.abc import Callable, Collection, Sequence
from email.utils import formatdate
from operator import attrgetter
from typing import Final, NamedTuple

from sidekey.credentials.fields import HTTP_TOKEN, NOT_INJECTED, normal_name
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.credentials.signing import OutgoingRequest, RandomIds

REDACTED: Final = b"[redacted]"
HIDDEN: Final[Sequence[bytes]] = (REDACTED,)
"""Replaces the pieces of a body that must not be shown."""

BODY: Final = "body"
BODY_SHA256: Final = "body_sha256"
HEADER: Final = "header:"

_SIGNABLE = frozenset({"host", "content-length"})
"""Fields that no integration may inject, but that reach the receiver unchanged."""

_BRACES = re.compile(r"\{([^{}]*)\}|[{}]")


class TemplateValues(SecretHolder):
    """The values of one request. `body` is `HIDDEN` if it must not be shown.

    `signature` is the first signature, `signatures` are all of them, formatted and joined.
    """

    __slots__ = ("body", "message_id", "now", "random_ids", "request", "signature", "signatures", "timestamp")

    def __init__(
        self,
        request: OutgoingRequest,
        body: Sequence[bytes] | None,
        now: float,
        random_ids: RandomIds,
        message_id: bytes,
    ) -> None:
        self.request = request
        self.body = HIDDEN if body is None else body
        self.now = now
        # Computed once, because most schemes sign it and send it.
        self.timestamp = b"%d" % now
        self.random_ids = random_ids
        self.message_id = message_id
        self.signature = b""
        self.signatures = b""

    def __repr__(self) -> str:
        return "TemplateValues(REDACTED)"

    def set_signatures(self, signature: bytes, signatures: bytes) -> None:
        """Set the results of signing."""
        self.signature = signature
        self.signatures = signatures


Value = Callable[[TemplateValues], bytes]


def _body_sha256(context: TemplateValues) -> bytes:
    if context.body is HIDDEN:
        return REDACTED
    digest = hashlib.sha256()
    for piece in context.body:
        digest.update(piece)
    return digest.hexdigest().encode()


def _date(context: TemplateValues) -> bytes:
    """Format the time as in the Date field (RFC 9110 5.6.7)."""
    return formatdate(int(context.now), usegmt=True).encode()


GENERATED: Final[dict[str, Value]] = {
    "id": attrgetter("message_id"),
    "timestamp": attrgetter("timestamp"),
    "timestamp_ms": lambda context: b"%d" % (context.now * 1000),
    "date": _date,
    "nonce": lambda context: hexlify(context.random_ids.nonce),
}
"""Values that Sidekey generates. Receivers know them only from a field."""

RESULTS: Final[dict[str, Value]] = {"signature": attrgetter("signature"), "signatures": attrgetter("signatures")}
"""Values that signing produces."""

FROM_REQUEST: Final[dict[str, Value]] = {
    "method": lambda context: context.request.method,
    "scheme": lambda context: context.request.scheme,
    "host": lambda context: context.request.authority,
    "path": lambda context: context.request.target.partition(b"?")[0],
    "query": lambda context: context.request.target.partition(b"?")[2],
    "target": lambda context: context.request.target,
    "url": lambda context: b"%b://%b%b" % (context.request.scheme, context.request.authority, context.request.target),
    BODY_SHA256: _body_sha256,
}
"""Values that receivers know from the request. `body` is missing here, because it is filled in by pieces."""


class Template(NamedTuple):
    """A parsed template: pairs of a text and the value name after it, and the text at the end."""

    values: tuple[tuple[str, str], ...]
    end: str

    @property
    def names(self) -> frozenset[str]:
        """The names of its values."""
        return frozenset(name for _, name in self.values)

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts before, between and after its values."""
        return (*(text for text, _ in self.values), self.end)

    @property
    def fields(self) -> frozenset[str]:
        """The normalised names of the header fields that it contains."""
        return frozenset(_field(name) for name in self.names if name.startswith(HEADER))


def read(text: str, names: Collection[str], *, fields: bool = False) -> Template:
    """Parse a template with these values, and header fields if `fields` is true. Raises ValueError."""
    values: list[tuple[str, str]] = []
    end = 0
    for match in _BRACES.finditer(text):
        name = match[1]
        if name is None:
            raise ValueError(f"a {match[0]} must belong to the name of a value, such as {{{next(iter(names))}}}")
        if fields and name.startswith(HEADER):
            check_signed_name(name.removeprefix(HEADER))
        elif name not in names:
            known = [*names, f"{HEADER}NAME"] if fields else names
            raise ValueError(f"{match[0]} is no value here: use {_listed(known)}")
        values.append((text[end : match.start()], name))
        end = match.end()
    return Template(tuple(values), text[end:])


def check_signed_name(name: str) -> None:
    """Raise ValueError for a field that cannot be signed, because the receiver may not get it unchanged."""
    if not HTTP_TOKEN.fullmatch(name):
        raise ValueError("header: needs the name of a header behind it, such as {header:Content-Type} (RFC 9110 5.6.2)")
    normal = normal_name(name)
    if (normal in NOT_INJECTED and normal not in _SIGNABLE) or normal.startswith(("proxy-", "sidekey-")):
        raise ValueError(f"the header {name} cannot be signed: it ends at the next hop, or belongs to Sidekey")


def _listed(names: Collection[str]) -> str:
    *rest, last = (f"{{{name}}}" for name in names)
    return f"{', '.join(rest)} or {last}" if rest else last


def _field(name: str) -> str:
    return normal_name(name.removeprefix(HEADER))


def compile_text(template: Template, *, before: str = "") -> Value:
    """Compile a template without `body` to a function that fills it, with a text before it."""
    first, *texts = (text.encode() for text in template.texts)
    first = before.encode() + first
    values = [_value(name) for _, name in template.values]
    if not values:
        return lambda _: first
    if len(values) == 1:
        (value,), (end,) = values, texts
        return (lambda context: first + value(context) + end) if end else lambda context: first + value(context)
    if len(values) == 2:
        (value, second), (between, last) = values, texts
        return lambda context: first + value(context) + between + second(context) + last

    def fill(context: TemplateValues) -> bytes:
        parts = [first]
        for value, text in zip(values, texts, strict=True):
            parts += value(context), text
        return b"".join(parts)

    return fill


def _value(name: str) -> Value:
    if name.startswith(HEADER):
        normal = _field(name).encode()
        return lambda context: context.request.values(normal)[0]
    return GENERATED.get(name) or FROM_REQUEST.get(name) or RESULTS[name]


def compile_pieces(template: Template) -> Callable[[TemplateValues], list[bytes]]:
    """Compile a template that may contain `body` to a function that fills it, and keeps the body in pieces."""
    texts_between: list[Template] = []
    values: list[tuple[str, str]] = []
    for text, name in template.values:
        if name == BODY:
            texts_between.append(Template(tuple(values), text))
            values = []
        else:
            values.append((text, name))
    texts_between.append(Template(tuple(values), template.end))
    first, *following = (compile_text(run) if run.values or run.end else None for run in texts_between)
    if first is not None and following == [None]:
        return lambda context: [first(context), *context.body]

    def fill(context: TemplateValues) -> list[bytes]:
        pieces = [] if first is None else [first(context)]
        for text in following:
            pieces += context.body
            if text is not None:
                pieces.append(text(context))
        return pieces

    return fill
