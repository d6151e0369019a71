"""Loading a config again: what the config as a whole keeps of the last good load."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import trustme

from sidekey.config.file_stamps import stamp
from sidekey.config.load import Loader
from support.loading import CA, SECRET, TENANT, good, prefix, write


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    return Loader(tmp_path, {})


def test_errors_change_nothing(loader: Loader, tmp_path: Path) -> None:
    """What was good before is compared with again, and is the same object still."""
    write(tmp_path, f"a {prefix('a')}, {TENANT}")
    first = good(loader.load()).integrations["a"]
    for text in ("version: 1\nintegrations: [", "version: 1\nintegrations: {a: {auth: 1}}\n"):
        (tmp_path / "sidekey.yaml").write_text(text)
        assert loader.load().snapshot is None
    write(tmp_path, f"a {prefix('a')}, {TENANT}", top="via: false\n")
    assert good(loader.load()).integrations["a"] is first


def test_a_network_ca_that_became_unusable_stays_what_it_was(loader: Loader, tmp_path: Path) -> None:
    """For integrations that are new as well; none of them failed."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    write(tmp_path, f"a {prefix('a')}, {TENANT}", top=f"network: {{{CA}}}\n")
    first = good(loader.load()).integrations["a"]
    (tmp_path / "ca.pem").unlink()
    write(tmp_path, f"a {prefix('a')}, {TENANT}", f"b {prefix('b')}, {TENANT}", top=f"network: {{{CA}}}\n")
    loaded = loader.load()
    assert good(loaded).integrations["b"].trust is first.trust
    assert good(loaded).integrations["a"] is first
    assert [error.path for error in loaded.of("unreadable")] == ["network.trusted_ca"]
    assert loaded.retained == {}


def test_a_network_ca_that_is_named_again_is_as_at_start(loader: Loader, tmp_path: Path) -> None:
    """The former file is trusted no more."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    write(tmp_path, f"a {prefix('a')}, {TENANT}", top=f"network: {{{CA}}}\n")
    good(loader.load())
    write(tmp_path, f"a {prefix('a')}, {TENANT}", top="network: {trusted_ca: {file: other.pem}}\n")
    assert not good(loader.load()).integrations["a"].trust.usable


def test_reasons_for_a_kept_integration_are_in_the_order_of_the_file(loader: Loader, tmp_path: Path) -> None:
    """As all findings are, whichever part is read first."""
    auth = "auth: {type: basic, username: {file: key}, password: {file: key}}"
    parts = "signature: {scheme: github, secret: {file: key}}, add: {query: {k: {secret: {file: key}}}}"
    (tmp_path / "key").write_text("value")
    write(tmp_path, f"a {prefix('a')}, {auth}, {parts}")
    good(loader.load())
    (tmp_path / "key").unlink()
    paths = [error.path for error in loader.load().retained["a"].reasons]
    names = ("auth.username", "auth.password", "signature.secret", "add.query.k.secret")
    assert paths == [f"integrations.a.{name}" for name in names]


def test_a_number_that_json_lacks_is_an_error_of_a_preset_that_was_good(loader: Loader, tmp_path: Path) -> None:
    """The load reports its place, and does not fail."""

    def write_preset(number: str) -> None:
        preset = f"{{integration: a, url: 'https://a.example.com', body: {{json: {{n: {number}}}}}}}"
        write(tmp_path, f"a {prefix('a')}, {TENANT}", top=f"presets: {{p: {preset}}}\n")

    write_preset("1")
    first = good(loader.load()).presets["p"]
    write_preset("9" * 400 + ".0")
    assert [(error.path, error.message) for error in loader.load().errors] == [
        ("presets.p.body.json.n", "must be a number that JSON has")
    ]
    write_preset("1")
    assert good(loader.load()).presets["p"] is first


CALLERS = "callers: {billing: {token: {file: token}}}\n"


def test_a_callers_token_that_cannot_be_read_stays_what_it_was(loader: Loader, tmp_path: Path) -> None:
    """A mount that is late shuts nobody out; it is told all the same."""
    (tmp_path / "token").write_text("hunter2")
    write(tmp_path, f"a {prefix('a')}, {TENANT}", top=CALLERS)
    first = good(loader.load()).callers
    (tmp_path / "token").unlink()
    for _ in range(2):
        loaded = loader.load()
        assert good(loaded).callers == first
        assert [error.path for error in loaded.of("unreadable")] == ["callers.billing.token"]


@pytest.mark.parametrize(
    "top",
    ["callers: {billing: {token: {file: elsewhere}}}\n", "callers: {other: {token: {file: token}}}\n"],
    ids=["another place", "another caller"],
)
def test_an_old_token_is_not_kept_for_what_is_written_again(loader: Loader, tmp_path: Path, top: str) -> None:
    """It is the caller's own, and read from the same place."""
    (tmp_path / "token").write_text("hunter2")
    write(tmp_path, f"a {prefix('a')}, {TENANT}", top=CALLERS)
    (digest,) = good(loader.load()).callers
    (tmp_path / "token").unlink()
    write(tmp_path, f"a {prefix('a')}, {TENANT}", top=top)
    found = good(loader.load()).callers
    assert len(found) == 1
    assert digest not in found


def test_an_old_token_that_another_caller_has_now_is_that_callers(loader: Loader, tmp_path: Path) -> None:
    """The former one stays without any, and both are judged."""
    (tmp_path / "token").write_text("hunter2")
    write(tmp_path, f"a {prefix('a')}, {TENANT}", top=CALLERS)
    (digest,) = good(loader.load()).callers
    (tmp_path / "token").unlink()
    top = "callers: {billing: {token: {file: token}}, other: {token: {insecure_value: hunter2}}}\n"
    write(tmp_path, f"a {prefix('a')}, {TENANT}", top=top)
    found = good(loader.load()).callers
    assert found[digest].name == "other"
    assert {caller.name for caller in found.values()} == {"billing", "other"}


@pytest.mark.parametrize(
    ("listen", "line", "keys"),
    [
        ("proxy: 127.0.0.1:8081", 2, ["listen.proxy"]),
        ("admin: 127.0.0.1:8081, metrics: 127.0.0.1:8082", 2, ["listen.admin", "listen.metrics"]),
        ("names: [sidekey.svc]", 2, ["listen.names"]),
        ("proxy: 127.0.0.1:8080", 2, []),
    ],
)
def test_a_listener_cannot_be_changed(loader: Loader, tmp_path: Path, listen: str, line: int, keys: list[str]) -> None:
    """The error has the place of its key; other errors are told beside it."""
    write(tmp_path, f"a {prefix('a')}, {TENANT}")
    good(loader.load())
    write(tmp_path, f"a {prefix('a')}, {TENANT}", top=f"listen: {{{listen}}}\nvia: 1\n")
    errors = loader.load().errors
    assert [(error.line, error.path, error.message) for error in errors] == [
        *((line, key, "needs a restart of Sidekey: listeners cannot be changed while it runs") for key in keys),
        (3, "via", "must be true or false"),
    ]


def test_a_listener_that_is_left_out_is_changed_as_well(loader: Loader, tmp_path: Path) -> None:
    """The default holds then, which is another; but of a file that could not be read nothing is known."""
    write(tmp_path, file="a.yaml", top="listen: {proxy: 127.0.0.1:8081}\n")
    write(tmp_path, f"a {prefix('a')}, {TENANT}", file="b.yaml")
    good(loader.load())
    (tmp_path / "a.yaml").write_text("version: [")
    assert [error.path for error in loader.load().errors] == [""]
    (tmp_path / "a.yaml").unlink()
    assert [error.path for error in loader.load().errors] == ["listen.proxy"]


def test_everything_that_was_read_has_a_stamp(loader: Loader, tmp_path: Path) -> None:
    """The folder, too, and what could not be read; again where nothing was read again."""
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


def test_stamps_are_there_where_there_are_errors(loader: Loader, tmp_path: Path) -> None:
    """What repairs them is one of these files."""
    write(tmp_path, f"a {prefix('a')}, {SECRET}", "b 1", top="via: 1\n")
    (tmp_path / "other.yaml").write_text("version: [")
    assert loader.load().stamps.keys() == {
        tmp_path,
        *(tmp_path / name for name in ("sidekey.yaml", "other.yaml", "key")),
    }


def test_a_single_file_has_its_stamp_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its path is absolute, and what it links to is not told."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real.yaml").write_text("version: 1\n")
    (tmp_path / "link.yaml").symlink_to("real.yaml")
    assert Loader("link.yaml", {}).load().stamps == {tmp_path / "link.yaml": stamp(tmp_path / "real.yaml")}


@pytest.mark.parametrize("there", [True, False], ids=["changed", "gone"])
def test_what_was_replaced_is_freed_with_its_snapshot(loader: Loader, tmp_path: Path, there: bool) -> None:
    """Without the collector: what it alone could free would stay for ever once it is frozen."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    write(tmp_path, f"a {prefix('a')}, {SECRET}, {CA}", f"b {prefix('b')}, {TENANT}")
    freed = weakref.ref(good(loader.load()).integrations["a"].trust)
    assert freed() is not None
    write(tmp_path, *([f"a {prefix('other')}, {TENANT}"] if there else []), f"b {prefix('b')}, {TENANT}")
    enabled = gc.isenabled()
    gc.disable()
    try:
        good(loader.load())
        assert freed() is None
    finally:
        if enabled:
            gc.enable()


def test_a_folder_that_was_emptied_is_an_error_and_no_other(loader: Loader, tmp_path: Path) -> None:
    """The listeners that it told of are not said to have moved."""
    write(tmp_path, f"a {prefix('a')}, {TENANT}", top='listen: {proxy: "127.0.0.1:8081"}\n')
    first = good(loader.load()).integrations["a"]
    file = tmp_path / "sidekey.yaml"
    file.rename(tmp_path / "aside")
    (error,) = loader.load().errors
    assert error.message.startswith("the folder must contain a *.yaml or *.yml file: name a config file or folder")
    (tmp_path / "aside").rename(file)
    assert good(loader.load()).integrations["a"] is first
