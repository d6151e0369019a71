"""Processes that share a token, in every order of events. No refresh token is presented twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from sidekey.credentials.base import CallError, FixedCredential, Grant, Lineage, Reply
from sidekey.errors import Problem, ProblemError
from sidekey.policy.targets import Policy
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration, Trust
from sidekey.tokens.ledger import NoLedger, TokenLeaseLost, TokenOrigin, Unavailable
from sidekey.tokens.shared import (
    LEASE_WAIT_SECONDS,
    MIN_POLL_INTERVAL,
    SHUTDOWN_SECONDS,
    SPENT_REASON,
    TokenLeases,
    build_chain,
)
from sidekey.tokens.source import STORE_PAUSE
from support.manual_clock import advance, settle
from support.shared_tokens import HOLD, SINGLE_LIVE, Node, RotatingEndpoint, RotatingKind, SharedState
from support.tokens import TRAITS, token_of

UNAVAILABLE = "no token is asked for: it cannot be reached"
CRM = Integration("crm", "oauth2", Policy(), None, SecretLoader(lambda: FixedCredential(Grant())), TRAITS)


class Cluster:
    """An endpoint, a shared ledger, and processes."""

    def __init__(self) -> None:
        self.endpoint = RotatingEndpoint()
        self.shared = SharedState()
        self.nodes: list[Node] = []

    def node(self, name: str = "", **more: Any) -> Node:
        node = Node(name or "abcdef"[len(self.nodes)], self.shared, self.endpoint, **more)
        self.nodes.append(node)
        return node

    @property
    def presented(self) -> list[str]:
        """The refresh tokens, in order."""
        return [call.body.decode() for call in self.endpoint.calls]


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """In every test, no refresh token is presented twice, and no task is left running."""
    cluster = Cluster()
    unhandled: list[Mapping[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    yield cluster
    for node in cluster.nodes:
        await node.close()
    assert not cluster.endpoint.revoked
    assert cluster.endpoint.valid is None or len(set(cluster.presented)) == len(cluster.presented)
    assert unhandled == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_other_processes_use_the_token_of_the_first(cluster: Cluster) -> None:
    nodes = [cluster.node() for _ in range(3)]
    cluster.endpoint.open.clear()
    waiting = [asyncio.create_task(node.token()) for node in nodes]
    await settle()
    cluster.endpoint.open.set()
    await advance(5, step=0.1)
    assert [await item for item in waiting] == ["t1"] * 3
    for number in range(2, 5):
        await advance(1000, step=50)
        assert [await node.token() for node in nodes] == [f"t{number}"] * 3
    assert cluster.presented == ["r0", "r1", "r2", "r3"]


async def test_shared_token_gets_the_supplement_of_each_process(cluster: Cluster) -> None:
    """Supplements are not stored."""
    first, second = (Grant(headers=(("X-Tenant", word),), secrets=(word.encode(),)) for word in ("one", "two"))
    nodes = [cluster.node(supplement=first), cluster.node(supplement=second), cluster.node()]
    grants = [await node.source.obtain() for node in nodes]
    assert [token_of(grant) for grant in grants] == ["t1"] * 3
    token = ("Authorization", "Bearer t1")
    assert [grant.headers for grant in grants] == [(("X-Tenant", "one"), token), (("X-Tenant", "two"), token), (token,)]
    (entry,) = cluster.shared.entries.values()
    assert entry.state.token is not None
    assert entry.state.token.grant == Grant((token,), secrets=(b"t1",))
    # A response that refuses it is about the token that all have.
    assert nodes[1].source.report_rejection(grants[1], 401, b"")
    assert await nodes[1].token() == "t2"
    assert cluster.presented == ["r0", "r1"]


async def test_intent_is_stored_before_the_call_and_the_result_before_its_use(cluster: Cluster) -> None:
    node = cluster.node("a")
    cluster.endpoint.open.clear()
    waiting = asyncio.create_task(node.token())
    await settle()
    assert cluster.shared.events == ["a acquire", "a intend", "a call"]
    cluster.endpoint.open.set()
    assert await waiting == "t1"
    assert cluster.shared.events[3:] == ["a response", "a finish"]
    assert next(iter(cluster.shared.entries.values())).state.memory == "r1"


async def test_a_restart_uses_the_token_and_then_the_newest_refresh_token(cluster: Cluster) -> None:
    previous = cluster.node()
    assert await previous.token() == "t1"
    await previous.die()
    node = cluster.node()
    assert await node.token() == "t1"
    await advance(1000)
    assert await node.token() == "t2"
    assert cluster.presented == ["r0", "r1"]


async def test_process_that_dies_before_the_intent_is_succeeded(cluster: Cluster) -> None:
    dead, node = cluster.node(), cluster.node()
    dead.ledger.dies_at = "intend"
    waiting_dead = asyncio.create_task(dead.token())
    await settle()
    waiting = asyncio.create_task(node.token())
    await advance(HOLD - 1, step=0.5)
    assert not waiting.done()
    await advance(2, step=0.5)
    assert await waiting == "t1"
    await dead.die()
    assert waiting_dead.cancelled()


@pytest.mark.parametrize(("dies_at", "presented"), [("call", []), ("response", ["r0"]), ("finish", ["r0"])])
async def test_process_that_dies_after_the_intent_makes_the_token_spent(
    dies_at: str, presented: list[str], cluster: Cluster
) -> None:
    """Until a new refresh token is entered, also after restarts."""
    dead, node = cluster.node(), cluster.node()
    dead.ledger.dies_at = dies_at
    waiting_dead = asyncio.create_task(dead.token())
    await settle()
    waiting = asyncio.create_task(node.problem())
    await advance(HOLD + 2, step=0.5)
    assert await waiting == SPENT_REASON
    await dead.die()
    assert waiting_dead.cancelled()
    assert await cluster.node().problem() == SPENT_REASON
    await advance(10_000)
    assert await cluster.node().problem() == SPENT_REASON
    assert cluster.presented == presented
    cluster.endpoint.valid = "new"
    node.change(RotatingKind(cluster.endpoint, "new"))
    assert await node.token() == f"t{len(presented) + 1}"


async def test_valid_token_is_used_while_the_refresh_token_is_spent(cluster: Cluster) -> None:
    """By running and by new processes."""
    node, dead = cluster.node(), cluster.node()
    assert [await node.token(), await dead.token()] == ["t1", "t1"]
    await advance(900 - 1)
    dead.ledger.dies_at = "response"
    # Both have used it, so both refresh it; this one comes first and dies.
    node.source.retire()
    await advance(1 + HOLD + 1, step=0.5)
    assert cluster.presented == ["r0", "r1"]
    assert await node.token() == "t1"
    assert await cluster.node().token() == "t1"
    await advance(100)
    assert await cluster.node().problem() == SPENT_REASON
    await dead.die()


async def test_process_that_dies_after_storing_leaves_its_token(cluster: Cluster) -> None:
    dead, node = cluster.node(), cluster.node()
    assert await dead.token() == "t1"
    await dead.die()
    assert await node.token() == "t1"


async def test_lost_lease_discards_its_token(cluster: Cluster) -> None:
    """With one live token, the token of the other process is newer."""
    slow, node = cluster.node(traits=SINGLE_LIVE), cluster.node(traits=SINGLE_LIVE)
    cluster.endpoint.valid = None
    slow.ledger.waits_at = "finish"
    waiting = asyncio.create_task(slow.token())
    await advance(HOLD + 1, step=0.5)
    assert await node.token() == "t2"
    slow.ledger.gate.set()
    await advance(MIN_POLL_INTERVAL)
    assert await waiting == "t2"
    assert cluster.presented == ["r0", "r0"]


async def test_process_that_lost_its_lease_before_the_intent_makes_no_call(cluster: Cluster) -> None:
    """It uses the token of the other process."""
    slow, node = cluster.node(), cluster.node()
    slow.ledger.waits_at = "intend"
    waiting = asyncio.create_task(slow.token())
    await advance(HOLD + 1, step=0.5)
    assert await node.token() == "t1"
    slow.ledger.gate.set()
    await advance(MIN_POLL_INTERVAL)
    assert await waiting == "t1"
    assert cluster.presented == ["r0"]
    await advance(1000)
    assert await slow.token() == "t2"


async def test_defect_after_the_intent_makes_the_token_spent(cluster: Cluster) -> None:
    node = cluster.node()
    cluster.endpoint.defect = True
    assert "a defect of Sidekey" in await node.problem()
    assert [type(defect) for defect in node.defects] == [ZeroDivisionError]
    node.defects.clear()
    cluster.endpoint.defect = False
    assert await cluster.node().problem() == SPENT_REASON


async def test_process_that_dies_without_rotation_is_succeeded(cluster: Cluster) -> None:
    """One live token, of a client that authenticates with its secret."""
    cluster.endpoint.valid = None
    dead, node = cluster.node(traits=SINGLE_LIVE), cluster.node(traits=SINGLE_LIVE)
    dead.ledger.dies_at = "call"
    waiting_dead = asyncio.create_task(dead.token())
    await settle()
    waiting = asyncio.create_task(node.token())
    await advance(HOLD + 1, step=0.5)
    assert await waiting == "t1"
    assert "b intend" not in cluster.shared.events
    await dead.die()
    assert waiting_dead.cancelled()


async def test_valid_token_is_used_while_the_store_is_down(cluster: Cluster) -> None:
    node = cluster.node()
    assert await node.token() == "t1"
    cluster.shared.is_down = True
    await advance(950, step=10)
    assert await node.token() == "t1"
    assert cluster.presented == ["r0"]
    await advance(100)
    assert await node.problem() == UNAVAILABLE
    assert cluster.presented == ["r0"]
    cluster.shared.is_down = False
    await advance(STORE_PAUSE)
    assert await node.token() == "t2"


async def test_intent_that_cannot_be_stored_prevents_the_call(cluster: Cluster) -> None:
    node = cluster.node()
    node.ledger.down_at = "intend"
    assert await node.problem() == UNAVAILABLE
    assert cluster.presented == []
    node.ledger.down_at = ""
    await advance(STORE_PAUSE)
    assert await node.token() == "t1"


async def test_token_that_cannot_be_stored_is_not_used(cluster: Cluster) -> None:
    node = cluster.node()
    node.ledger.down_at = "finish"
    assert await node.problem() == UNAVAILABLE
    assert cluster.presented == ["r0"]
    assert node.source.current is None


async def test_new_configured_refresh_token_begins_another_chain(cluster: Cluster) -> None:
    """A file reaches processes at different times, and may be reverted."""
    early, late = cluster.node(), cluster.node()
    assert [await early.token(), await late.token()] == ["t1", "t1"]
    of_former, cluster.endpoint.valid = cluster.endpoint.valid, "new"
    early.change(RotatingKind(cluster.endpoint, "new"))
    assert await early.token() == "t2"
    of_new, cluster.endpoint.valid = cluster.endpoint.valid, of_former
    await advance(1000)
    assert await late.token() == "t3"
    of_former, cluster.endpoint.valid = cluster.endpoint.valid, of_new
    assert await early.token() == "t4"
    cluster.endpoint.valid = of_former
    early.change(RotatingKind(cluster.endpoint, "r0"))
    assert await early.token() == "t3"
    assert cluster.presented == ["r0", "new", "r1", "r2"]


async def test_the_edit_of_another_field_keeps_the_token(cluster: Cluster) -> None:
    node = cluster.node()
    assert await node.token() == "t1"
    node.change(RotatingKind(cluster.endpoint), description="edited")
    assert await node.token() == "t1"
    assert cluster.presented == ["r0"]


async def test_rejected_token_is_not_used_again_after_a_change(cluster: Cluster) -> None:
    """It is still in the store."""
    node = cluster.node()
    grant = await node.source.obtain()
    assert not node.source.report_rejection(grant, 500, None)
    node.change(RotatingKind(cluster.endpoint), description="edited")
    assert await node.token() == "t2"


@pytest.mark.parametrize(
    "changes", [{"scope": "more"}, {"egress": Egress(Trust("file", "ca.pem", "digest", "pem"))}], ids=["scope", "CA"]
)
async def test_another_token_is_requested_with_the_newest_refresh_token(
    changes: dict[str, Any], cluster: Cluster
) -> None:
    """Also after a change of the CA: the configured refresh token is spent."""
    node = cluster.node()
    assert await node.token() == "t1"
    egress = {key: value for key, value in changes.items() if key == "egress"}
    kind = RotatingKind(cluster.endpoint, scope=changes.get("scope", ""))
    node.change(kind, **egress)
    assert await node.token() == "t2"
    await node.die()
    again = cluster.node()
    again.change(kind, **egress)
    assert await again.token() == "t2"
    assert cluster.presented == ["r0", "r1"]


async def test_refresh_token_entered_again_for_another_destination_is_spent(cluster: Cluster) -> None:
    """An editor who moves an integration enters its secrets again: the refresh token that was entered first is spent.

    And what came of it is not theirs to move; where it was before it goes on.
    """
    node = cluster.node()
    node.change(RotatingKind(cluster.endpoint), row="r1", destinations=("here",))
    assert await node.token() == "t1"
    node.change(RotatingKind(cluster.endpoint), row="r1", destinations=("there",))
    assert await node.problem() == SPENT_REASON
    node.change(RotatingKind(cluster.endpoint), row="r1", destinations=("here",))
    assert await node.token() == "t1"
    of_former, cluster.endpoint.valid = cluster.endpoint.valid, "new"
    node.change(RotatingKind(cluster.endpoint, "new"), row="r1", destinations=("there",))
    assert await node.token() == "t2"
    assert (of_former, cluster.presented) == ("r1", ["r0", "new"])


async def test_the_clocks_of_processes_may_differ(cluster: Cluster) -> None:
    """By hours: the ledger's clock determines the age of a token."""
    nodes = [cluster.node(ahead=ahead) for ahead in (-7200.0, 7200.0, 0.0)]
    assert [await node.token() for node in nodes[:2]] == ["t1"] * 2
    await advance(890, step=10)
    assert [await node.token() for node in nodes] == ["t1"] * 3
    await advance(200, step=10)
    assert [await node.token() for node in nodes] == ["t2"] * 3
    assert cluster.presented == ["r0", "r1"]


@pytest.mark.parametrize("is_sent", [False, True])
async def test_unspent_refresh_token_is_presented_again(is_sent: bool, cluster: Cluster) -> None:
    """Nothing was sent, or the endpoint refused it."""
    node = cluster.node()
    if is_sent:
        cluster.endpoint.answer = lambda _: Reply(429, {}, b"")
    else:
        cluster.endpoint.call_error = {"outcome": "unreachable", "reason": "it refused the connection", "unspent": True}
    assert await node.problem() == ("token endpoint returned 429" if is_sent else "it refused the connection")
    assert cluster.shared.events[-1] == "a release"
    cluster.endpoint.call_error = cluster.endpoint.answer = None
    cluster.endpoint.calls.clear()
    await advance(10)
    assert await node.token() == "t1"


async def test_call_without_a_response_makes_the_token_spent(cluster: Cluster) -> None:
    """At once: no process waits for the lease to run out."""
    node, other = cluster.node(), cluster.node()
    cluster.endpoint.call_error = {"outcome": "timeout", "reason": "token endpoint did not respond in time"}
    assert await node.problem() == "token endpoint did not respond in time"
    cluster.endpoint.call_error = None
    assert await other.problem() == SPENT_REASON
    await advance(60)
    assert await node.problem() == SPENT_REASON
    assert cluster.presented == ["r0"]


async def test_refresh_token_of_a_response_without_a_token_is_stored(cluster: Cluster) -> None:
    node = cluster.node()
    cluster.endpoint.issues_expired_tokens = True
    waiting = asyncio.create_task(node.problem())
    await advance(3, step=0.5)
    assert await waiting == "it has expired"
    assert cluster.presented == ["r0", "r1", "r2", "r3"]
    cluster.endpoint.issues_expired_tokens = False
    assert await cluster.node().token() == "t5"


async def test_newest_refresh_token_is_stored_although_the_next_call_fails(cluster: Cluster) -> None:
    """The store goes down between two calls of one attempt."""
    node = cluster.node()
    cluster.endpoint.issues_expired_tokens = True
    waiting = asyncio.create_task(node.problem())
    await settle()
    node.ledger.down_at = "intend"
    await advance(1, step=0.5)
    assert await waiting == UNAVAILABLE
    cluster.endpoint.issues_expired_tokens = False
    assert await cluster.node().token() == "t2"


async def test_shutdown_waits_for_a_running_call(cluster: Cluster) -> None:
    node = cluster.node()
    cluster.endpoint.open.clear()
    waiting = asyncio.create_task(node.token())
    await settle()
    closing = asyncio.create_task(node.end())
    await settle()
    assert (waiting.cancelled(), closing.done()) == (True, False)
    cluster.endpoint.open.set()
    await closing
    assert await cluster.node().token() == "t1"
    assert cluster.presented == ["r0"]


async def test_shutdown_waits_for_the_call_of_a_retired_source(cluster: Cluster) -> None:
    node = cluster.node()
    cluster.endpoint.open.clear()
    waiting = asyncio.create_task(node.token())
    await settle()
    node.change(RotatingKind(cluster.endpoint), description="edited")
    heirs = asyncio.create_task(node.token())
    await settle()
    closing = asyncio.create_task(node.end())
    await settle()
    assert (waiting.cancelled(), heirs.cancelled(), closing.done()) == (True, True, False)
    cluster.endpoint.open.set()
    await closing
    assert await cluster.node().token() == "t1"
    assert cluster.presented == ["r0"]


async def test_lease_acquired_during_a_shutdown_is_released(cluster: Cluster) -> None:
    """Without a call."""
    node, other = cluster.node("a"), cluster.node("b")
    node.ledger.waits_at = "acquire"
    waiting = asyncio.create_task(node.token())
    await settle()
    closing = asyncio.create_task(node.end())
    await settle()
    assert waiting.cancelled()
    node.ledger.gate.set()
    await closing
    assert cluster.shared.events == ["a acquire", "a release"]
    assert await other.token() == "t1"


async def test_intent_stored_during_a_shutdown_causes_no_call(cluster: Cluster) -> None:
    node = cluster.node("a")
    node.ledger.waits_at = "intend"
    waiting = asyncio.create_task(node.token())
    await settle()
    closing = asyncio.create_task(node.end())
    await settle()
    node.ledger.gate.set()
    await closing
    assert waiting.cancelled()
    assert cluster.shared.events == ["a acquire", "a intend", "a release"]
    assert cluster.presented == []
    assert await cluster.node().token() == "t1"


async def test_shutdown_begins_no_lease(cluster: Cluster) -> None:
    """Neither for a late request nor for a new source."""
    node = cluster.node()
    node.leases.end()
    assert await node.problem() == "no token is asked for: this process is ending"
    node.change(RotatingKind(cluster.endpoint, "new"))
    assert await node.problem() == "no token is asked for: this process is ending"
    assert cluster.shared.events == []


async def test_shutdown_makes_no_further_call(cluster: Cluster) -> None:
    """The running call returns an expired token and the next refresh token."""
    node = cluster.node("a")
    cluster.endpoint.open.clear()
    cluster.endpoint.issues_expired_tokens = True
    waiting = asyncio.create_task(node.token())
    await settle()
    closing = asyncio.create_task(node.end())
    await settle()
    cluster.endpoint.open.set()
    await advance(5, step=0.5)
    assert (waiting.cancelled(), closing.done()) == (True, True)
    assert cluster.presented == ["r0"]
    assert cluster.shared.events[-1] == "a finish"
    cluster.endpoint.issues_expired_tokens = False
    assert await cluster.node().token() == "t2"
    assert cluster.presented == ["r0", "r1"]


async def test_rejected_token_is_refreshed_once_for_all_processes(cluster: Cluster) -> None:
    nodes = [cluster.node() for _ in range(3)]
    tokens = [await node.source.obtain() for node in nodes]
    assert all(node.source.report_rejection(token, 401, None) for node, token in zip(nodes, tokens, strict=True))
    refreshed = [
        asyncio.create_task(node.source.refreshed_after(token)) for node, token in zip(nodes, tokens, strict=True)
    ]
    await advance(1, step=0.1)
    assert [token_of(await item) for item in refreshed] == ["t2"] * 3
    assert cluster.presented == ["r0", "r1"]


async def test_new_secret_obtains_a_new_token_that_processes_with_the_old_secret_may_use(cluster: Cluster) -> None:
    """So processes do not revoke each other's tokens while a new secret reaches them."""
    cluster.endpoint.valid = None
    first, second = cluster.node(traits=SINGLE_LIVE), cluster.node(traits=SINGLE_LIVE)
    assert [await first.token(), await second.token()] == ["t1", "t1"]
    first.change(RotatingKind(cluster.endpoint, secret="new"))
    assert await first.token() == "t2"
    assert second.source.report_rejection(await second.source.obtain(), 401, b"")
    assert await second.token() == "t2"
    second.change(RotatingKind(cluster.endpoint, secret="new"))
    assert await second.token() == "t2"
    assert len(cluster.endpoint.calls) == 2


async def test_wrong_secret_gets_no_token_that_another_secret_obtained(cluster: Cluster) -> None:
    """After a restart it does not use the stored token."""
    cluster.endpoint.valid = None
    node = cluster.node(traits=SINGLE_LIVE)
    assert await node.token() == "t1"
    cluster.endpoint.call_error = {"outcome": "refused", "reason": "token endpoint returned 401 invalid_client"}
    wrong = cluster.node(traits=SINGLE_LIVE)
    wrong.change(RotatingKind(cluster.endpoint, secret="wrong"))
    assert await wrong.problem() == "token endpoint returned 401 invalid_client"
    assert await node.token() == "t1"


async def test_waiting_for_another_lease_times_out(cluster: Cluster) -> None:
    """The next attempt waits again."""
    slow, node = cluster.node(), cluster.node()
    cluster.endpoint.open.clear()
    waiting_dead = asyncio.create_task(slow.token())
    await settle()
    next(iter(cluster.shared.entries.values())).until = 1e9
    waiting = asyncio.create_task(node.problem())
    await advance(LEASE_WAIT_SECONDS + 2, step=0.5)
    assert await waiting == "another process is obtaining the token, and has not ended yet"
    cluster.endpoint.open.set()
    assert await waiting_dead == "t1"


async def test_lease_that_is_always_lost_times_out(cluster: Cluster) -> None:
    """With pauses between the attempts."""
    node = cluster.node("a")
    node.ledger.loses_at = "intend"
    waiting = asyncio.create_task(node.problem())
    await advance(LEASE_WAIT_SECONDS + 2, step=0.05)
    assert await waiting == "another process is obtaining the token, and has not ended yet"
    assert cluster.shared.events.count("a acquire") < 2 * LEASE_WAIT_SECONDS
    assert cluster.presented == []


def test_serialization_of_a_chain_never_changes() -> None:
    """Another serialization would be another chain and present the configured refresh token again."""
    client = ("oauth2", "refresh_token", "https://auth.example.com/token", "id", "r0", None, None, None)
    origin = TokenOrigin(Lineage(client, (), ()), ("file", "digest"), "fingerprint")
    spelled = '["oauth2","refresh_token","https://auth.example.com/token","id","r0",null,null,null]'
    assert build_chain(CRM, origin) == ("file:crm", spelled, ("",))
    stored = replace(CRM, row="r1", destinations=("a", "b"))
    assert build_chain(stored, origin) == ("r1", spelled, ("a", "b"))
    assert "r0" not in repr(build_chain(CRM, origin))


def test_lineage_with_an_unsupported_type_is_a_defect() -> None:
    origin = TokenOrigin(Lineage((b"bytes",), (), ()), ("", ""), "")
    with pytest.raises(TypeError, match="but not bytes"):
        build_chain(CRM, origin)


class RunningLeases:
    """Leases, and work that runs until the test ends it."""

    def __init__(self) -> None:
        self.leases = TokenLeases(NoLedger("ask another"))
        self.defects: list[BaseException] = []
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def begin(self) -> asyncio.Task[str]:
        return asyncio.create_task(self.leases.run(self._work))

    async def _work(self) -> str:
        return await self.outcome

    async def close(self) -> None:
        await self.leases.close(self.defects.append)


@pytest.fixture
async def running() -> RunningLeases:
    return RunningLeases()


async def test_close_times_out(running: RunningLeases) -> None:
    waiting = running.begin()
    await settle()
    with capture_logs() as lines:
        closing = asyncio.create_task(running.close())
        await advance(SHUTDOWN_SECONDS)
        await closing
    await settle()
    (line,) = lines
    assert line["event"] == "a token request did not finish in time: its refresh token may have been used"
    assert waiting.cancelled()
    assert running.outcome.cancelled()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CallError("timeout", "token endpoint did not respond in time"), "token endpoint did not respond in time"),
        (Unavailable("it cannot be reached"), None),
        (ProblemError(Problem("credential_unavailable", "no certificate")), None),
        (TokenLeaseLost(), None),
        (ZeroDivisionError("secret text"), None),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_error_of_work_without_a_waiter_is_logged(
    running: RunningLeases, error: Exception, reason: str | None
) -> None:
    """A defect is reported. The ledger has logged the other errors."""
    waiting = running.begin()
    await settle()
    waiting.cancel()
    with capture_logs() as lines:
        closing = asyncio.create_task(running.close())
        await settle()
        running.outcome.set_exception(error)
        await closing
    assert [line["reason"] for line in lines] == ([] if reason is None else [reason])
    assert running.defects == ([error] if isinstance(error, ZeroDivisionError) else [])
