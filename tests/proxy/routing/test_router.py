"""Routing: the integration of a request, caches of targets and hosts, and their invalidation by a reload."""

from __future__ import annotations

import asyncio
import re
import threading
import weakref
from collections import UserDict
from dataclasses import replace
from typing import Any

import pytest

from sidekey.credentials.base import GrantSource
from sidekey.errors import ProblemError
from sidekey.policy.targets import Policy
from sidekey.proxy.routing.router import MAX_TARGET_LENGTH, RELEASE_BATCH, TARGETS_LIMIT, _release_gradually
from sidekey.snapshot.snapshot import Integration, Listen, NetworkRules, Snapshot
from support.plane import base_url, get, integration, request, source_of
from support.presets import post, preset
from support.raw_connection import DEADLINE
from support.scripted import ScriptedPlane, settle
from support.upstream import OK


async def test_caches_are_bounded_in_number_and_length() -> None:
    """A target gets the same path whether it is new, cached, evicted or too long."""
    sidekey = ScriptedPlane(integration("h", base_url(1)), integration("o", base_url(2, "/other")))
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    upstream.read()
    short = [f"/{number}" for number in range(TARGETS_LIMIT + 10)]
    for target in ["/0", *short, "/0", *["/" + "a" * MAX_TARGET_LENGTH] * 2]:
        caller.feed(get(target))
        assert upstream.read().startswith(b"GET /api%b HTTP/1.1\r\n" % target.encode())
        upstream.feed(OK)
        assert len(sidekey.plane.router._targets) <= TARGETS_LIMIT
    assert all(len(target) <= MAX_TARGET_LENGTH for target in sidekey.plane.router._targets)


async def test_cache_serves_only_plain_requests() -> None:
    """A foreign Host or a field of a browser is checked for each request."""
    sidekey = ScriptedPlane(integration("h", base_url(1)))
    caller = sidekey.caller()
    caller.feed(get())
    (await sidekey.upstream()).feed(OK)
    for raw in (get().replace(b"h.test", b"evil.test"), get("/a", "Sec-Fetch-Site: cross-site")):
        caller = sidekey.caller()
        caller.feed(raw)
        assert caller.read().startswith(b"HTTP/1.1 403 ")


PLAIN = get()


async def known_targets(sidekey: ScriptedPlane) -> list[bytes]:
    """Return the cached targets, after requests for `h` and `o`."""
    for name in ("h", "o"):
        for _ in range(2):
            caller = sidekey.caller()
            caller.feed(get(name=name))
            await settle()
            for upstream in sidekey.upstreams:
                if upstream.read():
                    upstream.feed(OK)
            assert caller.read().endswith(b"ok")
    return sorted(sidekey.plane.router._targets)


@pytest.mark.parametrize(
    "raw",
    [
        PLAIN.replace(b"/i/h/a", b"/j/h/a"),
        PLAIN.replace(b"/i/h/a", b"/i/"),
        PLAIN.replace(b"/i/h/a", b"/i/h"),
        PLAIN.replace(b"/i/h/a", b"*").replace(b"GET", b"OPTIONS"),
        get("/a", name="nobody"),
        get("/a?x=%zz"),
        get("/../x"),
        get("//x"),
        get("/.x"),
    ],
)
async def test_only_plain_targets_of_known_integrations_are_cached(raw: bytes) -> None:
    sidekey = ScriptedPlane(integration("h", base_url(1)), integration("o", base_url(2)))
    before = await known_targets(sidekey)
    assert before == [b"/i/h/a", b"/i/o/a"]
    caller = sidekey.caller()
    caller.feed(raw)
    await settle()
    assert sorted(sidekey.plane.router._targets) == before


async def test_method_is_checked_for_a_cached_target() -> None:
    sidekey = ScriptedPlane(integration("h", base_url(1), methods=["GET"]), integration("o", base_url(2)))
    await known_targets(sidekey)
    for _ in range(2):
        caller = sidekey.caller()
        caller.feed(request("DELETE"))
        assert caller.read().startswith(b"HTTP/1.1 405 ")
        caller = sidekey.caller()
        caller.feed(request("DELETE", name="o"))
        await settle()
        assert [item.read().startswith(b"DELETE /api/a") for item in sidekey.upstreams].count(True) == 1
        for upstream in sidekey.upstreams:
            upstream.feed(OK)


def snapshot_of(sidekey: ScriptedPlane, *integrations: Integration, **changes: object) -> Snapshot:
    """Copy the plane's snapshot with these integrations."""
    return replace(sidekey.snapshot, integrations={item.id: item for item in integrations}, **changes)  # type: ignore[arg-type]


async def test_reload_invalidates_only_what_it_changes() -> None:
    """Targets, compiled integrations and their connections. Preparation invalidates nothing."""
    h, o = integration("h", base_url(1)), integration("o", base_url(2))
    sidekey = ScriptedPlane(h, o)
    await known_targets(sidekey)
    index = sidekey.plane.router
    previous = {name: index.find(name.encode()) for name in ("h", "o")}
    commit = sidekey.plane.prepare(snapshot_of(sidekey, integration("h", base_url(3)), o))
    assert sorted(index._targets) == [b"/i/h/a", b"/i/o/a"]
    assert index.find(b"h") is previous["h"]
    commit()
    assert sorted(index._targets) == [b"/i/o/a"]
    assert index.find(b"o") is previous["o"]
    assert index.find(b"h") is not previous["h"]
    assert [upstream.ended for upstream in sidekey.upstreams] == [True, False]
    await settle()


async def test_a_connection_that_an_unchanged_integration_may_use_stays() -> None:
    """Even if it served an integration that was removed."""
    h, o = integration("h", base_url(1)), integration("o", base_url(1))
    sidekey = ScriptedPlane(h, o)
    await known_targets(sidekey)
    sidekey.plane.prepare(snapshot_of(sidekey, o))()
    assert [upstream.ended for upstream in sidekey.upstreams] == [False]
    sidekey.plane.prepare(snapshot_of(sidekey))()
    assert [upstream.ended for upstream in sidekey.upstreams] == [True]


async def test_other_network_rules_close_every_connection() -> None:
    """Active ones after their response. Integrations stay compiled."""
    h, o = integration("h", base_url(1)), integration("o", base_url(2))
    sidekey = ScriptedPlane(h, o)
    await known_targets(sidekey)
    compiled = sidekey.plane.router.find(b"h")
    caller = sidekey.caller()
    caller.feed(get())
    sidekey.plane.prepare(snapshot_of(sidekey, h, o, network=NetworkRules(search=True)))()
    assert sidekey.plane.router.find(b"h") is compiled
    assert [upstream.ended for upstream in sidekey.upstreams] == [False, True]
    sidekey.upstreams[0].read()
    sidekey.upstreams[0].feed(OK)
    assert sidekey.upstreams[0].ended
    caller.feed(get())
    again = await sidekey.upstream(2)
    assert again.read().startswith(b"GET /api/a")


async def test_reload_applies_other_names_of_the_listener() -> None:
    h = integration("h", base_url(1))
    sidekey = ScriptedPlane(h)
    index = sidekey.plane.router
    assert (index.is_listener_host(b"h.test"), index.is_listener_host(b"new.test"), index.is_listener_host(None)) == (
        True,
        False,
        True,
    )
    sidekey.plane.prepare(snapshot_of(sidekey, h, listen=Listen(names=("new.test",))))()
    assert (index.is_listener_host(b"h.test"), index.is_listener_host(b" new.test\t")) == (False, True)


class SlowIntegration:
    """An integration that a thread builds after `go` is set. `built` counts the builds."""

    def __init__(self, complete: Integration) -> None:
        self.complete = complete
        self.built = 0
        self.go = threading.Event()
        self.integration = replace(complete, policy=Policy(), base=None, rebuild=self._rebuild)

    def _rebuild(self) -> Integration:
        assert self.go.wait(DEADLINE)
        self.built += 1
        return self.complete


async def test_integration_is_resolved_once_for_all_waiting_requests() -> None:
    """Also if the first request is cancelled."""
    slow = SlowIntegration(integration("h", base_url(1)))
    sidekey = ScriptedPlane(slow.integration)
    index = sidekey.plane.router
    previous = index.find(b"h")
    assert previous is not None
    first, *waiting = [asyncio.create_task(index.resolve(previous)) for _ in range(3)]
    await settle()
    assert not any(item.done() for item in waiting)
    first.cancel()
    slow.go.set()
    result = {await item for item in waiting}
    assert result == {index.find(b"h")}
    assert await index.resolve(previous) is index.find(b"h")
    assert (slow.built, previous.latest) == (1, index.find(b"h"))


@pytest.mark.parametrize("is_removed", [False, True])
async def test_close_cancels_a_rebuild(is_removed: bool) -> None:
    """Also of an integration that a reload has removed meanwhile."""
    slow = SlowIntegration(integration("h", base_url(1)))
    sidekey = ScriptedPlane(slow.integration)
    previous = sidekey.plane.router.find(b"h")
    assert previous is not None
    waiting = asyncio.create_task(sidekey.plane.router.resolve(previous))
    await settle()
    if is_removed:
        sidekey.plane.prepare(snapshot_of(sidekey))()
    await sidekey.plane.close()
    slow.go.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("change", ["gone", "another", "still unresolved"])
async def test_integration_replaced_by_a_reload_is_not_resolved(change: str) -> None:
    """The error differs from that of an unreadable value."""
    slow = SlowIntegration(integration("h", base_url(1)))
    if change == "still unresolved":
        slow.complete = slow.integration
    sidekey = ScriptedPlane(slow.integration)
    index = sidekey.plane.router
    previous = index.find(b"h")
    assert previous is not None
    waiting = asyncio.create_task(index.resolve(previous))
    await settle()
    if change != "still unresolved":
        sidekey.plane.prepare(snapshot_of(sidekey, *([integration("h", base_url(2))] if change == "another" else [])))()
    slow.go.set()
    with pytest.raises(ProblemError) as raised:
        await waiting
    error = raised.value.problem
    assert (error.code, error.error) == ("credential_unavailable", "proxy_configuration_error")
    assert error.detail == (
        "a value cannot be read"
        if change == "still unresolved"
        else "the config was reloaded before all of the integration was read: send the request again"
    )
    if change == "another":
        assert index.find(b"h") is not previous


class Object:
    """An object with an identity."""


async def test_removed_objects_are_freed_in_small_groups() -> None:
    """Without any further event."""
    objects = [Object() for _ in range(3 * RELEASE_BATCH + 1)]
    alive = weakref.WeakSet(objects)
    _release_gradually(objects)
    assert len(alive) == 2 * RELEASE_BATCH + 1
    await settle()
    assert len(alive) == 0


class SourceRecorder(UserDict[str, GrantSource]):
    """Grant sources by integration. `asked` has the integrations whose source was requested."""

    def __init__(self, sources: dict[str, GrantSource]) -> None:
        super().__init__(sources)
        self.asked: list[str] = []

    def __getitem__(self, name: str) -> GrantSource:
        self.asked.append(name)
        return super().__getitem__(name)


@pytest.mark.parametrize("door", ["/i/{}/a", "https://up.test/api/{}"])
async def test_probe_of_an_id_of_another_caller_compiles_nothing(door: str) -> None:
    """It must take no longer than a probe of an unknown ID."""
    integrations = [integration(name, f"https://up.test/api/{name}") for name in ("mine", "theirs")]
    sources = SourceRecorder({item.id: source_of(item) for item in integrations})
    sidekey = ScriptedPlane(*integrations, sources=sources, tokens={"t": frozenset({"mine"})})
    index = sidekey.plane.router
    responses = []
    for name in ("theirs", "nobody", "theirs"):
        caller = sidekey.caller()
        for method in ("GET", "POST", "DELETE"):
            target = door.format(name)
            head = f"{method} {target} HTTP/1.1\r\nHost: h.test\r\nX-Integration-Id: {name}\r\nSidekey-Token: t\r\n\r\n"
            caller.feed(head.encode())
        await settle()
        responses.append(re.sub(rb'[0-9a-f]{8,}[^"\r]*', b"ID", caller.read()))
        assert responses[-1].count(b"HTTP/1.1 403 ") == 3
        assert (index._compiled, index._targets, sources.asked, sidekey.upstreams) == ({}, {}, [], [])
    assert responses[0] == responses[1] == responses[2]
    caller = sidekey.caller()
    caller.feed(get(name="mine").replace(b"\r\n\r\n", b"\r\nSidekey-Token: t\r\n\r\n"))
    await settle()
    assert (list(index._compiled), sources.asked, len(sidekey.upstreams)) == ([b"mine"], ["mine"], 1)


# What presets ask for.

USER = {"parameters": {"user": {"type": "text"}}, "body": {"json": {"user": "{{user}}"}}}


@pytest.mark.parametrize("keys", [{}, USER], ids=["payload", "parameters"])
async def test_fixed_target_of_a_preset_is_cached(keys: dict[str, Any]) -> None:
    """Once its integration is in use."""
    sidekey = ScriptedPlane(integration("h", base_url(1)), presets=[preset(**keys)])
    caller = sidekey.caller()
    for _ in range(2):
        caller.feed(post(b'{"user": "x"}'))
        upstream = await sidekey.upstream()
        assert upstream.read().startswith(b"POST /api/hook HTTP/1.1\r\n")
        upstream.feed(OK)
    assert sidekey.plane.router._targets[b"/p/hook"].path == b"/api/hook"


async def test_target_with_parameters_is_not_cached() -> None:
    configured = preset(url=base_url(1, "/api/{{user}}"), **USER)
    sidekey = ScriptedPlane(integration("h", base_url(1)), presets=[configured])
    caller = sidekey.caller()
    for user in (b"x", b"y"):
        caller.feed(post(b'{"user": "%b"}' % user))
        upstream = await sidekey.upstream()
        assert upstream.read().startswith(b"POST /api/%b HTTP/1.1\r\n" % user)
        upstream.feed(OK)
    assert b"/p/hook" not in sidekey.plane.router._targets


async def test_preset_with_a_forbidden_method_is_not_cached() -> None:
    """The POST of the caller is not the method that Sidekey sends."""
    narrow = integration("h", base_url(1), methods=["POST"])
    sidekey = ScriptedPlane(narrow, presets=[preset(method="PUT")])
    caller = sidekey.caller()
    sidekey.plane.router.find(b"h")
    for _ in range(2):
        caller.feed(post(b"{}"))
        assert caller.read().startswith(b"HTTP/1.1 405 ")
    assert sidekey.plane.router._targets == {}
