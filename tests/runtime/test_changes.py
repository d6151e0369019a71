"""runtime/changes.py: names of what differs, what callers may use since, what an integration allows more; no secret."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidekey.core.policy import Policy, decide, parse_domain, parse_prefix
from sidekey.runtime.changes import LINES, LONGEST, MOST, Changes, Granted, compare
from sidekey.runtime.snapshot import Caller, Integration, Snapshot, Stored
from sidekey.settings.load import Loader
from support.plane import integration

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
presets:
  hello: {integration: crm, url: "https://a.test/api/v1/x", content_type: text/plain}
"""
ENVIRON = {"WEB": f"web-{SECRET}", "JOB": f"job-{SECRET}", "PASSWORD": SECRET, "KEY": SECRET, "ADDED": SECRET}


def snapshot_of(path: Path, text: str, environ: dict[str, str] = ENVIRON) -> Snapshot:
    """What a config says, in a process of its own as far as loading goes: nothing is the same object."""
    path.write_text(text)
    loaded = Loader(path, environ).load()
    assert loaded.errors == []
    assert loaded.snapshot is not None
    return loaded.snapshot


def first(changes: Changes) -> dict[str, Any]:
    """What the first line tells."""
    return next(changes.told())


def told(tmp_path: Path, *edits: tuple[str, str], environ: dict[str, str] = ENVIRON) -> dict[str, Any]:
    """What is told of the config once these texts are replaced, and these variables are set."""
    text = CONFIG
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    former = snapshot_of(tmp_path / "sidekey.yaml", CONFIG)
    changes = compare(former, snapshot_of(tmp_path / "sidekey.yaml", text, environ))
    (said,) = changes.told()
    assert bool(changes) is bool(said)
    assert SECRET not in json.dumps(said)
    return said


def test_nothing_is_told_of_the_same_config_although_all_of_it_was_built_again(tmp_path: Path) -> None:
    assert told(tmp_path) == {}


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (
            ("svc", "other"),
            {"integrations": {"changed": ["crm"]}, "secrets": ["integrations.crm.auth.username"]},
        ),
        (("a.test/api/v1/x", "a.test/api/v1/y"), {"presets": {"changed": ["hello"]}}),
        (("in_flight: 100", "in_flight: 200"), {"settings": ["limits.in_flight"]}),
        (("version: 1", "version: 1\nvia: false"), {"settings": ["via"]}),
        (("version: 1", "version: 1\nlog: {audit: uses, level: error}"), {"settings": ["log.level", "log.audit"]}),
        (("version: 1", "version: 1\nnetwork: {search: true}"), {"settings": ["network.search"]}),
        (
            ("version: 1", "version: 1\nnetwork: {trusted_ca: system}"),
            {"integrations": {"changed": ["crm", "sms"]}, "settings": ["network.trusted_ca"]},
        ),
        (("version: 1", "version: 1\nca: {hosts: [c.test]}"), {"settings": ["ca.hosts"]}),
        (
            ("version: 1", "version: 1\nforward: {unmatched: pass}"),
            {"settings": ["forward.unmatched", "forward.pass_ports"]},
        ),
        (("version: 1", "version: 1\nforward: {match_by_host: true}"), {"settings": ["forward.match_by_host"]}),
        (
            ("  crm:\n", "  new: {endpoint_prefix: https://c.test, auth: {type: headers, headers: {X: y}}}\n  crm:\n"),
            {"integrations": {"added": ["new"]}, "granted": [{"caller": "job", "integration": "new"}]},
        ),
        (
            ("[crm]", "[sms]"),
            {"callers": {"changed": ["web"]}, "granted": [{"caller": "web", "integration": "sms"}]},
        ),
        (
            ("integrations: [crm]", 'integrations: "*", presets: [hello]'),
            {
                "callers": {"changed": ["web"]},
                "granted": [{"caller": "web", "integration": "*"}, {"caller": "web", "preset": "hello"}],
            },
        ),
        (("integrations: [crm]", "integrations: []"), {"callers": {"changed": ["web"]}}),
        (
            ("web: {", "new: {token: {env: ADDED}, presets: [hello]}, web: {"),
            {"callers": {"added": ["new"]}, "granted": [{"caller": "new", "preset": "hello"}]},
        ),
        (
            ("a.test/api/v1\n", "a.test/api\n"),
            {
                "integrations": {"changed": ["crm"]},
                "widened": [
                    {
                        "integration": "crm",
                        "key": "endpoint_prefix",
                        "from": ["https://a.test/api/v1"],
                        "to": ["https://a.test/api"],
                    }
                ],
            },
        ),
        (("a.test/api/v1\n", "a.test/api/v1/x\n"), {"integrations": {"changed": ["crm"]}}),
        (
            ("methods: [GET]", "methods: [GET, PUT]"),
            {
                "integrations": {"changed": ["sms"]},
                "widened": [{"integration": "sms", "key": "methods", "from": ["GET"], "to": ["GET", "PUT"]}],
            },
        ),
        (
            ("methods: [GET]", "allow_private: [10.0.0.0/8]"),
            {
                "integrations": {"changed": ["sms"]},
                "widened": [
                    {"integration": "sms", "key": "methods", "from": ["GET"], "to": ["*"]},
                    {"integration": "sms", "key": "allow_private", "from": [], "to": ["10.0.0.0/8"]},
                ],
            },
        ),
    ],
)
def test_a_change_is_told_by_names(edit: tuple[str, str], expected: dict[str, Any], tmp_path: Path) -> None:
    assert told(tmp_path, edit) == expected


def test_an_integration_that_is_gone_is_told(tmp_path: Path) -> None:
    """And nobody may use more than before for it."""
    gone = CONFIG.partition("  sms:")[2].partition("presets:")[0]
    assert told(tmp_path, (f"  sms:{gone}", "")) == {"integrations": {"removed": ["sms"]}}


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("PASSWORD", {"integrations": {"changed": ["crm"]}, "secrets": ["integrations.crm.auth.password"]}),
        ("KEY", {"integrations": {"changed": ["sms"]}, "secrets": ["integrations.sms.auth.headers.X-Key.secret"]}),
        ("ADDED", {"integrations": {"changed": ["crm"]}, "secrets": ["integrations.crm.add.query.token.secret"]}),
        ("WEB", {"callers": {"changed": ["web"]}, "secrets": ["callers.web.token"]}),
    ],
)
def test_another_value_of_a_secret_is_told_by_its_place(
    variable: str, expected: dict[str, Any], tmp_path: Path
) -> None:
    """Whether it is another one or cannot be read any more."""
    assert told(tmp_path, environ={**ENVIRON, variable: f"other-{SECRET}"}) == expected
    if variable != "WEB":
        assert told(tmp_path, environ={key: value for key, value in ENVIRON.items() if key != variable}) == expected


def test_secrets_of_operators_and_of_the_store_are_told_by_their_places(tmp_path: Path) -> None:
    """And a role of theirs as a setting."""
    key = "A" * 43 + "="
    text = (
        "version: 1\nstore: {path: s.db, keys: [{id: k1, key: {env: KEY}}]}\n"
        "admin: {tokens: {ann: {token: {env: ANN}, role: viewer}, bob: {token: {env: BOB}, role: admin}}}\n"
    )
    environ = {"KEY": key, "ANN": f"ann-{SECRET}", "BOB": f"bob-{SECRET}"}
    former = snapshot_of(tmp_path / "c.yaml", text, environ)
    changed = {"KEY": key.replace("AA", "BB", 1), "ANN": f"new-{SECRET}", "BOB": f"bob-{SECRET}"}
    now = snapshot_of(tmp_path / "c.yaml", text.replace("role: viewer", "role: editor").replace("k1", "k2"), changed)
    assert first(compare(former, now)) == {
        "secrets": ["admin.tokens.ann.token", "store.keys"],
        "settings": ["admin.tokens.ann"],
    }
    assert first(compare(former, snapshot_of(tmp_path / "c.yaml", text, environ))) == {}


def test_without_callers_everyone_may_use_everything() -> None:
    """Which is told once it begins; where it ends nobody may use more than before but what is new."""
    one = integration("one", "https://a.test")
    asked = Snapshot({"one": one}, {b"t": Caller("web", frozenset({"one"}))})
    nobody = Snapshot({"one": one})
    assert first(compare(asked, nobody))["granted"] == [
        {"caller": "*", "integration": "*"},
        {"caller": "*", "preset": "*"},
    ]
    assert first(compare(nobody, asked)) == {"callers": {"added": ["web"]}}


def test_a_revision_of_the_store_is_told_beside_a_change_and_is_none_by_itself() -> None:
    """The store's own audit has each of them."""
    one = integration("one", "https://a.test")
    former, now = (Snapshot({}, stored=Stored(revision=number)) for number in (3, 4))
    assert not compare(former, now)
    assert first(compare(former, replace(now, integrations={"one": one}))) == {
        "revision": 4,
        "integrations": {"added": ["one"]},
    }


PREFIXES = [
    "https://a.x.test/v1",
    "https://a.test",
    "https://a.test/v1",
    "https://a.test/v1/x",
    "https://b.test",
    "http://a.test/v1",
]
DOMAINS = ["https://a.test", "https://a.x.test", "https://*.x.test", "https://*.a.x.test", "https://b.a.x.test"]
POLICIES = st.builds(
    lambda prefixes, domains: Policy(tuple(map(parse_prefix, prefixes)), tuple(map(parse_domain, domains))),
    st.lists(st.sampled_from(PREFIXES), max_size=2),
    st.lists(st.sampled_from(DOMAINS), max_size=2),
)
TARGETS = [
    *PREFIXES,
    "https://a.test/v1/x/y",
    "https://a.x.test",
    "https://b.a.x.test/v1",
    "https://c.a.x.test",
    "https://z.x.test/v1",
    "http://a.test",
]


@given(before=POLICIES, since=POLICIES)
def test_an_integration_is_widened_where_a_target_is_allowed_that_was_not(before: Policy, since: Policy) -> None:
    """As the policies themselves judge it: each target that is new is told, and a policy that only shrinks is not."""
    one, other = (integration("it", "https://a.test") for _ in range(2))
    widened = compare(
        Snapshot({"it": replace(one, policy=before)}), Snapshot({"it": replace(other, policy=since)})
    ).widened
    new = [url for url in TARGETS if decide(since, "GET", url).allowed and not decide(before, "GET", url).allowed]
    if new:
        assert widened
    if widened:
        assert {each.key for each in widened} <= {"endpoint_prefix", "allowed_domains"}
        assert before != since


def test_a_line_is_bounded_however_much_changes() -> None:
    """Ten thousand integrations at once: their number, and the first names."""
    one = integration("one", "https://a.test")
    many: dict[str, Integration] = {f"i{number:05}": one for number in range(10_000)}
    narrow = Policy((parse_prefix("https://a.test/x"),))
    wide = Policy(tuple(parse_prefix(f"https://a{number}.test/{'x' * 1000}") for number in range(25)))
    callers = {b"%d" % number: Caller(f"c{number}", None) for number in range(100)}
    former = Snapshot(dict.fromkeys(many, replace(one, policy=narrow)), callers)
    now = Snapshot(dict.fromkeys(many, replace(one, policy=wide)) | {"new": one}, callers)
    said, *further = compare(former, now).told()
    assert said["integrations"]["changed"] == sorted(many)[:MOST]
    assert said["omitted"] == {"integrations.changed": 10_000 - MOST, "widened": 10_000 - MOST * LINES}
    assert all(len(text) <= LONGEST for each in said["widened"] for text in (*each["from"], *each["to"]))
    assert len(further) == LINES - 1
    assert all(len(json.dumps(line)) < 200_000 for line in (said, *further))
    assert sum(len(line.get("granted", ())) for line in (said, *further)) == 100


def test_no_other_change_hides_what_is_granted_or_widened() -> None:
    """It goes on in further lines, and what merely follows from a new integration comes last."""
    one = integration("one", "https://a.test")
    wide = replace(one, policy=Policy((parse_prefix("https://b.test"),)))
    names = [f"i{number:03}" for number in range(120)]
    former = Snapshot(dict.fromkeys([*names, "z"], one), {b"j": Caller("job", None), b"w": Caller("web", frozenset())})
    now = Snapshot(
        dict.fromkeys([*names, "z"], wide) | dict.fromkeys([f"new{number:04}" for number in range(1100)], one),
        {b"j": Caller("job", None), b"w": Caller("web", frozenset([*names, "z", "gone"]))},
    )
    changes = compare(former, now)
    lines = list(changes.told())
    granted, widened = ([each for line in lines for each in line.get(key, ())] for key in ("granted", "widened"))
    assert [each["integration"] for each in granted[:121]] == [*names, "z"]
    assert {each["caller"] for each in granted[:121]} == {"web"}
    assert {each["caller"] for each in granted[121:]} == {"job"}
    assert lines[0]["omitted"]["granted"] == 121 + 1100 - len(granted) == 121 + 1100 - MOST * LINES
    assert len(widened) == 121


def test_what_differs_of_many_prefixes_is_told_before_what_does_not() -> None:
    """One that is added to more than are told would else be in neither list."""
    one = integration("one", "https://a.test")
    before = tuple(parse_prefix(f"https://h{number:02}.test") for number in range(25))
    since = (*before[1:], parse_prefix("https://z.test"))
    said = first(
        compare(
            Snapshot({"one": replace(one, policy=Policy(before))}),
            Snapshot({"one": replace(one, policy=Policy(since))}),
        )
    )
    (widened,) = said["widened"]
    assert widened["from"][0] == "https://h00.test"
    assert widened["to"][0] == "https://z.test"
    assert len(widened["from"]) == len(widened["to"]) == MOST


@pytest.mark.parametrize("prefix", ["{env: HOOK}", "[https://c.test/x, {env: HOOK}]"])
def test_the_path_of_a_prefix_that_was_read_is_never_told(prefix: str, tmp_path: Path) -> None:
    """A webhook's URL is a secret; that it is another one is told by its place, and its host."""
    auth = "auth: {type: headers, headers: {X: y}}"
    text = f"version: 1\nintegrations: {{hook: {{endpoint_prefix: {prefix}, {auth}}}}}"
    one, other = (
        snapshot_of(tmp_path / "s.yaml", text, {"HOOK": f"https://hooks.test/{SECRET}{number}"}) for number in (1, 2)
    )
    changes = compare(one, other)
    said = first(changes)
    assert said["secrets"] == ["integrations.hook.endpoint_prefix"]
    assert said["widened"][0]["to"][-1] == "https://hooks.test/..."
    assert SECRET not in json.dumps(said) + repr(changes)


def test_what_could_not_be_read_could_reach_nothing(tmp_path: Path) -> None:
    """Else a prefix that is first removed, and is another one when it is back, would have widened nothing."""
    text = "version: 1\nintegrations: {hook: {endpoint_prefix: {env: HOOK}, auth: {type: headers, headers: {X: y}}}}"
    one = snapshot_of(tmp_path / "s.yaml", text, {})
    other = snapshot_of(tmp_path / "s.yaml", text, {"HOOK": "https://hooks.test/x"})
    assert first(compare(one, other))["widened"] == [
        {"integration": "hook", "key": "endpoint_prefix", "from": [], "to": ["https://hooks.test/..."]}
    ]
    assert "widened" not in first(compare(other, one))


CALLERS = st.none() | st.dictionaries(
    st.sampled_from([b"a", b"b", b"c"]),
    st.builds(
        Caller,
        st.sampled_from(["x", "y"]),
        st.none() | st.frozensets(st.sampled_from("pqrs")),
        st.none() | st.frozensets(st.sampled_from("pqrs")),
    ),
)


@given(callers=st.tuples(CALLERS, CALLERS), names=st.tuples(*[st.frozensets(st.sampled_from("pqrs"))] * 2))
def test_what_is_granted_is_what_may_be_used_and_could_not_before(
    callers: tuple[dict[bytes, Caller] | None, ...], names: tuple[frozenset[str], ...]
) -> None:
    """Of each caller by name, as its tokens are judged one by one."""
    one = integration("one", "https://a.test")
    former, now = (Snapshot(dict.fromkeys(found, one), each) for each, found in zip(callers, names, strict=True))

    def usable(snapshot: Snapshot, caller: str, name: str) -> bool:
        if name not in snapshot.integrations:
            return False
        known = snapshot.callers
        return known is None or any(each.may_use(name) for each in known.values() if each.name == caller)

    granted = [each for each in compare(former, now).granted if each.kind == "integration"]
    for caller in {each.name for each in (now.callers or {}).values()}:
        new = {name for name in "pqrs" if usable(now, caller, name) and not usable(former, caller, name)}
        told = {each.id for each in granted if each.caller == caller}
        assert told == {"*"} or told == new
        assert "*" not in told or Granted(caller, "integration", "*") in granted


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_value_of_a_secret_is_ever_told(data: st.DataObject, tmp_path: Path) -> None:
    """Whatever values they had and have, and whatever else changes with them."""
    # Hypothesis tries words of the code as well, which stand in lines as keys.
    values = st.text(st.characters(codec="ascii", categories=["Lu", "Ll", "Nd"]), max_size=40).map("s3cret".__add__)
    drawn = st.lists(values, min_size=5, max_size=5, unique=True)
    environs = [dict(zip(ENVIRON, data.draw(drawn), strict=True)) for _ in range(2)]
    edits = [("api/v1\n", "api\n"), ("[GET]", "[GET, PUT]"), ("[crm]", '"*"'), ("svc", "other")]
    text = CONFIG
    for old, new in data.draw(st.lists(st.sampled_from(edits), unique=True)):
        text = text.replace(old, new)
    changes = compare(
        snapshot_of(tmp_path / "s.yaml", CONFIG, environs[0]), snapshot_of(tmp_path / "s.yaml", text, environs[1])
    )
    shown = json.dumps(list(changes.told())) + repr(changes)
    assert not [value for environ in environs for value in environ.values() if value in shown]
