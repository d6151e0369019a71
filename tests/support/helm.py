"""Helm 4 in the test's process: lints and renders the charts of this project, without a cluster."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from support import libyaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "sidekey"
EXAMPLE = ROOT / "helm" / "examples" / "webhook-sender"
GATEWAY = ROOT / "helm" / "examples" / "gateway-https"
STORE = ROOT / "helm" / "examples" / "gateway-store"
CASES = ROOT / "tests" / "helm" / "values"
"""Values that the golden files are rendered from: `sidecar*` are of the example chart, the others of the chart."""

OPERATORS = ("cert-manager.io", "external-secrets.io", "monitoring.coreos.com")
"""Groups of the custom resources that are rendered, or are in an example."""

Values = dict[str, Any]
Object = dict[str, Any]


@cache
def library() -> ModuleType:
    """Load Helm at its first use: Go has threads of its own, and hangs without them in a forked process."""
    import helm_python  # noqa: PLC0415 - as above

    return helm_python


def cases() -> list[str]:
    """Return the names of the files in CASES."""
    return sorted(path.stem for path in CASES.glob("*.yaml"))


def values_of(case: str) -> Values:
    """Return the values of a case, read as Helm reads them."""
    values: Values = library().values_from_yaml((CASES / f"{case}.yaml").read_text("utf-8"))
    return values


def sidekey_values(case: str) -> Values:
    """Return the values of the chart sidekey in a case."""
    values: Values = values_of(case)
    return values.get("sidekey", {}) if case.startswith("sidecar") else values


def with_dependency(folder: Path) -> Path:
    """Copy the example chart to `folder`, with the chart in charts/ as after `helm dependency update`."""
    for chart in (CHART, EXAMPLE):
        shutil.copytree(chart, folder / chart.relative_to(ROOT))
    example = folder / EXAMPLE.relative_to(ROOT)
    library().dependency_update(example, skip_refresh=True)
    return example


def chart_of(case: str, example: Path) -> Path:
    """Return the chart for a case's values. `example` is the result of `with_dependency`."""
    return example if case.startswith("sidecar") else CHART


@cache
def _loaded(chart: Path) -> Any:
    """Load a chart, which tests must not change. Helm drops a dependency that values disable, which needs a copy."""
    return library().Chart.load(chart)


_RENDERED: dict[tuple[Path, str, str, str], dict[str, str]] = {}
"""Rendered templates by chart, name, namespace and text of the values."""


def files(chart: Path, values: Values, *, name: str = "demo", namespace: str = "prod") -> dict[str, str]:
    """Render templates that are not blank, by path."""
    key = (chart, name, namespace, json.dumps(values))
    if key not in _RENDERED:
        rendered = _loaded(chart).render(values, name=name, namespace=namespace)
        _RENDERED[key] = {path: text.strip() for path, text in sorted(rendered.items()) if text.strip()}
    return dict(_RENDERED[key])


def manifests(chart: Path, values: Values, *, name: str = "demo", namespace: str = "prod") -> dict[str, str]:
    """Render templates without the notes, which are for people."""
    return _without_notes(files(chart, values, name=name, namespace=namespace))


def _without_notes(rendered: dict[str, str]) -> dict[str, str]:
    return {path: text for path, text in rendered.items() if not path.endswith("NOTES.txt")}


def objects(chart: Path, values: Values, *, name: str = "demo", namespace: str = "prod") -> list[Object]:
    """Return every rendered object."""
    return parsed(files(chart, values, name=name, namespace=namespace))


def parsed(rendered: dict[str, str]) -> list[Object]:
    """Parse the objects of the rendered files."""
    return deepcopy([item for text in _without_notes(rendered).values() for item in _read(text)])


@cache
def _read(text: str) -> list[Object]:
    """Parse the objects of a text, cached: most texts, such as a dashboard, do not depend on the values."""
    return [document for document in libyaml.load_all(text) if document is not None]


def text_of(items: list[Object]) -> str:
    """Format objects as one manifest. JSON is YAML."""
    return "\n---\n".join(json.dumps(item) for item in items)


def distinct(items: Iterable[Object]) -> list[Object]:
    """Drop duplicates: most cases differ in a few objects."""
    return list({json.dumps(item, sort_keys=True): item for item in items}.values())


def documents(path: Path) -> list[Object]:
    """Parse the objects of a manifest."""
    return [document for document in libyaml.load_all(path.read_text("utf-8")) if document is not None]


def refusal(chart: Path, values: Values) -> str:
    """Return the message that refuses these values."""
    try:
        files(chart, values)
    except library().HelmError as error:
        return str(error)
    raise AssertionError("these values are taken")


def lint(chart: Path, values: Values) -> list[str]:
    """Return the findings of `helm lint --strict`."""
    report = library().lint(chart, values, strict=True)
    messages = [f"{message['path']}: {message['error']}" for message in report["messages"] if message["severity"] >= 2]
    return [*messages, *report["errors"]]


def is_built_in(item: Object) -> bool:
    """Return True if the kind of an object is built into Kubernetes."""
    return item["apiVersion"].partition("/")[0] not in OPERATORS


def of_kind(items: list[Object], kind: str) -> list[Object]:
    """Return the objects of a kind."""
    return [item for item in items if item["kind"] == kind]


def only(items: list[Object], kind: str, name: str | None = None) -> Object:
    """Return the only object of a kind, or of a kind and name."""
    (item,) = [item for item in of_kind(items, kind) if name in (None, item["metadata"]["name"])]
    return item


def readme_block(word: str) -> str:
    """Return the only YAML block of the chart's README that contains a word."""
    text = (CHART / "README.md").read_text("utf-8")
    blocks: list[str] = re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S)
    (match,) = [block for block in blocks if word in block]
    return match


def pods(items: list[Object]) -> Iterator[tuple[str, Object]]:
    """Return every pod spec, with the kind and name of the pod or of the object with its template."""
    for item in items:
        template = item if item["kind"] == "Pod" else item.get("spec", {}).get("template", {})
        if isinstance(template, dict) and "containers" in template.get("spec", {}):
            yield f"{item['kind']} {item['metadata']['name']}", template["spec"]


def containers(pod: Object) -> list[Object]:
    """Return all containers of a pod spec, including init containers and sidecars."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def sidekey_of(pod: Object) -> Object:
    """Return Sidekey's container of a pod spec."""
    return next(container for container in containers(pod) if container["name"] == "sidekey")


def config_of(items: list[Object]) -> str:
    """Return Sidekey's config from the running Sidekey's ConfigMap."""
    maps = [config_map for config_map in of_kind(items, "ConfigMap") if "annotations" not in config_map["metadata"]]
    (text,) = [config_map["data"]["sidekey.yaml"] for config_map in maps if "sidekey.yaml" in config_map["data"]]
    return str(text)
