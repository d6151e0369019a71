"""Pack the chart of a release: `pack_chart.py FOLDER`.

SIDEKEY_IMAGE is the image that the release publishes, with its registry and without tag; the packed chart runs it by
default. Without it users must set `image.repository`, as in the checkout. SIDEKEY_REPOSITORY_URL is the address of the
repository, to which the chart's links lead. Without it there are none.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import yaml
from helm_python import Chart

CHART = Path(__file__).parents[1] / "helm" / "sidekey"
EMPTY = '\n  repository: ""\n'


def links(address: str, version: str) -> dict[str, str | list[str]]:
    """Return the links for Chart.yaml; files are those of the version's tag."""
    return {"home": address, "sources": [address], "icon": f"{address}/raw/v{version}/docs/images/icon.svg"}


def main(folder: str) -> None:
    """Write the archive into the folder."""
    image = os.environ.get("SIDEKEY_IMAGE", "")
    address = os.environ.get("SIDEKEY_REPOSITORY_URL", "").rstrip("/")
    with tempfile.TemporaryDirectory() as scratch:
        chart = Path(scratch, CHART.name)
        shutil.copytree(CHART, chart)
        values = chart / "values.yaml"
        before, empty, after = values.read_text("utf-8").partition(EMPTY)
        if not empty or EMPTY in after:
            sys.exit(f"{values.relative_to(scratch)} must contain the line {EMPTY.strip()} once, below `image`")
        values.write_text(f'{before}\n  repository: "{image}"\n{after}', "utf-8")
        if address:
            metadata = chart / "Chart.yaml"
            text = metadata.read_text("utf-8")
            metadata.write_text(text + yaml.safe_dump(links(address, yaml.safe_load(text)["version"])), "utf-8")
        Chart.load(chart).save(folder)


if __name__ == "__main__":
    main(sys.argv[1])
