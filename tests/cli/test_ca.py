"""`sidekey ca`: show, path, bundle and rotate."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import certifi
import pytest

from sidekey.ca.maintain import ensure_authorities
from sidekey.ca.storage import read
from sidekey.cli.ca import CaError, bundle, describe, paths, rotate, trust_folder
from support.http_get import get
from support.local_cas import NOW, rules_in
from support.sidekey_process import SidekeyProcess, run_cli

CONFIG = """\
version: 1
ca: {folder: state}
integrations:
  a: {endpoint_prefix: 'https://a.test/v1', auth: {type: headers, headers: {X-Key: x}}}
  b: {endpoint_prefix: 'https://10.1.2.3/v1', auth: {type: headers, headers: {X-Key: x}}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sidekey.yaml"
    path.write_text(CONFIG)
    return path


def ca(config: Path, *arguments: str, status: int = 0) -> str:
    """Return the output of a command, from standard error if it fails."""
    result = run_cli("ca", *arguments, "--config", str(config))
    assert result.returncode == status, result.stderr
    return result.stdout if status == 0 else result.stderr


def test_show_creates_the_ca_and_lists_it(config: Path) -> None:
    """The output does not contain the key."""
    document = json.loads(ca(config, "show", "--json"))
    (authority,) = document["authorities"]
    assert (authority["role"], authority["names"], authority["networks"]) == ("signs", ["a.test"], ["10.1.2.3/32"])
    authorities = read(config.parent / "state")
    assert authorities is not None
    assert authorities.members[0].fingerprint == authority["fingerprint"]
    text = ca(config, "show")
    assert f"signs: SHA-256 {authority['fingerprint']}" in text
    assert "for a.test, 10.1.2.3/32" in text
    assert "PRIVATE" not in text + json.dumps(document)


def test_two_configs_of_one_user_share_no_ca_by_default(tmp_path: Path) -> None:
    """Each config has its own CA, so that callers of one need not trust the CA of the other."""
    configs = []
    for name in ("first", "second"):
        path = tmp_path / name / "sidekey.yaml"
        path.parent.mkdir()
        path.write_text(CONFIG.replace("ca: {folder: state}\n", "").replace("a.test", f"{name}.test"))
        configs.append(path)
    first, second = (json.loads(ca(path, "show", "--json")) for path in configs)
    for name, document in (("first", first), ("second", second)):
        (authority,) = document["authorities"]
        assert authority["names"] == [f"{name}.test"]
        assert f"{name}-sidekey.yaml-" in document["kept_in"]
    assert first["trust_folder"] != second["trust_folder"]
    assert json.loads(ca(configs[0], "show", "--json")) == first
    relative = json.loads(
        run_cli("ca", "show", "--json", "--config", "first/../first/sidekey.yaml", folder=tmp_path).stdout
    )
    assert relative == first


def test_default_folder_does_not_depend_on_the_spelling_of_the_path(tmp_path: Path) -> None:
    """The path may lead through a symbolic link, or have two slashes."""
    folder, link = tmp_path / "real", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    (folder / "sidekey.yaml").write_text(CONFIG.replace("ca: {folder: state}\n", ""))

    def kept_in(path: str) -> str:
        result = run_cli("ca", "show", "--json", "--config", path, folder=link)
        return str(json.loads(result.stdout)["kept_in"])

    files = {kept_in(path) for path in ("sidekey.yaml", f"{link}/sidekey.yaml", f"/{folder}/sidekey.yaml")}
    folders = {kept_in(path) for path in (".", f"{link}", f"/{folder}/")}
    assert len(files) == len(folders) == 1


def test_update_of_a_mounted_config_map_keeps_the_ca(tmp_path: Path) -> None:
    """Kubernetes writes each version into a new folder and swaps the link to it."""
    mounted = tmp_path / "mounted"
    (mounted / "..first").mkdir(parents=True)
    (mounted / "..data").symlink_to("..first")
    (mounted / "sidekey.yaml").symlink_to("..data/sidekey.yaml")
    (mounted / "..first" / "sidekey.yaml").write_text(CONFIG.replace("ca: {folder: state}\n", ""))
    previous = [ca(path, "show", "--json") for path in (mounted, mounted / "sidekey.yaml")]
    (mounted / "..first").rename(mounted / "..second")
    (mounted / "..data").unlink()
    (mounted / "..data").symlink_to("..second")
    assert [ca(path, "show", "--json") for path in (mounted, mounted / "sidekey.yaml")] == previous


def test_second_config_of_a_user_needs_no_restart_of_callers(tmp_path: Path) -> None:
    """A Sidekey with the first config runs meanwhile."""
    integration = "{endpoint_prefix: 'https://%s.test/v1', auth: {type: headers, headers: {X-Key: x}}}"
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    config = "ca: {}\nintegrations:\n  it: "
    with (
        SidekeyProcess(config + integration % "first", folders[0]),
        SidekeyProcess(config + integration % "second", folders[1]) as second,
    ):
        second.stop()
    events = [line.get("event") for line in map(json.loads, second.lines)]
    assert "the local CA was created" in events
    assert not [event for event in events if "callers must restart" in str(event)]


def test_path_and_bundle_are_printed(config: Path) -> None:
    path = ca(config, "path").strip()
    assert path == str(config.parent / "state" / "trust" / "ca.pem")
    assert set(json.loads(ca(config, "path", "--json"))) == {"ca.pem", "bundle.pem", "truststore.p12", "wgetrc"}
    bundle = ca(config, "bundle")
    assert bundle.startswith(Path(path).read_text())
    assert bundle.count("BEGIN CERTIFICATE") == certifi.contents().count("BEGIN CERTIFICATE") + 1


def test_rotation_has_three_steps(config: Path) -> None:
    def roles() -> list[str]:
        return [authority["role"] for authority in json.loads(ca(config, "show", "--json"))["authorities"]]

    assert "there is no next CA: run sidekey ca rotate" in ca(config, "rotate", "--activate", status=1)
    assert "restart the callers" in ca(config, "rotate")
    assert roles() == ["signs", "next"]
    assert "is there already" in ca(config, "rotate", status=1)
    assert "--retire" in ca(config, "rotate", "--activate")
    assert roles() == ["old", "signs"]
    ca(config, "rotate", "--retire")
    assert roles() == ["signs"]
    assert "there is no old CA" in ca(config, "rotate", "--retire", status=1)


def test_unusable_folder_is_an_error_with_a_remedy(config: Path) -> None:
    (config.parent / "state").write_text("")
    for command in ("show", "path", "bundle", "rotate"):
        assert "set ca.folder to a folder that Sidekey may write to" in ca(config, command, status=1)


def test_unwritable_trust_folder_has_no_path(config: Path) -> None:
    config.write_text(CONFIG.replace("{folder: state}", "{folder: state, trust_folder: sidekey.yaml}"))
    assert "set ca.trust_folder" in ca(config, "path", status=1)
    assert "cannot be written" in ca(config, "show")
    assert "BEGIN CERTIFICATE" in ca(config, "bundle")
    assert "set ca.trust_folder" in ca(config, "rotate", status=1)


def test_running_sidekey_writes_the_trust_folder_and_notices_a_rotation(
    tmp_path: Path,
) -> None:
    body = CONFIG.removeprefix("version: 1\n")
    with SidekeyProcess(body, tmp_path) as child:
        # /readyz has succeeded.
        first = (tmp_path / "state" / "trust" / "ca.pem").read_text()
        log_line = child.wait_for_line(lambda line: "the local CA was created" in line)
        assert "PRIVATE" not in log_line
        assert "sidekey_ca_expiry_timestamp_seconds" in get(child.admin_port, "/metrics").body
        ca(child.config, "rotate")
        ca(child.config, "rotate", "--activate")
        child.wait_for_line(lambda line: "the local CA that signs certificates has changed" in line)
        assert (tmp_path / "state" / "trust" / "ca.pem").read_text().startswith(first)
        assert child.stop() == 0


def test_trust_folder_of_another_user_stays_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root has another state folder, and would write a CA that the running Sidekey does not use."""
    ensure_authorities(rules_in(tmp_path / "other", "https://a.test"), NOW)
    shared = tmp_path / "other" / "trust"
    previous = (shared / "ca.pem").read_text()
    own_rules = replace(rules_in(tmp_path / "own", "https://a.test"), trust_folder=shared)
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert trust_folder(own_rules) == shared
    assert (shared / "ca.pem").read_text() == previous
    (shared / "wgetrc").unlink()
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert trust_folder(own_rules) == shared
    assert (shared / "ca.pem").read_text() != previous


def test_files_of_another_user_are_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers could not read the files of root."""
    other_rules = rules_in(tmp_path / "other", "https://a.test")
    ensure_authorities(other_rules, NOW)
    shared = tmp_path / "other" / "trust"
    previous = {path: path.read_bytes() for path in shared.iterdir()}
    root_rules = replace(rules_in(tmp_path / "own", "https://a.test"), trust_folder=shared)
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    for rules in (root_rules, other_rules):
        for command in (describe, paths, bundle, lambda rules: rotate(rules, "next")):
            with pytest.raises(CaError, match=f"belongs to the user {user}: run this command as the user that Sidekey"):
                command(rules)
    assert {path: path.read_bytes() for path in shared.iterdir()} == previous


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_root_creates_nothing_in_another_users_folder(tmp_path: Path) -> None:
    """Sidekey could not read a CA of root."""
    (tmp_path / "state").mkdir()
    os.chown(tmp_path / "state", 12345, -1)
    rules = rules_in(tmp_path / "state", "https://a.test")
    with pytest.raises(CaError, match="state belongs to the user 12345"):
        describe(rules)
    with pytest.raises(CaError, match="state belongs to the user 12345"):
        trust_folder(rules)
    assert list((tmp_path / "state").iterdir()) == []
    assert describe(rules_in(tmp_path / "own", "https://a.test"))["trust_folder"] == str(tmp_path / "own" / "trust")


def test_trust_folder_needs_a_location(tmp_path: Path) -> None:
    rules = replace(rules_in(tmp_path, "https://a.test"), folder=None, trust_folder=None)
    with pytest.raises(CaError, match=r"set ca\.folder"):
        trust_folder(rules)
