from dataclasses import replace

import pytest

from sidekey.config import checks
from sidekey.credentials.base import CredentialTraits, InjectionPoints
from sidekey.credentials.context import Context
from sidekey.credentials.registry import KINDS
from sidekey.credentials.signing import SigningRules
from sidekey.policy.callers import Caller
from sidekey.policy.targets import Policy, parse_domain, parse_prefix
from support.plane import integration

AUTH = {"type": "basic", "username": "svc", "password": {"env": "CRM"}}


@pytest.mark.parametrize(
    ("raw", "warning"),
    [
        ({"endpoint_prefix": "http://api.example.com"}, (("endpoint_prefix",), "the credential travels in the clear")),
        (
            {"endpoint_prefix": ["https://api.example.com", "HTTP://api.example.com"]},
            (("endpoint_prefix", 1), "the credential travels in the clear"),
        ),
        (
            {"auth": {"type": "basic", "username": "svc", "password": {"insecure_value": "hunter2"}}},
            (
                ("auth", "password", "insecure_value"),
                "a secret is written in the config file: use this for trials only",
            ),
        ),
        (
            {"auth": {"type": "headers", "headers": {"Authorization": "Bearer hunter2"}}},
            (
                ("auth", "headers", "Authorization"),
                "this is public text: write a secret as {prefix: TEXT, secret: ...}",
            ),
        ),
    ],
    ids=["a prefix in the clear", "one of two prefixes", "a secret", "what only the kind knows"],
)
def test_insecure_integration_has_warnings_at_their_keys(raw: dict[str, object], warning: tuple[object, str]) -> None:
    good = {"endpoint_prefix": "https://api.example.com/v1", "auth": AUTH}
    assert list(checks.integration_warnings({**good, **raw})) == [warning]
    assert list(checks.integration_errors({**good, **raw}, Context("file"))) == []


OAUTH2 = {"type": "oauth2", "client_id": "id", "client_secret": {"env": "SECRET"}}
CERTIFICATE = {"pem": {"file": "tls.pem"}}


@pytest.mark.parametrize("raw", [{"auth": {"type": "mtls", **CERTIFICATE}}, {"client_certificate": CERTIFICATE}])
def test_client_certificate_with_an_http_prefix_is_a_warning(raw: dict[str, object]) -> None:
    """Without TLS there is no handshake that sends it."""
    clear = {"endpoint_prefix": "http://api.example.com", "auth": AUTH}
    assert list(checks.integration_warnings({**clear, **raw})) == [
        (("endpoint_prefix",), "the credential travels in the clear, and no client certificate is sent")
    ]


def test_private_key_in_the_file_is_a_warning() -> None:
    raw = {"auth": AUTH, "client_certificate": {"private_key": {"insecure_value": "hunter2"}}}
    assert list(checks.integration_warnings(raw)) == [
        (
            ("client_certificate", "private_key", "insecure_value"),
            "a secret is written in the config file: use this for trials only",
        )
    ]


def test_client_certificate_beside_a_kind_that_has_one_is_an_error() -> None:
    raw = {"endpoint_prefix": "https://api.example.com", "auth": {"type": "mtls", **CERTIFICATE}}
    assert list(checks.integration_errors(raw, Context("file"))) == []
    assert list(checks.integration_errors({**raw, "client_certificate": CERTIFICATE}, Context("file"))) == [
        (("client_certificate",), "kind mtls has its certificate under auth: remove this block")
    ]


def test_kind_reports_errors_between_its_keys() -> None:
    raw = {"auth": {"type": "oauth2", "client_id": "id", "client_authentication": "tls_client_auth"}}
    assert [loc for loc, _ in checks.integration_errors(raw, Context("file"))] == [("auth", "client_authentication")]
    assert list(checks.integration_errors({**raw, "client_certificate": CERTIFICATE}, Context("file"))) == []


@pytest.mark.parametrize("auth", [{"type": "responsys"}, {**OAUTH2, "token_response": {"base_url": "url"}}])
def test_test_path_under_an_unknown_base_url_has_no_dot_segment(auth: dict[str, object]) -> None:
    """Any other path is under the base URL that the token will bring."""
    raw = {"endpoint_prefix": "https://api.example.com/v1", "auth": auth}
    assert list(checks.integration_errors({**raw, "test": {"path": "/v2"}}, Context("file"))) == []
    assert [loc for loc, _ in checks.integration_errors({**raw, "test": {"path": "/../v2"}}, Context("file"))] == [
        ("test", "path")
    ]


@pytest.mark.parametrize(
    ("domains", "warned"),
    [
        ([], []),
        (["https://*.example.com"], []),
        (["https://other.example.org"], ["https://api.example.com", "https://eu.example.com"]),
        (["https://api.example.com", "https://other.example.org"], ["https://eu.example.com"]),
    ],
)
def test_prefix_under_no_allowed_domain_is_a_warning(domains: list[str], warned: list[str]) -> None:
    """The prefix allows nothing then. The warning does not show its path, which may be a secret."""
    prefixes = ("https://api.example.com/v1", "https://eu.example.com")
    policy = Policy(prefixes=tuple(map(parse_prefix, prefixes)), domains=tuple(map(parse_domain, domains)))
    text = "is not an allowed domain: change it, or add it to allowed_domains, with allow_other_domains: true"
    assert list(checks.uncovered_prefixes(policy)) == [
        (("endpoint_prefix",), f"no request passes, because {origin} {text}") for origin in warned
    ]


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        ({"methods": ["POST"], "test": {"path": "/whoami"}}, ("test", "method")),
        ({"test": {"path": "/%2e%2e/%00"}}, ("test", "path")),
        ({"endpoint_prefix": "https://auth.example.com/v1", "test": {"path": "/../v2"}}, ("test", "path")),
        (
            {
                "endpoint_prefix": "https://auth.example.com/v1",
                "allow_other_domains": True,
                "allowed_domains": ["https://api.example.com"],
                "test": {"path": "/whoami"},
            },
            None,
        ),
        ({"test": {"path": "/whoami"}}, None),
    ],
)
def test_test_request_is_checked_without_the_domains_of_the_kind(
    raw: dict[str, object], error: tuple[str, ...] | None
) -> None:
    auth = {**OAUTH2, "token_endpoint": "https://auth.example.com/token"}
    assert [loc for loc, _ in checks.integration_errors({"auth": auth, **raw}, Context("file"))] == (
        [] if error is None else [error]
    )


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8080", "127.9.9.9:8080", "[::1]:8080", "localhost:8080", "unix:/run/sidekey.sock"]
)
def test_local_listener_needs_no_callers(address: str) -> None:
    """Other machines cannot reach loopback and unix sockets."""
    assert list(checks.global_errors({"listen": {"proxy": address, "admin": "unix:admin.sock"}})) == []


@pytest.mark.parametrize("address", ["0.0.0.0:8080", "[::]:8080", "10.1.2.3:8080", "[::ffff:10.1.2.3]:8080"])
def test_open_listener_needs_callers_or_allow_unauthenticated(address: str) -> None:
    proxy, admin = {"listen": {"proxy": address}}, {"listen": {"admin": address}}
    callers = {"callers": {"billing": {"token": {"env": "BILLING"}}}}
    consent = {"allow_unauthenticated": True}
    assert [loc for loc, _ in checks.global_errors(proxy)] == [("listen", "proxy")]
    assert [loc for loc, _ in checks.global_errors({**proxy, "callers": {}})] == [("listen", "proxy")]
    assert list(checks.global_errors({**proxy, **callers})) == []
    assert [loc for loc, _ in checks.global_errors({**admin, **callers})] == [("listen", "admin")]
    assert list(checks.global_errors({**proxy, **consent})) == list(checks.global_errors({**admin, **consent})) == []


@pytest.mark.parametrize("consent", ["true", 1, None, "yes"])
def test_invalid_allow_unauthenticated_allows_nothing(consent: object) -> None:
    raw = {"listen": {"proxy": "0.0.0.0:8080"}, "allow_unauthenticated": consent}
    assert [loc for loc, _ in checks.global_errors(raw)] == [("listen", "proxy")]


def test_metrics_listener_may_be_open() -> None:
    """It shows only numbers, and a Prometheus server scrapes it from another machine."""
    assert list(checks.global_errors({"listen": {"metrics": "0.0.0.0:15091"}})) == []


def test_port_0_may_be_used_twice() -> None:
    assert list(checks.global_errors({"listen": {"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0"}})) == []


def test_open_listeners_with_allow_unauthenticated_are_a_warning() -> None:
    raw = {"listen": {"proxy": "0.0.0.0:8080"}, "allow_unauthenticated": True}
    assert list(checks.global_warnings(raw)) == [(("listen", "proxy"), "anyone who can reach this listener can use it")]


def test_caller_token_in_the_file_is_a_warning() -> None:
    raw = {"callers": {"billing": {"token": {"insecure_value": "hunter2"}}}}
    assert list(checks.global_warnings(raw)) == [
        (
            ("callers", "billing", "token", "insecure_value"),
            "a secret is written in the config file: use this for trials only",
        )
    ]


@pytest.mark.parametrize(
    "raw", [{}, {"auth": 1}, {"auth": {"type": []}}, {"test": [], "methods": 3, "allowed_domains": "x"}]
)
def test_checks_ignore_values_of_a_wrong_type(raw: dict[str, object]) -> None:
    """The models report them."""
    assert [loc for loc, _ in checks.integration_warnings({"endpoint_prefix": {"file": "x"}, **raw})] == []


def test_test_request_with_a_referenced_prefix_is_not_checked() -> None:
    raw = {"endpoint_prefix": {"env": "BASE"}, "auth": AUTH, "test": {"path": "/../x"}}
    assert list(checks.integration_errors(raw, Context("file"))) == []


def test_integrations_that_share_no_caller_may_overlap() -> None:
    """The caller then determines the integration. Without callers, everybody may use all integrations."""
    integrations = {name: integration(name, "https://api.example.com/v1") for name in ("a", "b")}
    first, second, all_ = Caller("one", frozenset({"a"})), Caller("other", frozenset({"b"})), Caller("all", None)
    assert list(checks.matching_errors(integrations, [first, second])) == []
    for callers in ([], [first, all_]):
        ((place, message),) = checks.matching_errors(integrations, callers)
        assert place == ("integrations", "b")
        assert "covers https://api.example.com/v1 as integration a does" in message


def test_integration_with_an_unknown_policy_is_not_compared() -> None:
    unknown = replace(integration("a", "https://api.example.com"), rebuild=lambda: integration("a"))
    assert list(checks.matching_errors({"a": unknown, "b": integration("b", "https://api.example.com")}, [])) == []


def test_open_listener_with_a_store_needs_no_callers() -> None:
    """With a store, Sidekey always checks callers, even if there are none."""
    raw = {"listen": {"proxy": "0.0.0.0:8080"}}
    assert [loc for loc, _ in checks.global_errors(raw)] == [("listen", "proxy")]
    store = {"path": "s.db", "keys": [{"id": "k1", "key": {"env": "K1"}}]}
    assert list(checks.global_errors({**raw, "store": store})) == []


def test_caller_of_an_unknown_id_is_an_error_or_a_warning_with_a_store() -> None:
    raw = {"callers": {"a": {"integrations": ["known", "later"], "presets": ["hook"]}}}
    place = ("callers", "a", "integrations", 1)
    files = checks.ResourceIds({"known"}, {"hook"})
    assert list(checks.caller_errors(raw, files)) == [
        (place, "no integration has this ID: add one, or remove the ID here")
    ]
    text = "no file has an integration with this ID: create it in the store"
    assert list(checks.caller_errors({**raw, "store": {}}, files)) == [(place, text)]
    assert list(checks.caller_errors({**raw, "store": {}}, files, checks.ResourceIds({"later"}))) == []
    place, files = ("callers", "a", "presets", 0), checks.ResourceIds({"known", "later"})
    assert list(checks.caller_errors(raw, files)) == [(place, "no preset has this ID: add one, or remove the ID here")]
    text = "no file has a preset with this ID: create it in the store"
    assert list(checks.caller_errors({**raw, "store": {}}, files)) == [(place, text)]
    assert list(checks.caller_errors({**raw, "store": {}}, files, checks.ResourceIds((), {"hook"}))) == []


ADD = {"headers": {"X-Tenant": "acme"}, "query": {"key": {"secret": {"env": "KEY"}}}}
OAUTH2 = {
    "type": "oauth2",
    "token_endpoint": "https://auth.example.com/token",
    "client_id": "id",
    "client_secret": {"env": "SECRET"},
}


def added(add: object, auth: object = AUTH) -> list[tuple[tuple[str | int, ...], str]]:
    """Return the errors of an integration with `add` beside `auth`."""
    return [
        *checks.integration_errors(
            {"endpoint_prefix": "https://api.example.com", "auth": auth, "add": add}, Context("file")
        )
    ]


def test_added_names_may_accompany_any_kind() -> None:
    assert added(ADD) == added(ADD, {"type": "mtls", **CERTIFICATE}) == added(ADD, OAUTH2) == []
    assert added(None) == []


def test_add_beside_a_kind_with_its_own_headers_is_an_error() -> None:
    assert added(ADD, {"type": "headers", "headers": {"X-Key": "a"}}) == [
        (("add",), "belongs under auth with type headers: move its headers, query and body there")
    ]


def test_empty_add_and_repeated_parameters_are_errors() -> None:
    assert added({}) == [(("add",), "needs headers, query or body: names to values")]
    assert [place for place, _ in added({"query": {"a": "b"}, "body": {"A": "b"}})] == [("add", "body", "A")]


@pytest.mark.parametrize(
    ("auth", "add", "place", "message"),
    [
        (
            AUTH,
            {"headers": {"authorization": "a"}},
            ("headers", "authorization"),
            "Authorization of auth and authorization of add are the same header (case does not count, _ counts as -): "
            "remove one",
        ),
        (
            {**OAUTH2, "token_placement": {"in": "header", "name": "X-Api-Key", "scheme": ""}},
            {"headers": {"x_api_key": "a"}},
            ("headers", "x_api_key"),
            "X-Api-Key of auth and x_api_key of add are the same header (case does not count, _ counts as -): "
            "remove one",
        ),
        (
            {**OAUTH2, "token_placement": "query"},
            {"query": {"Access.Token": "a"}},
            ("query", "Access.Token"),
            "access_token of auth and Access.Token of add are the same parameter to some servers (case does not "
            "count, . and _ are one): remove one",
        ),
        (
            {**OAUTH2, "token_placement": "body"},
            {"query": {"ACCESS_TOKEN": "a"}},
            ("query", "ACCESS_TOKEN"),
            "access_token of auth and ACCESS_TOKEN of add are the same parameter to some servers (case does not "
            "count, . and _ are one): remove one",
        ),
    ],
)
def test_name_that_two_sections_write_is_an_error_that_names_both(
    auth: dict[str, object], add: dict[str, object], place: tuple[str, ...], message: str
) -> None:
    assert added(add, auth) == [(("add", *place), message)]
    raw = {"auth": auth, "add": add, "endpoint_prefix": 5, "unknown": True}
    assert (("add", *place), message) in list(checks.integration_errors(raw, Context("file")))


@pytest.mark.parametrize(
    "rules", [{"names": b"x-tenant"}, {"caller_fields": b"x-tenant"}, {"signed": b"x-tenant"}], ids=str
)
def test_added_header_of_the_kind_s_signature_is_an_error(
    rules: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = {"names": frozenset[bytes](), **{key: frozenset({name}) for key, name in rules.items()}}
    traits = CredentialTraits(InjectionPoints(), signing=SigningRules(**sets, body=False))
    monkeypatch.setattr(KINDS["basic"], "traits", lambda _: traits)
    assert added({"headers": {"X_Tenant": "a", "X-Other": "b"}}) == [
        (("add", "headers", "X_Tenant"), "X_Tenant belongs to the signature that auth makes: remove it")
    ]


AWS = {
    "type": "aws_sigv4",
    "region": "eu-west-1",
    "service": "s3",
    "access_key_id": "AKIDEXAMPLE",
    "secret_access_key": {"env": "SECRET"},
}


@pytest.mark.parametrize("name", ["X-Amz-Copy-Source", "x_amz_copy_source", "x-amz-rename-source"])
def test_added_header_that_names_another_object_is_an_error(name: str) -> None:
    assert added({"headers": {name: "/other/key", "x-amz-meta-a": "1"}}, AWS) == [
        (("add", "headers", name), f"{name} belongs to the signature that auth makes: remove it")
    ]


@pytest.mark.parametrize("name", ["X-Amz-Security-Token", "x-amz-expires"])
def test_added_parameter_that_signs_a_url_is_an_error(name: str) -> None:
    assert added({"query": {name: "a", "x-id": "b"}}, AWS) == [
        (("add", "query", name), "must not begin with x-amz-: such parameters sign a URL")
    ]


def test_names_of_an_invalid_section_are_not_compared() -> None:
    assert added({"headers": {"Authorization": 5}}) == added({"headers": 5}) == added(5) == []
    assert added({"headers": {"Authorization": "a"}}, {"type": "basic"}) == []


def test_added_secret_in_the_file_is_a_warning() -> None:
    raw = {"auth": AUTH, "add": {"query": {"api_key": "a", "k": {"secret": {"insecure_value": "hunter2"}}}}}
    assert [place for place, _ in checks.integration_warnings(raw)] == [
        ("add", "query", "api_key"),
        ("add", "query", "k", "secret", "insecure_value"),
    ]


@pytest.mark.parametrize(
    ("limits", "place"),
    [
        ({}, None),
        ({"signed_body": "32MiB"}, None),
        ({"signed_body": "33MiB"}, "signed_body"),
        ({"held_bodies": "16MiB"}, None),
        ({"held_bodies": "15MiB"}, "held_bodies"),
        ({"signed_body": "1KiB", "held_bodies": "2KiB"}, None),
        ({"signed_body": "1KiB", "held_bodies": "2047B"}, "held_bodies"),
        ({"signed_body": 5, "held_bodies": "1B"}, None),
    ],
)
def test_held_bodies_below_twice_signed_body_is_an_error(limits: dict[str, object], place: str | None) -> None:
    """Two integrations may each need the space of one body. Values that are invalid by themselves are not compared."""
    errors = list(checks.global_errors({"limits": limits}))
    assert [loc for loc, _ in errors] == ([] if place is None else [("limits", place)])
    assert all(text.startswith("limits.held_bodies must be at least twice limits.signed_body") for _, text in errors)


@pytest.mark.parametrize(
    ("value", "warned"),
    [
        ("${TOKEN}", True),
        ("Bearer ${TOKEN}", True),
        ("https://${HOST}/v1", True),
        ("${TOKEN:-none}", True),
        ("${TOKEN?must be set}", True),
        ("$TOKEN", True),
        ("$API_KEY_2", True),
        ("Bearer $TOKEN", False),
        ("pa$WORD", False),
        ("$token", False),
        ("$A", False),
        ("$1", False),
        ("^[a-z]+$", False),
        ("$", False),
        ("${", False),
        ("${}", False),
        ("${{ value }}", False),
        ("{name}", False),
        ("{{name}}", False),
        ("$(TOKEN)", False),
    ],
)
def test_shell_variable_is_a_warning_with_a_remedy(value: str, warned: bool) -> None:
    """The warning does not repeat the value."""
    raw = {
        "description": value,
        "tags": [value],
        "endpoint_prefix": [value],
        "auth": {"headers": {"X-Key": {"prefix": value}}},
        "source_address": value,
    }
    warnings = [
        (("endpoint_prefix", 0), "nothing is expanded: write {env: NAME}"),
        (("auth", "headers", "X-Key", "prefix"), "nothing is expanded: write {env: NAME}"),
        (("source_address",), "nothing is expanded: write the value itself"),
    ]
    assert list(checks.integration_variable_warnings(raw, Context("file"))) == (warnings if warned else [])
    stored = [(loc, "nothing is expanded: write the value itself") for loc, _ in warnings]
    assert list(checks.integration_variable_warnings(raw, Context("body"))) == (stored if warned else [])
    config = {"ca": {"folder": value}}
    assert [loc for loc, _ in checks.global_warnings(config)] == ([("ca", "folder")] if warned else [])
    preset = {"url": value, "headers": {"X-A": value}, "body": {"text": value}, "parameters": {"a": {"default": value}}}
    assert [loc for loc, _ in checks.preset_warnings(preset)] == ([("url",), ("headers", "X-A")] if warned else [])


def test_stored_secret_that_looks_like_a_variable_has_no_warning() -> None:
    raw = {"auth": {"password": {"value": "${hunter2}"}}}
    assert list(checks.integration_variable_warnings(raw, Context("body"))) == []
