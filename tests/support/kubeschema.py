"""Kubernetes' own schemas, by `kubernetes-validate`, each read once: it reads megabytes again for every object.

`strict` schemas admit no key that they do not know.
"""

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
"""What was found of objects, by version and text: most of what is rendered comes again with other values."""


def versions(oldest: str) -> list[str]:
    """The versions of Kubernetes from `oldest` on whose schemas are there, the newest last."""
    return sorted({each for each in utils.all_versions() if Version(each) >= Version(oldest)}, key=Version)


@cache
def newest() -> str:
    """The newest of all."""
    return versions("1")[-1]


def errors(found: Object, version: str | None = None) -> list[str]:
    """What is wrong with an object of a built-in kind for a version, by default the newest; an unknown key is an error.

    Raises FileNotFoundError for a kind that the version does not know.
    """
    wanted = version or newest()
    known = _KNOWN.setdefault(wanted, {})
    text = json.dumps(found, sort_keys=True)
    if text not in known:
        errors = _validator(wanted, str(found["apiVersion"]), str(found["kind"])).iter_errors(found)
        known[text] = [f"{found['kind']} {each.json_path}: {each.message}" for each in errors]
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
