"""Scrapes of the metrics page by HTTP, and the samples on a page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from sidekey.api.listeners import Health, build_metrics
from sidekey.api.server import serve
from sidekey.observe.metrics import Metrics
from sidekey.observe.prometheus import Exposition
from sidekey.snapshot.snapshot import Address

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
"""The Accept field of a scraper that reads nothing else."""

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""Values by name and sorted labels."""


class Scraper:
    """A client of a metrics listener."""

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self.client = client

    async def page(self, fields: Mapping[str, str] | None = None) -> str:
        """Scrape the page once."""
        async with self.client.get("/metrics", headers=fields) as response:
            assert response.status == 200
            return await response.text()


@asynccontextmanager
async def listening(metrics: Metrics) -> AsyncIterator[Scraper]:
    """Serve the metrics on a metrics listener."""
    server = await serve(build_metrics(Health(), Exposition(metrics)), Address(), "listen.metrics")
    async with aiohttp.ClientSession(f"http://{server.addresses[0]}") as client:
        yield Scraper(client)
    await server.close()


async def scrape(metrics: Metrics) -> str:
    """Scrape the metrics once."""
    async with listening(metrics) as scraper:
        return await scraper.page()


def samples(page: str) -> Samples:
    """Parse a page in the text format with Prometheus' own parser."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def value_of(page: str, series_name: str) -> float:
    """Find the value of one series, as in `name{label="x"}` with its labels in any order; 0 where it is absent."""
    ((key, _),) = samples(f"{series_name} 0\n").items()
    return samples(page).get(key, 0.0)


def series(page: str, name: str) -> list[tuple[dict[str, str], float]]:
    """List labels and values of one series, in the order of the page."""
    return [(dict(labels), value) for (series_name, labels), value in samples(page).items() if series_name == name]
