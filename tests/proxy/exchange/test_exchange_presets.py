"""Requests through presets, byte for byte at the upstream."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.policy.callers import Caller
from sidekey.policy.targets import Domain, Policy, parse_prefix
from sidekey.snapshot.request_rules import Limits
from sidekey.snapshot.snapshot import Preset, Snapshot
from support.memory import MemoryUpstream, running
from support.plane import (
    CREDENTIAL,
    UPSTREAM,
    FixedSource,
    RenewedSource,
    RunningPlane,
    base_url,
    callers_of,
    eventually,
    integration,
    problem,
)
from support.presets import JSON, post, preset
from support.raw_connection import RawConnection
from support.scripted import ScriptedPlane, settle
from support.unresolved import UnresolvedIntegration
from support.upstream import OK, respond_with

USER = {"user": {"type": "text", "max_length": 64}, "points": {"type": "number", "default": 0}}
BODY = {"json": {"points": "{{points}}", "text": "Hello {{user}}"}}


def hook(port: int, path: str = "/api/hook", **keys: Any) -> Preset:
    """Build a preset for this upstream."""
    return preset(url=base_url(port, path), **keys)


def parameterized(port: int, path: str = "/api/users/{{user}}/mails", **keys: Any) -> Preset:
    """Build a preset with parameters."""
    return hook(port, path, **{"parameters": USER, "body": BODY, **keys})


def sent(
    port: int, method: str, target: str, *lines: str, body: bytes = b"", length: bool = True, word: bytes
) -> bytes:
    """Return the bytes that the upstream received."""
    head = [
        f"{method} {target} HTTP/1.1",
        f"Host: {UPSTREAM}:{port}",
        f"Authorization: {CREDENTIAL.decode()}",
        *lines,
        *([f"Content-Length: {len(body)}"] if length else []),
        f"Via: 1.1 sidekey ({word.decode()})",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


async def test_payload_passes_byte_for_byte() -> None:
    """With few fields of the caller and all fields of the preset."""
    payload = b'\xff\x00{"not": read}'
    async with MemoryUpstream(respond_with(OK)) as upstream:
        configured = hook(upstream.port, "/api/hook?a=1", headers={"X-Source": "sidekey"}, method="PUT")
        async with running(integration("h", base_url(upstream.port)), presets=[configured]) as sidekey:
            asked = post(payload, JSON, "X-Other: 1", "User-Agent: x", "Accept: a/b", "Cookie: c", "traceparent: t")
            response = await sidekey.send(asked)
            assert response.status == 200
            assert upstream.received[0] == sent(
                upstream.port,
                "PUT",
                "/api/hook?a=1",
                JSON,
                "Accept: a/b",
                "traceparent: t",
                "X-Source: sidekey",
                body=payload,
                word=sidekey.plane.worker.instance,
            )
            assert sidekey.metrics.presets == {"hook": {"2xx": 1}}
            await sidekey.wait_for_outcomes("h", c2xx=1)


async def test_a_payload_is_streamed() -> None:
    """In its own framing, before it is complete."""
    async with (
        MemoryUpstream() as upstream,
        running(integration("h", base_url(upstream.port)), presets=[hook(upstream.port)]) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(post(b"3\r\nabc\r\n", framing="Transfer-Encoding: chunked"))
        await eventually(lambda: upstream.received and upstream.received[0].endswith(b"3\r\nabc\r\n"))
        await caller.send(b"2\r\nde\r\n0\r\n\r\n")
        assert (await caller.response()).status == 200
        (message,) = upstream.requests
        assert message.body == b"abcde"


async def test_second_request_is_the_same_byte_for_byte() -> None:
    """It uses the parsed URL of the first request."""
    async with (
        MemoryUpstream() as upstream,
        running(integration("h", base_url(upstream.port)), presets=[hook(upstream.port)]) as sidekey,
        sidekey.connect() as caller,
    ):
        for _ in range(3):
            await caller.send(post(b"{}"))
            assert (await caller.response()).status == 200
        first, *others = [(item.start, item.headers, item.body) for item in upstream.requests]
        assert others == [first, first]
        for asked, code in (
            (post(b"{}", "Content-Type: text/x"), "content_type_denied"),
            (post(b"", method="PUT"), None),
        ):
            response = await sidekey.send(asked)
            assert problem(response)["code"] == (code or "method_denied")
        assert sidekey.metrics.presets == {"hook": {"2xx": 3, "content_type_denied": 1, "method_denied": 1}}


async def test_parameters_are_filled_in() -> None:
    """In any pieces. The upstream gets one request with a Content-Length."""
    async with MemoryUpstream() as upstream:
        configured = parameterized(upstream.port, headers={"X-User": "{{user}}"}, method="PATCH")
        async with (
            running(integration("h", base_url(upstream.port)), presets=[configured]) as sidekey,
            sidekey.connect() as caller,
        ):
            payload = '{"user": "Jo & é", "points": 12}'.encode()
            await caller.send(post(payload))
            assert (await caller.response()).status == 200
            chunked = post(b"", "Idempotency-Key: 1", framing="Transfer-Encoding: chunked")
            await caller.send(chunked + b"4\r\n" + payload[:4] + b"\r\n")
            await eventually(lambda: sidekey.metrics.in_flight == 1)
            assert len(upstream.requests) == 1
            await caller.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(payload) - 4, payload[4:]))
            assert (await caller.response()).status == 200
            body = '{"points":12,"text":"Hello Jo & é"}'.encode()
            target, word = "/api/users/Jo%20%26%20%C3%A9/mails", sidekey.plane.worker.instance
            lines = ("X-User: Jo & é", JSON)
            assert upstream.received[0] == sent(upstream.port, "PATCH", target, *lines, body=body, word=word) + sent(
                upstream.port, "PATCH", target, "Idempotency-Key: 1", *lines, body=body, word=word
            )


async def test_sidekey_sends_100_continue_for_parameters() -> None:
    """RFC 9110 10.1.1"""
    async with (
        MemoryUpstream() as upstream,
        running(integration("h", base_url(upstream.port)), presets=[parameterized(upstream.port)]) as sidekey,
        sidekey.connect() as caller,
    ):
        payload = b'{"user": "x"}'
        await caller.send(post(payload, "Expect: 100-continue")[: -len(payload)])
        assert (await caller.response()).status == 100
        await caller.send(payload)
        assert (await caller.response()).status == 200
        (message,) = upstream.requests
        assert message.values(b"expect") == []


@pytest.mark.parametrize(
    ("payload", "pointer"),
    [
        (b'{"user": "..%2Fadmins"}', "/user"),
        (b'{"user": "a", "points": "1"}', "/points"),
        (b"{}", "/user"),
        (b'{"user": "a", "user": "b"}', ""),
        (b'{"user": "\\ud800"}', "/user"),
        (b'{"user": "a", "points": 1e%b}' % (b"9" * 20), ""),
        (b'{"user": "a", "points": NaN}', "/points"),
        (b'{"user": %b1%b}' % (b"[" * 30_000, b"]" * 30_000), ""),
        (b"\xff", ""),
        (b"", ""),
    ],
)
async def test_invalid_parameters_are_422(payload: bytes, pointer: str) -> None:
    """Nothing is sent, the response does not repeat the value, and the connection stays open."""
    async with (
        MemoryUpstream() as upstream,
        running(integration("h", base_url(upstream.port)), presets=[parameterized(upstream.port)]) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(post(payload))
        response = await caller.response()
        error = problem(response)
        assert (response.status, error["code"], error["sent"]) == (422, "parameters_invalid", "no")
        assert [item["pointer"] for item in error["errors"]] == [pointer]
        assert "admins" not in response.body.decode()
        assert "integration" not in error
        await caller.send(post(b'{"user": "x"}'))
        assert (await caller.response()).status == 200
        assert len(upstream.requests) == 1


async def test_policy_applies_to_the_filled_target() -> None:
    """No single segment shows that the result is the token endpoint."""
    async with MemoryUpstream() as upstream:
        base = base_url(upstream.port)
        configured = integration("h", base, forbidden=[(base_url(upstream.port, ""), "/api/token")])
        async with running(configured, presets=[parameterized(upstream.port, "/api/{{user}}")]) as sidekey:
            response = await sidekey.send(post(b'{"user": "token"}'))
            assert problem(response)["code"] == "target_denied"
            assert "integration" not in problem(response)
            assert upstream.received == []
            assert (await sidekey.send(post(b'{"user": "tokens"}'))).status == 200


@pytest.mark.parametrize("declared", [True, False])
async def test_long_parameters_are_refused(*, declared: bool) -> None:
    """With Content-Length at once, in chunks as soon as they exceed the limit."""
    limits = Limits(preset_parameters=100)
    async with (
        MemoryUpstream() as upstream,
        running(
            integration("h", base_url(upstream.port)), presets=[parameterized(upstream.port)], limits=limits
        ) as sidekey,
        sidekey.connect() as caller,
    ):
        whole = b'{"user": "%b"}' % (b"x" * 64)
        whole += b" " * (100 - len(whole))
        await caller.send(post(whole))
        assert (await caller.response()).status == 200
        if declared:
            await caller.send(post(whole + b" ")[:-90])
        else:
            await caller.send(post(b"64\r\n" + whole + b"\r\n1\r\n \r\n", framing="Transfer-Encoding: chunked"))
        response = await caller.response()
        assert problem(response)["code"] == "request_too_large"
        assert response.status == 413
        assert len(upstream.requests) == 1


async def test_filled_body_has_at_most_256_kib() -> None:
    text = {"text": "{{a}}{{a}}{{a}}{{a}}{{b}}", "content_type": "text/plain"}
    keys = {"parameters": {"a": {"type": "text"}, "b": {"type": "text"}}, "body": text}
    async with (
        MemoryUpstream() as upstream,
        running(
            integration("h", base_url(upstream.port)),
            presets=[hook(upstream.port, **keys)],
            limits=Limits(preset_parameters=128 << 10),
        ) as sidekey,
    ):
        quarter = b"x" * (64 << 10)
        assert (await sidekey.send(post(b'{"a": "%b", "b": ""}' % quarter))).status == 200
        (message,) = upstream.requests
        assert message.body == quarter * 4
        response = await sidekey.send(post(b'{"a": "%b", "b": "x"}' % quarter))
        assert response.status == 422
        reason = "the filled body or the filled headers must not be over limits.preset_body (262144 bytes)"
        assert problem(response)["errors"] == [{"pointer": "", "detail": reason}]
        assert len(upstream.requests) == 1


async def test_token_is_added_to_the_filled_body() -> None:
    """After filling, so that no parameter can replace it."""
    traits = CredentialTraits(InjectionPoints(body=("access_token",)), calls=True, watched=frozenset({401}))
    grant = Grant(body=(("access_token", "secret-token"),))
    async with MemoryUpstream() as upstream:
        configured = integration("h", base_url(upstream.port), headers=(), traits=traits)
        presets = [
            parameterized(upstream.port, name="hook"),
            parameterized(upstream.port, name="named", body={"json": {"access_token": "{{user}}"}}),
        ]
        async with running(configured, sources={"h": FixedSource(grant)}, presets=presets) as sidekey:
            assert (await sidekey.send(post(b'{"user": "x"}'))).status == 200
            (message,) = upstream.requests
            assert json.loads(message.body) == {"points": 0, "text": "Hello x", "access_token": "secret-token"}
            response = await sidekey.send(post(b'{"user": "x"}', name="named"))
            assert problem(response)["code"] == "request_invalid"


async def test_filled_request_is_replayed_with_a_newer_grant() -> None:
    """RFC 6750 3.1"""
    grants = [Grant(headers=(("Authorization", f"Bearer secret-{word}"),)) for word in ("old", "new")]
    traits = CredentialTraits(InjectionPoints(headers=("Authorization",)), calls=True, watched=frozenset({401}))
    responses = iter([b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", OK])

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(next(responses))

    async with MemoryUpstream(script) as upstream:
        configured = integration("h", base_url(upstream.port), headers=(), traits=traits)
        async with running(
            configured, sources={"h": RenewedSource(*grants)}, presets=[parameterized(upstream.port)]
        ) as sidekey:
            assert (await sidekey.send(post(b'{"user": "x"}'))).status == 200
            first, second = upstream.requests
            assert first.body == second.body == b'{"points":0,"text":"Hello x"}'
            assert [item.values(b"authorization") for item in (first, second)] == [
                [b"Bearer secret-old"],
                [b"Bearer secret-new"],
            ]


async def test_preset_uses_the_base_url_of_the_grant() -> None:
    """Its URL has the placeholder host, as at the forward proxy."""
    async with MemoryUpstream() as upstream:
        login = parse_prefix("https://login.test")
        policy = Policy(
            prefixes=(),
            domains=(Domain(parse_prefix("https://real.test").origin), Domain(login.origin)),
            placeholder_origin=login.origin,
        )
        traits = CredentialTraits(InjectionPoints(headers=("Authorization",)), calls=True, discovers_base_url=True)
        configured = replace(integration("h", base_url(upstream.port), traits=traits), policy=policy, base=login)
        grant = Grant(headers=(("Authorization", "Bearer secret"),), base_url="https://real.test")
        keys = {"parameters": USER, "body": BODY}
        presets = [
            preset("hook", "https://login.test/x"),
            preset("filled", "https://login.test/u/{{user}}", **keys),
        ]
        async with running(configured, sources={"h": FixedSource(grant)}, presets=presets) as sidekey:
            for asked in (post(b"{}"), post(b'{"user": "x"}', name="filled")):
                # Nothing answers at that name: what counts is where it is sought.
                assert (await sidekey.send(asked)).status == 502
            compiled = sidekey.plane.router.find(b"h")
            assert compiled is not None
            assert "real.test" in {route.origin.host for route in compiled.routes}


async def test_base_url_learned_meanwhile_applies_to_a_preset() -> None:
    """Sidekey checks the target of the placeholder again."""
    login = parse_prefix("https://login.test")
    domains = (Domain(parse_prefix("https://real.test").origin), Domain(login.origin))
    policy = Policy(domains=domains, placeholder_origin=login.origin)
    traits = CredentialTraits(InjectionPoints(headers=("Authorization",)), calls=True, discovers_base_url=True)
    configured = replace(integration("h", base_url(1), traits=traits), policy=policy, base=login)
    source = FixedSource(Grant(headers=(("Authorization", "Bearer secret"),), base_url="https://real.test"))
    presets = [preset("hook", "https://login.test/x", parameters=USER, body=BODY)]
    sidekey = ScriptedPlane(configured, sources={"h": source}, presets=presets)
    slow, other = sidekey.caller(), sidekey.caller()
    whole = post(b'{"user": "x"}')
    slow.feed(whole[:-1])
    other.feed(b"GET /i/h/a HTTP/1.1\r\nHost: h.test\r\n\r\n")
    (await sidekey.upstream()).feed(OK)
    sidekey.upstreams[0].read()
    slow.feed(whole[-1:])
    await settle()
    assert len(sidekey.upstreams) == 1
    assert sidekey.upstreams[0].read().startswith(b"POST /x HTTP/1.1\r\nHost: real.test\r\n")


@pytest.mark.parametrize("path", ["/api/hook", "/api/users/{{user}}"])
async def test_resolved_integration_serves_its_presets(path: str) -> None:
    """Never without its credential, even with passthrough."""
    async with MemoryUpstream() as upstream:
        missing = UnresolvedIntegration(integration("h", base_url(upstream.port)))
        missing.resolve()
        async with running(
            missing.integration(), presets=[parameterized(upstream.port, path)], passing=True
        ) as sidekey:
            assert (await sidekey.send(post(b'{"user": "x"}'))).status == 200
            (message,) = upstream.requests
            assert message.values(b"authorization") == [CREDENTIAL]


def allowed(sidekey: RunningPlane, *presets: str) -> Snapshot:
    """Copy the snapshot with a caller that may use these presets, and no integration."""
    callers = {digest: Caller("one", frozenset(), frozenset(presets)) for digest in callers_of({"token": None}) or {}}
    return replace(sidekey.snapshot, callers=callers)


async def test_caller_needs_only_the_preset() -> None:
    """It needs no permission for the integration, and gets none."""
    async with MemoryUpstream() as upstream:
        presets = [hook(upstream.port), preset("other", base_url(upstream.port))]
        async with running(integration("h", base_url(upstream.port)), presets=presets) as sidekey:
            sidekey.publisher.publish(allowed(sidekey, "hook"))
            token = "Sidekey-Token: token"
            assert (await sidekey.send(post(b"{}", token))).status == 200
            for name in ("other", "nothing"):
                response = await sidekey.send(post(b"{}", token, name=name))
                assert (response.status, problem(response)["code"]) == (403, "preset_denied")
                assert problem(response)["detail"] == "there is no such preset for this caller"
            response = await sidekey.send(post(b"{}"))
            assert (response.status, problem(response)["code"]) == (401, "caller_denied")
            asked = b"POST /i/h/hook HTTP/1.1\r\nHost: h.test\r\nSidekey-Token: token\r\nContent-Length: 0\r\n\r\n"
            assert problem(await sidekey.send(asked))["code"] == "integration_denied"
            assert len(upstream.requests) == 1
            assert upstream.requests[0].values(b"sidekey-token") == []
            assert sidekey.metrics.presets == {"hook": {"2xx": 1}, "unknown": {"preset_denied": 2, "caller_denied": 1}}


async def test_request_keeps_its_preset_during_a_reload() -> None:
    async with (
        MemoryUpstream() as upstream,
        running(integration("h", base_url(upstream.port)), presets=[parameterized(upstream.port)]) as sidekey,
        sidekey.connect() as caller,
    ):
        whole = post(b'{"user": "x"}')
        await caller.send(whole[:-1])
        await eventually(lambda: sidekey.metrics.in_flight == 1)
        changed = parameterized(upstream.port, "/api/v2/{{user}}", body={"json": {"new": "{{user}}"}})
        sidekey.publisher.publish(replace(sidekey.snapshot, presets={"hook": changed}))
        await caller.send(whole[-1:])
        assert (await caller.response()).status == 200
        await caller.send(whole)
        assert (await caller.response()).status == 200
        assert [(item.target, item.body) for item in upstream.requests] == [
            (b"/api/users/x/mails", b'{"points":0,"text":"Hello x"}'),
            (b"/api/v2/x", b'{"new":"x"}'),
        ]


async def test_reload_drops_changed_presets_from_the_cache() -> None:
    """Also removed and invalid ones. Unchanged ones stay."""
    async with MemoryUpstream() as upstream:
        first = hook(upstream.port, "/api/one")
        async with running(integration("h", base_url(upstream.port)), presets=[first]) as sidekey:
            for _ in range(2):
                assert (await sidekey.send(post(b""))).status == 200
            for presets, code in (
                ({"hook": hook(upstream.port, "/api/two")}, None),
                ({"hook": replace(first, invalid="its url is outside")}, "credential_unavailable"),
                ({}, "preset_denied"),
            ):
                sidekey.publisher.publish(replace(sidekey.snapshot, presets=presets))
                # Twice: after a reload the first request is judged again in any case.
                for _ in range(2):
                    response = await sidekey.send(post(b""))
                    assert response.status == 200 if code is None else problem(response)["code"] == code
            assert [item.target for item in upstream.requests] == [b"/api/one"] * 2 + [b"/api/two"] * 2


async def test_filled_body_over_the_replay_limit_is_not_replayed() -> None:
    """The caller gets the refusal."""
    traits = CredentialTraits(InjectionPoints(headers=("Authorization",)), calls=True, watched=frozenset({401}))
    grants = [Grant(headers=(("Authorization", f"Bearer secret-{word}"),)) for word in ("old", "new")]
    refused = b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"
    async with MemoryUpstream(respond_with(refused)) as upstream:
        configured = integration("h", base_url(upstream.port), headers=(), traits=traits)
        async with running(
            configured,
            sources={"h": RenewedSource(*grants)},
            presets=[parameterized(upstream.port)],
            limits=Limits(replay_body=15),
        ) as sidekey:
            assert (await sidekey.send(post(b'{"user": "x"}'))).status == 401
            assert len(upstream.requests) == 1


async def test_preset_outside_a_resolved_policy_never_passes() -> None:
    """Even with passthrough."""
    async with MemoryUpstream() as upstream:
        missing = UnresolvedIntegration(integration("h", "https://covered.test/api"))
        missing.resolve()
        async with running(missing.integration(), presets=[hook(upstream.port)], passing=True) as sidekey:
            assert problem(await sidekey.send(post(b"")))["code"] == "target_denied"
            assert upstream.received == []


async def test_preset_outside_the_policy_never_passes() -> None:
    """Even with passthrough."""
    async with MemoryUpstream() as upstream:
        configured = preset(url=base_url(upstream.port, "/other"))
        async with running(integration("h", base_url(1)), presets=[configured], passing=True) as sidekey:
            assert problem(await sidekey.send(post(b"")))["code"] == "target_denied"
            assert upstream.received == []
