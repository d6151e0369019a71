"""The charts and their objects pass linters and schemas."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from yamllint import linter
from yamllint.config import YamlLintConfig

from support import helm, kubeschema, programs
from tools import charts

CRDS = Path(__file__).parents[1] / "peers" / "crds"
CHECKOV = CRDS.with_name("checkov")
VERSIONS = kubeschema.versions("1.29")
YAML = """
extends: default
rules:
  braces: disable            # {} is written without blanks, as Helm does
  comments-indentation: disable
  document-start: disable
  indentation: {indent-sequences: whatever}    # toYaml does not indent lists
  line-length: {max: 160, allow-non-breakable-inline-mappings: true}
  truthy: {check-keys: false}
"""
YAMLLINT = YamlLintConfig(YAML)
SUPPRESSED = {
    # Sidekey has one event loop, so it uses at most one core. Throttling would delay every request.
    ("CKV_K8S_11", "CPU limits should be set"): "",
    # Each user builds the image, so the chart cannot know its digest. image.digest sets it.
    ("CKV_K8S_43", "Image should use digest"): "",
    # A version is built once. With Always, pods could not start while the registry is unavailable.
    ("CKV_K8S_15", "Image Pull Policy should be Always"): "",
    # The chart mounts files. Variables are those of the value `env`, and the service's own caller token.
    ("CKV_K8S_35", "Prefer using secrets as files over secrets as environment variables"): (
        "gateway-teams|sidecar-https?-proxy|sidecar-secrets|sidecar-store|/caller.json"
    ),
    # In gateway-bare and gateway-claim the platform chooses the user, as OpenShift requires.
    ("CKV_K8S_40", "Containers should run as a high UID to avoid host conflict"): "gateway-bare|gateway-claim",
    # The config check opens no connection, and the test only one to the Service. Both are short. gateway-bare is
    # the case without a policy.
    ("CKV2_K8S_6", "Minimize the admission of pods which lack an associated NetworkPolicy"): (
        r"config-check|Pod\.prod\..*-test|gateway-bare"
    ),
    # The pod of `helm test` only sends one request.
    ("CKV_K8S_8", "Liveness Probe Should be Configured"): r"Pod\.prod\..*-test",
    ("CKV_K8S_9", "Readiness Probe Should be Configured"): r"Pod\.prod\..*-test",
}
"""Accepted findings of checkov: a pattern of their places, empty for all, by ID and title of the check."""

MANIFESTS = [charts.PLAIN, *helm.GATEWAY.glob("c*.yaml")]
"""Manifests that people apply without Helm."""

MONITOR = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": {"name": "x"}}
WRONG_SPECS: list[helm.Values] = [
    {"selector": {}, "podMetricsEndpoints": [{"port": 15091}]},  # a wrong type
    {"selector": {}, "podMetricsEndpoint": []},  # an unknown key
]


@pytest.mark.parametrize("case", helm.cases())
def test_helm_lint_finds_no_error(case: str, example: Path) -> None:
    """Warnings are errors, because of `--strict`."""
    assert helm.lint(helm.chart_of(case, example), helm.values_of(case)) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid_for_kubernetes(version: str, rendered: dict[str, list[helm.Object]]) -> None:
    """An unknown key is an error. The versions are those from the oldest with native sidecars to the newest."""
    plain = [document for path in MANIFESTS for document in helm.documents(path)]
    all_objects = [*rendered.values(), plain]
    distinct = helm.distinct(resource for objects in all_objects for resource in objects if helm.is_built_in(resource))
    assert len(distinct) > 50
    assert [error for resource in distinct for error in kubeschema.errors(resource, version)] == []


def test_oldest_tested_version_is_that_of_the_chart() -> None:
    """Chart.yaml admits only tested versions."""
    chart = yaml.safe_load((helm.CHART / "Chart.yaml").read_text("utf-8"))
    assert chart["kubeVersion"] == f">={VERSIONS[0]}-0"
    assert len(VERSIONS) >= 9


def test_every_custom_resource_is_valid(rendered: dict[str, list[helm.Object]]) -> None:
    """The schemas are those of cert-manager and the two operators. The validator rejects invalid resources."""
    all_objects = [*rendered.values(), *map(helm.documents, MANIFESTS)]
    custom = helm.distinct(
        resource for objects in all_objects for resource in objects if not helm.is_built_in(resource)
    )
    assert {resource["kind"] for resource in custom} == {
        *("Certificate", "ExternalSecret", "Issuer", "PodMonitor", "PrometheusRule", "ServiceMonitor")
    }
    errors_by_resource = custom_errors([*custom, *({**MONITOR, "spec": spec} for spec in WRONG_SPECS)])
    assert [errors for errors in errors_by_resource[: len(custom)] if errors] == []
    assert [len(errors) for errors in errors_by_resource[len(custom) :]] == [1] * len(WRONG_SPECS)


def test_checkov_finds_no_error(rendered: dict[str, list[helm.Object]], tmp_path: Path) -> None:
    """Every suppression has a reason and is necessary."""
    manifests = {path.stem: helm.documents(path) for path in helm.GATEWAY.glob("c*.yaml")}
    for case, objects in {**rendered, **manifests}.items():
        (tmp_path / f"{case}.json").write_text(json.dumps(objects))
    command = [Path(programs.require("checkov")).with_name("python"), CHECKOV / "judge.py", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    report = json.loads(result.stdout)
    failed = {(tuple(check), place) for check, place in report["failed"]}
    suppressed = {(check, place) for check, place in failed if re.search(SUPPRESSED.get(check, "(?!)"), place)}
    assert failed - suppressed == set()
    assert {check for check, _ in suppressed} == SUPPRESSED.keys()
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 1000


FILES = [
    charts.PLAIN,
    *helm.GATEWAY.glob("*.yaml"),
    *helm.STORE.glob("*.yaml"),
    *charts.GOLDEN.glob("*.yaml"),
    *helm.CASES.glob("*.yaml"),
    *(path for chart in (helm.CHART, helm.EXAMPLE) for path in [*chart.glob("*.yaml"), *chart.glob("files/*.yaml")]),
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(helm.ROOT)))
def test_yamllint_finds_no_problem(path: Path) -> None:
    """There are no duplicate keys, trailing blanks or ambiguous values."""
    assert [str(problem) for problem in linter.run(path.read_text("utf-8"), YAMLLINT)] == []


def custom_errors(objects: list[helm.Object]) -> list[list[str]]:
    """Return the schema errors of these custom resources."""
    node = programs.require("node")
    programs.require_npm("crds")
    result = subprocess.run(
        [node, "validate.js"], cwd=CRDS, input=json.dumps(objects), capture_output=True, text=True, check=True
    )
    errors: list[list[str]] = json.loads(result.stdout)
    return errors
