"""The section `store`: where the store is, and its keys."""

from __future__ import annotations

import importlib.util
import pickle
from base64 import b64encode
from ipaddress import ip_network
from pathlib import Path

import pytest

from sidekey.config import models
from sidekey.config.load import Loaded, Loader, load
from sidekey.snapshot.store import StoreRules
from support.loading import TENANT, loaded_snapshot, prefix, write

K1, K2 = bytes(range(32)), b"canary-2" * 4
ENVIRON = {
    "STORE_K1": b64encode(K1).decode(),
    "STORE_K2": f"{b64encode(K2).decode()}\n",
    "URL": "postgresql://u:canary@h/x",
}
KEYS = "keys: [{id: k2, key: {env: STORE_K2}}, {id: k1, key: {env: STORE_K1}}]"
CRM = f"crm {prefix('crm')}, {TENANT}"


def loaded(folder: Path, store: str, environ: dict[str, str] = ENVIRON) -> Loaded:
    """Load a config with this store."""
    write(folder, CRM, top=f"store: {{{store}}}\n")
    return load(folder, environ)


def rules(folder: Path, store: str) -> StoreRules:
    result = loaded_snapshot(loaded(folder, store)).store
    assert result is not None
    return result


def test_store_path_starts_at_the_config_folder(tmp_path: Path) -> None:
    result = rules(tmp_path, f"path: state/store.db, {KEYS}, audit: 30d, allow_private: [10.0.0.0/8]")
    assert result == StoreRules(
        tmp_path / "state" / "store.db", None, (("k2", K2), ("k1", K1)), 30 * 86_400.0, (ip_network("10.0.0.0/8"),)
    )


def test_store_may_be_at_a_url(tmp_path: Path) -> None:
    result = rules(tmp_path, f"url: {{env: URL}}, {KEYS}")
    assert (result.path, result.url, result.audit) == (None, "postgresql://u:canary@h/x", 400 * 86_400.0)


def test_config_without_a_store_has_no_store_rules(tmp_path: Path) -> None:
    write(tmp_path, CRM)
    assert loaded_snapshot(load(tmp_path, {})).store is None


def test_repr_of_rules_shows_neither_key_nor_url(tmp_path: Path) -> None:
    for store in (f"url: {{env: URL}}, {KEYS}", f"path: store.db, {KEYS}"):
        result = rules(tmp_path, store)
        assert "canary" not in repr(result)
        assert "['k2', 'k1']" in repr(result)
        with pytest.raises(TypeError):
            pickle.dumps(result)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "environment variable STORE_K1 is not set"),
        ("", "environment variable STORE_K1 must not be empty"),
        (
            b64encode(b"canary-1" * 3).decode(),
            "environment variable STORE_K1 must be 32 bytes in base64: make one",
        ),
        (b64encode(b"canary-1" * 5).decode(), "environment variable STORE_K1 must be 32 bytes in base64"),
        (b64encode(b"canary-1" * 4).decode()[:-1], "environment variable STORE_K1 must be 32 bytes in base64"),
        ("canary-1" * 4, "environment variable STORE_K1 must be 32 bytes in base64"),
        (b64encode(K2).decode(), "must differ from key k2"),
    ],
    ids=["missing", "empty", "short", "long", "cut", "not base64", "twice"],
)
def test_unusable_key_is_an_error_that_names_it(tmp_path: Path, value: str | None, reason: str) -> None:
    """An error stops the start: the store could not be opened, and must not be created again."""
    environ = {"STORE_K2": ENVIRON["STORE_K2"]} if value is None else {**ENVIRON, "STORE_K1": value}
    result = loaded(tmp_path, f"path: store.db, {KEYS}", environ)
    assert result.snapshot is None
    (error,) = result.errors
    assert error.path == "store.keys[1].key"
    assert error.message.startswith("key k1: ")
    assert reason in error.message
    assert "canary" not in str(error)


@pytest.mark.parametrize("value", ["mysql://canary", "canary", "postgres"])
def test_url_must_be_of_postgresql(tmp_path: Path, value: str) -> None:
    result = loaded(tmp_path, f"url: {{env: URL}}, {KEYS}", {**ENVIRON, "URL": value})
    (error,) = result.errors
    assert (error.path, error.message) == (
        "store.url",
        "environment variable URL must be a URL such as postgresql://USER:PASSWORD@HOST/DATABASE",
    )


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("postgresql://u:canary@db.test/x", True),
        ("postgresql://db.test,127.0.0.1/x?sslmode=require", True),
        ("postgresql://u@db.test:5432/x?sslmode=verify-ca&sslrootcert=/ca", True),
        ("postgresql:///x?host=db.test", True),
        ("postgresql://[2001:db8::1]/x", True),
        ("postgresql://u:canary@db.test/x?sslmode=verify-full&sslrootcert=/ca", False),
        ("postgresql://u@127.0.0.1:5432,localhost,[::1]:5432/x", False),
        ("postgresql://u@/x?host=/run/postgresql", False),
        ("postgresql:///x", False),
        ("postgres://u@%2Frun%2Fpostgresql/x", False),
    ],
)
def test_unverified_remote_database_is_a_warning(tmp_path: Path, url: str, warned: bool) -> None:
    """The warning shows nothing of the URL."""
    result = loaded(tmp_path, f"url: {{env: URL}}, {KEYS}", {**ENVIRON, "URL": url})
    assert result.errors == []
    assert [warning.path for warning in result.warnings] == (["store.url"] if warned else [])
    assert "canary" not in str(result.warnings)


def test_url_needs_the_extra_and_a_path_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str) -> object:
        return None if name == "asyncpg" else importlib.util.find_spec(name)

    monkeypatch.setattr(models, "find_spec", find_spec)
    (error,) = loaded(tmp_path, f"url: {{env: URL}}, {KEYS}").errors
    assert (error.path, error.message) == (
        "store.url",
        "a store in PostgreSQL needs asyncpg: install from the checkout with the extra `postgres`",
    )
    assert loaded(tmp_path, f"path: store.db, {KEYS}").errors == []


@pytest.mark.parametrize("near", ["near", "keys/near"])
def test_key_in_the_folder_of_the_store_is_a_warning(tmp_path: Path, near: str) -> None:
    """A folder below it too."""
    (tmp_path / "state" / "keys").mkdir(parents=True)
    (tmp_path / "keys").mkdir()
    (tmp_path / "state" / near).write_text(ENVIRON["STORE_K1"])
    (tmp_path / "keys" / "far").write_text(ENVIRON["STORE_K2"])
    (tmp_path / "link").symlink_to("state")
    keys = f"keys: [{{id: k2, key: {{file: keys/far}}}}, {{id: k1, key: {{file: link/../state/{near}}}}}]"
    result = loaded(tmp_path, f"path: link/store.db, {keys}")
    assert result.errors == []
    (warning,) = result.warnings
    assert (warning.path, warning.message) == (
        "store.keys[1].key",
        "key k1 is in the folder of the store, so a copy of it has both: keep the key elsewhere",
    )


def test_missing_folder_of_the_store_is_a_warning(tmp_path: Path) -> None:
    """`check` may run on a machine where it is not mounted."""
    result = loaded(tmp_path, f"path: state/store.db, {KEYS}")
    assert result.errors == []
    (warning,) = result.warnings
    assert warning.path == "store.path"
    assert "its folder does not exist: create it" in warning.message


MOVES = [
    (f"store: {{path: a.db, {KEYS}}}\n", f"store: {{path: b.db, {KEYS}}}\n"),
    (f"store: {{path: a.db, {KEYS}}}\n", f"store: {{url: {{env: URL}}, {KEYS}}}\n"),
    (f"store: {{path: a.db, {KEYS}}}\n", ""),
    ("", f"store: {{path: a.db, {KEYS}}}\n"),
]


@pytest.mark.parametrize(("before", "after"), MOVES, ids=["path", "url", "removed", "added"])
def test_reload_that_moves_the_store_is_refused(tmp_path: Path, before: str, after: str) -> None:
    write(tmp_path, CRM, top=before)
    loader = Loader(tmp_path, ENVIRON)
    loaded_snapshot(loader.load())
    write(tmp_path, CRM, top=after)
    (error,) = loader.load().errors
    assert error.path == "store"
    assert error.message.startswith("needs a restart of Sidekey")
    write(tmp_path, CRM, top=before)
    loaded_snapshot(loader.load())


def test_reload_may_change_the_password_of_the_database(tmp_path: Path) -> None:
    """Another host in the file is another store."""
    pytest.importorskip("asyncpg")
    (tmp_path / "url").write_text("postgresql://svc:old@db.test/x")
    write(tmp_path, CRM, top=f"store: {{url: {{file: url}}, {KEYS}}}\n")
    loader = Loader(tmp_path, ENVIRON)
    assert tmp_path / "url" in loader.load().stamps
    (tmp_path / "url").write_text("postgresql://svc:new@db.test/x")
    result = loaded_snapshot(loader.load()).store
    assert result is not None
    assert result.url == "postgresql://svc:new@db.test/x"
    (tmp_path / "url").write_text("postgresql://svc:new@other.test/x")
    (error,) = loader.load().errors
    assert error.message.startswith("needs a restart of Sidekey")
    assert "new" not in error.message


def test_reload_may_add_keys(tmp_path: Path) -> None:
    """Their files are watched."""
    (tmp_path / "k1").write_text(ENVIRON["STORE_K1"])
    write(tmp_path, CRM, top="store: {path: a.db, keys: [{id: k1, key: {file: k1}}]}\n")
    loader = Loader(tmp_path, ENVIRON)
    first = loader.load()
    assert tmp_path / "k1" in first.stamps
    write(tmp_path, CRM, top="store: {path: a.db, keys: [{id: k2, key: {env: STORE_K2}}, {id: k1, key: {file: k1}}]}\n")
    result = loaded_snapshot(loader.load()).store
    assert result is not None
    assert result.keys == (("k2", K2), ("k1", K1))


ROTATING = (
    "crm auth: {type: oauth2, token_endpoint: 'https://a.example.com/t', client_id: c, single_live_token: true, "
    "grant: {type: refresh_token, refresh_token: {env: STORE_K1}}}"
)


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        (None, ["only one process may use this token", "only one process may use this client"]),
        (f"path: store.db, {KEYS}", ["only processes that use the file of store.path may use this"] * 2),
        (f"url: {{env: URL}}, {KEYS}", []),
    ],
    ids=["none", "a file", "PostgreSQL"],
)
def test_warning_of_unshared_credentials_depends_on_the_store(
    store: str | None, expected: list[str], tmp_path: Path
) -> None:
    """Processes on one store share such tokens."""
    write(tmp_path, ROTATING, top="" if store is None else f"store: {{{store}}}\n")
    result = load(tmp_path, ENVIRON)
    loaded_snapshot(result)
    assert [words for words in expected if not any(words in warning.message for warning in result.warnings)] == []
    assert len([warning for warning in result.warnings if ".auth." in str(warning)]) == len(expected)
