"""The interface of signers. Pure: the request's bytes, the time and random bytes are arguments.

A signer is part of a grant (`credentials.base.Grant.signer`). Its rules are known before any secret is read
(`credentials.base.CredentialTraits.signing`). The exchange asks the rules when it admits a request, and signs it before
it is written. Kinds of signatures are in `signatures` and `aws`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

from sidekey.errors import Problem
from sidekey.policy.headers import normalise
from sidekey.policy.messages import RequestHead
from sidekey.policy.targets import Policy
from sidekey.policy.urls import Origin

_COLON: Final = ord(":")


class OutgoingRequest:
    r"""A request as it will be written, without the fields that its signers add.

    `target` is the request target with every injected parameter. `lines` are all field lines, each after a line end
    (`\r\nName: value`): Host, injected fields, the caller's fields that are not stripped, then the framing. `received`
    is the caller's head. It still has the stripped fields, which may describe the framing of the body, such as
    `x-amz-content-sha256`.
    """

    __slots__ = ("_values", "authority", "lines", "method", "received", "scheme", "target")

    def __init__(  # noqa: PLR0917 - built once per signed request, where keywords cost
        self,
        method: bytes,
        scheme: bytes,
        authority: bytes,
        target: bytes,
        lines: Sequence[bytes],
        received: RequestHead | None = None,
    ) -> None:
        self.method: Final = method
        self.scheme: Final = scheme
        self.authority: Final = authority
        self.target: Final = target
        self.lines: Final = lines
        self.received: Final = received
        # The results of `values`: `sign` reads again what `check` has read.
        self._values: dict[bytes, list[bytes]] | None = None

    def values(self, name: bytes) -> list[bytes]:
        """Return the trimmed values of every field with this normalised name, in their order."""
        cache = self._values
        if cache is None:
            cache = self._values = {}
        values = cache.get(name)
        if values is None:
            values = cache[name] = self._find(name)
        return values

    def _find(self, name: bytes) -> list[bytes]:
        values = []
        # There is no space before a colon, so its position rules out most lines.
        end = 2 + len(name)
        for line in self.lines:
            if len(line) > end and line[end] == _COLON and normalise(line[2:end]) == name:
                values.append(line[end + 1 :].strip(b" \t"))
        return values

    def caller_values(self, name: bytes) -> Sequence[bytes]:
        """Return `values` of a name that only callers send, and skip the search if the caller's head lacks it."""
        received = self.received
        return () if received is not None and name not in received.names else self.values(name)

    def with_lines(self, lines: Sequence[bytes]) -> OutgoingRequest:
        """Return the request with further lines at its end."""
        lines = (*self.lines, *lines)
        return OutgoingRequest(self.method, self.scheme, self.authority, self.target, lines, self.received)


class RandomIds:
    """Random bytes, 16 each: `message` stays the same when a request is sent again, `nonce` does not."""

    __slots__ = ("message", "nonce")

    def __init__(self, message: bytes, nonce: bytes) -> None:
        self.message: Final = message
        self.nonce: Final = nonce


NO_RANDOM_IDS: Final = RandomIds(b"", b"")
"""For signers that use no random bytes."""


class Signer(ABC):
    """Signs requests with its keys, without I/O, clock or random numbers.

    The worker runs a `slow` signer (RSA) in a thread. A signer without `uses_random_ids` receives `NO_RANDOM_IDS`.
    """

    slow = False
    uses_random_ids = True

    def check(self, request: OutgoingRequest) -> Problem | None:
        """Return a problem if this request cannot be signed. The exchange calls this before it takes a connection."""
        del request
        return None

    @abstractmethod
    def names(self, request: OutgoingRequest) -> list[bytes]:
        """Return the names of the fields that `sign` adds to this request."""

    @abstractmethod
    def sign(self, request: OutgoingRequest, body: Sequence[bytes], now: float, random_ids: RandomIds) -> list[bytes]:
        """Return the field lines to add, each after a line end; `now` is in seconds since the epoch.

        `body` are the pieces of the complete body, or empty if the rules do not need it.
        """

    @abstractmethod
    def explain(
        self, request: OutgoingRequest, body: Sequence[bytes] | None, now: float, random_ids: RandomIds
    ) -> list[bytes]:
        """Return the bytes that `sign` signs, one text for each signature; never a key or a signature.

        The caller has replaced injected secrets in `request` with `[redacted]`. `body` is None if it contains a secret:
        the text then has `[redacted]` for the body and for its digests.
        """


class SigningRules:
    """The properties of a signer that are known before its keys are read.

    `names` are the normalised names that it writes. Sidekey strips them from the caller's request, and nothing else may
    inject them. `caller_fields` are the names that it writes only if the caller does not. `signed` are the names that
    it signs, so nothing may write them after it. `body` is true if it may need the complete body (`needs_body`).
    """

    def __init__(
        self,
        names: frozenset[bytes],
        *,
        caller_fields: frozenset[bytes] = frozenset(),
        signed: frozenset[bytes] = frozenset(),
        body: bool,
    ) -> None:
        self.names: Final = names
        self.caller_fields: Final = caller_fields
        self.signed: Final = signed
        self.body: Final = body

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SigningRules) and self._comparison_key() == other._comparison_key()

    def __hash__(self) -> int:
        return hash(self._comparison_key())

    def _comparison_key(self) -> tuple[object, ...]:
        return (type(self), self.names, self.caller_fields, self.signed, self.body)

    def signs(self, name: bytes) -> bool:
        """Return True if it signs fields of this normalised name. Subclasses may sign more than `signed` lists."""
        return name in self.signed

    def needs_body(self, head: RequestHead) -> bool:
        """Return True if the signature of this request covers its body, which Sidekey then buffers completely."""
        del head
        return self.body

    def refusal(self, head: RequestHead, origin: Origin, policy: Policy) -> Problem | None:
        """Return a problem if the signer cannot sign a request with this head, whose target at `origin` is allowed.

        `policy` decides on further targets that the request names, such as the source of a copy.
        """
        del head, origin, policy
        return None


class ChainedSigner(Signer):
    """Two signers, one after the other: the second one also signs the fields of the first."""

    def __init__(self, first: Signer, second: Signer) -> None:
        self._first: Final = first
        self._second: Final = second
        self.slow = first.slow or second.slow
        self.uses_random_ids = first.uses_random_ids or second.uses_random_ids

    def check(self, request: OutgoingRequest) -> Problem | None:
        """Check both; the second one sees placeholder fields of the first."""
        lines = [b"\r\n%b: -" % name for name in self._first.names(request)]
        return self._first.check(request) or self._second.check(request.with_lines(lines))

    def names(self, request: OutgoingRequest) -> list[bytes]:
        """Return the names of both."""
        return self._first.names(request) + self._second.names(request)

    def sign(self, request: OutgoingRequest, body: Sequence[bytes], now: float, random_ids: RandomIds) -> list[bytes]:
        """Return the lines of both."""
        lines = self._first.sign(request, body, now, random_ids)
        return lines + self._second.sign(request.with_lines(lines), body, now, random_ids)

    def explain(
        self, request: OutgoingRequest, body: Sequence[bytes] | None, now: float, random_ids: RandomIds
    ) -> list[bytes]:
        """Return the texts of both; in the second one, the fields of the first are `[redacted]`."""
        texts = self._first.explain(request, body, now, random_ids)
        signed = self._first.sign(request, body or (), now, random_ids)
        lines = [line[: line.index(b":")] + b": [redacted]" for line in signed]
        return texts + self._second.explain(request.with_lines(lines), body, now, random_ids)


class ChainedSigningRules(SigningRules):
    """The rules of two signers, one after the other."""

    def __init__(self, first: SigningRules, second: SigningRules) -> None:
        super().__init__(
            first.names | second.names,
            caller_fields=first.caller_fields | second.caller_fields,
            signed=first.signed | second.signed,
            body=first.body or second.body,
        )
        self._first: Final = first
        self._second: Final = second

    def _comparison_key(self) -> tuple[object, ...]:
        return (self._first, self._second)

    def signs(self, name: bytes) -> bool:
        """Return True if either signs the name."""
        return self._first.signs(name) or self._second.signs(name)

    def needs_body(self, head: RequestHead) -> bool:
        """Return True if either needs the body."""
        return self._first.needs_body(head) or self._second.needs_body(head)

    def refusal(self, head: RequestHead, origin: Origin, policy: Policy) -> Problem | None:
        """Return the first problem, if any."""
        return self._first.refusal(head, origin, policy) or self._second.refusal(head, origin, policy)
