"""Templates of the text to sign and of the headers with the signature: text with the names of values in braces.

Sidekey compiles a template once. Braces inside a value have no meaning.
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
REDACTED_BODY: Final[Sequence[bytes]] = (REDACTED,)
"""Replaces the pieces of a body that contains a secret."""

BODY: Final = "body"
BODY_SHA256: Final = "body_sha256"
HEADER: Final = "header:"

_SIGNABLE = frozenset({"host", "content-length"})
"""Fields that no integration may inject, but that reach the receiver unchanged."""

_BRACES = re.compile(r"\{([^{}]*)\}|[{}]")


class TemplateValues(SecretHolder):
    """The values of one request. `body` is `REDACTED_BODY` if it contains a secret.

    `signature` is the first signature. `signatures` is the text of all signatures, formatted and joined.
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
        self.body = REDACTED_BODY if body is None else body
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


def _body_sha256(values: TemplateValues) -> bytes:
    if values.body is REDACTED_BODY:
        return REDACTED
    digest = hashlib.sha256()
    for piece in values.body:
        digest.update(piece)
    return digest.hexdigest().encode()


def _date(values: TemplateValues) -> bytes:
    """Format the time as in the Date field (RFC 9110 5.6.7)."""
    return formatdate(int(values.now), usegmt=True).encode()


GENERATED: Final[dict[str, Value]] = {
    "id": attrgetter("message_id"),
    "timestamp": attrgetter("timestamp"),
    "timestamp_ms": lambda values: b"%d" % (values.now * 1000),
    "date": _date,
    "nonce": lambda values: hexlify(values.random_ids.nonce),
}
"""Values that Sidekey generates. Receivers know them only from a field."""

RESULTS: Final[dict[str, Value]] = {"signature": attrgetter("signature"), "signatures": attrgetter("signatures")}
"""Values that signing produces."""

FROM_REQUEST: Final[dict[str, Value]] = {
    "method": lambda values: values.request.method,
    "scheme": lambda values: values.request.scheme,
    "host": lambda values: values.request.authority,
    "path": lambda values: values.request.target.partition(b"?")[0],
    "query": lambda values: values.request.target.partition(b"?")[2],
    "target": lambda values: values.request.target,
    "url": lambda values: b"%b://%b%b" % (values.request.scheme, values.request.authority, values.request.target),
    BODY_SHA256: _body_sha256,
}
"""Values that receivers know from the request. `compile_pieces` inserts `body`, which is not here."""


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
        return frozenset(_header_name(name) for name in self.names if name.startswith(HEADER))


def parse_template(text: str, names: Collection[str], *, fields: bool = False) -> Template:
    """Parse a template that may contain these names, and with `fields` also headers. Raises ValueError."""
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
            raise ValueError(f"{match[0]} is no value here: use {_join_names(known)}")
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


def _join_names(names: Collection[str]) -> str:
    *rest, last = (f"{{{name}}}" for name in names)
    return f"{', '.join(rest)} or {last}" if rest else last


def _header_name(name: str) -> str:
    return normal_name(name.removeprefix(HEADER))


def compile_text(template: Template, *, before: str = "") -> Value:
    """Compile a template without `body` to a function that fills it, with a text before it."""
    first, *texts = (text.encode() for text in template.texts)
    first = before.encode() + first
    functions = [_value_function(name) for _, name in template.values]
    if not functions:
        return lambda _: first
    if len(functions) == 1:
        (value,), (end,) = functions, texts
        return (lambda values: first + value(values) + end) if end else lambda values: first + value(values)
    if len(functions) == 2:
        (value, second), (between, last) = functions, texts
        return lambda values: first + value(values) + between + second(values) + last

    def fill(values: TemplateValues) -> bytes:
        parts = [first]
        for value, text in zip(functions, texts, strict=True):
            parts += value(values), text
        return b"".join(parts)

    return fill


def _value_function(name: str) -> Value:
    if name.startswith(HEADER):
        normal = _header_name(name).encode()
        return lambda values: values.request.values(normal)[0]
    return GENERATED.get(name) or FROM_REQUEST.get(name) or RESULTS[name]


def compile_pieces(template: Template) -> Callable[[TemplateValues], list[bytes]]:
    """Compile a template that may contain `body` to a function that fills it, and keeps the body in pieces."""
    texts_between: list[Template] = []
    pairs: list[tuple[str, str]] = []
    for text, name in template.values:
        if name == BODY:
            texts_between.append(Template(tuple(pairs), text))
            pairs = []
        else:
            pairs.append((text, name))
    texts_between.append(Template(tuple(pairs), template.end))
    first, *following = (compile_text(run) if run.values or run.end else None for run in texts_between)
    if first is not None and following == [None]:
        return lambda values: [first(values), *values.body]

    def fill(values: TemplateValues) -> list[bytes]:
        pieces = [] if first is None else [first(values)]
        for text in following:
            pieces += values.body
            if text is not None:
                pieces.append(text(values))
        return pieces

    return fill
