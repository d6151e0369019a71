"""Provider profiles: files of `sidekey/providers` that fill in integrations for one platform.

A profile adds keys to `auth`, for one kind, and to the rest of the integration. The operator sets the profile's
parameters and secrets as keys of `auth`, next to `provider`:

- A parameter replaces `{name}` in the profile's texts. It may become part of a host name, so that the whole value must
  match a pattern.
- A secret is a reference. It replaces a text that is only `{name}`. No code here reads its value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from difflib import get_close_matches
from functools import cache, partial
from importlib import resources
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import Field, model_validator

from sidekey.config.errors import MAX_ERRORS, Finding, Loc, format_loc
from sidekey.config.models import TestSettings
from sidekey.config.yaml_reader import parse
from sidekey.credentials.base import KindSettings
from sidekey.credentials.context import Context
from sidekey.credentials.fields import (
    ProvidedText,
    Reference,
    Section,
    parse_secret,
    parse_secret_or_text,
    shape_marker,
)
from sidekey.credentials.registry import KINDS

Value = str | int
Errors = list[tuple[Loc, str]]
Pairs = tuple[tuple[str, str], ...]

_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_BRACES = re.compile(r"[{}]")
_OMITTED = object()
"""The result of `_fill` for an entry whose placeholder has no value."""


@cache
def deferred_names() -> frozenset[str]:
    """Return the placeholder names that are filled for each request or token, which a profile must not replace."""
    return frozenset[str]().union(*(kind.filled_later for kind in KINDS.values()))


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping | list):
        for value in data.values() if isinstance(data, Mapping) else data:
            yield from _texts(value)


def _placeholders(data: Any) -> Iterator[str]:
    """Yield the names of the placeholders in all texts of `data`."""
    for text in _texts(data):
        yield from _PLACEHOLDER.findall(text)


class Parameter(Section):
    """A parameter of a profile. `pattern` must match the whole value; `rule` describes the pattern for people.

    A missing parameter has its `default`, which may contain other parameters as `{name}`, or one of `defaults`, which
    depend on the value of another parameter. They map the other parameter's name to its values, and these to defaults.
    """

    description: str
    rule: str
    pattern: str
    example: Value
    type: Literal["text", "number"] = "text"
    required: bool = True
    default: str | None = None
    defaults: dict[str, dict[str, str]] = Field(default={})

    def error(self, value: object) -> str | None:
        """Return the error of a value, without repeating it, or None. A number may be a text of digits."""
        if isinstance(value, bool) or not isinstance(value, str if self.type == "text" else Value):
            kind = "text (put numbers in quotes)" if self.type == "text" else "a number"
            return f"must be {kind}, not a reference: write {self.hint}"
        # Braces would become placeholders once they are filled in, even if the pattern matches them.
        is_valid = re.fullmatch(self.pattern, str(value), re.ASCII) and not _BRACES.search(str(value))
        return None if is_valid else f"must be {self.hint}"

    @property
    def hint(self) -> str:
        """The rule with its example."""
        return f"{self.rule}, such as {self.example}"

    @property
    def depends_on(self) -> frozenset[str]:
        """The parameters that its default contains or depends on."""
        return frozenset(_placeholders(self.default)) | self.defaults.keys()

    def default_for(self, values: Mapping[str, Value]) -> Value | None:
        """Return the default, which may depend on the `values` of parameters above this one, or None."""
        for name, by_value in self.defaults.items():
            if str(values.get(name)) in by_value:
                return by_value[str(values[name])]
        filled = None if self.default is None else _fill(self.default, values, self.depends_on)
        return None if filled is _OMITTED else filled

    def missing_error(self, provider: str) -> str:
        """Return the error of a missing parameter without a default."""
        condition = f"with this {' and '.join(self.defaults)}, " if self.defaults else ""
        return f"this key is missing: {condition}{provider} needs {self.hint}"


Evidence = Literal["one source", "memory"]
"""Where a fact comes from that fewer than two sources confirm."""

Category = Literal[
    "advertising",
    "analytics",
    "business",
    "cloud",
    "commerce",
    "content",
    "CRM",
    "identity",
    "marketing",
    "messaging",
    "payments",
    "security",
    "shipping",
    "support",
]

_ADDED_KEYS = ("endpoint_prefix", "allowed_domains", "add", "signature")
"""The keys of an integration, besides `auth`, that a profile may fill in."""


class Profile(Section):
    """The profile of one platform: keys of an `auth` section of one kind, and of the integration beside it.

    Its texts contain parameters as `{name}`. A secret replaces a text that is its `{name}` as a whole. `secrets` maps
    names to descriptions. `sources` are the origins of its facts, `unconfirmed` the facts with fewer than two sources.
    `aliases` are other names for the platform, and `popular` ones are listed first. With `only_in_files`, a secret is a
    file that only a config file may name. `test` is a suggestion for the
    `test` of an integration, which only its user sets.
    """

    kind: str
    title: str
    aliases: list[Annotated[str, Field(pattern=r"^\S+( \S+)*$")]] = Field(default=[])
    category: Category
    popular: bool = False
    documentation: str
    sources: list[str]
    unconfirmed: dict[str, Evidence] = Field(default={})
    parameters: dict[str, Parameter] = Field(default={})
    secrets: dict[str, str] = Field(default={})
    auth: dict[str, Any]
    only_in_files: bool = False
    endpoint_prefix: str | list[str] = Field(default=[])
    allowed_domains: list[str] = Field(default=[])
    add: dict[str, Any] = Field(default={})
    signature: dict[str, Any] = Field(default={})
    test: TestSettings | None = None
    notes: str

    @model_validator(mode="after")
    def _check(self) -> Profile:
        if not supports_profiles(self.kind):
            raise ValueError(f"kind: {self.kind} does not support profiles")
        dependencies = (name for parameter in self.parameters.values() for name in parameter.depends_on)
        used = {*_placeholders(self.additions), *dependencies}
        unused, undefined = self.names - used, used - self.names - deferred_names()
        if unused or undefined or self.parameters.keys() & self.secrets.keys():
            raise ValueError("parameters and placeholders are not the same")
        if self.signature and self.names & deferred_names():
            raise ValueError("a parameter has the name of a placeholder that a signature fills in")
        if any(self._has_secret(text) and not _PLACEHOLDER.fullmatch(text) for text in _texts(self.additions)):
            raise ValueError("a secret is part of a text")
        if self.test is not None and (not self.test.path or _BRACES.search(self.test.path)):
            raise ValueError("the test request needs a path without parameters")
        self._check_parameters()
        return self

    def _check_parameters(self) -> None:
        values_above: dict[str, Value] = {}
        for name, parameter in self.parameters.items():
            if not parameter.depends_on <= values_above.keys():
                raise ValueError(f"the default of {name} needs a parameter that is not above it")
            defaults = [default for by_value in parameter.defaults.values() for default in by_value.values()]
            for value in (parameter.example, parameter.default_for(values_above), *defaults):
                if value is not None and parameter.error(value) is not None:
                    raise ValueError(f"the example or default of {name} does not match its pattern")
            values_above[name] = parameter.example

    def is_pem(self, secret: str) -> bool:
        """Return True if the profile puts the secret at a private key in PEM."""
        return any(_is_private_key(key) and text == f"{{{secret}}}" for key, text in self.entries())

    def may_be_plain(self, secret: str) -> bool:
        """Return True if a file may also write the secret as plain text, because its key in the kind allows it."""
        return any(self.auth.get(key) == f"{{{secret}}}" for key in KINDS[self.kind].plain_secrets)

    def names_in(self, keys: Collection[str]) -> frozenset[str]:
        """Return the parameters and secrets in these keys of `auth`."""
        return frozenset(_placeholders([self.auth[key] for key in keys if key in self.auth])) & self.names

    def _has_secret(self, text: str) -> bool:
        return not self.secrets.keys().isdisjoint(_placeholders(text))

    def suggestions(self, name: str) -> list[str]:
        """Return known values of a parameter, the most common one first.

        These are the values for which other parameters have a default. If the parameter has a constant default, that
        and the example follow.
        """
        parameter = self.parameters[name]
        known = [value for other in self.parameters.values() for value in other.defaults.get(name, {})]
        if parameter.default is not None and not parameter.depends_on:
            known += [parameter.default, str(parameter.example)]
        return list(dict.fromkeys(known))

    @property
    def names(self) -> frozenset[str]:
        """The keys that the config sets beside `provider`."""
        return frozenset({*self.parameters, *self.secrets})

    @property
    def additions(self) -> dict[str, Any]:
        """The keys that the profile adds to an integration, with placeholders."""
        values = {key: getattr(self, key) for key in _ADDED_KEYS}
        required = {"allow_other_domains": True} if self.allowed_domains else {}
        return {"auth": self.auth, **required, **{key: value for key, value in values.items() if value}}

    def needed_names(self, *, domains: bool = True, prefix: bool = True) -> frozenset[str]:
        """Return the parameters and secrets that the additions need, with or without the `domains` and the `prefix`."""
        additions = self.additions
        for key, is_added in (("allowed_domains", domains), ("endpoint_prefix", prefix)):
            if not is_added:
                additions.pop(key, None)
        needed = set(_placeholders(additions))
        # A default contains only parameters above it: go upwards to find those that it needs in turn.
        for name, parameter in reversed(self.parameters.items()):
            if name in needed:
                needed |= parameter.depends_on
        return frozenset(needed & self.names)

    def entries(self) -> Pairs:
        """Return the additions as pairs of a path and a text."""
        merger = _Merger({})
        merger.merge({}, self.additions, ())
        return tuple(merger.entries)


def _is_private_key(key: str | int) -> bool:
    return str(key).endswith("private_key")


def supports_profiles(kind: str) -> bool:
    """Return True if a kind may have profiles."""
    return kind in KINDS and "provider" in KINDS[kind].model_fields


class ProfileSummary(NamedTuple):
    """The keys that a profile filled in, for people: pairs of a path in the integration and a text without secrets."""

    provider: str
    entries: Pairs


class ProfileAdditions(NamedTuple):
    """The keys that a profile adds to an integration for given parameters."""

    provider: str
    parameters: Mapping[str, Value]
    """The parameters in the document. Those with a default may be missing."""
    added_keys: Mapping[str, Any]
    """The added keys, with `{name}` in place of each secret, so that they may be shown and stored."""
    domains: bool
    """Whether the keys have the profile's domains, if there are any."""
    prefix: bool
    """Whether the keys have the profile's endpoint prefix."""
    secrets: tuple[str, ...]
    """The names of the secrets in the keys."""


class Expansion(NamedTuple):
    """An integration merged with the additions of its profile.

    `table` is the document with the profile's additions. `errors` have locations in the document. With errors, use
    `table` only to check the rest of the integration: it contains examples for missing and invalid values. `origins`
    maps each added location in `table` to its source in the document: the provider, or a secret.
    """

    table: Mapping[str, Any]
    errors: Errors
    summary: ProfileSummary | None
    additions: ProfileAdditions | None = None
    origins: Mapping[Loc, Loc] = MappingProxyType({})

    def source_loc(self, loc: Loc) -> Loc:
        """Return the location in the document for one in `table`. For an addition, this is `provider`."""
        for length in range(len(loc), 0, -1):
            origin = self.origins.get(loc[:length])
            if origin is not None:
                return origin if origin == PROVIDER else (*origin, *loc[length:])
        return loc

    def locate(self, finding: Finding) -> Finding:
        """Move a finding from `table` to the document: to `provider` for an addition, to the key of a secret."""
        source_loc = self.source_loc(finding.loc)
        return finding._replace(source_loc=source_loc, loc=finding.loc if source_loc == PROVIDER else source_loc)


PROVIDER: Loc = ("auth", "provider")
"""The location of the key that names a profile."""


@cache
def provider_names() -> tuple[str, ...]:
    """Return the names of all providers, sorted."""
    files = (entry.name for entry in resources.files("sidekey.providers").iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml")))


@cache
def provider_names_of(kind: str) -> tuple[str, ...]:
    """Return the names of the providers of one kind, sorted."""
    return tuple(name for name in provider_names() if profile(name).kind == kind)


def stored_provider_names_of(kind: str) -> tuple[str, ...]:
    """Return the names of the providers of one kind that a stored integration can use, sorted."""
    return tuple(name for name in provider_names_of(kind) if not profile(name).only_in_files)


@cache
def profile(name: str) -> Profile:
    """Return the profile of a provider."""
    file = f"{name}.yaml"
    return read_profile(file, resources.files("sidekey.providers").joinpath(file).read_bytes())


def find_provider(text: str) -> str | None:
    """Return the provider with this name, title or alias, ignoring case, spaces and punctuation."""
    return _providers_by_name().get(_normalize(text))


@cache
def _providers_by_name() -> Mapping[str, str]:
    return {
        _normalize(text): name
        for name in provider_names()
        for text in (name, profile(name).title, *profile(name).aliases)
    }


def _normalize(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).casefold()


def read_profile(file: str, data: bytes) -> Profile:
    """Read a profile's YAML. Raises ValueError or Malformed, which is a defect of the package."""
    table, errors = parse(file, data)
    if errors:
        raise ValueError(str(errors[0]))
    return Profile.model_validate(table)


def parameter_properties(kind: str) -> dict[str, dict[str, Any]]:
    """Return JSON Schema properties for the parameters and secrets of all profiles of a kind.

    They do not depend on the provider, which `expand` checks.
    """
    types: dict[str, set[str]] = {}
    schemas: dict[str, dict[str, Any]] = {}
    descriptions: dict[str, list[str]] = {}
    for provider in provider_names_of(kind):
        for name, parameter in profile(provider).parameters.items():
            types.setdefault(name, set()).update({"string"} if parameter.type == "text" else {"integer", "string"})
            descriptions.setdefault(name, []).append(f"`{provider}`: {parameter.description}")
        for name, description in profile(provider).secrets.items():
            descriptions.setdefault(name, []).append(f"`{provider}`: {description}")
            schemas.setdefault(name, _secret_schema(profile(provider), name))
    return {
        name: {
            **(schemas[name] if name in schemas else _type_of(types[name])),
            "description": f"Parameter of a provider. {' '.join(texts)}",
        }
        for name, texts in sorted(descriptions.items())
    }


def _secret_schema(owner: Profile, name: str) -> dict[str, Any]:
    if owner.is_pem(name):
        return shape_marker("pem_secret")
    return shape_marker("secret_or_text" if owner.may_be_plain(name) else "secret")


def _type_of(types: set[str]) -> dict[str, Any]:
    return {"type": types.pop() if len(types) == 1 else sorted(types)}


DUMMY_AUTH: Final = {"type": "headers", "headers": {"X-Stand-In": "public"}}
"""A valid `auth` without a secret."""


def expand(raw: Mapping[str, Any], context: Context, previous: ProfileAdditions | None = None) -> Expansion:
    """Add the keys of the profile that `auth.provider` names. The integration's own keys have precedence.

    `raw` is not changed. With `allow_other_domains: false` the profile adds no domains. `previous` are the
    additions in a row, perhaps from an earlier version of the profile. They are used for the same provider and
    parameters.
    """
    auth = raw.get("auth")
    if not isinstance(auth, Mapping) or not isinstance(auth.get("provider"), str):
        return Expansion(raw, [], None)
    kind, provider = str(auth.get("type")), auth["provider"]
    if provider in provider_names() and kind != profile(provider).kind:
        # The keys of `auth` may belong to either type: check the rest with a valid `auth`.
        prefix_of_dummy = {} if "allowed_domains" in raw else {"endpoint_prefix": "https://provider.invalid"}
        table = {**prefix_of_dummy, **raw, "auth": DUMMY_AUTH}
        return Expansion(table, [(PROVIDER, _wrong_type(provider))], None)
    if not supports_profiles(kind):
        return Expansion(raw, [], None)
    # An integration with its own domains, or its own prefix, decides alone where the credential may go.
    domains = raw.get("allow_other_domains") is not False and "allowed_domains" not in raw
    prefix = "endpoint_prefix" not in raw
    providers = provider_names_of(kind)
    if previous is not None and _is_unchanged(previous, KINDS[kind], auth, (domains, prefix)):
        return merge_additions(raw, previous, context)
    if provider in providers:
        matching = profile(provider)
        needed = matching.needed_names(domains=domains, prefix=prefix)
        values, parameter_keys, errors = _read_arguments(auth, provider, matching, needed, context)
    else:
        suggested = find_provider(provider)
        close = [suggested] if suggested in providers else get_close_matches(provider, providers, n=1)
        matching = profile(close[0]) if close else _unknown_provider(kind)
        needed = matching.needed_names(domains=domains, prefix=prefix)
        values, parameter_keys, _ = _read_arguments(auth, provider, matching, needed, context)
        errors = [(PROVIDER, _provider_error(suggested, close, providers))]
    keys = _fill(matching.additions, values, matching.names)
    if not keys.get("allowed_domains"):
        keys = _without_domains(keys)
    parameters = {key: auth[key] for key in auth if key in parameter_keys}
    secrets = tuple(key for key in matching.secrets if key in values)
    replaced = {str(loc[1]): _dummy_secret(context) for loc, _ in errors if loc[1] in secrets}
    additions = ProfileAdditions(provider, parameters, keys, domains, prefix, secrets)
    expansion = merge_additions({**raw, "auth": {**auth, **replaced}} if replaced else raw, additions, context)
    errors += expansion.errors
    return expansion._replace(errors=errors, summary=None, additions=None) if errors else expansion


_HAS_NO_EFFECT: Final = (
    "has no effect, because you set the key yourself that the provider fills with it: remove one of the two"
)


def merge_additions(raw: Mapping[str, Any], additions: ProfileAdditions, context: Context) -> Expansion:
    """Merge a profile's additions into an integration. Remove its parameters, and move its secrets to their keys.

    A secret that is not a reference is an error: at a key that also takes public text, it would be stored and shown.
    An unused secret is an error too, because no code would check, seal or use it.
    """
    keys, raw_auth = additions.added_keys, raw["auth"]
    if raw.get("allow_other_domains") is False:
        keys = _without_domains(keys)
    plain_locs = _plain_locs(raw_auth)
    secrets = {name: raw_auth[name] if name in raw_auth else _dummy_secret(context) for name in additions.secrets}
    merger = _Merger(secrets, plain_locs)
    auth = {key: value for key, value in raw_auth.items() if key not in (*additions.parameters, *additions.secrets)}
    table = merger.merge({**raw, "auth": auth}, keys, ())
    used = frozenset(merger.origins.values())
    pem = {origin[1] for loc, origin in merger.origins.items() if len(origin) > 1 and _is_private_key(loc[-1])}
    plain = {origin[1] for loc, origin in merger.origins.items() if loc in plain_locs}
    errors: Errors = []
    for name in additions.secrets:
        if name in raw_auth:
            reason = _secret_error(raw_auth[name], _parser(pem=name in pem, plain=name in plain), context)
            errors += [] if reason is None else [(("auth", name), reason)]
    errors += [(("auth", name), _HAS_NO_EFFECT) for name in additions.secrets if ("auth", name) not in used]
    summary = ProfileSummary(additions.provider, tuple(merger.entries))
    return Expansion(table, errors, summary, additions, merger.origins)


def _dummy_secret(context: Context) -> Mapping[str, Any]:
    """Return a valid secret in place of a missing or invalid one, so that the rest is still checked.

    In an API body or a stored row, its ID is one that no stored secret has.
    """
    return {"env": "SECRET"} if context.is_file else {"set": True, "id": ""}


def _without_domains(keys: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in keys.items() if key not in ("allow_other_domains", "allowed_domains")}


def _is_unchanged(
    previous: ProfileAdditions, kind: type[KindSettings], auth: Mapping[str, Any], adds: tuple[bool, bool]
) -> bool:
    """Return True if `auth` has the same provider, parameters and names of secrets as when `previous` was computed.

    `adds` are the current values of `previous.domains` and `previous.prefix`.
    """
    arguments = {
        key: value for key, value in auth.items() if key in previous.parameters or key not in kind.model_fields
    }
    secrets = tuple(key for key in previous.secrets if key in arguments)
    parameters = {key: value for key, value in arguments.items() if key not in secrets}
    return (
        (previous.provider, previous.domains, previous.prefix) == (auth["provider"], *adds)
        and previous.secrets == secrets
        and _comparable(parameters) == _comparable(previous.parameters)
    )


def _comparable(parameters: Mapping[str, Any]) -> str:
    """Return parameters in comparable form: 12 is not "12", and an unknown key is not a missing parameter."""
    return json.dumps(parameters, sort_keys=True, default=repr)


def _unknown_provider(kind: str) -> Profile:
    """Return a profile in place of an unknown provider without a similar name, so that the rest is still checked."""
    model = KINDS[kind]
    prefix: str | list[str] = "https://provider.invalid" if model.needs_prefix else []
    placeholder = dict(model.placeholder_profile)
    secrets = dict.fromkeys(_placeholders(placeholder), "")
    return Profile(
        kind=kind,
        title="",
        category="business",
        documentation="",
        sources=[],
        secrets=secrets,
        auth=placeholder,
        endpoint_prefix=prefix,
        notes="",
    )


def _provider_error(suggested: str | None, close: list[str], providers: tuple[str, ...]) -> str:
    """Return the error of a name that is not one of the kind's `providers`.

    `suggested` is the provider with this title or alias, which may be of another kind.
    """
    if suggested is not None and suggested not in providers:
        return f"no such provider; {_wrong_type(suggested)}"
    return f"no such provider; {_hint(close, providers)}"


def _wrong_type(provider: str) -> str:
    kind = profile(provider).kind
    return f"`{provider}` is a profile of `{kind}`: write `auth: {{type: {kind}, provider: {provider}, …}}`"


def _read_arguments(
    auth: Mapping[str, Any], provider: str, matching: Profile, needed: frozenset[str], context: Context
) -> tuple[dict[str, Value], set[str], Errors]:
    """Return the values of parameters and secrets, the keys of `auth` that `merged` must remove, and the errors.

    An example replaces a missing or invalid value. The value of a secret is its own placeholder. `needed` are the
    names that must have a value.
    """
    parameter_keys, misspelt, errors = _unknown_keys(auth, provider, matching)
    values: dict[str, Value] = {}
    for name, parameter in matching.parameters.items():
        value, reason = auth.get(name), None
        if name in auth:
            parameter_keys.add(name)
            reason = parameter.error(value)
        else:
            value = parameter.default_for(values)
            if value is None and not (parameter.required and name in needed):
                continue
            reason = parameter.missing_error(provider) if value is None else None
        values[name] = parameter.example if value is None or reason is not None else value
        if reason is not None and (name in auth or name not in misspelt):
            errors.append((("auth", name), reason))
    for name, description in matching.secrets.items():
        if name in auth or name in needed:
            values[name] = f"{{{name}}}"
        if name in auth:
            parse = _parser(pem=matching.is_pem(name), plain=matching.may_be_plain(name))
            reason = _secret_error(auth[name], parse, context)
            errors += [] if reason is None else [(("auth", name), reason)]
        elif name in needed and name not in misspelt:
            errors.append((("auth", name), f"this secret is missing: {description}"))
    return values, parameter_keys, errors


def _plain_locs(auth: Mapping[str, Any]) -> frozenset[Loc]:
    """Return the locations in an integration at which a file may write a secret as plain text."""
    kind = KINDS.get(str(auth.get("type")))
    return frozenset() if kind is None else frozenset(("auth", key) for key in kind.plain_secrets)


def _parser(*, pem: bool, plain: bool) -> Callable[[object, Context], Reference]:
    if pem:
        return partial(parse_secret, pem=True)
    return parse_secret_or_text if plain else parse_secret


def _secret_error(value: object, parse: Callable[[object, Context], Reference], context: Context) -> str | None:
    """Return the error of a secret, or of the first invalid one in a list.

    The models do not check this at all keys, because some take public texts as well.
    """
    try:
        for secret in value if isinstance(value, list) else [value]:
            parse(secret, context)
    except ValueError as error:
        return str(error)
    return None


def _unknown_keys(auth: Mapping[str, Any], provider: str, matching: Profile) -> tuple[set[str], set[str], Errors]:
    """Find keys that are misspelt parameters or those of other profiles. The model reports other unknown keys.

    Return these keys, the parameters and secrets that they misspell, and the errors.
    """
    kind_keys = KINDS[matching.kind].model_fields
    unknown: set[str] = set()
    misspelt: set[str] = set()
    errors: Errors = []
    for key in auth:
        if key in kind_keys or key in matching.names:
            continue
        close: list[str] = []
        if len(errors) < MAX_ERRORS:
            close = get_close_matches(key, [*kind_keys, *matching.parameters, *matching.secrets], n=1)
        if close and close[0] in matching.names:
            misspelt.add(close[0])
            message = f"unknown key; did you mean {close[0]}?"
        elif any(key in profile(other).names for other in provider_names_of(matching.kind)):
            message = f"{provider} has no such parameter; {_hint([], (*matching.parameters, *matching.secrets))}"
        else:
            continue
        unknown.add(key)
        errors.append((("auth", key), message))
    return unknown, misspelt, errors


def _hint(close: list[str], known: Any) -> str:
    if close:
        return f"did you mean {close[0]}?"
    return f"known: {', '.join(known)}" if known else "it has none"


def _fill(data: Any, values: Mapping[str, Value], names: Collection[str]) -> Any:
    """Replace the placeholders with one of `names` in `data`. Remove entries whose placeholder has no value.

    Mappings and lists that become empty are removed too. A text that is one placeholder becomes the value itself, so
    that a number stays a number. Other placeholders stay, to be filled per request.
    """
    if isinstance(data, str):
        used = {name for name in _placeholders(data) if name in names}
        if not values.keys() >= used:
            return _OMITTED
        placeholder = _PLACEHOLDER.fullmatch(data)
        if placeholder and used:
            return values[placeholder[1]]
        return _PLACEHOLDER.sub(lambda match: str(values[match[1]]) if match[1] in used else match[0], data)
    filled: Any
    if isinstance(data, Mapping):
        filled = {key: _fill(value, values, names) for key, value in data.items()}
        filled = {key: value for key, value in filled.items() if value is not _OMITTED}
    elif isinstance(data, list):
        filled = [value for value in (_fill(value, values, names) for value in data) if value is not _OMITTED]
    else:
        return data
    return filled if filled or not data else _OMITTED


class _Merger:
    """Merges the additions of a profile into an integration, and replaces placeholders by `secrets`.

    It records additions as `entries`, for people, and as `origins` (`Expansion.origins`). A text at one of `plain_locs`
    becomes a `ProvidedText`.
    """

    def __init__(self, secrets: Mapping[str, Any], plain_locs: Set[Loc] = frozenset()) -> None:
        self.entries: list[tuple[str, str]] = []
        self.origins: dict[Loc, Loc] = {}
        self._secrets = secrets
        self._plain_locs = plain_locs

    def merge(self, base: Mapping[str, Any], additions: Mapping[str, Any], loc: Loc) -> dict[str, Any]:
        """Return a new mapping with all of `base`, and recursively the keys of `additions` that it lacks."""
        merged: dict[str, Any] = {}
        for key, value in base.items():
            added = additions.get(key)
            are_mappings = isinstance(value, Mapping) and isinstance(added, Mapping)
            merged[key] = self.merge(value, added or {}, (*loc, key)) if are_mappings else value
        for key, value in additions.items():
            if key not in base:
                self.origins[*loc, key] = PROVIDER
                merged[key] = self._add(value, (*loc, key))
        return merged

    def _add(self, value: Any, loc: Loc) -> Any:
        if isinstance(value, Mapping):
            return self.merge({}, value, loc)
        self.entries.append(
            (format_loc(loc), ", ".join(map(_text, value)) if isinstance(value, list) else _text(value))
        )
        if isinstance(value, list):
            return [self._secret(item, (*loc, index)) for index, item in enumerate(value)]
        return self._secret(value, loc)

    def _secret(self, value: Any, loc: Loc) -> Any:
        """Return the secret for its placeholder, and any other value itself."""
        placeholder = _PLACEHOLDER.fullmatch(value) if isinstance(value, str) else None
        if placeholder is None or placeholder[1] not in self._secrets:
            return ProvidedText(value) if loc in self._plain_locs else value
        self.origins[loc] = ("auth", placeholder[1])
        return self._secrets[placeholder[1]]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
