"""Permission to use a preset, and decisions on the request that it builds."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from sidekey.errors import Problem
from sidekey.policy.callers import Caller, Callers
from sidekey.policy.decide import decide
from sidekey.policy.decision import Denied
from sidekey.policy.messages import RequestHead
from sidekey.policy.targets import Policy
from sidekey.presets.decide import PresetAdmitted, decide_preset
from sidekey.presets.preset import Parameter, PresetRules
from sidekey.presets.template import UrlTemplate, text_template
from support.decisions import (
    BASE,
    H,
    IntegrationTable,
    KnownIntegration,
    basic,
    head,
    integration_rules,
    integration_table,
    outcome,
)

INVALID = Problem("credential_unavailable", "the preset is invalid", error="proxy_configuration_error")
HOOK = PresetRules("hook", "h", "PUT", UrlTemplate.parse("https://a.test/api/hook", ()), "text/plain")


def by_preset(*integrations: KnownIntegration) -> IntegrationTable:
    """Build routes with presets of `h`, an invalid one, one without its integration, and one outside the policy."""
    routes = integration_table(*integrations)
    outside = UrlTemplate.parse("https://a.test/other", ())
    gone = UrlTemplate.parse("https://a.test/api/hook", ())
    routes.presets = {
        b"hook": HOOK,
        b"broken": INVALID,
        b"gone": PresetRules("gone", "x", "POST", gone, "text/plain"),
        b"outside": PresetRules("outside", "h", "POST", outside, "text/plain"),
    }
    return routes


def posted(target: str, method: bytes = b"POST", *, kind: str = "text/plain", **fields: Any) -> RequestHead:
    """Build a POST with this Content-Type."""
    return head(target, method, fields=[f"\r\nContent-Type: {kind}".encode()], names=[b"content-type"], **fields)


def allowed_presets(*names: str) -> Callers:
    """Build one caller, `c`, that may use these presets and no integration."""
    return Callers({hashlib.sha256(b"c").digest(): Caller("one", frozenset(), frozenset(names))})


@pytest.mark.parametrize(
    ("request_head", "callers", "expected"),
    [
        (posted("/p/hook"), None, "https://a.test/api/hook"),
        (posted("/p/hook", token="c"), allowed_presets("hook"), "https://a.test/api/hook"),
        (posted("/p/hook", token="c", integration_id="h"), allowed_presets("hook"), "https://a.test/api/hook"),
        (posted("/p/hook", token="c"), allowed_presets("broken"), "preset_denied"),
        (posted("/p/unknown", token="c"), allowed_presets("hook", "unknown"), "preset_denied"),
        (posted("/p/hook"), allowed_presets("hook"), "caller_denied"),
        (posted("/p/nothing"), allowed_presets("hook"), "caller_denied"),
        (posted("/p/nothing"), None, "preset_denied"),
        (posted("/p/HOOK"), None, "preset_denied"),
        (posted("/p/gone"), None, "preset_denied"),
        (posted("/p/broken"), None, "credential_unavailable"),
        (posted("/p/outside"), None, "target_denied"),
        (posted("/p/hook", b"GET"), None, "method_denied"),
        (posted("/p/hook", b"TRACE"), None, "method_denied"),
        (posted("/p/hook", b"PUT"), None, "method_denied"),
        (posted("/p/hook", integration_id="other"), None, "request_invalid"),
        (posted("/p/hook", proxy_authorization=basic("other")), None, "request_invalid"),
        (posted("/p/hook", proxy_authorization=b"Bearer x"), None, "request_invalid"),
        (posted("/p/hook", sec_fetch_site="same-origin"), None, "door_denied"),
        (posted("/p/hook", origin="null"), None, "door_denied"),
        (posted("/p/hook", host=b"evil.test"), None, "door_denied"),
        (posted("/p/hook", via="1.1 sidekey (word)"), None, "loop_detected"),
        (posted("/p/hook", kind="text/html"), None, "content_type_denied"),
    ],
)
def test_caller_needs_permission_for_the_preset_only(
    request_head: RequestHead, callers: Callers | None, expected: str
) -> None:
    """The request must be a POST and not from a browser."""
    assert outcome(decide_preset(request_head, callers, by_preset(H))) == expected


@pytest.mark.parametrize("target", ["/p/", "/p/hook/", "/p/hook?x=1"])
def test_nothing_follows_the_id_of_a_preset(target: str) -> None:
    assert outcome(decide(posted(target), None, by_preset(H))) == "not_found"


def test_unknown_preset_and_unlisted_preset_have_the_same_response() -> None:
    """A caller cannot find out which presets exist."""
    answers = [
        decide_preset(posted(f"/p/{name}", token="c"), allowed_presets("outside"), by_preset(H))
        for name in ("hook", "none")
    ]
    assert len({item.problem for item in answers if isinstance(item, Denied)}) == 1
    assert all(isinstance(item, Denied) and item.candidate is None and item.preset == "" for item in answers)


def test_admitted_preset_sends_its_method_and_target() -> None:
    result = decide_preset(posted("/p/hook"), None, by_preset(H))
    assert isinstance(result, PresetAdmitted)
    assert result.preset is HOOK
    assert (result.head.method, result.head.target) == (b"PUT", b"https://a.test/api/hook")


def test_target_with_placeholders_is_checked_after_they_are_filled() -> None:
    """Until then the request is admitted without a target."""
    parameters = {"a": Parameter("text")}
    template = text_template("text/plain", "{{a}}", parameters)
    url = UrlTemplate.parse("https://a.test/api/{{a}}", parameters)
    preset = PresetRules("each", "h", "POST", url, "text/plain", (), parameters, template)
    routes = by_preset(H)
    routes.presets[b"each"] = preset
    result = decide_preset(posted("/p/each", kind="application/json"), None, routes)
    assert isinstance(result, PresetAdmitted)
    assert result.target is None
    assert result.preset is preset


def test_preset_cannot_use_a_method_that_the_integration_denies() -> None:
    narrow = KnownIntegration(integration_rules(policy=Policy(prefixes=(BASE,), methods=frozenset({"POST"}))))
    assert outcome(decide_preset(posted("/p/hook"), None, by_preset(narrow))) == "method_denied"


@pytest.mark.parametrize(
    ("result", "denial"),
    [
        (decide_preset(posted("/p/nothing"), None, by_preset(H)), "preset_unknown"),
        (decide_preset(posted("/p/hook", token="c"), allowed_presets("broken"), by_preset(H)), "preset_unlisted"),
        (decide_preset(posted("/p/nothing", token="c"), allowed_presets("hook"), by_preset(H)), "preset_unlisted"),
        (decide_preset(posted("/p/hook", b"GET"), None, by_preset(H)), "method_of_preset"),
        (decide_preset(posted("/p/hook", kind="text/html"), None, by_preset(H)), "content_type"),
        (decide_preset(posted("/p/broken"), None, by_preset(H)), None),
    ],
)
def test_each_denial_of_a_preset_has_its_reason(
    result: PresetAdmitted[KnownIntegration] | Denied[KnownIntegration], denial: str | None
) -> None:
    """A preset that cannot be used now is no denial."""
    assert isinstance(result, Denied)
    assert result.problem.denial == denial
