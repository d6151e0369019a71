"""What `sidekey explain` says of a target, judged as the data plane judges it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from sidekey.config.build.snapshot import build_passing
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
    Explanation,
    Sample,
    explain,
    parse_moment,
    with_addresses,
)
from sidekey.policy.addresses import Address, NetworkOverride
from sidekey.policy.targets import Policy, parse_domain, parse_prefix
from sidekey.snapshot.snapshot import Integration, NetworkRules, Snapshot, Trust
from support.certificate_files import current, mount
from support.plane import secrets_of

SECRET = "Bearer not-to-be-seen"
SECRETS = secrets_of(Grant(headers=(("Authorization", SECRET), ("X-Tenant", "acme"))))
TRAITS = CredentialTraits(InjectionPoints(headers=("Authorization", "X-Tenant")))


def integration(*prefixes: str, methods: frozenset[str] | None = None) -> Integration:
    """An integration of kind headers with these endpoint prefixes."""
    parsed = tuple(map(parse_prefix, prefixes))
    policy = Policy(prefixes=parsed, methods=methods)
    return Integration("crm", "headers", policy, parsed[0] if parsed else None, SECRETS, TRAITS)


def loaded(folder: Path, auth: str, keys: str = "") -> Integration:
    """An integration as a config makes it; `SECRET` is the one variable that can be read."""
    path = folder / "sidekey.yaml"
    path.write_text(f"version: 1\nintegrations:\n  shop:\n    auth: {{{auth}}}\n{keys}")
    found = load(path, {"SECRET": SECRET})
    assert found.errors == []
    assert found.snapshot is not None
    return found.snapshot.integrations["shop"]


CLIENT = "client_id: id, client_secret: {env: SECRET}"
OAUTH2 = f"type: oauth2, token_endpoint: 'https://auth.example.com/token', {CLIENT}"
RESPONSYS = "type: responsys, login_endpoint: 'https://login2.responsys.net', username: api, password: {env: SECRET}"
MARKETING_CLOUD = f"type: oauth2, provider: salesforce-marketing-cloud, subdomain: mc-acme, {CLIENT}"


CRM = integration("https://api.example.com/v1")


@pytest.mark.parametrize("written", ["0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "253402300800", "-1"])
def test_a_moment_that_no_date_can_tell_is_none(written: str) -> None:
    """Signers write dates of four digits' years, in UTC."""
    with pytest.raises(ValueError, match="must be a time with its offset"):
        parse_moment(written)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("0001-01-01T00:00:00Z", -62135596800),
        ("9999-12-31T23:59:59Z", 253402300799),
        ("253402300799", 253402300799),
        ("1970-01-01T01:00:00+01:00", 0),
    ],
)
def test_every_other_moment_is_one(written: str, seconds: int) -> None:
    """To the ends of what a date can tell."""
    assert parse_moment(written) == seconds


@pytest.mark.parametrize("url", ["/\udcc3\udca9", "https://api.example.com/v1/\udcff", "/\x1b[2J"])
def test_what_is_no_text_is_judged_and_shown_as_escapes(url: str) -> None:
    """As Python has arguments that are not of the locale (PEP 383), and for any terminal."""
    found = explain(CRM, url)
    assert found.decision.code == "request_invalid"
    assert str(found).isascii()
    assert "\x1b" not in str(found)


def test_a_path_is_judged_as_what_follows_the_id_at_the_reverse_proxy() -> None:
    """`/send` means /i/crm/send, and the target is the base and the path."""
    found = explain(CRM, "/send?to=1")
    assert (found.door, found.as_sent) == ("reverse", "/i/crm/send?to=1")
    assert found.sent_on == "https://api.example.com/v1/send?to=1"
    assert found.allowed


@pytest.mark.parametrize("rest", ["send?to=1", "send/now", "a:b"])
def test_the_first_slash_of_a_path_may_be_left_out(rest: str) -> None:
    """Some shells take what begins with one for a path of their own."""
    assert explain(CRM, rest) == explain(CRM, f"/{rest}")


@pytest.mark.parametrize("rest", ["", "?page=2"])
def test_the_base_itself_is_a_target_of_the_reverse_proxy(rest: str) -> None:
    """`/i/crm` and `/i/crm?page=2` reach the base."""
    assert explain(CRM, rest).sent_on == f"https://api.example.com/v1{rest}"


def test_an_http_url_shows_both_forms() -> None:
    """The forward proxy upgrades where only an https rule names the host: as sent and sent on are both shown."""
    found = explain(CRM, "http://api.example.com/v1/send")
    assert (found.as_sent, found.sent_on) == ("http://api.example.com/v1/send", "https://api.example.com/v1/send")
    assert found.upgraded
    assert "sent on      https://api.example.com/v1/send (upgraded to https)" in str(found).splitlines()


def test_an_http_url_of_an_http_rule_is_not_upgraded() -> None:
    """Where an http rule names the host, the request stays http."""
    found = explain(integration("http://api.example.com/v1"), "http://api.example.com/v1/send")
    assert found.sent_on == found.as_sent
    assert not found.upgraded


def test_the_rule_that_matched_is_named() -> None:
    """Of two prefixes, the one that lets the target through is shown."""
    found = explain(integration("https://a.example.com/v1", "https://b.example.com"), "http://b.example.com/x")
    assert found.decision.rule == "https://b.example.com"
    assert "allowed      by https://b.example.com: the target is allowed" in str(found).splitlines()


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
def test_a_denied_target_is_explained_with_its_code(url: str, code: str) -> None:
    """Nothing is sent, and the response's code and reason are those of the data plane."""
    found = explain(CRM, url)
    assert not found.allowed
    assert found.decision.code == code
    assert f"denied       {code}: {found.decision.reason}" in str(found).splitlines()
    assert found.as_json()["credential"] is None


def test_a_denied_target_is_shown_what_would_be_allowed() -> None:
    """The way out: every rule of the integration."""
    limited = replace(CRM, policy=replace(CRM.policy, domains=(parse_domain("https://*.example.com"),)))
    lines = str(explain(limited, "http://evil.example.org/")).splitlines()
    assert "rule         the target must be under https://api.example.com/v1" in lines
    assert "rule         the target must be at https://*.example.com" in lines


@pytest.mark.parametrize("url", ["/send", "http://api.example.com/v1/send"])
def test_a_policy_that_cannot_be_read_judges_nothing(url: str) -> None:
    """A caller would get the same response."""
    found = explain(replace(CRM, rebuild=lambda: CRM), url)
    assert (found.allowed, found.decision.code, found.sent_on) == (False, "credential_unavailable", None)


def test_an_https_url_is_told_what_clients_must_trust() -> None:
    """They send it by CONNECT, where the certificate is the local CA's."""
    found = explain(CRM, "https://api.example.com/v1/send")
    assert found.notes == (CONNECT_NOTE,)
    assert found.as_json()["note"] == CONNECT_NOTE
    assert explain(CRM, "http://api.example.com/v1/send").as_json()["note"] is None


def test_the_injected_headers_are_named() -> None:
    """Where the credential would go: the origin and the names of the headers."""
    found = explain(CRM, "/send")
    assert "credential   goes to https://api.example.com in headers: Authorization, X-Tenant" in str(found).splitlines()
    assert found.as_json()["credential"] == {
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
def test_the_place_of_a_token_is_named(placement: str, shown: str, tmp_path: Path) -> None:
    """Before any token was fetched: nothing is called."""
    found = explain(loaded(tmp_path, f"{OAUTH2}, token_placement: {placement}"), "/v1/x")
    assert f"credential   goes to https://auth.example.com in {shown}" in str(found).splitlines()
    assert found.notes == ((BODY_NOTE,) if placement == "body" else ())


def test_what_is_added_is_named_with_the_credential(tmp_path: Path) -> None:
    """By name alone, in the order in which it is written."""
    add = "{headers: {X-Tenant: acme}, query: {key: {secret: {insecure_value: hunter2}}}, body: {mode: live}}"
    found = explain(loaded(tmp_path, OAUTH2, f"    add: {add}\n"), "/v1/x")
    shown = "headers: X-Tenant, Authorization; query: key; body: mode"
    assert f"credential   goes to https://auth.example.com in {shown}" in str(found).splitlines()
    assert found.notes == (BODY_NOTE,)
    assert "hunter2" not in str(found) + str(found.as_json())


def test_redaction_of_bodies_is_named(tmp_path: Path) -> None:
    """A reader of a response that looks odd finds out why."""
    found = explain(replace(CRM, redact_response=True), "/send")
    assert found.notes == (REDACTED_NOTE,)
    assert REDACTED_NOTE in str(found)


@pytest.mark.parametrize("url", ["/token", "/Token/", "//%54oken", "http://auth.example.com/%74oken"])
def test_the_token_endpoint_itself_is_denied(url: str, tmp_path: Path) -> None:
    """Though its base URL is what is allowed; the rules say so."""
    found = explain(loaded(tmp_path, OAUTH2), url)
    assert found.decision.code == "target_denied"
    assert "rule         the target must be at https://auth.example.com" in str(found).splitlines()
    assert "rule         the target must not be https://auth.example.com/token" in str(found).splitlines()


def test_what_a_profile_filled_in_is_shown(tmp_path: Path) -> None:
    """With the keys as the config would have them; what the file holds itself is not among it."""
    found = explain(loaded(tmp_path, MARKETING_CLOUD), "/asset/v1/content")
    assert found.as_json()["profile"] == {
        "auth.token_endpoint": "https://mc-acme.auth.marketingcloudapis.com/v2/token",
        "auth.client_authentication": "body",
        "auth.token_request.format": "json",
        "auth.token_response.base_url": "rest_instance_url",
        "allow_other_domains": "true",
        "auth.renewal_interval": "20m",
        "allowed_domains": "https://mc-acme.rest.marketingcloudapis.com",
    }
    assert "profile      auth.token_request.format: json" in str(found).splitlines()
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
def test_a_base_url_that_is_learnt_is_said_to_be(auth: str, url: str, sent_on: str, note: str, tmp_path: Path) -> None:
    """The placeholder is judged; where the credential goes in the end only the token response says."""
    found = explain(loaded(tmp_path, auth), url)
    assert (found.sent_on, found.allowed, found.notes) == (sent_on, True, (note,))
    assert found.as_json()["credential"]["origin"] is None
    assert (
        "credential   goes to the base URL in the token response in headers: Authorization" in str(found).splitlines()
    )


def test_a_target_that_needs_no_learnt_base_is_shown_as_it_is(tmp_path: Path) -> None:
    """A caller of the forward proxy names the host itself."""
    api = "http://mc-acme.rest.marketingcloudapis.com/x"
    assert explain(loaded(tmp_path, MARKETING_CLOUD), api).notes == ()
    found = explain(loaded(tmp_path, RESPONSYS), "http://a1.rest.responsys.net/rest/api/v1.3/campaigns")
    assert found.as_json()["credential"]["origin"] == "https://a1.rest.responsys.net"


@pytest.mark.parametrize("rest", ["/auth/token", "/%61uth", "/AUTH//x", "http://login2.responsys.net/rest/api/v1.4/x"])
def test_the_login_of_responsys_is_denied(rest: str, tmp_path: Path) -> None:
    """And so is everything outside the path prefix."""
    found = explain(loaded(tmp_path, RESPONSYS), rest)
    assert found.decision.code == "target_denied"
    assert "rule         the target's path must be under /rest/api/v1.3" in str(found).splitlines()
    assert "rule         the target must not be /rest/api/*/auth/..." in str(found).splitlines()


@pytest.mark.parametrize("url", ["/send", "/../x", "http://api.example.com/v1/send"])
def test_no_explanation_holds_the_credential(url: str) -> None:
    """Names alone, in the text, the JSON and the repr."""
    found: Explanation = explain(CRM, url)
    assert "not-to-be-seen" not in f"{found} {found.as_json()} {found!r}"


@pytest.mark.parametrize("auth", [OAUTH2, RESPONSYS, MARKETING_CLOUD])
def test_no_explanation_holds_a_secret_of_a_kind_that_calls(auth: str, tmp_path: Path) -> None:
    """Nor does it have a token to show."""
    found = explain(loaded(tmp_path, auth), "/x")
    assert "not-to-be-seen" not in f"{found} {found.as_json()} {found!r}"


@pytest.mark.parametrize("auth", [OAUTH2, RESPONSYS])
def test_secrets_that_cannot_be_read_leave_the_policy_to_be_explained(auth: str, tmp_path: Path) -> None:
    """The verdict and the places do not need the credential; which key is missing is said."""
    found = explain(loaded(tmp_path, auth.replace("env: SECRET", "env: MISSING")), "/x")
    assert found.allowed
    assert found.as_json()["usable"] is False
    assert "in headers: Authorization" in str(found)
    key = "password" if auth == RESPONSYS else "client_secret"
    reason = "environment variable MISSING is not set; until then the response is credential_unavailable"
    assert f"unreadable   auth.{key}: {reason}" in str(found).splitlines()
    readable = explain(loaded(tmp_path, auth), "/x")
    assert readable.as_json()["usable"] is True
    assert "unreadable" not in str(readable)


@pytest.mark.parametrize("key", ["token_endpoint", "login_endpoint"])
def test_an_endpoint_that_cannot_be_read_leaves_nothing_allowed(key: str, tmp_path: Path) -> None:
    """It decides where the credential may go."""
    auth = (OAUTH2 if key == "token_endpoint" else RESPONSYS).replace("'https://auth.example.com/token'", "{env: NO}")
    found = explain(loaded(tmp_path, auth.replace("'https://login2.responsys.net'", "{env: NO}")), "/x")
    assert (found.allowed, found.sent_on) == (False, None)
    assert f"unreadable   auth.{key}: environment variable NO is not set" in str(found)


def test_the_methods_are_shown_where_they_are_limited() -> None:
    """A target that is allowed may still be refused for its method."""
    found = explain(integration("https://api.example.com", methods=frozenset({"POST", "GET"})), "/send")
    assert "methods      GET, POST" in str(found).splitlines()
    assert found.as_json()["methods"] == ["GET", "POST"]
    assert explain(CRM, "/send").as_json()["methods"] is None


def test_a_client_certificate_goes_into_the_handshake(tmp_path: Path) -> None:
    """One that cannot be read makes the integration unusable, with the reason."""
    keys = "certificate: {file: tls.crt}, private_key: {file: tls.key}, allow_private_ca: true"
    base = "    endpoint_prefix: https://bank.example/hooks\n"
    found = explain(loaded(tmp_path, f"type: mtls, {keys}", base), "/x").as_json()
    assert (found["credential"]["handshake"], found["usable"]) == (["client certificate"], False)
    mount(tmp_path, current())
    explanation = explain(loaded(tmp_path, f"type: mtls, {keys}", base), "/x")
    assert explanation.as_json()["usable"] is True
    assert "credential   goes to https://bank.example in handshake: client certificate\n" in f"{explanation}\n"


PASSING = build_passing({"crm": CRM}, Trust(), (443, 80))


def test_a_target_that_no_integration_covers_is_said_to_pass() -> None:
    """Where the config lets it: as it came, while the credential stays."""
    found = explain(CRM, "http://other.example/%2e%2e;x?q", PASSING)
    assert str(found).splitlines() == [
        "integration  crm (headers)",
        "proxy        forward",
        "as sent      http://other.example/%2e%2e;x?q",
        "sent on      http://other.example/%2e%2e;x?q",
        "passes       no integration covers this host: it is forwarded as it is (forward.unmatched: pass)",
        "credential   is not sent",
    ]
    told = found.as_json()
    assert (told["passes"], told["allowed"], told["code"], told["credential"]) == (True, False, None, None)
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
def test_what_does_not_pass_is_explained_as_ever(url: str) -> None:
    """A covered host, what cannot be read, and the reverse proxy."""
    found = explain(CRM, url, PASSING)
    assert (found, found.passes) == (explain(CRM, url), False)


def test_nothing_passes_while_an_integration_is_unresolved() -> None:
    """What it covers is not known."""
    unresolved = replace(integration(), id="sms", rebuild=lambda: CRM)
    found = explain(CRM, "http://other.example/", build_passing({"crm": CRM, "sms": unresolved}, Trust(), (443, 80)))
    assert (found.passes, found.upgraded, found.decision.code) == (False, False, "credential_unavailable")
    assert found.decision.reason.endswith("cannot be read; until then nothing passes without a credential")


def test_a_stored_integration_says_where_tunnels_may_use_it() -> None:
    """At the forward proxy, where clients send https:// URLs by CONNECT."""
    given = replace(integration("https://up.test/api"), stored=True)
    assert STORED_NOTE in explain(given, "https://up.test/api/x").notes
    assert STORED_NOTE not in explain(given, "/x").notes


# What is signed.

WEBHOOK = "insecure_value: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
STANDARD = f"type: signature, scheme: standard-webhooks, secret: {{{WEBHOOK}}}"
GITHUB = "    signature: {scheme: github, secret: {insecure_value: a-secret-of-github}}\n"
HOOKS = "    endpoint_prefix: https://hooks.example.com/v1\n"
ZEROS = "msg_" + "0" * 32


def test_the_bytes_that_are_signed_are_shown_escaped(tmp_path: Path) -> None:
    """At the time that is asked for, with an ID of zeros; and the signature is not shown."""
    sample = Sample(1_700_000_000.0, "POST", (), b'{"a": "\\\xff\x00"}\r\n\t')
    found = explain(loaded(tmp_path, STANDARD, HOOKS), "/x", None, sample)
    assert found.signed == (ZEROS + r'.1700000000.{"a": "\\\xff\x00"}\r\n\t',)
    shown = str(found)
    assert f"signed       {found.signed[0]}" in shown
    assert f"note         {SIGNED_NOTE}" in shown
    assert "v1," not in shown
    said = found.as_json()
    assert (said["signed"], said["unsigned"]) == (list(found.signed), None)
    assert said["credential"]["signature"] == ["webhook-id", "webhook-signature", "webhook-timestamp"]


TARGETS = """
      scheme: custom
      secret: {insecure_value: canary-of-the-signing-key}
      algorithm: hmac-sha256
      signed: "{timestamp}.{method}.{target}.{header:X-Own}.{body_sha256}.{body}"
      headers: {X-Signature: "t={timestamp},{signature}"}
"""


def signed_with(folder: Path, added: str, method: str = "POST", *fields: tuple[str, str]) -> Explanation:
    """What is signed with a scheme over the target, of a request that values are added to."""
    keys = f"{HOOKS}    {added}\n    signature:{TARGETS}"
    sample = Sample(1_700_000_000.0, method, (("X-Own", "mine"), *fields), b"a=b")
    return explain(loaded(folder, "type: basic, username: u, password: {env: SECRET}", keys), "/x?a=b", None, sample)


def test_what_is_injected_is_redacted_where_it_is(tmp_path: Path) -> None:
    """By its place: in the query, and never by a search for what it is."""
    digest = hashlib.sha256(b"a=b").hexdigest()
    found = signed_with(tmp_path, "add: {query: {key: {secret: {env: SECRET}}}}")
    assert found.signed == (rf"1700000000.POST./v1/x?a=b&key=[redacted].mine.{digest}.a=b",)
    assert SECRET not in str(found)
    assert "canary" not in str(found)


def test_a_body_with_a_secret_in_it_is_redacted_and_each_digest_of_it(tmp_path: Path) -> None:
    """A digest would tell a guess from the secret."""
    form = ("Content-Type", "application/x-www-form-urlencoded")
    found = signed_with(tmp_path, "add: {body: {key: {secret: {env: SECRET}}}}", "POST", form)
    assert found.signed == ("1700000000.POST./v1/x?a=b.mine.[redacted].[redacted]",)


def test_a_request_that_cannot_be_signed_is_told_why(tmp_path: Path) -> None:
    """As the data plane would answer it."""
    keys = f"{HOOKS}    signature:{TARGETS}"
    made = loaded(tmp_path, "type: basic, username: u, password: {env: SECRET}", keys)
    found = explain(made, "/x", None, Sample(0))
    assert (found.signed, found.unsigned) == (
        (),
        "request_invalid: the header x-own must be sent once: the signature covers it",
    )
    assert "not signed   request_invalid" in str(found)
    assert found.as_json()["unsigned"] == found.unsigned


def test_nothing_is_signed_of_what_is_denied_or_not_signed(tmp_path: Path) -> None:
    """Nor where nobody asks for it."""
    made = loaded(tmp_path, STANDARD, HOOKS)
    sample = Sample(0)
    for found in (explain(made, "/../x", None, sample), explain(made, "/x"), explain(CRM, "/x", None, sample)):
        assert (found.signed, found.unsigned) == ((), "")
        assert "signed" not in found.as_json()


def test_a_signature_beside_a_token_is_shown_without_a_call(tmp_path: Path) -> None:
    """Its key is in the config."""
    prefix = "    endpoint_prefix: https://auth.example.com/v1\n"
    found = explain(loaded(tmp_path, OAUTH2, prefix + GITHUB), "/x", None, Sample(0, "POST", (), b"{}"))
    assert found.signed == ("{}",)


def test_keys_that_come_by_a_call_are_not_asked_for(tmp_path: Path) -> None:
    """Nor is a token endpoint's base URL."""
    identity = "web_identity: {role_arn: 'arn:aws:iam::1:role/x', token: {file: token}, session_name: sidekey}"
    sqs = "    endpoint_prefix: https://sqs.eu-west-1.amazonaws.com/\n"
    (tmp_path / "token").write_text("a.b.c")
    made = loaded(tmp_path, f"type: aws_sigv4, region: eu-west-1, service: sqs, {identity}", sqs)
    found = explain(made, "/", None, Sample(0))
    assert found.unsigned == "the key that signs cannot be read, or comes by a call: what is signed is not known here"
    learnt = loaded(
        tmp_path, RESPONSYS, "    signature: {scheme: github, secret: {insecure_value: a-secret-of-github}}\n"
    )
    found = explain(learnt, "/rest/api", None, Sample(0))
    assert found.unsigned == "the base URL comes with the token, so what is signed is not known here"


AWS = "type: aws_sigv4, region: eu-west-1, service: s3, access_key_id: AKIA, secret_access_key: {insecure_value: key}"


@pytest.mark.parametrize(
    ("url", "upgraded"), [("/a@b?c=1+2", False), ("http://s3.eu-west-1.amazonaws.com/mine/a@b?c=1+2", True)]
)
def test_a_target_is_shown_in_the_one_spelling_that_is_sent(url: str, upgraded: bool, tmp_path: Path) -> None:
    """Which is no upgrade by itself; and what is signed of it is shown."""
    prefix = "    endpoint_prefix: https://s3.eu-west-1.amazonaws.com/mine\n"
    explanation = explain(loaded(tmp_path, AWS, prefix), url, sample=Sample(0.0))
    assert explanation.allowed
    assert explanation.sent_on == "https://s3.eu-west-1.amazonaws.com/mine/a%40b?c=1%202"
    assert explanation.upgraded is upgraded
    assert "GET\\n/mine/a%40b\\nc=1%202\\nhost:s3.eu-west-1.amazonaws.com\\n" in str(explanation)


# Where it would be dialled.

PRIVATE = "is 10.1.2.3, which is not a global address (private)"


def looked_up(*addresses: str) -> tuple[Address, ...]:
    return tuple(map(ip_address, addresses))


def test_a_host_with_refused_addresses_alone_is_denied_with_the_way_out() -> None:
    """One that may be dialled is enough; what is denied already, or goes elsewhere, stays as it is."""
    snapshot, found = Snapshot({}), looked_up("10.1.2.3")
    allowed = explain(CRM, "/x")
    assert allowed.dialled_host == "api.example.com"
    denied = with_addresses(allowed, snapshot, found)
    way_out = "add 10.1.2.3/32 to allow_private of the integration, or to network.allow_private"
    assert denied.decision.reason == f"api.example.com {PRIVATE}: {way_out}"
    assert (denied.allowed, denied.decision.code, denied.dialled_host) == (False, "destination_denied", None)
    assert "rule  " not in str(denied)
    assert denied.as_json()["credential"] is None
    mixed = looked_up("10.1.2.3", "198.41.0.4")
    assert with_addresses(allowed, snapshot, mixed) is allowed
    assert with_addresses(allowed, snapshot) is allowed
    outside = explain(CRM, "/../x")
    assert with_addresses(outside, snapshot, found) is outside
    own = replace(CRM, allow_private=(ip_network("10.0.0.0/8"),))
    assert with_addresses(explain(own, "/x"), snapshot, found).allowed


def test_the_operator_allows_addresses_of_stored_integrations() -> None:
    """Whatever integrations of files may dial."""
    network = NetworkRules(allow_private=(ip_network("10.0.0.0/8"),))
    stored = explain(replace(CRM, stored=True, allow_private=NetworkOverride()), "/x")
    denied = with_addresses(stored, Snapshot({}, network=network), looked_up("10.1.2.3"))
    assert denied.decision.reason.endswith("the operator must add 10.1.2.3/32 to store.allow_private")
