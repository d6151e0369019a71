"""`forward.unmatched`: rules for targets that no integration covers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sidekey.config.build.snapshot import build_passthrough
from sidekey.config.load import load
from sidekey.credentials.base import FixedCredential, Grant
from sidekey.snapshot.snapshot import Snapshot, Trust
from support.plane import integration
from support.private_ca import Authority


def snapshot(folder: Path, text: str, **environ: str) -> Snapshot:
    """Load a config."""
    path = folder / "sidekey.yaml"
    path.write_text(f"version: 1\n{text}")
    loaded = load(path, environ)
    assert loaded.errors == []
    assert loaded.warnings == []
    assert loaded.snapshot is not None
    return loaded.snapshot


CRM = """
integrations:
  crm:
    endpoint_prefix: {env: BASE}
    auth: {type: headers, headers: {X-Key: {secret: {env: KEY}}}}
  sms:
    endpoint_prefix: https://sms.test/api
    auth: {type: headers, headers: {X-Key: {secret: {env: KEY}}}}
"""


@pytest.mark.parametrize("text", ["", "forward: {}\n", "forward: {unmatched: deny}\n"])
def test_passthrough_is_off_by_default(text: str, tmp_path: Path) -> None:
    assert snapshot(tmp_path, text + CRM, BASE="https://crm.test", KEY="k").passthrough is None


def test_coverage_has_the_hosts_of_every_integration(tmp_path: Path) -> None:
    """With referenced prefixes, and even if secrets are unreadable."""
    passing = snapshot(tmp_path, "forward: {unmatched: pass}\n" + CRM, BASE="https://crm.test").passthrough
    assert passing is not None
    assert (passing.coverage.hosts, passing.unresolved) == ({"crm.test", "sms.test"}, set())


def test_integration_with_an_unreadable_prefix_is_unresolved(tmp_path: Path) -> None:
    passing = snapshot(tmp_path, "forward: {unmatched: pass}\n" + CRM, KEY="k").passthrough
    assert passing is not None
    assert (passing.coverage.hosts, passing.unresolved) == ({"sms.test"}, {"crm"})


def test_passthrough_has_no_credential_and_the_network_s_trust(ca: Authority, tmp_path: Path) -> None:
    """It allows only the network's addresses."""
    text = f"forward: {{unmatched: pass}}\nnetwork: {{trusted_ca: {{file: {ca.bundle}}}}}\n{CRM}"
    passing = snapshot(tmp_path, text, BASE="https://crm.test", KEY="k").passthrough
    assert passing is not None
    nobody = passing.integration
    credential = nobody.secrets.credential
    assert isinstance(credential, FixedCredential)
    assert credential.grant == Grant()
    assert (nobody.egress.trust.path, nobody.egress.trust != Trust()) == (str(ca.bundle), True)
    assert (nobody.egress.allow_private, nobody.certificate, nobody.usable) == ((), None, True)


def test_stored_integrations_cover_only_ca_hosts() -> None:
    """An unusable one covers nothing."""
    in_file, stored_one, unusable = (integration(name, f"https://{name}.test") for name in ("own", "one", "torn"))
    stored = [replace(stored_one, stored=True), replace(unusable, stored=True, rebuild=lambda: unusable)]
    for hosts, covered in (
        (frozenset[str](), ["own.test"]),
        (frozenset({"one.test", "torn.test"}), ["own.test", "one.test"]),
    ):
        passing = build_passthrough({item.id: item for item in (in_file, *stored)}, Trust(), (443, 80), ca_hosts=hosts)
        assert [host for host in ("own.test", "one.test", "torn.test") if passing.coverage.covers(host)] == covered
        assert passing.unresolved == frozenset()
