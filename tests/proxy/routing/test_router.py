"""Which integration a request is for, what is remembered of targets and hosts, and what another config forgets."""

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
from support.scripted import Scripted, settle
from support.upstream import OK


async def test_they_are_bounded_in_number_and_in_length() -> None:
    """A target goes to the same path whether it is new, remembered, forgotten or too long."""
    sidekey = Scripted(integration("h", base_url(1)), integration("o", base_url(2, "/other")))
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    upstream.take()
    short = [f"/{number}" for number in range(TARGETS_LIMIT + 10)]
    for target in ["/0", *short, "/0", *["/" + "a" * MAX_TARGET_LENGTH] * 2]:
        caller.feed(get(target))
        assert upstream.take().startswith(b"GET /api%b HTTP/1.1\r\n" % target.encode())
        upstream.feed(OK)
        assert len(sidekey.plane.router._targets) <= TARGETS_LIMIT
    assert all(len(target) <= MAX_TARGET_LENGTH for target in sidekey.plane.router._targets)


async def test_what_is_remembered_holds_for_plain_requests_only() -> None:
    """A Host that is not ours or a field of a browser is judged again for each request."""
    sidekey = Scripted(integration("h", base_url(1)))
    caller = sidekey.caller()
    caller.feed(get())
    (await sidekey.upstream()).feed(OK)
    for raw in (get().replace(b"h.test", b"evil.test"), get("/a", "Sec-Fetch-Site: cross-site")):
        caller = sidekey.caller()
        caller.feed(raw)
        assert caller.take().startswith(b"HTTP/1.1 403 ")


PLAIN = get()


async def known_targets(sidekey: Scripted) -> list[bytes]:
    """What is remembered, after requests for `h` and `o` were answered."""
    for name in ("h", "o"):
        for _ in range(2):
            caller = sidekey.caller()
            caller.feed(get(name=name))
            await settle()
            for upstream in sidekey.upstreams:
                if upstream.take():
                    upstream.feed(OK)
            assert caller.take().endswith(b"ok")
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
async def test_only_plain_targets_of_known_integrations_are_remembered(raw: bytes) -> None:
    """Whatever was asked for before; and they are decided as ever."""
    sidekey = Scripted(integration("h", base_url(1)), integration("o", base_url(2)))
    before = await known_targets(sidekey)
    assert before == [b"/i/h/a", b"/i/o/a"]
    caller = sidekey.caller()
    caller.feed(raw)
    await settle()
    assert sorted(sidekey.plane.router._targets) == before


async def test_a_method_is_judged_however_well_its_target_is_known() -> None:
    """It is not remembered with it."""
    sidekey = Scripted(integration("h", base_url(1), methods=["GET"]), integration("o", base_url(2)))
    await known_targets(sidekey)
    for _ in range(2):
        caller = sidekey.caller()
        caller.feed(request("DELETE"))
        assert caller.take().startswith(b"HTTP/1.1 405 ")
        caller = sidekey.caller()
        caller.feed(request("DELETE", name="o"))
        await settle()
        assert [each.take().startswith(b"DELETE /api/a") for each in sidekey.upstreams].count(True) == 1
        for upstream in sidekey.upstreams:
            upstream.feed(OK)


def snapshot_of(sidekey: Scripted, *integrations: Integration, **changes: object) -> Snapshot:
    """The plane's snapshot with these integrations in place of its own."""
    return replace(sidekey.snapshot, integrations={each.id: each for each in integrations}, **changes)  # type: ignore[arg-type]


async def test_another_config_forgets_what_it_changes_and_nothing_else() -> None:
    """Targets, the integrations compiled, and the connections that only they used; preparing forgets nothing."""
    h, o = integration("h", base_url(1)), integration("o", base_url(2))
    sidekey = Scripted(h, o)
    await known_targets(sidekey)
    index = sidekey.plane.router
    former = {name: index.find(name.encode()) for name in ("h", "o")}
    commit = sidekey.plane.prepare(snapshot_of(sidekey, integration("h", base_url(3)), o))
    assert sorted(index._targets) == [b"/i/h/a", b"/i/o/a"]
    assert index.find(b"h") is former["h"]
    commit()
    assert sorted(index._targets) == [b"/i/o/a"]
    assert index.find(b"o") is former["o"]
    assert index.find(b"h") is not former["h"]
    assert [upstream.ended for upstream in sidekey.upstreams] == [True, False]
    await settle()


async def test_a_connection_that_an_unchanged_integration_may_use_stays() -> None:
    """Though another one has gone that used it as well."""
    h, o = integration("h", base_url(1)), integration("o", base_url(1))
    sidekey = Scripted(h, o)
    await known_targets(sidekey)
    sidekey.plane.prepare(snapshot_of(sidekey, o))()
    assert [upstream.ended for upstream in sidekey.upstreams] == [False]
    sidekey.plane.prepare(snapshot_of(sidekey))()
    assert [upstream.ended for upstream in sidekey.upstreams] == [True]


async def test_other_network_rules_end_every_connection() -> None:
    """Those in use after their response; the integrations stay compiled, and connect again."""
    h, o = integration("h", base_url(1)), integration("o", base_url(2))
    sidekey = Scripted(h, o)
    await known_targets(sidekey)
    compiled = sidekey.plane.router.find(b"h")
    caller = sidekey.caller()
    caller.feed(get())
    sidekey.plane.prepare(snapshot_of(sidekey, h, o, network=NetworkRules(search=True)))()
    assert sidekey.plane.router.find(b"h") is compiled
    assert [upstream.ended for upstream in sidekey.upstreams] == [False, True]
    sidekey.upstreams[0].take()
    sidekey.upstreams[0].feed(OK)
    assert sidekey.upstreams[0].ended
    caller.feed(get())
    again = await sidekey.upstream(2)
    assert again.take().startswith(b"GET /api/a")


async def test_the_listeners_names_are_those_of_the_config() -> None:
    """What was known of hosts is read again."""
    h = integration("h", base_url(1))
    sidekey = Scripted(h)
    index = sidekey.plane.router
    assert (index.is_listener_host(b"h.test"), index.is_listener_host(b"new.test"), index.is_listener_host(None)) == (
        True,
        False,
        True,
    )
    sidekey.plane.prepare(snapshot_of(sidekey, h, listen=Listen(names=("new.test",))))()
    assert (index.is_listener_host(b"h.test"), index.is_listener_host(b" new.test\t")) == (False, True)


class Slow:
    """An integration that is built in another thread when `go` is set there; `built` counts."""

    def __init__(self, made: Integration) -> None:
        self.made = made
        self.built = 0
        self.go = threading.Event()
        self.integration = replace(made, policy=Policy(), base=None, rebuild=self._rebuild)

    def _rebuild(self) -> Integration:
        assert self.go.wait(DEADLINE)
        self.built += 1
        return self.made


async def test_an_integration_is_resolved_once_for_all_who_wait() -> None:
    """Also for a later request, and for those that wait on when the first is cancelled."""
    slow = Slow(integration("h", base_url(1)))
    sidekey = Scripted(slow.integration)
    index = sidekey.plane.router
    former = index.find(b"h")
    assert former is not None
    first, *waiting = [asyncio.create_task(index.resolve(former)) for _ in range(3)]
    await settle()
    assert not any(each.done() for each in waiting)
    first.cancel()
    slow.go.set()
    found = {await each for each in waiting}
    assert found == {index.find(b"h")}
    assert await index.resolve(former) is index.find(b"h")
    assert (slow.built, former.latest) == (1, index.find(b"h"))


@pytest.mark.parametrize("change", ["gone", "another", "still unresolved"])
async def test_what_another_config_replaced_meanwhile_resolves_nothing(change: str) -> None:
    """It is told apart: a config that was reloaded, and a value that cannot be read."""
    slow = Slow(integration("h", base_url(1)))
    if change == "still unresolved":
        slow.made = slow.integration
    sidekey = Scripted(slow.integration)
    index = sidekey.plane.router
    former = index.find(b"h")
    assert former is not None
    waiting = asyncio.create_task(index.resolve(former))
    await settle()
    if change != "still unresolved":
        sidekey.plane.prepare(snapshot_of(sidekey, *([integration("h", base_url(2))] if change == "another" else [])))()
    slow.go.set()
    with pytest.raises(ProblemError) as raised:
        await waiting
    said = raised.value.problem
    assert (said.code, said.error) == ("credential_unavailable", "proxy_configuration_error")
    assert said.detail == (
        "a value cannot be read"
        if change == "still unresolved"
        else "the config was reloaded before all of the integration was read: send the request again"
    )
    if change == "another":
        assert index.find(b"h") is not former


class Object:
    """Something that memory tells apart."""


async def test_what_is_let_go_is_freed_a_few_at_a_time() -> None:
    """All of it in the end, and nothing else has to happen for that."""
    objects = [Object() for _ in range(3 * RELEASE_BATCH + 1)]
    alive = weakref.WeakSet(objects)
    _release_gradually(objects)
    assert len(alive) == 2 * RELEASE_BATCH + 1
    await settle()
    assert len(alive) == 0


class Asked(UserDict[str, GrantSource]):
    """Grant sources by integration; `asked` are the integrations whose source was wanted."""

    def __init__(self, sources: dict[str, GrantSource]) -> None:
        super().__init__(sources)
        self.asked: list[str] = []

    def __getitem__(self, name: str) -> GrantSource:
        self.asked.append(name)
        return super().__getitem__(name)


@pytest.mark.parametrize("door", ["/i/{}/a", "https://up.test/api/{}"])
async def test_a_probe_of_a_foreign_id_compiles_nothing(door: str) -> None:
    """It takes the same steps as one of an unknown ID, and the same answer: its first probe must not take longer."""
    made = [integration(name, f"https://up.test/api/{name}") for name in ("mine", "theirs")]
    sources = Asked({each.id: source_of(each) for each in made})
    sidekey = Scripted(*made, sources=sources, tokens={"t": frozenset({"mine"})})
    index = sidekey.plane.router
    answers = []
    for name in ("theirs", "nobody", "theirs"):
        caller = sidekey.caller()
        for method in ("GET", "POST", "DELETE"):
            target = door.format(name)
            head = f"{method} {target} HTTP/1.1\r\nHost: h.test\r\nX-Integration-Id: {name}\r\nSidekey-Token: t\r\n\r\n"
            caller.feed(head.encode())
        await settle()
        answers.append(re.sub(rb'[0-9a-f]{8,}[^"\r]*', b"ID", caller.take()))
        assert answers[-1].count(b"HTTP/1.1 403 ") == 3
        assert (index._compiled, index._targets, sources.asked, sidekey.upstreams) == ({}, {}, [], [])
    assert answers[0] == answers[1] == answers[2]
    caller = sidekey.caller()
    caller.feed(get(name="mine").replace(b"\r\n\r\n", b"\r\nSidekey-Token: t\r\n\r\n"))
    await settle()
    assert (list(index._compiled), sources.asked, len(sidekey.upstreams)) == ([b"mine"], ["mine"], 1)


# What presets ask for.

USER = {"parameters": {"user": {"type": "text"}}, "body": {"json": {"user": "{{user}}"}}}


@pytest.mark.parametrize("keys", [{}, USER], ids=["payload", "parameters"])
async def test_a_target_that_a_preset_always_asks_for_is_remembered(keys: dict[str, Any]) -> None:
    """Once its integration is in use."""
    sidekey = Scripted(integration("h", base_url(1)), presets=[preset(**keys)])
    caller = sidekey.caller()
    for _ in range(2):
        caller.feed(post(b'{"user": "x"}'))
        upstream = await sidekey.upstream()
        assert upstream.take().startswith(b"POST /api/hook HTTP/1.1\r\n")
        upstream.feed(OK)
    assert sidekey.plane.router._targets[b"/p/hook"].path == b"/api/hook"


async def test_a_target_that_takes_parameters_is_not_remembered() -> None:
    """It is another one each time."""
    made = preset(url=base_url(1, "/api/{{user}}"), **USER)
    sidekey = Scripted(integration("h", base_url(1)), presets=[made])
    caller = sidekey.caller()
    for user in (b"x", b"y"):
        caller.feed(post(b'{"user": "%b"}' % user))
        upstream = await sidekey.upstream()
        assert upstream.take().startswith(b"POST /api/%b HTTP/1.1\r\n" % user)
        upstream.feed(OK)
    assert b"/p/hook" not in sidekey.plane.router._targets


async def test_a_method_that_an_integration_does_not_allow_is_not_remembered() -> None:
    """The caller's POST is not what is sent."""
    narrow = integration("h", base_url(1), methods=["POST"])
    sidekey = Scripted(narrow, presets=[preset(method="PUT")])
    caller = sidekey.caller()
    sidekey.plane.router.find(b"h")
    for _ in range(2):
        caller.feed(post(b"{}"))
        assert caller.take().startswith(b"HTTP/1.1 405 ")
    assert sidekey.plane.router._targets == {}
