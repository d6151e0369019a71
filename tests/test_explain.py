"""What `sidekey explain` says of a target, judged as the doors judge it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidekey.core.policy import Policy, parse_domain, parse_prefix
from sidekey.credentials.base import FixedCredential, Grant
from sidekey.credentials.static import StaticSource
from sidekey.explain import CONNECT_NOTE, Explanation, explain
from sidekey.settings.snapshot import Integration

SECRET = "Bearer not-to-be-seen"


def source(*, readable: bool = True) -> StaticSource:
    """A grant source with one injected header."""
    grant = Grant(headers=(("Authorization", SECRET), ("X-Tenant", "acme")))
    found = StaticSource(lambda: FixedCredential(grant))
    if readable:
        found.refresh()
    return found


def integration(*prefixes: str, methods: frozenset[str] | None = None, readable: bool = True) -> Integration:
    """An integration of kind headers with these endpoint prefixes."""
    parsed = tuple(map(parse_prefix, prefixes))
    policy = Policy(prefixes=parsed, methods=methods)
    return Integration("crm", "headers", policy, parsed[0] if parsed else None, source(readable=readable))


CRM = integration("https://api.example.com/v1")


def test_a_path_is_judged_as_what_follows_the_id_at_the_reverse_door() -> None:
    """`/send` means /i/crm/send, and the target is the base and the path."""
    found = explain(CRM, "/send?to=1")
    assert (found.door, found.as_sent) == ("reverse", "/i/crm/send?to=1")
    assert found.sent_on == "https://api.example.com/v1/send?to=1"
    assert found.allowed


@pytest.mark.parametrize("rest", ["", "?page=2"])
def test_the_base_itself_is_a_target_of_the_reverse_door(rest: str) -> None:
    """`/i/crm` and `/i/crm?page=2` reach the base."""
    assert explain(CRM, rest).sent_on == f"https://api.example.com/v1{rest}"


def test_an_http_url_shows_both_forms() -> None:
    """The forward door upgrades where only an https rule names the host: as sent and sent on are both shown."""
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
    assert "allowed      by https://b.example.com: inside in every reading" in str(found).splitlines()


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("/../admin", "target_denied"),
        ("/%2e%2e/admin", "target_denied"),
        ("http://evil.example.com/v1/send", "target_denied"),
        ("https://api.example.com/v1evil", "target_denied"),
        ("/%00", "request_invalid"),
        ("/a b", "request_invalid"),
        ("/%zz", "request_invalid"),
        ("ftp://api.example.com/v1", "request_invalid"),
        ("no-url", "request_invalid"),
        ("http://api.example.com/v1/%0a", "request_invalid"),
    ],
)
def test_a_denied_target_is_explained_with_its_code(url: str, code: str) -> None:
    """Nothing is sent, and the answer's code and reason are those of the doors."""
    found = explain(CRM, url)
    assert not found.allowed
    assert found.decision.code == code
    assert f"denied       {code}: {found.decision.reason}" in str(found).splitlines()
    assert found.as_json()["credential"] is None


def test_a_denied_target_is_shown_what_would_be_allowed() -> None:
    """The way out: every rule of the integration."""
    limited = replace(CRM, policy=replace(CRM.policy, domains=(parse_domain("https://*.example.com"),)))
    lines = str(explain(limited, "http://evil.example.org/")).splitlines()
    assert "rule         the target lies under https://api.example.com/v1" in lines
    assert "rule         the target is at https://*.example.com" in lines


def test_an_integration_without_a_base_has_no_reverse_door_yet() -> None:
    """Where the base is learnt later, only absolute URLs can be judged now."""
    found = explain(integration(), "/send")
    assert (found.decision.code, found.sent_on) == ("target_denied", None)


def test_an_https_url_is_told_that_connect_comes_later() -> None:
    """Clients cannot send one by the forward door yet, so the note names the ways that work."""
    assert explain(CRM, "https://api.example.com/v1/send").note == CONNECT_NOTE
    assert explain(CRM, "http://api.example.com/v1/send").note is None


def test_the_injected_headers_are_named() -> None:
    """Where the credential would go: the origin and the names of the headers."""
    found = explain(CRM, "/send")
    assert "credential   goes to https://api.example.com in Authorization, X-Tenant" in str(found).splitlines()
    assert found.as_json()["credential"] == {
        "origin": "https://api.example.com",
        "headers": ("Authorization", "X-Tenant"),
    }


@pytest.mark.parametrize("url", ["/send", "/../x", "http://api.example.com/v1/send"])
def test_no_explanation_holds_the_credential(url: str) -> None:
    """Names alone, in the text, the JSON and the repr."""
    found: Explanation = explain(CRM, url)
    assert "not-to-be-seen" not in f"{found} {found.as_json()} {found!r}"


def test_secrets_that_cannot_be_read_leave_the_policy_to_be_explained() -> None:
    """The verdict does not need the credential; the text says that it is missing."""
    found = explain(integration("https://api.example.com", readable=False), "/send")
    assert found.allowed
    assert found.headers is None
    assert "once its secrets can be read" in str(found)


def test_the_methods_are_shown_where_they_are_limited() -> None:
    """A target that is allowed may still be refused for its method."""
    found = explain(integration("https://api.example.com", methods=frozenset({"POST", "GET"})), "/send")
    assert "methods      GET, POST" in str(found).splitlines()
    assert found.as_json()["methods"] == ["GET", "POST"]
    assert explain(CRM, "/send").as_json()["methods"] is None
