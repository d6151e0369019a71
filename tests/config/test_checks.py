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
def test_what_loads_but_should_be_known_is_a_warning(raw: dict[str, object], warning: tuple[object, str]) -> None:
    """Each has its place and says what is the matter."""
    good = {"endpoint_prefix": "https://api.example.com/v1", "auth": AUTH}
    assert list(checks.integration_warnings({**good, **raw})) == [warning]
    assert list(checks.integration_errors({**good, **raw}, Context("file"))) == []


OAUTH2 = {"type": "oauth2", "client_secret": {"env": "SECRET"}}
CERTIFICATE = {"pem": {"file": "tls.pem"}}


@pytest.mark.parametrize("raw", [{"auth": {"type": "mtls", **CERTIFICATE}}, {"client_certificate": CERTIFICATE}])
def test_a_certificate_is_not_shown_in_the_clear(raw: dict[str, object]) -> None:
    """Without TLS there is no handshake."""
    clear = {"endpoint_prefix": "http://api.example.com", "auth": AUTH}
    assert list(checks.integration_warnings({**clear, **raw})) == [
        (("endpoint_prefix",), "the credential travels in the clear, and no client certificate is sent")
    ]


def test_a_pasted_key_is_a_warning() -> None:
    """In the block as under auth."""
    raw = {"auth": AUTH, "client_certificate": {"private_key": {"insecure_value": "hunter2"}}}
    assert list(checks.integration_warnings(raw)) == [
        (
            ("client_certificate", "private_key", "insecure_value"),
            "a secret is written in the config file: use this for trials only",
        )
    ]


def test_a_certificate_that_the_kind_brings_has_no_block_of_its_own() -> None:
    """Two would leave it open which is shown."""
    raw = {"endpoint_prefix": "https://api.example.com", "auth": {"type": "mtls", **CERTIFICATE}}
    assert list(checks.integration_errors(raw, Context("file"))) == []
    assert list(checks.integration_errors({**raw, "client_certificate": CERTIFICATE}, Context("file"))) == [
        (("client_certificate",), "kind mtls has its certificate under auth: remove this block")
    ]


def test_a_kind_finds_its_own_errors() -> None:
    """Between its keys and those of the integration."""
    raw = {"auth": {"type": "oauth2", "client_authentication": "tls_client_auth"}}
    assert [loc for loc, _ in checks.integration_errors(raw, Context("file"))] == [("auth", "client_authentication")]
    assert list(checks.integration_errors({**raw, "client_certificate": CERTIFICATE}, Context("file"))) == []


@pytest.mark.parametrize("auth", [{"type": "responsys"}, {**OAUTH2, "token_response": {"base_url": "url"}}])
def test_a_test_request_under_a_base_url_that_is_learnt_has_no_dot_segment(auth: dict[str, object]) -> None:
    """Wherever the base URL turns out to be. Any other path lies below it."""
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
    """Both must allow a target, so the prefix allows nothing. Its path may be a secret and is not shown."""
    prefixes = ("https://api.example.com/v1", "https://eu.example.com")
    policy = Policy(prefixes=tuple(map(parse_prefix, prefixes)), domains=tuple(map(parse_domain, domains)))
    text = "is not an allowed domain: change it, or add it to allowed_domains, with allow_other_domains: true"
    assert list(checks.policy_warnings(policy)) == [
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
def test_a_test_request_is_judged_without_what_only_the_kind_knows(
    raw: dict[str, object], error: tuple[str, ...] | None
) -> None:
    """By methods and prefixes: a token endpoint's own host is allowed, wherever it is."""
    auth = {**OAUTH2, "token_endpoint": "https://auth.example.com/token"}
    assert [loc for loc, _ in checks.integration_errors({"auth": auth, **raw}, Context("file"))] == (
        [] if error is None else [error]
    )


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8080", "127.9.9.9:8080", "[::1]:8080", "localhost:8080", "unix:/run/sidekey.sock"]
)
def test_a_listener_of_this_machine_needs_no_callers(address: str) -> None:
    """Loopback and unix sockets are reached from this machine only."""
    assert list(checks.global_errors({"listen": {"proxy": address, "admin": "unix:admin.sock"}})) == []


@pytest.mark.parametrize("address", ["0.0.0.0:8080", "[::]:8080", "10.1.2.3:8080", "[::ffff:10.1.2.3]:8080"])
def test_a_listener_that_others_reach_needs_callers_or_consent(address: str) -> None:
    """Callers make a proxy listener safe; an admin listener has no tokens yet."""
    proxy, admin = {"listen": {"proxy": address}}, {"listen": {"admin": address}}
    callers = {"callers": {"billing": {"token": {"env": "BILLING"}}}}
    consent = {"allow_unauthenticated": True}
    assert [loc for loc, _ in checks.global_errors(proxy)] == [("listen", "proxy")]
    assert [loc for loc, _ in checks.global_errors({**proxy, "callers": {}})] == [("listen", "proxy")]
    assert list(checks.global_errors({**proxy, **callers})) == []
    assert [loc for loc, _ in checks.global_errors({**admin, **callers})] == [("listen", "admin")]
    assert list(checks.global_errors({**proxy, **consent})) == list(checks.global_errors({**admin, **consent})) == []


@pytest.mark.parametrize("consent", ["true", 1, None, "yes"])
def test_consent_is_given_by_true_alone(consent: object) -> None:
    """A value that is invalid by itself opens nothing."""
    raw = {"listen": {"proxy": "0.0.0.0:8080"}, "allow_unauthenticated": consent}
    assert [loc for loc, _ in checks.global_errors(raw)] == [("listen", "proxy")]


def test_the_metrics_listener_may_be_open() -> None:
    """It shows numbers only, and a Prometheus server scrapes it from elsewhere."""
    assert list(checks.global_errors({"listen": {"metrics": "0.0.0.0:15091"}})) == []


def test_a_free_port_may_be_asked_for_twice() -> None:
    """Port 0 is another port each time."""
    assert list(checks.global_errors({"listen": {"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0"}})) == []


def test_open_listeners_with_consent_are_a_warning() -> None:
    """Who runs it should know that nobody is asked for a token."""
    raw = {"listen": {"proxy": "0.0.0.0:8080"}, "allow_unauthenticated": True}
    assert list(checks.global_warnings(raw)) == [(("listen", "proxy"), "anyone who can reach this listener can use it")]


def test_a_token_in_the_file_is_a_warning() -> None:
    """Callers' tokens are secrets like any other."""
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
def test_values_of_another_shape_are_passed_over(raw: dict[str, object]) -> None:
    """The models report them."""
    assert [loc for loc, _ in checks.integration_warnings({"endpoint_prefix": {"file": "x"}, **raw})] == []


def test_a_test_request_of_a_prefix_that_is_a_reference_is_not_judged() -> None:
    """What the file or variable holds is not known to a check of the text."""
    raw = {"endpoint_prefix": {"env": "BASE"}, "auth": AUTH, "test": {"path": "/../x"}}
    assert list(checks.integration_errors(raw, Context("file"))) == []


def test_integrations_that_no_caller_has_both_of_may_overlap() -> None:
    """Whose a request is follows from its caller then; without callers, everybody has all of them."""
    given = {name: integration(name, "https://api.example.com/v1") for name in ("a", "b")}
    one, other, all_ = Caller("one", frozenset({"a"})), Caller("other", frozenset({"b"})), Caller("all", None)
    assert list(checks.matching_errors(given, [one, other])) == []
    for callers in ([], [one, all_]):
        ((place, message),) = checks.matching_errors(given, callers)
        assert place == ("integrations", "b")
        assert "covers https://api.example.com/v1 as integration a does" in message


def test_an_integration_whose_policy_is_not_known_is_not_compared() -> None:
    """It is not matched either."""
    unknown = replace(integration("a", "https://api.example.com"), rebuild=lambda: integration("a"))
    assert list(checks.matching_errors({"a": unknown, "b": integration("b", "https://api.example.com")}, [])) == []


def test_a_store_stands_in_for_callers() -> None:
    """They are judged, also while there are none; the admin listener is another matter."""
    raw = {"listen": {"proxy": "0.0.0.0:8080"}}
    assert [loc for loc, _ in checks.global_errors(raw)] == [("listen", "proxy")]
    store = {"path": "s.db", "keys": [{"id": "k1", "key": {"env": "K1"}}]}
    assert list(checks.global_errors({**raw, "store": store})) == []


def test_who_may_use_what_is_not_there_is_said_in_words_for_the_source() -> None:
    """With a store it may be made later."""
    raw = {"callers": {"a": {"integrations": ["known", "later"], "presets": ["hook"]}}}
    place = ("callers", "a", "integrations", 1)
    files = checks.KnownIds({"known"}, {"hook"})
    assert list(checks.caller_errors(raw, files)) == [
        (place, "no integration has this ID: add one, or remove the ID here")
    ]
    text = "no file has an integration of this ID: it must be made in the store"
    assert list(checks.caller_errors({**raw, "store": {}}, files)) == [(place, text)]
    assert list(checks.caller_errors({**raw, "store": {}}, files, checks.KnownIds({"later"}))) == []
    place, files = ("callers", "a", "presets", 0), checks.KnownIds({"known", "later"})
    assert list(checks.caller_errors(raw, files)) == [(place, "no preset has this ID: add one, or remove the ID here")]
    text = "no file has a preset of this ID: it must be made in the store"
    assert list(checks.caller_errors({**raw, "store": {}}, files)) == [(place, text)]
    assert list(checks.caller_errors({**raw, "store": {}}, files, checks.KnownIds((), {"hook"}))) == []


ADD = {"headers": {"X-Tenant": "acme"}, "query": {"key": {"secret": {"env": "KEY"}}}}
OAUTH2 = {
    "type": "oauth2",
    "token_endpoint": "https://auth.example.com/token",
    "client_id": "id",
    "client_secret": {"env": "SECRET"},
}


def added(add: object, auth: object = AUTH) -> list[tuple[tuple[str | int, ...], str]]:
    """The errors of an integration with this beside this."""
    return [
        *checks.integration_errors(
            {"endpoint_prefix": "https://api.example.com", "auth": auth, "add": add}, Context("file")
        )
    ]


def test_what_is_added_stands_beside_any_credential() -> None:
    """Where no name is the credential's own."""
    assert added(ADD) == added(ADD, {"type": "mtls", **CERTIFICATE}) == added(ADD, OAUTH2) == []
    assert added(None) == []


def test_a_kind_that_injects_what_is_written_has_it_under_auth() -> None:
    """There is one place for it."""
    assert added(ADD, {"type": "headers", "headers": {"X-Key": "a"}}) == [
        (("add",), "belongs under auth with type headers: move its headers, query and body there")
    ]


def test_what_is_added_says_something() -> None:
    """And a parameter once."""
    assert added({}) == [(("add",), "needs headers, query or body: names to values")]
    assert [place for place, _ in added({"query": {"a": "b"}, "body": {"A": "b"}})] == [("add", "body", "A")]


@pytest.mark.parametrize(
    ("auth", "add", "place", "said"),
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
def test_a_name_that_two_parts_write_is_an_error_that_names_both(
    auth: dict[str, object], add: dict[str, object], place: tuple[str, ...], said: str
) -> None:
    """At what is added, whatever else is wrong elsewhere."""
    assert added(add, auth) == [(("add", *place), said)]
    raw = {"auth": auth, "add": add, "endpoint_prefix": 5, "unknown": True}
    assert (("add", *place), said) in list(checks.integration_errors(raw, Context("file")))


@pytest.mark.parametrize("rules", [{"names": b"x-tenant"}, {"kept": b"x-tenant"}, {"signed": b"x-tenant"}], ids=str)
def test_what_a_signature_of_the_kind_is_about_is_not_added(
    rules: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what it writes, nor what it keeps of a caller's, nor what it signs."""
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
def test_a_second_object_is_not_added_behind_what_judges_it(name: str) -> None:
    assert added({"headers": {name: "/other/key", "x-amz-meta-a": "1"}}, AWS) == [
        (("add", "headers", name), f"{name} belongs to the signature that auth makes: remove it")
    ]


@pytest.mark.parametrize("name", ["X-Amz-Security-Token", "x-amz-expires"])
def test_parameters_that_sign_a_url_are_not_added(name: str) -> None:
    assert added({"query": {name: "a", "x-id": "b"}}, AWS) == [
        (("add", "query", name), "must not begin with x-amz-: such parameters sign a URL")
    ]


def test_a_part_that_is_invalid_by_itself_is_left_to_the_models() -> None:
    """Nothing is said of its names."""
    assert added({"headers": {"Authorization": 5}}) == added({"headers": 5}) == added(5) == []
    assert added({"headers": {"Authorization": "a"}}, {"type": "basic"}) == []


def test_a_secret_that_is_added_in_the_clear_is_a_warning() -> None:
    """As under auth."""
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
def test_the_room_for_held_bodies_has_two_of_them(limits: dict[str, object], place: str | None) -> None:
    """Each of two integrations must find room for one; a value that is invalid by itself is not compared."""
    found = list(checks.global_errors({"limits": limits}))
    assert [loc for loc, _ in found] == ([] if place is None else [("limits", place)])
    assert all(text.startswith("limits.held_bodies must be at least twice limits.signed_body") for _, text in found)


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
def test_what_looks_like_a_variable_is_a_warning(value: str, warned: bool) -> None:
    """With its place, and the way out of that place; the value is not repeated."""
    raw = {
        "description": value,
        "tags": [value],
        "endpoint_prefix": [value],
        "auth": {"headers": {"X-Key": {"prefix": value}}},
        "source_address": value,
    }
    found = [
        (("endpoint_prefix", 0), "nothing is expanded: write {env: NAME}"),
        (("auth", "headers", "X-Key", "prefix"), "nothing is expanded: write {env: NAME}"),
        (("source_address",), "nothing is expanded: write the value itself"),
    ]
    assert list(checks.unexpanded_in(raw, Context("file"))) == (found if warned else [])
    stored = [(loc, "nothing is expanded: write the value itself") for loc, _ in found]
    assert list(checks.unexpanded_in(raw, Context("body"))) == (stored if warned else [])
    said = {"ca": {"folder": value}}
    assert [loc for loc, _ in checks.global_warnings(said)] == ([("ca", "folder")] if warned else [])
    preset = {"url": value, "headers": {"X-A": value}, "body": {"text": value}, "parameters": {"a": {"default": value}}}
    assert [loc for loc, _ in checks.preset_warnings(preset)] == ([("url",), ("headers", "X-A")] if warned else [])


def test_nothing_is_said_of_a_stored_secret() -> None:
    """Not even what it looks like."""
    raw = {"auth": {"password": {"value": "${hunter2}"}}}
    assert list(checks.unexpanded_in(raw, Context("body"))) == []
