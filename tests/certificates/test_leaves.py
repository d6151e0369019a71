"""Leaf certificates of the local CA: issued on demand, cached, reissued and limited in number."""

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
from support.tls_peer import handshake

A, B = "https://a.test", "https://*.b.test"


class LeafIssuer:
    """Leaves with a clock that the test sets."""

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
        """Publish rules, and wait until the leaves use them."""
        self.leaves.prepare(Snapshot({}, ca=rules))()
        await self.leaves.wait_until_ready()

    async def use_urls(self, *urls: str, **others: Any) -> None:
        await self.use(rules_in(self.folder, *urls, **others))

    def ca_of(self, context: ssl.SSLContext, host: str) -> str | None:
        """Return the certificate of the trusted CA that signed the leaf of a context."""
        pems = (self.folder / "trust" / "ca.pem").read_text().split("-----END CERTIFICATE-----\n")[:-1]
        for begin in pems:
            pem = f"{begin}-----END CERTIFICATE-----\n"
            if _verifies(context, host, pem):
                return pem
        return None


def _verifies(context: ssl.SSLContext, host: str, trusted: str) -> bool:
    client = ssl.create_default_context(cadata=trusted)
    # The clock of these tests differs from the real time.
    client.verify_flags |= 0x200000  # X509_V_FLAG_NO_CHECK_TIME
    try:
        handshake(client, context, name=host)
    except ssl.SSLCertVerificationError:
        return False
    return True


@asynccontextmanager
async def issuer_in(folder: Path) -> AsyncIterator[LeafIssuer]:
    created = LeafIssuer(folder)
    yield created
    await created.leaves.close()
    assert created.defects == []


@pytest.fixture
async def issuer(tmp_path: Path) -> AsyncIterator[LeafIssuer]:
    async with issuer_in(tmp_path) as created:
        yield created


def refusal(error: pytest.ExceptionInfo[ProblemError]) -> tuple[str, int]:
    problem = error.value.problem
    return problem.code, problem.status


async def test_leaf_is_issued_on_demand_and_cached(issuer: LeafIssuer) -> None:
    await issuer.use_urls(A, B)
    assert issuer.leaves.context_for("a.test") is None
    context = await issuer.leaves.obtain("a.test")
    assert issuer.leaves.context_for("a.test") is context
    assert await issuer.leaves.obtain("a.test") is context
    assert issuer.metrics.leaves_issued == 1
    assert issuer.ca_of(context, "a.test") is not None
    other = await issuer.leaves.obtain("x.y.b.test")
    assert issuer.ca_of(other, "x.y.b.test") is not None


async def test_python_strictly_verifies_a_leaf(tmp_path: Path) -> None:
    async with issuer_in(tmp_path) as issuer:
        issuer.now = time.time()
        await issuer.use_urls(A, "https://10.0.0.1", "https://[fd00::1]")
        for host in ("a.test", "10.0.0.1", "fd00::1"):
            trusted = (tmp_path / "trust" / "ca.pem").read_text()
            assert verified(await issuer.leaves.obtain(host), host, trusted) is None


async def test_leaf_is_issued_in_a_thread_once_for_all_callers(
    issuer: LeafIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await issuer.use_urls(A)
    release = threading.Event()
    build_context = _wait_for(release)
    monkeypatch.setattr(module, "server_context", build_context)
    requests = [asyncio.create_task(issuer.leaves.obtain("a.test")) for _ in range(200)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in requests)
    requests[0].cancel()
    release.set()
    contexts = await asyncio.gather(*requests[1:])
    assert len(set(map(id, contexts))) == 1
    assert issuer.metrics.leaves_issued == 1


def _wait_for(release: threading.Event) -> Callable[[str, bytes], ssl.SSLContext]:
    def make(host: str, pem: bytes) -> ssl.SSLContext:
        assert release.wait(DEADLINE)
        return server_context(host, pem)

    return make


async def test_number_of_pending_leaves_is_limited(issuer: LeafIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sidekey still serves cached and pending leaves."""
    await issuer.use_urls(A, B)
    known = await issuer.leaves.obtain("a.test")
    release = threading.Event()
    monkeypatch.setattr(module, "server_context", _wait_for(release))
    requests = [asyncio.create_task(issuer.leaves.obtain(f"h{number}.b.test")) for number in range(MAX_PENDING + 1)]
    await asyncio.sleep(0)
    with pytest.raises(ProblemError) as refused:
        await issuer.leaves.obtain("more.b.test")
    assert refusal(refused) == ("overloaded", 503)
    assert ("Retry-After", "1") in refused.value.problem.headers
    assert issuer.leaves.context_for("a.test") is known
    joined = asyncio.create_task(issuer.leaves.obtain("h0.b.test"))
    release.set()
    await asyncio.gather(*requests, joined)
    assert await issuer.leaves.obtain("more.b.test")


async def test_least_recently_used_leaf_is_evicted(issuer: LeafIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LEAVES", 3)
    await issuer.use_urls(B)
    contexts = {label: await issuer.leaves.obtain(f"{label}.b.test") for label in "xyz"}
    assert issuer.leaves.context_for("x.b.test") is contexts["x"]
    await issuer.leaves.obtain("w.b.test")
    assert issuer.leaves.context_for("y.b.test") is None
    assert issuer.leaves.context_for("x.b.test") is contexts["x"]
    assert MAX_LEAVES == 256


async def test_leaf_is_reissued_after_half_of_its_lifetime(issuer: LeafIssuer) -> None:
    """After the clock was set back, the leaf might not be valid yet."""
    await issuer.use_urls(A)
    first = await issuer.leaves.obtain("a.test")
    issuer.now = NOW + 3.4 * DAY
    assert issuer.leaves.context_for("a.test") is first
    issuer.now = NOW + 3.6 * DAY
    assert issuer.leaves.context_for("a.test") is None
    assert await issuer.leaves.obtain("a.test") is not first
    issuer.now = NOW - 4 * DAY
    assert issuer.leaves.context_for("a.test") is None


async def test_context_with_many_sessions_is_replaced(issuer: LeafIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL stores a session for each TLS 1.2 client without tickets."""
    monkeypatch.setattr(module, "MAX_SESSIONS_PER_CONTEXT", 3)
    await issuer.use_urls(A)
    context = await issuer.leaves.obtain("a.test")
    client = ssl.create_default_context(cafile=str(issuer.folder / "trust" / "ca.pem"))
    client.verify_flags |= 0x200000  # as in _verifies
    for _ in range(4):
        handshake(client, context, name="a.test")
    assert issuer.leaves.context_for("a.test") is context
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.options |= ssl.OP_NO_TICKET
    for _ in range(3):
        assert issuer.leaves.context_for("a.test") is context
        handshake(client, context, name="a.test")
    assert issuer.leaves.context_for("a.test") is None
    assert await issuer.leaves.obtain("a.test") is not context
    assert issuer.metrics.leaves_issued == 2


def test_sessions_of_all_leaves_take_at_most_32_mib() -> None:
    """A session takes 1 KiB (measured with OpenSSL 3.5), and callers may name any number of hosts."""
    assert module.MAX_LEAVES * module.MAX_SESSIONS_PER_CONTEXT <= 32 << 10


async def test_leaf_that_expires_with_its_ca_is_reissued_in_time(issuer: LeafIssuer) -> None:
    await issuer.use_urls(A)
    end = NOW + 730 * DAY
    issuer.now = end - DAY
    context = await issuer.leaves.obtain("a.test")
    issuer.now = end - DAY / 2 - 1
    assert issuer.leaves.context_for("a.test") is context
    issuer.now = end - DAY / 2 + 1
    assert issuer.leaves.context_for("a.test") is None


@pytest.mark.parametrize("host", ["c.test", "10.0.0.1", "a.test.evil.example", "b.test."])
async def test_host_without_a_ca_is_refused(host: str, issuer: LeafIssuer) -> None:
    await issuer.use_urls(A, B)
    with pytest.raises(ProblemError, match="no local CA may sign for this host") as refused:
        await issuer.leaves.obtain(host)
    assert refusal(refused) == ("ca_unavailable", 502)


async def test_all_leaves_of_a_process_have_one_key(issuer: LeafIssuer) -> None:
    await issuer.use_urls(A, B)
    keys = set()
    for host in ("a.test", "x.b.test"):
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        tls, _ = handshake(client, await issuer.leaves.obtain(host), name=host)
        der = tls.getpeercert(binary_form=True)
        assert der is not None
        keys.add(x509.load_der_x509_certificate(der).public_key().public_numbers())  # type: ignore[union-attr]
    assert len(keys) == 1


async def test_requests_wait_for_the_creation_of_the_ca(issuer: LeafIssuer) -> None:
    issuer.leaves.prepare(Snapshot({}, ca=rules_in(issuer.folder, A)))()
    assert await issuer.leaves.obtain("a.test")


async def test_new_host_gets_a_ca_and_other_leaves_stay_cached(issuer: LeafIssuer) -> None:
    """The log asks for a restart of callers."""
    await issuer.use_urls(A)
    first = await issuer.leaves.obtain("a.test")
    with structlog.testing.capture_logs() as logs:
        await issuer.use_urls(A, "https://new.test")
    (line,) = logs
    assert (line["log_level"], line["hosts"]) == ("warning", ["new.test"])
    assert "callers must restart" in line["event"]
    assert issuer.leaves.context_for("a.test") is first
    context = await issuer.leaves.obtain("new.test")
    assert issuer.ca_of(context, "new.test") != issuer.ca_of(first, "a.test")


async def test_rotation_by_another_process_takes_effect(issuer: LeafIssuer) -> None:
    """Existing connections keep their leaf, and new ones get a leaf of the new CA."""
    rules = rules_in(issuer.folder, A)
    await issuer.use(rules)
    assert issuer.leaves.watched_files() == {state_file(issuer.folder)}
    first = await issuer.leaves.obtain("a.test")
    maintain.rotate(rules, NOW, "next")
    await issuer.leaves.reload_changed(issuer.leaves.watched_files())
    assert issuer.leaves.context_for("a.test") is first
    maintain.rotate(rules, NOW, "activate")
    await issuer.leaves.reload_changed({Path("another")})
    assert issuer.leaves.context_for("a.test") is first
    with structlog.testing.capture_logs() as logs:
        await issuer.leaves.reload_changed(issuer.leaves.watched_files())
    assert [line["event"] for line in logs] == ["the local CA that signs certificates has changed"]
    assert issuer.leaves.context_for("a.test") is None
    second = await issuer.leaves.obtain("a.test")
    assert issuer.ca_of(second, "a.test") != issuer.ca_of(first, "a.test")


async def test_leaf_issued_during_a_rotation_is_not_cached(issuer: LeafIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = rules_in(issuer.folder, A)
    await issuer.use(rules)
    created = maintain.rotate(rules, NOW, "next").authorities.activate()
    release = threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(module, "server_context", _wait_for(release))
        requests = asyncio.create_task(issuer.leaves.obtain("a.test"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        # A reload of the files would call this in the same thread.
        issuer.leaves._adopt(rules, maintain.MaintenanceResult(created))
        release.set()
        assert await requests
    assert issuer.leaves.context_for("a.test") is None


async def test_operator_ca_takes_effect_with_a_reload(issuer: LeafIssuer) -> None:
    operator_cas = [authority_of(A, generation=0, now=NOW + number) for number in range(2)]
    await issuer.use_urls(A, uses_operator_ca=True, operator_ca=operator_cas[0])
    assert issuer.leaves.watched_files() == set()
    first = await issuer.leaves.obtain("a.test")
    assert issuer.ca_of(first, "a.test") == operator_cas[0].trusted
    await issuer.use_urls(A, uses_operator_ca=True, operator_ca=operator_cas[1])
    assert issuer.leaves.context_for("a.test") is None
    assert issuer.ca_of(await issuer.leaves.obtain("a.test"), "a.test") == operator_cas[1].trusted


async def test_unchanged_rules_start_no_maintenance(issuer: LeafIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    await issuer.use_urls(A)
    leaf = await issuer.leaves.obtain("a.test")
    calls: list[object] = []
    monkeypatch.setattr(module, "ensure_authorities", lambda *rules: calls.append(rules))
    await issuer.use_urls(A)
    assert calls == []
    assert await issuer.leaves.obtain("a.test") is leaf


@pytest.mark.parametrize(("configured", "level"), [(False, "info"), (True, "warning")])
async def test_missing_ca_is_logged_once(configured: bool, level: str, issuer: LeafIssuer) -> None:
    """It is a warning only if the config has a CA."""
    (issuer.folder / "file").write_text("")
    rules = replace(rules_in(issuer.folder / "file", A), configured=configured)
    with structlog.testing.capture_logs() as logs:
        await issuer.use(rules)
        await issuer.use(replace(rules, scope=scope_of(A, B)))
    (line,) = logs
    assert line["log_level"] == level
    assert "set ca.folder" in line["reason"]
    with pytest.raises(ProblemError, match="there is no local CA") as refused:
        await issuer.leaves.obtain("a.test")
    assert refusal(refused) == ("ca_unavailable", 502)
    assert issuer.metrics.ca_expires is None


async def test_expiry_of_the_ca_is_a_metric_and_a_warning(issuer: LeafIssuer) -> None:
    await issuer.use_urls(A)
    end = NOW + 730 * DAY
    assert issuer.metrics.ca_expires == end
    with structlog.testing.capture_logs() as logs:
        for days in (22, 20, 19, 6, 5, 0.5):
            issuer.now = end - days * DAY
            await advance(60)
    assert [(line["log_level"], line["days"]) for line in logs] == [("warning", 20), ("warning", 6), ("warning", 0)]
    assert {line["event"] for line in logs} == {"a local CA expires soon: replace it (sidekey ca rotate)"}


async def test_expiry_warning_of_an_operator_ca_says_to_renew_it(issuer: LeafIssuer) -> None:
    """`sidekey ca rotate` does not replace an operator's CA."""
    operator_ca = authority_of(A, generation=0)
    await issuer.use_urls(A, uses_operator_ca=True, operator_ca=operator_ca)
    with structlog.testing.capture_logs() as logs:
        issuer.now = operator_ca.not_after - 20 * DAY
        await advance(60)
    (line,) = logs
    assert (line["log_level"], line["days"]) == ("warning", 20)
    assert line["event"] == "the CA of ca.certificate expires soon: renew it where it was issued"


async def test_expired_ca_is_replaced(issuer: LeafIssuer) -> None:
    """The log asks for a restart of callers."""
    await issuer.use_urls(A)
    await issuer.leaves.obtain("a.test")
    issuer.now = NOW + 731 * DAY
    with structlog.testing.capture_logs() as logs:
        await advance(60)
        await issuer.leaves.wait_until_ready()
    assert [line["log_level"] for line in logs] == ["error", "warning"]
    assert "callers must restart" in logs[1]["event"]
    assert await issuer.leaves.obtain("a.test")
    assert issuer.metrics.ca_expires == issuer.now + 730 * DAY


async def test_expired_operator_ca_signs_nothing_and_is_logged_once(issuer: LeafIssuer) -> None:
    operator_ca = authority_of(A, generation=0)
    await issuer.use_urls(A, uses_operator_ca=True, operator_ca=operator_ca)
    await issuer.leaves.obtain("a.test")
    issuer.now = operator_ca.not_after + 1
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await advance(60)
            await issuer.leaves.wait_until_ready()
    assert [line["log_level"] for line in logs] == ["error"]
    with pytest.raises(ProblemError, match="the local CA for this host has expired"):
        await issuer.leaves.obtain("a.test")


async def test_ca_that_tls_cannot_use_is_unavailable(issuer: LeafIssuer) -> None:
    """The error does not repeat the message of the library."""
    broken = replace(authority_of(A, generation=0), served="nonsense", key="nonsense")
    await issuer.use_urls(A, uses_operator_ca=True, operator_ca=broken)
    for _ in range(2):
        with pytest.raises(ProblemError, match="cannot be used for TLS") as refused:
            await issuer.leaves.obtain("a.test")
    assert refusal(refused) == ("ca_unavailable", 502)
    assert refused.value.__cause__ is None


async def test_defect_is_reported_and_the_host_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = LeafIssuer(tmp_path)

    def fail(*_: object) -> LocalAuthority:
        raise ZeroDivisionError

    monkeypatch.setattr(module, "ensure_authorities", fail)
    await issuer.use_urls(A)
    assert [type(defect) for defect in issuer.defects] == [ZeroDivisionError]
    with pytest.raises(ProblemError, match="there is no local CA"):
        await issuer.leaves.obtain("a.test")
    await issuer.leaves.close()


async def test_close_cancels_pending_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    async with issuer_in(tmp_path) as issuer:
        await issuer.use_urls(A)
        monkeypatch.setattr(module, "server_context", _wait_for(release))
        requests = asyncio.create_task(issuer.leaves.obtain("a.test"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        release.set()
        await issuer.leaves.close()
        assert requests.cancelled() or requests.done() or await asyncio.wait([requests])


async def test_key_of_leaves_is_redacted(issuer: LeafIssuer) -> None:
    await issuer.use_urls(A)
    await issuer.leaves.obtain("a.test")
    assert "PRIVATE" not in repr(vars(issuer.leaves))
    assert "BEGIN" not in repr(vars(issuer.leaves))
