"""`/kinds/{kind}/template`: the document that a new integration starts with, as YAML and as a list of fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from textwrap import indent, wrap
from typing import Any, Final, Literal

from pydantic import Field

from sidekey.api.errors import not_found
from sidekey.api.handlers.integrations import NewIntegration
from sidekey.api.messages import ApiRequest, ApiResult
from sidekey.api.models import Body
from sidekey.api.route import Route
from sidekey.api.service import ApiServices
from sidekey.config import profiles
from sidekey.config.errors import Loc, existing_loc
from sidekey.config.schema import DOCUMENT_VALUES, definitions
from sidekey.config.stored.document import with_new_ids
from sidekey.config.validate import validate
from sidekey.config.yaml_writer import write
from sidekey.credentials.context import Context
from sidekey.credentials.registry import KINDS

PEM: Final = "paste PEM here\n"
"""Placeholder of a certificate or key. Other values have an empty string."""

_WIDTH: Final = 100
_SECRET: Final = "#/components/schemas/Secret"  # noqa: S105  a schema's name

_FIRST_KEYS: Final = frozenset({"id", "description"})
"""The keys that begin every template. They are not in its `fields`."""

Schema = Mapping[str, Any]
Describe = Callable[[Loc], str]


class TemplateFilter(Body):
    """The query of a template."""

    provider: str = Field(default="", description="A provider of the kind.")


class TemplateField(Body):
    """A key that a new integration must have."""

    path: list[str] = Field(description="The keys that lead to the value.")
    description: str
    type: Literal["text", "secret", "pem", "certificate"] = Field(
        description="How the value is written: a text; `{value: TEXT}`; the same with a private key in PEM; or "
        "`{inline: PEM}`."
    )
    values: list[str] = Field(description="The allowed values; none: any.")


class Template(Body):
    """The document that a new integration starts with."""

    text: str = Field(description="The document as YAML. Each key has its description as a comment.")
    fields: list[TemplateField] = Field(description="The values to fill in, without `id` and `description`.")


@partial(
    Route,
    "GET",
    "/kinds/{kind}/template",
    "getTemplate",
    permission="editor",
    query=TemplateFilter,
    response=Template,
    codes=("not_found",),
    needs_store=False,
)
async def template(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Read the document that a new integration of a kind or provider starts with."""
    kind, provider = request.path_parameters["kind"], request.query.provider
    if kind not in KINDS or (provider and provider not in profiles.stored_provider_names_of(kind)):
        raise not_found()
    return await service.respond(_template, kind, provider)


def _template(kind: str, provider: str) -> Template:
    document, describe = _minimal_document(kind, provider), _describer(kind, provider)
    fields = [
        TemplateField(path=[*map(str, loc)], description=describe(loc), type=_type(value), values=_values(kind, loc))
        for loc, value in _leaves(document)
        if loc[0] not in _FIRST_KEYS and loc not in (("auth", "type"), ("auth", "provider"))
    ]
    return Template(text="".join(_lines(document, describe)), fields=fields)


def _leaves(document: Mapping[str, Any], parent: Loc = ()) -> Iterator[tuple[Loc, Any]]:
    for key, value in document.items():
        if _is_section(value):
            yield from _leaves(value, (*parent, key))
        else:
            yield (*parent, key), value


def _is_section(value: Any) -> bool:
    return isinstance(value, Mapping) and value.keys().isdisjoint(("value", "inline"))


def _type(value: Any) -> Literal["text", "secret", "pem", "certificate"]:
    if not isinstance(value, Mapping):
        return "text"
    if "inline" in value:
        return "certificate"
    return "pem" if value["value"] == PEM else "secret"


def _values(kind: str, loc: Loc) -> list[str]:
    return next(([*branch["enum"]] for branch in _branches(_schema_at(kind, loc)) if "enum" in branch), [])


@cache
def _definitions() -> dict[str, dict[str, Any]]:
    return definitions([NewIntegration, *DOCUMENT_VALUES], "body")


def _minimal_document(kind: str, provider: str) -> dict[str, Any]:
    """Build a document with all required keys: add those that validation reports as missing, until none is missing."""
    keys = {"provider": provider} if provider else KINDS[kind].template_keys
    auth: dict[str, Any] = {"type": kind, **keys}
    document: dict[str, Any] = {"auth": auth}
    while missing := [
        error.loc
        for error in validate(with_new_ids(document), Context("body")).errors
        if existing_loc(document, error.loc) != error.loc
    ]:
        for loc in missing:
            _insert(document, loc, _placeholder(_schema_at(kind, loc)))
    return {
        "id": "",
        "description": "",
        **{key: value for key, value in document.items() if key != "auth"},
        "auth": auth,
    }


def _describer(kind: str, provider: str) -> Describe:
    """Return a function that describes the key at a location."""
    texts: dict[Loc, str] = {("auth", name): text for name, text in _profile_descriptions(provider).items()}
    return lambda loc: texts.get(loc) or _description(_schema_at(kind, loc))


def _insert(document: dict[str, Any], loc: Loc, value: Any) -> None:
    for key in loc[:-1]:
        document = document.setdefault(str(key), {})
    document[str(loc[-1])] = value


def _lines(document: Mapping[str, Any], describe: Describe, parent: Loc = ()) -> Iterator[str]:
    for key, value in document.items():
        loc = (*parent, key)
        for line in () if key in ("type", "provider") else wrap(describe(loc), _WIDTH):
            yield f"# {line}\n"
        if _is_section(value):
            yield f"{key}:\n"
            yield from (indent(line, "  ") for line in _lines(value, describe, loc))
        else:
            yield write({key: value})


def _schema_at(kind: str, loc: Loc) -> Schema:
    """Return the schema of a key, or an empty one for a key that users choose, such as the name of a header."""
    node = _definitions()["NewIntegration"] if loc[:1] != ("auth",) else _definitions()[KINDS[kind].__name__]
    for key in loc if loc[:1] != ("auth",) else loc[1:]:
        node = next(
            (branch["properties"][key] for branch in _branches(node) if key in branch.get("properties", {})), {}
        )
    return node


def _branches(node: Schema) -> Iterator[Schema]:
    """Yield a schema and its alternatives. Follow references."""
    yield node
    if "$ref" in node:
        yield from _branches(_definitions()[node["$ref"].rpartition("/")[2]])
    for alternative in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        yield from _branches(alternative)


def _placeholder(schema: Schema) -> Any:
    branches = [*_branches(schema)]
    text = PEM if "PEM" in schema.get("description", "") else ""
    if any("inline" in branch.get("properties", {}) for branch in branches):
        return {"inline": text}
    if any(branch.get("$ref") == _SECRET for branch in branches):
        return {"value": text}
    if any("properties" in branch for branch in branches):
        return {}
    return next((branch["enum"][0] for branch in branches if "enum" in branch), "")


def _description(schema: Schema) -> str:
    # The descriptions are written for config files, where a secret is a reference. In the API it is a value.
    text = schema.get("description", "").replace(", as a reference", "")
    choices = next((branch["enum"] for branch in _branches(schema) if "enum" in branch), ())
    return f"{text} One of {', '.join(map(str, choices))}." if choices else text


def _profile_descriptions(provider: str) -> dict[str, str]:
    """Return the descriptions of the parameters and secrets of a profile, empty without a provider."""
    if not provider:
        return {}
    profile = profiles.profile(provider)
    parameters = {
        name: f"{parameter.description} Such as {parameter.example}." for name, parameter in profile.parameters.items()
    }
    return parameters | profile.secrets


ROUTES: Final = (template,)
