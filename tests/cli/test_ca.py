"""`sidekey ca`, as it is typed."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import certifi
import pytest

from sidekey.ca.maintain import ensure_authorities
from sidekey.ca.storage import read
from sidekey.cli.ca import CaError, bundle, described, paths, rotate, trust_folder
from support.child import Child, run_cli
from support.http_get import get
from support.local_cas import NOW, rules_in

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
    """What a command prints; on standard error where it fails."""
    done = run_cli("ca", *arguments, "--config", str(config))
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


def test_the_ca_is_made_by_the_command_and_shown(config: Path) -> None:
    """Each time the same one, and never its key."""
    shown = json.loads(ca(config, "show", "--json"))
    (authority,) = shown["authorities"]
    assert (authority["role"], authority["names"], authority["networks"]) == ("signs", ["a.test"], ["10.1.2.3/32"])
    kept = read(config.parent / "state")
    assert kept is not None
    assert kept.members[0].fingerprint == authority["fingerprint"]
    text = ca(config, "show")
    assert f"signs: SHA-256 {authority['fingerprint']}" in text
    assert "for a.test, 10.1.2.3/32" in text
    assert "PRIVATE" not in text + json.dumps(shown)


def test_two_configs_of_one_user_share_no_ca_by_default(tmp_path: Path) -> None:
    """Neither makes a CA that callers of the other would have to trust, and each finds its own again."""
    configs = []
    for name in ("one", "two"):
        path = tmp_path / name / "sidekey.yaml"
        path.parent.mkdir()
        path.write_text(CONFIG.replace("ca: {folder: state}\n", "").replace("a.test", f"{name}.test"))
        configs.append(path)
    first, second = (json.loads(ca(path, "show", "--json")) for path in configs)
    for name, shown in (("one", first), ("two", second)):
        (authority,) = shown["authorities"]
        assert authority["names"] == [f"{name}.test"]
        assert f"{name}-sidekey.yaml-" in shown["kept_in"]
    assert first["trust_folder"] != second["trust_folder"]
    assert json.loads(ca(configs[0], "show", "--json")) == first
    relative = json.loads(
        run_cli("ca", "show", "--json", "--config", "one/../one/sidekey.yaml", folder=tmp_path).stdout
    )
    assert relative == first


def test_one_config_has_one_default_folder_however_its_path_is_written(tmp_path: Path) -> None:
    """From a folder behind a link, by the link, and with two slashes; also the folder as a whole."""
    folder, link = tmp_path / "real", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    (folder / "sidekey.yaml").write_text(CONFIG.replace("ca: {folder: state}\n", ""))

    def kept_in(path: str) -> str:
        done = run_cli("ca", "show", "--json", "--config", path, folder=link)
        return str(json.loads(done.stdout)["kept_in"])

    files = {kept_in(path) for path in ("sidekey.yaml", f"{link}/sidekey.yaml", f"/{folder}/sidekey.yaml")}
    folders = {kept_in(path) for path in (".", f"{link}", f"/{folder}/")}
    assert len(files) == len(folders) == 1


def test_update_of_a_mounted_config_map_keeps_the_ca(tmp_path: Path) -> None:
    """Kubernetes writes each version into a new folder, and swaps the link that all files are behind."""
    mounted = tmp_path / "mounted"
    (mounted / "..first").mkdir(parents=True)
    (mounted / "..data").symlink_to("..first")
    (mounted / "sidekey.yaml").symlink_to("..data/sidekey.yaml")
    (mounted / "..first" / "sidekey.yaml").write_text(CONFIG.replace("ca: {folder: state}\n", ""))
    before = [ca(path, "show", "--json") for path in (mounted, mounted / "sidekey.yaml")]
    (mounted / "..first").rename(mounted / "..second")
    (mounted / "..data").unlink()
    (mounted / "..data").symlink_to("..second")
    assert [ca(path, "show", "--json") for path in (mounted, mounted / "sidekey.yaml")] == before


def test_second_config_of_a_user_starts_without_asking_callers_to_restart(tmp_path: Path) -> None:
    """While the first one runs, too."""
    integration = "{endpoint_prefix: 'https://%s.test/v1', auth: {type: headers, headers: {X-Key: x}}}"
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    config = "ca: {}\nintegrations:\n  it: "
    with Child(config + integration % "one", folders[0]), Child(config + integration % "two", folders[1]) as second:
        second.stop()
    events = [line.get("event") for line in map(json.loads, second.lines)]
    assert "the local CA was created" in events
    assert not [event for event in events if "callers must restart" in str(event)]


def test_the_path_and_the_bundle(config: Path) -> None:
    path = ca(config, "path").strip()
    assert path == str(config.parent / "state" / "trust" / "ca.pem")
    assert set(json.loads(ca(config, "path", "--json"))) == {"ca.pem", "bundle.pem", "truststore.p12", "wgetrc"}
    bundle = ca(config, "bundle")
    assert bundle.startswith(Path(path).read_text())
    assert bundle.count("BEGIN CERTIFICATE") == certifi.contents().count("BEGIN CERTIFICATE") + 1


def test_a_rotation_is_typed_in_three_steps(config: Path) -> None:
    def roles() -> list[str]:
        return [each["role"] for each in json.loads(ca(config, "show", "--json"))["authorities"]]

    assert "restart the callers" in ca(config, "rotate")
    assert roles() == ["signs", "next"]
    assert "is there already" in ca(config, "rotate", status=1)
    assert "--retire" in ca(config, "rotate", "--activate")
    assert roles() == ["old", "signs"]
    ca(config, "rotate", "--retire")
    assert roles() == ["signs"]
    assert "there is no old CA" in ca(config, "rotate", "--retire", status=1)


def test_what_cannot_be_done_is_said_with_the_way_out(config: Path) -> None:
    (config.parent / "state").write_text("")
    for command in ("show", "path", "bundle", "rotate"):
        assert "set ca.folder to a folder that Sidekey may write to" in ca(config, command, status=1)


def test_a_trust_folder_that_cannot_be_written_has_no_path(config: Path) -> None:
    config.write_text(CONFIG.replace("{folder: state}", "{folder: state, trust_folder: sidekey.yaml}"))
    assert "set ca.trust_folder" in ca(config, "path", status=1)
    assert "cannot be written" in ca(config, "show")
    assert "BEGIN CERTIFICATE" in ca(config, "bundle")
    assert "set ca.trust_folder" in ca(config, "rotate", status=1)


def test_a_running_sidekey_has_written_what_callers_trust_before_it_is_ready_and_sees_a_rotation(
    tmp_path: Path,
) -> None:
    body = CONFIG.removeprefix("version: 1\n")
    with Child(body, tmp_path) as child:
        # `Child` has waited for /readyz.
        first = (tmp_path / "state" / "trust" / "ca.pem").read_text()
        made = child.wait_for_line(lambda line: "the local CA was created" in line)
        assert "PRIVATE" not in made
        assert "sidekey_ca_expiry_timestamp_seconds" in get(child.admin_port, "/metrics").body
        ca(child.config, "rotate")
        ca(child.config, "rotate", "--activate")
        child.wait_for_line(lambda line: "the local CA that signs certificates has changed" in line)
        assert (tmp_path / "state" / "trust" / "ca.pem").read_text().startswith(first)
        assert child.stop() == 0


def test_the_trust_folder_of_another_user_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root, whose state is elsewhere, could write there a CA that the running Sidekey lacks."""
    ensure_authorities(rules_in(tmp_path / "theirs", "https://a.test"), NOW)
    shared = tmp_path / "theirs" / "trust"
    before = (shared / "ca.pem").read_text()
    mine = replace(rules_in(tmp_path / "mine", "https://a.test"), trust_folder=shared)
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    assert trust_folder(mine) == shared
    assert (shared / "ca.pem").read_text() == before
    (shared / "wgetrc").unlink()
    monkeypatch.setattr(os, "geteuid", lambda: own)
    assert trust_folder(mine) == shared
    assert (shared / "ca.pem").read_text() != before


def test_what_belongs_to_another_user_is_left_to_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By every command: what root would put there, callers could not use."""
    theirs = rules_in(tmp_path / "theirs", "https://a.test")
    ensure_authorities(theirs, NOW)
    shared = tmp_path / "theirs" / "trust"
    before = {each: each.read_bytes() for each in shared.iterdir()}
    mine = replace(rules_in(tmp_path / "mine", "https://a.test"), trust_folder=shared)
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    for rules in (mine, theirs):
        for command in (described, paths, bundle, lambda rules: rotate(rules, "next")):
            with pytest.raises(CaError, match=f"belongs to the user {own}: run this command as the user that Sidekey"):
                command(rules)
    assert {each: each.read_bytes() for each in shared.iterdir()} == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_root_makes_nothing_in_another_users_folder(tmp_path: Path) -> None:
    """Sidekey could not read it afterwards. What is root's own, it makes."""
    (tmp_path / "state").mkdir()
    os.chown(tmp_path / "state", 12345, -1)
    rules = rules_in(tmp_path / "state", "https://a.test")
    with pytest.raises(CaError, match="state belongs to the user 12345"):
        described(rules)
    with pytest.raises(CaError, match="state belongs to the user 12345"):
        trust_folder(rules)
    assert list((tmp_path / "state").iterdir()) == []
    assert described(rules_in(tmp_path / "own", "https://a.test"))["trust_folder"] == str(tmp_path / "own" / "trust")


def test_without_a_place_for_it_there_is_no_trust_folder(tmp_path: Path) -> None:
    rules = replace(rules_in(tmp_path, "https://a.test"), folder=None, trust_folder=None)
    with pytest.raises(CaError, match=r"set ca\.folder"):
        trust_folder(rules)
