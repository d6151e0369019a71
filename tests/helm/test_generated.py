"""What is generated is current: the schema of values, golden files, the README's table, the plain manifest."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import sidekey
from support import helm
from tools import charts, values_schema


@pytest.mark.parametrize("case", helm.cases())
def test_each_case_renders_its_golden_file(case: str, example: Path) -> None:
    """A change of the templates shows what it changes; `make charts` takes it over."""
    assert charts.golden(case, example) == (charts.GOLDEN / f"{case}.yaml").read_text("utf-8")


def test_each_golden_file_has_its_case() -> None:
    """None is left behind."""
    assert sorted(path.stem for path in charts.GOLDEN.glob("*")) == helm.cases()


def test_the_charts_have_the_version_of_the_package() -> None:
    """After a change of `sidekey.__version__`, `make charts` must run."""
    stale = [
        str(path) for path, before in charts.VERSIONS if f"{before}{sidekey.__version__}" not in path.read_text("utf-8")
    ]
    assert stale == []


def test_the_schema_of_values_is_current() -> None:
    """It holds the config's own: a key more there is one here."""
    assert values_schema.TARGET.read_text("utf-8") == values_schema.render()


def test_the_table_of_values_is_current() -> None:
    """The README says of each value what values.yaml says."""
    assert charts.README.read_text("utf-8") == charts.readme()


def test_the_table_has_every_value() -> None:
    """No value without its row: each stands there, or all that it holds."""

    def keys(values: helm.Values, prefix: str = "") -> set[str]:
        named = {f"{prefix}{key}": value for key, value in values.items()}
        return {
            name
            for key, value in named.items()
            for name in (keys(value, f"{key}.") if key not in described and isinstance(value, dict) else {key})
        }

    described = {key for key, _, _ in charts.described_values()}
    assert keys(yaml.safe_load((helm.CHART / "values.yaml").read_text("utf-8"))) == described


def test_the_plain_manifest_is_current(example: Path) -> None:
    """Who uses no Helm gets what the example chart renders."""
    assert charts.PLAIN.read_text("utf-8") == charts.plain(example)


def test_the_plain_manifest_names_no_helm() -> None:
    """Neither hooks nor labels of Helm's, which would make it take the objects for its own."""
    for found in yaml.safe_load_all(charts.PLAIN.read_text("utf-8")):
        assert "annotations" not in found["metadata"]
        assert not set(charts.HELM_LABELS) & found["metadata"]["labels"].keys()
