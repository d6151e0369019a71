"""The schemas judge as kubernetes-validate does, and can say no."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

from support import helm, kubeschema

SERVICE: helm.Object = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "a"},
    "spec": {"ports": [{"port": 80}]},
}
ROLE: helm.Object = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "a"}}


def spec(**values: Any) -> helm.Object:
    """The Service with another spec."""
    return {**SERVICE, "spec": {**SERVICE["spec"], **values}}


@pytest.mark.parametrize("version", [None, *kubeschema.versions("1.36")])
@pytest.mark.parametrize(
    ("found", "words"),
    [
        (SERVICE, None),
        (ROLE, None),
        (spec(typ="ClusterIP"), "typ"),
        (spec(type=1), "1 is not"),
        (spec(ports=[{"port": "80"}]), "'80' is not"),
        ({**ROLE, "rules": {}}, "{} is not"),
    ],
    ids=["a service", "a role", "an unknown key", "a number", "a text", "no list"],
)
def test_an_object_is_judged_as_kubernetes_validate_judges(
    found: helm.Object, words: str | None, version: str | None
) -> None:
    """With what is wrong, where."""
    told = kubeschema.errors(found, version)
    assert [words in each for each in told if words is not None] == ([] if words is None else [True])
    if words is None:
        assert told == []
        kubernetes_validate.validate(found, version or kubeschema.newest(), strict=True)
    else:
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(found, version or kubeschema.newest(), strict=True)


def test_an_unknown_kind_is_no_valid_one() -> None:
    """It is not passed over."""
    with pytest.raises(FileNotFoundError):
        kubeschema.errors({**SERVICE, "kind": "Servce"})


def test_versions_are_sorted_as_versions() -> None:
    """1.9 is older than 1.10."""
    assert kubeschema.versions("1.29")[0].startswith("1.29")
    assert kubeschema.newest() == kubeschema.versions("1.29")[-1]
