"""Helm 4 in the test's own process: lints and renders the charts of this project, no cluster needed.

`helm-python-sdk` is Helm's own library. An *object* is one Kubernetes object as it is rendered, a dict.

Helm compiles the chart's schema again for each render, which takes three times as long as the render. Outside CI,
values that a validator in Python finds valid are rendered without the schema, and Helm judges many values in one call.
"""

from __future__ import annotations

import json
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
    """Helm, loaded where it is first used: Go has threads of its own, without which it hangs in a forked process."""
    import helm_python  # noqa: PLC0415 - as above

    return helm_python


def cases() -> list[str]:
    """The names of the files in CASES."""
    return sorted(path.stem for path in CASES.glob("*.yaml"))


def values_of(case: str) -> Values:
    """The values of a case, read as Helm reads them."""
    values: Values = library().values_from_yaml((CASES / f"{case}.yaml").read_text("utf-8"))
    return values


def sidekey_values(case: str) -> Values:
    """Of those, the ones that the chart sidekey gets."""
    values: Values = values_of(case)
    return values.get("sidekey", {}) if case.startswith("sidecar") else values


def with_dependency(folder: Path) -> Path:
    """A copy of the example chart in `folder`, with the chart in charts/ where `helm dependency update` puts it."""
    for chart in (CHART, EXAMPLE):
        shutil.copytree(chart, folder / chart.relative_to(ROOT))
    example = folder / EXAMPLE.relative_to(ROOT)
    library().dependency_update(example, skip_refresh=True)
    return example


def chart_of(case: str, example: Path) -> Path:
    """The chart that a case's values are for; `example` is what `with_dependency` made."""
    return example if case.startswith("sidecar") else CHART


@cache
def _loaded(chart: Path) -> Any:
    """A chart; no test writes into one. Helm drops a dependency that values disable for good, so that needs a copy."""
    return library().Chart.load(chart)


_RENDERED: dict[tuple[Path, str, str, str], dict[str, str]] = {}
"""What was rendered, by the chart, the name, the namespace, and the text of the values."""


def files(chart: Path, values: Values, *, name: str = "demo", namespace: str = "prod") -> dict[str, str]:
    """What is rendered, by the template's path; nothing that is blank."""
    key = (chart, name, namespace, json.dumps(values))
    if key not in _RENDERED:
        rendered = _loaded(chart).render(values, name=name, namespace=namespace)
        _RENDERED[key] = {path: text.strip() for path, text in sorted(rendered.items()) if text.strip()}
    return dict(_RENDERED[key])


def manifests(chart: Path, values: Values, *, name: str = "demo", namespace: str = "prod") -> dict[str, str]:
    """The same without the notes, which are for people."""
    return _without_notes(files(chart, values, name=name, namespace=namespace))


def _without_notes(rendered: dict[str, str]) -> dict[str, str]:
    return {path: text for path, text in rendered.items() if not path.endswith("NOTES.txt")}


def objects(chart: Path, values: Values, *, name: str = "demo", namespace: str = "prod") -> list[Object]:
    """Every object that is rendered."""
    return parsed(files(chart, values, name=name, namespace=namespace))


def parsed(rendered: dict[str, str]) -> list[Object]:
    """The objects of what `files` rendered."""
    return deepcopy([found for text in _without_notes(rendered).values() for found in _read(text)])


@cache
def _read(text: str) -> list[Object]:
    """The objects of a text. Most of what is rendered, a dashboard with it, comes again with other values."""
    return [found for found in libyaml.load_all(text) if found is not None]


def text_of(found: list[Object]) -> str:
    """They as one manifest. What is JSON is YAML."""
    return "\n---\n".join(json.dumps(each) for each in found)


def distinct(found: Iterable[Object]) -> list[Object]:
    """Each of them once: most cases differ in a few objects."""
    return list({json.dumps(each, sort_keys=True): each for each in found}.values())


def documents(path: Path) -> list[Object]:
    """The objects of a manifest."""
    return [found for found in libyaml.load_all(path.read_text("utf-8")) if found is not None]


def refusal(chart: Path, values: Values) -> str:
    """The message with which these values are refused."""
    try:
        files(chart, values)
    except library().HelmError as error:
        return str(error)
    raise AssertionError("these values are taken")


def lint(chart: Path, values: Values) -> list[str]:
    """What `helm lint --strict` objects to."""
    report = library().lint(chart, values, strict=True)
    messages = [f"{found['path']}: {found['error']}" for found in report["messages"] if found["severity"] >= 2]
    return [*messages, *report["errors"]]


def is_built_in(found: Object) -> bool:
    """Whether Kubernetes knows the kind of an object by itself, not an operator."""
    return found["apiVersion"].partition("/")[0] not in OPERATORS


def of_kind(found: list[Object], kind: str) -> list[Object]:
    """Those of one kind."""
    return [each for each in found if each["kind"] == kind]


def pods(found: list[Object]) -> Iterator[tuple[str, Object]]:
    """Every pod spec, with the kind and name of the pod, or of the object that holds its template."""
    for each in found:
        template = each if each["kind"] == "Pod" else each.get("spec", {}).get("template", {})
        if isinstance(template, dict) and "containers" in template.get("spec", {}):
            yield f"{each['kind']} {each['metadata']['name']}", template["spec"]


def containers(pod: Object) -> list[Object]:
    """All containers of a pod spec, init containers and sidecars with them."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def sidekey_of(pod: Object) -> Object:
    """The container of a pod spec that is Sidekey itself."""
    return next(container for container in containers(pod) if container["name"] == "sidekey")


def config_of(found: list[Object]) -> str:
    """Sidekey's config, as the running Sidekey's ConfigMap holds it."""
    maps = [each for each in of_kind(found, "ConfigMap") if "annotations" not in each["metadata"]]
    (text,) = [each["data"]["sidekey.yaml"] for each in maps if "sidekey.yaml" in each["data"]]
    return str(text)
