"""The second load of a config: which values of the last load without errors stay in use."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import trustme

from sidekey.config.file_stamps import stamp
from sidekey.config.load import Loader
from support.loading import CA, SECRET, TENANT, loaded_snapshot, prefix, write


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    return Loader(tmp_path, {})


def test_load_with_errors_is_not_the_previous_load(loader: Loader, tmp_path: Path) -> None:
    """The next load compares with the last one without errors, and reuses its objects."""
    write(tmp_path, f"a {prefix('a')}, {TENANT}")
    first = loaded_snapshot(loader.load()).integrations["a"]
    for text in ("version: 1\nintegrations: [", "version: 1\nintegrations: {a: {auth: 1}}\n"):
        (tmp_path / "sidekey.yaml").write_text(text)
        assert loader.load().snapshot is None
    write(tmp_path, f"a {prefix('a')}, {TENANT}", top="via: false\n")
    assert loaded_snapshot(loader.load()).integrations["a"] is first


def test_unusable_network_ca_keeps_the_previous_content(loader: Loader, tmp_path: Path) -> None:
    """For new integrations too, and no integration fails."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    write(tmp_path, f"a {prefix('a')}, {TENANT}", top=f"network: {{{CA}}}\n")
    first = loaded_snapshot(loader.load()).integrations["a"]
    (tmp_path / "ca.pem").unlink()
    write(tmp_path, f"a {prefix('a')}, {TENANT}", f"b {prefix('b')}, {TENANT}", top=f"network: {{{CA}}}\n")
    loaded = loader.load()
    assert loaded_snapshot(loaded).integrations["b"].egress.trust is first.egress.trust
    assert loaded_snapshot(loaded).integrations["a"] is first
    assert [error.path for error in loaded.of("retained")] == ["network.trusted_ca"]
    assert loaded.retained == {}


def test_unusable_network_ca_at_another_path_is_not_replaced_by_the_previous(loader: Loader, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    write(tmp_path, f"a {prefix('a')}, {TENANT}", top=f"network: {{{CA}}}\n")
    loaded_snapshot(loader.load())
    write(tmp_path, f"a {prefix('a')}, {TENANT}", top="network: {trusted_ca: {file: other.pem}}\n")
    assert not loaded_snapshot(loader.load()).integrations["a"].egress.trust.usable


def test_reasons_for_a_retained_integration_are_in_the_order_of_the_file(loader: Loader, tmp_path: Path) -> None:
    auth = "auth: {type: basic, username: {file: key}, password: {file: key}}"
    parts = "signature: {scheme: github, secret: {file: key}}, add: {query: {k: {secret: {file: key}}}}"
    (tmp_path / "key").write_text("value")
    write(tmp_path, f"a {prefix('a')}, {auth}, {parts}")
    loaded_snapshot(loader.load())
    (tmp_path / "key").unlink()
    paths = [error.path for error in loader.load().retained["a"].reasons]
    names = ("auth.username", "auth.password", "signature.secret", "add.query.k.secret")
    assert paths == [f"integrations.a.{name}" for name in names]


def test_infinite_number_in_a_changed_preset_is_an_error(loader: Loader, tmp_path: Path) -> None:
    def write_preset(number: str) -> None:
        preset = f"{{integration: a, url: 'https://a.example.com', body: {{json: {{n: {number}}}}}}}"
        write(tmp_path, f"a {prefix('a')}, {TENANT}", top=f"presets: {{p: {preset}}}\n")

    write_preset("1")
    first = loaded_snapshot(loader.load()).presets["p"]
    write_preset("9" * 400 + ".0")
    assert [(error.path, error.message) for error in loader.load().errors] == [
        ("presets.p.body.json.n", "must be a number that JSON has")
    ]
    write_preset("1")
    assert loaded_snapshot(loader.load()).presets["p"] is first


CALLERS = "callers: {billing: {token: {file: token}}}\n"


def test_unreadable_caller_token_keeps_the_previous_one(loader: Loader, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter2")
    write(tmp_path, f"a {prefix('a')}, {TENANT}", top=CALLERS)
    first = loaded_snapshot(loader.load()).callers
    (tmp_path / "token").unlink()
    for _ in range(2):
        loaded = loader.load()
        assert loaded_snapshot(loaded).callers == first
        assert [error.path for error in loaded.of("retained")] == ["callers.billing.token"]


@pytest.mark.parametrize(
    "top",
    ["callers: {billing: {token: {file: elsewhere}}}\n", "callers: {other: {token: {file: token}}}\n"],
    ids=["another place", "another caller"],
)
def test_unreadable_caller_token_at_another_path_does_not_keep_the_previous_one(
    loader: Loader, tmp_path: Path, top: str
) -> None:
    (tmp_path / "token").write_text("hunter2")
    write(tmp_path, f"a {prefix('a')}, {TENANT}", top=CALLERS)
    (digest,) = loaded_snapshot(loader.load()).callers
    (tmp_path / "token").unlink()
    write(tmp_path, f"a {prefix('a')}, {TENANT}", top=top)
    callers = loaded_snapshot(loader.load()).callers
    assert len(callers) == 1
    assert digest not in callers


def test_token_that_moved_to_another_caller_is_that_callers(loader: Loader, tmp_path: Path) -> None:
    """The previous caller has no token then, but Sidekey still checks both."""
    (tmp_path / "token").write_text("hunter2")
    write(tmp_path, f"a {prefix('a')}, {TENANT}", top=CALLERS)
    (digest,) = loaded_snapshot(loader.load()).callers
    (tmp_path / "token").unlink()
    top = "callers: {billing: {token: {file: token}}, other: {token: {insecure_value: hunter2}}}\n"
    write(tmp_path, f"a {prefix('a')}, {TENANT}", top=top)
    callers = loaded_snapshot(loader.load()).callers
    assert callers[digest].name == "other"
    assert {caller.name for caller in callers.values()} == {"billing", "other"}


@pytest.mark.parametrize(
    ("listen", "line", "keys"),
    [
        ("proxy: 127.0.0.1:8081", 2, ["listen.proxy"]),
        ("admin: 127.0.0.1:8081, metrics: 127.0.0.1:8082", 2, ["listen.admin", "listen.metrics"]),
        ("names: [sidekey.svc]", 2, ["listen.names"]),
        ("proxy: 127.0.0.1:8080", 2, []),
    ],
)
def test_changed_listener_is_an_error_at_its_key(
    loader: Loader, tmp_path: Path, listen: str, line: int, keys: list[str]
) -> None:
    """Beside other errors."""
    write(tmp_path, f"a {prefix('a')}, {TENANT}")
    loaded_snapshot(loader.load())
    write(tmp_path, f"a {prefix('a')}, {TENANT}", top=f"listen: {{{listen}}}\nvia: 1\n")
    errors = loader.load().errors
    assert [(error.line, error.path, error.message) for error in errors] == [
        *((line, key, "needs a restart of Sidekey: listeners cannot be changed while it runs") for key in keys),
        (3, "via", "must be true or false"),
    ]


def test_removed_listener_key_is_an_error_unless_a_file_is_unreadable(loader: Loader, tmp_path: Path) -> None:
    """Without the key the default applies, which is another address."""
    write(tmp_path, file="a.yaml", top="listen: {proxy: 127.0.0.1:8081}\n")
    write(tmp_path, f"a {prefix('a')}, {TENANT}", file="b.yaml")
    loaded_snapshot(loader.load())
    (tmp_path / "a.yaml").write_text("version: [")
    assert [error.path for error in loader.load().errors] == [""]
    (tmp_path / "a.yaml").unlink()
    assert [error.path for error in loader.load().errors] == ["listen.proxy"]


def test_folder_and_all_files_have_stamps(loader: Loader, tmp_path: Path) -> None:
    """Unreadable files too, and files that an unchanged integration did not read again."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    write(
        tmp_path,
        f"a {prefix('a')}, {SECRET}, {CA}",
        f"b {prefix('b')}, {SECRET}, trusted_ca: {{file: other.pem}}",
        top="callers: {billing: {token: {file: token}}}\nnetwork: {trusted_ca: {file: net.pem}}\n",
    )
    names = ("sidekey.yaml", "key", "ca.pem", "other.pem", "token", "net.pem")
    expected = {tmp_path: stamp(tmp_path), **{tmp_path / name: stamp(tmp_path / name) for name in names}}
    for _ in range(2):
        assert loader.load().stamps == expected


def test_load_with_errors_has_stamps(loader: Loader, tmp_path: Path) -> None:
    """A change of these files may correct the errors."""
    write(tmp_path, f"a {prefix('a')}, {SECRET}", "b 1", top="via: 1\n")
    (tmp_path / "other.yaml").write_text("version: [")
    assert loader.load().stamps.keys() == {
        tmp_path,
        *(tmp_path / name for name in ("sidekey.yaml", "other.yaml", "key")),
    }


def test_single_config_file_has_the_only_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an absolute path, and without the target of a link."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real.yaml").write_text("version: 1\n")
    (tmp_path / "link.yaml").symlink_to("real.yaml")
    assert Loader("link.yaml", {}).load().stamps == {tmp_path / "link.yaml": stamp(tmp_path / "real.yaml")}


@pytest.mark.parametrize("there", [True, False], ids=["changed", "gone"])
def test_replaced_objects_are_freed_without_the_collector(loader: Loader, tmp_path: Path, there: bool) -> None:
    """Frozen objects in cycles would leak."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    write(tmp_path, f"a {prefix('a')}, {SECRET}, {CA}", f"b {prefix('b')}, {TENANT}")
    freed = weakref.ref(loaded_snapshot(loader.load()).integrations["a"].egress.trust)
    assert freed() is not None
    write(tmp_path, *([f"a {prefix('other')}, {TENANT}"] if there else []), f"b {prefix('b')}, {TENANT}")
    enabled = gc.isenabled()
    gc.disable()
    try:
        loaded_snapshot(loader.load())
        assert freed() is None
    finally:
        if enabled:
            gc.enable()


def test_emptied_folder_is_the_only_error(loader: Loader, tmp_path: Path) -> None:
    """The listener that is gone with it causes no error of its own."""
    write(tmp_path, f"a {prefix('a')}, {TENANT}", top='listen: {proxy: "127.0.0.1:8081"}\n')
    first = loaded_snapshot(loader.load()).integrations["a"]
    file = tmp_path / "sidekey.yaml"
    file.rename(tmp_path / "aside")
    (error,) = loader.load().errors
    assert error.message.startswith("the folder must contain a *.yaml or *.yml file: name a config file or folder")
    (tmp_path / "aside").rename(file)
    assert loaded_snapshot(loader.load()).integrations["a"] is first
