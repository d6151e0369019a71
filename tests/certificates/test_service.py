"""The certificate sources of a process: reading, fetching, reloading, and changes of the config."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from sidekey.certificates.fetch import TIMEOUT
from sidekey.certificates.service import Certificates
from sidekey.certificates.source import CertificateSource
from sidekey.errors import ProblemError
from sidekey.network.dial import Dialer
from sidekey.network.fetch import LAST_LOOK, Fetcher
from sidekey.observe.metrics import Metrics
from sidekey.snapshot.certificate_loader import CertificateLoader, CertificateResult
from sidekey.snapshot.snapshot import Integration, Snapshot
from support.certificate_files import bank, configured, events, has_certificate, mount, valid_now
from support.certificates import IssuedCertificate
from support.dialling import RULES
from support.manual_clock import advance
from support.private_ca import Authority
from support.raw_connection import DEADLINE, RawConnection
from support.upstream import RawUpstream

SERIES = ("bank", "certificate")
HOUR = 3600.0


class CertificateServer:
    """The script of an https server that returns the current PEM with its ETag, or an error status."""

    def __init__(self, issued: IssuedCertificate) -> None:
        self.issued = issued
        self.status = 200
        self.open = asyncio.Event()
        """Responses wait for this event."""
        self.open.set()
        self.statuses: list[int] = []

    async def script(self, connection: RawConnection) -> None:
        request = await connection.request()
        await self.open.wait()
        body = self.issued.pem + self.issued.key_pem
        tag = b'"%d"' % self.issued.certificate.serial_number
        status = 304 if self.status == 200 and request.values(b"if-none-match") == [tag] else self.status
        self.statuses.append(status)
        body = body if status == 200 else b""
        head = b"HTTP/1.1 %d x\r\nETag: %b\r\nContent-Length: %d\r\n\r\n" % (status, tag, len(body))
        await connection.send(head + body)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that threads and sockets change. The clock of the loop does not move meanwhile."""
    for _ in range(20_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("the condition is not true in time")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def certificates(metrics: Metrics) -> AsyncIterator[Certificates]:
    """Run a service, and check that it leaves no task behind."""
    service = Certificates(Fetcher(Dialer(RULES), 16), metrics, lambda defect: "d1")
    yield service
    await service.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.fixture
async def certificate_server(ca: Authority) -> AsyncIterator[tuple[CertificateServer, int]]:
    """Run the server, and return it with its port."""
    server = CertificateServer(valid_now())
    async with RawUpstream(server.script, ssl_context=ca.server_context("up.test")) as upstream:
        yield server, upstream.port


def by_url(folder: Path, ca: Authority, port: int) -> Integration:
    keys = f"pem: {{url: 'https://up.test:{port}/pem'}}, refresh: 1h"
    more = f"network: {{trusted_ca: {{file: {ca.bundle}}}}}"
    return bank(configured(folder, keys, more=more))


def source_of(certificates: Certificates, integration: Integration) -> CertificateSource:
    source = certificates.source(integration)
    assert source is not None
    return source


async def test_each_integration_has_one_source_or_none(certificates: Certificates, tmp_path: Path) -> None:
    mount(tmp_path, valid_now())
    integration = bank(configured(tmp_path, now=time.time()))
    source = source_of(certificates, integration)
    assert source.identity is not None
    assert certificates.source(integration) is source
    assert certificates.source(replace(integration, id="other", certificate=None)) is None


def adopt(certificates: Certificates, *integrations: Integration) -> None:
    """Publish these integrations."""
    certificates.prepare(Snapshot(integrations={integration.id: integration for integration in integrations}))()


async def test_expiry_metric_exists_from_the_start(
    certificates: Certificates, metrics: Metrics, tmp_path: Path
) -> None:
    mount(tmp_path, valid_now())
    integration = bank(configured(tmp_path, now=time.time()))
    adopt(certificates, integration, replace(integration, id="none", certificate=None))
    assert set(metrics.expiries) == set(metrics.reload_failures) == {SERIES}
    assert certificates.watched_files() == {tmp_path / "tls.crt", tmp_path / "tls.key"}


class BrokenLoader(CertificateLoader):
    """A loader that raises while the service prepares its source."""

    @property
    def pending(self) -> bool:
        raise ZeroDivisionError


async def test_error_in_prepare_changes_nothing(
    certificates: Certificates,
    metrics: Metrics,
    certificate_server: tuple[CertificateServer, int],
    ca: Authority,
    tmp_path: Path,
) -> None:
    """The sources that were created before the error leave no metric, task or log line."""
    mount(tmp_path, valid_now())
    previous, following = (bank(configured(tmp_path, now=time.time())) for _ in range(2))
    adopt(certificates, previous)
    source = source_of(certificates, previous)
    before = dict(metrics.expiries), dict(metrics.reload_failures), certificates.watched_files(), asyncio.all_tasks()
    more = replace(by_url(tmp_path, ca, certificate_server[1]), id="url")
    broken = replace(following, id="broken", certificate=BrokenLoader(lambda fetched, now: CertificateResult(None)))
    with structlog.testing.capture_logs() as lines, pytest.raises(ZeroDivisionError):
        certificates.prepare(
            Snapshot(integrations={integration.id: integration for integration in (following, more, broken)})
        )
    await advance(1, step=1)
    assert lines == []
    assert source_of(certificates, previous) is source
    assert source.identity is not None
    assert before == (metrics.expiries, metrics.reload_failures, certificates.watched_files(), asyncio.all_tasks())
    assert certificate_server[0].statuses == []


async def test_commit_switches_all_sources_at_once(
    certificates: Certificates,
    metrics: Metrics,
    certificate_server: tuple[CertificateServer, int],
    ca: Authority,
    tmp_path: Path,
) -> None:
    """The previous source retires. The service fetches certificates of new sources."""
    mount(tmp_path, valid_now())
    previous = bank(configured(tmp_path, now=time.time()))
    adopt(certificates, previous)
    source = source_of(certificates, previous)
    before = dict(metrics.expiries), dict(metrics.reload_failures), certificates.watched_files(), asyncio.all_tasks()
    longer = mount(tmp_path, valid_now("longer"))
    following = bank(configured(tmp_path, now=time.time()))
    more = replace(by_url(tmp_path, ca, certificate_server[1]), id="url")
    commit = certificates.prepare(Snapshot(integrations={"bank": following, "url": more}))
    await advance(1, step=1)
    assert source_of(certificates, previous) is source
    assert before == (metrics.expiries, metrics.reload_failures, certificates.watched_files(), asyncio.all_tasks())
    commit()
    assert has_certificate(source_of(certificates, following).identity, longer)
    assert metrics.expiries == {SERIES: longer.certificate.not_valid_after_utc.timestamp()}
    assert metrics.reload_failures == {SERIES: 0, ("url", "certificate"): 0}
    await until(lambda: has_certificate(source_of(certificates, more).identity, certificate_server[0].issued))
    # The retired source no longer changes metrics.
    (tmp_path / "tls.crt").unlink()
    assert not await source.reload()
    assert metrics.reload_failures[SERIES] == 0


async def test_defect_in_one_source_does_not_stop_the_others(metrics: Metrics, tmp_path: Path) -> None:
    defects: list[BaseException] = []

    def report(defect: BaseException) -> str:
        defects.append(defect)
        return "d1"

    def broken(fetched: object, now: float) -> CertificateResult:
        raise ZeroDivisionError

    certificates = Certificates(Fetcher(Dialer(RULES), 16), metrics, report)
    mount(tmp_path, valid_now())
    integration = bank(configured(tmp_path, now=time.time()))
    loader = CertificateLoader(broken, files=(tmp_path / "tls.crt",))
    adopt(certificates, replace(integration, id="broken", certificate=loader), integration)
    rotated = mount(tmp_path, valid_now("rotated"))
    await certificates.reload_changed({tmp_path / "tls.crt"})
    assert has_certificate(source_of(certificates, integration).identity, rotated)
    assert [type(defect) for defect in defects] == [ZeroDivisionError]
    await certificates.close()


async def test_unchanged_integration_keeps_its_source(certificates: Certificates, tmp_path: Path) -> None:
    mount(tmp_path, valid_now())
    integration = bank(configured(tmp_path, now=time.time()))
    adopt(certificates, integration)
    source = source_of(certificates, integration)
    adopt(certificates, integration, replace(integration, id="none", certificate=None))
    assert source_of(certificates, integration) is source


async def test_changed_integration_gets_a_new_source(
    certificates: Certificates, metrics: Metrics, tmp_path: Path
) -> None:
    """The counter of failures continues."""
    mount(tmp_path, valid_now())
    previous = bank(configured(tmp_path, now=time.time()))
    adopt(certificates, previous)
    old = source_of(certificates, previous)
    metrics.reload_failures[SERIES] = 3
    longer = mount(tmp_path, valid_now("longer"))
    following = bank(configured(tmp_path, now=time.time()))
    adopt(certificates, following)
    new = source_of(certificates, following)
    assert new is not old
    assert has_certificate(new.identity, longer)
    assert metrics.expiries[SERIES] == longer.certificate.not_valid_after_utc.timestamp()
    assert metrics.reload_failures[SERIES] == 3
    (tmp_path / "tls.crt").unlink()
    assert not await old.reload()
    assert metrics.reload_failures[SERIES] == 3


@pytest.mark.parametrize("stays", [True, False])
async def test_removed_certificate_has_no_metrics(
    certificates: Certificates, metrics: Metrics, tmp_path: Path, stays: bool
) -> None:
    """The integration may stay or be removed."""
    mount(tmp_path, valid_now())
    integration = bank(configured(tmp_path, now=time.time()))
    adopt(certificates, integration)
    adopt(certificates, *[replace(integration, certificate=None)][: int(stays)])
    assert (metrics.expiries, metrics.reload_failures, certificates.watched_files()) == ({}, {}, set())


async def test_retired_source_serves_requests_in_flight_without_warnings(
    certificates: Certificates, tmp_path: Path
) -> None:
    """The retired source has its certificate until it expires."""
    mount(tmp_path, valid_now())
    integration = bank(configured(tmp_path, now=time.time()))
    adopt(certificates, integration)
    source = source_of(certificates, integration)
    with structlog.testing.capture_logs() as lines:
        adopt(certificates)
        source._wall_clock = lambda: time.time() + 365 * 86_400.0
        await advance(60, step=60)
    assert source.identity is None
    assert lines == []


async def test_retired_source_is_freed_with_its_last_user(certificates: Certificates, tmp_path: Path) -> None:
    """The timer of the source must not keep it alive."""
    mount(tmp_path, valid_now())
    integration = bank(configured(tmp_path, now=time.time()))
    adopt(certificates, integration)
    reference = weakref.ref(source_of(certificates, integration))
    gc.disable()
    try:
        adopt(certificates)
        assert reference() is None
    finally:
        gc.enable()


async def test_running_fetch_continues_after_a_change(
    certificates: Certificates, certificate_server: tuple[CertificateServer, int], ca: Authority, tmp_path: Path
) -> None:
    """Waiting requests get its result. Only the new source fetches again."""
    server, port = certificate_server
    server.open.clear()
    previous, following = by_url(tmp_path, ca, port), by_url(tmp_path, ca, port)
    adopt(certificates, previous)
    old = source_of(certificates, previous)
    waiting = asyncio.create_task(old.obtain())
    await advance(0.1, step=0.1)
    adopt(certificates, following)
    server.open.set()
    assert has_certificate(await waiting, server.issued)
    new = source_of(certificates, following)
    await until(lambda: new.identity is not None)
    assert server.statuses == [200, 200]
    server.issued = valid_now("rotated")
    await advance(HOUR, step=60)
    await until(lambda: has_certificate(new.identity, server.issued))
    assert server.statuses == [200, 200, 200]
    assert not has_certificate(old.identity, server.issued)


async def test_close_cancels_the_call_of_a_retired_source(
    certificates: Certificates, certificate_server: tuple[CertificateServer, int], ca: Authority, tmp_path: Path
) -> None:
    server, port = certificate_server
    server.open.clear()
    integration = by_url(tmp_path, ca, port)
    adopt(certificates, integration)
    waiting = asyncio.create_task(source_of(certificates, integration).obtain())
    await advance(0.1, step=0.1)
    adopt(certificates)
    await certificates.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_url_is_fetched_at_the_start(
    certificates: Certificates,
    metrics: Metrics,
    certificate_server: tuple[CertificateServer, int],
    ca: Authority,
    tmp_path: Path,
) -> None:
    """Early requests wait for the same call."""
    server, port = certificate_server
    integration = by_url(tmp_path, ca, port)
    server.open.clear()
    adopt(certificates, integration)
    source = source_of(certificates, integration)
    waiting = [asyncio.create_task(source.obtain()) for _ in range(5)]
    await advance(0.1, step=0.1)
    server.open.set()
    assert all(has_certificate(identity, server.issued) for identity in await asyncio.gather(*waiting))
    assert server.statuses == [200]
    assert metrics.expiries[SERIES] == server.issued.certificate.not_valid_after_utc.timestamp()


async def test_url_is_fetched_again_when_due(
    certificates: Certificates,
    metrics: Metrics,
    certificate_server: tuple[CertificateServer, int],
    ca: Authority,
    tmp_path: Path,
) -> None:
    """A 304 keeps the certificate."""
    server, port = certificate_server
    integration = by_url(tmp_path, ca, port)
    adopt(certificates, integration)
    source = source_of(certificates, integration)
    await until(lambda: source.identity is not None)
    first = source.identity
    await advance(HOUR, step=HOUR)
    await until(lambda: server.statuses == [200, 304])
    await until(lambda: asyncio.all_tasks() - {asyncio.current_task()} != set())
    assert source.identity is first
    server.issued = valid_now("rotated")
    await advance(HOUR, step=60)
    await until(lambda: has_certificate(source.identity, server.issued))
    assert metrics.reload_failures[SERIES] == 0


async def test_failed_fetch_keeps_the_certificate_and_is_retried_soon(
    certificates: Certificates,
    metrics: Metrics,
    certificate_server: tuple[CertificateServer, int],
    ca: Authority,
    tmp_path: Path,
) -> None:
    """The failure is logged and counted once. Sidekey retries after 1, 2 and 4 seconds."""
    server, port = certificate_server
    integration = by_url(tmp_path, ca, port)
    with structlog.testing.capture_logs() as lines:
        adopt(certificates, integration)
        source = source_of(certificates, integration)
        await until(lambda: source.identity is not None)
        first, server.status = source.identity, 503
        for failures, seconds in enumerate((HOUR, 1, 2), 1):
            await advance(seconds, step=60)
            await until(lambda count=failures: server.statuses == [200, *[503] * count])  # type: ignore[misc]
            await until(lambda: metrics.reload_failures[SERIES] == 1)
        assert source.identity is first
        server.status, server.issued = 200, valid_now("rotated")
        await advance(4, step=60)
        await until(lambda: has_certificate(source.identity, server.issued))
    assert server.statuses == [200, 503, 503, 503, 200]
    assert events(lines, "error") == ["a client certificate could not be loaded"]
    assert [line["reason"] for line in lines if "reason" in line] == ["auth.pem: the server returned 503"]
    assert events(lines, "info")[-2:] == ["the client certificate is valid again", "a client certificate was loaded"]


async def test_304_after_a_failed_fetch_ends_the_failure(
    certificates: Certificates, certificate_server: tuple[CertificateServer, int], ca: Authority, tmp_path: Path
) -> None:
    server, port = certificate_server
    integration = by_url(tmp_path, ca, port)
    with structlog.testing.capture_logs() as lines:
        adopt(certificates, integration)
        source = source_of(certificates, integration)
        await until(lambda: source.identity is not None)
        first, server.status = source.identity, 503
        await advance(HOUR, step=HOUR)
        await until(lambda: events(lines, "error") == ["a client certificate could not be loaded"])
        server.status = 200
        await advance(1, step=1)
        await until(lambda: events(lines, "info")[-1:] == ["the client certificate is valid again"])
    assert server.statuses == [200, 503, 304]
    assert source.identity is first


async def test_problem_of_a_missing_certificate_has_retry_after(
    certificates: Certificates, certificate_server: tuple[CertificateServer, int], ca: Authority, tmp_path: Path
) -> None:
    """Requests until then cause no call."""
    server, port = certificate_server
    server.status = 404
    source = source_of(certificates, by_url(tmp_path, ca, port))
    for _ in range(3):
        with pytest.raises(ProblemError) as failed:
            await source.obtain()
        assert failed.value.problem.detail == "auth.pem: the server returned 404"
        assert failed.value.problem.headers == (("Retry-After", "1"),)
    assert server.statuses == [404]
    server.status = 200
    await advance(1, step=1)
    assert has_certificate(await source.obtain(), server.issued)


async def test_fetched_certificate_is_checked_like_a_file(
    certificates: Certificates,
    metrics: Metrics,
    certificate_server: tuple[CertificateServer, int],
    ca: Authority,
    tmp_path: Path,
) -> None:
    server, port = certificate_server
    server.issued = replace(valid_now(), key=valid_now().key)
    source = source_of(certificates, by_url(tmp_path, ca, port))
    with pytest.raises(ProblemError, match="this private key does not belong to the certificate"):
        await source.obtain()
    assert metrics.reload_failures[SERIES] == 1


async def test_close_cancels_a_running_call(
    certificates: Certificates, certificate_server: tuple[CertificateServer, int], ca: Authority, tmp_path: Path
) -> None:
    """Waiting requests are cancelled, too."""
    server, port = certificate_server
    server.open.clear()
    integration = by_url(tmp_path, ca, port)
    adopt(certificates, integration)
    waiting = asyncio.create_task(source_of(certificates, integration).obtain())
    await advance(0.1, step=0.1)
    await certificates.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_fetch_times_out_after_ten_seconds(
    certificates: Certificates, certificate_server: tuple[CertificateServer, int], ca: Authority, tmp_path: Path
) -> None:
    server, port = certificate_server
    server.open.clear()
    waiting = asyncio.create_task(source_of(certificates, by_url(tmp_path, ca, port)).obtain())
    await until(lambda: not waiting.done())
    await advance(TIMEOUT, step=1)
    await advance(LAST_LOOK)
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(ProblemError, match="did not respond in time"):
            await waiting
