"""The chart's README: its links resolve, and its blocks render the objects that its text describes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from support import helm
from tools import charts

TEXT = charts.README.read_text("utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.M | re.S)


def test_every_relative_link_resolves() -> None:
    """The links are relative to the chart's folder."""
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", TEXT) if "://" not in target]
    assert targets
    assert [target for target in targets if not (helm.CHART / target.partition("#")[0]).exists()] == []


def test_values_of_a_gateway_render_a_deployment() -> None:
    assert helm.of_kind(helm.objects(helm.CHART, yaml.safe_load(helm.readme_block("\ncallers:"))), "Deployment")


def test_values_of_several_teams_extend_those_of_a_gateway() -> None:
    """Each team has a file of the config. A missing one does not prevent the start."""
    values = helm.values_of("gateway") | yaml.safe_load(helm.readme_block("configSources:"))
    (deployment,) = helm.of_kind(helm.objects(helm.CHART, values), "Deployment")
    volumes = {volume["name"]: volume for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    own, *teams = [source["configMap"] for source in volumes["sidekey-config"]["projected"]["sources"]]
    assert [source["items"][0]["path"] for source in (own, *teams)] == ["sidekey.yaml", "team-a.yaml", "team-b.yaml"]
    assert all(source["optional"] for source in teams)


def test_values_of_a_store_extend_those_of_a_gateway() -> None:
    """The gateway then has three pods and the same callers."""
    values = helm.values_of("gateway") | yaml.safe_load(helm.readme_block("\nstore:"))
    (deployment,) = helm.of_kind(helm.objects(helm.CHART, values), "Deployment")
    assert deployment["spec"]["replicas"] == 3


def test_values_of_a_console_extend_those_of_a_gateway() -> None:
    """With the values of a store too, the chart renders an Ingress to a separate Service."""
    values = (
        helm.values_of("gateway")
        | yaml.safe_load(helm.readme_block("\nstore:"))
        | yaml.safe_load(helm.readme_block("console:\n"))
    )
    objects = helm.objects(helm.CHART, values)
    (ingress,) = helm.of_kind(objects, "Ingress")
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    names = {resource["metadata"]["name"] for resource in helm.of_kind(objects, "Service")}
    assert path["backend"]["service"]["name"] in names


def test_four_lines_of_a_sidecar_are_those_of_the_example() -> None:
    """They have the indentation of the example."""
    lines = re.findall(r"{{- include .*}}", helm.readme_block("initContainers:"))
    deployment = (helm.EXAMPLE / "templates" / "deployment.yaml").read_text("utf-8")
    example = deployment.replace("$sidekey |", '(dict "root" $ "values" .Values.sidekey) |')
    notes = helm.files(helm.CHART, {"mode": "none"})["sidekey/templates/NOTES.txt"]
    assert len(lines) == 4
    assert [line for line in lines if line not in example or line not in notes] == []


def test_values_of_a_sidecar_render_in_the_example(example: Path) -> None:
    assert helm.of_kind(helm.objects(example, yaml.safe_load(helm.readme_block("mode: none"))), "Deployment")


def test_values_of_https_proxy_extend_those_of_a_sidecar(example: Path) -> None:
    values = yaml.safe_load(helm.readme_block("mode: none"))
    values["sidekey"] |= yaml.safe_load(helm.readme_block("httpsProxy:\n  integration"))
    assert helm.of_kind(helm.objects(example, values), "Deployment")


@pytest.mark.parametrize("text", BLOCKS, ids=lambda text: text.partition("\n")[0])
def test_every_block_is_yaml(text: str) -> None:
    """The template lines are left out."""
    lines = [line for line in text.splitlines() if "{{" not in line]
    assert yaml.safe_load("\n".join(lines))
