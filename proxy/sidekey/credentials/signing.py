"""What signs a request: pure, by the bytes that are about to be written, the time and random bytes that it is given.

A signer is part of a grant (`credentials.base.Grant.signer`); what is known of it before any secret is read are its
rules (`credentials.base.Traits.signing`).
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
    r"""A request as it will be written, but for what its signers add.

    `target` is the request target with every injected parameter, `lines` are all field lines, each after its line end
    (`\r\nName: value`): Host first, what is injected, what the caller sent less what is stripped, then the framing.
    `received` is the head that it came of: what was stripped of it may say how the caller has framed the body.
    `_values` is what `values` has found: what is checked is signed as well.
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
        self._values: dict[bytes, list[bytes]] | None = None

    def values(self, name: bytes) -> list[bytes]:
        """The values of every field of this normalised name, in their order, without whitespace around them."""
        known = self._values
        if known is None:
            known = self._values = {}
        found = known.get(name)
        if found is None:
            found = known[name] = self._find(name)
        return found

    def _find(self, name: bytes) -> list[bytes]:
        found = []
        # Most lines are told by the place of their colon: there is no space before it.
        end = 2 + len(name)
        for line in self.lines:
            if len(line) > end and line[end] == _COLON and normalise(line[2:end]) == name:
                found.append(line[end + 1 :].strip(b" \t"))
        return found

    def sent(self, name: bytes) -> Sequence[bytes]:
        """The same of a name that nobody but the caller writes: where their head has none, no line is looked at."""
        received = self.received
        return () if received is not None and name not in received.names else self.values(name)

    def and_lines(self, lines: Sequence[bytes]) -> OutgoingRequest:
        """The same request with these lines behind its own."""
        lines = (*self.lines, *lines)
        return OutgoingRequest(self.method, self.scheme, self.authority, self.target, lines, self.received)


class RandomIds:
    """Random bytes, 16 each: `message` stays the same however often a request is sent, `nonce` never does."""

    __slots__ = ("message", "nonce")

    def __init__(self, message: bytes, nonce: bytes) -> None:
        self.message: Final = message
        self.nonce: Final = nonce


UNDRAWN: Final = RandomIds(b"", b"")
"""For signers into whose signatures nothing random goes."""


class Signer(ABC):
    """Signs requests with the keys that it holds. It does no I/O, reads no clock and draws nothing at random.

    `slow` says that one signature costs so much that it is made in a thread (RSA), `draws` that random bytes may go
    into it: else those that it is given are empty.
    """

    slow = False
    draws = True

    def check(self, request: OutgoingRequest) -> Problem | None:
        """Why this request cannot be signed: asked once its grant is known, before a connection is asked for."""
        del request
        return None

    @abstractmethod
    def names(self, request: OutgoingRequest) -> list[bytes]:
        """The names of the fields that `sign` adds to this request."""

    @abstractmethod
    def sign(self, request: OutgoingRequest, body: Sequence[bytes], now: float, unique: RandomIds) -> list[bytes]:
        """The field lines to add, each after its line end; `now` is in seconds since the epoch.

        `body` are the pieces of the whole body, never joined, and empty where the rules do not need it.
        """

    @abstractmethod
    def explain(
        self, request: OutgoingRequest, body: Sequence[bytes] | None, now: float, unique: RandomIds
    ) -> list[bytes]:
        """The bytes that `sign` signs, one text for each signature; never a key or a signature.

        In `request` every secret that is injected has been replaced by `[redacted]`. `body` is None where it contains
        one: the text then has `[redacted]` for it, and for each digest over it.
        """


class SigningRules:
    """What is known of a signer before its keys are read.

    `names` are the normalised names that it writes: they are stripped from callers, and no one else may inject them.
    `kept` are those that it writes only where the caller sends none. `signed` are those whose value it signs, so that
    nobody else may write them. `body` says whether it may need the whole body.
    """

    def __init__(
        self,
        names: frozenset[bytes],
        *,
        kept: frozenset[bytes] = frozenset(),
        signed: frozenset[bytes] = frozenset(),
        body: bool,
    ) -> None:
        self.names: Final = names
        self.kept: Final = kept
        self.signed: Final = signed
        self.body: Final = body

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SigningRules) and self._compared() == other._compared()

    def __hash__(self) -> int:
        return hash(self._compared())

    def _compared(self) -> tuple[object, ...]:
        """All that two rules differ by."""
        return (type(self), self.names, self.kept, self.signed, self.body)

    def signs(self, name: bytes) -> bool:
        """Whether it signs the fields of this normalised name: one of `signed`, or more than can be listed."""
        return name in self.signed

    def needs_body(self, head: RequestHead) -> bool:
        """Whether a request with this head is signed with its body, which is then held until it is whole."""
        del head
        return self.body

    def refusal(self, head: RequestHead, origin: Origin, policy: Policy) -> Problem | None:
        """Why a request with this head is refused, whatever its grant: asked once its target is admitted.

        That is at `origin`; what else the request names is judged by `policy` as its target was.
        """
        del head, origin, policy
        return None


class ChainedSigner(Signer):
    """Two signers, one after the other: the second signs what the first has written as well."""

    def __init__(self, first: Signer, second: Signer) -> None:
        self._first: Final = first
        self._second: Final = second
        self.slow = first.slow or second.slow
        self.draws = first.draws or second.draws

    def check(self, request: OutgoingRequest) -> Problem | None:
        """The first reason of the two; to the second, the fields of the first are there."""
        lines = [b"\r\n%b: -" % name for name in self._first.names(request)]
        return self._first.check(request) or self._second.check(request.and_lines(lines))

    def names(self, request: OutgoingRequest) -> list[bytes]:
        """Those of both."""
        return self._first.names(request) + self._second.names(request)

    def sign(self, request: OutgoingRequest, body: Sequence[bytes], now: float, unique: RandomIds) -> list[bytes]:
        """The lines of both."""
        lines = self._first.sign(request, body, now, unique)
        return lines + self._second.sign(request.and_lines(lines), body, now, unique)

    def explain(
        self, request: OutgoingRequest, body: Sequence[bytes] | None, now: float, unique: RandomIds
    ) -> list[bytes]:
        """The texts of both; to the second, what the first has written is `[redacted]`."""
        texts = self._first.explain(request, body, now, unique)
        signed = self._first.sign(request, body or (), now, unique)
        lines = [line[: line.index(b":")] + b": [redacted]" for line in signed]
        return texts + self._second.explain(request.and_lines(lines), body, now, unique)


class ChainedSigningRules(SigningRules):
    """The rules of two signers, one after the other."""

    def __init__(self, first: SigningRules, second: SigningRules) -> None:
        super().__init__(
            first.names | second.names,
            kept=first.kept | second.kept,
            signed=first.signed | second.signed,
            body=first.body or second.body,
        )
        self._first: Final = first
        self._second: Final = second

    def _compared(self) -> tuple[object, ...]:
        return (self._first, self._second)

    def signs(self, name: bytes) -> bool:
        """Where one of them does."""
        return self._first.signs(name) or self._second.signs(name)

    def needs_body(self, head: RequestHead) -> bool:
        """Where one of them does."""
        return self._first.needs_body(head) or self._second.needs_body(head)

    def refusal(self, head: RequestHead, origin: Origin, policy: Policy) -> Problem | None:
        """The first reason of the two."""
        return self._first.refusal(head, origin, policy) or self._second.refusal(head, origin, policy)
