"""The JSON of a stored integration: read strictly, with JSON pointers (RFC 6901) for places, and as it is saved."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final, NamedTuple, NoReturn

from sidekey.credentials.certificates.pem import split
from sidekey.credentials.fields import Located, is_kept, mentions_private_key
from sidekey.settings.changes import differences
from sidekey.settings.document import DEEPEST
from sidekey.settings.profiles import Brought
from sidekey.store.canonical import Json, canonical

KEPT: Final[Mapping[str, Any]] = {"set": True}
"""What stands for a secret in a document that is saved."""

LARGEST: Final = 512 << 10
"""Bytes of a document that is sent, or saved: what cannot be sent back could not be edited."""

LARGEST_INTEGER: Final = 10**18 - 1
"""Longer ones are text in YAML, in which a document is also read and sent."""

MOST_VALUES: Final = 20_000
"""Values and keys of a document: reading, judging and dropping them holds the interpreter, which requests need."""

LONGEST_PATH: Final = 1_000
"""Characters of the pointer of a value. Each value has one: long keys above many values would cost their product."""

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


def parse(data: bytes) -> dict[str, Any]:
    """Read JSON (RFC 8259) that must be an object. Raises MalformedError, also where a key is given twice.

    What it returns is no deeper than `DEEPEST`, and Unicode: whoever walks it need not look.
    """
    if _marks(data) > MOST_VALUES and _marks(_TEXT.sub(b"", data)) > MOST_VALUES:
        raise MalformedError(f"must not have more than {MOST_VALUES} values")
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise MalformedError("must be UTF-8") from None
    except RecursionError:
        raise MalformedError(f"must not be nested deeper than {DEEPEST} levels") from None
    except MalformedError:
        raise
    except ValueError:
        raise MalformedError("must be JSON (RFC 8259)") from None
    if not isinstance(found, dict):
        raise MalformedError("must be a JSON object")
    _check(found, 0)
    return found


def _marks(data: bytes) -> int:
    """How many characters of JSON begin a value or a key, but for the first of all; texts may have more."""
    return sum(map(data.count, (b",", b":", b"[", b"{")))


def _check(value: Any, depth: int) -> None:
    if depth >= DEEPEST and isinstance(value, _CONTAINERS):
        raise MalformedError(f"must not be nested deeper than {DEEPEST} levels")
    if isinstance(value, str):
        _checked(value)
    elif isinstance(value, float):
        if not isfinite(value):
            raise MalformedError("must not have a number that no double can hold")
    elif isinstance(value, int):
        if abs(value) > LARGEST_INTEGER:
            raise MalformedError("must not have an integer of more than 18 digits")
    elif isinstance(value, dict):
        for key, each in value.items():
            _checked(key)
            _check(each, depth + 1)
    elif isinstance(value, list):
        for each in value:
            _check(each, depth + 1)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedError("must not have a key twice in an object")
    return found


def _refuse_constant(_: str) -> NoReturn:
    raise MalformedError("must be JSON (RFC 8259), which has no NaN and no infinity")


def located(raw: Mapping[str, Any], kept: Mapping[str, Any] | None = None) -> Located:
    """A document whose mappings know their places. Raises MalformedError if it is too deep, or not Unicode.

    `kept` is what is put, by pointers, in place of what says that a public value that is stored is kept.
    """
    return _Locating({} if kept is None else kept).mapping(raw, "", (), 0)


class _Locating:
    """Locates one document. `listed` is the place of what is in a list, else empty."""

    def __init__(self, kept: Mapping[str, Any]) -> None:
        self._kept = kept

    def mapping(self, raw: Mapping[str, Any], where: str, listed: Place, depth: int) -> Located:
        secret = _is_secret(raw)
        row = _row_of(raw, listed) if secret else None
        found = Located(_lasting(where, listed, row) if secret else where, row)
        for key, value in raw.items():
            if type(value) is str:
                # Most values of ten thousand documents.
                found[_checked(key)] = _checked(value)
            else:
                found[_checked(key)] = self._value(value, where, key, listed, depth + 1)
        return found

    def _value(self, raw: Any, above: str, step: str | int, listed: Place, depth: int) -> Any:
        """A value that is one `step` below a place."""
        if depth >= DEEPEST and isinstance(raw, _CONTAINERS):
            raise MalformedError(f"must not be nested deeper than {DEEPEST} levels")
        if isinstance(raw, str):
            return _checked(raw)
        if not isinstance(raw, _CONTAINERS):
            return raw
        where = f"{above}{pointer((step,))}"
        if len(where) > LONGEST_PATH:
            raise MalformedError(f"must not have a value below keys of more than {LONGEST_PATH} characters together")
        if where in self._kept and isinstance(raw, dict) and is_kept(raw):
            raw = self._kept[where]
        inside = (*listed, step) if listed else ()
        if isinstance(raw, dict):
            return self.mapping(raw, where, inside, depth)
        if isinstance(raw, list):
            if all(type(each) is str for each in raw):
                # As tags, methods and prefixes are.
                return [*map(_checked, raw)]
            inside = inside or tuple(parts_of(where))
            return [self._value(each, where, index, inside, depth + 1) for index, each in enumerate(raw)]
        return _checked(raw)


def _is_secret(raw: Mapping[str, Any]) -> bool:
    """Whether a mapping is what a secret is sent as, or reads as."""
    return is_kept(raw) or list(raw) == ["value"]


def _row_of(raw: Mapping[str, Any], listed: Place) -> str | None:
    """The row ID of what `_is_secret`: the one that it was read with, or a new one where it is new in a list."""
    if is_kept(raw):
        return str(raw["row"]) if "row" in raw else None
    return new_secret_row() if listed else None


def new_secret_row() -> str:
    """The row ID of a secret that is new in a list: 64 random bits, in hexadecimal."""
    return f"r_{secrets.token_hex(8)}"


def _lasting(where: str, listed: Place, row: str | None) -> str:
    """The pointer of a secret, wherever it stands in its list.

    Without a row it is as if the list were the secret itself: so one that was alone is kept in a list.
    """
    if not listed:
        return where if row is None else f"{where}{pointer((row,))}"
    if row is None:
        return pointer(part for part in listed if isinstance(part, str))
    return pointer(row if isinstance(part, int) else part for part in listed)


class Listed(NamedTuple):
    """A secret in a list: its pointer, by which it is stored, and where it stands in the document."""

    pointer: str
    where: str
    row: str | None


def kept_as(listed: Listed | None) -> Mapping[str, Any]:
    """What stands for a secret in a document that is saved."""
    return KEPT if listed is None or listed.row is None else {**KEPT, "row": listed.row}


def listed_in(raw: Any, where: str = "") -> Iterator[Listed]:
    """The secrets of a document that are in lists, or were in one when they were entered, in their order."""
    if isinstance(raw, Located) and raw.pointer != where:
        yield Listed(raw.pointer, where, raw.row)
    elif isinstance(raw, Mapping):
        for key, value in raw.items():
            yield from listed_in(value, f"{where}{pointer((key,))}")
    elif isinstance(raw, list):
        for index, value in enumerate(raw):
            yield from listed_in(value, f"{where}/{index}")


def elements_of(raw: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """The secrets of a document by their pointers, each with the place of what it is a part of.

    That is its own, but in a list: all secrets of a list are in one place, and what else is in it is counted without
    them, so that they move as they like and nothing moves between public values.
    """
    if isinstance(raw, Mapping):
        if isinstance(raw, Located) and _is_secret(raw):
            # Or a whole document that looks so: then secrets may be below.
            yield raw.pointer, where
        for key, value in raw.items():
            yield from elements_of(value, f"{where}{pointer((key,))}")
    elif isinstance(raw, list):
        public = 0
        for value in raw:
            if isinstance(value, Located) and _is_secret(value):
                yield value.pointer, where
            else:
                yield from elements_of(value, f"{where}/{public}")
                public += 1


def _checked(text: str) -> str:
    if not text.isascii() and _SURROGATE.search(text):
        raise MalformedError("must not contain a lone surrogate, which is not a character")
    return text


def merge_patch(target: Any, patch: Any, is_one: Callable[[Mapping[str, Any]], bool] = is_kept) -> Any:
    """RFC 7396. An object of the target that `is_one` value is replaced whole: what reads as a secret or certificate.

    So it is sent back, or another is sent.
    """
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) and not is_one(target) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value, is_one)
    return merged


def replaced(raw: Any, values: Mapping[str, Any], where: str = "") -> Any:
    """A copy of a document with other values at these pointers; of a secret in a list at its lasting one.

    A list is never replaced: its pointer is that of a secret in it, where one was alone before.
    """
    if isinstance(raw, list):
        return [replaced(value, values, f"{where}/{index}") for index, value in enumerate(raw)]
    lasting = raw.pointer if isinstance(raw, Located) else where
    if lasting in values:
        return values[lasting]
    if isinstance(raw, Mapping):
        return {key: replaced(value, values, f"{where}{pointer((key,))}") for key, value in raw.items()}
    return raw


def without(raw: Any, pointers: Collection[str], where: str = "") -> Any:
    """Return a copy of a document without the keys at these pointers."""
    if not pointers or not isinstance(raw, Mapping):
        return raw
    places = {key: f"{where}{pointer((key,))}" for key in raw}
    return {key: without(raw[key], pointers, place) for key, place in places.items() if place not in pointers}


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
    return (pointer(each.place) for each in differences(before, after, _equal))


def _equal(one: Json, other: Json) -> bool:
    # As secrets are sealed for it: in Python 1 is True, and 1.0.
    return canonical(one) == canonical(other)


def parts_of(where: str) -> Iterator[str]:
    """The keys, and indexes as text, that a pointer names."""
    return (part.replace("~1", "/").replace("~0", "~") for part in where.split("/")[1:])


@dataclass(frozen=True, slots=True)
class Saved:
    """A document as it is saved: what was written, `KEPT` for each secret, and what its profile brought then."""

    written: Mapping[str, Any]
    brought: Brought | None = None

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
            written = located(document["integration"])
            profile = document.get("profile")
            if profile is None:
                return cls(written)
            auth, keys = dict(written["auth"]), {**profile["keys"], "auth": dict(profile["keys"]["auth"])}
            parameters = {key: auth[key] for key in profile["parameters"]}
            # Versions that brought no prefix and no secrets did not write these.
            further = (profile.get("prefix", True), tuple(profile.get("secrets", ())))
            return cls(written, Brought(profile["provider"], parameters, keys, profile["domains"], *further))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise MalformedError("is not what this version of Sidekey saves") from None
