"""Requests by presets, byte for byte at the upstream."""

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
from support.memory import Upstream, running
from support.plane import (
    CREDENTIAL,
    UPSTREAM,
    FixedSource,
    RenewedSource,
    Running,
    base_url,
    callers_of,
    eventually,
    integration,
    problem,
)
from support.presets import JSON, post, preset
from support.raw_connection import RawConnection
from support.scripted import Scripted, settle
from support.unresolved import Missing
from support.upstream import OK, answering

USER = {"user": {"type": "text", "max_length": 64}, "points": {"type": "number", "default": 0}}
BODY = {"json": {"points": "{{points}}", "text": "Hello {{user}}"}}


def hook(port: int, path: str = "/api/hook", **keys: Any) -> Preset:
    """A preset that goes to this upstream."""
    return preset(url=base_url(port, path), **keys)


def filled(port: int, path: str = "/api/users/{{user}}/mails", **keys: Any) -> Preset:
    """A preset that is filled with parameters."""
    return hook(port, path, **{"parameters": USER, "body": BODY, **keys})


def sent(
    port: int, method: str, target: str, *lines: str, body: bytes = b"", length: bool = True, word: bytes
) -> bytes:
    """What the upstream receives, byte for byte."""
    head = [
        f"{method} {target} HTTP/1.1",
        f"Host: {UPSTREAM}:{port}",
        f"Authorization: {CREDENTIAL.decode()}",
        *lines,
        *([f"Content-Length: {len(body)}"] if length else []),
        f"Via: 1.1 sidekey ({word.decode()})",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


async def test_a_payload_goes_through_byte_for_byte() -> None:
    """With few of the caller's headers, and all of the preset's; the answer comes back as ever."""
    payload = b'\xff\x00{"not": read}'
    async with Upstream(answering(OK)) as upstream:
        made = hook(upstream.port, "/api/hook?a=1", headers={"X-Source": "sidekey"}, method="PUT")
        async with running(integration("h", base_url(upstream.port)), presets=[made]) as sidekey:
            asked = post(payload, JSON, "X-Other: 1", "User-Agent: x", "Accept: a/b", "Cookie: c", "traceparent: t")
            response = await sidekey.ask(asked)
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
            await sidekey.outcomes("h", c2xx=1)


async def test_a_payload_is_streamed() -> None:
    """Its pieces leave before it is whole, in the framing that it came with."""
    async with (
        Upstream() as upstream,
        running(integration("h", base_url(upstream.port)), presets=[hook(upstream.port)]) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(post(b"3\r\nabc\r\n", framing="Transfer-Encoding: chunked"))
        await eventually(lambda: upstream.received and upstream.received[0].endswith(b"3\r\nabc\r\n"))
        await caller.send(b"2\r\nde\r\n0\r\n\r\n")
        assert (await caller.response()).status == 200
        (message,) = upstream.requests
        assert message.body == b"abcde"


async def test_a_second_request_takes_the_same_way_as_the_first() -> None:
    """Which reads the URL once; what goes on is the same byte for byte."""
    async with (
        Upstream() as upstream,
        running(integration("h", base_url(upstream.port)), presets=[hook(upstream.port)]) as sidekey,
        sidekey.connect() as caller,
    ):
        for _ in range(3):
            await caller.send(post(b"{}"))
            assert (await caller.response()).status == 200
        first, *others = [(each.start, each.headers, each.body) for each in upstream.requests]
        assert others == [first, first]
        for asked, code in (
            (post(b"{}", "Content-Type: text/x"), "content_type_denied"),
            (post(b"", method="PUT"), None),
        ):
            response = await sidekey.ask(asked)
            assert problem(response)["code"] == (code or "method_denied")
        assert sidekey.metrics.presets == {"hook": {"2xx": 3, "content_type_denied": 1, "method_denied": 1}}


async def test_parameters_are_filled_in() -> None:
    """In pieces or in one, the upstream gets one request with one length."""
    async with Upstream() as upstream:
        made = filled(upstream.port, headers={"X-User": "{{user}}"}, method="PATCH")
        async with (
            running(integration("h", base_url(upstream.port)), presets=[made]) as sidekey,
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


async def test_a_caller_that_waits_for_100_gets_it_from_here() -> None:
    """The parameters are needed before the upstream is asked (RFC 9110 10.1.1)."""
    async with (
        Upstream() as upstream,
        running(integration("h", base_url(upstream.port)), presets=[filled(upstream.port)]) as sidekey,
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
async def test_what_parameters_may_not_be_is_422(payload: bytes, pointer: str) -> None:
    """Nothing is sent, nothing is repeated of the value, and the connection goes on."""
    async with (
        Upstream() as upstream,
        running(integration("h", base_url(upstream.port)), presets=[filled(upstream.port)]) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(post(payload))
        response = await caller.response()
        said = problem(response)
        assert (response.status, said["code"], said["sent"]) == (422, "parameters_invalid", "no")
        assert [each["pointer"] for each in said["errors"]] == [pointer]
        assert "admins" not in response.body.decode()
        assert "integration" not in said
        await caller.send(post(b'{"user": "x"}'))
        assert (await caller.response()).status == 200
        assert len(upstream.requests) == 1


async def test_a_filled_target_is_judged_by_the_policy() -> None:
    """What no segment shows: the token endpoint is no target for a preset either."""
    async with Upstream() as upstream:
        base = base_url(upstream.port)
        made = integration("h", base, forbidden=[(base_url(upstream.port, ""), "/api/token")])
        async with running(made, presets=[filled(upstream.port, "/api/{{user}}")]) as sidekey:
            response = await sidekey.ask(post(b'{"user": "token"}'))
            assert problem(response)["code"] == "target_denied"
            assert "integration" not in problem(response)
            assert upstream.received == []
            assert (await sidekey.ask(post(b'{"user": "tokens"}'))).status == 200


@pytest.mark.parametrize("declared", [True, False])
async def test_parameters_are_bounded(*, declared: bool) -> None:
    """As they come, or before any of them has."""
    limits = Limits(preset_parameters=100)
    async with (
        Upstream() as upstream,
        running(integration("h", base_url(upstream.port)), presets=[filled(upstream.port)], limits=limits) as sidekey,
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


async def test_what_is_filled_in_is_bounded() -> None:
    """256 KiB go out, and not a byte more."""
    text = {"text": "{{a}}{{a}}{{a}}{{a}}{{b}}", "content_type": "text/plain"}
    keys = {"parameters": {"a": {"type": "text"}, "b": {"type": "text"}}, "body": text}
    async with (
        Upstream() as upstream,
        running(
            integration("h", base_url(upstream.port)),
            presets=[hook(upstream.port, **keys)],
            limits=Limits(preset_parameters=128 << 10),
        ) as sidekey,
    ):
        quarter = b"x" * (64 << 10)
        assert (await sidekey.ask(post(b'{"a": "%b", "b": ""}' % quarter))).status == 200
        (message,) = upstream.requests
        assert message.body == quarter * 4
        response = await sidekey.ask(post(b'{"a": "%b", "b": "x"}' % quarter))
        assert response.status == 422
        reason = "the filled body or the filled headers must not be over limits.preset_body (262144 bytes)"
        assert problem(response)["errors"] == [{"pointer": "", "detail": reason}]
        assert len(upstream.requests) == 1


async def test_a_token_goes_into_the_filled_body() -> None:
    """After filling, so that no parameter takes its place."""
    traits = CredentialTraits(InjectionPoints(body=("access_token",)), calls=True, watched=frozenset({401}))
    grant = Grant(body=(("access_token", "secret-token"),))
    async with Upstream() as upstream:
        made = integration("h", base_url(upstream.port), headers=(), traits=traits)
        presets = [
            filled(upstream.port, name="hook"),
            filled(upstream.port, name="named", body={"json": {"access_token": "{{user}}"}}),
        ]
        async with running(made, sources={"h": FixedSource(grant)}, presets=presets) as sidekey:
            assert (await sidekey.ask(post(b'{"user": "x"}'))).status == 200
            (message,) = upstream.requests
            assert json.loads(message.body) == {"points": 0, "text": "Hello x", "access_token": "secret-token"}
            response = await sidekey.ask(post(b'{"user": "x"}', name="named"))
            assert problem(response)["code"] == "request_invalid"


async def test_a_refused_grant_is_replaced_and_the_filled_body_written_again() -> None:
    """As any other request that can be written a second time (RFC 6750 3.1)."""
    grants = [Grant(headers=(("Authorization", f"Bearer secret-{word}"),)) for word in ("old", "new")]
    traits = CredentialTraits(InjectionPoints(headers=("Authorization",)), calls=True, watched=frozenset({401}))
    answers = iter([b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", OK])

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(next(answers))

    async with Upstream(script) as upstream:
        made = integration("h", base_url(upstream.port), headers=(), traits=traits)
        async with running(made, sources={"h": RenewedSource(*grants)}, presets=[filled(upstream.port)]) as sidekey:
            assert (await sidekey.ask(post(b'{"user": "x"}'))).status == 200
            first, second = upstream.requests
            assert first.body == second.body == b'{"points":0,"text":"Hello x"}'
            assert [each.values(b"authorization") for each in (first, second)] == [
                [b"Bearer secret-old"],
                [b"Bearer secret-new"],
            ]


async def test_a_preset_follows_what_a_grant_learns() -> None:
    """Its URL is at the placeholder, as at the forward proxy, and goes to the base that the grant tells."""
    async with Upstream() as upstream:
        login = parse_prefix("https://login.test")
        policy = Policy(
            prefixes=(),
            domains=(Domain(parse_prefix("https://real.test").origin), Domain(login.origin)),
            placeholder_origin=login.origin,
        )
        traits = CredentialTraits(InjectionPoints(headers=("Authorization",)), calls=True, discovers_base_url=True)
        made = replace(integration("h", base_url(upstream.port), traits=traits), policy=policy, base=login)
        grant = Grant(headers=(("Authorization", "Bearer secret"),), base_url="https://real.test")
        keys = {"parameters": USER, "body": BODY}
        presets = [
            preset("hook", "https://login.test/x"),
            preset("filled", "https://login.test/u/{{user}}", **keys),
        ]
        async with running(made, sources={"h": FixedSource(grant)}, presets=presets) as sidekey:
            for asked in (post(b"{}"), post(b'{"user": "x"}', name="filled")):
                # Nothing answers at that name: what counts is where it is sought.
                assert (await sidekey.ask(asked)).status == 502
            compiled = sidekey.plane.router.find(b"h")
            assert compiled is not None
            assert "real.test" in {route.origin.host for route in compiled.routes}


async def test_what_another_request_learns_counts_while_parameters_come() -> None:
    """The target was judged by the placeholder, and is judged again."""
    login = parse_prefix("https://login.test")
    domains = (Domain(parse_prefix("https://real.test").origin), Domain(login.origin))
    policy = Policy(domains=domains, placeholder_origin=login.origin)
    traits = CredentialTraits(InjectionPoints(headers=("Authorization",)), calls=True, discovers_base_url=True)
    made = replace(integration("h", base_url(1), traits=traits), policy=policy, base=login)
    source = FixedSource(Grant(headers=(("Authorization", "Bearer secret"),), base_url="https://real.test"))
    presets = [preset("hook", "https://login.test/x", parameters=USER, body=BODY)]
    sidekey = Scripted(made, sources={"h": source}, presets=presets)
    slow, other = sidekey.caller(), sidekey.caller()
    whole = post(b'{"user": "x"}')
    slow.feed(whole[:-1])
    other.feed(b"GET /i/h/a HTTP/1.1\r\nHost: h.test\r\n\r\n")
    (await sidekey.upstream()).feed(OK)
    sidekey.upstreams[0].take()
    slow.feed(whole[-1:])
    await settle()
    assert len(sidekey.upstreams) == 1
    assert sidekey.upstreams[0].take().startswith(b"POST /x HTTP/1.1\r\nHost: real.test\r\n")


@pytest.mark.parametrize("path", ["/api/hook", "/api/users/{{user}}"])
async def test_an_integration_that_becomes_known_serves_its_presets(path: str) -> None:
    """And never without its credential, also where what no integration covers passes."""
    async with Upstream() as upstream:
        missing = Missing(integration("h", base_url(upstream.port)))
        missing.appear()
        async with running(missing.integration(), presets=[filled(upstream.port, path)], passing=True) as sidekey:
            assert (await sidekey.ask(post(b'{"user": "x"}'))).status == 200
            (message,) = upstream.requests
            assert message.values(b"authorization") == [CREDENTIAL]


def allowed(sidekey: Running, *presets: str) -> Snapshot:
    """The snapshot in use, with a caller that may use these presets, and no integration."""
    callers = {digest: Caller("one", frozenset(), frozenset(presets)) for digest in callers_of({"token": None}) or {}}
    return replace(sidekey.snapshot, callers=callers)


async def test_a_caller_needs_the_preset_alone() -> None:
    """Neither its integration, nor may it go there otherwise."""
    async with Upstream() as upstream:
        presets = [hook(upstream.port), preset("other", base_url(upstream.port))]
        async with running(integration("h", base_url(upstream.port)), presets=presets) as sidekey:
            sidekey.publisher.publish(allowed(sidekey, "hook"))
            token = "Sidekey-Token: token"
            assert (await sidekey.ask(post(b"{}", token))).status == 200
            for name in ("other", "nothing"):
                response = await sidekey.ask(post(b"{}", token, name=name))
                assert (response.status, problem(response)["code"]) == (403, "preset_denied")
                assert problem(response)["detail"] == "there is no such preset for this caller"
            response = await sidekey.ask(post(b"{}"))
            assert (response.status, problem(response)["code"]) == (401, "caller_denied")
            asked = b"POST /i/h/hook HTTP/1.1\r\nHost: h.test\r\nSidekey-Token: token\r\nContent-Length: 0\r\n\r\n"
            assert problem(await sidekey.ask(asked))["code"] == "integration_denied"
            assert len(upstream.requests) == 1
            assert upstream.requests[0].values(b"sidekey-token") == []
            assert sidekey.metrics.presets == {"hook": {"2xx": 1}, "unknown": {"preset_denied": 2, "caller_denied": 1}}


async def test_a_request_keeps_the_preset_that_it_began_with() -> None:
    """A reload while its parameters come counts for the next one."""
    async with (
        Upstream() as upstream,
        running(integration("h", base_url(upstream.port)), presets=[filled(upstream.port)]) as sidekey,
        sidekey.connect() as caller,
    ):
        whole = post(b'{"user": "x"}')
        await caller.send(whole[:-1])
        await eventually(lambda: sidekey.metrics.in_flight == 1)
        changed = filled(upstream.port, "/api/v2/{{user}}", body={"json": {"new": "{{user}}"}})
        sidekey.publisher.publish(replace(sidekey.snapshot, presets={"hook": changed}))
        await caller.send(whole[-1:])
        assert (await caller.response()).status == 200
        await caller.send(whole)
        assert (await caller.response()).status == 200
        assert [(each.target, each.body) for each in upstream.requests] == [
            (b"/api/users/x/mails", b'{"points":0,"text":"Hello x"}'),
            (b"/api/v2/x", b'{"new":"x"}'),
        ]


async def test_a_changed_preset_is_not_remembered_as_it_was() -> None:
    """Nor one that is gone, or invalid by now; an unchanged one is."""
    async with Upstream() as upstream:
        first = hook(upstream.port, "/api/one")
        async with running(integration("h", base_url(upstream.port)), presets=[first]) as sidekey:
            for _ in range(2):
                assert (await sidekey.ask(post(b""))).status == 200
            for presets, code in (
                ({"hook": hook(upstream.port, "/api/two")}, None),
                ({"hook": replace(first, invalid="its url is outside")}, "credential_unavailable"),
                ({}, "preset_denied"),
            ):
                sidekey.publisher.publish(replace(sidekey.snapshot, presets=presets))
                # Twice: after a reload the first request is judged again in any case.
                for _ in range(2):
                    response = await sidekey.ask(post(b""))
                    assert response.status == 200 if code is None else problem(response)["code"] == code
            assert [each.target for each in upstream.requests] == [b"/api/one"] * 2 + [b"/api/two"] * 2


async def test_a_filled_body_that_is_too_long_to_be_kept_is_not_written_again() -> None:
    """However short its parameters were: the refusal goes to the caller."""
    traits = CredentialTraits(InjectionPoints(headers=("Authorization",)), calls=True, watched=frozenset({401}))
    grants = [Grant(headers=(("Authorization", f"Bearer secret-{word}"),)) for word in ("old", "new")]
    refused = b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"
    async with Upstream(answering(refused)) as upstream:
        made = integration("h", base_url(upstream.port), headers=(), traits=traits)
        async with running(
            made,
            sources={"h": RenewedSource(*grants)},
            presets=[filled(upstream.port)],
            limits=Limits(replay_body=15),
        ) as sidekey:
            assert (await sidekey.ask(post(b'{"user": "x"}'))).status == 401
            assert len(upstream.requests) == 1


async def test_what_an_integration_turns_out_not_to_cover_never_passes_by_a_preset() -> None:
    """Whatever passes by the forward proxy."""
    async with Upstream() as upstream:
        missing = Missing(integration("h", "https://covered.test/api"))
        missing.appear()
        async with running(missing.integration(), presets=[hook(upstream.port)], passing=True) as sidekey:
            assert problem(await sidekey.ask(post(b"")))["code"] == "target_denied"
            assert upstream.received == []


async def test_what_no_integration_covers_never_passes_by_a_preset() -> None:
    """A preset outside its integration's policy is refused, whatever passes by the forward proxy."""
    async with Upstream() as upstream:
        made = preset(url=base_url(upstream.port, "/other"))
        async with running(integration("h", base_url(1)), presets=[made], passing=True) as sidekey:
            assert problem(await sidekey.ask(post(b"")))["code"] == "target_denied"
            assert upstream.received == []
