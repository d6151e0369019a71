"""Generated files are current: the schema of values, golden files, the README's table, the plain manifest."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import sidekey
from support import helm
from tools import charts, values_schema


@pytest.mark.parametrize("case", helm.cases())
def test_each_case_renders_its_golden_file(case: str, example: Path) -> None:
    """`make charts` updates the files, so that a review shows the effect of a changed template."""
    assert charts.golden(case, example) == (charts.GOLDEN / f"{case}.yaml").read_text("utf-8")


def test_each_golden_file_has_its_case() -> None:
    assert sorted(path.stem for path in charts.GOLDEN.glob("*")) == helm.cases()


def test_charts_have_the_version_of_the_package() -> None:
    """Run `make charts` after a change of `sidekey.__version__`."""
    stale = [
        str(path) for path, prefix in charts.VERSIONS if f"{prefix}{sidekey.__version__}" not in path.read_text("utf-8")
    ]
    assert stale == []


def test_schema_of_values_is_current() -> None:
    """It contains the schema of the config."""
    assert values_schema.TARGET.read_text("utf-8") == values_schema.render()


def test_table_of_values_is_current() -> None:
    """The README has the comments of values.yaml."""
    assert charts.README.read_text("utf-8") == charts.readme()


def test_table_has_a_row_for_every_value() -> None:
    """A mapping may have a row instead of its values."""

    def keys(values: helm.Values, prefix: str = "") -> set[str]:
        named = {f"{prefix}{key}": value for key, value in values.items()}
        return {
            name
            for key, value in named.items()
            for name in (keys(value, f"{key}.") if key not in described and isinstance(value, dict) else {key})
        }

    described = {key for key, _, _ in charts.described_values()}
    assert keys(yaml.safe_load((helm.CHART / "values.yaml").read_text("utf-8"))) == described


def test_plain_manifest_is_current(example: Path) -> None:
    """People without Helm use the objects of the example chart."""
    assert charts.PLAIN.read_text("utf-8") == charts.plain(example)


def test_plain_manifest_has_no_hooks_and_labels_of_helm() -> None:
    """With them, Helm would take over the objects."""
    for resource in yaml.safe_load_all(charts.PLAIN.read_text("utf-8")):
        assert "annotations" not in resource["metadata"]
        assert not set(charts.HELM_LABELS) & resource["metadata"]["labels"].keys()
