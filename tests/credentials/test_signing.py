"""Chained signers, and the request that they see."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sidekey.credentials.base import Grant
from sidekey.credentials.signing import (
    ChainedSigner,
    ChainedSigningRules,
    OutgoingRequest,
    RandomIds,
    Signer,
    SigningRules,
)
from sidekey.errors import Problem
from sidekey.policy.messages import RequestHead
from sidekey.policy.targets import Policy
from sidekey.policy.urls import Origin

UNIQUE = RandomIds(b"m" * 16, b"n" * 16)


class Stamp(Signer):
    """Writes one line that names how many it has seen, and how long the body is."""

    def __init__(self, name: bytes, problem: Problem | None = None) -> None:
        self.name = name
        self.problem = problem

    def check(self, request: OutgoingRequest) -> Problem | None:
        return self.problem

    def names(self, request: OutgoingRequest) -> list[bytes]:
        return [self.name]

    def sign(self, request: OutgoingRequest, body: Sequence[bytes], now: float, random_ids: RandomIds) -> list[bytes]:
        return [b"\r\n%b: %d/%d" % (self.name, len(request.lines), sum(map(len, body)))]

    def explain(
        self, request: OutgoingRequest, body: Sequence[bytes] | None, now: float, random_ids: RandomIds
    ) -> list[bytes]:
        return [b"".join(request.lines) + b"|" + (b"[redacted]" if body is None else b"".join(body))]


def outgoing(*lines: bytes) -> OutgoingRequest:
    return OutgoingRequest(b"POST", b"https", b"api.example.com", b"/v1", lines)


def test_values_normalise_field_names() -> None:
    request = outgoing(b"\r\nHost: api.example.com", b"\r\nX_Sent:  one ", b"\r\nx-sent:two\t")
    assert request.values(b"x-sent") == [b"one", b"two"]
    assert request.values(b"x-other") == []


@pytest.mark.parametrize(
    ("grant_signs", "supplement_signs"), [(True, False), (False, True), (True, True), (False, False)]
)
def test_signer_of_a_supplement_signs_last(grant_signs: bool, supplement_signs: bool) -> None:
    """It sees the header that the signer of the grant adds."""
    first, second = Stamp(b"One"), Stamp(b"Two")
    grant = Grant(signer=first if grant_signs else None)
    grant = grant.supplemented(Grant(signer=second if supplement_signs else None))
    lines = [] if grant.signer is None else grant.signer.sign(outgoing(b"\r\nHost: h"), [b"ab", b"c"], 0.0, UNIQUE)
    expected = [b"\r\nOne: 1/3"] if grant_signs else []
    expected += [b"\r\nTwo: %d/3" % (2 if grant_signs else 1)] if supplement_signs else []
    assert lines == expected


def test_explained_text_of_the_second_signer_redacts_the_first() -> None:
    signer = ChainedSigner(Stamp(b"One"), Stamp(b"Two"))
    assert signer.explain(outgoing(b"\r\nHost: h"), None, 0.0, UNIQUE) == [
        b"\r\nHost: h|[redacted]",
        b"\r\nHost: h\r\nOne: [redacted]|[redacted]",
    ]


def test_check_returns_the_first_problem() -> None:
    first, second = Problem("request_invalid", "one"), Problem("request_invalid", "two")
    assert ChainedSigner(Stamp(b"One", first), Stamp(b"Two", second)).check(outgoing()) is first
    assert ChainedSigner(Stamp(b"One"), Stamp(b"Two", second)).check(outgoing()) is second
    assert ChainedSigner(Stamp(b"One"), Stamp(b"Two")).check(outgoing()) is None


def test_check_of_the_second_signer_sees_the_names_of_the_first() -> None:
    """It may sign a field that the first signer writes."""

    class Needy(Stamp):
        """Signs the field One."""

        def check(self, request: OutgoingRequest) -> Problem | None:
            return None if len(request.values(b"one")) == 1 else Problem("request_invalid", "One must be sent")

    both = ChainedSigner(Stamp(b"One"), Needy(b"Two"))
    assert both.check(outgoing()) is None
    assert both.names(outgoing()) == [b"One", b"Two"]
    assert ChainedSigner(both, Needy(b"Three")).check(outgoing()) is None
    assert ChainedSigner(Stamp(b"Other"), Needy(b"Two")).check(outgoing()) is not None


def test_caller_values_need_the_callers_head() -> None:
    """Without a head, as in an explanation, the lines are searched."""
    lines = [b"\r\nX-Id: one", b"\r\nx_id: two"]
    for names, there, values in (
        ([b"x-other"], lines, []),
        ([b"x-id"], lines, [b"one", b"two"]),
        ([b"x-id"], [], []),
    ):
        head = RequestHead(b"POST", b"/", b"h", there, names)
        assert list(OutgoingRequest(b"POST", b"https", b"h", b"/", there, head).caller_values(b"x-id")) == values
    assert list(OutgoingRequest(b"POST", b"https", b"h", b"/", lines).caller_values(b"x-id")) == [b"one", b"two"]


def test_one_slow_signer_makes_both_slow() -> None:
    slow = Stamp(b"One")
    slow.slow = True
    assert ChainedSigner(slow, Stamp(b"Two")).slow
    assert ChainedSigner(Stamp(b"One"), slow).slow
    assert not ChainedSigner(Stamp(b"One"), Stamp(b"Two")).slow


def test_chain_uses_random_ids_if_either_signer_does() -> None:
    still = Stamp(b"One")
    still.uses_random_ids = False
    assert ChainedSigner(still, Stamp(b"Two")).uses_random_ids
    assert ChainedSigner(Stamp(b"Two"), still).uses_random_ids
    assert not ChainedSigner(still, still).uses_random_ids


def test_rules_are_equal_by_value() -> None:
    """A rebuilt integration then counts as unchanged."""
    names = frozenset({b"x-one"})
    first, same, second = (
        SigningRules(names, body=True),
        SigningRules(names, body=True),
        SigningRules(names, body=False),
    )
    assert first == same
    assert hash(first) == hash(same)
    assert first != second
    assert first != names
    assert ChainedSigningRules(first, second) == ChainedSigningRules(same, second)
    assert ChainedSigningRules(first, second) != ChainedSigningRules(second, first)
    assert ChainedSigningRules(first, first) != first


def test_chained_rules_combine_those_of_both_signers() -> None:
    head = RequestHead(b"POST", b"/", b"h", [], [])
    first = SigningRules(frozenset({b"x-one"}), caller_fields=frozenset({b"x-id"}), body=False)
    second = SigningRules(frozenset({b"x-two"}), signed=frozenset({b"x-tenant"}), body=True)
    both = ChainedSigningRules(first, second)
    assert (both.names, both.caller_fields, both.signed) == ({b"x-one", b"x-two"}, {b"x-id"}, {b"x-tenant"})
    assert both.signs(b"x-tenant") and not both.signs(b"x-id")
    assert both.needs_body(head)
    assert not ChainedSigningRules(first, first).needs_body(head)
    assert [ChainedSigningRules(first, first).body, both.body, ChainedSigningRules(second, first).body] == [
        False,
        True,
        True,
    ]
    assert both.refusal(head, Origin("https", "api.example.com", 443), Policy()) is None
