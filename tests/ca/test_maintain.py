"""Create, rotate and publish the CAs in their folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sidekey.ca.authorities import CaRules, RotationError
from sidekey.ca.maintain import ensure_authorities, rotate, trusted_pem
from sidekey.ca.storage import read, state_file
from support.local_cas import NOW, authority_of, rules_in, scope_of

A, B = "https://a.test", "https://b.test"


def test_first_call_creates_the_ca_and_the_next_reads_it(tmp_path: Path) -> None:
    first = ensure_authorities(rules_in(tmp_path, A), NOW)
    assert (first.first, len(first.created), first.problem, first.trust_problem) == (True, 1, "", "")
    second = ensure_authorities(rules_in(tmp_path, A), NOW)
    assert (second.first, second.created, second.authorities) == (False, (), first.authorities)
    assert (tmp_path / "trust" / "ca.pem").read_text() == first.created[0].certificate


def test_missing_file_of_the_trust_folder_is_written_again(tmp_path: Path) -> None:
    first = ensure_authorities(rules_in(tmp_path, A), NOW)
    bundle = tmp_path / "trust" / "bundle.pem"
    original = bundle.read_bytes()
    bundle.unlink()
    second = ensure_authorities(rules_in(tmp_path, A), NOW)
    assert (second.created, second.authorities) == ((), first.authorities)
    assert bundle.read_bytes() == original


def test_new_host_adds_a_ca_to_the_trust_folder(tmp_path: Path) -> None:
    first = ensure_authorities(rules_in(tmp_path, A), NOW)
    more = ensure_authorities(rules_in(tmp_path, A, B), NOW)
    assert (more.first, len(more.created)) == (False, 1)
    assert more.authorities.members == (*first.created, *more.created)
    assert (tmp_path / "trust" / "ca.pem").read_text() == trusted_pem(more.authorities)


def test_stored_ca_stays_in_use_if_its_folder_is_read_only(tmp_path: Path) -> None:
    """Other hosts have no CA."""
    first = ensure_authorities(rules_in(tmp_path, A), NOW)
    state_file(tmp_path).with_name("lock").unlink()
    state_file(tmp_path).with_name("lock").mkdir()
    result = ensure_authorities(rules_in(tmp_path, A, B), NOW)
    assert "cannot be written" in result.problem
    assert result.authorities == first.authorities
    assert ensure_authorities(rules_in(tmp_path, A), NOW).problem == ""


def test_missing_ca_has_a_reason_and_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for rules, reason in (
        (rules_in(tmp_path / "file", A), "Not a directory; set ca.folder"),
        (CaRules(scope=scope_of(A)), "set ca.folder: neither $STATE_DIRECTORY"),
        (CaRules(uses_operator_ca=True), "ca.certificate and ca.private_key cannot be used: run sidekey check"),
    ):
        result = ensure_authorities(rules, NOW)
        assert reason in result.problem
        assert result.authorities.members == ()


def test_ca_signs_although_the_trust_folder_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = ensure_authorities(replace(rules_in(tmp_path, A), trust_folder=tmp_path / "file"), NOW)
    assert len(result.authorities.members) == 1
    assert "set ca.trust_folder" in result.trust_problem
    second = ensure_authorities(replace(rules_in(tmp_path, A), trust_folder=None), NOW)
    assert "set ca.trust_folder" in second.trust_problem


def test_operator_ca_is_published_and_not_stored(tmp_path: Path) -> None:
    operator_ca = authority_of(A, generation=0)
    result = ensure_authorities(replace(rules_in(tmp_path, A), uses_operator_ca=True, operator_ca=operator_ca), NOW)
    assert result.authorities.find_signer("a.test", NOW) is operator_ca
    assert (tmp_path / "trust" / "ca.pem").read_text() == operator_ca.trusted
    assert read(tmp_path) is None


def test_each_rotation_step_is_stored_and_published(tmp_path: Path) -> None:
    rules = rules_in(tmp_path, A)
    (old,) = ensure_authorities(rules, NOW).created
    ca_file = tmp_path / "trust" / "ca.pem"
    added = rotate(rules, NOW, "next").authorities
    new = added.members[1]
    assert ca_file.read_text() == old.trusted + new.trusted
    assert ensure_authorities(rules, NOW).authorities.find_signer("a.test", NOW) == old
    rotate(rules, NOW, "activate")
    assert ensure_authorities(rules, NOW).authorities.find_signer("a.test", NOW) == new
    rotate(rules, NOW, "retire")
    assert ca_file.read_text() == new.trusted
    assert read(tmp_path) == ensure_authorities(rules, NOW).authorities
    with pytest.raises(RotationError, match="there is no old CA"):
        rotate(rules, NOW, "retire")


def test_operator_ca_is_not_rotated(tmp_path: Path) -> None:
    with pytest.raises(RotationError, match="replace its files, which Sidekey watches"):
        rotate(replace(rules_in(tmp_path, A), uses_operator_ca=True), NOW, "next")
    with pytest.raises(RotationError, match=r"set ca\.folder"):
        rotate(CaRules(), NOW, "next")
