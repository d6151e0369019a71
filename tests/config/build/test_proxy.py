"""Load parent proxies: values that cannot be read, and changes of these values."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidekey.config.diff import compare_snapshots
from sidekey.config.load import Loader, load
from sidekey.credentials.basic import build_basic
from sidekey.snapshot.parent_proxy import ParentProxy
from sidekey.snapshot.snapshot import Snapshot
from support.files import replace
from support.loading import loaded_snapshot
from support.private_ca import Authority

PROXY = """\
{url: "https://proxy.example.com:3129", username: user, password: {file: password}, trusted_ca: {file: ca.pem}}
"""
INTEGRATION = """\
  a:
    endpoint_prefix: https://api.example.com
    auth: {type: headers, headers: {X-A: b}}
"""
PLACES = {
    "network.proxy": f"version: 1\nnetwork:\n  proxy: {PROXY}integrations:\n{INTEGRATION}",
    "integrations.a.proxy": f"version: 1\nintegrations:\n{INTEGRATION}    proxy: {PROXY}",
}


def proxy_of(snapshot: Snapshot) -> ParentProxy:
    proxy = snapshot.network.parent_for(snapshot.integrations["a"].egress)
    assert proxy is not None
    return proxy


def write(folder: Path, place: str, ca: Authority) -> Path:
    (folder / "password").write_text("first\n")
    (folder / "ca.pem").write_bytes(ca.bundle.read_bytes())
    path = folder / "sidekey.yaml"
    path.write_text(PLACES[place])
    return path


@pytest.mark.parametrize("place", PLACES)
def test_changed_password_and_ca_are_read_again(place: str, tmp_path: Path, ca: Authority) -> None:
    loader = Loader(write(tmp_path, place, ca), {})
    first = loaded_snapshot(loader.load())
    assert proxy_of(first).authorization == build_basic("user", "first")
    assert proxy_of(first).trust.pem == ca.bundle.read_text()
    assert loaded_snapshot(loader.load()).integrations["a"] is first.integrations["a"]
    replace(tmp_path / "password", "second\n")
    second = loaded_snapshot(loader.load())
    assert proxy_of(second).authorization == build_basic("user", "second")
    assert compare_snapshots(first, second).changed == (place,)
    (tmp_path / "ca.pem").write_text(ca.bundle.read_text() * 2)
    third = loaded_snapshot(loader.load())
    assert proxy_of(third).trust != proxy_of(second).trust
    assert compare_snapshots(second, third).changed == (place,)


@pytest.mark.parametrize("name", ["password", "ca.pem"])
@pytest.mark.parametrize("place", PLACES)
def test_unreadable_value_keeps_the_previous_proxy(place: str, name: str, tmp_path: Path, ca: Authority) -> None:
    loader = Loader(write(tmp_path, place, ca), {})
    first = loaded_snapshot(loader.load())
    (tmp_path / name).unlink()
    loaded = loader.load()
    assert proxy_of(loaded_snapshot(loaded)) == proxy_of(first)
    assert [error.path.rpartition(".")[0] for error in loaded.of("unreadable")] in ([place], [])
    # Under another name of the proxy, the old password is not used.
    path = tmp_path / "sidekey.yaml"
    path.write_text(path.read_text().replace("proxy.example.com", "other.example.com"))
    changed = proxy_of(loaded_snapshot(loader.load()))
    assert (changed.origin.host, changed.authorization) == ("other.example.com", "")
    assert "does not exist" in changed.problem


@pytest.mark.parametrize("place", PLACES)
def test_proxy_with_an_unreadable_value_has_its_reasons(place: str, tmp_path: Path, ca: Authority) -> None:
    path = write(tmp_path, place, ca)
    (tmp_path / "password").unlink()
    (tmp_path / "ca.pem").write_text("no PEM")
    loaded = load(path, {})
    assert loaded.errors == []
    assert [error.path for error in loaded.of("unreadable")] == [f"{place}.password", f"{place}.trusted_ca"]
    problem = proxy_of(loaded_snapshot(loaded)).problem
    assert problem.startswith("proxy.trusted_ca: ca.pem ")
    assert "; proxy.password: the file does not exist" in problem


def test_password_that_others_can_write_is_refused(tmp_path: Path, ca: Authority) -> None:
    path = write(tmp_path, "network.proxy", ca)
    (tmp_path / "password").chmod(0o666)
    assert [error.path for error in load(path, {}).of("writable")] == ["network.proxy.password"]


def test_stored_and_passed_targets_use_checked_addresses(tmp_path: Path) -> None:
    """The network's proxy resolves only the names that the operator chose."""
    path = tmp_path / "sidekey.yaml"
    proxy = '{url: "http://192.0.2.1:3128", resolve: proxy}'
    path.write_text(
        f"version: 1\nforward: {{unmatched: pass}}\nnetwork: {{proxy: {proxy}}}\nintegrations:\n{INTEGRATION}"
    )
    snapshot = loaded_snapshot(load(path, {}))
    assert snapshot.passthrough is not None
    rules = snapshot.network
    assert proxy_of(snapshot).resolves
    named, passed = snapshot.integrations["a"].egress, snapshot.passthrough.integration.egress
    assert rules.parent_for(passed) is proxy_of(snapshot)
    assert (rules.leaves_name("x.example.com", named), rules.leaves_name("x.example.com", passed)) == (True, False)
