"""The local CAs: the CA that signs for a host, and the steps of a rotation."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from sidekey.ca.authorities import MAX_AUTHORITIES, Authorities, CaRules, LocalAuthority, RotationError
from sidekey.ca.certificates import create_authority
from sidekey.ca.scope import Scope
from support.local_cas import DAY, NOW, authority_of, rules_in, scope_of

A, B, C = "https://a.test", "https://b.test", "https://c.test"


def make(scope: Scope, generation: int) -> LocalAuthority:
    return create_authority(scope, generation, NOW)


def never(*_: object) -> LocalAuthority:
    raise AssertionError("no CA was to be made")


def authorities_for(*urls: str) -> Authorities:
    return Authorities().ensure(scope_of(*urls), NOW, make)


def test_one_ca_covers_all_hosts() -> None:
    authorities = authorities_for(A, B)
    assert len(authorities.members) == 1
    assert authorities.ensure(scope_of(B), NOW, never) is authorities
    signer = authorities.find_signer("a.test", NOW)
    assert signer is authorities.members[0]
    assert authorities.find_signer("c.test", NOW) is None


def test_empty_scope_gets_a_ca() -> None:
    """Callers can trust the CA from the start. It permits no host."""
    authorities = Authorities().ensure(Scope(), NOW, make)
    assert len(authorities.members) == 1
    assert authorities.find_signer("a.test", NOW) is None
    assert authorities.ensure(Scope(), NOW, never) is authorities


def test_new_host_gets_a_ca_and_other_hosts_keep_theirs() -> None:
    """Callers that have not restarted still trust the CA of the other hosts."""
    before = authorities_for(A, B)
    after = before.ensure(scope_of(A, B, C), NOW, make)
    assert after.members[0] is before.members[0]
    assert len(after.members) == 2
    assert after.members[1].permits("c.test")
    assert not after.members[1].permits("a.test")
    assert after.find_signer("a.test", NOW) is before.members[0]
    assert after.find_signer("c.test", NOW) is after.members[1]


def test_expired_ca_does_not_sign_and_is_replaced() -> None:
    before = authorities_for(A)
    end = before.members[0].not_after
    assert before.find_signer("a.test", end - 1) is not None
    assert before.find_signer("a.test", end) is None
    after = before.ensure(scope_of(A), end, lambda scope, generation: create_authority(scope, generation, end))
    assert len(after.members) == 1
    assert after.members[0] is not before.members[0]


def test_number_of_cas_is_limited() -> None:
    """A rotation replaces all CAs by one."""
    authorities = authorities_for("https://h0.test")
    for number in range(1, MAX_AUTHORITIES):
        authorities = authorities.ensure(scope_of(f"https://h{number}.test"), NOW, make)
    with pytest.raises(RotationError, match="sidekey ca rotate"):
        authorities.ensure(scope_of(A), NOW, make)
    assert authorities.expires_at == authorities.members[0].not_after


def test_rotation_takes_three_steps() -> None:
    """Callers trust the next CA before it signs, and the old one until it is retired."""
    before = authorities_for(A, B).ensure(scope_of(A, B, C), NOW, make)
    scope = scope_of(A, C)
    added = before.add_next(scope, make)
    assert added.signers == before.members
    assert added.members[2].permits("a.test")
    assert added.members[2].permits("c.test")
    assert not added.members[2].permits("b.test")
    active = added.activate()
    assert active.members == added.members
    assert active.find_signer("a.test", NOW) is added.members[2]
    retired = active.retire()
    assert retired.members == (added.members[2],)
    assert retired.find_signer("c.test", NOW) is added.members[2]


def test_new_host_during_a_rotation_is_covered_by_both_generations() -> None:
    during = authorities_for(A).add_next(scope_of(A), make).ensure(scope_of(A, B), NOW, make)
    assert len(during.members) == 4
    for authorities in (during, during.activate(), during.activate().retire()):
        signer = authorities.find_signer("b.test", NOW)
        assert signer is not None
        assert signer.generation == authorities.signing


def test_json_round_trip() -> None:
    """The JSON has the constraints, so that reading it needs no parser of certificates."""
    authorities = authorities_for(A, "https://10.0.0.1", "https://[fd00::2]").add_next(
        scope_of("https://*.b.test"), make
    )
    parsed = Authorities.from_json(authorities.to_json())
    assert parsed == authorities
    assert parsed.members[0].bounds == authorities.members[0].bounds


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"signing": 1, "authorities": [{}]}', '{"signing": 1e999}', "nonsense", "[" * 9999]
)
def test_invalid_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not what Sidekey has written"):
        Authorities.from_json(text)


def test_cas_are_redacted_and_not_pickled() -> None:
    authorities = authorities_for(A)
    key = authorities.members[0].key
    assert "PRIVATE KEY" in key
    for value in (authorities, authorities.members[0]):
        assert "PRIVATE" not in repr(value)
        assert "BEGIN" not in repr(value)
        with pytest.raises(TypeError, match="holds secrets"):
            pickle.dumps(value)
    assert json.loads(authorities.to_json())["authorities"][0]["key"] == key


def test_expiry_is_that_of_the_first_signing_ca() -> None:
    first = authority_of(A, now=NOW)
    authorities = Authorities(
        1, (first, authority_of(B, now=NOW - 9 * DAY), authority_of(A, generation=0, now=NOW - 99 * DAY))
    )
    assert authorities.expires_at == first.not_after - 9 * DAY
    assert Authorities().expires_at is None


def test_rules_show_no_key() -> None:
    operator_ca = authority_of("https://a.test")
    assert "BEGIN" not in repr(CaRules(uses_operator_ca=True, operator_ca=operator_ca, extra_roots=operator_ca.trusted))


def test_equal_configs_have_equal_rules(tmp_path: Path) -> None:
    """With equal rules, a reload does not change the CA."""
    urls = ("https://a.test", "https://10.0.0.1")
    assert rules_in(tmp_path, *urls) == rules_in(tmp_path, *reversed(urls))
    assert rules_in(tmp_path, *urls) != rules_in(tmp_path, urls[0])
