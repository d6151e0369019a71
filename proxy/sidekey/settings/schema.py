"""The JSON schema of the config file, for editors and for `sidekey schema`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from sidekey.credentials.registry import KINDS
from sidekey.settings.models import Config
from sidekey.settings.profiles import names_of, parameter_properties, profile, takes_profiles


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a config file. Defaults are spelled as in the file."""
    found = {"$id": "urn:sidekey:config:1", **model_schema()}
    for kind, settings in KINDS.items():
        if takes_profiles(kind):
            _let_profiles_fill_in(kind, found["$defs"][settings.__name__])
    return found


def model_schema() -> dict[str, Any]:
    """The schema of what the models take: a config whose provider profiles are filled in."""
    generated = Config.model_json_schema()
    definitions: dict[str, Any] = generated["$defs"]
    roots: list[type[BaseModel]] = [Config, *KINDS.values()]
    for model in {found for root in roots for found in models_in(root)}:
        target = generated if model is Config else definitions[model.__name__]
        # A model may leave out of its schema what it takes no value for.
        defaults = written_defaults(model)
        for name in defaults.keys() & target["properties"].keys():
            target["properties"][name]["default"] = defaults[name]
    for node in _objects(generated):
        if "patternProperties" in node:
            node["additionalProperties"] = False
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **generated}


def _let_profiles_fill_in(kind: str, definition: dict[str, Any]) -> None:
    """Allow the parameters of a kind's provider profiles, and let each profile replace the keys that it fills in."""
    properties, required = definition["properties"], definition.pop("required")
    ways: list[dict[str, Any]] = definition.pop("anyOf", [{"required": required}])
    properties["provider"] = {**properties["provider"], "enum": [*names_of(kind), None]}
    properties |= parameter_properties(kind)
    by_what_remains: dict[tuple[str, ...], list[str]] = {}
    for name in names_of(kind):
        brought = profile(name).auth
        # Of several ways the one that the profile has begun.
        way = max(ways, key=lambda each: len(brought.keys() & each["required"]))
        remaining = tuple(key for key in way["required"] if key not in brought)
        by_what_remains.setdefault(remaining, []).append(name)
    definition["anyOf"] = [
        *ways,
        *(
            {"properties": {"provider": {"enum": found}}, "required": [*keys, "provider"]}
            for keys, found in by_what_remains.items()
        ),
    ]


def written_defaults(model: type[BaseModel]) -> dict[str, Any]:
    """The defaults of a model's keys as the file writes them: `5s` rather than 5.0."""
    optional = {name for name, field in model.model_fields.items() if not field.is_required()}
    return model.model_construct().model_dump(mode="json", include=optional)


def models_in(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield `model` and every model that its fields name."""
    yield model
    for field in model.model_fields.values():
        for found in (field.annotation, *get_args(field.annotation)):
            if isinstance(found, type) and issubclass(found, BaseModel) and found is not model:
                yield from models_in(found)


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from _objects(value)
