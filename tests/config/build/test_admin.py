"""The section `admin`: operators' tokens, the certificate of the listener, and OpenID Connect."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from pathlib import Path

import pytest

from sidekey.config import checks
from sidekey.config.load import Loaded, Loader, load
from support.loading import loaded_snapshot
from support.private_ca import Authority

HEAD = "version: 1\nstore: {path: store.db, keys: [{id: k1, key: {env: KEY}}]}\n"
ENVIRON = {"KEY": b64encode(b"k" * 32).decode(), "OPS": "0123456789abcdef", "SHORT": "0123456789abcde"}


def write(folder: Path, admin: str, more: str = "") -> Path:
    path = folder / "sidekey.yaml"
    path.write_text(f"{HEAD}admin: {{{admin}}}\n{more}")
    return path


def test_rules_of_the_admin_listener_have_tokens_and_host_names(tmp_path: Path) -> None:
    """Host names become lower case."""
    tokens = "ops: {token: {env: OPS}, role: admin}"
    rules = loaded_snapshot(load(write(tmp_path, f"tokens: {{{tokens}}}, names: [Sidekey.Example.com]"), ENVIRON)).admin
    assert rules.tokens["ops"].digest == hashlib.sha256(b"0123456789abcdef").digest()
    assert rules.tokens["ops"].role == "admin"
    assert rules.names == {"sidekey.example.com"}


def test_only_a_sender_has_grants_and_needs_presets(tmp_path: Path) -> None:
    def loaded(token: str) -> Loaded:
        return load(write(tmp_path, f"tokens: {{ops: {{token: {{env: OPS}}, {token}}}}}"), ENVIRON)

    sender = loaded_snapshot(loaded("role: sender, presets: [welcome], per_minute: 5")).admin.tokens["ops"]
    assert (sender.presets, sender.per_minute, sender.per_day) == (("welcome",), 5, 1000)
    for token, text in (
        ("role: sender", "presets: must list at least one"),
        ("role: editor, presets: [welcome]", "presets: only the role sender has this key"),
        ("role: viewer, per_day: 1000", "per_day: only the role sender has this key"),
    ):
        (error,) = loaded(token).errors
        assert f"admin.tokens.ops.{text}" in str(error)


def test_unusable_token_is_omitted_or_keeps_its_previous_value(tmp_path: Path) -> None:
    path = write(tmp_path, "tokens: {a: {token: {env: SHORT}, role: admin}, b: {token: {file: t}, role: viewer}}")
    (tmp_path / "t").write_text("of-a-file-16-long")
    loader = Loader(path, ENVIRON)
    loaded = loader.load()
    (error,) = loaded.of("unreadable")
    assert "admin.tokens.a.token: must have at least 16 characters" in str(error)
    first = loaded_snapshot(loaded).admin
    assert set(first.tokens) == {"b"}
    (tmp_path / "t").unlink()
    again = loader.load()
    assert loaded_snapshot(again).admin.tokens["b"].digest == first.tokens["b"].digest
    assert [error.path for error in again.of("unreadable")] == ["admin.tokens.a.token"]
    assert [error.path for error in again.of("retained")] == ["admin.tokens.b.token"]


def test_same_token_of_two_operators_is_an_error(tmp_path: Path) -> None:
    """The audit could not tell them apart."""
    token = "{token: {env: OPS}, role: viewer}"
    loaded = load(write(tmp_path, f"tokens: {{a: {token}, b: {token}}}"), ENVIRON)
    assert ["admin.tokens.b.token: must differ from the token of a" in str(token) for token in loaded.errors] == [True]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("certificate", "admin.tls.certificate: must be a certificate in PEM"),
        ("private_key", "admin.tls.private_key: must be a private key in PEM"),
        ("other", "admin.tls.private_key: must be the key of the first certificate"),
        ("missing", "admin.tls.private_key: "),
    ],
)
def test_unusable_certificate_is_an_error_unless_there_is_a_previous_one(
    tmp_path: Path, ca: Authority, wrong: str, text: str
) -> None:
    """Tokens would travel in the clear."""
    leaf, other = ca.leaf("admin.test"), ca.leaf("other.test")
    files = {"certificate": leaf.certificate.read_bytes(), "private_key": leaf.key.read_bytes()}
    path = write(tmp_path, "tls: {certificate: {file: certificate}, private_key: {file: private_key}}")

    def place(**changed: bytes | None) -> None:
        for name, data in {**files, **changed}.items():
            (tmp_path / name).unlink(missing_ok=True)
            if data is not None:
                (tmp_path / name).write_bytes(data)

    broken: dict[str, bytes | None] = {
        "other": {"private_key": other.key.read_bytes()},
        "missing": {"private_key": None},
    }.get(wrong, {wrong: b"-----BEGIN X-----\ncanary"})  # type: ignore[assignment]
    place(**broken)
    (error,) = load(path, ENVIRON).errors
    assert text in str(error)
    assert "canary" not in str(error)
    place()
    loader = Loader(path, ENVIRON)
    first = loaded_snapshot(loader.load()).admin.certificate
    assert first is not None
    place(**broken)
    loaded = loader.load()
    assert loaded_snapshot(loaded).admin.certificate == first
    assert [text in str(error) for error in loaded.of("retained")] == [True]


def test_reload_that_adds_or_removes_tls_is_refused(tmp_path: Path, ca: Authority) -> None:
    leaf = ca.leaf("admin.test")
    tls = f"tls: {{certificate: {{file: '{leaf.certificate}'}}, private_key: {{file: '{leaf.key}'}}}}"
    for before, after in (("", tls), (tls, "")):
        path = write(tmp_path, before)
        loader = Loader(path, ENVIRON)
        loaded_snapshot(loader.load())
        write(tmp_path, after)
        (error,) = loader.load().errors
        assert "admin.tls: needs a restart of Sidekey" in str(error)


def test_open_admin_listener_with_a_store_needs_tls() -> None:
    """Even with `allow_unauthenticated`."""
    store = {"path": "x", "keys": [{"id": "k", "key": {"env": "K"}}]}
    raw = {"listen": {"admin": "0.0.0.0:9090"}, "store": store, "allow_unauthenticated": True}
    assert [loc for loc, _ in checks.global_errors(raw)] == [("listen", "admin")]
    for admin in ({"tls": {"certificate": "x"}}, {"behind_tls": True}):
        assert list(checks.global_errors({**raw, "admin": admin})) == []
    for address in ("127.0.0.1:9090", "[::1]:9090", "unix:admin.sock"):
        assert list(checks.global_errors({**raw, "listen": {"admin": address}})) == []
    assert [loc for loc, _ in checks.global_errors({**raw, "admin": {"behind_tls": False}})] == [("listen", "admin")]


def test_admin_without_operators_or_a_store_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "sidekey.yaml"
    path.write_text("version: 1\nadmin: {names: [a.example]}\nintegrations: {}\n")
    loaded = load(path, {})
    assert any("admin: does nothing without operators or a store" in str(warning) for warning in loaded.warnings)


OIDC = {
    "issuer": "https://idp.example",
    "client_id": "sidekey",
    "client_secret": {"file": "client"},
    "redirect_url": "https://sidekey.example/ui/callback",
    "roles": {"claim": "groups", "map": {"ops": "admin"}},
}


def oidc(folder: Path, **changes: object) -> Path:
    return write(folder, f"oidc: {json.dumps({**OIDC, **changes})}")


def test_oidc_has_defaults(tmp_path: Path) -> None:
    (tmp_path / "client").write_text("s3cret")
    loaded = load(oidc(tmp_path), ENVIRON)
    rules = loaded_snapshot(loaded).admin.oidc
    assert rules is not None
    assert (rules.client_secret, rules.scopes, rules.session_seconds) == ("s3cret", ("openid", "profile"), 12 * 3600)
    assert (rules.egress.trust.source, rules.presets, "s3cret" in repr(rules)) == ("mozilla", {}, False)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"issuer": "http://idp.example"}, "issuer: must be an https URL"),
        ({"issuer": "https://idp.example?x"}, "issuer: must be an https URL"),
        ({"issuer": "https://idp.example#x"}, "issuer: must be an https URL"),
        ({"redirect_url": "https://sidekey.example/ui/"}, "redirect_url: must be https://HOST/ui/callback"),
        ({"redirect_url": "http://sidekey.example/ui/callback"}, "redirect_url: must be https://HOST/ui/callback"),
        ({"redirect_url": "http://localhost.example/ui/callback"}, "redirect_url: must be https://HOST/ui/callback"),
        ({"client_secret": "s3cret"}, "client_secret"),
        ({"scopes": ["profile"]}, "scopes: must contain openid"),
        ({"session": "13h"}, "session: must be at least 1m and at most 12h"),
        ({"roles": {"claim": "", "map": {}}}, "roles.claim: must not be empty"),
        ({"roles": {"claim": "groups", "map": {"a": "owner"}}}, "roles.map.a"),
        ({"roles": {"claim": "groups", "map": {"a": "sender"}}}, "set `presets`"),
    ],
    ids=str,
)
def test_insecure_oidc_settings_are_refused(tmp_path: Path, changes: dict[str, object], text: str) -> None:
    (error,) = load(oidc(tmp_path, **changes), ENVIRON).errors
    assert text in str(error)


def test_unreadable_oidc_secret_keeps_the_previous_one(tmp_path: Path) -> None:
    """Without a previous one there is no log-in with OIDC, and tokens still work."""
    path = oidc(tmp_path)
    loader = Loader(path, ENVIRON)
    loaded = loader.load()
    assert loaded_snapshot(loaded).admin.oidc is None
    (error,) = loaded.of("unreadable")
    assert "admin.oidc.client_secret" in str(error)
    (tmp_path / "client").write_text("s3cret")
    first = loaded_snapshot(loader.load()).admin.oidc
    (tmp_path / "client").unlink()
    second = loaded_snapshot(loader.load()).admin.oidc
    assert first is not None
    assert second == first
