"""A service's chart with the sidecar, as in the README: with a dependency, values and four lines."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from support import helm, kubeschema

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
"""
OFF: helm.Values = {"sidekey": {"enabled": False}}


def lines(indent: int) -> str:
    """Return the four lines with their keys, and an image beside the name of the container."""
    text = helm.readme_block("initContainers:").partition("\n")[2]
    text = text.replace("- name: app\n", "- name: app\n    image: registry.example.com/app:1\n")
    return "".join(f"{' ' * indent}{line}\n" for line in text.splitlines())


@pytest.fixture
def service(tmp_path: Path) -> Path:
    """Write the chart of a service by the README."""
    chart = tmp_path / "app"
    (chart / "templates").mkdir(parents=True)
    dependency = yaml.safe_load(helm.readme_block("condition: sidekey.enabled"))
    (chart / "Chart.yaml").write_text(
        yaml.safe_dump({"apiVersion": "v2", "name": "app", "version": "1.0.0", **dependency})
    )
    (chart / "values.yaml").write_text(helm.readme_block("mode: none"))
    (chart / "templates" / "deployment.yaml").write_text(DEPLOYMENT + lines(6))
    shutil.copytree(helm.CHART, chart / "charts" / "sidekey")
    return chart


@pytest.fixture
def disabled_example(example: Path, tmp_path: Path) -> Path:
    """Copy the example, for renders with the dependency disabled."""
    return Path(shutil.copytree(example, tmp_path / "without"))


def checks(objects: list[helm.Object]) -> list[helm.Object]:
    """Return the Jobs that check the config."""
    return [job for job in helm.of_kind(objects, "Job") if job["metadata"]["name"].endswith("config-check")]


def test_four_lines_add_the_sidecar_and_its_config_check(service: Path) -> None:
    """The chart needs no other file. The check runs before a pod is replaced, and Helm shows its output if it fails."""
    objects = helm.objects(service, {})
    (deployment,) = helm.of_kind(objects, "Deployment")
    assert helm.sidekey_of(deployment["spec"]["template"]["spec"])["args"] == ["run"]
    (job,) = checks(objects)
    assert job["metadata"]["annotations"] == {
        "helm.sh/hook": "pre-install,pre-upgrade",
        "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
        "helm.sh/hook-output-log-policy": "hook-failed",
    }
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["check"]
    configs = [resource["data"]["sidekey.yaml"].strip() for resource in helm.of_kind(objects, "ConfigMap")]
    assert len(configs) == 2
    assert len(set(configs)) == 1


def test_disabled_sidekey_leaves_the_service_unchanged(service: Path) -> None:
    """The chart's templates are then missing, so the four lines must not need them."""
    (deployment,) = helm.objects(service, OFF)
    assert kubeschema.errors(deployment) == []
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert not any(container.get(key) for key in ("env", "volumeMounts"))
    assert not any(deployment["spec"]["template"]["spec"].get(key) for key in ("initContainers", "volumes"))


@pytest.mark.parametrize("values", [{}, OFF], ids=["enabled", "disabled"])
def test_helm_lint_finds_no_error(values: helm.Values, service: Path, disabled_example: Path) -> None:
    assert helm.lint(service, values) == []
    assert helm.lint(disabled_example, values) == []


def test_disabled_example_renders_only_the_service(disabled_example: Path) -> None:
    """The notes say so."""
    rendered = helm.files(disabled_example, OFF)
    objects = helm.parsed(rendered)
    assert sorted(resource["kind"] for resource in objects) == ["Deployment", "NetworkPolicy", "ServiceAccount"]
    assert [error for resource in objects for error in kubeschema.errors(resource)] == []
    assert "sidekey" not in helm.text_of(objects)
    assert "without Sidekey" in rendered["webhook-sender/templates/NOTES.txt"]


@pytest.mark.parametrize(
    ("name", "values_path"),
    [("sidekey", ".Values.sidekey"), ("keys", ".Values.keys"), ("my-keys", '(index .Values "my-keys")')],
)
def test_notes_name_the_values_by_the_alias_of_the_dependency(name: str, values_path: str, service: Path) -> None:
    """Helm ignores values under any other key."""
    chart = yaml.safe_load((service / "Chart.yaml").read_text("utf-8"))
    chart["dependencies"][0] |= {"alias": name, "condition": f"{name}.enabled"}
    (service / "Chart.yaml").write_text(yaml.safe_dump(chart))
    for path in (service / "values.yaml", service / "templates" / "deployment.yaml"):
        text = path.read_text("utf-8").replace(".Values.sidekey", values_path)
        path.write_text(text.replace("sidekey:", f"{name}:", 1) if path.name == "values.yaml" else text)
    rendered = helm.files(service, {})
    (notes,) = [text for path, text in rendered.items() if path.endswith("/NOTES.txt")]
    assert set(re.findall(r"\(index \.Values [^)]*\)|\.Values\.[\w-]+", notes)) == {values_path}


def test_disabled_without_a_condition_is_refused(service: Path) -> None:
    """Helm would render the chart as if it were enabled."""
    path = service / "Chart.yaml"
    path.write_text(path.read_text("utf-8").replace("condition: sidekey.enabled", ""))
    message = helm.refusal(service, OFF)
    assert "enabled" in message
    assert "its dependency in Chart.yaml needs condition: sidekey.enabled" in message


@pytest.mark.parametrize("values", [{"config": None}, {"configCheck": {"enabled": False}}], ids=["no config", "off"])
def test_config_check_needs_a_config_and_can_be_disabled(values: helm.Values) -> None:
    """A sidecar without a config belongs to a chart that uses no template yet."""
    own = {**yaml.safe_load(helm.readme_block("mode: none"))["sidekey"], "httpsProxy": None}
    assert checks(helm.objects(helm.CHART, own))
    assert checks(helm.objects(helm.CHART, {**own, **values})) == []
