"""Fixtures: the example chart with its dependency, and the objects of each case, rendered once for a worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import helm


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the example chart, with the chart sidekey as a real dependency in its charts/."""
    return helm.with_dependency(tmp_path_factory.mktemp("charts"))


@pytest.fixture(scope="session")
def rendered(example: Path) -> dict[str, list[helm.Object]]:
    """Render the objects of every case."""
    return {case: helm.objects(helm.chart_of(case, example), helm.values_of(case)) for case in helm.cases()}
