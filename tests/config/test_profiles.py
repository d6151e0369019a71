import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidekey.config import profiles
from sidekey.config.errors import Finding, LocatedMapping, error_at, error_of
from sidekey.config.load import Loaded, load
from sidekey.config.profiles import Expansion, expand
from sidekey.config.yaml_reader import parse
from sidekey.credentials.base import CallingCredential, FixedCredential
from sidekey.credentials.context import Context
from sidekey.credentials.fields import SHAPE
from sidekey.credentials.refresh_settings import ONE_PROCESS
from sidekey.credentials.registry import KINDS
from sidekey.policy.targets import judge_url, parse_discovered_base, parse_domain
from sidekey.policy.urls import parse_target
from support.drive_kinds import first_call, settings_of
from support.profiles import auth_of, environment

PARAMETERS = [(name, key) for name in profiles.provider_names() for key in profiles.profile(name).parameters]


def urls(profile: profiles.Profile, entries: profiles.Pairs | None = None) -> list[str]:
    """Return the URLs of a profile with placeholders, or filled in if `entries` are given."""
    keys = [key for key, text in profile.entries() if text.startswith("https://")]
    filled = dict(profile.entries() if entries is None else entries)
    return [text for key in keys for text in filled[key].split(", ")]


IN_URLS = [(name, key) for name, key in PARAMETERS if f"{{{key}}}" in "".join(urls(profiles.profile(name)))]
WHOLE_HOSTS = {("ghost", "host"), ("microsoft-entra", "api_host"), ("sap-btp", "api_host")}
"""Parameters that are a host name, and not a part of one of the platform's."""
IN_QUERIES = {"yotpo-ugc"}
"""Profiles whose platform takes the token in the query alone."""
OWN_LABELS = {
    ("auth0", "domain"),
    ("braze", "instance"),
    ("crowdstrike", "host"),
    ("dynamics-365", "host"),
    ("genesys-cloud", "region"),
    ("intercom", "host"),
    ("iterable", "host"),
    ("okta", "domain"),
    ("okta-api-token", "domain"),
    ("onetrust", "host"),
    ("onetrust-api-key", "host"),
    ("segment", "host"),
    ("sendgrid", "host"),
}
"""Parameters that are one of the platform's own hosts, or the end of one: it stands in their pattern."""
PLATFORMS = {
    "auth0": ("auth0.com",),
    "braze": ("braze.com", "braze.eu"),
    "crowdstrike": ("crowdstrike.com",),
    "dynamics-365": ("dynamics.com",),
    "genesys-cloud": (
        *("mypurecloud.com", "mypurecloud.ie", "mypurecloud.de", "mypurecloud.jp", "mypurecloud.com.au"),
        *("pure.cloud", "us-gov-pure.cloud"),
    ),
    "intercom": ("intercom.io",),
    "iterable": ("iterable.com",),
    "okta": ("okta.com", "oktapreview.com", "okta-emea.com"),
    "okta-api-token": ("okta.com", "oktapreview.com", "okta-emea.com"),
    "onetrust": ("onetrust.com",),
    "onetrust-api-key": ("onetrust.com",),
    "segment": ("segment.io", "segmentapis.com"),
    "sendgrid": ("sendgrid.com",),
}
"""Whose hosts these are."""

TENANTS = {(name, "tenant") for name, key in PARAMETERS if key == "tenant"}
"""Those of Entra may have labels, and stand in a path."""

HOSTILE = [
    "",
    ".",
    "..",
    "evil.example/",
    "evil.example#",
    "evil.example?",
    "user@evil.example",
    "evil.example:443",
    "a:b@c",
    "a\\b",
    "a%2fb",
    "a b ",
    " a",
    "a\n",
    "a\x00",
    "-",
    "{region}",
    "é",
    "xn--\u00e9",
    "\uff11\uff12\uff13-ABC-\uff14\uff15\uff16",
    "x" * 300,
]
COMMERCETOOLS = "auth: {type: oauth2, provider: commercetools, region: europe-west1.gcp, client_id: id}\n"
MARKETING_CLOUD = "auth: {type: oauth2, provider: salesforce-marketing-cloud, subdomain: mc-acme"


def table(text: str) -> LocatedMapping:
    """Parse an integration as its file has it."""
    return parse("c.yaml", text.encode())[0]


def shown(text: str) -> list[str]:
    """Format the errors of an expansion."""
    raw = table(text)
    return [str(error_at(raw, loc, message)) for loc, message in expand(raw, Context("file")).errors]


def with_examples(name: str, optional: bool = True, **parameters: object) -> Expansion:
    """Expand a profile with the examples of its parameters."""
    return expand({"auth": auth_of(name, optional=optional, **parameters)}, Context("file"))


def loaded_with(integration: dict[str, Any], folder: Path) -> Loaded:
    """Load a config of one integration."""
    path = folder / "sidekey.yaml"
    path.write_text(json.dumps({"version": 1, "integrations": {"shop": integration}}))
    (folder / "token").write_text("hunter2")
    (folder / "token").chmod(0o600)
    return load(path, environment())


def folded(text: str) -> str:
    """Remove case, spaces and punctuation from a name."""
    return "".join(filter(str.isalnum, text.casefold()))


def texts(data: Any) -> Iterator[str]:
    """Yield every text in a value."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            yield from texts(value)


@pytest.mark.parametrize("optional", [True, False])
@pytest.mark.parametrize("name", profiles.provider_names())
def test_every_profile_expands_with_its_examples_into_valid_https_urls(name: str, optional: bool) -> None:
    """With and without the optional parameters. No placeholder of a parameter remains."""
    expansion = with_examples(name, optional)
    assert expansion.errors == []
    profile = profiles.profile(name)
    filled = expansion.summary
    assert filled is not None
    assert urls(profile)
    domains = expansion.table.get("allowed_domains", [])
    assert all(parse_domain(domain).origin.scheme == "https" for domain in domains)
    for text in urls(profile, filled.entries):
        assert text in domains or parse_target(text).origin.scheme == "https"
    assert expansion.table.get("allow_other_domains", False) is bool(domains)
    placeholders = {placeholder for text in texts(expansion.table) for placeholder in re.findall(r"\{(.*?)\}", text)}
    assert placeholders <= profiles.deferred_names()


@pytest.mark.parametrize("name", profiles.provider_names())
def test_a_profile_fills_in_known_keys_and_no_credential(name: str) -> None:
    """No parameter has the name of a key of `auth`."""
    profile = profiles.profile(name)
    known = KINDS[profile.kind].model_fields.keys()
    assert profile.auth.keys() <= known - {"type", "provider", "client_secret"}
    assert profile.names.isdisjoint(known)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if profiles.supports_profiles(kind)])
def test_a_name_is_a_secret_in_all_profiles_of_a_kind_or_in_none(kind: str) -> None:
    """The schema has each key once."""
    of_kind = [profiles.profile(name) for name in profiles.provider_names_of(kind)]
    assert {key for profile in of_kind for key in profile.secrets}.isdisjoint(
        key for profile in of_kind for key in profile.parameters
    )


@pytest.mark.parametrize("name", profiles.provider_names())
def test_profile_with_its_credentials_is_a_complete_integration(name: str, tmp_path: Path) -> None:
    """It loads without further keys, and gets its token over https."""
    loaded = loaded_with({"auth": auth_of(name)}, tmp_path)
    assert loaded.of("error", "unreadable") == []
    messages = {warning.message for warning in loaded.warnings} - {ONE_PROCESS}
    assert messages == (
        {"a token in the query appears in the logs of servers (RFC 6750 2.3)"} if name in IN_QUERIES else set()
    )
    assert loaded.snapshot is not None
    shop = loaded.snapshot.integrations["shop"]
    assert shop.base is not None
    assert shop.test is None
    assert judge_url(shop.policy, "POST", f"{shop.base}/x").allowed
    credential = shop.secrets.credential
    if isinstance(credential, FixedCredential):
        assert b"hunter2" in credential.grant.secrets
    if not shop.traits.calls:
        return
    assert credential is not None
    call = first_call(cast(CallingCredential, credential))
    endpoint = parse_target(call.url)
    entries = dict(shop.profile_entries)
    places = ("auth.token_endpoint", "auth.login.auth.token_endpoint", "auth.login.url")
    filled = parse_target(next(entries[place] for place in places if place in entries))
    assert (endpoint.origin, endpoint.path) == (filled.origin, filled.path)
    assert not judge_url(shop.policy, "POST", f"{endpoint.origin}{endpoint.path}").allowed


@pytest.mark.parametrize(
    "name", [name for name in profiles.provider_names() if profiles.profile(name).test is not None]
)
def test_suggested_test_request_is_valid(name: str, tmp_path: Path) -> None:
    """The profile's own prefix and domains allow it, and it has no placeholder."""
    suggested = profiles.profile(name).test
    assert suggested is not None
    loaded = loaded_with({"auth": auth_of(name), "test": suggested.model_dump()}, tmp_path)
    assert loaded.errors == []
    assert loaded.snapshot is not None
    shop = loaded.snapshot.integrations["shop"]
    assert shop.test is not None
    assert (shop.test.method, shop.test.path) == ("GET", suggested.path)
    assert judge_url(shop.policy, "GET", f"{shop.base}{suggested.path}").allowed


def test_names_titles_and_aliases_are_unique() -> None:
    """Without case, spaces and punctuation. An alias does not repeat its profile's name or title."""
    meant: dict[str, str] = {}
    for name in profiles.provider_names():
        profile = profiles.profile(name)
        for text in dict.fromkeys((name, profile.title)):
            assert meant.setdefault(folded(text), name) == name
        for alias in profile.aliases:
            assert meant.setdefault(folded(alias), f"alias of {name}") == f"alias of {name}"
        assert len({*map(folded, profile.aliases)}) == len(profile.aliases)


@pytest.mark.parametrize("name", profiles.provider_names())
def test_every_profile_has_documentation_notes_and_sources(name: str) -> None:
    profile = profiles.profile(name)
    assert all(parse_target(source.partition("#")[0]).origin.scheme == "https" for source in profile.sources)
    assert len(set(profile.sources)) == len(profile.sources)
    if len(profile.sources) < 2:
        assert set(profile.unconfirmed.values()) >= {"one source" if profile.sources else "memory"}
    assert parse_target(profile.documentation.partition("#")[0]).origin.scheme == "https"
    assert profile.title
    assert profile.notes


@pytest.mark.parametrize(("name", "key"), IN_URLS)
@settings(max_examples=20)
@given(data=st.data())
def test_no_parameter_value_changes_the_owner_of_the_host(name: str, key: str, data: st.DataObject) -> None:
    """The host keeps the profile's suffix, without userinfo, port or another path."""
    profile = profiles.profile(name)
    value = data.draw(st.from_regex(re.compile(profile.parameters[key].pattern, re.ASCII), fullmatch=True))
    expansion = with_examples(name, **{key: value})
    assert expansion.errors == []
    assert expansion.summary is not None
    for template, url in zip(urls(profile), urls(profile, expansion.summary.entries), strict=True):
        if "*" in template:
            continue
        host, target = template.split("/")[2], parse_target(url)
        suffix = host.rpartition("}")[2].lower()
        if (name, key) in OWN_LABELS and f"{{{key}}}" in host:
            assert any(target.origin.host.endswith(f".{platform}") for platform in PLATFORMS[name])
        elif f"{{{key}}}" == host:
            assert (name, key) in WHOLE_HOSTS
            assert target.origin.host == value
        elif f"{{{key}}}" in host:
            assert suffix.count(".") >= 2
        assert target.origin.host.endswith(suffix)
        assert (target.origin.scheme, target.origin.port, target.query) == ("https", 443, None)
        assert target.path.count("/") == max(template.count("/") - 2, 1)


@pytest.mark.parametrize(("name", "key"), IN_URLS)
def test_parameter_that_would_extend_a_url_is_refused_without_an_echo(name: str, key: str) -> None:
    """Labels, ports, paths, userinfo, controls, look-alike digits. The error has the rule and an example."""
    parameter = profiles.profile(name).parameters[key]
    reason = f"must be {parameter.rule}, such as {parameter.example}"
    assert {value: parameter.error(value) for value in HOSTILE} == dict.fromkeys(HOSTILE, reason)


@pytest.mark.parametrize(("name", "key"), sorted({*IN_URLS} - TENANTS - WHOLE_HOSTS))
def test_parameter_adds_no_unknown_label_to_a_host(name: str, key: str) -> None:
    """A region's cloud or an org's partition is one of few words. A tenant with labels is in the path."""
    assert profiles.profile(name).parameters[key].error("evil.example") is not None


@pytest.mark.parametrize("value", [None, True, 1.5, ["a"], {"env": "REGION"}])
def test_parameter_that_is_not_text_or_number_is_refused(value: object) -> None:
    errors = {(name, key): profiles.profile(name).parameters[key].error(value) for name, key in PARAMETERS}
    assert [name for name, error in errors.items() if not (error or "").startswith("must be ")] == []


def test_expansion_removes_parameters_and_keeps_the_provider() -> None:
    """The kind's model has only `provider`."""
    expansion = expand(table(COMMERCETOOLS), Context("file"))
    assert expansion.table == {
        "auth": {
            "type": "oauth2",
            "provider": "commercetools",
            "client_id": "id",
            "token_endpoint": "https://auth.europe-west1.gcp.commercetools.com/oauth/token",
            "client_authentication": "header",
        },
        "allow_other_domains": True,
        "allowed_domains": [
            "https://api.europe-west1.gcp.commercetools.com",
            "https://import.europe-west1.gcp.commercetools.com",
        ],
    }


@pytest.mark.parametrize(("written", "value"), [("12", 12), ("'12'", "12")])
def test_number_of_a_parameter_stays_a_number(written: str, value: object) -> None:
    """In JSON 12 is not "12", and the platform takes both."""
    expansion = expand(table(f"{MARKETING_CLOUD}, account_id: {written}}}\n"), Context("file"))
    body = expansion.table["auth"]["token_request"]["body"]
    assert (body, type(body["account_id"])) == ({"account_id": value}, type(value))


def test_entry_without_its_optional_parameter_is_omitted() -> None:
    """With a mapping that becomes empty, but not its other entries."""
    assert expand(table(f"{MARKETING_CLOUD}}}\n"), Context("file")).table["auth"]["token_request"] == {"format": "json"}
    assert "token_request" not in expand(table(COMMERCETOOLS), Context("file")).table["auth"]


def test_keys_of_the_integration_replace_those_of_the_profile_recursively() -> None:
    """The file's own mapping is not changed."""
    text = (
        "auth:\n  type: oauth2\n  provider: commercetools\n  region: europe-west1.gcp\n  project_key: shop\n"
        "  client_authentication: body\n  token_request: {body: {scope: {env: SCOPE}}, format: json}\n"
    )
    raw = table(text)
    expansion = expand(raw, Context("file"))
    auth = expansion.table["auth"]
    assert auth["client_authentication"] == "body"
    assert auth["token_request"] == {"body": {"scope": {"env": "SCOPE"}}, "format": "json"}
    assert raw == table(text)
    beside = expand(
        table(f"{MARKETING_CLOUD}, account_id: 12, token_request: {{body: {{scope: email_read}}}}}}\n"), Context("file")
    )
    assert beside.table["auth"]["token_request"] == {
        "body": {"scope": "email_read", "account_id": 12},
        "format": "json",
    }


def test_profile_may_set_keys_for_the_renewal_of_tokens() -> None:
    text = (
        "kind: oauth2\ntitle: T\ncategory: cloud\ndocumentation: https://docs.example.com\nsources: []\nnotes: N\n"
        "auth: {token_endpoint: 'https://a.example.com/t', renewal_interval: 5s, single_live_token: true}\n"
    )
    profile = profiles.read_profile("t.yaml", text.encode())
    assert profile.entries()[1:] == (("auth.renewal_interval", "5s"), ("auth.single_live_token", "true"))
    auth = {"type": "oauth2", "client_id": "id", "client_secret": {"env": "SECRET"}}
    traits = settings_of({**profile.auth, **auth}).traits()
    assert (traits.renewal_interval, traits.single_live_token) == (5.0, True)


ENTRA = "auth: {type: oauth2, provider: microsoft-entra, tenant: contoso.com, client_id: id"
NATIONAL = {
    "https://graph.microsoft.com": "graph.microsoft.com",
    "https://graph.microsoft.us": "graph.microsoft.us",
    "https://dod-graph.microsoft.us": "dod-graph.microsoft.us",
    "https://microsoftgraph.chinacloudapi.cn": "microsoftgraph.chinacloudapi.cn",
    "https://management.azure.com": "management.azure.com",
    "https://management.usgovcloudapi.net": "management.usgovcloudapi.net",
    "https://management.chinacloudapi.cn": "management.chinacloudapi.cn",
    "https://manage.office.com": "manage.office.com",
    "https://api.businesscentral.dynamics.com": "api.businesscentral.dynamics.com",
}
ELSEWHERE = [
    "https://vault.azure.net",
    "https://storage.azure.com",
    "https://database.windows.net",
    "https://analysis.windows.net/powerbi/api",
    "https://acme.crm4.dynamics.com",
    "https://graph.microsoft.com.evil.example",
    "https://GRAPH.microsoft.com",
    "https://graph.microsoft.com/",
    "http://graph.microsoft.com",
    "api://11111111-2222-3333-4444-555555555555",
    "499b84ac-1321-427f-aa17-267ca6975798",
]
NEEDS_HOST = (
    "auth.api_host: this key is missing: with this scope, microsoft-entra needs the host name of the API, in lower "
    "case, such as my-vault.vault.azure.net"
)


@pytest.mark.parametrize(("resource", "host"), NATIONAL.items())
def test_entra_token_may_only_go_to_the_api_of_its_scope(resource: str, host: str) -> None:
    """The scope names the API's host."""
    expansion = expand(table(f"{ENTRA}, scope: {resource}/.default}}\n"), Context("file"))
    assert (expansion.errors, expansion.table["allowed_domains"]) == ([], [f"https://{host}"])


@pytest.mark.parametrize("resource", ELSEWHERE)
def test_entra_scope_of_an_unknown_api_needs_a_host(resource: str) -> None:
    text = f"{ENTRA}, scope: '{resource}/.default'"
    assert shown(f"{text}}}\n") == [f"c.yaml:1:7: {NEEDS_HOST}"]
    expansion = expand(table(f"{text}, api_host: acme.vault.azure.net}}\n"), Context("file"))
    assert (expansion.errors, expansion.table["allowed_domains"]) == ([], ["https://acme.vault.azure.net"])


def test_written_host_replaces_the_host_of_the_scope() -> None:
    """For example, for a gateway before the API."""
    text = f"{ENTRA}, scope: https://graph.microsoft.com/.default, api_host: graph.acme.example}}\n"
    assert expand(table(text), Context("file")).table["allowed_domains"] == ["https://graph.acme.example"]


@pytest.mark.parametrize("host", ["*.vault.azure.net", "vault", "10.0.0.1", "Acme.vault.azure.net", "a.example:8443"])
def test_api_host_is_one_host_name(host: str) -> None:
    """No wildcard, address, port or single label."""
    assert (profiles.profile("microsoft-entra").parameters["api_host"].error(host) or "").startswith("must be ")


@pytest.mark.parametrize(
    ("own", "domains"),
    [
        ("allowed_domains: ['https://a.vault.azure.net', 'https://b.vault.azure.net']\n", 2),
        ("allow_other_domains: false\n", 0),
    ],
)
def test_parameter_of_the_domains_is_not_needed_with_own_domains(own: str, domains: int) -> None:
    expansion = expand(table(f"{ENTRA}, scope: https://vault.azure.net/.default}}\n{own}"), Context("file"))
    assert (expansion.errors, len(expansion.table.get("allowed_domains", []))) == ([], domains)


def test_invalid_scope_is_one_error() -> None:
    """The missing host is not another error."""
    assert shown(f"{ENTRA}, scope: User.Read}}\n") == [
        "c.yaml:1:92: auth.scope: must be one resource with /.default behind it, "
        "such as https://graph.microsoft.com/.default"
    ]


@pytest.mark.parametrize(
    ("written", "scope"),
    [
        ("", None),
        (", project_key: shop", "manage_project:shop"),
        (", scope: 'view_products:shop manage_orders:shop:eu'", "view_products:shop manage_orders:shop:eu"),
        (", project_key: shop, scope: 'view_products:shop'", "view_products:shop"),
    ],
)
def test_commercetools_scope_is_that_of_the_project_or_the_client(written: str, scope: str | None) -> None:
    auth = expand(table(COMMERCETOOLS.replace("client_id: id", f"client_id: id{written}")), Context("file")).table[
        "auth"
    ]
    assert auth.get("token_request", {}).get("body", {}).get("scope") == scope


class Restored(NamedTuple):
    """A config that restores a host which its profile no longer allows.

    `line` allows the host of `url` again. `learnt` is the base URL of a token response.
    """

    parameters: dict[str, str]
    line: dict[str, Any]
    url: str
    learnt: str = ""


RESTORED = {
    "microsoft-entra": Restored(
        {"tenant": "contoso.com", "scope": "https://graph.microsoft.com/.default"},
        {"allowed_domains": ["https://graph.microsoft.com", "https://management.azure.com"]},
        "https://management.azure.com/x",
    ),
    "salesforce-marketing-cloud": Restored(
        {"subdomain": "mc-a"},
        {"allowed_domains": [f"https://mc-a.{api}.marketingcloudapis.com" for api in ("rest", "soap")]},
        "https://mc-a.soap.marketingcloudapis.com/x",
        "https://mc-a.rest.marketingcloudapis.com",
    ),
    "contentsquare": Restored(
        {"scope": "metrics"},
        {"auth": {"token_response": {"pin_base_url": False}}},
        "https://other.contentsquare.com/x",
        "https://api.eu-west-1.production.contentsquare.com",
    ),
}
"""As the changelog names the lines."""


@pytest.mark.parametrize("restored", [True, False])
@pytest.mark.parametrize("name", RESTORED)
def test_host_that_a_profile_lacks_can_be_allowed_by_the_integration(name: str, restored: bool, tmp_path: Path) -> None:
    """The base URL may come with the token."""
    case = RESTORED[name]
    line = case.line if restored else {}
    client = {"client_id": "id", "client_secret": {"env": "SECRET"}}
    auth = {"type": "oauth2", "provider": name, **case.parameters, **client, **line.get("auth", {})}
    path = tmp_path / "sidekey.yaml"
    path.write_text(json.dumps({"version": 1, "integrations": {"it": {**line, "auth": auth}}}))
    loaded = load(path, {"SECRET": "hunter2"})
    assert loaded.errors == []
    assert loaded.snapshot is not None
    policy = loaded.snapshot.integrations["it"].policy
    policy = policy.with_base(parse_discovered_base(case.learnt)) if case.learnt else policy
    assert judge_url(policy, "GET", case.url).allowed is restored


@pytest.mark.parametrize("pod", ["us-1", "US-2", "eu-1", "us-B", "US-A"])
def test_acoustic_pod_may_be_upper_case(pod: str) -> None:
    """Acoustic's documentation writes it so. The host is the same."""
    expansion = with_examples("acoustic-campaign", pod=pod)
    target = parse_target(expansion.table["auth"]["token_endpoint"])
    assert (expansion.errors, target.origin.host) == ([], f"api-campaign-{pod.lower()}.goacoustic.com")


@pytest.mark.parametrize(
    ("own", "switch", "domains"),
    [
        ("allowed_domains: ['https://a.example.com']\n", True, ["https://a.example.com"]),
        ("allowed_domains: []\n", True, []),
        (
            "allow_other_domains: true\n",
            True,
            [f"https://{name}.europe-west1.gcp.commercetools.com" for name in ("api", "import")],
        ),
        ("allow_other_domains: false\n", False, None),
        ("allow_other_domains: false\nallowed_domains: ['https://a.example.com']\n", False, ["https://a.example.com"]),
    ],
)
def test_own_key_replaces_only_that_key_of_the_profile(own: str, switch: bool, domains: list[str] | None) -> None:
    """With `allow_other_domains: false` the profile adds no domains."""
    result = expand(table(COMMERCETOOLS + own), Context("file")).table
    assert (result["allow_other_domains"], result.get("allowed_domains")) == (switch, domains)


def test_profile_without_domains_adds_neither_key() -> None:
    """Its API is on the host of its token endpoint."""
    assert expand(table("auth: {type: oauth2, provider: criteo}\n"), Context("file")).table.keys() == {"auth"}


def test_summary_has_the_additions_and_no_value_of_the_file() -> None:
    """`sidekey explain` prints these paths and texts."""
    text = f"{MARKETING_CLOUD}, account_id: 12, client_secret: hunter2, client_authentication: header}}\n"
    filled = expand(table(text), Context("file")).summary
    assert filled is not None
    assert filled.provider == "salesforce-marketing-cloud"
    assert filled.entries == (
        ("auth.token_endpoint", "https://mc-acme.auth.marketingcloudapis.com/v2/token"),
        ("auth.token_request.format", "json"),
        ("auth.token_request.body.account_id", "12"),
        ("auth.token_response.base_url", "rest_instance_url"),
        ("auth.renewal_interval", "20m"),
        ("allow_other_domains", "true"),
        ("allowed_domains", "https://mc-acme.rest.marketingcloudapis.com"),
    )


def test_later_errors_are_located_in_the_file() -> None:
    """An error of an addition points at the provider."""
    raw = table(
        "auth:\n  region: europe-west1.gcp\n  type: oauth2\n  provider: commercetools\n  project_key: shop\n"
        "  token_request:\n    query: {a: b}\n  client_id: id\nmethods: [GET]\n"
    )
    expansion = expand(raw, Context("file"))
    places = {
        ("auth", "client_id"): "8:14",
        ("auth", "token_request", "query", "a"): "7:16",
        ("methods", 0): "9:11",
        ("auth", "token_endpoint"): "4:13",
        ("auth", "token_request", "body", "scope"): "4:13",
        ("allowed_domains", 0): "4:13",
        ("allow_other_domains",): "4:13",
    }
    errors = {loc: error_of(raw, Finding(loc, "", source_loc=expansion.source_loc(loc))) for loc in places}
    assert {loc: f"{error.line}:{error.column}" for loc, error in errors.items()} == places


def test_all_errors_of_parameters_are_reported_at_once() -> None:
    """A missing one points at the mapping that lacks it. No error repeats a value."""
    assert shown(
        "auth:\n  type: oauth2\n  provider: google-service-account\n  service_account: hunter2\n  scop: hunter2\n"
        "  region: hunter2\n  subject: 12\n  client_id: id\n"
    ) == [
        "c.yaml:5:9: auth.scop: unknown key; did you mean scope?",
        "c.yaml:6:11: auth.region: google-service-account has no such parameter; "
        "known: service_account, scope, api, subject",
        "c.yaml:4:20: auth.service_account: must be an address under gserviceaccount.com, "
        "such as robot@my-project.iam.gserviceaccount.com",
        "c.yaml:2:3: auth.api: this key is missing: google-service-account needs "
        "one label of lower case letters, digits and -, such as storage",
        "c.yaml:7:12: auth.subject: must be text (put numbers in quotes), not a reference: "
        "write an e-mail address, such as ann@example.com",
    ]
    assert shown("auth: {type: oauth2, provider: criteo, region: x}\n") == [
        "c.yaml:1:48: auth.region: criteo has no such parameter; it has none"
    ]


def test_model_reports_keys_that_no_profile_has() -> None:
    expansion = expand(table(f"{MARKETING_CLOUD}, clientid: a, zzz: b}}\n"), Context("file"))
    assert expansion.errors == []
    assert {"clientid", "zzz"} <= expansion.table["auth"].keys()


@pytest.mark.parametrize(
    ("provider", "hint"),
    [
        ("comercetools", "did you mean commercetools?"),
        ("Criteo", "did you mean criteo?"),
        ("azure", "did you mean microsoft-entra?"),
        ("Azure AD", "did you mean microsoft-entra?"),
        ("azure_ad", "did you mean microsoft-entra?"),
        ("SFMC", "did you mean salesforce-marketing-cloud?"),
        ("SAP Emarsys", "did you mean emarsys?"),
        ("nexmo", "`vonage` is a profile of `basic`: write `auth: {type: basic, provider: vonage, …}`"),
        ("Mailchimp", "`mailchimp` is a profile of `basic`: write `auth: {type: basic, provider: mailchimp, …}`"),
        ("../credentials/basic", f"known: {', '.join(profiles.provider_names_of('oauth2'))}"),
        ("", f"known: {', '.join(profiles.provider_names_of('oauth2'))}"),
    ],
)
def test_unknown_provider_is_one_error_with_a_suggestion(provider: str, hint: str) -> None:
    """It hides no other error of the integration."""
    text = f"auth: {{type: oauth2, provider: '{provider}', region: x, subdomain: y, client_id: id}}\n"
    assert shown(text) == [f"c.yaml:1:32: auth.provider: no such provider; {hint}"]
    expansion = expand(table(text), Context("file"))
    assert expansion.summary is None
    assert expansion.table["auth"].keys() <= KINDS["oauth2"].model_fields.keys()
    assert "token_endpoint" in expansion.table["auth"]


@pytest.mark.parametrize(
    "text",
    [
        "auth: {type: oauth2, token_endpoint: 'https://a.example.com/token'}\n",
        "auth: {type: oauth2, provider: [criteo]}\n",
        "auth: criteo\n",
        "methods: [GET]\n",
    ],
)
def test_document_without_a_provider_is_not_changed(text: str) -> None:
    """The model reports its errors."""
    raw = table(text)
    assert expand(raw, Context("file")) == Expansion(raw, [], None)
    assert expand(raw, Context("file")).table is raw


@pytest.mark.parametrize("written", ["", "type: headers, ", "type: mtls, ", "type: oauth, "])
def test_provider_under_another_type_is_one_error(written: str) -> None:
    """The other keys of `auth` cause no error."""
    text = f"auth: {{{written}provider: listrak, client_id: id, client_secret: {{file: s}}}}\n"
    (error,) = shown(text)
    assert error.endswith(
        "auth.provider: `listrak` is a profile of `oauth2`: write `auth: {type: oauth2, provider: listrak, …}`"
    )


def test_every_parameter_has_a_property_in_the_schema() -> None:
    """With its type, and its description for each provider."""
    for kind in filter(profiles.supports_profiles, KINDS):
        properties = profiles.parameter_properties(kind)
        by_name = {name: profiles.profile(name) for name in profiles.provider_names_of(kind)}
        assert properties.keys() == {key for profile in by_name.values() for key in profile.names}
        for name, profile in by_name.items():
            assert all(f"`{name}`: " in properties[key]["description"] for key in profile.names)
            assert all(properties[key][SHAPE] in ("secret", "secret_or_text", "pem_secret") for key in profile.secrets)
    assert profiles.parameter_properties("oauth2")["region"]["type"] == "string"
    assert profiles.parameter_properties("oauth2")["account_id"]["type"] == ["integer", "string"]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("kind: mtls\nauth: {username: x}", "kind: mtls does not support profiles"),
        ("kind: headers\nauth: {headers: {X: '{a}'}}", "parameters and placeholders are not the same"),
        ("kind: headers\nauth: {headers: {X: y}}\nsecrets: {a: A key}", "parameters and placeholders are not the same"),
        ("kind: headers\nauth: {headers: {X: 'Bearer {a}'}}\nsecrets: {a: A key}", "a secret is part of a text"),
        (
            "kind: headers\nauth: {headers: {X: '{id}'}}\nsecrets: {id: A key}\nsignature: {secret: '{id}'}",
            "a parameter has the name of a placeholder that a signature fills in",
        ),
        ("kind: oauth\nauth: {}", "kind: oauth does not support profiles"),
        ("auth: {token_endpoint: x}", "kind"),
        (
            "kind: oauth2\nauth: {token_endpoint: 'https://{a}.example.com'}",
            "parameters and placeholders are not the same",
        ),
        (
            "kind: oauth2\nauth: {token_endpoint: x}\n"
            "parameters: {a: {description: d, rule: r, pattern: '[a-z]', example: b}}",
            "parameters and placeholders are not the same",
        ),
        (
            "kind: oauth2\nauth: {token_endpoint: '{a}'}\n"
            "parameters: {a: {description: d, rule: r, pattern: '[a-z]', example: B}}",
            "the example or default of a does not match its pattern",
        ),
        (
            "kind: oauth2\nauth: {token_endpoint: '{a}{b}'}\n"
            "parameters: {a: {description: d, rule: r, pattern: '[a-z]', example: b, defaults: {b: {c: d}}},"
            " b: {description: d, rule: r, pattern: '[a-z]', example: c}}",
            "the default of a needs a parameter that is not above it",
        ),
        (
            "kind: oauth2\nauth: {token_endpoint: '{a}{b}'}\n"
            "parameters: {a: {description: d, rule: r, pattern: '[a-z]', example: b},"
            " b: {description: d, rule: r, pattern: '[a-z]', example: c, defaults: {a: {c: D}}}}",
            "the example or default of b does not match its pattern",
        ),
        (
            "kind: oauth2\nauth: {token_endpoint: '{a}{b}'}\n"
            "parameters: {a: {description: d, rule: r, pattern: '[a-z]', example: b},"
            " b: {description: d, rule: r, pattern: '[a-z]', example: c, default: 'x{a}'}}",
            "the example or default of b does not match its pattern",
        ),
        ("kind: oauth2\nauth: {token_endpoint: x}\ncategory: things", "Input should be 'advertising'"),
        ("kind: oauth2\nauth: {token_endpoint: x}\naliases: ['']", "String should match pattern"),
        ("kind: oauth2\nauth: {token_endpoint: x}\naliases: [' Azure']", "String should match pattern"),
        ("kind: oauth2\nauth: {token_endpoint: x}\npopular: 1", "Input should be a valid boolean"),
        ("kind: oauth2\nauth: {token_endpoint: x}\ntest: {path: whoami}", "must begin with a slash"),
        ("kind: oauth2\nauth: {token_endpoint: x}\ntest: {path: '/{a}'}", "needs a path without parameters"),
        ("kind: oauth2\nauth: {token_endpoint: x}\ntest: {method: GET}", "needs a path without parameters"),
        ("kind: oauth2\nauth: {token_endpoint: x}\ntest: {method: get, path: /me}", "must be a known method"),
        ("kind: oauth2\nauth: {token_endpoint: x}\ntypo: y", "Extra inputs are not permitted"),
        ("kind: oauth2\nauth: {token_endpoint: x}\ntitle: again", "given twice"),
    ],
)
def test_invalid_profile_is_refused(broken: str, reason: str) -> None:
    category = "" if "category" in broken else "category: cloud\n"
    data = f"title: T\n{category}documentation: https://docs.example.com\nsources: []\nnotes: N\n{broken}\n"
    with pytest.raises(ValueError, match=re.escape(reason)):
        profiles.read_profile("t.yaml", data.encode())


KLAVIYO = "auth: {type: headers, provider: klaviyo, key: {file: k}}\n"


def test_secret_replaces_its_placeholder() -> None:
    """Unchanged, so that it is read, sealed and checked like any other."""
    raw = table(KLAVIYO)
    expansion = expand(raw, Context("file"))
    assert expansion.errors == []
    assert expansion.table == {
        "auth": {
            "type": "headers",
            "provider": "klaviyo",
            "headers": {"Authorization": {"prefix": "Klaviyo-API-Key ", "secret": {"file": "k"}}},
        },
        "endpoint_prefix": "https://a.klaviyo.com",
    }
    assert expansion.table["auth"]["headers"]["Authorization"]["secret"] is raw["auth"]["key"]


def test_additions_have_no_secret() -> None:
    """They are shown, and stored beside the document."""
    expansion = expand(
        table("auth: {type: headers, provider: klaviyo, key: {insecure_value: hunter2}}\n"), Context("file")
    )
    assert "hunter2" not in f"{expansion.summary}{expansion.additions}{expansion.origins}"
    assert expansion.summary is not None
    assert ("auth.headers.Authorization.secret", "{key}") in expansion.summary.entries
    assert expansion.additions is not None
    assert expansion.additions.secrets == ("key",)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "auth: {type: headers, provider: klaviyo}\n",
            "c.yaml:1:7: auth.key: this secret is missing: A private API key, of Settings > API keys; it has only the "
            "scopes that it was made with.",
        ),
        (
            "auth: {type: headers, provider: klaviyo, kye: {file: k}}\n",
            "c.yaml:1:47: auth.kye: unknown key; did you mean key?",
        ),
        (
            "auth: {type: headers, provider: klaviyo, key: {file: k}, headers: {Authorization: x}}\n",
            "c.yaml:1:47: auth.key: has no effect, because you set the key yourself that the provider fills with it: "
            "remove one of the two",
        ),
        (
            "auth: {type: basic, provider: klaviyo, key: {file: k}}\n",
            "c.yaml:1:31: auth.provider: `klaviyo` is a profile of `headers`: "
            "write `auth: {type: headers, provider: klaviyo, …}`",
        ),
    ],
)
def test_missing_or_unused_secret_is_one_error(text: str, error: str) -> None:
    assert shown(text) == [error]


def test_error_of_a_secret_is_located_at_its_own_key() -> None:
    """An error of another addition is located at the provider."""
    raw = table("auth:\n  type: headers\n  provider: klaviyo\n  key: bare\n")
    expansion = expand(raw, Context("file"))
    secret = ("auth", "headers", "Authorization", "secret")
    assert str(error_of(raw, expansion.locate(Finding(secret, "wrong")))) == "c.yaml:4:8: auth.key: wrong"
    assert expansion.source_loc((*secret, 0)) == ("auth", "key", 0)
    assert expansion.source_loc(("endpoint_prefix",)) == ("auth", "provider")


def test_own_prefix_replaces_that_of_the_profile() -> None:
    """A parameter that occurs only in the profile's prefix is not needed then."""
    text = "auth: {type: basic, provider: mailchimp, key: {file: k}}\n"
    assert [path for path, _ in expand(table(text), Context("file")).errors] == [("auth", "dc")]
    expansion = expand(table(f"{text}endpoint_prefix: https://mail.example.com\n"), Context("file"))
    assert (expansion.errors, expansion.table["endpoint_prefix"]) == ([], "https://mail.example.com")


def test_known_additions_are_reused_only_for_the_same_parameters() -> None:
    """The secret does not matter."""
    text = "auth: {type: basic, provider: mailchimp, key: {file: k}, dc: us6}\n"
    additions = expand(table(text), Context("file")).additions
    assert additions is not None
    known = additions._replace(
        added_keys={**additions.added_keys, "endpoint_prefix": "https://us6.of-then.example.com"}
    )

    def prefix(written: str) -> object:
        return expand(table(written), Context("file"), known).table.get("endpoint_prefix")

    assert prefix(text.replace("file: k", "env: OTHER")) == "https://us6.of-then.example.com"
    assert prefix(text.replace("us6", "us7")) == "https://us7.api.mailchimp.com"
    assert prefix(f"{text}endpoint_prefix: https://own.example.com\n") == "https://own.example.com"


def test_placeholders_of_a_request_are_not_filled_in() -> None:
    """They are filled when a request is signed."""
    text = (
        "kind: headers\ntitle: T\ncategory: cloud\ndocumentation: https://docs.example.com\nsources: []\nnotes: N\n"
        "secrets: {key: A key}\nparameters: {a: {description: d, rule: r, pattern: '[a-z]', example: b}}\n"
        "auth: {headers: {X: y}}\nsignature: {secret: '{key}', signed: '{timestamp}.{a}.{body}'}\n"
    )
    profile = profiles.read_profile("t.yaml", text.encode())
    assert profiles._fill(profile.additions, {"a": "b", "key": "{key}"}, profile.names)["signature"] == {
        "secret": "{key}",
        "signed": "{timestamp}.b.{body}",
    }


@pytest.mark.parametrize("value", ["{key}", "{", "a}"])
def test_parameter_with_braces_is_refused(value: str) -> None:
    """They would become a placeholder."""
    parameter = profiles.Parameter(description="d", rule="r", pattern=".*", example="e")
    assert parameter.error(value) == "must be r, such as e"


API: dict[str, tuple[str, str]] = {
    "acoustic-campaign": (
        "https://api-campaign-us-1.goacoustic.com/rest/databases",
        "https://api-campaign-eu-1.goacoustic.com/x",
    ),
    "adobe": ("https://platform.adobe.io/data/core/ups/access/entities", "https://ims-na1.adobe.io/x"),
    "adyen": (
        "https://1797a841fbb37ca7-acmeshop-checkout-live.adyenpayments.com/checkout/v71/payments",
        "https://other-checkout-live.adyenpayments.com/checkout/v71/payments",
    ),
    "akeneo": (
        "https://acme.cloud.akeneo.com/api/rest/v1/products",
        "https://other.cloud.akeneo.com/api/rest/v1/products",
    ),
    "algolia": ("https://erbsowzo32.algolia.net/1/indexes/*/queries", "https://other00000.algolia.net/1/indexes"),
    "app-store-connect": ("https://api.appstoreconnect.apple.com/v1/apps", "https://developer.apple.com/v1/apps"),
    "attentive": ("https://api.attentivemobile.com/v1/me", "https://attentivemobile.com/v1/me"),
    "auth0": ("https://acme.eu.auth0.com/api/v2/users", "https://other.eu.auth0.com/api/v2/users"),
    "bigcommerce": (
        "https://api.bigcommerce.com/stores/hpj4hvw2bb/v3/catalog/products",
        "https://api.bigcommerce.com/stores/other/v3/catalog/products",
    ),
    "bird": ("https://api.bird.com/workspaces/1/channels", "https://email.us-west-2.api.bird.com/x"),
    "bird-platform": ("https://eu1.platform.bird.com/v1/emails", "https://us1.platform.bird.com/v1/emails"),
    "braze": ("https://rest.iad-02.braze.com/messages/send", "https://rest.iad-01.braze.com/messages/send"),
    "business-central": (
        "https://api.businesscentral.dynamics.com/v2.0/t/Production/ODataV4",
        "https://api.dynamics.com/x",
    ),
    "checkout-com": ("https://vkuhvk4v.api.checkout.com/payments", "https://api.checkout.com/payments"),
    "commercetools": (
        "https://api.europe-west1.gcp.commercetools.com/shop",
        "https://api.us-central1.gcp.commercetools.com/shop",
    ),
    "contentsquare": ("https://api.contentsquare.com/v1/metrics", "https://contentsquare.net/v1/metrics"),
    "criteo": ("https://api.criteo.com/2024-07/campaigns", "https://rm-api.criteo.com/x"),
    "crowdstrike": (
        "https://api.eu-1.crowdstrike.com/devices/queries/devices/v1",
        "https://api.us-2.crowdstrike.com/x",
    ),
    "docusign": ("https://na4.docusign.net/restapi/v2.1/accounts/1/envelopes", "https://eu.docusign.net/restapi"),
    "dotdigital": ("https://r1-api.dotdigital.com/v2/contacts", "https://r2-api.dotdigital.com/v2/contacts"),
    "dynamics-365": (
        "https://contoso.api.crm4.dynamics.com/api/data/v9.2/accounts",
        "https://other.api.crm4.dynamics.com/x",
    ),
    "dynamics-365-finance": (
        "https://contoso.operations.dynamics.com/data/Customers",
        "https://other.operations.dynamics.com/data",
    ),
    "ebay": ("https://api.ebay.com/buy/browse/v1/item", "https://api.sandbox.ebay.com/buy"),
    "emarsys": ("https://api.emarsys.net/api/v3/contact", "https://suite.emarsys.net/api"),
    "fedex": ("https://apis.fedex.com/ship/v1/shipments", "https://apis-sandbox.fedex.com/ship"),
    "genesys-cloud": ("https://api.mypurecloud.de/api/v2/users", "https://api.mypurecloud.com/api/v2/users"),
    "ghost": ("https://acme.ghost.io/ghost/api/admin/posts/", "https://acme.ghost.io/ghost/api/content/posts/"),
    "google-service-account-impersonation": (
        "https://storage.googleapis.com/storage/v1/b",
        "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/1:signJwt",
    ),
    "google-workload-identity": ("https://storage.googleapis.com/storage/v1/b", "https://sts.googleapis.com/v1/x"),
    "google-service-account": ("https://storage.googleapis.com/storage/v1/b", "https://bigquery.googleapis.com/x"),
    "hubspot": ("https://api.hubapi.com/crm/v3/objects/contacts", "https://app.hubspot.com/x"),
    "infobip": ("https://4ktdq1.api.infobip.com/sms/3/messages", "https://other.api.infobip.com/sms/3/messages"),
    "infobip-oauth": ("https://4ktdq1.api.infobip.com/sms/3/messages", "https://other.api.infobip.com/sms/3/messages"),
    "intercom": ("https://api.eu.intercom.io/contacts", "https://api.intercom.io/contacts"),
    "iterable": ("https://api.eu.iterable.com/api/events/track", "https://api.iterable.com/api/events/track"),
    "klaviyo": ("https://a.klaviyo.com/api/events", "https://www.klaviyo.com/api/events"),
    "listrak": ("https://api.listrak.com/email/v1/List", "https://www.listrak.com/x"),
    "mailchimp": ("https://us6.api.mailchimp.com/3.0/lists", "https://us7.api.mailchimp.com/3.0/lists"),
    "marketo": ("https://123-abc-456.mktorest.com/rest/v1/leads.json", "https://999-abc-456.mktorest.com/rest"),
    "messagebird": ("https://rest.messagebird.com/messages", "https://voice.messagebird.com/x"),
    "microsoft-entra": ("https://my-vault.vault.azure.net/secrets", "https://other.vault.azure.net/secrets"),
    "mirakl-connect": ("https://miraklconnect.com/api/products", "https://www.mirakl.net/api"),
    "okta": ("https://acme.okta.com/api/v1/users", "https://other.okta.com/api/v1/users"),
    "okta-api-token": ("https://acme.okta.com/api/v1/users", "https://acme-admin.okta.com/api/v1/users"),
    "onetrust": ("https://app-eu.onetrust.com/api/consentmanager/v1/datasubjects", "https://app.onetrust.com/api"),
    "onetrust-api-key": (
        "https://app-eu.onetrust.com/api/consentmanager/v1/datasubjects",
        "https://app.onetrust.com/api",
    ),
    "paypal": ("https://api-m.paypal.com/v2/checkout/orders", "https://api-m.sandbox.paypal.com/v2"),
    "power-bi": ("https://api.powerbi.com/v1.0/myorg/groups", "https://app.powerbi.com/groups"),
    "salesforce": (
        "https://acme--uat.sandbox.my.salesforce.com/services/data/v62.0/sobjects",
        "https://acme.my.salesforce.com/x",
    ),
    "salesforce-marketing-cloud": (
        "https://mc563885gzs27c5t9-63k636ttgm.rest.marketingcloudapis.com/messaging/v1/email/messages/1",
        "https://mcother.rest.marketingcloudapis.com/x",
    ),
    "sap-btp": (
        "https://api.acme.cfapps.eu10.hana.ondemand.com/orders",
        "https://evil.cfapps.eu10.hana.ondemand.com/orders",
    ),
    "segment": ("https://events.eu1.segmentapis.com/v1/track", "https://api.segment.io/v1/track"),
    "sendgrid": ("https://api.eu.sendgrid.com/v3/mail/send", "https://api.sendgrid.com/v3/mail/send"),
    "servicenow": ("https://dev12345.service-now.com/api/now/table/incident", "https://other.service-now.com/api"),
    "shopify": (
        "https://my-store.myshopify.com/admin/api/2026-01/graphql.json",
        "https://other.myshopify.com/admin/api",
    ),
    "sinch": (
        "https://eu.conversation.api.sinch.com/v1/projects/1/messages:send",
        "https://us.conversation.api.sinch.com/v1",
    ),
    "snowflake": (
        "https://myorg-myaccount.snowflakecomputing.com/api/v2/statements",
        "https://other.snowflakecomputing.com/api",
    ),
    "snowflake-key-pair": (
        "https://myorg-myaccount.snowflakecomputing.com/api/v2/statements",
        "https://other.snowflakecomputing.com/api",
    ),
    "spotify": ("https://api.spotify.com/v1/tracks/1", "https://open.spotify.com/track/1"),
    "trustpilot": (
        "https://invitations-api.trustpilot.com/v1/private/business-units/1/email-invitations",
        "https://www.trustpilot.com/x",
    ),
    "github-app": ("https://api.github.com/repos/acme/x/issues", "https://github.com/acme/x"),
    "mandrill": ("https://mandrillapp.com/api/1.3/messages/send", "https://mandrillapp.com/login"),
    "sap-ariba": ("https://openapi-eu.ariba.com/api/orders/v1/prod/items", "https://openapi.ariba.com/api/orders"),
    "tableau": (
        "https://10ax.online.tableau.com/api/3.27/sites/1/workbooks",
        "https://10ay.online.tableau.com/api/3.27/x",
    ),
    "toast": ("https://ws-api.toasttab.com/orders/v2/orders", "https://www.toasttab.com/orders/v2/orders"),
    "yotpo": ("https://api.yotpo.com/core/v3/stores/1/products", "https://loyalty.yotpo.com/core/v3/stores"),
    "twilio": ("https://api.twilio.com/2010-04-01/Accounts/AC1/Messages.json", "https://console.twilio.com/x"),
    "twilio-api-key": ("https://api.twilio.com/2010-04-01/Accounts/AC1/Messages.json", "https://verify.twilio.com/v2"),
    "ups": ("https://onlinetools.ups.com/api/rating/v2409/Shop", "https://wwwcie.ups.com/api"),
    "vonage": ("https://api.nexmo.com/v1/messages", "https://rest.nexmo.com/sms/json"),
    "yotpo-ugc": ("https://api.yotpo.com/v1/apps/1/reviews", "https://loyalty.yotpo.com/x"),
    "zendesk": ("https://acme.zendesk.com/api/v2/tickets.json", "https://other.zendesk.com/api/v2/tickets.json"),
    "zoom": ("https://api.zoom.us/v2/users", "https://marketplace.zoom.us/x"),
}
"""For each profile, by its examples: a URL of its API, and one that is another customer's, region's or API's."""


@pytest.mark.parametrize("name", profiles.provider_names())
def test_profile_allows_its_api_and_no_similar_host(name: str, tmp_path: Path) -> None:
    """It allows no target without TLS."""
    path = tmp_path / "sidekey.yaml"
    path.write_text(json.dumps({"version": 1, "integrations": {"it": {"auth": auth_of(name)}}}))
    loaded = load(path, environment())
    assert loaded.snapshot is not None
    policy = loaded.snapshot.integrations["it"].policy
    url, neighbour = API[name]
    host, target = url.split("/")[2], url.split("/", 3)[3]
    if loaded.snapshot.integrations["it"].traits.discovers_base_url:
        policy = policy.with_base(parse_discovered_base(f"https://{host}"))
    assert judge_url(policy, "POST", url).allowed
    for other in (
        neighbour,
        *(f"https://{similar}/{target}" for similar in (f"{host}.evil.example", f"evil-{host}", f"x.{host}")),
    ):
        assert not judge_url(policy, "POST", other).allowed
    for other in (
        url.replace("https://", "http://"),
        url.replace(host, f"{host}:8443"),
        url.replace(host, f"{host}@evil.example"),
    ):
        assert not judge_url(policy, "POST", other).allowed
