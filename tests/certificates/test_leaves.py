"""Leaves: issued in a thread, once for a host, in limited number, cached while fresh, by the signing CA."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from cryptography import x509

from sidekey.ca import maintain
from sidekey.ca.authorities import CaRules, LocalAuthority
from sidekey.ca.storage import state_file
from sidekey.certificates import leaves as module
from sidekey.certificates.leaves import MAX_LEAVES, MAX_PENDING, Leaves
from sidekey.errors import ProblemError
from sidekey.network.tls_server import server_context
from sidekey.observe.metrics import Metrics
from sidekey.snapshot.snapshot import Snapshot
from support.local_cas import DAY, NOW, authority_of, rules_in, scope_of, verified
from support.manual_clock import advance
from support.raw_connection import DEADLINE
from support.tls_peer import shake

A, B = "https://a.test", "https://*.b.test"


class Rig:
    """Leaves with rules and a clock that the test sets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = NOW
        self.metrics = Metrics()
        self.defects: list[BaseException] = []
        self.leaves = Leaves(self.metrics, self._report, lambda: self.now)

    def _report(self, defect: BaseException) -> str:
        self.defects.append(defect)
        return "id"

    async def use(self, rules: CaRules) -> None:
        """Put rules in use, as the publisher does, and wait for what follows."""
        self.leaves.prepare(Snapshot({}, ca=rules))()
        await self.leaves.ready()

    async def use_urls(self, *urls: str, **others: Any) -> None:
        await self.use(rules_in(self.folder, *urls, **others))

    def issuer(self, context: ssl.SSLContext, host: str) -> str | None:
        """Which of the CAs that callers know signed a context's leaf, by its certificate."""
        pems = (self.folder / "trust" / "ca.pem").read_text().split("-----END CERTIFICATE-----\n")[:-1]
        for each in pems:
            pem = f"{each}-----END CERTIFICATE-----\n"
            if _chain(context, host, pem):
                return pem
        return None


def _chain(context: ssl.SSLContext, host: str, trusted: str) -> bool:
    client = ssl.create_default_context(cadata=trusted)
    # The leaf is of another time than now.
    client.verify_flags |= 0x200000  # X509_V_FLAG_NO_CHECK_TIME
    try:
        shake(client, context, name=host)
    except ssl.SSLCertVerificationError:
        return False
    return True


@asynccontextmanager
async def rig_in(folder: Path) -> AsyncIterator[Rig]:
    created = Rig(folder)
    yield created
    await created.leaves.close()
    assert created.defects == []


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig_in(tmp_path) as created:
        yield created


def refusal(error: pytest.ExceptionInfo[ProblemError]) -> tuple[str, int]:
    problem = error.value.problem
    return problem.code, problem.status


async def test_leaf_is_issued_on_demand_and_cached(rig: Rig) -> None:
    await rig.use_urls(A, B)
    assert rig.leaves.context_for("a.test") is None
    context = await rig.leaves.obtain("a.test")
    assert rig.leaves.context_for("a.test") is context
    assert await rig.leaves.obtain("a.test") is context
    assert rig.metrics.leaves_issued == 1
    assert rig.issuer(context, "a.test") is not None
    other = await rig.leaves.obtain("x.y.b.test")
    assert rig.issuer(other, "x.y.b.test") is not None


async def test_python_strictly_verifies_a_leaf(tmp_path: Path) -> None:
    """With the bundle of the trust folder."""
    async with rig_in(tmp_path) as rig:
        rig.now = time.time()
        await rig.use_urls(A, "https://10.0.0.1", "https://[fd00::1]")
        for host in ("a.test", "10.0.0.1", "fd00::1"):
            trusted = (tmp_path / "trust" / "ca.pem").read_text()
            assert verified(await rig.leaves.obtain(host), host, trusted) is None


async def test_leaf_is_issued_in_a_thread_once_for_all_callers(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.use_urls(A)
    go_on = threading.Event()
    makes = _held(go_on)
    monkeypatch.setattr(module, "server_context", makes)
    asking = [asyncio.create_task(rig.leaves.obtain("a.test")) for _ in range(200)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in asking)
    asking[0].cancel()
    go_on.set()
    contexts = await asyncio.gather(*asking[1:])
    assert len(set(map(id, contexts))) == 1
    assert rig.metrics.leaves_issued == 1


def _held(go_on: threading.Event) -> Callable[[str, bytes], ssl.SSLContext]:
    def make(host: str, pem: bytes) -> ssl.SSLContext:
        assert go_on.wait(DEADLINE)
        return server_context(host, pem)

    return make


async def test_number_of_pending_leaves_is_limited(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cached and pending leaves are still served."""
    await rig.use_urls(A, B)
    known = await rig.leaves.obtain("a.test")
    go_on = threading.Event()
    monkeypatch.setattr(module, "server_context", _held(go_on))
    asking = [asyncio.create_task(rig.leaves.obtain(f"h{number}.b.test")) for number in range(MAX_PENDING + 1)]
    await asyncio.sleep(0)
    with pytest.raises(ProblemError) as refused:
        await rig.leaves.obtain("more.b.test")
    assert refusal(refused) == ("overloaded", 503)
    assert ("Retry-After", "1") in refused.value.problem.headers
    assert rig.leaves.context_for("a.test") is known
    joined = asyncio.create_task(rig.leaves.obtain("h0.b.test"))
    go_on.set()
    await asyncio.gather(*asking, joined)
    assert await rig.leaves.obtain("more.b.test")


async def test_least_recently_used_leaf_is_evicted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LEAVES", 3)
    await rig.use_urls(B)
    contexts = {each: await rig.leaves.obtain(f"{each}.b.test") for each in "xyz"}
    assert rig.leaves.context_for("x.b.test") is contexts["x"]
    await rig.leaves.obtain("w.b.test")
    assert rig.leaves.context_for("y.b.test") is None
    assert rig.leaves.context_for("x.b.test") is contexts["x"]
    assert MAX_LEAVES == 256


async def test_leaf_is_reissued_after_half_of_its_lifetime(rig: Rig) -> None:
    """Also after the clock was set back, because the leaf might not be valid yet."""
    await rig.use_urls(A)
    first = await rig.leaves.obtain("a.test")
    rig.now = NOW + 3.4 * DAY
    assert rig.leaves.context_for("a.test") is first
    rig.now = NOW + 3.6 * DAY
    assert rig.leaves.context_for("a.test") is None
    assert await rig.leaves.obtain("a.test") is not first
    rig.now = NOW - 4 * DAY
    assert rig.leaves.context_for("a.test") is None


async def test_context_with_many_sessions_is_replaced(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL keeps a session for each TLS 1.2 client without tickets."""
    monkeypatch.setattr(module, "MAX_SESSIONS_PER_CONTEXT", 3)
    await rig.use_urls(A)
    context = await rig.leaves.obtain("a.test")
    client = ssl.create_default_context(cafile=str(rig.folder / "trust" / "ca.pem"))
    client.verify_flags |= 0x200000  # as in _chain
    for _ in range(4):
        shake(client, context, name="a.test")
    assert rig.leaves.context_for("a.test") is context
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.options |= ssl.OP_NO_TICKET
    for _ in range(3):
        assert rig.leaves.context_for("a.test") is context
        shake(client, context, name="a.test")
    assert rig.leaves.context_for("a.test") is None
    assert await rig.leaves.obtain("a.test") is not context
    assert rig.metrics.leaves_issued == 2


def test_sessions_of_all_leaves_take_at_most_32_mib() -> None:
    """A session takes 1 KiB (measured with OpenSSL 3.5), and callers may name any number of hosts."""
    assert module.MAX_LEAVES * module.MAX_SESSIONS_PER_CONTEXT <= 32 << 10


async def test_leaf_that_expires_with_its_ca_is_reissued_in_time(rig: Rig) -> None:
    await rig.use_urls(A)
    end = NOW + 730 * DAY
    rig.now = end - DAY
    context = await rig.leaves.obtain("a.test")
    rig.now = end - DAY / 2 - 1
    assert rig.leaves.context_for("a.test") is context
    rig.now = end - DAY / 2 + 1
    assert rig.leaves.context_for("a.test") is None


@pytest.mark.parametrize("host", ["c.test", "10.0.0.1", "a.test.evil.example", "b.test."])
async def test_host_without_a_ca_is_refused(host: str, rig: Rig) -> None:
    await rig.use_urls(A, B)
    with pytest.raises(ProblemError, match="no local CA may sign for this host") as refused:
        await rig.leaves.obtain(host)
    assert refusal(refused) == ("ca_unavailable", 502)


async def test_all_leaves_of_a_process_have_one_key(rig: Rig) -> None:
    """Creating a key takes longer than signing."""
    await rig.use_urls(A, B)
    keys = set()
    for host in ("a.test", "x.b.test"):
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        ours, _ = shake(client, await rig.leaves.obtain(host), name=host)
        der = ours.getpeercert(binary_form=True)
        assert der is not None
        keys.add(x509.load_der_x509_certificate(der).public_key().public_numbers())  # type: ignore[union-attr]
    assert len(keys) == 1


async def test_requests_wait_for_the_creation_of_the_ca(rig: Rig) -> None:
    rig.leaves.prepare(Snapshot({}, ca=rules_in(rig.folder, A)))()
    assert await rig.leaves.obtain("a.test")


async def test_new_host_gets_a_ca_and_other_leaves_stay_cached(rig: Rig) -> None:
    """The log names the host and says that callers must restart."""
    await rig.use_urls(A)
    first = await rig.leaves.obtain("a.test")
    with structlog.testing.capture_logs() as logs:
        await rig.use_urls(A, "https://new.test")
    (line,) = logs
    assert (line["log_level"], line["hosts"]) == ("warning", ["new.test"])
    assert "callers must restart" in line["event"]
    assert rig.leaves.context_for("a.test") is first
    context = await rig.leaves.obtain("new.test")
    assert rig.issuer(context, "new.test") != rig.issuer(first, "a.test")


async def test_rotation_by_another_process_takes_effect(rig: Rig) -> None:
    """Existing connections keep their leaf, and new ones get a leaf of the new CA."""
    rules = rules_in(rig.folder, A)
    await rig.use(rules)
    assert rig.leaves.files() == {state_file(rig.folder)}
    first = await rig.leaves.obtain("a.test")
    maintain.rotate(rules, NOW, "next")
    await rig.leaves.changed(rig.leaves.files())
    assert rig.leaves.context_for("a.test") is first
    maintain.rotate(rules, NOW, "activate")
    await rig.leaves.changed({Path("another")})
    assert rig.leaves.context_for("a.test") is first
    with structlog.testing.capture_logs() as logs:
        await rig.leaves.changed(rig.leaves.files())
    assert [line["event"] for line in logs] == ["the local CA that signs certificates has changed"]
    assert rig.leaves.context_for("a.test") is None
    second = await rig.leaves.obtain("a.test")
    assert rig.issuer(second, "a.test") != rig.issuer(first, "a.test")


async def test_leaf_issued_during_a_rotation_is_not_cached(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = rules_in(rig.folder, A)
    await rig.use(rules)
    created = maintain.rotate(rules, NOW, "next").authorities.activate()
    go_on = threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(module, "server_context", _held(go_on))
        asking = asyncio.create_task(rig.leaves.obtain("a.test"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        rig.leaves._adopt(
            rules, maintain.MaintenanceResult(created)
        )  # as a look at the files would, which has the same thread
        go_on.set()
        assert await asking
    assert rig.leaves.context_for("a.test") is None


async def test_operator_ca_takes_effect_with_a_reload(rig: Rig) -> None:
    own = [authority_of(A, generation=0, now=NOW + number) for number in range(2)]
    await rig.use_urls(A, uses_operator_ca=True, operator_ca=own[0])
    assert rig.leaves.files() == set()
    first = await rig.leaves.obtain("a.test")
    assert rig.issuer(first, "a.test") == own[0].trusted
    await rig.use_urls(A, uses_operator_ca=True, operator_ca=own[1])
    assert rig.leaves.context_for("a.test") is None
    assert rig.issuer(await rig.leaves.obtain("a.test"), "a.test") == own[1].trusted


async def test_unchanged_rules_start_no_maintenance(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.use_urls(A)
    leaf = await rig.leaves.obtain("a.test")
    looks: list[object] = []
    monkeypatch.setattr(module, "ensure_authorities", lambda *rules: looks.append(rules))
    await rig.use_urls(A)
    assert looks == []
    assert await rig.leaves.obtain("a.test") is leaf


@pytest.mark.parametrize(("configured", "level"), [(False, "info"), (True, "warning")])
async def test_missing_ca_is_logged_once(configured: bool, level: str, rig: Rig) -> None:
    """As a warning only if the operator relies on tunnels."""
    (rig.folder / "file").write_text("")
    rules = replace(rules_in(rig.folder / "file", A), configured=configured)
    with structlog.testing.capture_logs() as logs:
        await rig.use(rules)
        await rig.use(replace(rules, scope=scope_of(A, B)))
    (line,) = logs
    assert line["log_level"] == level
    assert "set ca.folder" in line["reason"]
    with pytest.raises(ProblemError, match="there is no local CA") as refused:
        await rig.leaves.obtain("a.test")
    assert refusal(refused) == ("ca_unavailable", 502)
    assert rig.metrics.ca_expires is None


async def test_expiry_of_the_ca_is_a_metric_and_a_warning(rig: Rig) -> None:
    await rig.use_urls(A)
    end = NOW + 730 * DAY
    assert rig.metrics.ca_expires == end
    with structlog.testing.capture_logs() as logs:
        for days in (22, 20, 19, 6, 5, 0.5):
            rig.now = end - days * DAY
            await advance(60)
    assert [(line["log_level"], line["days"]) for line in logs] == [("warning", 20), ("warning", 6), ("warning", 0)]
    assert {line["event"] for line in logs} == {"a local CA expires soon: replace it (sidekey ca rotate)"}


async def test_expiry_warning_of_an_operator_ca_says_to_renew_it(rig: Rig) -> None:
    """`sidekey ca rotate` refuses to replace it."""
    own = authority_of(A, generation=0)
    await rig.use_urls(A, uses_operator_ca=True, operator_ca=own)
    with structlog.testing.capture_logs() as logs:
        rig.now = own.not_after - 20 * DAY
        await advance(60)
    (line,) = logs
    assert (line["log_level"], line["days"]) == ("warning", 20)
    assert line["event"] == "the CA of ca.certificate expires soon: renew it where it was issued"


async def test_expired_ca_is_replaced(rig: Rig) -> None:
    """Callers must restart, and the log says so."""
    await rig.use_urls(A)
    await rig.leaves.obtain("a.test")
    rig.now = NOW + 731 * DAY
    with structlog.testing.capture_logs() as logs:
        await advance(60)
        await rig.leaves.ready()
    assert [line["log_level"] for line in logs] == ["error", "warning"]
    assert "callers must restart" in logs[1]["event"]
    assert await rig.leaves.obtain("a.test")
    assert rig.metrics.ca_expires == rig.now + 730 * DAY


async def test_expired_operator_ca_signs_nothing_and_is_logged_once(rig: Rig) -> None:
    own = authority_of(A, generation=0)
    await rig.use_urls(A, uses_operator_ca=True, operator_ca=own)
    await rig.leaves.obtain("a.test")
    rig.now = own.not_after + 1
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await advance(60)
            await rig.leaves.ready()
    assert [line["log_level"] for line in logs] == ["error"]
    with pytest.raises(ProblemError, match="the local CA for this host has expired"):
        await rig.leaves.obtain("a.test")


async def test_ca_that_tls_cannot_use_is_unavailable(rig: Rig) -> None:
    """The problem does not repeat the library's message."""
    broken = replace(authority_of(A, generation=0), served="nonsense", key="nonsense")
    await rig.use_urls(A, uses_operator_ca=True, operator_ca=broken)
    for _ in range(2):
        with pytest.raises(ProblemError, match="cannot be used for TLS") as refused:
            await rig.leaves.obtain("a.test")
    assert refusal(refused) == ("ca_unavailable", 502)
    assert refused.value.__cause__ is None


async def test_defect_is_reported_and_the_host_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path)

    def fail(*_: object) -> LocalAuthority:
        raise ZeroDivisionError

    monkeypatch.setattr(module, "ensure_authorities", fail)
    await rig.use_urls(A)
    assert [type(each) for each in rig.defects] == [ZeroDivisionError]
    with pytest.raises(ProblemError, match="there is no local CA"):
        await rig.leaves.obtain("a.test")
    await rig.leaves.close()


async def test_close_cancels_pending_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    async with rig_in(tmp_path) as rig:
        await rig.use_urls(A)
        monkeypatch.setattr(module, "server_context", _held(go_on))
        asking = asyncio.create_task(rig.leaves.obtain("a.test"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        go_on.set()
        await rig.leaves.close()
        assert asking.cancelled() or asking.done() or await asyncio.wait([asking])


async def test_key_of_leaves_is_redacted(rig: Rig) -> None:
    await rig.use_urls(A)
    await rig.leaves.obtain("a.test")
    assert "PRIVATE" not in repr(vars(rig.leaves))
    assert "BEGIN" not in repr(vars(rig.leaves))
