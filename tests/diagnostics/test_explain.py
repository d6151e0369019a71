"""Explanations of decisions, with the location of the credential and the signed texts."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from sidekey.config.build.snapshot import build_passthrough
from sidekey.config.load import load
from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.diagnostics.explain import (
    BODY_NOTE,
    CONNECT_NOTE,
    DISCOVERED_NOTE,
    PASSED_CONNECT_NOTE,
    PLACEHOLDER_NOTE,
    REDACTED_NOTE,
    SIGNED_NOTE,
    STORED_NOTE,
    WEBSOCKET_NOTE,
    Explanation,
    Sample,
    apply_address_rules,
    explain,
    parse_moment,
)
from sidekey.policy.addresses import Address, NetworkOverride
from sidekey.policy.targets import Policy, parse_domain, parse_prefix
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.snapshot import Integration, NetworkRules, Snapshot, Trust
from support.certificate_files import mount, valid_now
from support.plane import secrets_of

SECRET = "Bearer not-to-be-seen"
SECRETS = secrets_of(Grant(headers=(("Authorization", SECRET), ("X-Tenant", "acme"))))
TRAITS = CredentialTraits(InjectionPoints(headers=("Authorization", "X-Tenant")))


def integration(*prefixes: str, methods: frozenset[str] | None = None) -> Integration:
    """Build an integration of kind `headers` with these endpoint prefixes."""
    parsed = tuple(map(parse_prefix, prefixes))
    policy = Policy(prefixes=parsed, methods=methods)
    return Integration("crm", "headers", policy, parsed[0] if parsed else None, SECRETS, TRAITS)


def loaded(folder: Path, auth: str, keys: str = "") -> Integration:
    """Load an integration from a config. Only the variable `SECRET` can be read."""
    path = folder / "sidekey.yaml"
    path.write_text(f"version: 1\nintegrations:\n  shop:\n    auth: {{{auth}}}\n{keys}")
    result = load(path, {"SECRET": SECRET})
    assert result.errors == []
    assert result.snapshot is not None
    return result.snapshot.integrations["shop"]


CLIENT = "client_id: id, client_secret: {env: SECRET}"
OAUTH2 = f"type: oauth2, token_endpoint: 'https://auth.example.com/token', {CLIENT}"
RESPONSYS = "type: responsys, login_endpoint: 'https://login2.responsys.net', username: api, password: {env: SECRET}"
MARKETING_CLOUD = f"type: oauth2, provider: salesforce-marketing-cloud, subdomain: mc-acme, {CLIENT}"


CRM = integration("https://api.example.com/v1")


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "253402300800", "-1"])
def test_time_outside_the_years_1_to_9999_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a time with its offset"):
        parse_moment(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0001-01-01T00:00:00Z", -62135596800),
        ("9999-12-31T23:59:59Z", 253402300799),
        ("253402300799", 253402300799),
        ("1970-01-01T01:00:00+01:00", 0),
    ],
)
def test_other_times_are_parsed(text: str, seconds: int) -> None:
    assert parse_moment(text) == seconds


@pytest.mark.parametrize("url", ["/\udcc3\udca9", "https://api.example.com/v1/\udcff", "/\x1b[2J"])
def test_undecodable_argument_is_shown_with_escapes(url: str) -> None:
    """Python passes such arguments as surrogates (PEP 383)."""
    result = explain(CRM, url)
    assert result.decision.code == "request_invalid"
    assert str(result).isascii()
    assert "\x1b" not in str(result)


def test_path_is_appended_to_the_id_at_the_reverse_proxy() -> None:
    result = explain(CRM, "/send?to=1")
    assert (result.door, result.as_sent) == ("reverse", "/i/crm/send?to=1")
    assert result.sent_on == "https://api.example.com/v1/send?to=1"
    assert result.allowed


@pytest.mark.parametrize("rest", ["send?to=1", "send/now", "a:b"])
def test_leading_slash_may_be_omitted(rest: str) -> None:
    """Some shells rewrite arguments that begin with a slash."""
    assert explain(CRM, rest) == explain(CRM, f"/{rest}")


@pytest.mark.parametrize("rest", ["", "?page=2"])
def test_base_url_is_a_target_of_the_reverse_proxy(rest: str) -> None:
    assert explain(CRM, rest).sent_on == f"https://api.example.com/v1{rest}"


def test_upgraded_url_shows_both_forms() -> None:
    result = explain(CRM, "http://api.example.com/v1/send")
    assert (result.as_sent, result.sent_on) == ("http://api.example.com/v1/send", "https://api.example.com/v1/send")
    assert result.upgraded
    assert "sent on      https://api.example.com/v1/send (upgraded to https)" in str(result).splitlines()


def test_websocket_is_explained_as_its_handshake() -> None:
    """With a `ws` URL. Any other URL is that of an ordinary request, with a note."""
    chat = replace(CRM, websocket=True)
    for url, sent in (("wss", "https"), ("WS", "http")):
        result = explain(chat, f"{url}://api.example.com/v1/send")
        assert (result.allowed, result.as_sent) == (True, f"{sent}://api.example.com/v1/send")
        assert result.sent_on == "https://api.example.com/v1/send"
        refused = explain(CRM, f"{url}://api.example.com/v1/send")
        assert (refused.allowed, refused.decision.code) == (False, "not_implemented")
        assert "upgrade: [websocket]" in refused.decision.reason
    assert WEBSOCKET_NOTE in explain(chat, "/send").notes
    assert WEBSOCKET_NOTE not in explain(CRM, "/send").notes
    assert explain(chat, "wss://api.example.com/other").decision.code == "target_denied"


def test_http_url_of_an_http_rule_is_not_upgraded() -> None:
    result = explain(integration("http://api.example.com/v1"), "http://api.example.com/v1/send")
    assert result.sent_on == result.as_sent
    assert not result.upgraded


def test_matching_rule_is_named() -> None:
    result = explain(integration("https://a.example.com/v1", "https://b.example.com"), "http://b.example.com/x")
    assert result.decision.rule == "https://b.example.com"
    assert "allowed      by https://b.example.com: the target is allowed" in str(result).splitlines()


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("/../admin", "request_invalid"),
        ("/%2e%2e/admin", "request_invalid"),
        ("http://evil.example.com/v1/send", "target_denied"),
        ("https://api.example.com/v1evil", "target_denied"),
        ("/%00", "request_invalid"),
        ("/a b", "request_invalid"),
        ("/%zz", "request_invalid"),
        ("ftp://api.example.com/v1", "request_invalid"),
        ("http://api.example.com/v1/%0a", "request_invalid"),
    ],
)
def test_denied_target_has_the_code_of_the_data_plane(url: str, code: str) -> None:
    result = explain(CRM, url)
    assert not result.allowed
    assert result.decision.code == code
    assert f"denied       {code}: {result.decision.reason}" in str(result).splitlines()
    assert result.as_json()["credential"] is None


def test_denied_target_lists_all_rules() -> None:
    limited = replace(CRM, policy=replace(CRM.policy, domains=(parse_domain("https://*.example.com"),)))
    lines = str(explain(limited, "http://evil.example.org/")).splitlines()
    assert "rule         the target must be under https://api.example.com/v1" in lines
    assert "rule         the target must be at https://*.example.com" in lines


@pytest.mark.parametrize("url", ["/send", "http://api.example.com/v1/send"])
def test_unreadable_policy_decides_nothing(url: str) -> None:
    result = explain(replace(CRM, rebuild=lambda: CRM), url)
    assert (result.allowed, result.decision.code, result.sent_on) == (False, "credential_unavailable", None)


def test_https_url_has_a_note_on_the_local_ca() -> None:
    result = explain(CRM, "https://api.example.com/v1/send")
    assert result.notes == (CONNECT_NOTE,)
    assert result.as_json()["note"] == CONNECT_NOTE
    assert explain(CRM, "http://api.example.com/v1/send").as_json()["note"] is None


def test_credential_headers_are_named() -> None:
    result = explain(CRM, "/send")
    assert (
        "credential   goes to https://api.example.com in headers: Authorization, X-Tenant" in str(result).splitlines()
    )
    assert result.as_json()["credential"] == {
        "origin": "https://api.example.com",
        "headers": ["Authorization", "X-Tenant"],
        "query": [],
        "body": [],
    }


@pytest.mark.parametrize(
    ("placement", "shown"),
    [
        ("header", "headers: Authorization"),
        ("{in: header, name: X-Token, scheme: ''}", "headers: X-Token"),
        ("query", "query: access_token"),
        ("{in: query, name: key}", "query: key"),
        ("body", "body: access_token"),
    ],
)
def test_location_of_a_token_is_named_without_a_token_request(placement: str, shown: str, tmp_path: Path) -> None:
    result = explain(loaded(tmp_path, f"{OAUTH2}, token_placement: {placement}"), "/v1/x")
    assert f"credential   goes to https://auth.example.com in {shown}" in str(result).splitlines()
    assert result.notes == ((BODY_NOTE,) if placement == "body" else ())


def test_added_headers_are_named_with_the_credential(tmp_path: Path) -> None:
    add = "{headers: {X-Tenant: acme}, query: {key: {secret: {insecure_value: hunter2}}}, body: {mode: live}}"
    result = explain(loaded(tmp_path, OAUTH2, f"    add: {add}\n"), "/v1/x")
    shown = "headers: X-Tenant, Authorization; query: key; body: mode"
    assert f"credential   goes to https://auth.example.com in {shown}" in str(result).splitlines()
    assert result.notes == (BODY_NOTE,)
    assert "hunter2" not in str(result) + str(result.as_json())


def test_redaction_of_bodies_has_a_note(tmp_path: Path) -> None:
    result = explain(replace(CRM, redact_response=True), "/send")
    assert result.notes == (REDACTED_NOTE,)
    assert REDACTED_NOTE in str(result)


@pytest.mark.parametrize("url", ["/token", "/Token/", "//%54oken", "http://auth.example.com/%74oken"])
def test_token_endpoint_is_denied(url: str, tmp_path: Path) -> None:
    result = explain(loaded(tmp_path, OAUTH2), url)
    assert result.decision.code == "target_denied"
    assert "rule         the target must be at https://auth.example.com" in str(result).splitlines()
    assert "rule         the target must not be https://auth.example.com/token" in str(result).splitlines()


def test_values_from_a_profile_are_shown(tmp_path: Path) -> None:
    """Values of the config file are omitted."""
    result = explain(loaded(tmp_path, MARKETING_CLOUD), "/asset/v1/content")
    assert result.as_json()["profile"] == {
        "auth.token_endpoint": "https://mc-acme.auth.marketingcloudapis.com/v2/token",
        "auth.client_authentication": "body",
        "auth.token_request.format": "json",
        "auth.token_response.base_url": "rest_instance_url",
        "allow_other_domains": "true",
        "auth.renewal_interval": "20m",
        "allowed_domains": "https://mc-acme.rest.marketingcloudapis.com",
    }
    assert "profile      auth.token_request.format: json" in str(result).splitlines()
    assert explain(CRM, "/send").as_json()["profile"] == {}


@pytest.mark.parametrize(
    ("auth", "url", "sent_on", "note"),
    [
        (MARKETING_CLOUD, "/x", "https://mc-acme.rest.marketingcloudapis.com/x", DISCOVERED_NOTE),
        (RESPONSYS, "/campaigns", "https://login2.responsys.net/rest/api/v1.3/campaigns", DISCOVERED_NOTE),
        (
            RESPONSYS,
            "http://login2.responsys.net/rest/api/v1.3/campaigns",
            "https://login2.responsys.net/rest/api/v1.3/campaigns",
            PLACEHOLDER_NOTE,
        ),
    ],
)
def test_discovered_base_url_has_a_note(auth: str, url: str, sent_on: str, note: str, tmp_path: Path) -> None:
    """The token response determines the destination of the credential."""
    result = explain(loaded(tmp_path, auth), url)
    assert (result.sent_on, result.allowed, result.notes) == (sent_on, True, (note,))
    assert result.as_json()["credential"]["origin"] is None
    assert (
        "credential   goes to the base URL in the token response in headers: Authorization" in str(result).splitlines()
    )


def test_target_at_a_known_host_needs_no_discovered_base(tmp_path: Path) -> None:
    api = "http://mc-acme.rest.marketingcloudapis.com/x"
    assert explain(loaded(tmp_path, MARKETING_CLOUD), api).notes == ()
    result = explain(loaded(tmp_path, RESPONSYS), "http://a1.rest.responsys.net/rest/api/v1.3/campaigns")
    assert result.as_json()["credential"]["origin"] == "https://a1.rest.responsys.net"


@pytest.mark.parametrize("rest", ["/auth/token", "/%61uth", "/AUTH//x", "http://login2.responsys.net/rest/api/v1.4/x"])
def test_login_of_responsys_is_denied(rest: str, tmp_path: Path) -> None:
    """Everything outside the path prefix is denied, too."""
    result = explain(loaded(tmp_path, RESPONSYS), rest)
    assert result.decision.code == "target_denied"
    assert "rule         the target's path must be under /rest/api/v1.3" in str(result).splitlines()
    assert "rule         the target must not be /rest/api/*/auth/..." in str(result).splitlines()


@pytest.mark.parametrize("url", ["/send", "/../x", "http://api.example.com/v1/send"])
def test_explanation_contains_no_credential(url: str) -> None:
    result: Explanation = explain(CRM, url)
    assert "not-to-be-seen" not in f"{result} {result.as_json()} {result!r}"


@pytest.mark.parametrize("auth", [OAUTH2, RESPONSYS, MARKETING_CLOUD])
def test_explanation_contains_no_oauth2_secret(auth: str, tmp_path: Path) -> None:
    result = explain(loaded(tmp_path, auth), "/x")
    assert "not-to-be-seen" not in f"{result} {result.as_json()} {result!r}"


@pytest.mark.parametrize("auth", [OAUTH2, RESPONSYS])
def test_unreadable_secret_does_not_prevent_a_decision(auth: str, tmp_path: Path) -> None:
    """The explanation names the unreadable key."""
    result = explain(loaded(tmp_path, auth.replace("env: SECRET", "env: MISSING")), "/x")
    assert result.allowed
    assert result.as_json()["usable"] is False
    assert "in headers: Authorization" in str(result)
    key = "password" if auth == RESPONSYS else "client_secret"
    reason = "environment variable MISSING is not set; until then the response is credential_unavailable"
    assert f"unreadable   auth.{key}: {reason}" in str(result).splitlines()
    readable = explain(loaded(tmp_path, auth), "/x")
    assert readable.as_json()["usable"] is True
    assert "unreadable" not in str(readable)


@pytest.mark.parametrize("key", ["token_endpoint", "login_endpoint"])
def test_unreadable_endpoint_allows_nothing(key: str, tmp_path: Path) -> None:
    auth = (OAUTH2 if key == "token_endpoint" else RESPONSYS).replace("'https://auth.example.com/token'", "{env: NO}")
    result = explain(loaded(tmp_path, auth.replace("'https://login2.responsys.net'", "{env: NO}")), "/x")
    assert (result.allowed, result.sent_on) == (False, None)
    assert f"unreadable   auth.{key}: environment variable NO is not set" in str(result)


def test_limited_methods_are_shown() -> None:
    result = explain(integration("https://api.example.com", methods=frozenset({"POST", "GET"})), "/send")
    assert "methods      GET, POST" in str(result).splitlines()
    assert result.as_json()["methods"] == ["GET", "POST"]
    assert explain(CRM, "/send").as_json()["methods"] is None


def test_client_certificate_goes_into_the_handshake(tmp_path: Path) -> None:
    """An unreadable certificate makes the integration unusable."""
    keys = "certificate: {file: tls.crt}, private_key: {file: tls.key}, allow_private_ca: true"
    base = "    endpoint_prefix: https://bank.example/hooks\n"
    result = explain(loaded(tmp_path, f"type: mtls, {keys}", base), "/x").as_json()
    assert (result["credential"]["handshake"], result["usable"]) == (["client certificate"], False)
    mount(tmp_path, valid_now())
    explanation = explain(loaded(tmp_path, f"type: mtls, {keys}", base), "/x")
    assert explanation.as_json()["usable"] is True
    assert "credential   goes to https://bank.example in handshake: client certificate\n" in f"{explanation}\n"


PASSING = build_passthrough({"crm": CRM}, Trust(), (443, 80))


def test_uncovered_target_passes_without_the_credential() -> None:
    result = explain(CRM, "http://other.example/%2e%2e;x?q", PASSING)
    assert str(result).splitlines() == [
        "integration  crm (headers)",
        "proxy        forward",
        "as sent      http://other.example/%2e%2e;x?q",
        "sent on      http://other.example/%2e%2e;x?q",
        "passes       no integration covers this host: it is forwarded as it is (forward.unmatched: pass)",
        "credential   is not sent",
    ]
    members = result.as_json()
    assert (members["passes"], members["allowed"], members["code"], members["credential"]) == (True, False, None, None)
    assert explain(CRM, "https://other.example/", PASSING).notes == (PASSED_CONNECT_NOTE,)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com/other",
        "http://API.example.com.:81/",
        "http://other.example./",
        "http://u@other.example/",
        "/../x",
        "https://api.example.com/v1/send",
    ],
)
def test_covered_target_does_not_pass(url: str) -> None:
    """Malformed targets, and targets of the reverse proxy, do not pass either."""
    result = explain(CRM, url, PASSING)
    assert (result, result.passes) == (explain(CRM, url), False)


def test_nothing_passes_while_an_integration_is_unresolved() -> None:
    unresolved = replace(integration(), id="sms", rebuild=lambda: CRM)
    result = explain(
        CRM, "http://other.example/", build_passthrough({"crm": CRM, "sms": unresolved}, Trust(), (443, 80))
    )
    assert (result.passes, result.upgraded, result.decision.code) == (False, False, "credential_unavailable")
    assert result.decision.reason.endswith("cannot be read: until then nothing passes without a credential")


def test_stored_integration_has_a_note_on_tunnels() -> None:
    stored = replace(integration("https://up.test/api"), stored=True)
    assert STORED_NOTE in explain(stored, "https://up.test/api/x").notes
    assert STORED_NOTE not in explain(stored, "/x").notes


# Signed texts

WEBHOOK = "insecure_value: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
STANDARD = f"type: signature, scheme: standard-webhooks, secret: {{{WEBHOOK}}}"
GITHUB = "    signature: {scheme: github, secret: {insecure_value: a-secret-of-github}}\n"
HOOKS = "    endpoint_prefix: https://hooks.example.com/v1\n"
ZEROS = "msg_" + "0" * 32


def test_signed_texts_are_shown_escaped(tmp_path: Path) -> None:
    """IDs consist of zeros, and the signature is omitted."""
    sample = Sample(1_700_000_000.0, "POST", (), b'{"a": "\\\xff\x00"}\r\n\t')
    result = explain(loaded(tmp_path, STANDARD, HOOKS), "/x", None, sample)
    assert result.signed == (ZEROS + r'.1700000000.{"a": "\\\xff\x00"}\r\n\t',)
    shown = str(result)
    assert f"signed       {result.signed[0]}" in shown
    assert f"note         {SIGNED_NOTE}" in shown
    assert "v1," not in shown
    members = result.as_json()
    assert (members["signed"], members["unsigned"]) == (list(result.signed), None)
    assert members["credential"]["signature"] == ["webhook-id", "webhook-signature", "webhook-timestamp"]


TARGETS = """
      scheme: custom
      secret: {insecure_value: canary-of-the-signing-key}
      algorithm: hmac-sha256
      signed: "{timestamp}.{method}.{target}.{header:X-Own}.{body_sha256}.{body}"
      headers: {X-Signature: "t={timestamp},{signature}"}
"""


def signed_with(folder: Path, added: str, method: str = "POST", *fields: tuple[str, str]) -> Explanation:
    """Return the signed texts of a request that gets injected values."""
    keys = f"{HOOKS}    {added}\n    signature:{TARGETS}"
    sample = Sample(1_700_000_000.0, method, (("X-Own", "mine"), *fields), b"a=b")
    return explain(loaded(folder, "type: basic, username: u, password: {env: SECRET}", keys), "/x?a=b", None, sample)


def test_injected_values_are_redacted(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"a=b").hexdigest()
    result = signed_with(tmp_path, "add: {query: {key: {secret: {env: SECRET}}}}")
    assert result.signed == (rf"1700000000.POST./v1/x?a=b&key=[redacted].mine.{digest}.a=b",)
    assert SECRET not in str(result)
    assert "canary" not in str(result)


def test_body_with_a_secret_and_its_digests_are_redacted(tmp_path: Path) -> None:
    """Otherwise a digest would confirm a guess of the secret."""
    form = ("Content-Type", "application/x-www-form-urlencoded")
    result = signed_with(tmp_path, "add: {body: {key: {secret: {env: SECRET}}}}", "POST", form)
    assert result.signed == ("1700000000.POST./v1/x?a=b.mine.[redacted].[redacted]",)


def test_unsigned_request_has_the_reason_of_the_data_plane(tmp_path: Path) -> None:
    keys = f"{HOOKS}    signature:{TARGETS}"
    served = loaded(tmp_path, "type: basic, username: u, password: {env: SECRET}", keys)
    result = explain(served, "/x", None, Sample(0))
    assert (result.signed, result.unsigned) == (
        (),
        "request_invalid: the header x-own must be sent once: the signature covers it",
    )
    assert "not signed   request_invalid" in str(result)
    assert result.as_json()["unsigned"] == result.unsigned


def test_denied_or_unsigned_request_has_no_signed_texts(tmp_path: Path) -> None:
    served = loaded(tmp_path, STANDARD, HOOKS)
    sample = Sample(0)
    for result in (explain(served, "/../x", None, sample), explain(served, "/x"), explain(CRM, "/x", None, sample)):
        assert (result.signed, result.unsigned) == ((), "")
        assert "signed" not in result.as_json()


def test_signature_beside_a_token_needs_no_token_request(tmp_path: Path) -> None:
    """The signing key is in the config."""
    prefix = "    endpoint_prefix: https://auth.example.com/v1\n"
    result = explain(loaded(tmp_path, OAUTH2, prefix + GITHUB), "/x", None, Sample(0, "POST", (), b"{}"))
    assert result.signed == ("{}",)


def test_no_token_is_requested_for_a_signing_key(tmp_path: Path) -> None:
    """No token is requested for a base URL either."""
    identity = "web_identity: {role_arn: 'arn:aws:iam::1:role/x', token: {file: token}, session_name: sidekey}"
    sqs = "    endpoint_prefix: https://sqs.eu-west-1.amazonaws.com/\n"
    (tmp_path / "token").write_text("a.b.c")
    served = loaded(tmp_path, f"type: aws_sigv4, region: eu-west-1, service: sqs, {identity}", sqs)
    result = explain(served, "/", None, Sample(0))
    assert f"token file   {tmp_path / 'token'} (read before each call for a token)" in str(result)
    assert result.as_json()["token_files"] == [str(tmp_path / "token")]
    assert result.unsigned == "the signing key cannot be read, or comes with the token: the signed text is unknown"
    discovered = loaded(
        tmp_path, RESPONSYS, "    signature: {scheme: github, secret: {insecure_value: a-secret-of-github}}\n"
    )
    result = explain(discovered, "/rest/api", None, Sample(0))
    assert result.unsigned == "the base URL comes with the token: the signed text is unknown"


AWS = "type: aws_sigv4, region: eu-west-1, service: s3, access_key_id: AKIA, secret_access_key: {insecure_value: key}"


@pytest.mark.parametrize(
    ("url", "upgraded"), [("/a@b?c=1+2", False), ("http://s3.eu-west-1.amazonaws.com/mine/a@b?c=1+2", True)]
)
def test_target_is_shown_in_canonical_form(url: str, upgraded: bool, tmp_path: Path) -> None:
    prefix = "    endpoint_prefix: https://s3.eu-west-1.amazonaws.com/mine\n"
    explanation = explain(loaded(tmp_path, AWS, prefix), url, sample=Sample(0.0))
    assert explanation.allowed
    assert explanation.sent_on == "https://s3.eu-west-1.amazonaws.com/mine/a%40b?c=1%202"
    assert explanation.upgraded is upgraded
    assert "GET\\n/mine/a%40b\\nc=1%202\\nhost:s3.eu-west-1.amazonaws.com\\n" in str(explanation)


# Addresses of the target

PRIVATE = "is 10.1.2.3, which is not a global address (private)"


def addresses_of(*addresses: str) -> tuple[Address, ...]:
    return tuple(map(ip_address, addresses))


def test_host_with_only_refused_addresses_is_denied() -> None:
    """One allowed address is sufficient."""
    snapshot, result = Snapshot({}), addresses_of("10.1.2.3")
    allowed = explain(CRM, "/x")
    assert allowed.dialled_host == "api.example.com"
    denied = apply_address_rules(allowed, snapshot, result)
    remedy = "add 10.1.2.3/32 to allow_private of the integration, or to network.allow_private"
    assert denied.decision.reason == f"api.example.com {PRIVATE}: {remedy}"
    assert (denied.allowed, denied.decision.code, denied.dialled_host) == (False, "destination_denied", None)
    assert "rule  " not in str(denied)
    assert denied.as_json()["credential"] is None
    mixed = addresses_of("10.1.2.3", "198.41.0.4")
    assert apply_address_rules(allowed, snapshot, mixed) is allowed
    assert apply_address_rules(allowed, snapshot) is allowed
    outside = explain(CRM, "/../x")
    assert apply_address_rules(outside, snapshot, result) is outside
    own = replace(CRM, egress=Egress(allow_private=(ip_network("10.0.0.0/8"),)))
    assert apply_address_rules(explain(own, "/x"), snapshot, result).allowed


def test_config_allows_addresses_of_stored_integrations() -> None:
    network = NetworkRules(allow_private=(ip_network("10.0.0.0/8"),))
    stored = explain(replace(CRM, stored=True, egress=Egress(allow_private=NetworkOverride())), "/x")
    denied = apply_address_rules(stored, Snapshot({}, network=network), addresses_of("10.1.2.3"))
    assert denied.decision.reason.endswith("the operator must add 10.1.2.3/32 to store.allow_private")
