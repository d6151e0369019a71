"""Templates of what is signed and of the fields that carry it: a text with the names of values in braces.

A template is compiled once. Filling it puts each value in its place, as it is: what a value holds is not read again.
"""

from __future__ import annotations

import hashlib
import re
from binascii import hexlify
from collections.abc import Callable, Collection, Sequence
from email.utils import formatdate
from operator import attrgetter
from typing import Final, NamedTuple

from sidekey.credentials.fields import NOT_INJECTED, TOKEN, normal_name
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.credentials.signing import OutgoingRequest, RandomIds

REDACTED: Final = b"[redacted]"
HIDDEN: Final[Sequence[bytes]] = (REDACTED,)
"""What stands for the pieces of a body that is not to be shown."""

BODY: Final = "body"
BODY_SHA256: Final = "body_sha256"
HEADER: Final = "header:"

_SIGNED = frozenset({"host", "content-length"})
"""What no integration may write, and yet reaches the receiver."""

_BRACES = re.compile(r"\{([^{}]*)\}|[{}]")


class TemplateValues(SecretHolder):
    """What a template is filled with. `body` is `HIDDEN` where it is not to be shown.

    `signature` and `signatures` are the first one, and all of them as they stand among several.
    """

    __slots__ = ("body", "message_id", "now", "request", "signature", "signatures", "timestamp", "unique")

    def __init__(
        self, request: OutgoingRequest, body: Sequence[bytes] | None, now: float, unique: RandomIds, message_id: bytes
    ) -> None:
        self.request = request
        self.body = HIDDEN if body is None else body
        self.now = now
        # Most schemes sign it and send it.
        self.timestamp = b"%d" % now
        self.unique = unique
        self.message_id = message_id
        self.signature = b""
        self.signatures = b""

    def __repr__(self) -> str:
        return "Facts(REDACTED)"

    def carry(self, signature: bytes, signatures: bytes) -> None:
        """Take note of what the signing has given."""
        self.signature = signature
        self.signatures = signatures


Value = Callable[[TemplateValues], bytes]


def _body_sha256(facts: TemplateValues) -> bytes:
    if facts.body is HIDDEN:
        return REDACTED
    digest = hashlib.sha256()
    for piece in facts.body:
        digest.update(piece)
    return digest.hexdigest().encode()


def _date(facts: TemplateValues) -> bytes:
    """RFC 9110 5.6.7."""
    return formatdate(int(facts.now), usegmt=True).encode()


SENT: Final[dict[str, Value]] = {
    "id": attrgetter("message_id"),
    "timestamp": attrgetter("timestamp"),
    "timestamp_ms": lambda facts: b"%d" % (facts.now * 1000),
    "date": _date,
    "nonce": lambda facts: hexlify(facts.unique.nonce),
}
"""What is Sidekey's own, and so must be in a field: nobody else knows it."""

CARRIED: Final[dict[str, Value]] = {"signature": attrgetter("signature"), "signatures": attrgetter("signatures")}
"""What the signing gives."""

KNOWN: Final[dict[str, Value]] = {
    "method": lambda facts: facts.request.method,
    "scheme": lambda facts: facts.request.scheme,
    "host": lambda facts: facts.request.authority,
    "path": lambda facts: facts.request.target.partition(b"?")[0],
    "query": lambda facts: facts.request.target.partition(b"?")[2],
    "target": lambda facts: facts.request.target,
    "url": lambda facts: b"%b://%b%b" % (facts.request.scheme, facts.request.authority, facts.request.target),
    BODY_SHA256: _body_sha256,
}
"""What whoever receives the request has as well. The body is put there in its pieces."""


class Template(NamedTuple):
    """A template that was read: each value's name with the text before it, and the text behind the last."""

    values: tuple[tuple[str, str], ...]
    end: str

    @property
    def names(self) -> frozenset[str]:
        """The names of its values."""
        return frozenset(name for _, name in self.values)

    @property
    def texts(self) -> tuple[str, ...]:
        """What stands between its values, before them and behind."""
        return (*(text for text, _ in self.values), self.end)

    @property
    def fields(self) -> frozenset[str]:
        """The normalised names of the fields whose values it takes."""
        return frozenset(_field(name) for name in self.names if name.startswith(HEADER))


def read(text: str, names: Collection[str], *, fields: bool = False) -> Template:
    """Read a template that may have these values, and those of fields if `fields`. Raises ValueError."""
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
    """Raise ValueError for the name of a field that cannot be signed, since it is not what the receiver gets."""
    if not TOKEN.fullmatch(name):
        raise ValueError("header: needs the name of a header behind it, such as {header:Content-Type} (RFC 9110 5.6.2)")
    normal = normal_name(name)
    if (normal in NOT_INJECTED and normal not in _SIGNED) or normal.startswith(("proxy-", "sidekey-")):
        raise ValueError(f"the header {name} cannot be signed: it ends at the next hop, or belongs to Sidekey")


def _listed(names: Collection[str]) -> str:
    *rest, last = (f"{{{name}}}" for name in names)
    return f"{', '.join(rest)} or {last}" if rest else last


def _field(name: str) -> str:
    return normal_name(name.removeprefix(HEADER))


def filler(template: Template, *, before: str = "") -> Value:
    """What fills a template at one go, with a text before it."""
    first, *texts = (text.encode() for text in template.texts)
    first = before.encode() + first
    values = [_value(name) for _, name in template.values]
    if not values:
        return lambda _: first
    if len(values) == 1:
        (value,), (end,) = values, texts
        return (lambda facts: first + value(facts) + end) if end else lambda facts: first + value(facts)
    if len(values) == 2:
        (one, two), (between, last) = values, texts
        return lambda facts: first + one(facts) + between + two(facts) + last

    def fill(facts: TemplateValues) -> bytes:
        parts = [first]
        for value, text in zip(values, texts, strict=True):
            parts += value(facts), text
        return b"".join(parts)

    return fill


def _value(name: str) -> Value:
    if name.startswith(HEADER):
        normal = _field(name).encode()
        return lambda facts: facts.request.values(normal)[0]
    return SENT.get(name) or KNOWN.get(name) or CARRIED[name]


def in_pieces(template: Template) -> Callable[[TemplateValues], list[bytes]]:
    """What fills a template that may contain the body, which stays in its pieces."""
    runs: list[Template] = []
    values: list[tuple[str, str]] = []
    for text, name in template.values:
        if name == BODY:
            runs.append(Template(tuple(values), text))
            values = []
        else:
            values.append((text, name))
    runs.append(Template(tuple(values), template.end))
    first, *behind = (filler(run) if run.values or run.end else None for run in runs)
    if first is not None and behind == [None]:
        return lambda facts: [first(facts), *facts.body]

    def fill(facts: TemplateValues) -> list[bytes]:
        pieces = [] if first is None else [first(facts)]
        for text in behind:
            pieces += facts.body
            if text is not None:
                pieces.append(text(facts))
        return pieces

    return fill
