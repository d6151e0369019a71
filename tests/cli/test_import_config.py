"""`sidekey import` and `sidekey export`."""

from __future__ import annotations

import asyncio
import getpass
import json
import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from sidekey.cli import import_config
from sidekey.config.load import Loader
from sidekey.config.stored.secrets import SealingKeys
from sidekey.config.stored.transfer import export_integration
from sidekey.config.yaml_writer import write
from sidekey.store.state import Delete, Put, State
from sidekey.store.store import Store
from support.http_get import get, wait_until
from support.postgres import Postgres
from support.sidekey_process import SidekeyProcess, run_cli, run_process
from support.stored import CANARY, open_secrets, stored
from support.stores import ENTRY, KEYS, PostgresBackend, SqliteBackend, StoreBackend, integration
from support.transfer import every_kind, fill, lasting_chain
from support.upstream import RawUpstream

TOKEN = f"sidekey_{CANARY}-of-billing"
ENVIRONMENT = {"KEY": b64encode(KEYS["k1"]).decode(), "SECRET": f"{CANARY}-env", "BILLING": TOKEN, "SHORT": "short"}
BASIC = """\
version: 1
callers:
  billing: {token: {env: BILLING}, integrations: [crm]}
integrations:
  crm:
    endpoint_prefix: https://crm.example.com/v1
    auth: {type: basic, username: svc, password: {env: SECRET}}
"""


def without_ids(document: str) -> str:
    """Remove the IDs of secrets from a document, because each store generates new ones."""
    return re.sub(r"s_[0-9a-f]{16}", "", document)


@dataclass
class Site:
    """A folder with a config that has a store."""

    place: StoreBackend
    folder: Path

    def write(self, extra: str = "", store: str = "") -> None:
        """Write the config. `extra` has further keys, and `store` further keys of the store."""
        location = "path: store.db"
        if isinstance(self.place, PostgresBackend):
            (self.folder / "url").write_text(self.place.postgres.url(self.place.schema))
            location = "url: {file: url}"
        keys = "keys: [{id: k1, key: {env: KEY}}]"
        (self.folder / "sidekey.yaml").write_text(f"version: 1\nstore: {{{location}, {keys}{store}}}\n{extra}")

    def run(self, *arguments: str, status: int = 0, environment: dict[str, str] | None = None) -> str:
        """Run a command, and return its output and errors, which must not contain a secret."""
        environment = {**(environment or ENVIRONMENT), "SIDEKEY_CONFIG": str(self.folder / "sidekey.yaml")}
        # `exec` would replace the process of the tests if it did not fail.
        start = run_process if arguments[0] == "exec" else run_cli
        result = start(*arguments, environment=environment, folder=self.folder)
        output = result.stdout + result.stderr
        assert result.returncode == status, output
        assert CANARY not in output
        assert "Traceback" not in output
        return output

    def json(self, *arguments: str, status: int = 0) -> dict[str, Any]:
        """Run a command, and return its output as JSON."""
        result: dict[str, Any] = json.loads(self.run(*arguments, "--json", status=status))
        return result

    def outcomes(self, *arguments: str, status: int = 0) -> dict[str, str]:
        """Import, and return the outcome for each ID."""
        items = self.json("import", *arguments, status=status)["items"]
        return {item["id"]: item["outcome"] for item in items}

    def state(self) -> State:
        """Return the content of the store."""
        return asyncio.run(self._state())

    async def _state(self) -> State:
        async with self.place.open(create=False) as store:
            return store.state

    def opened(self) -> dict[str, tuple[str, dict[str, str]]]:
        """Return documents and secrets of all integrations."""

        async def read() -> dict[str, tuple[str, dict[str, str]]]:
            async with self.place.open(create=False) as store:
                vault = SealingKeys(store.id, store.ring)
                rows = store.state.integrations
                return {
                    name: (without_ids(row.document), open_secrets(row, vault).values) for name, row in rows.items()
                }

        return asyncio.run(read())

    def audit(self) -> list[Any]:
        """Return the audit entries, oldest first."""

        async def read() -> list[Any]:
            async with self.place.open(create=False) as store:
                page = await store.audit_page()
                return [entry for _, entry in reversed(page.entries)]

        return asyncio.run(read())

    def dump(self) -> str:
        """Return the content of the database."""
        return str(asyncio.run(self.place.backup()))


def site_of(place: StoreBackend, folder: Path) -> Site:
    folder.mkdir(exist_ok=True)
    site = Site(place, folder)
    site.write()
    return site


@pytest.fixture(params=["sqlite", "postgres"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    if request.param == "sqlite":
        return site_of(SqliteBackend(tmp_path), tmp_path)
    postgres: Postgres = request.getfixturevalue("postgres")
    return site_of(PostgresBackend(postgres, asyncio.run(postgres.schema())), tmp_path)


@pytest.fixture
def sqlite(tmp_path: Path) -> Site:
    return site_of(SqliteBackend(tmp_path), tmp_path)


@pytest.fixture(scope="module")
def kinds() -> Iterator[dict[str, dict[str, Any]]]:
    yield {name.replace("_", "-"): document for name, document in every_kind(lasting_chain()).items()}


def write_sources(kinds: dict[str, dict[str, Any]], folder: Path) -> None:
    """Write config files with an integration of every kind, and a caller."""
    folder.mkdir()
    text = ""
    for name, document in kinds.items():
        row = stored(document, name)
        exported = export_integration(row)
        text = write({"version": 1, "integrations": {name: exported.config}})
        (folder / f"{name}.yaml").write_text(fill(text, folder, open_secrets(row).values, exported.config))
    (folder / "callers.yaml").write_text(
        "version: 1\ncallers:\n  billing: {token: {env: BILLING}, integrations: '*', presets: [welcome]}\n"
    )


def test_import_of_an_export_restores_everything(kinds: dict[str, dict[str, Any]], site: Site, tmp_path: Path) -> None:
    """The test imports every kind into another store. Secrets are only in the files that the export names."""
    write_sources(kinds, tmp_path / "files")
    assert set(site.outcomes("files").values()) == {"made"}
    original = site.opened()
    assert original.keys() == kinds.keys()
    rows = {name: stored(document, name) for name, document in kinds.items()}
    assert original == {name: (without_ids(row.document), open_secrets(row).values) for name, row in rows.items()}
    exported = site.json("export", "--output", "out")
    assert exported["files"] == [*(f"integration-{name}.yaml" for name in sorted(kinds)), "callers.yaml"]
    assert exported["left_out"] == []
    texts = {path.name: path.read_text() for path in (tmp_path / "out").glob("*.yaml")}
    assert CANARY not in str(texts)
    assert sha256(TOKEN.encode()).hexdigest() not in str(texts)
    assert CANARY not in site.dump()
    assert "PRIVATE KEY" not in site.dump() + str(texts)
    assert not [path for path in tmp_path.glob("store.db*") if CANARY.encode() in path.read_bytes()]
    # Before the files of the secrets exist, the import fails and names each of them.
    other = site_of(SqliteBackend(tmp_path / "other"), tmp_path / "other")
    refused = other.json("import", str(tmp_path / "out"), status=1)
    assert {item["outcome"] for item in refused["items"]} == {"refused"}
    assert len({(error["file"], error["line"]) for error in refused["faults"]}) == len(exported["needs"])
    assert other.state().integrations == {}
    for name, document in kinds.items():
        row = stored(document, name)
        path = tmp_path / "out" / f"integration-{name}.yaml"
        path.write_text(
            fill(path.read_text(), tmp_path / "out", open_secrets(row).values, export_integration(row).config)
        )
    (tmp_path / "out" / "secrets" / "callers").mkdir()
    (tmp_path / "out" / "secrets" / "callers" / "billing.txt").write_text(f"{TOKEN}\n")
    assert set(other.outcomes(str(tmp_path / "out")).values()) == {"made"}
    assert other.opened() == original
    (caller,), (first,) = other.state().callers.values(), site.state().callers.values()
    assert caller.presets == ("welcome",)
    assert (caller.token_sha256, caller.integrations) == (first.token_sha256, first.integrations)
    other.json("export", "--output", "out")
    assert {path.name: path.read_text() for path in (tmp_path / "other" / "out").glob("*.yaml")} == texts
    # The files equal the store, so the import writes nothing.
    revision = site.state().revision
    assert set(site.outcomes("out").values()) == {"kept"}
    assert site.state().revision == revision


def test_audit_has_an_entry_for_each_imported_object(sqlite: Site) -> None:
    """A dry run has no entry. No entry has a value."""
    (sqlite.folder / "in.yaml").write_text(BASIC)
    sqlite.run("import", "in.yaml")
    entries = [(entry.who, entry.action, entry.kind, entry.id, entry.fields) for entry in sqlite.audit()]
    assert entries == [
        (
            "command line",
            "import",
            "integration",
            "crm",
            ("/auth", "/auth/password", "/auth/username", "/endpoint_prefix"),
        ),
        ("command line", "import", "caller", "billing", ("/integrations", "token")),
    ]
    assert {entry.source for entry in sqlite.audit()} == {f"user {getpass.getuser()}"}
    row = sqlite.state().integrations["crm"]
    assert (row.version, row.updated_by) == (1, "command line")
    assert {secret.set_by for secret in row.secrets.values()} == {"command line"}
    assert [entry.row_id for entry in sqlite.audit()] == [row.row_id, sqlite.state().callers["billing"].row_id]
    (sqlite.folder / "in.yaml").write_text(BASIC.replace("svc", "other"))
    sqlite.run("import", "in.yaml", "--replace", "--dry-run")
    assert len(sqlite.audit()) == 2
    sqlite.run("import", "in.yaml", "--replace")
    assert sqlite.audit()[-1].fields == ("/auth/password", "/auth/username")
    (sqlite.folder / "in.yaml").write_text(BASIC.replace("svc", "other").replace("[crm]", "[crm], presets: [hook]"))
    sqlite.run("import", "in.yaml", "--replace")
    assert [(entry.id, entry.fields) for entry in sqlite.audit()[3:]] == [("billing", ("/presets",))]
    assert CANARY not in sqlite.dump()


def test_existing_objects_are_overwritten_only_with_replace(sqlite: Site) -> None:
    """Equal objects need no `--replace`. A changed object keeps its row."""
    path = sqlite.folder / "in.yaml"
    path.write_text(BASIC)
    assert sqlite.outcomes("in.yaml", "--dry-run") == {"crm": "made", "billing": "made"}
    assert not (sqlite.folder / "store.db").exists()
    assert sqlite.outcomes("in.yaml") == {"crm": "made", "billing": "made"}
    assert sqlite.outcomes("in.yaml") == {"crm": "kept", "billing": "kept"}
    more = BASIC + "  sms: {endpoint_prefix: 'https://sms.example.com', auth: {type: headers, headers: {X-A: b}}}\n"
    changed = more.replace("username: svc", "username: other").replace("[crm]", "[crm, sms]")
    path.write_text(changed)
    expected = {"crm": "refused", "billing": "refused", "sms": "made"}
    assert sqlite.outcomes("in.yaml", status=1) == sqlite.outcomes("in.yaml", "--dry-run", status=1) == expected
    output = sqlite.run("import", "in.yaml", status=1)
    assert "in.yaml:5:3: integrations.crm: is in the store already and differs: use --replace" in output
    assert "in.yaml:3:3: callers.billing: is in the store already" in output
    assert "made" not in output
    assert output.endswith("nothing was imported\n")
    previous = sqlite.state()
    assert previous.integrations.keys() == {"crm"}
    assert sqlite.outcomes("in.yaml", "--replace", "--dry-run") == {
        "crm": "changed",
        "billing": "changed",
        "sms": "made",
    }
    assert sqlite.state().revision == previous.revision
    output = sqlite.run("import", "in.yaml", "--replace")
    assert output.splitlines()[:3] == [
        "changed  caller billing",
        "changed  integration crm",
        "made     integration sms",
    ]
    after = sqlite.state()
    assert after.revision == previous.revision + 1
    assert (after.integrations["crm"].row_id, after.integrations["crm"].version) == (
        previous.integrations["crm"].row_id,
        2,
    )
    assert after.callers["billing"].integrations == ("crm", "sms")
    # Another secret is a difference, too.
    other = {**ENVIRONMENT, "SECRET": f"{CANARY}-other"}
    assert "crm: is in the store already" in sqlite.run("import", "in.yaml", status=1, environment=other)


INVALID_CONFIG = """\
version: 1
intergrations: {}
callers:
  short: {token: {env: SHORT}}
  unset: {token: {env: NOT_SET}}
  twice: {token: {env: BILLING}}
  again: {token: {env: BILLING}}
  Wrong: {token: {env: BILLING}}
  both: {token: bare}
integrations:
  private:
    endpoint_prefix: https://a.example.com
    allow_private: ["10.0.0.0/8"]
    limits: {in_flight: 999999}
    trusted_ca: {file: none.pem}
    auth: {type: basic, username: svc, password: {file: none.txt}}
  stars:
    endpoint_prefix: https://a.example.com
    auth: {type: basic, username: svc, password: {insecure_value: "****"}}
  keyed:
    endpoint_prefix: https://a.example.com
    auth: {type: mtls, certificate: {file: both.pem}, private_key: {file: both.pem}, allow_private_ca: true}
  unknown_kind: {auth: {type: smoke}}
  good: {endpoint_prefix: "https://b.example.com", auth: {type: headers, headers: {X-A: b}}}
  Bad Name: {}
  text: x
"""


def test_every_error_is_listed_with_location_and_remedy(sqlite: Site) -> None:
    """With an error, the command imports nothing."""
    leaf = lasting_chain().leaf
    (sqlite.folder / "both.pem").write_bytes(leaf.pem + leaf.key_as())
    (sqlite.folder / "in.yaml").write_text(INVALID_CONFIG)
    result = sqlite.json("import", "in.yaml", status=1)
    errors = {f"{error['path']}:{error['line']}": error["message"] for error in result["faults"]}
    expected = {
        "intergrations:2": "unknown key",
        "callers.short.token:4": "must have at least 16 characters in the store",
        "callers.unset.token:5": "is not set",
        "callers.again.token:7": "must differ from the token of caller twice",
        "callers.Wrong:8": "must be 1 to 63 of a-z",
        "callers.both.token:9": "a secret may not be written inline",
        "integrations.private.allow_private:13": "store.allow_private: remove this key",
        "integrations.private.limits.in_flight:14": "must be at most 10000",
        "integrations.private.trusted_ca:15": "none.pem does not exist",
        "integrations.private.auth.password:16": "none.txt does not exist",
        "integrations.stars.auth.password:19": "must not consist of *",
        "integrations.keyed.auth.certificate:22": "write pem, which takes both",
        "integrations.keyed.auth.private_key:22": "write pem, which takes both",
        "integrations.unknown_kind.auth.type:23": "must be one of",
        "integrations.?:25": "must be 1 to 63 of a-z",
        "integrations.text:26": "must be a mapping",
    }
    assert errors.keys() == expected.keys()
    assert len(result["faults"]) == len(errors)
    for location, text in expected.items():
        assert text in errors[location], location
    outcomes = {item["id"]: item["outcome"] for item in result["items"]}
    assert outcomes.pop("good") == outcomes.pop("twice") == "made"
    assert set(outcomes.values()) == {"refused"}
    assert outcomes.keys() == {"short", "unset", "again", "both", "private", "stars", "keyed", "unknown_kind", "text"}
    assert not result["done"]
    assert sqlite.state().rows == {}
    assert "none.yaml does not exist" in sqlite.run("import", "none.yaml", status=1)


def test_integration_of_a_file_takes_precedence_with_a_warning(sqlite: Site) -> None:
    """A config may be imported into its own store. The file takes precedence until its integration is removed."""
    sqlite.write(BASIC.removeprefix("version: 1\n") + "network: {allow_private: ['10.0.0.0/8']}\n")
    output = sqlite.run("import", "sidekey.yaml")
    assert (
        "integrations.crm: a config file in use has this ID too: the imported one is used once you remove it" in output
    )
    assert "callers.billing: a config file in use has this caller too" in output
    assert "network.allow_private: does not apply to stored integrations" in output
    assert "is not imported" not in output
    assert sqlite.state().integrations.keys() == {"crm"}
    listed = json.loads(sqlite.run("list", "--json"))
    assert [(item["id"], item["source"], item["status"]) for item in listed] == [("crm", "file", "unknown")]
    # The command reports keys of another file that it does not import.
    (sqlite.folder / "in.yaml").write_text(BASIC + "log: {level: debug}\n")
    output = sqlite.run("import", "in.yaml")
    assert "in.yaml:8:1: log: is not imported: only integrations, presets and callers are" in output


def test_token_of_another_caller_is_refused(sqlite: Site) -> None:
    """The other caller may be in a file or in the store."""
    sqlite.write("callers: {web: {token: {env: BILLING}}}\n")
    (sqlite.folder / "in.yaml").write_text(BASIC)
    assert "must differ from the token of caller web" in sqlite.run("import", "in.yaml", status=1)
    sqlite.write()
    sqlite.run("import", "in.yaml")
    (sqlite.folder / "in.yaml").write_text(BASIC.replace("billing:", "web:"))
    assert "must differ from the token of caller billing" in sqlite.run("import", "in.yaml", status=1)


def test_overlapping_integrations_of_one_caller_are_refused(sqlite: Site) -> None:
    """Integrations of one caller must not overlap with `match_by_host`."""
    sqlite.write("forward: {match_by_host: true}\nca: {hosts: [example.com]}\n")
    second = BASIC.replace("[crm]", "[crm, second]") + BASIC.partition("integrations:\n")[2].replace("crm:", "second:")
    (sqlite.folder / "in.yaml").write_text(second)
    output = sqlite.run("import", "in.yaml", status=1)
    assert "in.yaml:8:3: integrations.second: integrations crm and second would both cover" in output
    assert sqlite.outcomes("in.yaml", "--dry-run", status=1) == {"billing": "made", "crm": "made", "second": "refused"}
    (sqlite.folder / "in.yaml").write_text(second.replace("[crm, second]", "[crm]"))
    sqlite.run("import", "in.yaml")
    (sqlite.folder / "in.yaml").write_text(second)
    output = sqlite.run("import", "in.yaml", "--replace", status=1)
    assert "in.yaml:3:3: callers.billing: integrations crm and second would both cover" in output


def test_altered_rows_are_overwritten_except_callers(sqlite: Site) -> None:
    """An altered row of a caller must be deleted first, because it grants access."""
    (sqlite.folder / "in.yaml").write_text(BASIC)
    sqlite.run("import", "in.yaml")
    asyncio.run(sqlite.place.sql("UPDATE sidekey_rows SET body = '{}'"))
    exported = sqlite.json("export", "--output", "out", status=1)
    assert exported["left_out"] == [
        "integration crm: something other than Sidekey changed its row: save it again, or delete it",
        "caller billing: its row was altered: delete it",
    ]
    assert sqlite.outcomes("in.yaml", "--replace", status=1) == {"crm": "changed", "billing": "refused"}
    (sqlite.folder / "in.yaml").write_text(
        BASIC.replace("  billing: {token: {env: BILLING}, integrations: [crm]}", "  {}")
    )
    assert sqlite.outcomes("in.yaml", "--replace") == {"crm": "changed"}
    assert sqlite.opened()["crm"][1] == {"/auth/username": "svc", "/auth/password": f"{CANARY}-env"}


def test_large_ca_is_refused(sqlite: Site) -> None:
    """The API could not accept the document in an edit."""
    (sqlite.folder / "ca.pem").write_bytes(b"x" * (600 << 10) + b"\n" + lasting_chain().root.pem)
    (sqlite.folder / "in.yaml").write_text(BASIC.replace("    auth:", "    trusted_ca: {file: ca.pem}\n    auth:"))
    assert "integrations.crm: must have at most 512 KiB in the store" in sqlite.run("import", "in.yaml", status=1)


def test_concurrent_change_cancels_the_import(sqlite: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store compares the previous version of each row in one commit."""
    (sqlite.folder / "in.yaml").write_text(BASIC)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    loader = Loader(sqlite.folder / "sidekey.yaml")
    loaded = loader.load()
    commit = Store.commit

    async def commit_late(store: Store, *arguments: Any) -> State:
        async with sqlite.place.open() as other:
            await commit(other, [Put(integration("crm"), None)], ENTRY)
        return await commit(store, *arguments)

    monkeypatch.setattr(Store, "commit", commit_late)
    with pytest.raises(import_config.ImportFailed, match="nothing was imported: meanwhile crm exists already"):
        import_config.import_config(loader, loaded, import_config.ImportOptions(sqlite.folder / "in.yaml", ENVIRONMENT))
    assert sqlite.state().callers == {}


async def test_running_process_uses_imported_objects(tmp_path: Path) -> None:
    head = 'version: 1\nlisten: {{proxy: "127.0.0.1:{proxy}", admin: "127.0.0.1:{admin}"}}\n'
    store = "store: {path: store.db, keys: [{id: k1, key: {env: KEY}}], allow_private: ['127.0.0.0/8']}\n"
    hosts = "network: {hosts: {crm.test: ['127.0.0.1']}}\n"
    async with RawUpstream() as upstream:
        with SidekeyProcess(store + hosts, tmp_path, head=head, environment=ENVIRONMENT) as child:
            text = BASIC.replace("https://crm.example.com", f"http://crm.test:{upstream.port}")
            (tmp_path / "in.yaml").write_text(text)
            command = ("import", str(tmp_path / "in.yaml"), "--config", str(child.config))
            result = await asyncio.to_thread(run_process, *command, environment=ENVIRONMENT)
            assert result.returncode == 0, result.stderr

            def is_served() -> bool:
                return get(child.proxy_port, "/i/crm/x", {"Sidekey-Token": TOKEN}).status == 200

            await asyncio.to_thread(wait_until, is_served)
            listed = await asyncio.to_thread(
                run_process, "list", "--config", str(child.config), environment=ENVIRONMENT
            )
            assert "\ncrm  basic  http://crm.test:" in listed.stdout
            assert await asyncio.to_thread(child.stop) == 0
    (request,) = upstream.requests
    assert request.target == b"/v1/x"
    assert request.values(b"authorization") == [b"Basic " + b64encode(f"svc:{CANARY}-env".encode())]
    assert CANARY not in "\n".join(child.lines)


def test_export_prints_one_config(sqlite: Site) -> None:
    (sqlite.folder / "in.yaml").write_text(BASIC.replace("[crm]", "[crm, sms]"))
    sqlite.run("import", "in.yaml")
    config = ("--config", str(sqlite.folder / "sidekey.yaml"))
    result = run_cli("export", *config, environment=ENVIRONMENT)
    assert result.returncode == 0
    first, _, rest = result.stdout.partition("\n")
    assert first == ("# Written by sidekey export: integrations, presets and callers of the store, without secrets")
    assert rest == (
        "# Write each secret into its file, below the folder of this one:\n"
        "#   secrets/crm.auth.username.txt\n"
        "#   secrets/crm.auth.password.txt\n"
        "#   secrets/callers/billing.txt\n"
        "version: 1\n"
        "callers:\n"
        "  billing:\n"
        "    token:\n"
        "      file: secrets/callers/billing.txt\n"
        "    integrations:\n"
        "      - crm\n"
        "      - sms\n"
        "integrations:\n"
        "  crm:\n"
        "    endpoint_prefix: https://crm.example.com/v1\n"
        "    auth:\n"
        "      type: basic\n"
        "      username:\n"
        "        file: secrets/crm.auth.username.txt\n"
        "      password:\n"
        "        file: secrets/crm.auth.password.txt\n"
    )
    assert result.stderr == "caller billing: it lists sms, not in this export; without a store, that is an error\n"
    for option in ("--json", "--replace"):
        assert "need --output" in sqlite.run("export", option, status=2)
    assert "already has files with these names" in "".join(
        sqlite.run("export", "--output", "out", status=status) for status in (0, 1)
    )


HOOKS = """\
presets:
  hook:
    integration: crm
    url: https://crm.example.com/v1/x
    parameters: {user: {type: text}}
    body: {json: {z: "{{user}}", a: 1.5}}
"""


def test_check_warns_of_exported_address_that_only_the_store_allows(sqlite: Site) -> None:
    """`store.allow_private` does not apply to files."""
    sqlite.write(store=", allow_private: ['127.0.0.0/8']")
    (sqlite.folder / "in.yaml").write_text(BASIC.replace("crm.example.com", "127.0.0.1"))
    sqlite.run("import", "in.yaml")
    sqlite.run("export", "--output", "out")
    secrets = {"crm.auth.username.txt": "svc", "crm.auth.password.txt": ENVIRONMENT["SECRET"]}
    for name, text in {**secrets, "callers/billing.txt": TOKEN}.items():
        secret = sqlite.folder / "out" / "secrets" / name
        secret.parent.mkdir(parents=True, exist_ok=True)
        secret.write_text(text)
        secret.chmod(0o600)
    output = sqlite.run("check", "--config", str(sqlite.folder / "out"))
    assert "crm.endpoint_prefix: 127.0.0.1 is not a global address" in output
    assert sqlite.outcomes("out") == {"crm": "kept", "billing": "kept"}


def test_presets_are_imported_and_exported_with_their_integrations(sqlite: Site) -> None:
    (sqlite.folder / "in.yaml").write_text(BASIC.replace("[crm]", "[crm], presets: [hook, later]") + HOOKS)
    output = sqlite.run("import", "in.yaml")
    assert "made     preset hook" in output
    assert "callers.billing.presets[1]: no preset has this ID yet" in output
    row = sqlite.state().presets["hook"]
    assert json.loads(row.document)["body"] == {"json": {"z": "{{user}}", "a": 1.5}}
    assert ("import", "preset", "hook") in [(entry.action, entry.kind, entry.id) for entry in sqlite.audit()]
    assert sqlite.outcomes("in.yaml") == {"crm": "kept", "hook": "kept", "billing": "kept"}
    listed = json.loads(sqlite.run("preset", "list", "--json"))
    assert [(item["id"], item["source"], item["status"]) for item in listed] == [("hook", "store", "unknown")]
    assert "POST https://crm.example.com/v1/x" in sqlite.run("preset", "preview", "hook", "--data", '{"user": "a"}')
    sqlite.run("export", "--output", "out")
    assert sorted(path.name for path in (sqlite.folder / "out").iterdir()) == [
        "callers.yaml",
        "integration-crm.yaml",
        "preset-hook.yaml",
    ]
    assert (sqlite.folder / "out" / "preset-hook.yaml").read_text() == (
        "# Written by sidekey export: preset hook\nversion: 1\npresets:\n  hook:\n    integration: crm\n"
        "    url: https://crm.example.com/v1/x\n    parameters:\n      user:\n"
        "        type: text\n    body:\n      json:\n        z: '{{user}}'\n        a: 1.5\n"
    )
    (sqlite.folder / "in.yaml").write_text(f"version: 1\n{HOOKS}".replace("1.5", "2"))
    output = sqlite.run("import", "in.yaml", status=1)
    assert "presets.hook: is in the store already and differs: use --replace" in output
    assert sqlite.outcomes("in.yaml", "--replace") == {"hook": "changed"}
    assert sqlite.state().presets["hook"].version == 2


def test_preset_that_its_integration_does_not_allow_is_refused(sqlite: Site) -> None:
    """An integration that would not allow an existing preset is refused, too."""

    def errors(text: str, *arguments: str) -> str:
        (sqlite.folder / "in.yaml").write_text(text)
        return sqlite.run("import", "in.yaml", *arguments, status=1)

    outside = HOOKS.replace("example.com/v1/x", "example.com/v2/x")
    assert "in.yaml:11:10: presets.hook.url: must be allowed by integration crm" in errors(BASIC + outside)
    assert "presets.hook.integration: no integration has this ID" in errors(f"version: 1\n{HOOKS}")
    # An error in the integration is reported only there.
    output = errors(BASIC.replace("username: svc", "username: 7") + HOOKS)
    assert ("integrations.crm.auth.username" in output, "presets.hook" in output) == (True, False)
    assert "presets.hook: must be a mapping" in errors(f"{BASIC}presets: {{hook: 7}}\n")
    assert "presets.?: must be 1 to 63 of a-z" in errors(f"{BASIC}presets: {{'Not one': 7}}\n")
    assert sqlite.state().presets == {}
    (sqlite.folder / "in.yaml").write_text(BASIC + HOOKS)
    sqlite.run("import", "in.yaml")
    moved = BASIC.replace("example.com/v1", "example.com/v2")
    assert "integrations.crm: preset hook uses it and would become invalid: must be allowed" in errors(
        moved, "--replace"
    )
    (sqlite.folder / "in.yaml").write_text(moved + outside)
    sqlite.run("import", "in.yaml", "--replace")


def test_shadowed_preset_and_preset_without_its_integration_are_reported(sqlite: Site) -> None:
    (sqlite.folder / "in.yaml").write_text(BASIC + HOOKS)
    sqlite.run("import", "in.yaml")
    file_config = BASIC.replace("version: 1\n", "") + HOOKS
    sqlite.write(file_config)
    output = sqlite.run("import", "in.yaml")
    assert "presets.hook: a config file in use has this ID too: the imported one is used once you remove it" in output

    async def delete() -> None:
        async with sqlite.place.open() as store:
            await store.commit([Delete(store.state.integrations["crm"], 1)], ENTRY)

    asyncio.run(delete())
    sqlite.write()
    output = sqlite.run("export")
    assert "preset hook: its integration crm is not in this export; without a store, that is an error" in output
    assert "unusable: no integration has this ID" in sqlite.run("preset", "list")


def test_commands_find_stored_integrations(sqlite: Site) -> None:
    (sqlite.folder / "in.yaml").write_text(BASIC)
    sqlite.run("import", "in.yaml")
    assert "\ncrm  basic  https://crm.example.com/v1  unknown\n" in sqlite.run("list")
    assert "allowed      by https://crm.example.com/v1" in sqlite.run("explain", "crm", "/x")
    assert "http://crm:PUT-THE-CALLERS-TOKEN-HERE@" in sqlite.run("env", "crm", "--shell", "docker")
    assert "integrations.crm.test: this key is missing" in sqlite.run("test", "crm", status=1)
    assert "no integration has this ID" in sqlite.run("explain", "none", "/x", status=2)
    assert sqlite.run("check").endswith("ok: 0 integrations; of the store: sidekey store verify\n")
    sqlite.write("integrations: {crm: {endpoint_prefix: 'https://a.test', auth: {type: headers, headers: {A: b}}}}\n")
    assert "\ncrm  headers  https://a.test  unknown  A: b\n" in sqlite.run("list")

    sqlite.write()
    assert "\ncrm  basic  https://crm.example.com/v1  unknown\n" in sqlite.run("list")
    asyncio.run(sqlite.place.sql("UPDATE sidekey_rows SET body = '{}'"))
    assert "\ncrm  unknown  -     unusable  something other than Sidekey changed its row" in sqlite.run("list")
    (listed,) = json.loads(sqlite.run("list", "--json"))
    assert (listed["status"], listed["source"], listed["usable"]) == ("unusable", "store", False)


def test_every_command_names_a_stored_overlap(sqlite: Site) -> None:
    """Two operators saved the integrations concurrently."""
    other = BASIC.replace("crm:", "second:").replace("[crm]", "[crm, second]")
    for text in (BASIC, other):
        (sqlite.folder / "in.yaml").write_text(text)
        sqlite.run("import", "in.yaml", "--replace")
    sqlite.write("forward: {match_by_host: true}\nca: {hosts: [example.com]}\n")
    names = {item["id"]: item["status"] for item in json.loads(sqlite.run("list", "--json"))}
    assert sorted(names.values()) == ["unknown", "unusable"]
    (unserved,) = [name for name, status in names.items() if status == "unusable"]
    for command in (
        ("explain", unserved, "/x"),
        ("env", unserved),
        ("test", unserved),
        ("exec", unserved, "--", "true"),
    ):
        assert f"integration {unserved} of the store is not served: covers https" in sqlite.run(*command, status=1)


def test_config_without_objects_has_nothing_to_import(sqlite: Site) -> None:
    (sqlite.folder / "in.yaml").write_text("version: 1\n")
    assert sqlite.run("import", "in.yaml") == "nothing to import: it has no integrations, no presets and no callers\n"


@pytest.mark.parametrize("command", [("import", "x.yaml"), ("export",)])
def test_config_without_a_store_is_an_error(command: tuple[str, ...], sqlite: Site) -> None:
    (sqlite.folder / "sidekey.yaml").write_text("version: 1\n")
    assert "store: the config has no store: add it" in sqlite.run(*command, status=1)
    (sqlite.folder / "sidekey.yaml").write_text("version: 2\n")
    assert "version: must be 1" in sqlite.run(*command, status=1)
