"""What a store says beside the files of a config: one error takes down one integration, and what is the same stays."""

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
from sidekey.config.stored.rows import show_document
from sidekey.config.stored.secrets import SealingKeys
from sidekey.credentials.base import FixedCredential
from sidekey.credentials.fields import SecretUnreadable
from sidekey.errors import ProblemError
from sidekey.policy.addresses import NetworkOverride
from sidekey.snapshot.snapshot import Integration, Snapshot, Stored
from sidekey.snapshot.status import status_of
from sidekey.store.records import CallerRow, IntegrationRow, PresetRow
from sidekey.store.sealing import KeyRing, seal
from sidekey.store.state import State
from support.certificates import private_chain
from support.loading import good
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
    former,
    ids,
    mtls,
    opened,
    stored,
)

KEY = b64encode(b"1" * 32).decode()
HEAD = "version: 1\nstore: {path: store/s.db, keys: [{id: k1, key: {file: k1}}], allow_private: ['10.0.0.0/8']}\n"
OWN = "{endpoint_prefix: 'https://own.example.com', auth: {type: headers, headers: {X-A: b}}}"


class Joined:
    """A config in a folder, and a store beside it."""

    def __init__(self, folder: Path, text: str = "") -> None:
        self.folder = folder
        (folder / "k1").write_text(KEY)
        self.write(text)
        self.loader = Loader(folder / "sidekey.yaml", {})
        self.source = StoredSource(lambda _: None)
        self.loader.follow(self.source)
        self.rows: dict[str, IntegrationRow] = {}
        self.presets: dict[str, PresetRow] = {}
        self.callers: dict[str, CallerRow] = {}
        self.vault = VAULT

    def write(self, text: str, head: str = HEAD) -> None:
        (self.folder / "sidekey.yaml").write_text(head + text)

    def put(self, *rows: IntegrationRow) -> None:
        self.rows = {**self.rows, **{row.id: row for row in rows}}

    def load(self, now: float = PRESENT) -> Snapshot:
        self.source.take(State(integrations=self.rows, presets=self.presets, callers=self.callers), self.vault)
        return good(self.loader.load(now))

    def states(self, snapshot: Snapshot | None = None) -> dict[str, str]:
        return states_of(snapshot or self.load(), PRESENT)


@pytest.fixture
def joined(tmp_path: Path) -> Joined:
    return Joined(tmp_path)


def said(snapshot: Snapshot) -> Stored:
    assert snapshot.stored is not None
    return snapshot.stored


def sent(integration: Integration) -> str:
    credential = integration.secrets.credential
    assert isinstance(credential, FixedCredential)
    return credential.grant.headers[0][1]


async def refusal(integration: Integration) -> str:
    """Why there is no credential."""
    with pytest.raises(ProblemError) as raised:
        await integration.secrets.obtain()
    assert raised.value.problem.code == "credential_unavailable"
    return raised.value.problem.detail


@pytest.mark.parametrize("name", documents())
def test_every_kind_is_served(name: str, joined: Joined) -> None:
    """With its secrets opened, and where a store's may go."""
    joined.put(stored(documents()[name]))
    snapshot = joined.load()
    crm = snapshot.integrations["crm"]
    assert (joined.states(snapshot), crm.usable) == ({"crm": "ok"}, True)
    assert crm.stored
    assert crm.allow_private == NetworkOverride(tuple(said(snapshot).allow_private.networks))
    assert [str(each) for each in crm.allow_private.networks] == ["10.0.0.0/8"]
    assert snapshot.callers == {}


def test_what_is_the_same_is_the_same_object_whichever_source_changed(joined: Joined) -> None:
    """Its connections and tokens go on."""
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


def test_a_global_setting_rebuilds_the_rows_that_use_it_alone(joined: Joined) -> None:
    joined.put(stored(BASIC, "a"), stored({**BASIC, "trusted_ca": "mozilla"}, "b"))
    first = joined.load().integrations
    joined.write("", f"{HEAD}network: {{allow_private: [10.0.0.0/8]}}\nlimits: {{in_flight: 500}}\n")
    second = joined.load().integrations
    assert [second[name] is first[name] for name in "ab"] == [True, True]
    joined.write("", f"{HEAD}network: {{trusted_ca: system}}\n")
    third = joined.load().integrations
    assert [third[name] is first[name] for name in "ab"] == [False, True]
    assert third["a"].trust.source == "system"


def test_a_source_address_that_goes_takes_down_nothing_that_is_served(
    joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit of another row neither: connections fail while it is away, and succeed once it is back."""
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


def test_other_cas_are_never_ignored_because_a_secret_does_not_open_now(joined: Joined) -> None:
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
    assert second.integrations["crm"].trust == second.trust != first.trust
    assert joined.states(second) == {"crm": "unusable"}


@pytest.mark.parametrize("name", documents())
def test_where_requests_may_go_is_known_without_the_secrets(name: str, joined: Joined) -> None:
    """So that an edit that keeps all of them is judged, too, for the presets that use it."""
    row = stored(documents()[name])
    joined.put(row)
    snapshot = joined.load()
    kept = draft(show_document(row), former(row))
    assert (kept.entered, bool(kept.kept)) == ({}, True)
    sketch = build_unserved("crm", kept.settings, kept.entered, said(snapshot), PRESENT)
    served = snapshot.integrations["crm"]
    assert (sketch.policy, sketch.traits, sketch.rebuild) == (served.policy, served.traits, None)
    with pytest.raises(SecretUnreadable):
        build_draft("crm", kept, said(snapshot), PRESENT)


HOOK = {"integration": "crm", "url": "https://api.example.com/v1/x", "content_type": "text/plain"}


def hook(name: str = "hook", **keys: Any) -> PresetRow:
    return PresetRow(row=f"row-of-{name}", id=name, version=1, document=json.dumps({**HOOK, **keys}))


def test_a_preset_is_used_with_its_integration_wherever_both_are(joined: Joined) -> None:
    """Stored with a stored one or a file's, a file's with a stored one; one that does not fit is there, and says so."""
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
    assert {name for name, each in snapshot.presets.items() if not each.invalid} == {"hook", "by-file", "of-file"}
    assert problems["nobody"] == "no integration has this ID"
    assert "more: " in problems["torn"]
    assert "something other than Sidekey changed its row" in problems["changed"]
    # A change of the integration takes the preset along, in the same snapshot.
    joined.put(stored({**BASIC, "methods": ["GET"]}, "crm", joined.rows["crm"]))
    moved = joined.load()
    assert [bool(moved.presets[name].invalid) for name in ("hook", "by-file", "of-file")] == [True, False, True]
    assert not snapshot.presets["hook"].invalid


def test_a_preset_that_is_the_same_is_the_same_object(joined: Joined) -> None:
    """Only what changed is built: there may be ten thousand."""
    joined.put(stored(BASIC))
    joined.presets = {name: hook(name) for name in "abc"}
    first = joined.load().presets
    joined.presets = {**joined.presets, "a": hook("a", description="x"), "b": replace(joined.presets["b"])}
    second = joined.load().presets
    assert [second[name] is first[name] for name in "abc"] == [False, True, True]


def test_a_preset_of_a_file_is_used_while_it_is_there(joined: Joined) -> None:
    """As with integrations, each kind by itself."""
    joined.put(stored(BASIC), stored(BASIC, "hook"))
    joined.presets = {"hook": hook()}
    joined.write("presets: {hook: {integration: crm, url: https://api.example.com/v1/y, content_type: text/plain}}\n")
    snapshot = joined.load()
    assert not snapshot.presets["hook"].stored
    assert "a config file has the same preset ID" in snapshot.preset_problem("hook")
    assert joined.states(snapshot) == {"crm": "ok", "hook": "ok"}
    joined.write("")
    gone = joined.load()
    assert (gone.presets["hook"].stored, gone.preset_problem("hook")) == (True, "")


def resealed(row: IntegrationRow, ring: KeyRing) -> IntegrationRow:
    """A row as a rotation writes it."""
    purpose, values = former(row).purpose, opened(row).values
    assert purpose is not None
    secrets = {
        secret: replace(
            row.secrets[secret],
            sealed=seal(ring, values[where], purpose.bindings(VAULT.store, row.row, row.id, secret)[0]),
        )
        for where, secret in ids(row).items()
    }
    return replace(row, secrets=secrets)


@pytest.mark.parametrize("name", documents())
def test_what_is_written_again_with_another_key_is_the_same_object(name: str, joined: Joined) -> None:
    """While a key is replaced connections and tokens go on."""
    row = stored(documents()[name])
    joined.put(row)
    first = joined.load().integrations["crm"]
    ring = KeyRing({"k2": b"2" * 32, "k1": b"1" * 32})
    joined.vault = SealingKeys(VAULT.store, ring)
    assert joined.load().integrations["crm"] is first
    again = resealed(row, ring)
    assert again != row
    joined.put(again)
    assert joined.load().integrations["crm"] is first
    joined.vault = SealingKeys(VAULT.store, KeyRing({"k2": b"2" * 32}))
    assert joined.load().integrations["crm"] is first
    assert joined.states() == {"crm": "ok"}
    joined.put(stored(documents()[name], before=row))
    assert joined.load().integrations["crm"] is not first


def test_what_did_not_open_does_once_it_is_written_with_a_key_that_is_there(joined: Joined) -> None:
    """By another process."""
    row, ring = stored(BASIC), KeyRing({"k2": b"2" * 32})
    joined.put(row)
    joined.vault = SealingKeys(VAULT.store, ring)
    assert joined.states() == {"crm": "unusable"}
    joined.put(resealed(row, ring))
    assert joined.states() == {"crm": "ok"}


def test_files_that_are_not_read_again_are_joined_with_another_state(joined: Joined) -> None:
    """A file that has errors meanwhile keeps no change of the store from use."""
    joined.write(f"integrations: {{own: {OWN}}}\n")
    joined.source.take(State(integrations=joined.rows), VAULT)
    loaded = joined.loader.load(PRESENT)
    joined.write("nonsense: 1\n")
    assert joined.loader.load(PRESENT).errors
    joined.put(stored(BASIC))
    joined.source.take(State(integrations=joined.rows), VAULT)
    snapshot = joined.loader.join(loaded, PRESENT)
    assert sorted(snapshot.integrations) == ["crm", "own"]
    assert snapshot.integrations["own"] is good(loaded).integrations["own"]


def test_an_integration_of_a_file_is_used_while_it_is_there(joined: Joined) -> None:
    """The stored one serves once the file's is gone; nothing is kept of it."""
    joined.put(stored(BASIC, "own"))
    joined.write(f"integrations: {{own: {OWN}}}\n")
    snapshot = joined.load()
    assert (joined.states(snapshot), snapshot.integrations["own"].stored) == ({}, False)
    joined.write("")
    snapshot = joined.load()
    assert (joined.states(snapshot), snapshot.integrations["own"].stored) == ({"own": "ok"}, True)


async def test_an_error_takes_down_that_integration_alone(joined: Joined) -> None:
    """Its callers are told that it cannot be used, not that there is none; the reason is the operator's."""
    fine, gone, moved, torn = (stored(BASIC, name) for name in ("fine", "gone", "moved", "torn"))
    joined.put(
        fine,
        replace(gone, document=gone.document.replace('"basic"', '"vanished"')),
        replace(moved, document=moved.document.replace("api.example.com", "evil.example.com")),
        replace(torn, document="{"),
        IntegrationRow(row="r", id="changed", version=3, verified=False),
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
    problems = said(snapshot).problems
    assert "auth.type: must be one of" in problems["gone"]
    assert "enter it again" in status_of(snapshot.integrations["moved"], PRESENT).problem
    assert "is not what this version of Sidekey saves: save it again" in problems["torn"]
    assert "something other than Sidekey changed its row: save it again" in problems["changed"]
    assert "allow_private" in problems["private"]
    assert sent(snapshot.integrations["fine"])
    for name in ("gone", "torn", "changed", "private"):
        integration = snapshot.integrations[name]
        assert (integration.usable, integration.kind) == (False, "unknown")
        assert await refusal(integration) == "store: the integration cannot be used; an operator must look at it"
        assert integration.rebuild is not None
        with pytest.raises(SecretUnreadable):
            integration.rebuild()
    assert "enter it again" in await refusal(snapshot.integrations["moved"])
    assert CANARY not in str(problems)


def test_an_edit_builds_no_row_again_that_cannot_be_used(joined: Joined) -> None:
    """Until an hour has passed, or a key or the files are others."""
    torn, sealed = replace(stored(BASIC, "torn"), document="{"), stored(BASIC, "sealed")
    joined.vault = SealingKeys(VAULT.store, KeyRing({"k2": b"2" * 32}))
    joined.put(torn, sealed)
    loaded = joined.loader.load(PRESENT)

    def after_edit(now: float) -> list[Integration]:
        joined.put(stored({**BASIC, "description": str(now)}, "other"))
        joined.source.take(State(integrations=joined.rows), joined.vault)
        snapshot = joined.loader.join(loaded, now)
        assert joined.states(snapshot) == {"torn": "unusable", "sealed": "unusable", "other": "unusable"}
        return [snapshot.integrations[name] for name in ("torn", "sealed")]

    first, second, later = after_edit(PRESENT), after_edit(PRESENT + 1), after_edit(PRESENT + 3600)
    assert [one is other for one, other in zip(first, second, strict=True)] == [True, True]
    assert [one is other for one, other in zip(second, later, strict=True)] == [False, False]


def test_a_key_that_comes_opens_what_was_sealed(joined: Joined) -> None:
    """Without a change of the row."""
    joined.put(stored(BASIC))
    joined.vault = SealingKeys(VAULT.store, KeyRing({"k2": b"2" * 32}))
    assert joined.states() == {"crm": "unusable"}
    joined.vault = VAULT
    assert joined.states() == {"crm": "ok"}


def test_what_the_rest_of_the_config_forbids_is_invalid_until_it_allows_it(joined: Joined) -> None:
    """The row is the same all the time."""
    joined.put(stored({**BASIC, "limits": {"in_flight": 500}}))
    assert joined.states() == {"crm": "ok"}
    joined.write("limits: {in_flight: 100}\n")
    assert "must be at most" in said(joined.load()).problems["crm"]
    joined.write("")
    assert joined.states() == {"crm": "ok"}


def test_changed_store_allow_private_applies_to_stored_integrations(joined: Joined) -> None:
    """A row that was built before must not keep the networks that the operator has removed."""
    joined.put(stored(BASIC))
    assert joined.load().integrations["crm"].allow_private == NetworkOverride((ip_network("10.0.0.0/8"),))
    joined.write("", HEAD.replace("10.0.0.0/8", "192.168.0.0/16"))
    assert joined.load().integrations["crm"].allow_private == NetworkOverride((ip_network("192.168.0.0/16"),))


def test_what_time_or_an_entry_puts_right_is_judged_when_it_is_asked_for(joined: Joined) -> None:
    """A secret that is not there, and a certificate that has ended."""
    end = chain().leaf.certificate.not_valid_after_utc.timestamp()
    joined.put(stored(mtls(), "bank"), replace(stored(BASIC, "bare"), secrets={}))
    snapshot = joined.load(end + 1)
    assert said(snapshot).problems == {"bank": "", "bare": ""}
    found = {name: status_of(snapshot.integrations[name], end + 1) for name in ("bank", "bare")}
    assert {name: each.status for name, each in found.items()} == {"bank": "unusable", "bare": "unusable"}
    assert "its client certificate expired on" in found["bank"].problem
    reason = "no secret is stored here: enter it"
    assert found["bare"].problem == f"auth.username: {reason}; auth.password: {reason}"
    assert [*said(snapshot).unsettled] == ["bank", "bare"]


def test_a_certificate_that_cannot_be_used_and_has_not_ended_is_invalid(joined: Joined) -> None:
    """Here, one that is not valid yet; once it is, it is built again."""
    joined.put(stored(mtls()))
    early = joined.load(PRESENT - 30 * 86_400)
    assert joined.states(early) == {"crm": "unusable"}
    assert "valid only from" in status_of(early.integrations["crm"], PRESENT).problem
    assert joined.states() == {"crm": "ok"}


def test_stored_callers_stand_beside_those_of_files(joined: Joined) -> None:
    """A file's wins, by name and by token; with a store nobody is let in where there are none."""
    assert joined.load().callers == {}
    digest = {name: sha256(name.encode()).hexdigest() for name in ("a", "b", "c")}
    joined.callers = {
        "billing": CallerRow(row="1", id="billing", token_sha256=digest["a"], integrations=("crm",)),
        "all": CallerRow(row="2", id="all", token_sha256=digest["b"], integrations=None),
        "twin": CallerRow(row="3", id="twin", token_sha256=digest["c"], integrations=("crm",)),
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


def test_a_caller_of_a_file_may_name_what_is_made_later(joined: Joined) -> None:
    """A warning; without a store it is an error."""
    text = "callers: {billing: {token: {insecure_value: x}, integrations: [later]}}\n"
    joined.write(text)
    found = joined.loader.load(PRESENT)
    assert found.errors == []
    text_of = "no file has an integration of this ID: it must be made in the store"
    assert text_of in [each.message for each in found.warnings]
    joined.put(stored(BASIC, "later"))
    joined.load()
    assert text_of not in [each.message for each in joined.loader.load(PRESENT).warnings]
    joined.write(text, "version: 1\n")
    assert [each.message for each in Loader(joined.folder / "sidekey.yaml", {}).load().errors] == [
        "no integration has this ID: add one, or remove the ID here"
    ]


MATCHED = "forward: {match_by_host: true}\nca: {hosts: [example.com]}\n"


def test_of_two_that_cover_a_target_the_older_is_used_and_a_file_wins(joined: Joined) -> None:
    """Only where a caller lists both, at the hosts of the operator's, and where hosts are matched at all."""
    # A later change of the older one makes no difference.
    first = replace(stored(BASIC, "first"), created_at=1, updated_at=9)
    second = replace(stored(BASIC, "second"), created_at=2, updated_at=2)
    joined.put(first, second)
    joined.write(MATCHED)
    assert joined.states() == {"first": "ok", "second": "ok"}
    token = sha256(b"t").hexdigest()
    joined.callers = {"one": CallerRow(row="1", id="one", token_sha256=token, integrations=("first", "second"))}
    snapshot = joined.load()
    assert joined.states(snapshot) == {"first": "ok", "second": "unusable"}
    assert said(snapshot).problems["second"] == (
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


def test_what_passes_is_kept_back_only_at_the_operators_hosts(joined: Joined) -> None:
    """An editor must not stop what is none of theirs."""
    joined.put(stored(BASIC), stored({**BASIC, "endpoint_prefix": "https://api.other.test"}, "other"))
    joined.write("forward: {unmatched: pass}\nca: {hosts: [example.com]}\n")
    snapshot = joined.load()
    assert snapshot.passing is not None
    assert snapshot.passing.coverage.covers("api.example.com")
    assert not snapshot.passing.coverage.covers("api.other.test")
    torn = replace(stored(BASIC, "torn"), document="{")
    joined.put(torn)
    passing = joined.load().passing
    assert passing is not None
    assert passing.unresolved == frozenset()


def test_the_local_ca_signs_for_no_host_because_a_stored_integration_names_it(joined: Joined) -> None:
    """Only for those of files, and of the operator's list."""
    joined.put(stored(BASIC))
    joined.write(f"ca: {{hosts: [in.test]}}\nintegrations: {{own: {OWN}}}\n")
    assert joined.load().ca.scope.hosts() == ["in.test", "own.example.com"]


def test_a_draft_is_built_with_what_came_with_it_alone(joined: Joined) -> None:
    """Never with what is stored."""
    row = stored(BASIC)
    joined.put(row)
    snapshot = joined.load()
    made = build_draft("crm", draft(BASIC), said(snapshot), PRESENT)
    assert sent(made) == sent(snapshot.integrations["crm"])
    assert (made.stored, made.allow_private) == (True, said(snapshot).allow_private)
    document: dict[str, Any] = copied(BASIC)
    document["auth"]["password"] = {"set": True, "id": ids(row)["/auth/password"]}
    with pytest.raises(SecretUnreadable, match="send it"):
        build_draft("crm", draft(document, former(row)), said(snapshot), PRESENT)


def test_before_anything_was_read_nothing_is_served(tmp_path: Path) -> None:
    """The files' integrations are."""
    joined = Joined(tmp_path, f"integrations: {{own: {OWN}}}\n")
    snapshot = good(joined.loader.load(PRESENT))
    assert (list(snapshot.integrations), snapshot.callers, said(snapshot).revision) == (["own"], {}, 0)
    assert said(snapshot).unusable == 0
