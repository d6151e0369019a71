"""The client certificate of one integration: when it is available, and the error otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import structlog

from sidekey.certificates.source import DAY, CertificateSource, format_time
from sidekey.errors import Problem, ProblemError
from sidekey.observe.metrics import Metrics
from support.certificate_files import (
    NOW,
    configured,
    day,
    events,
    expiring_in,
    has_certificate,
    loader_of,
    mount,
    valid_from,
    wall,
)
from support.manual_clock import advance

MISSING = "auth.certificate: tls.crt does not exist; a relative path starts at the config file's folder"

Make = Callable[[], CertificateSource]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def make(tmp_path: Path, metrics: Metrics) -> AsyncIterator[Make]:
    """Return a function that creates the source of the mounted files."""
    sources: list[CertificateSource] = []

    def source() -> CertificateSource:
        created = CertificateSource("bank", loader_of(configured(tmp_path)), metrics, jitter=float, wall_clock=wall)
        sources.append(created)
        created.activate()
        return created

    yield source
    for created in sources:
        await created.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def refusal(source: CertificateSource) -> Problem:
    with pytest.raises(ProblemError) as error:
        await source.obtain()
    problem = error.value.problem
    assert (problem.code, problem.error) == ("credential_unavailable", "proxy_configuration_error")
    return problem


async def test_loaded_certificate_is_available_at_once(make: Make, metrics: Metrics, tmp_path: Path) -> None:
    """A metric has its expiry, and the counter of failures is 0."""
    issued = mount(tmp_path, expiring_in(60))
    with structlog.testing.capture_logs() as lines:
        source = make()
        assert has_certificate(source.identity, issued)
        assert await source.obtain() is source.identity
    assert metrics.expiries == {("bank", "certificate"): NOW.timestamp() + 60 * DAY}
    assert metrics.reload_failures == {("bank", "certificate"): 0}
    assert lines == []
    assert repr(source) == "CertificateSource(bank)"


async def test_unreadable_certificate_is_reported_with_all_reasons(make: Make, metrics: Metrics) -> None:
    """The certificate has no expiry metric."""
    source = make()
    assert source.identity is None
    assert (await refusal(source)).detail.split("; ") == [
        *MISSING.split("; "),
        *MISSING.replace("certificate", "private_key").replace("crt", "key").split("; "),
    ]
    assert metrics.expiries == {}


async def test_next_request_reads_a_new_certificate(make: Make, metrics: Metrics, tmp_path: Path) -> None:
    """Requests cause at most one read a second. A cancelled request does not cancel the read for other requests."""
    source = make()
    await refusal(source)
    issued = mount(tmp_path, expiring_in(60))
    await refusal(source)
    assert metrics.reload_failures["bank", "certificate"] == 0
    await advance(1)
    leaving, *staying = [asyncio.create_task(source.obtain()) for _ in range(5)]
    await asyncio.sleep(0)
    leaving.cancel()
    assert all(has_certificate(identity, issued) for identity in await asyncio.gather(*staying))
    assert source.identity is not None


async def test_expired_certificate_is_not_offered(make: Make, metrics: Metrics, tmp_path: Path) -> None:
    """The expiry is logged once and stays in the metric."""
    issued = mount(tmp_path, expiring_in(0.5))
    source = make()
    with structlog.testing.capture_logs() as lines:
        await advance(DAY / 2 - 1, step=60)
        assert source.identity is not None
        await advance(1)
        assert source.identity is None
        await advance(600, step=60)
        refused = await refusal(source)
        assert refused.detail == f"the client certificate expired on {day(issued)}"
        assert refused.headers == ()
    assert events(lines, "error")[0] == "the client certificate has expired and is not used"
    assert events(lines, "error").count(events(lines, "error")[0]) == 1
    assert metrics.expiries["bank", "certificate"] == NOW.timestamp() + DAY / 2


async def test_request_after_expiry_reads_the_next_certificate(make: Make, tmp_path: Path) -> None:
    """The file watch may have missed the change."""
    mount(tmp_path, expiring_in(0.5))
    source = make()
    await advance(DAY, step=60)
    issued = mount(tmp_path, expiring_in(90))
    assert has_certificate(await source.obtain(), issued)


async def test_expiry_ends_the_back_off(make: Make, tmp_path: Path) -> None:
    """The next request reads the files at once, although an attempt has just failed."""
    old = mount(tmp_path, expiring_in(0.5))
    source = make()
    await advance(DAY / 2 - 0.5, step=60)
    (tmp_path / "tls.crt").write_bytes(expiring_in(90, "other.example").pem)
    assert await source.renew() == 1.0
    assert has_certificate(source.identity, old)
    issued = mount(tmp_path, expiring_in(90))
    await advance(0.5)
    assert source.identity is None
    assert has_certificate(await source.obtain(), issued)


async def test_problem_names_expiry_and_reload_error(make: Make, tmp_path: Path) -> None:
    """The new pair did not match, and then the old certificate expired."""
    issued = mount(tmp_path, expiring_in(0.5))
    source = make()
    (tmp_path / "tls.crt").write_bytes(expiring_in(90, "other.example").pem)
    assert not await source.reload()
    await advance(DAY, step=60)
    detail = (await refusal(source)).detail
    assert detail.startswith(
        f"the client certificate expired on {day(issued)}; auth.private_key: this private key does not belong"
    )


async def test_certificate_is_not_offered_before_its_validity(make: Make, tmp_path: Path) -> None:
    """Once it is valid, it is offered without a restart."""
    issued = mount(tmp_path, valid_from(1))
    source = make()
    detail = "auth.certificate: this certificate is valid only from 2026-06-02 00:00 UTC on"
    assert (await refusal(source)).detail == detail
    await advance(DAY)
    assert has_certificate(await source.obtain(), issued)


async def test_change_of_the_clock_takes_effect_within_a_minute(tmp_path: Path, metrics: Metrics) -> None:
    """The clock may move in both directions."""
    mount(tmp_path, expiring_in(60))
    shift = 0.0
    source = CertificateSource("bank", loader_of(configured(tmp_path)), metrics, wall_clock=lambda: wall() + shift)
    source.activate()
    for shift, usable in ((-2 * DAY, False), (0.0, True), (61 * DAY, False)):
        await advance(60)
        assert (source.identity is not None) is usable
        if shift < 0:
            with pytest.raises(ProblemError, match="valid"):
                await source.obtain()
    await source.close()


@pytest.mark.parametrize(
    ("left", "days"),
    [(60, []), (30, []), (21, [20.0]), (12, [11.0]), (7, [6.0]), (3, [2.0]), (1, [0.0]), (0.25, [0.0])],
)
async def test_activation_warns_of_a_near_expiry(make: Make, left: float, days: list[float], tmp_path: Path) -> None:
    """The warning is logged once, with the remaining whole days."""
    mount(tmp_path, expiring_in(left - 0.001))
    with structlog.testing.capture_logs() as lines:
        make()
        await advance(120, step=60)
    assert [line["days"] for line in lines] == days
    assert events(lines, "warning") == ["the client certificate expires soon"] * len(days)


async def test_warnings_at_twenty_one_seven_and_one_days(make: Make, tmp_path: Path) -> None:
    """Each warning is logged once, within a minute."""
    mount(tmp_path, expiring_in(40))
    make()
    moments: list[float] = []
    with structlog.testing.capture_logs() as lines:
        for _ in range(40 * 24):
            await advance(3600, step=1800)
            moments += [asyncio.get_running_loop().time() / DAY] * (len(lines) - len(moments))
    assert [round(40 - at, 1) for at in moments] == [21.0, 7.0, 1.0, 0.0]
    assert {line["not_after"] for line in lines} == {"2026-07-11T00:00:00Z"}
    assert (events(lines, "warning"), len(events(lines, "error"))) == (["the client certificate expires soon"] * 3, 1)


async def test_new_certificate_replaces_the_old_and_has_its_own_warnings(
    make: Make, metrics: Metrics, tmp_path: Path
) -> None:
    """Loading the same certificate again logs nothing."""
    mount(tmp_path, expiring_in(20))
    source = make()
    issued = mount(tmp_path, expiring_in(10))
    with structlog.testing.capture_logs() as lines:
        assert await source.reload()
        assert await source.reload()
    assert has_certificate(source.identity, issued)
    assert [line["event"] for line in lines] == [
        "the client certificate expires soon",
        "a client certificate was loaded",
    ]
    assert lines[1]["not_after"] == format_time(metrics.expiries["bank", "certificate"]) == "2026-06-11T00:00:00Z"
    assert metrics.reload_failures["bank", "certificate"] == 0


async def test_invalid_certificate_does_not_replace_the_current_one(
    make: Make, metrics: Metrics, tmp_path: Path
) -> None:
    """The error is counted for each change, and logged once."""
    old = mount(tmp_path, expiring_in(60))
    source = make()
    with structlog.testing.capture_logs() as lines:
        (tmp_path / "tls.key").write_bytes(expiring_in(60).key_pem)
        assert not await source.reload()
        assert not await source.reload()
        mount(tmp_path, old)
        assert await source.reload()
    assert has_certificate(source.identity, old)
    assert metrics.reload_failures["bank", "certificate"] == 2
    assert [(line["log_level"], line["event"]) for line in lines] == [
        ("error", "a client certificate could not be loaded"),
        ("info", "the client certificate is valid again"),
    ]
    assert (lines[0]["reason"], lines[0]["old_in_use"]) == (
        "auth.private_key: this private key does not belong to the certificate of CN=client.example",
        True,
    )
