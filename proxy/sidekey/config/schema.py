"""Generate JSON Schemas of the models: for editors and `sidekey schema`, and for bodies of the API."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, Field, RootModel
from pydantic.json_schema import models_json_schema

from sidekey.config.models import Config
from sidekey.config.profiles import parameter_properties, profile, provider_names_of, supports_profiles
from sidekey.credentials.context import FILE_ONLY
from sidekey.credentials.fields import HIDDEN_MARKER, SHAPE, FileFormat, Section, Shape, mapping
from sidekey.credentials.registry import KINDS

Schema = dict[str, Any]

Target = Literal["file", "body"]
"""The documents that a schema describes: config files, or bodies of the API."""

_PREFIX: Final[Mapping[Target, str]] = {"file": "#/$defs/", "body": "#/components/schemas/"}
_DESCRIPTIONS: Final[Mapping[str, str]] = {
    "file": "Path of a file that holds the value; a relative path starts at the config file's folder",
    "env": "Name of an environment variable that holds the value",
    "format": "Format of a file with several values",
    "key": "Name of the value in the file",
    "command": "Absolute path of a program that writes the value, and its arguments; there is no shell",
    "ttl": "How long the value is used before the program runs again. Default: 5m",
    "timeout": "How long the program may run. Default: 10s",
    "url": "An https URL that the value is fetched from",
    "insecure_value": "The secret itself, for trials only",
    "inline": "The value itself",
    "value": "The secret, to be sealed.",
}
_NAMED_SCHEMAS: Final = frozenset({"properties", "patternProperties", "$defs"})
"""Keywords of JSON Schema with a mapping from names to schemas."""


class EnteredSecret(Section):
    """A new secret in a request."""

    value: Annotated[str, Field(min_length=1)] = Field(
        description=_DESCRIPTIONS["value"], json_schema_extra={"writeOnly": True}
    )


class StoredSecret(Section):
    """A secret that is stored. Send it back with its `id` to keep it."""

    set: Literal[True]
    id: str
    set_at: str = ""
    set_by: str = ""


class Secret(RootModel[EnteredSecret | StoredSecret]):
    """A secret of a stored integration."""


DOCUMENT_VALUES: Final = (Secret,)
"""Models that the schemas of bodies refer to."""


def _object_with_one_of(*keys: str) -> Schema:
    """Return the schema of an object with exactly one of these keys."""
    exactly_one: Schema = {"required": [*keys]} if len(keys) == 1 else {"minProperties": 1, "maxProperties": 1}
    return {
        "type": "object",
        "properties": {key: {"type": "string", "minLength": 1, "description": _DESCRIPTIONS[key]} for key in keys},
        "additionalProperties": False,
        **exactly_one,
    }


def _component(name: str) -> Schema:
    return {"$ref": f"{_PREFIX['body']}{name}"}


_TEXT: Final[Schema] = {"type": "string"}
_SEALED_URL: Final[Schema] = {
    "type": "object",
    "properties": {"url": {"anyOf": [{**_TEXT, "description": _DESCRIPTIONS["url"]}, _component("StoredSecret")]}},
    "required": ["url"],
    "additionalProperties": False,
}
_ENTRY: Final[Schema] = {
    "type": "object",
    "properties": {
        "file": {**_TEXT, "minLength": 1, "description": _DESCRIPTIONS["file"]},
        "format": {"enum": [*get_args(FileFormat)], "description": _DESCRIPTIONS["format"]},
        "key": {**_TEXT, "minLength": 1, "description": _DESCRIPTIONS["key"]},
    },
    "required": ["file", "format", "key"],
    "additionalProperties": False,
}
_COMMAND: Final[Schema] = {
    "type": "object",
    "properties": {
        "command": {"type": "array", "items": _TEXT, "minItems": 1, "description": _DESCRIPTIONS["command"]},
        "ttl": {**_TEXT, "description": _DESCRIPTIONS["ttl"]},
        "timeout": {**_TEXT, "description": _DESCRIPTIONS["timeout"]},
        "env": {
            "type": "array",
            "items": _TEXT,
            "description": "Names of Sidekey's environment variables that the program gets",
        },
    },
    "required": ["command"],
    "additionalProperties": False,
}
_SECRET_FORMS: Final[tuple[Schema, ...]] = (_object_with_one_of("file", "env", "insecure_value"), _ENTRY, _COMMAND)
_SECRET: Final[Schema] = {"title": "Secret", "oneOf": [*_SECRET_FORMS]}
_REFERENCES: Final[tuple[Schema, ...]] = (_object_with_one_of("file", "env"), _ENTRY)
_TEXT_OR_REFERENCE: Final[Schema] = {"title": "Text", "oneOf": [_TEXT, *_REFERENCES]}
SHAPES: Final[Mapping[Target, Mapping[Shape, Schema]]] = {
    "file": {
        "secret": _SECRET,
        "pem_secret": {**_SECRET, "title": "Secret in PEM"},
        "secret_or_text": {
            "title": "Secret or text",
            "oneOf": [_TEXT, *_SECRET_FORMS],
        },
        "global_secret": {"title": "Secret", "oneOf": [_object_with_one_of("file", "env", "insecure_value"), _ENTRY]},
        "external_secret": {"title": "Secret", "oneOf": [*_REFERENCES]},
        "text": _TEXT_OR_REFERENCE,
        "pem_text": {**_TEXT_OR_REFERENCE, "title": "Certificate text"},
        "certificate_source": {"title": "Certificate source", **_object_with_one_of("file", "env", "url", "inline")},
        "key_source": {"title": "Key source", **_object_with_one_of("file", "env", "url", "insecure_value")},
        "token_file": _object_with_one_of("file"),
        "tree": {},
        "trusted_ca": {
            "title": "Trusted CA",
            "oneOf": [{"enum": ["mozilla", "system"]}, _object_with_one_of("file"), _object_with_one_of("inline")],
        },
    },
    "body": {
        "secret": _component("Secret"),
        "pem_secret": _component("Secret"),
        "secret_or_text": _component("Secret"),
        "text": _TEXT,
        "pem_text": _TEXT,
        "certificate_source": {"anyOf": [_object_with_one_of("inline"), _SEALED_URL]},
        "key_source": {"anyOf": [_component("Secret"), _SEALED_URL]},
        # Client generators do not support recursive schemas.
        "tree": {"type": "object", "additionalProperties": True},
        "trusted_ca": {"anyOf": [{"enum": ["mozilla", "system"]}, _object_with_one_of("inline")]},
    },
}
"""The schemas of values by target and name. In the schema of files they are definitions."""


def schema() -> Schema:
    """Return the JSON Schema (2020-12) of a config file, with defaults as the file writes them."""
    return {"$id": "urn:sidekey:config:1", **_config_schema(definitions([Config], "file"))}


def model_schema() -> Schema:
    """Return the schema of a config after the keys of provider profiles were added, as the models accept it."""
    return _config_schema(definitions([Config], "file", profiles=False))


def _config_schema(schemas: dict[str, Schema]) -> Schema:
    config = schemas.pop(Config.__name__)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": schemas, **config}


def definitions(models: Sequence[type[BaseModel]], target: Target, *, profiles: bool = True) -> dict[str, Schema]:
    """Return the schemas of models and of the models in their fields, by class name.

    With `profiles`, the schemas allow the parameters of provider profiles, and require no key that a profile adds.
    """
    _, generated = models_json_schema(
        [(model, "validation") for model in models], ref_template=f"{_PREFIX[target]}{{model}}"
    )
    for model in {model for root in models for model in models_in(root)}:
        properties = generated["$defs"][model.__name__].get("properties", {})
        for name, default in written_defaults(model).items():
            if name in properties:
                properties[name]["default"] = default
    schemas = _reachable(generated["$defs"], models, target)
    for kind, settings in KINDS.items() if profiles else ():
        if supports_profiles(kind) and settings.__name__ in schemas:
            _relax_for_profiles(kind, schemas[settings.__name__], target)
    return schemas if target == "file" else {name: _for_clients(schema) for name, schema in schemas.items()}


def _reachable(generated: dict[str, Schema], roots: Sequence[type[BaseModel]], target: Target) -> dict[str, Schema]:
    """Adapt the definitions that `roots` need to the target, and drop all other definitions.

    A value with a schema of its own (`SHAPES`) no longer refers to its model.
    """
    adapted: dict[str, Schema] = {}
    shapes = {str(name): schema for name, schema in SHAPES[target].items()}
    pending = [model.__name__ for model in roots]
    while pending:
        name = pending.pop()
        if name not in adapted:
            adapted[name] = _adapt(generated[name], target) if name in generated else shapes[name]
            pending += _references(adapted[name])
    return {name: adapted[name] for name in (*generated, *shapes) if name in adapted}


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _references(item)
    elif isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rpartition("/")[2]
        for item in node.values():
            yield from _references(item)


def _shape(name: Shape, target: Target) -> Schema:
    """Return the schema of a value, in files as a reference to its definition."""
    schema = SHAPES[target][name]
    return {"$ref": f"{_PREFIX[target]}{name}"} if target == "file" and len(schema) > 1 else schema


def _adapt(node: Any, target: Target) -> Any:
    """Replace the markers in a schema by the schemas of the target, and remove file-only keys from bodies."""
    if isinstance(node, list):
        return [_adapt(item, target) for item in node]
    if not isinstance(node, dict):
        return node
    adapted: Schema = {}
    for key, value in node.items():
        if key == SHAPE:
            adapted |= _shape(value, target)
        elif key in _NAMED_SCHEMAS:
            allowed = {name: item for name, item in value.items() if target == "file" or FILE_ONLY not in item}
            adapted[key] = {name: _adapt(item, target) for name, item in allowed.items()}
        elif key not in (FILE_ONLY, HIDDEN_MARKER):
            adapted[key] = _adapt(value, target)
    removed = node.get("properties", {}).keys() - adapted.get("properties", {}).keys()
    if removed and "required" in adapted:
        adapted["required"] = [name for name in adapted["required"] if name not in removed]
    if "patternProperties" in adapted:
        adapted["additionalProperties"] = False
    hidden = [name for name, item in node.get("properties", {}).items() if HIDDEN_MARKER in item and target == "body"]
    for name in hidden:
        adapted["properties"][name]["description"] += " Viewers do not see it."
        adapted["required"] = [key for key in adapted.get("required", ()) if key != name]
    return adapted


def _for_clients(node: Any) -> Any:
    """Simplify a schema for client generators.

    They name classes by `title`, send each `default`, and lose `properties` beside `anyOf` and `patternProperties`.
    """
    if isinstance(node, list):
        return [_for_clients(item) for item in node]
    if not isinstance(node, dict):
        return node
    simplified: Schema = {
        key: {name: _for_clients(item) for name, item in value.items()}
        if key in _NAMED_SCHEMAS
        else _for_clients(value)
        for key, value in node.items()
        if key not in ("title", "default")
    }
    default = node.get("default")
    if default and "description" in simplified and isinstance(default, str | int):
        text = default if isinstance(default, str) else json.dumps(default)
        simplified["description"] += f" Default: `{text}`."
    if "patternProperties" in simplified:
        ((pattern, schema),) = simplified.pop("patternProperties").items()
        simplified |= {"propertyNames": {"pattern": pattern}, "additionalProperties": schema}
    if "properties" in simplified and "anyOf" in simplified:
        alternatives = [frozenset(item.get("required", ())) for item in simplified.pop("anyOf")]
        simplified["required"] = sorted(frozenset.intersection(*alternatives).union(simplified.get("required", ())))
    return simplified


def _relax_for_profiles(kind: str, definition: Schema, target: Target) -> None:
    """Allow the parameters of a kind's provider profiles, and require no key that the profile adds."""
    properties, required = definition["properties"], definition.pop("required", [])
    alternatives: list[Schema] = definition.pop("anyOf", [{"required": required}])
    properties["provider"] = {**properties["provider"], "enum": [*provider_names_of(kind), None]}
    properties |= {name: _adapt(schema, target) for name, schema in parameter_properties(kind).items()}
    providers_by_remaining: dict[tuple[str, ...], list[str]] = {}
    for name in provider_names_of(kind):
        auth = profile(name).auth
        profile_keys = auth.keys()
        fitting = [schema for schema in alternatives if _may_have_types(auth, schema)]
        # The profile is meant for the alternative to which it adds the most keys.
        alternative = max(fitting, key=lambda schema: len(profile_keys & schema["required"]))
        remaining = tuple(key for key in alternative["required"] if key not in profile_keys)
        providers_by_remaining.setdefault(remaining, []).append(name)
    definition["anyOf"] = [
        *alternatives,
        *(
            {"properties": {"provider": {"enum": providers}}, "required": [*keys, "provider"]}
            for keys, providers in providers_by_remaining.items()
        ),
    ]


def _may_have_types(auth: Mapping[str, Any], alternative: Schema) -> bool:
    """Return True if a profile sets the union members that an alternative requires, if any."""
    return all(
        mapping(auth.get(name)).get("type") == schema["properties"]["type"]["const"]
        for name, schema in alternative.get("properties", {}).items()
    )


def written_defaults(model: type[BaseModel]) -> dict[str, Any]:
    """Return the defaults of a model's keys as the file writes them: `5s` rather than 5.0."""
    optional = {name for name, field in model.model_fields.items() if not field.is_required()}
    return model.model_construct().model_dump(mode="json", include=optional, by_alias=True) if optional else {}


def models_in(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield `model` and every model that its fields name."""
    yield model
    for field in model.model_fields.values():
        for annotation in (field.annotation, *get_args(field.annotation)):
            if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation is not model:
                yield from models_in(annotation)
