"""Which paths differ between two configs, never with a value."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidekey.config.diff import compare_snapshots
from sidekey.config.load import Loader
from sidekey.policy.callers import Caller, certificate_key, jwt_key
from sidekey.publish import Changes
from sidekey.snapshot.snapshot import Snapshot, StoredObjects
from support.private_ca import Authority

SECRET = "hunter2-and-more"
CONFIG = """\
version: 1
callers: {web: {token: {env: WEB}, integrations: [crm]}, job: {token: {env: JOB}, integrations: "*", presets: "*"}}
limits: {in_flight: 100}
integrations:
  crm:
    endpoint_prefix: https://a.test/api/v1
    auth: {type: basic, username: svc, password: {env: PASSWORD}}
    add: {query: {token: {secret: {env: ADDED}}}}
  sms:
    endpoint_prefix: https://b.test
    methods: [GET]
    auth: {type: headers, headers: {X-Tenant: acme, X-Key: {prefix: "K ", secret: {env: KEY}}}}
  log:
    endpoint_prefix: https://c.test
    auth:
      type: session
      login: {url: "https://c.test/in", body: {who: {beta: true, name: bot}, password: {env: PASSWORD}}}
      token: {from: token, expires_in: seconds}
      placement: {in: header, name: X-Session}
presets:
  hello: {integration: crm, url: "https://a.test/api/v1/x", content_type: text/plain}
"""
ENVIRON = {"WEB": f"web-{SECRET}", "JOB": f"job-{SECRET}", "PASSWORD": SECRET, "KEY": SECRET, "ADDED": SECRET}


def snapshot_of(path: Path, text: str, environ: dict[str, str] = ENVIRON) -> Snapshot:
    """Load a config with a loader of its own, so that no object is that of another load."""
    path.write_text(text)
    loaded = Loader(path, environ).load()
    assert loaded.errors == []
    assert loaded.snapshot is not None
    return loaded.snapshot


def changes(folder: Path, text: str, *, environ: dict[str, str] = ENVIRON) -> dict[str, Any]:
    """Compare `CONFIG` with another config, without empty lists."""
    path = folder / "sidekey.yaml"
    result = compare_snapshots(snapshot_of(path, CONFIG), snapshot_of(path, text, environ))
    assert SECRET not in repr(result)
    return {key: list(value) for key, value in result._asdict().items() if value}


def edited(*edits: tuple[str, str]) -> str:
    text = CONFIG
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return text


def test_rebuilt_config_has_no_changes(tmp_path: Path) -> None:
    assert changes(tmp_path, CONFIG) == {}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("svc, password", "other, password", {"changed": ["integrations.crm.auth.username"]}),
        ("version: 1", "version: 1\nvia: false", {"changed": ["via"]}),
        ("in_flight: 100", "in_flight: 200", {"changed": ["limits.in_flight"]}),
        ("version: 1", "version: 1\nlog: {audit: uses, level: error}", {"changed": ["log.audit", "log.level"]}),
        ("version: 1", "version: 1\nnetwork: {trusted_ca: system}", {"changed": ["network.trusted_ca"]}),
        ("version: 1", "version: 1\nnetwork: {hosts: {x.test: [192.0.2.1]}}", {"added": ['network.hosts."x.test"']}),
        ("version: 1", "version: 1\nca: {hosts: [c.test]}", {"changed": ["ca.hosts"]}),
        ("version: 1", "version: 1\nforward: {match_by_host: true}", {"changed": ["forward.match_by_host"]}),
        (
            "  crm:\n",
            "  new: {endpoint_prefix: https://c.test, auth: {type: headers, headers: {X: y}}}\n  crm:\n",
            {"added": ["integrations.new"]},
        ),
        ("integrations: [crm]", "integrations: [sms]", {"changed": ["callers.web.integrations"]}),
        ("integrations: [crm]", 'integrations: "*"', {"changed": ["callers.web.integrations"]}),
        (
            "integrations: [crm]",
            "presets: [hello]",
            {"changed": ["callers.web.integrations", "callers.web.presets"]},
        ),
        ("web: {", "new: {token: {env: ADDED}}, web: {", {"added": ["callers.new"]}),
        ("api/v1\n", "api\n", {"changed": ["integrations.crm.endpoint_prefix"]}),
        ("methods: [GET]", "methods: [GET, PUT]", {"changed": ["integrations.sms.methods"]}),
        (
            "methods: [GET]",
            "allow_private: [10.0.0.0/8]",
            {"removed": ["integrations.sms.methods"], "changed": ["integrations.sms.allow_private"]},
        ),
        ("X-Tenant: acme", "X-Tenant: other", {"changed": ["integrations.sms.auth.headers.X-Tenant.text"]}),
        ("X-Tenant: acme, ", "", {"removed": ["integrations.sms.auth.headers.X-Tenant"]}),
        ("beta: true", "beta: 1", {"changed": ["integrations.log.auth.login.body.who.beta"]}),
        ("name: bot", "name: other", {"changed": ["integrations.log.auth.login.body.who.name"]}),
        ("{from: token,", "{from: session,", {"changed": ["integrations.log.auth.token.from"]}),
        ("name: X-Session", "name: X-Other", {"changed": ["integrations.log.auth.placement"]}),
        ("a.test/api/v1/x", "a.test/api/v1/y", {"changed": ["presets.hello"]}),
    ],
)
def test_change_is_reported_by_its_path(old: str, new: str, expected: dict[str, Any], tmp_path: Path) -> None:
    assert changes(tmp_path, edited((old, new))) == expected


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (certificate_key("dns:old.example.test"), certificate_key("dns:new.example.test"), "certificate"),
        (jwt_key("issuer", "subject-of-20-bytes-1"), jwt_key("issuer", "subject-of-20-bytes-2"), "jwt"),
    ],
)
def test_identity_as_long_as_the_digest_of_a_token_is_reported_by_its_path(
    old: bytes, new: bytes, kind: str, tmp_path: Path
) -> None:
    assert len(old) == len(new) == hashlib.sha256().digest_size
    before, after = (
        replace(snapshot_of(tmp_path / "sidekey.yaml", CONFIG), callers={key: Caller("web", None)})
        for key in (old, new)
    )
    assert compare_snapshots(before, after).changed == (f"callers.web.{kind}",)


def test_removed_integration_preset_and_caller_are_reported(tmp_path: Path) -> None:
    removed = CONFIG.partition("  sms:")[2].partition("presets:")[0]
    text = edited((f"  sms:{removed}", ""), ("web: {token: {env: WEB}, integrations: [crm]}, ", ""))
    text = text.partition("presets:\n")[0]
    assert changes(tmp_path, text) == {
        "removed": ["callers.web", "integrations.log", "integrations.sms", "presets.hello"]
    }


def test_changed_kind_is_reported_by_its_keys(tmp_path: Path) -> None:
    headers = '{type: headers, headers: {X-Tenant: acme, X-Key: {prefix: "K ", secret: {env: KEY}}}}'
    text = edited((headers, "{type: basic, username: svc, password: {env: PASSWORD}}"))
    auth = "integrations.sms.auth"
    assert changes(tmp_path, text) == {
        "added": [f"{auth}.password", f"{auth}.username"],
        "removed": [f"{auth}.body", f"{auth}.headers", f"{auth}.query"],
        "changed": [f"{auth}.type"],
    }


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("PASSWORD", ["integrations.crm.auth.password", "integrations.log.auth.login.body.password"]),
        ("KEY", ["integrations.sms.auth.headers.X-Key.secret"]),
        ("ADDED", ["integrations.crm.add.query.token.secret"]),
        ("WEB", ["callers.web.token"]),
    ],
)
def test_changed_or_unreadable_secret_is_reported_by_its_path(
    variable: str, expected: list[str], tmp_path: Path
) -> None:
    assert changes(tmp_path, CONFIG, environ={**ENVIRON, variable: f"other-{SECRET}"}) == {"changed": expected}
    unset = {key: value for key, value in ENVIRON.items() if key != variable}
    assert changes(tmp_path, CONFIG, environ=unset) == {"changed": expected}


def test_changed_reference_is_reported(tmp_path: Path) -> None:
    """Even if both variables have the same value."""
    text = edited(("password: {env: PASSWORD}}\n", "password: {env: KEY}}\n"))
    assert changes(tmp_path, text) == {"changed": ["integrations.crm.auth.password"]}


def test_changed_content_of_an_endpoint_prefix_is_reported_by_its_path(tmp_path: Path) -> None:
    text = "version: 1\nintegrations: {hook: {endpoint_prefix: {env: HOOK}, auth: {type: headers, headers: {X: y}}}}"
    first, second, unread = (
        snapshot_of(tmp_path / "sidekey.yaml", text, environ)
        for environ in ({"HOOK": "https://a.test/one"}, {"HOOK": "https://a.test/two"}, {})
    )
    expected = Changes(changed=("integrations.hook.endpoint_prefix",))
    assert (
        compare_snapshots(first, second)
        == compare_snapshots(unread, second)
        == compare_snapshots(first, unread)
        == expected
    )


def test_changed_ca_file_is_reported_at_its_key(tmp_path: Path, ca: Authority) -> None:
    text = CONFIG.replace("version: 1", "version: 1\nnetwork: {trusted_ca: {file: all.pem}}")
    text = text.replace("methods: [GET]", "trusted_ca: {file: own.pem}")
    paths = {"all.pem": "network.trusted_ca", "own.pem": "integrations.sms.trusted_ca"}
    for name in paths:
        shutil.copy(ca.bundle, tmp_path / name)
    before = snapshot_of(tmp_path / "sidekey.yaml", text)
    for name, expected in paths.items():
        (tmp_path / name).write_bytes(ca.bundle.read_bytes() * 2)
        assert compare_snapshots(before, snapshot_of(tmp_path / "sidekey.yaml", text)) == Changes(changed=(expected,))
        shutil.copy(ca.bundle, tmp_path / name)


def test_changed_secrets_of_operators_and_the_store_are_reported_by_their_paths(tmp_path: Path) -> None:
    key = "A" * 43 + "="
    text = (
        "version: 1\nstore: {path: s.db, keys: [{id: k1, key: {env: KEY}}]}\n"
        "admin: {tokens: {ann: {token: {env: ANN}, role: viewer}, bob: {token: {env: BOB}, role: admin}}}\n"
    )
    environ = {"KEY": key, "ANN": f"ann-{SECRET}", "BOB": f"bob-{SECRET}"}
    other = text.replace("role: viewer", "role: editor").replace("bob:", "eve:").replace("k1", "k2")
    environ_other = {**environ, "KEY": key.replace("AA", "BB", 1), "ANN": f"new-{SECRET}"}
    path = tmp_path / "sidekey.yaml"
    before = snapshot_of(path, text, environ)
    assert compare_snapshots(before, snapshot_of(path, text, environ)) == Changes()
    assert compare_snapshots(before, snapshot_of(path, other, environ_other)) == Changes(
        added=("admin.tokens.eve",),
        removed=("admin.tokens.bob",),
        changed=("admin.tokens.ann.role", "admin.tokens.ann.token", "store.keys"),
    )


def test_unusable_stored_integration_is_reported_by_its_id(tmp_path: Path) -> None:
    before = snapshot_of(tmp_path / "sidekey.yaml", CONFIG)
    unusable = replace(before.integrations["crm"], kind="unknown", settings=None, digests=())
    without = {name: integration for name, integration in before.integrations.items() if name != "crm"}
    invalid = replace(before, integrations={**without, "crm": unusable})
    assert compare_snapshots(before, invalid) == Changes(changed=("integrations.crm",))
    assert compare_snapshots(replace(before, integrations=without), invalid) == Changes(added=("integrations.crm",))
    assert compare_snapshots(invalid, replace(before, integrations={**without, "crm": replace(unusable)})) == Changes()


def test_revision_of_the_store_is_reported_only_if_it_differs(tmp_path: Path) -> None:
    before = replace(snapshot_of(tmp_path / "sidekey.yaml", CONFIG), stored=StoredObjects(revision=3))
    assert compare_snapshots(before, before).revision is None
    assert compare_snapshots(before, replace(before, stored=StoredObjects(revision=4))).revision == 4


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_value_of_a_secret_is_in_a_path(data: st.DataObject, tmp_path: Path) -> None:
    values = st.text(st.characters(codec="ascii", categories=["Lu", "Ll", "Nd"]), max_size=40).map("s3cret".__add__)
    drawn = st.lists(values, min_size=5, max_size=5, unique=True)
    environs = [dict(zip(ENVIRON, data.draw(drawn), strict=True)) for _ in range(2)]
    edits = [("api/v1\n", "api\n"), ("[GET]", "[GET, PUT]"), ("[crm]", '"*"'), ("svc", "other")]
    text = edited(*data.draw(st.lists(st.sampled_from(edits), unique=True)))
    path = tmp_path / "sidekey.yaml"
    result = compare_snapshots(snapshot_of(path, CONFIG, environs[0]), snapshot_of(path, text, environs[1]))
    shown = json.dumps(result) + repr(result)
    assert not [value for environ in environs for value in environ.values() if value in shown]
