"""An unreadable value keeps its last value only while all settings of the object that names it are unchanged."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import pytest
from pydantic import BaseModel

from sidekey.config.load import Loader
from sidekey.config.models import GlobalSettings, JwksSettings
from sidekey.credentials.fields import Reference
from sidekey.snapshot.snapshot import Snapshot, Trust
from support.certificates import issue
from support.every_kind import documents_of_every_kind
from support.loading import loaded_snapshot
from support.local_cas import authority_of
from support.oauth import signer
from support.private_ca import Authority

Change = Mapping[str, Any]


class Place(NamedTuple):
    """A key that names a file: how to change what its object opens or where it goes, and the value in use.

    `lost` is what happens if nothing is kept: the object is unusable, or the reload is refused.
    """

    change: tuple[str, Any]
    value: Callable[[Snapshot], Any]
    lost: Literal["unreadable", "error"] = "unreadable"


def _caller(snapshot: Snapshot) -> Any:
    return next(iter(snapshot.callers or {})) == hashlib.sha256(b"caller-token-0000").digest()


def _issuer(snapshot: Snapshot, name: str) -> Any:
    issuer = snapshot.jwt_issuers[name]
    return None if issuer.problem else (issuer.token, issuer.keys, issuer.egress.trust)


def _proxy(snapshot: Snapshot) -> Any:
    proxy = snapshot.network.proxy
    return None if proxy is None or proxy.problem else proxy.authorization


ADMIN = Place(("admin.tokens.ops.role", "editor"), lambda s: s.admin.tokens.get("ops"))
OIDC = Place(("admin.oidc.issuer", "https://b.example"), lambda s: s.admin.oidc)
LISTEN = Place(("listen.tls.client_auth", "optional"), lambda s: s.listen.tls, lost="error")
PROXY = Place(("network.proxy.url", "https://b.example:3128"), _proxy)
OPERATOR_CA = Place(("ca.hosts", ["a.test", "b.test"]), lambda s: s.ca.operator_ca)
STORE = Place(("store.path", "other.db"), lambda s: s.store, lost="error")
PLACES = {
    "admin.oidc.client_secret": OIDC,
    "admin.oidc.trusted_ca": OIDC,
    "admin.tls.certificate": Place(("admin.tls.private_key", {"file": "b"}), lambda s: s.admin.certificate, "error"),
    "admin.tls.private_key": Place(("admin.tls.certificate", {"file": "b"}), lambda s: s.admin.certificate, "error"),
    "admin.tokens.ops.token": ADMIN,
    "ca.certificate": OPERATOR_CA,
    "ca.extra_roots.0": OPERATOR_CA._replace(value=lambda s: s.ca.extra_roots),
    "ca.private_key": OPERATOR_CA,
    "callers.one.token": Place(("callers.one.integrations", ["it", "other"]), _caller),
    "jwt_issuers.file.jwks.file": Place(("jwt_issuers.file.audience", "b"), lambda s: _issuer(s, "file")),
    "jwt_issuers.url.token": Place(("jwt_issuers.url.jwks.url", "https://b.example"), lambda s: _issuer(s, "url")),
    "jwt_issuers.url.trusted_ca": Place(("jwt_issuers.url.jwks.url", "https://b.test"), lambda s: _issuer(s, "url")),
    "listen.tls.certificate": LISTEN,
    "listen.tls.client_ca": LISTEN,
    "listen.tls.private_key": LISTEN,
    "network.proxy.password": PROXY,
    "network.proxy.trusted_ca": PROXY,
    "network.proxy.username": PROXY,
    "network.trusted_ca": Place(("network.trusted_ca", {"file": "b"}), lambda s: s.trust.pem),
    # The keys and the URL of the store are never kept: without them, a reload is refused.
    "store.keys.0.key": STORE,
    "store.url": STORE,
}
NAMES = {"admin.tokens": "ops", "callers": "one", "ca.extra_roots": "0", "store.keys": "0"}
"""The entry that stands for all entries of a mapping or list. An issuer has either keys in a file or a token."""


def _places(model: type[BaseModel], above: str) -> Iterator[str]:
    """Find each key of a model that names a file or another source of a value."""
    for attribute, field in model.model_fields.items():
        name = f"{above}{field.alias or attribute}"
        if model is JwksSettings and attribute == "file":
            yield name
        for kind in _types(field.annotation):
            entry = f".{NAMES[name]}" if name in NAMES else ""
            if kind in (Reference, Trust):
                yield name + entry
            elif isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _places(kind, f"{name}{entry}.")


def _types(annotation: Any) -> Iterator[Any]:
    arguments = get_args(annotation)
    if annotation is not Reference and not arguments:
        yield annotation
    elif not arguments:
        yield Reference
    for argument in arguments:
        yield from _types(argument)


def test_table_has_every_place_of_the_global_settings() -> None:
    found = {
        name.replace("jwt_issuers.jwks.url.", "jwt_issuers.url.").replace("jwt_issuers.", "jwt_issuers.*.")
        for name in _places(GlobalSettings, "")
    }
    listed = {
        name.replace("jwt_issuers.file.", "jwt_issuers.*.").replace("jwt_issuers.url.", "jwt_issuers.*.")
        for name in PLACES
    }
    assert found == listed


OPERATORS = {"ops": "token", "other": "other-token"}


@pytest.fixture
def config(tmp_path: Path, ca: Authority) -> dict[str, Any]:
    """Return a config with a readable value at each place, and write the files."""
    leaf = ca.leaf("localhost")
    own = authority_of("https://a.test", "https://it.test", "https://other.test", now=time.time())
    files = {
        "bundle": ca.bundle.read_bytes(),
        "caller": b"caller-token-0000",
        "chain": leaf.certificate.read_bytes(),
        "client": b"client-secret-000",
        "jwks": json.dumps({"keys": [signer().public_jwk]}).encode(),
        "key": leaf.key.read_bytes(),
        "own.key": own.key.encode(),
        "own.pem": own.certificate.encode(),
        "password": b"proxy-password-00",
        "store-key": b64encode(bytes(32)),
        "store-url": b"postgresql://localhost/db",
        "other-token": b"operator-token-01",
        "token": b"operator-token-00",
        "user": b"proxy-user",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)

    def file(name: str) -> dict[str, str]:
        return {"file": name}

    issuer = {"issuer": "https://a.example", "audience": "sidekey"}
    pair = {"certificate": file("chain"), "private_key": file("key")}
    return {
        "version": 1,
        "listen": {"tls": {**pair, "client_ca": file("bundle")}},
        "network": {
            "trusted_ca": file("bundle"),
            "proxy": {
                "url": "https://a.example:3128",
                "username": file("user"),
                "password": file("password"),
                "trusted_ca": file("bundle"),
            },
        },
        "ca": {
            "hosts": ["a.test"],
            "certificate": file("own.pem"),
            "private_key": file("own.key"),
            "extra_roots": [file("bundle")],
        },
        "callers": {"one": {"token": file("caller"), "integrations": ["it"]}},
        "jwt_issuers": {
            "file": {**issuer, "jwks": {"file": "jwks"}},
            "url": {
                "issuer": "https://c.example",
                "audience": "sidekey",
                "jwks": {"url": "https://a.example/keys"},
                "token": file("token"),
                "trusted_ca": file("bundle"),
            },
        },
        "store": {"path": "store.db", "keys": [{"id": "k", "key": file("store-key")}]},
        "admin": {
            "tls": pair,
            "tokens": {name: {"token": file(token), "role": "admin"} for name, token in OPERATORS.items()},
            "oidc": {
                "issuer": "https://a.example",
                "client_id": "console",
                "client_secret": file("client"),
                "redirect_url": "https://admin.example/ui/callback",
                "roles": {"claim": "groups", "map": {"ops": "viewer"}},
                "trusted_ca": file("bundle"),
            },
        },
        "integrations": {
            name: {"endpoint_prefix": f"https://{name}.test", "auth": {"type": "headers", "headers": {"X-A": "b"}}}
            for name in ("it", "other")
        },
    }


def set_at(config: dict[str, Any], path: str, value: Any) -> None:
    *above, last = path.split(".")
    node: Any = config
    for key in above:
        node = node[int(key) if isinstance(node, list) else key]
    node[int(last) if isinstance(node, list) else last] = value


@pytest.mark.parametrize("change", ["nothing", "reference", "destination", "both"])
@pytest.mark.parametrize("name", PLACES)
def test_unreadable_value_stays_in_use_only_if_nothing_of_its_object_changed(
    name: str, change: str, config: dict[str, Any], tmp_path: Path
) -> None:
    place = PLACES[name]
    is_path = name.endswith("jwks.file")
    if name == "store.url":
        config["store"] = {"url": {"file": "store-url"}, "keys": config["store"]["keys"]}
        place = place._replace(change=("store.keys.0.id", "other"))
    # A file of its own, because several objects use the same content.
    node: Any = config
    for key in name.split("."):
        node = node[int(key) if isinstance(node, list) else key]
    content = (tmp_path / (node if is_path else node["file"])).read_bytes()
    (tmp_path / "own-file").write_bytes(content)
    set_at(config, name, "own-file" if is_path else {"file": "own-file"})
    path = tmp_path / "sidekey.yaml"
    loader = Loader(path, {"HOME": str(tmp_path)})

    path.write_text(json.dumps(config))
    first = loaded_snapshot(loader.load())
    value = place.value(first)
    assert value
    (tmp_path / "own-file").unlink()
    after = copy.deepcopy(config)
    if change in ("reference", "both"):
        set_at(after, name, "moved" if is_path else {"file": "moved"})
    if change in ("destination", "both"):
        set_at(after, *place.change)
    path.write_text(json.dumps(after))
    loaded = loader.load()

    shown = {kind: [error.path for error in loaded.of(kind)] for kind in ("error", "unreadable", "retained")}
    at = name.replace(".0", "[0]")
    if change == "nothing" and not name.startswith("store."):
        assert (shown["error"], shown["unreadable"]) == ([], [])
        assert at in shown["retained"]
        assert place.value(loaded_snapshot(loaded)) == value
    elif place.lost == "error":
        assert at in shown["error"]
        assert loaded.snapshot is None
    else:
        assert shown["error"] == []
        assert at in shown["unreadable"] or (name == "network.trusted_ca" and change == "destination")
        assert place.value(loaded_snapshot(loaded)) != value
        assert not place.value(loaded_snapshot(loaded))


@pytest.mark.parametrize(
    ("tokens", "role", "refused"),
    [(["ops"], None, True), (["ops"], "viewer", True), (["ops"], "admin", False), (["ops", "other"], None, False)],
)
def test_reload_that_would_leave_no_admin_is_refused(
    tokens: list[str], role: str | None, refused: bool, config: dict[str, Any], tmp_path: Path
) -> None:
    """Otherwise nobody could change Sidekey with its API. `role` is that of people who log in with a company account.

    A start works, because nobody is locked out by it.
    """
    if role is None:
        del config["admin"]["oidc"]
    else:
        config["admin"]["oidc"]["roles"]["map"] = {"ops": role}
    config["admin"]["tokens"] = {name: config["admin"]["tokens"][name] for name in tokens}
    path = tmp_path / "sidekey.yaml"
    loader = Loader(path, {"HOME": str(tmp_path)})
    path.write_text(json.dumps(config))
    loaded_snapshot(loader.load())
    set_at(config, "admin.tokens.ops.token", {"file": "moved"})
    path.write_text(json.dumps(config))
    loaded = loader.load()
    assert [error.path for error in loaded.errors] == (["admin"] if refused else [])
    assert [error.path for error in loaded.of("unreadable")] == ["admin.tokens.ops.token"]
    assert "ops" not in loaded_snapshot(Loader(path, {"HOME": str(tmp_path)}).load()).admin.tokens


FRESH = {
    "listen.tls.private_key": ("listen.tls.client_ca", lambda s: s.listen.tls.client_cas),
    "jwt_issuers.url.token": ("jwt_issuers.url.trusted_ca", lambda s: s.jwt_issuers["url"].egress.trust),
    "admin.oidc.client_secret": ("admin.oidc.trusted_ca", lambda s: s.admin.oidc.egress.trust),
}


@pytest.mark.parametrize("name", FRESH)
def test_readable_value_is_used_while_another_one_of_its_object_is_not(
    name: str, config: dict[str, Any], tmp_path: Path
) -> None:
    """A CA that was withdrawn must not stay in use because a key or a token cannot be read."""
    key, value = FRESH[name]
    for at, file in ((name, "own-file"), (key, "own-ca")):
        node: Any = config
        for part in at.split("."):
            node = node[part]
        (tmp_path / file).write_bytes((tmp_path / node["file"]).read_bytes())
        set_at(config, at, {"file": file})
    path = tmp_path / "sidekey.yaml"
    path.write_text(json.dumps(config))
    loader = Loader(path, {"HOME": str(tmp_path)})
    before = value(loaded_snapshot(loader.load()))
    (tmp_path / "own-file").unlink()
    (tmp_path / "own-ca").write_bytes(issue("Another CA", authority=True).pem)
    loaded = loader.load()
    assert [error.path for error in loaded.of("retained")] == [name]
    assert value(loaded_snapshot(loaded)) != before


def test_admin_token_that_moved_to_another_name_is_that_operators(config: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "sidekey.yaml"
    path.write_text(json.dumps(config))
    loader = Loader(path, {"HOME": str(tmp_path)})
    digest = loaded_snapshot(loader.load()).admin.tokens["ops"].digest
    (tmp_path / "moved").write_bytes((tmp_path / "token").read_bytes())
    config["jwt_issuers"]["url"]["token"] = {"file": "moved"}
    config["admin"]["tokens"]["new"] = {"token": {"file": "moved"}, "role": "viewer"}
    (tmp_path / "token").unlink()
    path.write_text(json.dumps(config))
    tokens = loaded_snapshot(loader.load()).admin.tokens
    assert tokens["new"].digest == digest
    assert "ops" not in tokens


def _in_files(node: Any, folder: Path) -> Any:
    """Move each secret of a stored document to a file, which a document of a file may name."""
    if isinstance(node, dict):
        if len(node) == 1 and ("value" in node or "inline" in node):
            name = f"secret-{len(list(folder.glob('secret-*')))}"
            (folder / name).write_text(next(iter(node.values())))
            return {"file": name}
        return {key: _in_files(value, folder) for key, value in node.items()}
    return [_in_files(value, folder) for value in node] if isinstance(node, list) else node


def _usable(snapshot: Snapshot) -> set[str]:
    return {
        name
        for name, integration in snapshot.integrations.items()
        if integration.secrets.credential is not None
        and (integration.certificate is None or integration.certificate.identity is not None)
    }


@pytest.mark.parametrize("change", ["nothing", "reference", "destination", "both"])
def test_integration_of_each_kind_keeps_its_secrets_only_if_it_is_unchanged(change: str, tmp_path: Path) -> None:
    documents = documents_of_every_kind(8443, tmp_path)
    # A certificate by URL has no file: its last content is part of its loader.
    del documents["urls"]
    documents = _in_files(documents, tmp_path)
    path = tmp_path / "sidekey.yaml"
    path.write_text(json.dumps({"version": 1, "integrations": documents}))
    loader = Loader(path, {"HOME": str(tmp_path)})
    assert _usable(loaded_snapshot(loader.load())) == {*documents}
    for secret in tmp_path.glob("secret-*"):
        secret.unlink()
    text = json.dumps(documents)
    if change in ("reference", "both"):
        text = text.replace('"file": "secret-', '"file": "moved-')
    if change in ("destination", "both"):
        text = text.replace("8443", "8444")
    path.write_text(f'{{"version": 1, "integrations": {text}}}')
    loaded = loader.load()
    assert _usable(loaded_snapshot(loaded)) == ({*documents} if change == "nothing" else set())
    assert {error.path.split(".")[1] for error in loaded.of("unreadable")} == (
        set() if change == "nothing" else {*documents}
    )
