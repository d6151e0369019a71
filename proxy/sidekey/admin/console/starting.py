"""The YAML that a new integration or preset starts with: required keys, each with its description as a comment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from textwrap import indent, wrap
from typing import Any, Final

from sidekey.admin.api.integrations import NewIntegration
from sidekey.admin.api.presets import NewPreset
from sidekey.credentials.context import Context
from sidekey.credentials.registry import KINDS
from sidekey.settings import profiles
from sidekey.settings.config_errors import Loc, held
from sidekey.settings.schema import DOCUMENT_VALUES, definitions
from sidekey.settings.stored.document import with_new_ids
from sidekey.settings.validated import validate
from sidekey.settings.writing import write

PEM: Final = "paste PEM here\n"
"""The placeholder of a certificate or key. That of any other value is an empty text."""

_WIDTH: Final = 100
_SECRET: Final = "#/components/schemas/Secret"  # noqa: S105  a schema's name

Schema = Mapping[str, Any]
Described = Callable[[Loc], str]


@cache
def _definitions() -> dict[str, dict[str, Any]]:
    return definitions([NewIntegration, NewPreset, *DOCUMENT_VALUES], "body")


def starting_integration(kind: str, provider: str = "") -> str:
    """Build the start of an integration: add each key that validation reports as missing, until none is missing."""
    named = {"provider": provider} if provider else {}
    auth: dict[str, Any] = {"type": kind, **named, **({} if provider else KINDS[kind].starts_with)}
    document: dict[str, Any] = {"auth": auth}
    while missing := [
        each.loc
        for each in validate(with_new_ids(document), Context("body")).errors
        if held(document, each.loc) != each.loc
    ]:
        for loc in missing:
            _insert(document, loc, _placeholder(_schema_at(kind, loc)))
    described: dict[Loc, str] = {("auth", name): text for name, text in _of_profile(provider).items()}
    top = {"id": "", "description": "", **document}
    ordered = {**{key: value for key, value in top.items() if key != "auth"}, "auth": auth}
    return "".join(_lines(ordered, lambda loc: described.get(loc) or _description(_schema_at(kind, loc))))


def starting_preset() -> str:
    """Build the start of a preset: the required keys, with one parameter in a JSON body."""
    document = {
        "id": "",
        "description": "",
        "integration": "",
        "url": "",
        "parameters": {"name": {"type": "text"}},
        "body": {"json": {"text": "Hello {{name}}"}},
    }
    properties = _definitions()["NewPreset"]["properties"]
    return "".join(_lines(document, lambda loc: _description(properties[str(loc[0])]) if len(loc) == 1 else ""))


def _insert(document: dict[str, Any], loc: Loc, value: Any) -> None:
    for key in loc[:-1]:
        document = document.setdefault(str(key), {})
    document[str(loc[-1])] = value


def _lines(document: Mapping[str, Any], described: Described, place: Loc = ()) -> Iterator[str]:
    for key, value in document.items():
        loc = (*place, key)
        for line in () if key in ("type", "provider") else wrap(described(loc), _WIDTH):
            yield f"# {line}\n"
        if isinstance(value, Mapping) and value.keys().isdisjoint(("value", "inline")):
            yield f"{key}:\n"
            yield from (indent(each, "  ") for each in _lines(value, described, loc))
        else:
            yield write({key: value})


def _schema_at(kind: str, loc: Loc) -> Schema:
    """The schema of a key; empty for a key that only its user knows, such as the name of a header."""
    node = _definitions()["NewIntegration"] if loc[:1] != ("auth",) else _definitions()[KINDS[kind].__name__]
    for key in loc if loc[:1] != ("auth",) else loc[1:]:
        node = next((each["properties"][key] for each in _branches(node) if key in each.get("properties", {})), {})
    return node


def _branches(node: Schema) -> Iterator[Schema]:
    """Yield a schema and its alternatives, with references followed."""
    yield node
    if "$ref" in node:
        yield from _branches(_definitions()[node["$ref"].rpartition("/")[2]])
    for each in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        yield from _branches(each)


def _placeholder(schema: Schema) -> Any:
    branches = [*_branches(schema)]
    text = PEM if "PEM" in schema.get("description", "") else ""
    if any("inline" in each.get("properties", {}) for each in branches):
        return {"inline": text}
    if any(each.get("$ref") == _SECRET for each in branches):
        return {"value": text}
    if any("properties" in each for each in branches):
        return {}
    return next((each["enum"][0] for each in branches if "enum" in each), "")


def _description(schema: Schema) -> str:
    # In a file a secret is a reference; here it is a value.
    text = schema.get("description", "").replace(", as a reference", "")
    choices = next((each["enum"] for each in _branches(schema) if "enum" in each), ())
    return f"{text} One of {', '.join(map(str, choices))}." if choices else text


def _of_profile(provider: str) -> dict[str, str]:
    """Describe the parameters and secrets of a profile; empty without a provider."""
    if not provider:
        return {}
    profile = profiles.profile(provider)
    parameters = {name: f"{each.description} Such as {each.example}." for name, each in profile.parameters.items()}
    return parameters | profile.secrets
