"""What of an integration can never work: named by `check`, and no more than that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sidekey.core.policy import Policy, Prefix, decide, parse_target
from sidekey.explain import explain
from sidekey.runtime.snapshot import Integration
from sidekey.runtime.standing import standing_of
from sidekey.settings.impossible import Dialling
from sidekey.settings.load import Loaded, Loader, load
from support.files import replace

PUBLIC = {"type": "headers", "headers": {"X-Tenant": "acme"}}
OAUTH2 = {
    "type": "oauth2",
    "token_endpoint": "https://auth.example.com/token",
    "client_id": "id",
    "client_secret": {"env": "SECRET"},
}
SESSION = {
    "type": "session",
    "login": {"url": "https://auth.example.com/login", "body": {"user": "u"}},
    "token": {"from": "json:token"},
}
RESPONSYS = {
    "type": "responsys",
    "login_endpoint": "https://login2.responsys.net",
    "username": "api",
    "password": {"env": "SECRET"},
}
ENVIRON = {"SECRET": "not-to-be-seen-4711"}
OTHERS = "with allow_other_domains: true"


def written(folder: Path, integration: dict[str, Any], **top: Any) -> Path:
    """A config of one integration."""
    path = folder / "sidekey.yaml"
    replace(path, yaml.safe_dump({"version": 1, **top, "integrations": {"it": integration}}, sort_keys=False))
    return path


def found(loaded: Loaded) -> dict[str, str]:
    """What was found, by place."""
    assert loaded.errors == []
    return {each.path.removeprefix("integrations.it."): each.message for each in loaded.impossible}


def integration_of(loaded: Loaded) -> Integration:
    assert loaded.snapshot is not None
    return loaded.snapshot.integrations["it"]


WAY_OUT = "add {}/{} to allow_private of the integration, or to network.allow_private"


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("https://10.1.2.3/v1", f"10.1.2.3 is not a global address (private): {WAY_OUT.format('10.1.2.3', 32)}"),
        ("http://127.0.0.1:8000", f"127.0.0.1 is not a global address (loopback): {WAY_OUT.format('127.0.0.1', 32)}"),
        (
            "https://[fd00::7]/v1",
            f"fd00::7 is not a global address (not global unicast): {WAY_OUT.format('fd00::7', 128)}",
        ),
        (
            "http://localhost:8000",
            f"localhost is 127.0.0.1, which is not a global address (loopback): {WAY_OUT.format('127.0.0.1', 32)}",
        ),
        (
            "https://up.test/v1",
            "up.test is 10.0.0.5 by network.hosts, which is not a global address (private): "
            f"{WAY_OUT.format('10.0.0.5', 32)}",
        ),
        (
            "http://169.254.169.254/latest",
            "169.254.169.254 is never dialled (cloud metadata), whatever allow_private says: use another address",
        ),
        (
            "http://meta.test/latest",
            "meta.test is 169.254.169.254 by network.hosts, which is never dialled (cloud metadata), whatever "
            "allow_private says: use another address",
        ),
        (
            "https://[2002:a00:1::]/v1",
            "2002:a00:1:: is never dialled (6to4), whatever allow_private says: use another address",
        ),
        ("https://mixed.test/v1", None),
        ("https://93.184.216.34/v1", None),
        ("https://api.example.com/v1", None),
    ],
)
def test_a_prefix_that_can_never_be_asked_is_an_error(prefix: str, message: str | None, tmp_path: Path) -> None:
    """By its address, or the static ones of its name."""
    hosts = {"up.test": ["10.0.0.5"], "meta.test": ["169.254.169.254"], "mixed.test": ["10.0.0.5", "93.184.216.34"]}
    path = written(tmp_path, {"endpoint_prefix": prefix, "auth": PUBLIC}, network={"hosts": hosts})
    loaded = load(path, ENVIRON)
    assert found(loaded) == ({} if message is None else {"endpoint_prefix": message})
    assert integration_of(loaded).usable is (message is None)
    assert standing_of(integration_of(loaded), 0).state == ("ok" if message is None else "invalid")


@pytest.mark.parametrize("place", ["network", "integration"])
@pytest.mark.parametrize("prefix", ["https://10.1.2.3/v1", "http://localhost:8000", "https://up.test/v1"])
def test_allow_private_opens_what_is_not_global(place: str, prefix: str, tmp_path: Path) -> None:
    """The network's, or the integration's."""
    networks = ["10.0.0.0/8", "127.0.0.0/8"]
    integration = {"endpoint_prefix": prefix, "auth": PUBLIC}
    network: dict[str, Any] = {"hosts": {"up.test": ["10.0.0.5"]}}
    (network if place == "network" else integration)["allow_private"] = networks
    assert found(load(written(tmp_path, integration, network=network), ENVIRON)) == {}


@pytest.mark.parametrize("more", [{}, {"endpoint_prefix": []}])
def test_a_prefix_that_is_not_there_is_one_error(more: dict[str, Any], tmp_path: Path) -> None:
    """Nothing more is said of it."""
    loaded = load(written(tmp_path, {**more, "auth": PUBLIC}), ENVIRON)
    assert [each.path for each in loaded.errors] == ["integrations.it.endpoint_prefix"]
    assert loaded.lacking == []


@pytest.mark.parametrize(
    "host", ["10.1.2.3", "127.0.0.1", "[fd00::7]", "[::ffff:10.1.2.3]", "[64:ff9b::a01:203]", "up.test"]
)
def test_what_is_named_as_the_way_out_is_one(host: str, tmp_path: Path) -> None:
    """Also where an IPv4 address is inside an IPv6 one."""
    integration: dict[str, Any] = {"endpoint_prefix": f"https://{host}/v1", "auth": PUBLIC}
    network = {"hosts": {"up.test": ["::ffff:10.0.0.5"]}}
    (message,) = found(load(written(tmp_path, integration, network=network), ENVIRON)).values()
    named = message.partition(": add ")[2].partition(" to allow_private")[0]
    integration["allow_private"] = [named]
    assert found(load(written(tmp_path, integration, network=network), ENVIRON)) == {}


def test_metadata_services_stay_closed(tmp_path: Path) -> None:
    """Whatever is allowed."""
    integration = {"endpoint_prefix": "http://169.254.169.254", "allow_private": ["169.254.0.0/16"], "auth": PUBLIC}
    assert "whatever allow_private says" in found(load(written(tmp_path, integration), ENVIRON))["endpoint_prefix"]


def test_one_of_several_prefixes_leaves_the_others(tmp_path: Path) -> None:
    """It is an error at its own place, and the integration serves the rest."""
    prefixes = ["https://api.example.com/v1", "https://10.1.2.3/v1"]
    loaded = load(written(tmp_path, {"endpoint_prefix": prefixes, "auth": PUBLIC}), ENVIRON)
    assert list(found(loaded)) == ["endpoint_prefix[1]"]
    assert integration_of(loaded).usable


@pytest.mark.parametrize(
    ("integration", "place", "begins"),
    [
        (
            {"auth": OAUTH2, "endpoint_prefix": "https://api.example.com/v1"},
            "endpoint_prefix",
            "no target can pass: endpoint_prefix is not under any allowed domain (https://auth.example.com): "
            f"change it, or add its base URL to allowed_domains, {OTHERS}",
        ),
        (
            {"auth": SESSION, "endpoint_prefix": "https://api.example.com/v1"},
            "endpoint_prefix",
            "no target can pass: endpoint_prefix is not under any allowed domain (https://auth.example.com)",
        ),
        (
            {
                "auth": OAUTH2,
                "endpoint_prefix": "https://api.example.org",
                "allow_other_domains": True,
                "allowed_domains": [f"https://{name}.example.com" for name in "abc"],
            },
            "endpoint_prefix",
            "no target can pass: endpoint_prefix is not under any allowed domain (https://a.example.com, "
            "https://b.example.com, https://c.example.com, ...): change it",
        ),
        (
            {"auth": {**OAUTH2, "token_endpoint": "https://10.0.0.1/token"}},
            "auth.token_endpoint",
            "10.0.0.1 is not a global address (private): add 10.0.0.1/32",
        ),
        (
            {"auth": {**SESSION, "login": {**SESSION["login"], "url": "https://10.0.0.1/login"}}},
            "auth.login.url",
            "10.0.0.1 is not a global address (private): add 10.0.0.1/32",
        ),
        (
            {
                "auth": {**OAUTH2, "token_response": {"base_url": "url"}},
                "endpoint_prefix": "http://auth.example.com",
                "allow_other_domains": True,
                "allowed_domains": ["http://auth.example.com"],
            },
            "endpoint_prefix",
            "no target can pass: no base URL that the response may tell is allowed",
        ),
        (
            {"auth": RESPONSYS, "endpoint_prefix": "https://x.responsys.net/other"},
            "endpoint_prefix",
            "no target can pass: the path must be under /rest/api/v1.3",
        ),
        (
            {"auth": RESPONSYS, "endpoint_prefix": "https://x.responsys.net/rest/api/v1.3/auth"},
            "endpoint_prefix",
            "no target can pass: the path must be under /rest/api/v1.3, and must not be that of a login",
        ),
        (
            {"auth": PUBLIC, "endpoint_prefix": "https://api.example.com", "methods": ["FETCH"]},
            "methods",
            "no request can pass: must have a method that clients can send, such as GET",
        ),
        (
            {
                "auth": {
                    "type": "oauth2",
                    "provider": "commercetools",
                    "region": "europe-west1.gcp",
                    "client_id": "id",
                    "client_secret": {"env": "SECRET"},
                },
                "endpoint_prefix": "https://api.example.com",
            },
            "endpoint_prefix",
            "no target can pass: endpoint_prefix is not under any allowed domain",
        ),
    ],
)
def test_an_integration_of_which_no_request_can_pass_is_an_error(
    integration: dict[str, Any], place: str, begins: str, tmp_path: Path
) -> None:
    """With its place and the way out, and without a warning of the same."""
    loaded = load(written(tmp_path, integration), ENVIRON)
    assert list(found(loaded)) == [place]
    assert found(loaded)[place].startswith(begins)
    assert not integration_of(loaded).usable
    assert "never matches" not in str(loaded.warnings)


@pytest.mark.parametrize(
    "integration",
    [
        {"auth": OAUTH2},
        {"auth": OAUTH2, "endpoint_prefix": "https://auth.example.com/token"},
        {"auth": SESSION, "endpoint_prefix": "https://auth.example.com/v1"},
        {"auth": RESPONSYS, "endpoint_prefix": "https://x.responsys.net/rest/api/v1.3/lists"},
        {"auth": RESPONSYS, "endpoint_prefix": "https://login2.responsys.net/rest"},
        {"auth": {**OAUTH2, "token_endpoint": {"env": "NOWHERE"}}, "endpoint_prefix": "https://api.example.com"},
        {"auth": PUBLIC, "endpoint_prefix": {"env": "NOWHERE"}},
    ],
)
def test_what_may_work_is_no_error(integration: dict[str, Any], tmp_path: Path) -> None:
    """Also where what decides it cannot be read."""
    assert found(load(written(tmp_path, integration), ENVIRON)) == {}


def test_a_prefix_behind_a_reference_is_judged_as_it_is_read(tmp_path: Path) -> None:
    """By what the file holds now; a change of the file is another prefix."""
    replace(tmp_path / "prefix", "https://10.1.2.3/v1\n")
    path = written(tmp_path, {"endpoint_prefix": {"file": "prefix"}, "auth": PUBLIC})
    loader = Loader(path, ENVIRON)
    assert list(found(loader.load())) == ["endpoint_prefix"]
    replace(tmp_path / "prefix", "https://api.example.com\n")
    assert found(loader.load()) == {}


def test_other_rules_of_the_network_judge_again_what_depends_on_them_alone(tmp_path: Path) -> None:
    """An integration that names only names stays the very same object."""

    def config(*networks: str) -> Path:
        path = tmp_path / "sidekey.yaml"
        integrations = {
            "it": {"endpoint_prefix": "https://10.1.2.3", "auth": PUBLIC},
            "other": {"endpoint_prefix": "https://api.example.com", "auth": PUBLIC},
        }
        document = {"version": 1, "network": {"allow_private": [*networks]}, "integrations": integrations}
        replace(path, yaml.safe_dump(document))
        return path

    loader = Loader(config(), ENVIRON)
    first = loader.load()
    assert not integration_of(first).usable
    config("10.0.0.0/8")
    second = loader.load()
    assert found(second) == {}
    assert integration_of(second).usable
    config()
    third = loader.load()
    assert list(found(third)) == ["endpoint_prefix"]
    assert not integration_of(third).usable
    assert first.snapshot is not None
    assert third.snapshot is not None
    assert first.snapshot.integrations["other"] is third.snapshot.integrations["other"]


def test_nothing_is_said_of_addresses_where_the_rules_cannot_be_read(tmp_path: Path) -> None:
    """What allows them may be among what is wrong, or in another file."""
    integration = {"endpoint_prefix": ["https://10.1.2.3", "https://up.test"], "auth": PUBLIC}
    network = {"allow_private": ["10.0.0.0/8"], "hosts": {"up.test": ["10.0.0.5"]}}
    loaded = load(written(tmp_path, integration, network={**network, "more": 1}), ENVIRON)
    assert [each.path for each in loaded.errors] == ["network.more"]
    assert loaded.lacking == []
    written(tmp_path, integration)
    replace(tmp_path / "network.yaml", "version: 1\nnetwork: {allow_private: [10.0.0.0/8]\n")
    loaded = load(tmp_path, ENVIRON)
    assert len(loaded.errors) == 1
    assert loaded.lacking == []
    replace(tmp_path / "network.yaml", yaml.safe_dump({"version": 1, "network": network}))
    assert found(load(tmp_path, ENVIRON)) == {}


def test_rules_that_say_the_same_stay_the_same_object(tmp_path: Path) -> None:
    """Each of thousands is compared with them: what is one object is the same at once."""
    hosts = {"up.test": ["10.0.0.5"]}
    integration = {"endpoint_prefix": "https://up.test", "auth": PUBLIC, "allow_private": ["10.0.0.5/32"]}
    loader = Loader(written(tmp_path, integration, network={"hosts": hosts}), ENVIRON)
    loader.load()
    first = loader._memory
    written(tmp_path, {**integration, "description": "another"}, network={"hosts": hosts})
    loader.load()
    assert loader._memory is not first
    assert loader._memory.dialling is first.dialling


def test_the_store_has_a_way_out_of_its_own() -> None:
    """Nobody but the operator allows it."""
    prefix = Prefix(parse_target("https://10.1.2.3/").origin, "")
    assert Dialling(stored=True).refuse(prefix, ()) == (
        "10.1.2.3 is not a global address (private): the operator must add 10.1.2.3/32 to store.allow_private"
    )


HOSTS = ("auth.example.com", "api.example.com", "eu.api.example.com", "api.example.org")
BASES = [f"{scheme}://{host}" for scheme in ("https", "http") for host in HOSTS]
PATHS = ("", "/v1", "/token", "/v1/users")


@st.composite
def oauth2_integrations(draw: st.DrawFn) -> dict[str, Any]:
    """Valid oauth2 integrations, of which some can never work."""
    prefixes = draw(st.lists(st.tuples(st.sampled_from(BASES), st.sampled_from(PATHS)), max_size=2))
    domains = draw(st.lists(st.sampled_from((*BASES, "https://*.example.com", "https://*.example.org")), max_size=2))
    response = draw(st.sampled_from(({}, {"base_url": "url"}, {"base_url": "url", "pin_base_url": True})))
    made: dict[str, Any] = {"auth": {**OAUTH2, "token_response": response}}
    if prefixes:
        made["endpoint_prefix"] = [base + path for base, path in prefixes]
    if domains:
        made |= {"allow_other_domains": True, "allowed_domains": domains}
    return made


def targets() -> list[str]:
    """Some under everything that those name."""
    return [f"{base}{path}/{rest}" for base in BASES for path in PATHS for rest in ("a", "token/a")]


def learnt(policy: Policy, *, learns: bool) -> list[Policy]:
    """The policies that there may be once a base URL was learnt."""
    if not learns:
        return [policy]
    known = []
    for host in HOSTS:
        try:
            known.append(policy.learn(Prefix(parse_target(f"https://{host}/").origin, "")))
        except ValueError:
            continue
    return known


@given(oauth2_integrations())
def test_an_oauth2_that_is_accepted_has_a_target_that_passes_and_no_other_has(
    tmp_path_factory: pytest.TempPathFactory, integration: dict[str, Any]
) -> None:
    """By `explain`, and by the policy of what is learnt."""
    loaded = load(written(tmp_path_factory.mktemp("config"), integration), ENVIRON)
    assert loaded.errors == []
    built = integration_of(loaded)
    passing = [
        target
        for target in targets()
        if decide(built.policy, "GET", target).allowed
        and any(
            decide(policy, "GET", f"{moved.origin}{moved.path}").allowed
            for policy in learnt(built.policy, learns=built.traits.learns)
            for base in (next(iter(policy.domains)).origin,)
            for moved in (built.policy.move(parse_target(target), base),)
        )
    ]
    assert bool(passing) is (loaded.impossible == [])
    assert built.usable is (loaded.impossible == [])
    explained = [target for target in targets() if explain(built, target).allowed]
    assert set(passing) <= set(explained) if built.usable else explained == []
