"""Kubernetes' schemas from `kubernetes-validate`, cached, because it would read megabytes for every object."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from jsonschema.protocols import Validator
from jsonschema.validators import Draft202012Validator
from kubernetes_validate import utils
from packaging.version import Version
from referencing import Registry, Resource

from support.helm import Object

_KNOWN: dict[str, dict[str, list[str]]] = {}
"""Errors by version and text of the object: most rendered objects are equal for other values."""


def versions(oldest: str) -> list[str]:
    """Return the known versions of Kubernetes from `oldest` on, the newest last."""
    return sorted({version for version in utils.all_versions() if Version(version) >= Version(oldest)}, key=Version)


@cache
def newest() -> str:
    """Return the newest known version."""
    return versions("1")[-1]


def errors(item: Object, version: str | None = None) -> list[str]:
    """Return the errors of an object of a built-in kind for a version, by default the newest. Unknown keys are errors.

    Raises FileNotFoundError for a kind that the version does not have.
    """
    effective = version or newest()
    known = _KNOWN.setdefault(effective, {})
    text = json.dumps(item, sort_keys=True)
    if text not in known:
        errors = _validator(effective, str(item["apiVersion"]), str(item["kind"])).iter_errors(item)
        known[text] = [f"{item['kind']} {error.json_path}: {error.message}" for error in errors]
    return known[text]


@cache
def _validator(version: str, api_version: str, kind: str) -> Validator:
    # rbac.authorization.k8s.io/v1 is rbac-v1 in the name of a file.
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    schema = _contents(version, f"{kind.lower()}-{group}")
    registry: Registry[Any] = Resource.from_contents(schema) @ (_definitions(version) @ Registry())
    return Draft202012Validator(schema, registry=registry)


@cache
def _definitions(version: str) -> Resource[Any]:
    return Resource.from_contents(_contents(version, "_definitions"))


def _contents(version: str, name: str) -> Any:
    return utils.schema_contents(f"kubernetes-json-schema/v{version}-local-strict/{name}.json", version)
