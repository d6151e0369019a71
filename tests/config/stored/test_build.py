"""Building the content of the store beside the files of a config."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from sidekey.config.load import Loader
from sidekey.config.stored.build import StoredSource, build_draft, build_unserved
from sidekey.config.stored.rows import document_for_api
from sidekey.config.stored.secrets import SealingKeys
from sidekey.credentials.base import FixedCredential
from sidekey.credentials.fields import SecretUnreadable
from sidekey.errors import ProblemError
from sidekey.policy.addresses import NetworkOverride
from sidekey.snapshot.snapshot import Integration, Snapshot, StoredObjects
from sidekey.snapshot.status import status_of
from sidekey.store.records import CallerRow, IntegrationRow, PresetRow
from sidekey.store.sealing import KeyRing, seal
from sidekey.store.state import State
from support.certificates import private_chain
from support.loading import loaded_snapshot
from support.managed import states_of
from support.stored import (
    BASIC,
    CANARY,
    HEADERS,
    PRESENT,
    PROFILE,
    VAULT,
    chain,
    copied,
    documents,
    draft,
    ids,
    mtls,
    open_secrets,
    patched,
    previous_row,
    stored,
)

KEY = b64encode(b"1" * 32).decode()
HEAD = "version: 1\nstore: {path: store/s.db, keys: [{id: k1, key: {file: k1}}], allow_private: ['10.0.0.0/8']}\n"
OWN = "{endpoint_prefix: 'https://own.example.com', auth: {type: headers, headers: {X-A: b}}}"


class ConfigWithStore:
    """A config in a folder, with a store."""

    def __init__(self, folder: Path, text: str = "") -> None:
        self.folder = folder
        (folder / "k1").write_text(KEY)
        self.write(text)
        self.loader = Loader(folder / "sidekey.yaml", {})
        self.source = StoredSource(lambda _: None)
        self.loader.use_store(self.source)
        self.rows: dict[str, IntegrationRow] = {}
        self.presets: dict[str, PresetRow] = {}
        self.callers: dict[str, CallerRow] = {}
        self.vault = VAULT

    def write(self, text: str, head: str = HEAD) -> None:
        (self.folder / "sidekey.yaml").write_text(head + text)

    def put(self, *rows: IntegrationRow) -> None:
        self.rows = {**self.rows, **{row.id: row for row in rows}}

    def load(self, now: float = PRESENT) -> Snapshot:
        self.source.update(State(integrations=self.rows, presets=self.presets, callers=self.callers), self.vault)
        return loaded_snapshot(self.loader.load(now))

    def states(self, snapshot: Snapshot | None = None) -> dict[str, str]:
        return states_of(snapshot or self.load(), PRESENT)


@pytest.fixture
def joined(tmp_path: Path) -> ConfigWithStore:
    return ConfigWithStore(tmp_path)


def stored_content(snapshot: Snapshot) -> StoredObjects:
    assert snapshot.stored is not None
    return snapshot.stored


def first_header(integration: Integration) -> str:
    credential = integration.secrets.credential
    assert isinstance(credential, FixedCredential)
    return credential.grant.headers[0][1]


async def refusal(integration: Integration) -> str:
    """Return why there is no credential."""
    with pytest.raises(ProblemError) as raised:
        await integration.secrets.obtain()
    assert raised.value.problem.code == "credential_unavailable"
    return raised.value.problem.detail


@pytest.mark.parametrize("name", documents())
def test_every_kind_is_served_with_its_secrets(name: str, joined: ConfigWithStore) -> None:
    """It may connect to `store.allow_private` only."""
    joined.put(stored(documents()[name]))
    snapshot = joined.load()
    crm = snapshot.integrations["crm"]
    assert (joined.states(snapshot), crm.usable) == ({"crm": "ok"}, True)
    assert crm.stored
    assert crm.egress.allow_private == NetworkOverride(tuple(stored_content(snapshot).allow_private.networks))
    assert [str(network) for network in crm.egress.allow_private.networks] == ["10.0.0.0/8"]
    assert snapshot.callers == {}


def test_unchanged_integration_stays_the_same_object(joined: ConfigWithStore) -> None:
    """So its connections and tokens stay."""
    joined.write(f"integrations: {{own: {OWN}}}\n")
    joined.put(stored(BASIC, "a"), stored(HEADERS, "b"), stored(PROFILE, "c"))
    first = joined.load().integrations
    joined.put(stored({**BASIC, "description": "x"}, "a", joined.rows["a"]))
    second = joined.load().integrations
    assert second["a"] is not first["a"]
    assert [second[name] is first[name] for name in ("own", "b", "c")] == [True] * 3
    joined.write(f"via: false\nintegrations: {{own: {OWN}, other: {OWN}}}\n")
    third = joined.load().integrations
    assert [third[name] is second[name] for name in ("own", "a", "b", "c")] == [True] * 4
    joined.write("", HEAD.replace("10.0.0.0/8", "192.168.0.0/16"))
    fourth = joined.load().integrations
    assert [fourth[name] is third[name] for name in "abc"] == [False] * 3


def test_global_setting_rebuilds_only_the_rows_that_use_it(joined: ConfigWithStore) -> None:
    joined.put(stored(BASIC, "a"), stored({**BASIC, "trusted_ca": "mozilla"}, "b"))
    first = joined.load().integrations
    joined.write("", f"{HEAD}network: {{allow_private: [10.0.0.0/8]}}\nlimits: {{in_flight: 500}}\n")
    second = joined.load().integrations
    assert [second[name] is first[name] for name in "ab"] == [True, True]
    joined.write("", f"{HEAD}network: {{trusted_ca: system}}\n")
    third = joined.load().integrations
    assert [third[name] is first[name] for name in "ab"] == [False, True]
    assert third["a"].egress.trust.source == "system"


def test_lost_source_address_keeps_a_served_integration(
    joined: ConfigWithStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connections fail while the address is away, and succeed when it is back."""
    here = {"203.0.113.7"}
    monkeypatch.setattr("sidekey.config.stored.build.is_local", lambda address: str(address) in here)
    monkeypatch.setattr("sidekey.config.stored.validate.is_local", lambda _: True)
    joined.put(stored({**BASIC, "source_address": "203.0.113.7"}))
    served = joined.load().integrations["crm"]
    here.clear()
    joined.put(stored(BASIC, "other"))
    assert joined.load().integrations["crm"] is served
    joined.put(stored({**BASIC, "source_address": "203.0.113.7", "description": "edited"}))
    assert joined.states()["crm"] == "unusable"
    here.add("203.0.113.7")
    assert joined.states()["crm"] == "ok"


def test_changed_ca_file_applies_even_if_a_secret_does_not_open(joined: ConfigWithStore) -> None:
    """The previous integration would trust the previous CAs, and no log line would say so."""
    bundle = joined.folder / "ca.pem"
    joined.write("", f"{HEAD}network: {{trusted_ca: {{file: ca.pem}}}}\n")
    bundle.write_bytes(chain().root.pem)
    joined.put(stored(BASIC))
    first = joined.load().integrations["crm"]
    joined.vault = SealingKeys(VAULT.store, KeyRing({"k2": b"2" * 32}))
    assert joined.load().integrations["crm"] is first
    bundle.write_bytes(private_chain().root.pem)
    second = joined.load()
    assert second.integrations["crm"].egress.trust == second.trust != first.egress.trust
    assert joined.states(second) == {"crm": "unusable"}


@pytest.mark.parametrize("name", documents())
def test_policy_is_known_without_the_secrets(name: str, joined: ConfigWithStore) -> None:
    """So the presets of an integration can be checked against an edit that keeps its secrets."""
    row = stored(documents()[name])
    joined.put(row)
    snapshot = joined.load()
    edit = draft(document_for_api(row), previous_row(row))
    assert (edit.entered, bool(edit.kept)) == ({}, True)
    unserved = build_unserved("crm", edit.settings, edit.entered, stored_content(snapshot), PRESENT)
    served = snapshot.integrations["crm"]
    assert (unserved.policy, unserved.traits, unserved.rebuild) == (served.policy, served.traits, None)
    with pytest.raises(SecretUnreadable):
        build_draft("crm", edit, stored_content(snapshot), PRESENT)


HOOK = {"integration": "crm", "url": "https://api.example.com/v1/x", "content_type": "text/plain"}


def hook(name: str = "hook", **keys: Any) -> PresetRow:
    return PresetRow(row_id=f"row-of-{name}", id=name, version=1, document=json.dumps({**HOOK, **keys}))


def test_presets_of_files_and_store_use_integrations_of_both(joined: ConfigWithStore) -> None:
    """A preset that does not fit exists with its problem."""
    own = {"integration": "own", "url": "https://own.example.com/x"}
    joined.write(
        f"integrations: {{own: {OWN}}}\n"
        "presets: {of-file: {integration: crm, url: https://api.example.com/v1/y, content_type: text/plain}}\n"
    )
    joined.put(stored(BASIC))
    rows = [hook(), hook("by-file", **own), hook("outside", url="https://api.example.com/v2"), hook("torn", more=1)]
    rows += [hook("nobody", integration="gone"), replace(hook("changed"), verified=False)]
    joined.presets = {row.id: row for row in rows}
    snapshot = joined.load()
    problems = {name: snapshot.preset_problem(name) for name in joined.presets}
    assert {name for name, problem in problems.items() if problem} == {"outside", "torn", "nobody", "changed"}
    assert {name for name, preset in snapshot.presets.items() if not preset.invalid} == {"hook", "by-file", "of-file"}
    assert problems["nobody"] == "no integration has this ID"
    assert "more: " in problems["torn"]
    assert "something other than Sidekey changed its row" in problems["changed"]
    # A change of the integration takes the preset along, in the same snapshot.
    joined.put(stored({**BASIC, "methods": ["GET"]}, "crm", joined.rows["crm"]))
    moved = joined.load()
    assert [bool(moved.presets[name].invalid) for name in ("hook", "by-file", "of-file")] == [True, False, True]
    assert not snapshot.presets["hook"].invalid


def test_unchanged_preset_stays_the_same_object(joined: ConfigWithStore) -> None:
    """Only changed presets are built, because there may be ten thousand."""
    joined.put(stored(BASIC))
    joined.presets = {name: hook(name) for name in "abc"}
    first = joined.load().presets
    joined.presets = {**joined.presets, "a": hook("a", description="x"), "b": replace(joined.presets["b"])}
    second = joined.load().presets
    assert [second[name] is first[name] for name in "abc"] == [False, True, True]


def test_preset_of_a_file_wins_over_a_stored_one(joined: ConfigWithStore) -> None:
    """An integration of the same ID is independent of it."""
    joined.put(stored(BASIC), stored(BASIC, "hook"))
    joined.presets = {"hook": hook()}
    joined.write("presets: {hook: {integration: crm, url: https://api.example.com/v1/y, content_type: text/plain}}\n")
    snapshot = joined.load()
    assert not snapshot.presets["hook"].stored
    assert "a config file has the same preset ID" in snapshot.preset_problem("hook")
    assert joined.states(snapshot) == {"crm": "ok", "hook": "ok"}
    joined.write("")
    snapshot = joined.load()
    assert (snapshot.presets["hook"].stored, snapshot.preset_problem("hook")) == (True, "")


def resealed(row: IntegrationRow, ring: KeyRing) -> IntegrationRow:
    """Return a row as a rotation writes it."""
    purpose, values = previous_row(row).purpose, open_secrets(row).values
    assert purpose is not None
    secrets = {
        secret: replace(
            row.secrets[secret],
            sealed=seal(ring, values[at], purpose.bindings(VAULT.store, row.row_id, row.id, secret)[0]),
        )
        for at, secret in ids(row).items()
    }
    return replace(row, secrets=secrets)


@pytest.mark.parametrize("name", documents())
def test_rotated_row_stays_the_same_object(name: str, joined: ConfigWithStore) -> None:
    """So connections and tokens stay during a key rotation."""
    row = stored(documents()[name])
    joined.put(row)
    first = joined.load().integrations["crm"]
    ring = KeyRing({"k2": b"2" * 32, "k1": b"1" * 32})
    joined.vault = SealingKeys(VAULT.store, ring)
    assert joined.load().integrations["crm"] is first
    rotated = resealed(row, ring)
    assert rotated != row
    joined.put(rotated)
    assert joined.load().integrations["crm"] is first
    joined.vault = SealingKeys(VAULT.store, KeyRing({"k2": b"2" * 32}))
    assert joined.load().integrations["crm"] is first
    assert joined.states() == {"crm": "ok"}
    joined.put(stored(documents()[name], before=row))
    assert joined.load().integrations["crm"] is not first


def test_secret_opens_after_another_process_rotates_the_key(joined: ConfigWithStore) -> None:
    row, ring = stored(BASIC), KeyRing({"k2": b"2" * 32})
    joined.put(row)
    joined.vault = SealingKeys(VAULT.store, ring)
    assert joined.states() == {"crm": "unusable"}
    joined.put(resealed(row, ring))
    assert joined.states() == {"crm": "ok"}


def test_store_change_applies_while_a_file_has_errors(joined: ConfigWithStore) -> None:
    joined.write(f"integrations: {{own: {OWN}}}\n")
    joined.source.update(State(integrations=joined.rows), VAULT)
    loaded = joined.loader.load(PRESENT)
    joined.write("nonsense: 1\n")
    assert joined.loader.load(PRESENT).errors
    joined.put(stored(BASIC))
    joined.source.update(State(integrations=joined.rows), VAULT)
    snapshot = joined.loader.combine(loaded, PRESENT)
    assert sorted(snapshot.integrations) == ["crm", "own"]
    assert snapshot.integrations["own"] is loaded_snapshot(loaded).integrations["own"]


def test_integration_of_a_file_wins_over_a_stored_one(joined: ConfigWithStore) -> None:
    """The stored one is served once the file no longer has it."""
    joined.put(stored(BASIC, "own"))
    joined.write(f"integrations: {{own: {OWN}}}\n")
    snapshot = joined.load()
    assert (joined.states(snapshot), snapshot.integrations["own"].stored) == ({}, False)
    joined.write("")
    snapshot = joined.load()
    assert (joined.states(snapshot), snapshot.integrations["own"].stored) == ({"own": "ok"}, True)


async def test_error_affects_only_its_own_integration(joined: ConfigWithStore) -> None:
    """Callers get an error about the integration. Only the operator sees the reason."""
    fine, unsupported, moved, damaged = (stored(BASIC, name) for name in ("fine", "gone", "moved", "torn"))
    joined.put(
        fine,
        replace(unsupported, document=unsupported.document.replace('"basic"', '"vanished"')),
        replace(moved, document=moved.document.replace("api.example.com", "evil.example.com")),
        replace(damaged, document="{"),
        IntegrationRow(row_id="r", id="changed", version=3, verified=False),
        replace(stored(BASIC, "private"), document='{"integration":{"allow_private":["0.0.0.0/0"],"auth":{}}}'),
    )
    snapshot = joined.load()
    assert joined.states(snapshot) == {
        "fine": "ok",
        "gone": "unusable",
        "moved": "unusable",
        "torn": "unusable",
        "changed": "unusable",
        "private": "unusable",
    }
    problems = stored_content(snapshot).problems
    assert "auth.type: must be one of" in problems["gone"]
    assert "enter it again" in status_of(snapshot.integrations["moved"], PRESENT).problem
    assert "is not what this version of Sidekey saves: save it again" in problems["torn"]
    assert "something other than Sidekey changed its row: save it again" in problems["changed"]
    assert "allow_private" in problems["private"]
    assert first_header(snapshot.integrations["fine"])
    for name in ("gone", "torn", "changed", "private"):
        integration = snapshot.integrations[name]
        assert (integration.usable, integration.kind) == (False, "unknown")
        assert await refusal(integration) == "store: the integration cannot be used; an operator must look at it"
        assert integration.rebuild is not None
        with pytest.raises(SecretUnreadable):
            integration.rebuild()
    assert "enter it again" in await refusal(snapshot.integrations["moved"])
    assert CANARY not in str(problems)


def test_unusable_rows_are_not_rebuilt_after_an_edit(joined: ConfigWithStore) -> None:
    """They are rebuilt after an hour, or if a key or a file changes."""
    damaged, sealed = replace(stored(BASIC, "torn"), document="{"), stored(BASIC, "sealed")
    joined.vault = SealingKeys(VAULT.store, KeyRing({"k2": b"2" * 32}))
    joined.put(damaged, sealed)
    loaded = joined.loader.load(PRESENT)

    def after_edit(now: float) -> list[Integration]:
        joined.put(stored({**BASIC, "description": str(now)}, "other"))
        joined.source.update(State(integrations=joined.rows), joined.vault)
        snapshot = joined.loader.combine(loaded, now)
        assert joined.states(snapshot) == {"torn": "unusable", "sealed": "unusable", "other": "unusable"}
        return [snapshot.integrations[name] for name in ("torn", "sealed")]

    first, second, later = after_edit(PRESENT), after_edit(PRESENT + 1), after_edit(PRESENT + 3600)
    assert [before is after for before, after in zip(first, second, strict=True)] == [True, True]
    assert [before is after for before, after in zip(second, later, strict=True)] == [False, False]


def test_added_key_opens_sealed_secrets(joined: ConfigWithStore) -> None:
    """The row does not change."""
    joined.put(stored(BASIC))
    joined.vault = SealingKeys(VAULT.store, KeyRing({"k2": b"2" * 32}))
    assert joined.states() == {"crm": "unusable"}
    joined.vault = VAULT
    assert joined.states() == {"crm": "ok"}


def test_limit_of_the_config_applies_to_stored_integrations(joined: ConfigWithStore) -> None:
    """The row does not change."""
    joined.put(stored({**BASIC, "limits": {"in_flight": 500}}))
    assert joined.states() == {"crm": "ok"}
    joined.write("limits: {in_flight: 100}\n")
    assert "must be at most" in stored_content(joined.load()).problems["crm"]
    joined.write("")
    assert joined.states() == {"crm": "ok"}


def test_row_whose_prefix_is_no_allowed_domain_is_unusable(joined: ConfigWithStore) -> None:
    """Versions that did not refuse it have saved it. Others are served."""
    row = stored({"endpoint_prefix": "https://up.test", "auth": {"type": "headers", "headers": {"X-A": "b"}}})
    change = {"allowed_domains": ["https://other.test"], "allow_other_domains": True}
    joined.put(replace(row, document=patched(row.document, change)), stored(BASIC, "other"))
    assert joined.states() == {"crm": "unusable", "other": "ok"}


def test_changed_store_allow_private_applies_to_stored_integrations(joined: ConfigWithStore) -> None:
    """An integration that was built before must not keep networks that the operator has removed."""
    joined.put(stored(BASIC))
    assert joined.load().integrations["crm"].egress.allow_private == NetworkOverride((ip_network("10.0.0.0/8"),))
    joined.write("", HEAD.replace("10.0.0.0/8", "192.168.0.0/16"))
    assert joined.load().integrations["crm"].egress.allow_private == NetworkOverride((ip_network("192.168.0.0/16"),))


def test_status_of_missing_secret_and_expired_certificate_is_computed_on_demand(joined: ConfigWithStore) -> None:
    end = chain().leaf.certificate.not_valid_after_utc.timestamp()
    joined.put(stored(mtls(), "bank"), replace(stored(BASIC, "bare"), secrets={}))
    snapshot = joined.load(end + 1)
    assert stored_content(snapshot).problems == {"bank": "", "bare": ""}
    statuses = {name: status_of(snapshot.integrations[name], end + 1) for name in ("bank", "bare")}
    assert {name: status.status for name, status in statuses.items()} == {"bank": "unusable", "bare": "unusable"}
    assert "its client certificate expired on" in statuses["bank"].problem
    reason = "no secret is stored here: enter it"
    assert statuses["bare"].problem == f"auth.username: {reason}; auth.password: {reason}"


def test_certificate_that_is_not_valid_yet_is_unusable(joined: ConfigWithStore) -> None:
    """It is loaded again once it is valid."""
    joined.put(stored(mtls()))
    early = joined.load(PRESENT - 30 * 86_400)
    assert joined.states(early) == {"crm": "unusable"}
    assert "valid only from" in status_of(early.integrations["crm"], PRESENT).problem
    assert joined.states() == {"crm": "ok"}


def test_caller_of_a_file_wins_over_a_stored_one(joined: ConfigWithStore) -> None:
    """By name and by token. With a store and without callers, Sidekey admits nobody."""
    assert joined.load().callers == {}
    digest = {name: sha256(name.encode()).hexdigest() for name in ("a", "b", "c")}
    joined.callers = {
        "billing": CallerRow(row_id="1", id="billing", token_sha256=digest["a"], integrations=("crm",)),
        "all": CallerRow(row_id="2", id="all", token_sha256=digest["b"], integrations=None),
        "twin": CallerRow(row_id="3", id="twin", token_sha256=digest["c"], integrations=("crm",)),
    }
    joined.write(
        "callers: {all: {token: {insecure_value: x}, integrations: [own]}, own: {token: {insecure_value: c}}}\n"
    )
    callers = joined.load().callers
    assert callers is not None
    assert {caller.name: caller.integrations for caller in callers.values()} == {
        "billing": frozenset({"crm"}),
        "all": frozenset({"own"}),
        "own": frozenset(),
    }
    assert callers[bytes.fromhex(digest["a"])].lists("crm")


def test_caller_of_a_file_may_list_an_integration_that_the_store_lacks(joined: ConfigWithStore) -> None:
    """This is a warning with a store, and an error without one."""
    text = "callers: {billing: {token: {insecure_value: x}, integrations: [later]}}\n"
    joined.write(text)
    result = joined.loader.load(PRESENT)
    assert result.errors == []
    warning = "no file has an integration with this ID: create it in the store"
    assert warning in [finding.message for finding in result.warnings]
    joined.put(stored(BASIC, "later"))
    joined.load()
    assert warning not in [finding.message for finding in joined.loader.load(PRESENT).warnings]
    joined.write(text, "version: 1\n")
    assert [finding.message for finding in Loader(joined.folder / "sidekey.yaml", {}).load().errors] == [
        "no integration has this ID: add one, or remove the ID here"
    ]


MATCHED = "forward: {match_by_host: true}\nca: {hosts: [example.com]}\n"


def test_overlapping_integration_is_shadowed_by_an_older_one_or_a_file(joined: ConfigWithStore) -> None:
    """Only if a caller lists both, at the operator's hosts, with `match_by_host`."""
    # A later change of the older one makes no difference.
    first = replace(stored(BASIC, "first"), created_at=1, updated_at=9)
    second = replace(stored(BASIC, "second"), created_at=2, updated_at=2)
    joined.put(first, second)
    joined.write(MATCHED)
    assert joined.states() == {"first": "ok", "second": "ok"}
    token = sha256(b"t").hexdigest()
    joined.callers = {"one": CallerRow(row_id="1", id="one", token_sha256=token, integrations=("first", "second"))}
    snapshot = joined.load()
    assert joined.states(snapshot) == {"first": "ok", "second": "unusable"}
    assert stored_content(snapshot).problems["second"] == (
        "covers https://api.example.com/v1 as integration first does, and one caller lists both: narrow one"
    )
    assert snapshot.matching is not None
    assert snapshot.matching.at("api.example.com") == ["first"]
    api = OWN.replace("own.", "api.")
    joined.write(
        f"{MATCHED}callers: {{one: {{token: {{insecure_value: t}}, integrations: [own, first]}}}}\n"
        f"integrations: {{own: {api}}}\n"
    )
    snapshot = joined.load()
    assert joined.states(snapshot)["first"] == "unusable"
    joined.write(MATCHED.replace("[example.com]", "[]"))
    assert joined.states() == {"first": "ok", "second": "ok"}


def test_stored_integration_stops_passthrough_only_at_the_operators_hosts(joined: ConfigWithStore) -> None:
    """An editor must not block requests to other hosts."""
    joined.put(stored(BASIC), stored({**BASIC, "endpoint_prefix": "https://api.other.test"}, "other"))
    joined.write("forward: {unmatched: pass}\nca: {hosts: [example.com]}\n")
    snapshot = joined.load()
    assert snapshot.passthrough is not None
    assert snapshot.passthrough.coverage.covers("api.example.com")
    assert not snapshot.passthrough.coverage.covers("api.other.test")
    damaged = replace(stored(BASIC, "torn"), document="{")
    joined.put(damaged)
    passing = joined.load().passthrough
    assert passing is not None
    assert passing.unresolved == frozenset()


def test_stored_integration_does_not_extend_the_hosts_of_the_local_ca(joined: ConfigWithStore) -> None:
    """Only integrations of files and `ca.hosts` do."""
    joined.put(stored(BASIC))
    joined.write(f"ca: {{hosts: [in.test]}}\nintegrations: {{own: {OWN}}}\n")
    assert joined.load().ca.scope.hosts() == ["in.test", "own.example.com"]


def test_draft_is_built_from_its_new_secrets_only(joined: ConfigWithStore) -> None:
    """A draft that refers to a stored secret is unreadable."""
    row = stored(BASIC)
    joined.put(row)
    snapshot = joined.load()
    integration = build_draft("crm", draft(BASIC), stored_content(snapshot), PRESENT)
    assert first_header(integration) == first_header(snapshot.integrations["crm"])
    assert (integration.stored, integration.egress.allow_private) == (True, stored_content(snapshot).allow_private)
    document: dict[str, Any] = copied(BASIC)
    document["auth"]["password"] = {"set": True, "id": ids(row)["/auth/password"]}
    with pytest.raises(SecretUnreadable, match="send it"):
        build_draft("crm", draft(document, previous_row(row)), stored_content(snapshot), PRESENT)


def test_only_files_are_served_before_the_store_was_read(tmp_path: Path) -> None:
    joined = ConfigWithStore(tmp_path, f"integrations: {{own: {OWN}}}\n")
    snapshot = loaded_snapshot(joined.loader.load(PRESENT))
    assert (list(snapshot.integrations), snapshot.callers, stored_content(snapshot).revision) == (["own"], {}, 0)
    assert stored_content(snapshot).problems == {}
