"""Provider profiles: data that fills in an `auth` block of one kind, and the domains beside it, for one platform.

A profile is a file of `sidekey/providers`. Its parameters are beside `provider` in the config and replace `{name}` in
its texts. They become part of host names, so each must match its whole pattern before it is used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from sidekey.credentials.base import KindSettings
from sidekey.credentials.registry import KINDS
from sidekey.settings.config_errors import Loc, show
from sidekey.settings.document import parse
from sidekey.settings.models import Section

Value = str | int
Found = list[tuple[Loc, str]]
Pairs = tuple[tuple[str, str], ...]

_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_LEFT_OUT = object()


def _placeholders(data: Any) -> Iterator[str]:
    """The names in the texts of `data`."""
    if isinstance(data, str):
        yield from _PLACEHOLDER.findall(data)
    elif isinstance(data, Mapping | list):
        for value in data.values() if isinstance(data, Mapping) else data:
            yield from _placeholders(value)


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
        return None if re.fullmatch(self.pattern, str(value), re.ASCII) else f"must be {self.hint}"

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
        filled = None if self.default is None else _fill(self.default, values)
        return None if filled is _LEFT_OUT else filled

    def missing(self, provider: str) -> str:
        """What is wrong where it is not written and has no default."""
        given = f"with this {' and '.join(self.defaults)}, " if self.defaults else ""
        return f"this key is missing: {given}{provider} needs {self.hint}"


class Profile(Section):
    """One platform. Texts of `auth`, which is of the kind `kind`, and `allowed_domains` hold parameters as `{name}`."""

    kind: str
    title: str
    documentation: str
    parameters: dict[str, Parameter] = Field(default={})
    auth: dict[str, Any]
    allowed_domains: list[str] = Field(default=[])
    notes: str

    @model_validator(mode="after")
    def _whole(self) -> Profile:
        needed = KINDS[self.kind].placeholder_profile.keys() if self.kind in KINDS else ()
        if not needed:
            raise ValueError(f"kind: {self.kind} takes no profiles")
        for key in needed - self.auth.keys():
            raise ValueError(f"auth.{key} is missing")
        used = {*_placeholders(self.brought), *(name for each in self.parameters.values() for name in each.depends_on)}
        if used != self.parameters.keys():
            raise ValueError("parameters and placeholders are not the same")
        above: dict[str, Value] = {}
        for name, parameter in self.parameters.items():
            if not parameter.depends_on <= above.keys():
                raise ValueError(f"the default of {name} needs a parameter that is not above it")
            defaults = [default for known in parameter.defaults.values() for default in known.values()]
            for value in (parameter.example, parameter.default_of(above), *defaults):
                if value is not None and parameter.error(value) is not None:
                    raise ValueError(f"the example or default of {name} is not what its pattern takes")
            above[name] = parameter.example
        return self

    @property
    def brought(self) -> dict[str, Any]:
        """The keys of an integration that the profile brings, with placeholders."""
        domains = {"allow_other_domains": True, "allowed_domains": self.allowed_domains} if self.allowed_domains else {}
        return {"auth": self.auth, **domains}

    def needs(self, domains: bool) -> frozenset[str]:
        """The parameters of what is filled in, with the `domains` or without them."""
        found = set(_placeholders(self.brought if domains else self.auth))
        for name, parameter in reversed(self.parameters.items()):
            if name in found:
                found |= parameter.depends_on
        return frozenset(found)

    def entries(self) -> Pairs:
        """`brought` as paths of keys and texts."""
        filling = _Filling()
        filling.merge({}, self.brought, ())
        return tuple(filling.entries)


class Filled(NamedTuple):
    """What a profile filled in, for people: paths of keys in the integration and texts, none of them secret."""

    provider: str
    entries: Pairs


class Brought(NamedTuple):
    """What a profile brings for some parameters: keys of an integration, beside those that are written."""

    provider: str
    parameters: Mapping[str, Value]
    """As they were written; those with a default may be missing."""
    keys: Mapping[str, Any]
    domains: bool
    """Whether the profile's domains are among the keys, where it has any."""


class Expansion(NamedTuple):
    """An integration with its profile filled in.

    The places of `errors` are in the mapping that was expanded. Where there are any, `table` serves only to check the
    rest of the integration: it contains examples for what is missing or wrong, and nothing may be built of it.
    `added` are the places of what was filled in.
    """

    table: Mapping[str, Any]
    errors: Found
    filled: Filled | None
    brought: Brought | None = None
    added: frozenset[Loc] = frozenset()

    def written(self, loc: Loc) -> Loc:
        """Where the mapping that was expanded has what is at a place of `table`: what was brought, at `provider`."""
        return _PROVIDER if any(loc[:length] in self.added for length in range(1, len(loc) + 1)) else loc


_PROVIDER: Loc = ("auth", "provider")


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


def read_profile(file: str, data: bytes) -> Profile:
    """Read a profile's YAML. Raises ValueError or Malformed: the package itself is broken then."""
    table, errors = parse(file, data)
    if errors:
        raise ValueError(str(errors[0]))
    return Profile.model_validate(table)


def parameter_properties(kind: str) -> dict[str, dict[str, Any]]:
    """JSON schema properties of every parameter of a kind's profiles; which ones a provider has is left to `expand`."""
    types: dict[str, set[str]] = {}
    meanings: dict[str, list[str]] = {}
    for provider in names_of(kind):
        for name, parameter in profile(provider).parameters.items():
            types.setdefault(name, set()).update({"string"} if parameter.type == "text" else {"integer", "string"})
            meanings.setdefault(name, []).append(f"`{provider}`: {parameter.description}")
    return {
        name: {
            "type": found.pop() if len(found) == 1 else sorted(found),
            "description": f"Parameter of a provider. {' '.join(meanings[name])}",
        }
        for name, found in sorted(types.items())
    }


def expand(raw: Mapping[str, Any], known: Brought | None = None) -> Expansion:
    """Fill in what the provider named in an integration's `auth` brings; what the integration writes itself stays.

    `raw` is left as it is. No domains come where the integration writes `allow_other_domains: false`. `known` is used
    instead of what the profile brings today, where it is for the same provider and parameters.
    """
    auth = raw.get("auth")
    if not isinstance(auth, Mapping) or not isinstance(auth.get("provider"), str):
        return Expansion(raw, [], None)
    name, provider = str(auth.get("type")), auth["provider"]
    # Whoever writes the domains decides alone where the token may go.
    domains = raw.get("allow_other_domains") is not False and "allowed_domains" not in raw
    kind = KINDS.get(name)
    if kind is None or not kind.placeholder_profile:
        return Expansion(raw, [], None)
    if known is not None and _same(known, kind, auth, domains=domains):
        return merged(raw, known)
    if provider in names() and profile(provider).kind == name:
        found = profile(provider)
        values, taken, errors = _arguments(auth, provider, found, domains=domains)
    else:
        alike = names_of(name)
        close = get_close_matches(provider, alike, n=1)
        found = profile(close[0]) if close else _unknown_provider(name)
        values, taken, _ = _arguments(auth, provider, found, domains=domains)
        errors = [(_PROVIDER, f"no such provider; {_way_out(close, alike)}")]
    keys = _fill(found.brought, values)
    if not keys.get("allowed_domains"):
        keys = {"auth": keys["auth"]}
    brought = Brought(provider, {key: auth[key] for key in auth if key in taken}, keys, domains)
    expansion = merged(raw, brought)
    return expansion._replace(errors=errors, filled=None, brought=None) if errors else expansion


def merged(raw: Mapping[str, Any], brought: Brought) -> Expansion:
    """An integration with what a profile brings; the parameters are taken out."""
    keys = brought.keys
    if raw.get("allow_other_domains") is False:
        keys = {"auth": keys["auth"]}
    filling = _Filling()
    auth = {key: value for key, value in raw["auth"].items() if key not in brought.parameters}
    table = filling.merge({**raw, "auth": auth}, keys, ())
    filled = Filled(brought.provider, tuple(filling.entries))
    return Expansion(table, [], filled, brought, frozenset(filling.added))


def _same(known: Brought, kind: type[KindSettings], auth: Mapping[str, Any], *, domains: bool) -> bool:
    """Whether an `auth` block names the same provider with the same parameters."""
    given = {key: value for key, value in auth.items() if key in known.parameters or key not in kind.model_fields}
    return (known.provider, known.domains) == (auth["provider"], domains) and _exactly(given) == _exactly(
        known.parameters
    )


def _exactly(parameters: Mapping[str, Any]) -> str:
    """Parameters as they are compared: 12 is not "12", and an unknown key is not a parameter that is left out."""
    return json.dumps(parameters, sort_keys=True, default=repr)


def _unknown_provider(kind: str) -> Profile:
    """Fills in for a provider without a similar name, so that the rest of the integration is still checked."""
    return Profile(kind=kind, title="", documentation="", auth=dict(KINDS[kind].placeholder_profile), notes="")


def _arguments(
    auth: Mapping[str, Any], provider: str, found: Profile, *, domains: bool
) -> tuple[dict[str, Value], set[str], Found]:
    """The parameters' values, the keys of `auth` that were read (or checked) here, and errors.

    An example replaces a value that is missing or wrong. `domains`: the profile's domains are filled in as well.
    """
    taken, meant, errors = _other_keys(auth, provider, found)
    needed = found.needs(domains)
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
    return values, taken, errors


def _other_keys(auth: Mapping[str, Any], provider: str, found: Profile) -> tuple[set[str], set[str], Found]:
    """Keys that are misspelt parameters or those of other profiles, which parameters are meant, and the errors.

    Other unknown keys are left to the model.
    """
    known = KINDS[found.kind].model_fields
    taken: set[str] = set()
    meant: set[str] = set()
    errors: Found = []
    for key in auth:
        if key in known or key in found.parameters:
            continue
        close = get_close_matches(key, [*known, *found.parameters], n=1)
        if close and close[0] in found.parameters:
            meant.add(close[0])
            message = f"unknown key; did you mean {close[0]}?"
        elif any(key in profile(other).parameters for other in names_of(found.kind)):
            message = f"{provider} has no such parameter; {_way_out([], found.parameters)}"
        else:
            continue
        taken.add(key)
        errors.append((("auth", key), message))
    return taken, meant, errors


def _way_out(close: list[str], known: Any) -> str:
    if close:
        return f"did you mean {close[0]}?"
    return f"known: {', '.join(known)}" if known else "it has none"


def _fill(data: Any, values: Mapping[str, Value]) -> Any:
    """`data` with values for placeholders; without the entries, and what held nothing else, that lack one.

    A text that is one placeholder and nothing else becomes the value itself: a number stays a number.
    """
    if isinstance(data, str):
        if not values.keys() >= set(_placeholders(data)):
            return _LEFT_OUT
        whole = _PLACEHOLDER.fullmatch(data)
        return values[whole[1]] if whole else _PLACEHOLDER.sub(lambda match: str(values[match[1]]), data)
    filled: Any
    if isinstance(data, Mapping):
        filled = {key: _fill(value, values) for key, value in data.items()}
        filled = {key: value for key, value in filled.items() if value is not _LEFT_OUT}
    elif isinstance(data, list):
        filled = [value for value in (_fill(value, values) for value in data) if value is not _LEFT_OUT]
    else:
        return data
    return filled if filled or not data else _LEFT_OUT


class _Filling:
    """Merges what a profile brings into an integration's mappings; notes what was new as `entries`, and its places."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str]] = []
        self.added: list[Loc] = []

    def merge(self, own: Mapping[str, Any], brought: Mapping[str, Any], loc: Loc) -> dict[str, Any]:
        """A new mapping with all of `own`, and beside it, mapping by mapping, what it lacks of `brought`."""
        merged: dict[str, Any] = {}
        for key, value in own.items():
            inner = brought.get(key)
            both = isinstance(value, Mapping) and isinstance(inner, Mapping)
            merged[key] = self.merge(value, inner or {}, (*loc, key)) if both else value
        for key, value in brought.items():
            if key not in own:
                self.added.append((*loc, key))
                merged[key] = self._placed(value, (*loc, key))
        return merged

    def _placed(self, value: Any, loc: Loc) -> Any:
        if isinstance(value, Mapping):
            return self.merge({}, value, loc)
        self.entries.append((show(loc), ", ".join(map(_text, value)) if isinstance(value, list) else _text(value)))
        return [*value] if isinstance(value, list) else value


def _text(value: str | float | None) -> str:
    return value if isinstance(value, str) else json.dumps(value)
