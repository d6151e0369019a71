"""The JSON of a stored integration: parsed strictly, with IDs for its secrets, and as it is saved."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any, Final, NamedTuple, NoReturn

from sidekey.config.diff import differences
from sidekey.config.profiles import ProfileAdditions
from sidekey.config.yaml_reader import MAX_DEPTH
from sidekey.credentials.certificates.encoding import split
from sidekey.credentials.fields import Entered, is_kept, mentions_private_key
from sidekey.store.canonical_json import same

MAX_SIZE: Final = 512 << 10
"""Bytes of a document that is sent, or saved: what cannot be sent back could not be edited."""

MAX_INTEGER: Final = 10**18 - 1
"""Longer ones are text in YAML, in which a document is also read and sent."""

_TOO_LONG: Final = "must not have an integer of more than 18 digits"

MAX_VALUES: Final = 20_000
"""Values and keys of a document: reading, judging and dropping them holds the interpreter, which requests need."""

MAX_PATH_LENGTH: Final = 1_000
"""Characters of the keys above a value. Errors and secrets have them: long keys above many would cost their product."""

_ENTERED_KEYS: Final = ("value", "url")
_CONTAINERS: Final = (dict, list)
_SURROGATE = re.compile("[\ud800-\udfff]")
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""A text of JSON, also one that does not end: nothing is read twice."""


Place = tuple[str | int, ...]
"""The keys and list indexes that lead to a value."""


class MalformedError(ValueError):
    """The text is no JSON object that may be an integration. The message repeats nothing of it."""


def pointer(place: Iterable[str | int]) -> str:
    """The JSON pointer of a place."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in place)


def parse(data: bytes, *, exact: bool = False) -> dict[str, Any]:
    """Read JSON (RFC 8259) that must be an object. Raises MalformedError, also where a key is given twice.

    The result has passed `check`. With `exact`, fractions are decimals, which keep every digit.
    """
    if _marks(data) > MAX_VALUES and _marks(_TEXT.sub(b"", data)) > MAX_VALUES:
        raise MalformedError(f"must not have more than {MAX_VALUES} values")
    try:
        parse_float = Decimal if exact else None
        text = data.decode("utf-8")
        found = json.loads(text, object_pairs_hook=_once, parse_float=parse_float, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise MalformedError("must be UTF-8") from None
    except RecursionError:
        raise MalformedError(f"must not be nested deeper than {MAX_DEPTH} levels") from None
    except MalformedError:
        raise
    except InvalidOperation:
        raise MalformedError("must not have a number with such an exponent") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise MalformedError(f"must be JSON (RFC 8259): see {place}") from None
    except ValueError:
        # Of a number with more digits than Python reads.
        raise MalformedError(_TOO_LONG) from None
    if not isinstance(found, dict):
        raise MalformedError("must be a JSON object")
    check(found)
    return found


def _marks(data: bytes) -> int:
    """How many characters of JSON begin a value or a key, but for the first of all; texts may have more."""
    return sum(map(data.count, (b",", b":", b"[", b"{")))


def check(value: Any, depth: int = 0, above: int = 0) -> None:
    """Raise MalformedError for a document that is too deep, or has a number or text that JSON cannot hold.

    `above` counts the characters of the keys above the value.
    """
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, float):
        if not isfinite(value):
            raise MalformedError("must not have a number that no double can hold")
    elif isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise MalformedError(_TOO_LONG)
    elif isinstance(value, _CONTAINERS):
        if depth >= MAX_DEPTH:
            raise MalformedError(f"must not be nested deeper than {MAX_DEPTH} levels")
        if above > MAX_PATH_LENGTH:
            raise MalformedError(f"must not have a value below keys of more than {MAX_PATH_LENGTH} characters together")
        if isinstance(value, dict):
            for key, each in value.items():
                _check_text(key)
                check(each, depth + 1, above + len(key) + 1)
        else:
            for each in value:
                check(each, depth + 1, above + 1)


def _check_text(text: str) -> None:
    if not text.isascii() and _SURROGATE.search(text):
        raise MalformedError("must not contain a lone surrogate, which is not a character")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedError("must not have a key twice in an object")
    return found


def _refuse_constant(_: str) -> NoReturn:
    raise MalformedError("must be JSON (RFC 8259), which has no NaN and no infinity")


def with_new_ids(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a body in which each mapping that may be a new secret has an ID (`Entered`)."""
    copy = {key: _with_new_ids(value) for key, value in raw.items()}
    is_entered = len(copy) == 1 and any(isinstance(copy.get(key), str) for key in _ENTERED_KEYS)
    return Entered(copy) if is_entered else copy


def _with_new_ids(raw: Any) -> Any:
    if isinstance(raw, Mapping):
        return with_new_ids(raw)
    return [*map(_with_new_ids, raw)] if isinstance(raw, list) else raw


class SecretAt(NamedTuple):
    """A mapping of a body or row that may be a secret: the settings decide if it is one."""

    place: Place
    id: str
    raw: Mapping[str, Any]


def secrets_in(raw: Any) -> list[SecretAt]:
    """Return what may be a secret in a document, in its order."""
    found: list[SecretAt] = []
    _collect(raw, (), found)
    return found


def _collect(raw: Any, place: Place, found: list[SecretAt]) -> None:
    if isinstance(raw, Mapping):
        if isinstance(raw, Entered):
            found.append(SecretAt((*place, "url") if "url" in raw else place, raw.id, raw))
        elif is_kept(raw) and isinstance(raw.get("id"), str):
            found.append(SecretAt(place, raw["id"], raw))
        for key, value in raw.items():
            if isinstance(value, _CONTAINERS):
                _collect(value, (*place, key), found)
    elif isinstance(raw, list):
        for index, value in enumerate(raw):
            if isinstance(value, _CONTAINERS):
                _collect(value, (*place, index), found)


def as_kept(raw: Mapping[str, Any], secrets: Container[str]) -> Any:
    """Return a copy of a document with `{set: true, id}` for each of its secrets, as it is saved."""
    return replaced(raw, {each.place: {"set": True, "id": each.id} for each in secrets_in(raw) if each.id in secrets})


def merge_patch(target: Any, patch: Any, is_one: Callable[[Mapping[str, Any]], bool] = is_kept) -> Any:
    """Apply a merge patch (RFC 7396). Replace an object of the target as a whole if it `is_one` value, as a secret."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) and not is_one(target) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value, is_one)
    return merged


def replaced(raw: Any, values: Mapping[Place, Any], place: Place = ()) -> Any:
    """Return a copy of a document with other values at these places."""
    if place in values:
        return values[place]
    if isinstance(raw, Mapping):
        return {key: replaced(value, values, (*place, key)) for key, value in raw.items()}
    if isinstance(raw, list):
        return [replaced(value, values, (*place, index)) for index, value in enumerate(raw)]
    return raw


def found_at(raw: Any, where: str) -> Any:
    """The value at a pointer; None where there is none."""
    for part in parts_of(where):
        if isinstance(raw, Mapping):
            raw = raw.get(part)
        elif isinstance(raw, list) and part.isdecimal() and int(part) < len(raw):
            raw = raw[int(part)]
        else:
            return None
    return raw


def split_certificates(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Move a private key that was pasted together with its certificate to where keys are sealed.

    Drop other text beside a certificate, such as a key without its BEGIN line. Leave the certificate as it is, so that
    it is refused, where the document brings another key as well, or where a key is in a block that cannot be parsed.
    """
    given = _split_below(given, ("client_certificate", "auth"))
    auth = given.get("auth")
    if not isinstance(auth, Mapping):
        return given
    split_auth = _split_below(auth, auth)
    return given if split_auth is auth else {**given, "auth": split_auth}


def _split_below(section: Mapping[str, Any], keys: Iterable[str]) -> Mapping[str, Any]:
    """Split the certificates of the sections at these keys. Return the same object if there is nothing to split."""
    below = {key: value for key in keys if isinstance(value := section.get(key), Mapping)}
    split_values = {key: {**value, **halves} for key, value in below.items() if (halves := _halves(value)) is not None}
    return {**section, **split_values} if split_values else section


def _halves(section: Mapping[str, Any]) -> Mapping[str, Any] | None:
    certificate, key = section.get("certificate"), section.get("private_key")
    is_inline = isinstance(certificate, Mapping)
    text = certificate.get("inline") if isinstance(certificate, Mapping) and len(certificate) == 1 else certificate
    if not isinstance(text, str):
        return None
    found = split(text)
    if not found.certificates or mentions_private_key(found.rest):
        return None
    public = {"certificate": {"inline": found.certificates} if is_inline else found.certificates}
    if not found.private_keys:
        return public if found.rest.strip() else None
    return {**public, "private_key": {"value": found.private_keys}} if _gives_way(key, found.private_keys) else None


def _gives_way(key: Any, pasted: str) -> bool:
    """Return True if the key of a section gives way to the pasted one: it is missing, kept, or the same."""
    if not isinstance(key, Mapping):
        return key is None
    entered = key.get("value")
    return is_kept(key) or (isinstance(entered, str) and split(entered).private_keys == pasted)


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield the pointers of what differs between two documents, as deep as both are objects."""
    return (pointer(each.place) for each in differences(before, after, same))


def parts_of(where: str) -> Iterator[str]:
    """The keys, and indexes as text, that a pointer names."""
    return (part.replace("~1", "/").replace("~0", "~") for part in where.split("/")[1:])


@dataclass(frozen=True, slots=True)
class Saved:
    """A document as it is saved: `{set: true, id}` in place of each secret, and what its profile brought then."""

    written: Mapping[str, Any]
    brought: ProfileAdditions | None = None

    def text(self) -> str:
        """JSON in UTF-8 that `load` reads."""
        document: dict[str, Any] = {"integration": self.written}
        if self.brought is not None:
            document["profile"] = {
                "provider": self.brought.provider,
                "parameters": [*self.brought.parameters],
                "keys": self.brought.keys,
                "domains": self.brought.domains,
                "prefix": self.brought.prefix,
                "secrets": [*self.brought.secrets],
            }
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)

    @classmethod
    def load(cls, text: str) -> Saved:
        """Raises MalformedError."""
        try:
            document = json.loads(text)
            written = dict(document["integration"])
            profile = document.get("profile")
            if profile is None:
                return cls(written)
            auth, keys = dict(written["auth"]), {**profile["keys"], "auth": dict(profile["keys"]["auth"])}
            parameters = {key: auth[key] for key in profile["parameters"]}
            further = (profile["domains"], profile["prefix"], tuple(profile["secrets"]))
            return cls(written, ProfileAdditions(profile["provider"], parameters, keys, *further))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise MalformedError("is not what this version of Sidekey saves") from None
