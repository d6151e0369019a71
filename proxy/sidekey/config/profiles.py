"""Provider profiles: data that fills in an `auth` block of one kind, and keys beside it, for one platform.

A profile is a file of `sidekey/providers`. Its parameters are beside `provider` in the config and replace `{name}` in
its texts. They become part of host names, so each must match its whole pattern before it is used. Its secrets are
beside them as references, and each goes whole where the profile says `{name}`: nothing here reads one.
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

from sidekey.config.errors import MAX_ERRORS, Finding, Loc, show
from sidekey.config.models import TestSettings
from sidekey.config.yaml_reader import parse
from sidekey.credentials.base import KindSettings
from sidekey.credentials.context import Context
from sidekey.credentials.fields import ProvidedText, Reference, Section, marker, parse_secret, parse_secret_or_text
from sidekey.credentials.registry import KINDS

Value = str | int
Found = list[tuple[Loc, str]]
Pairs = tuple[tuple[str, str], ...]

_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_BRACES = re.compile(r"[{}]")
_LEFT_OUT = object()


@cache
def later() -> frozenset[str]:
    """What `{name}` may stand for in a text that is filled for each request or token; a profile leaves it as it is."""
    return frozenset[str]().union(*(kind.filled_later for kind in KINDS.values()))


def _texts(data: Any) -> Iterator[str]:
    """The texts in `data`."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping | list):
        for value in data.values() if isinstance(data, Mapping) else data:
            yield from _texts(value)


def _placeholders(data: Any) -> Iterator[str]:
    """The names in the texts of `data`."""
    for text in _texts(data):
        yield from _PLACEHOLDER.findall(text)


class Parameter(Section):
    """What a profile asks for. `pattern` must match the whole value, `rule` says the same in words.

    One that is not written has its `default`, which may hold other parameters as `{name}`, or what `defaults` say for
    the value of another parameter: names of parameters, their values, and the default that goes with each.
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
        """What is wrong with a value, without repeating it. A number may be a text of digits."""
        if isinstance(value, bool) or not isinstance(value, str if self.type == "text" else Value):
            kind = "text (put numbers in quotes)" if self.type == "text" else "a number"
            return f"must be {kind}, not a reference: write {self.hint}"
        # Braces would stand for something else once they are filled in, whatever the pattern takes.
        taken = re.fullmatch(self.pattern, str(value), re.ASCII) and not _BRACES.search(str(value))
        return None if taken else f"must be {self.hint}"

    @property
    def hint(self) -> str:
        """The rule with its example."""
        return f"{self.rule}, such as {self.example}"

    @property
    def depends_on(self) -> frozenset[str]:
        """The parameters that its default is made of."""
        return frozenset(_placeholders(self.default)) | self.defaults.keys()

    def default_of(self, values: Mapping[str, Value]) -> Value | None:
        """Its value where it is not written, by those of the parameters above; None where it has none."""
        for name, known in self.defaults.items():
            if str(values.get(name)) in known:
                return known[str(values[name])]
        filled = None if self.default is None else _fill(self.default, values, self.depends_on)
        return None if filled is _LEFT_OUT else filled

    def missing(self, provider: str) -> str:
        """What is wrong where it is not written and has no default."""
        given = f"with this {' and '.join(self.defaults)}, " if self.defaults else ""
        return f"this key is missing: {given}{provider} needs {self.hint}"


Grounds = Literal["one source", "memory"]
"""What something rests on that two sources do not say."""

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

_BROUGHT = ("endpoint_prefix", "allowed_domains", "add", "signature")
"""The keys of an integration, besides `auth`, that a profile may fill in."""


class Profile(Section):
    """One platform: what it fills in of `auth`, which is of the kind `kind`, and of the integration beside it.

    Texts hold parameters as `{name}`; one that is the `{name}` of a secret and nothing else is replaced by it.
    `secrets` are the names of secrets, each with what it is. `sources` say where its facts are from, none: from memory.
    `unconfirmed` are those of its facts that rest on less than two sources. `aliases` are other names that people use
    for the platform. `popular` marks the platforms to list first. `test` suggests the `test` of an integration; no
    integration has it unless its user sets it.
    """

    kind: str
    title: str
    aliases: list[Annotated[str, Field(pattern=r"^\S+( \S+)*$")]] = Field(default=[])
    category: Category
    popular: bool = False
    documentation: str
    sources: list[str]
    unconfirmed: dict[str, Grounds] = Field(default={})
    parameters: dict[str, Parameter] = Field(default={})
    secrets: dict[str, str] = Field(default={})
    auth: dict[str, Any]
    endpoint_prefix: str | list[str] = Field(default=[])
    allowed_domains: list[str] = Field(default=[])
    add: dict[str, Any] = Field(default={})
    signature: dict[str, Any] = Field(default={})
    test: TestSettings | None = None
    notes: str

    @model_validator(mode="after")
    def _whole(self) -> Profile:
        if not takes_profiles(self.kind):
            raise ValueError(f"kind: {self.kind} takes no profiles")
        used = {*_placeholders(self.brought), *(name for each in self.parameters.values() for name in each.depends_on)}
        # Few texts are filled later, and to know of which names that is said takes all kinds.
        others = used - self.names
        if not used >= self.names or (others and others - later()) or self.parameters.keys() & self.secrets.keys():
            raise ValueError("parameters and placeholders are not the same")
        if self.signature and self.names & later():
            raise ValueError("a parameter has the name of what a signature is made of")
        if any(self._has_secret(text) and not _PLACEHOLDER.fullmatch(text) for text in _texts(self.brought)):
            raise ValueError("a secret is part of a text")
        if self.test is not None and (not self.test.path or _BRACES.search(self.test.path)):
            raise ValueError("the test request needs a path without parameters")
        self._check_parameters()
        return self

    def _check_parameters(self) -> None:
        above: dict[str, Value] = {}
        for name, parameter in self.parameters.items():
            if not parameter.depends_on <= above.keys():
                raise ValueError(f"the default of {name} needs a parameter that is not above it")
            defaults = [default for known in parameter.defaults.values() for default in known.values()]
            for value in (parameter.example, parameter.default_of(above), *defaults):
                if value is not None and parameter.error(value) is not None:
                    raise ValueError(f"the example or default of {name} is not what its pattern takes")
            above[name] = parameter.example

    def is_pem(self, secret: str) -> bool:
        """Whether a secret is in PEM: it is put where a private key belongs."""
        return any(_is_key(key) and text == f"{{{secret}}}" for key, text in self.entries())

    def may_be_plain(self, secret: str) -> bool:
        """Return True if a file may also write the secret as plain text: it is put where the kind takes that."""
        return any(self.auth.get(key) == f"{{{secret}}}" for key in KINDS[self.kind].plain_secrets)

    def names_in(self, keys: Collection[str]) -> frozenset[str]:
        """Return the parameters and secrets that these keys of `auth` are made of."""
        return frozenset(_placeholders([self.auth[key] for key in keys if key in self.auth])) & self.names

    def _has_secret(self, text: str) -> bool:
        return not self.secrets.keys().isdisjoint(_placeholders(text))

    def suggestions(self, name: str) -> list[str]:
        """Return known values of a parameter, the most common one first.

        These are its default and its example, if its default is a value, and the values for which other parameters
        have a default.
        """
        parameter = self.parameters[name]
        known = [value for each in self.parameters.values() for value in each.defaults.get(name, {})]
        if parameter.default is not None and not parameter.depends_on:
            known += [parameter.default, str(parameter.example)]
        return list(dict.fromkeys(known))

    @property
    def names(self) -> frozenset[str]:
        """The keys that it has beside `provider`."""
        return frozenset({*self.parameters, *self.secrets})

    @property
    def brought(self) -> dict[str, Any]:
        """The keys of an integration that the profile brings, with placeholders."""
        found = {key: getattr(self, key) for key in _BROUGHT}
        switch = {"allow_other_domains": True} if self.allowed_domains else {}
        return {"auth": self.auth, **switch, **{key: value for key, value in found.items() if value}}

    def needs(self, *, domains: bool = True, prefix: bool = True) -> frozenset[str]:
        """The parameters and secrets of what is filled in, with the `domains` and the `prefix` or without them."""
        brought = self.brought
        for key, counts in (("allowed_domains", domains), ("endpoint_prefix", prefix)):
            if not counts:
                brought.pop(key, None)
        found = set(_placeholders(brought))
        for name, parameter in reversed(self.parameters.items()):
            if name in found:
                found |= parameter.depends_on
        return frozenset(found & self.names)

    def entries(self) -> Pairs:
        """`brought` as paths of keys and texts."""
        filling = _Filling({})
        filling.merge({}, self.brought, ())
        return tuple(filling.entries)


def _is_key(place: str | int) -> bool:
    """Whether what is there is a private key in PEM, by the last name of a place."""
    return str(place).endswith("private_key")


def takes_profiles(kind: str) -> bool:
    """Whether there may be profiles for a kind."""
    return kind in KINDS and "provider" in KINDS[kind].model_fields


class ProfileSummary(NamedTuple):
    """What a profile filled in, for people: paths of keys in the integration and texts, none of them secret."""

    provider: str
    entries: Pairs


class ProfileAdditions(NamedTuple):
    """What a profile brings for some parameters: keys of an integration, beside those that are written."""

    provider: str
    parameters: Mapping[str, Value]
    """As they were written; those with a default may be missing."""
    keys: Mapping[str, Any]
    """With `{name}` for each secret, so that it may be shown and stored."""
    domains: bool
    """Whether the profile's domains are among the keys, where it has any."""
    prefix: bool
    """Whether its endpoint prefix is."""
    secrets: tuple[str, ...]
    """The names of those that the keys have."""


class Expansion(NamedTuple):
    """An integration with its profile filled in.

    The places of `errors` are in the mapping that was expanded. Where there are any, `table` serves only to check the
    rest of the integration: it contains examples for what is missing or wrong, and nothing may be built of it.
    `origins` are the places of what was filled in, each with that of what filled it: the provider, or a secret.
    """

    table: Mapping[str, Any]
    errors: Found
    filled: ProfileSummary | None
    brought: ProfileAdditions | None = None
    origins: Mapping[Loc, Loc] = MappingProxyType({})

    def written(self, loc: Loc) -> Loc:
        """Where the mapping that was expanded has what is at a place of `table`: what was brought, at `provider`."""
        for length in range(len(loc), 0, -1):
            origin = self.origins.get(loc[:length])
            if origin is not None:
                return origin if origin == PROVIDER else (*origin, *loc[length:])
        return loc

    def placed(self, finding: Finding) -> Finding:
        """A finding about `table`, as it is told: what was filled in is at the provider, a secret at its own."""
        where = self.written(finding.loc)
        return finding._replace(written=where, loc=finding.loc if where == PROVIDER else where)


PROVIDER: Loc = ("auth", "provider")
"""The place of the key that names a profile."""


@cache
def names() -> tuple[str, ...]:
    """The providers there are, in order."""
    files = (entry.name for entry in resources.files("sidekey.providers").iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml")))


@cache
def names_of(kind: str) -> tuple[str, ...]:
    """Those of one kind."""
    return tuple(name for name in names() if profile(name).kind == kind)


@cache
def profile(name: str) -> Profile:
    """The profile of one of `names()`."""
    file = f"{name}.yaml"
    return read_profile(file, resources.files("sidekey.providers").joinpath(file).read_bytes())


def find_provider(text: str) -> str | None:
    """Return the provider with this name, title or alias, apart from case, spaces and punctuation."""
    return _providers_by_name().get(_folded(text))


@cache
def _providers_by_name() -> Mapping[str, str]:
    found = {name: profile(name) for name in names()}
    return {_folded(text): name for name, each in found.items() for text in (name, each.title, *each.aliases)}


def _folded(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).casefold()


def read_profile(file: str, data: bytes) -> Profile:
    """Read a profile's YAML. Raises ValueError or Malformed: the package itself is broken then."""
    table, errors = parse(file, data)
    if errors:
        raise ValueError(str(errors[0]))
    return Profile.model_validate(table)


def parameter_properties(kind: str) -> dict[str, dict[str, Any]]:
    """JSON schema properties of all parameters and secrets of a kind's profiles; whose they are is left to `expand`."""
    types: dict[str, set[str]] = {}
    schemas: dict[str, dict[str, Any]] = {}
    meanings: dict[str, list[str]] = {}
    for provider in names_of(kind):
        for name, parameter in profile(provider).parameters.items():
            types.setdefault(name, set()).update({"string"} if parameter.type == "text" else {"integer", "string"})
            meanings.setdefault(name, []).append(f"`{provider}`: {parameter.description}")
        for name, description in profile(provider).secrets.items():
            meanings.setdefault(name, []).append(f"`{provider}`: {description}")
            schemas.setdefault(name, _secret_schema(profile(provider), name))
    return {
        name: {
            **(schemas[name] if name in schemas else _type_of(types[name])),
            "description": f"Parameter of a provider. {' '.join(said)}",
        }
        for name, said in sorted(meanings.items())
    }


def _secret_schema(found: Profile, name: str) -> dict[str, Any]:
    if found.is_pem(name):
        return marker("pem_secret")
    return marker("secret_or_text" if found.may_be_plain(name) else "secret")


def _type_of(types: set[str]) -> dict[str, Any]:
    """The schema of a parameter of these types."""
    return {"type": types.pop() if len(types) == 1 else sorted(types)}


def expand(raw: Mapping[str, Any], context: Context, known: ProfileAdditions | None = None) -> Expansion:
    """Fill in what the provider named in an integration's `auth` brings; what the integration writes itself stays.

    `raw` is left as it is. No domains come where the integration writes `allow_other_domains: false`. `known` is used
    instead of what the profile brings today, where it is for the same provider and parameters.
    """
    auth = raw.get("auth")
    if not isinstance(auth, Mapping) or not isinstance(auth.get("provider"), str):
        return Expansion(raw, [], None)
    name, provider = str(auth.get("type")), auth["provider"]
    if not takes_profiles(name):
        return Expansion(raw, [], None)
    # Whoever writes the domains, or the prefix, decides alone where the credential may go.
    domains = raw.get("allow_other_domains") is not False and "allowed_domains" not in raw
    prefix = "endpoint_prefix" not in raw
    alike = names_of(name)
    foreign = provider in names() and provider not in alike
    if known is not None and not foreign and _same(known, KINDS[name], auth, (domains, prefix)):
        return merged(raw, known, context)
    if provider in alike:
        found = profile(provider)
        needed = found.needs(domains=domains, prefix=prefix)
        values, taken, errors = _arguments(auth, provider, found, needed, context)
    else:
        suggested = find_provider(provider)
        close = [suggested] if suggested in alike else get_close_matches(provider, alike, n=1)
        found = profile(close[0]) if close else _unknown_provider(name)
        values, taken, _ = _arguments(auth, provider, found, found.needs(domains=domains, prefix=prefix), context)
        errors = [(PROVIDER, _no_provider(provider, suggested, close, alike))]
    keys = _fill(found.brought, values, found.names)
    if not keys.get("allowed_domains"):
        keys = _without_domains(keys)
    parameters = {key: auth[key] for key in auth if key in taken}
    secrets = tuple(key for key in found.secrets if key in values)
    wrong = {str(loc[1]): _stand_in(context) for loc, _ in errors if loc[1] in secrets}
    brought = ProfileAdditions(provider, parameters, keys, domains, prefix, secrets)
    expansion = merged({**raw, "auth": {**auth, **wrong}} if wrong else raw, brought, context)
    errors += expansion.errors
    return expansion._replace(errors=errors, filled=None, brought=None) if errors else expansion


_UNUSED: Final = "is used nowhere, since the key that the provider puts it into is written here as well: remove one"


def merged(raw: Mapping[str, Any], brought: ProfileAdditions, context: Context) -> Expansion:
    """An integration with what a profile brings; the parameters are taken out, and secrets are where it has them.

    What is no secret is an error, since some of those places take public texts: it would be stored and shown as one. So
    is a secret that goes nowhere: nothing would check, seal or use it.
    """
    keys, own = brought.keys, raw["auth"]
    if raw.get("allow_other_domains") is False:
        keys = _without_domains(keys)
    plain_places = _plain_places(own)
    secrets = {name: own[name] if name in own else _stand_in(context) for name in brought.secrets}
    filling = _Filling(secrets, plain_places)
    auth = {key: value for key, value in own.items() if key not in (*brought.parameters, *brought.secrets)}
    table = filling.merge({**raw, "auth": auth}, keys, ())
    used = frozenset(filling.origins.values())
    pem = {origin[1] for loc, origin in filling.origins.items() if len(origin) > 1 and _is_key(loc[-1])}
    plain = {origin[1] for loc, origin in filling.origins.items() if loc in plain_places}
    written = [name for name in brought.secrets if name in own]
    found = (
        (name, _secret_error(own[name], _parser(pem=name in pem, plain=name in plain), context)) for name in written
    )
    errors: Found = [(("auth", name), reason) for name, reason in found if reason is not None]
    unused = (("auth", name) for name in brought.secrets if ("auth", name) not in used)
    errors += [(loc, _UNUSED) for loc in unused]
    filled = ProfileSummary(brought.provider, tuple(filling.entries))
    return Expansion(table, errors, filled, brought, filling.origins)


def _stand_in(context: Context) -> Mapping[str, Any]:
    """Build a valid secret in place of one that is missing or wrong, so that the rest is still checked.

    In a body or row it has an ID under which no secret is stored.
    """
    return {"env": "SECRET"} if context.is_file else {"set": True, "id": ""}


def _without_domains(keys: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in keys.items() if key not in ("allow_other_domains", "allowed_domains")}


def _same(
    known: ProfileAdditions, kind: type[KindSettings], auth: Mapping[str, Any], counts: tuple[bool, bool]
) -> bool:
    """Whether an `auth` block names the same provider with the same parameters, and has secrets of the same names.

    `counts`: whether the profile's domains are filled in, and its prefix.
    """
    given = {key: value for key, value in auth.items() if key in known.parameters or key not in kind.model_fields}
    secrets = tuple(key for key in known.secrets if key in given)
    public = {key: value for key, value in given.items() if key not in secrets}
    return (
        (known.provider, known.domains, known.prefix) == (auth["provider"], *counts)
        and known.secrets == secrets
        and _exactly(public) == _exactly(known.parameters)
    )


def _exactly(parameters: Mapping[str, Any]) -> str:
    """Parameters as they are compared: 12 is not "12", and an unknown key is not a parameter that is left out."""
    return json.dumps(parameters, sort_keys=True, default=repr)


def _unknown_provider(kind: str) -> Profile:
    """Fills in for a provider without a similar name, so that the rest of the integration is still checked."""
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


def _no_provider(name: str, suggested: str | None, close: list[str], alike: tuple[str, ...]) -> str:
    """Return the error of a name that is not a provider of the kind; `alike` are the kind's providers.

    `suggested` is the provider with this title or alias, which may be of another kind.
    """
    if name in names():
        return f"this provider needs type: {profile(name).kind}"
    if suggested is not None and suggested not in alike:
        return f"no such provider; did you mean {suggested}, which needs type: {profile(suggested).kind}?"
    return f"no such provider; {_way_out(close, alike)}"


def _arguments(
    auth: Mapping[str, Any], provider: str, found: Profile, needed: frozenset[str], context: Context
) -> tuple[dict[str, Value], set[str], Found]:
    """The parameters' values, the keys of `auth` that were read (or checked) here, and errors.

    An example replaces a value that is missing or wrong. A secret has its own placeholder for a value. `needed` are the
    names of what must have one.
    """
    taken, meant, errors = _other_keys(auth, provider, found)
    values: dict[str, Value] = {}
    for name, parameter in found.parameters.items():
        value, reason = auth.get(name), None
        if name in auth:
            taken.add(name)
            reason = parameter.error(value)
        else:
            value = parameter.default_of(values)
            if value is None and not (parameter.required and name in needed):
                continue
            reason = parameter.missing(provider) if value is None else None
        values[name] = parameter.example if value is None or reason is not None else value
        if reason is not None and (name in auth or name not in meant):
            errors.append((("auth", name), reason))
    for name, description in found.secrets.items():
        if name in auth or name in needed:
            values[name] = f"{{{name}}}"
        if name in auth:
            parse = _parser(pem=found.is_pem(name), plain=found.may_be_plain(name))
            reason = _secret_error(auth[name], parse, context)
            errors += [] if reason is None else [(("auth", name), reason)]
        elif name in needed and name not in meant:
            errors.append((("auth", name), f"this secret is missing: {description}"))
    return values, taken, errors


def _plain_places(auth: Mapping[str, Any]) -> frozenset[Loc]:
    """Return the places of an integration at which a file may write a secret as plain text."""
    kind = KINDS.get(str(auth.get("type")))
    return frozenset() if kind is None else frozenset(("auth", key) for key in kind.plain_secrets)


def _parser(*, pem: bool, plain: bool) -> Callable[[object, Context], Reference]:
    """Return the parser of a secret that a profile asks for."""
    if pem:
        return partial(parse_secret, pem=True)
    return parse_secret_or_text if plain else parse_secret


def _secret_error(value: object, parse: Callable[[object, Context], Reference], context: Context) -> str | None:
    """Return the error of a secret, or of the first wrong one of several.

    Checked here too, since not every place that it may be put in takes secrets alone.
    """
    try:
        for each in value if isinstance(value, list) else [value]:
            parse(each, context)
    except ValueError as error:
        return str(error)
    return None


def _other_keys(auth: Mapping[str, Any], provider: str, found: Profile) -> tuple[set[str], set[str], Found]:
    """Keys that are misspelt parameters or those of other profiles, which parameters are meant, and the errors.

    Other unknown keys are left to the model.
    """
    known = KINDS[found.kind].model_fields
    taken: set[str] = set()
    meant: set[str] = set()
    errors: Found = []
    for key in auth:
        if key in known or key in found.names:
            continue
        close: list[str] = []
        if len(errors) < MAX_ERRORS:
            close = get_close_matches(key, [*known, *found.parameters, *found.secrets], n=1)
        if close and close[0] in found.names:
            meant.add(close[0])
            message = f"unknown key; did you mean {close[0]}?"
        elif any(key in profile(other).names for other in names_of(found.kind)):
            message = f"{provider} has no such parameter; {_way_out([], (*found.parameters, *found.secrets))}"
        else:
            continue
        taken.add(key)
        errors.append((("auth", key), message))
    return taken, meant, errors


def _way_out(close: list[str], known: Any) -> str:
    if close:
        return f"did you mean {close[0]}?"
    return f"known: {', '.join(known)}" if known else "it has none"


def _fill(data: Any, values: Mapping[str, Value], names: Collection[str]) -> Any:
    """`data` with values for the placeholders of these names; without the entries that lack one.

    What held nothing else goes as well. A text that is one placeholder and nothing else becomes the value itself: a
    number stays a number. Other placeholders stay: they stand for what is known later.
    """
    if isinstance(data, str):
        found = {name for name in _placeholders(data) if name in names}
        if not values.keys() >= found:
            return _LEFT_OUT
        whole = _PLACEHOLDER.fullmatch(data)
        if whole and found:
            return values[whole[1]]
        return _PLACEHOLDER.sub(lambda match: str(values[match[1]]) if match[1] in found else match[0], data)
    filled: Any
    if isinstance(data, Mapping):
        filled = {key: _fill(value, values, names) for key, value in data.items()}
        filled = {key: value for key, value in filled.items() if value is not _LEFT_OUT}
    elif isinstance(data, list):
        filled = [value for value in (_fill(value, values, names) for value in data) if value is not _LEFT_OUT]
    else:
        return data
    return filled if filled or not data else _LEFT_OUT


class _Filling:
    """Merges what a profile brings into an integration's mappings, with `secrets` in their places.

    It notes what was new as `entries`, for people, and as `origins` (`Expansion.origins`). A text at one of
    `plain_places` becomes a `ProvidedText`.
    """

    def __init__(self, secrets: Mapping[str, Any], plain_places: Set[Loc] = frozenset()) -> None:
        self.entries: list[tuple[str, str]] = []
        self.origins: dict[Loc, Loc] = {}
        self._secrets = secrets
        self._plain_places = plain_places

    def merge(self, own: Mapping[str, Any], brought: Mapping[str, Any], loc: Loc) -> dict[str, Any]:
        """A new mapping with all of `own`, and beside it, mapping by mapping, what it lacks of `brought`."""
        merged: dict[str, Any] = {}
        for key, value in own.items():
            inner = brought.get(key)
            both = isinstance(value, Mapping) and isinstance(inner, Mapping)
            merged[key] = self.merge(value, inner or {}, (*loc, key)) if both else value
        for key, value in brought.items():
            if key not in own:
                self.origins[*loc, key] = PROVIDER
                merged[key] = self._placed(value, (*loc, key))
        return merged

    def _placed(self, value: Any, loc: Loc) -> Any:
        if isinstance(value, Mapping):
            return self.merge({}, value, loc)
        self.entries.append((show(loc), ", ".join(map(_text, value)) if isinstance(value, list) else _text(value)))
        if isinstance(value, list):
            return [self._secret(each, (*loc, index)) for index, each in enumerate(value)]
        return self._secret(value, loc)

    def _secret(self, value: Any, loc: Loc) -> Any:
        """The secret that a text stands for; any other value itself."""
        whole = _PLACEHOLDER.fullmatch(value) if isinstance(value, str) else None
        if whole is None or whole[1] not in self._secrets:
            return ProvidedText(value) if loc in self._plain_places else value
        self.origins[loc] = ("auth", whole[1])
        return self._secrets[whole[1]]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
