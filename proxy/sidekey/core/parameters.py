"""Injected parameters: where they go in a query or a body, and whether the caller named one too.

A grant may be placed in the query or the body of a request (RFC 6750 2.2, 2.3). What was judged stays as it is, byte
for byte; the parameter is appended to it.
"""

from __future__ import annotations

import json
import re
import string
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, unquote

from sidekey.core.decoding import Bounded

DECODINGS: Final = 4
"""How often servers on the way may decode a name: twice the whole query or form, and twice the name in it."""

Scalar = str | int | float | bool
"""The value of a parameter before any encoding."""

FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"

_UNDERSCORES: Final = "_. "
_TO_UNDERSCORE: Final = str.maketrans(". +[", "____")
_SEPARATOR: Final = re.compile("[&;]")
_ENDS: Final = "=[]\0"
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_.~-]+")
"""A name that every server reads as it stands, but for case and dots."""
_ESCAPED_FIELD: Final = re.compile(r"[&;][^&;%]*+(?:%(?![0-9A-Fa-fUu][0-9A-Fa-f])[^&;%]*+)*+%[^&;]*+")
_LEADING: Final = re.compile(r"[\s+?\[\]\xef\xbb\xbf\ufeff]*")
"""What servers drop before a name: blanks, brackets, a byte order mark, and a question mark (URLSearchParams)."""

_METHOD_OVERRIDES: Final = ("_method", "_HttpMethod")
"""Parameters of a query by which some frameworks let a request have another method."""

_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_ASCII_ALIKE: Final = frozenset({"", "utf-8", "utf8", "us-ascii", "iso-8859-1", "windows-1252"})
"""Charsets in which a form's own characters are what they are in ASCII."""

_UTF_8: Final = frozenset({"", "utf-8", "utf8", "us-ascii"})
_JSON_SPACE: Final = " \t\r\n"


class NamedAlready(ValueError):
    """The caller's own request has a parameter with the injected one's name."""


class UnreadableNames(ValueError):
    """It is not worth the work to tell which parameters a query or form has; the message says what must be true."""


class Unplaceable(ValueError):
    """The body has no place for a parameter; the message says why."""


def encode(pairs: Iterable[tuple[str, Scalar]]) -> str:
    """Write pairs as a query or a form (application/x-www-form-urlencoded), all but unreserved characters encoded.

    What is no text is written as in JSON.
    """
    texts = ((name, value if isinstance(value, str) else json.dumps(value)) for name, value in pairs)
    return "&".join(f"{quote(name, safe='')}={quote(text, safe='')}" for name, text in texts)


def names_any(encoded: str, names: Iterable[str]) -> bool:
    """Whether a query or form (one character per byte) has one of the parameters, in any decoding.

    Names are compared as the laxest servers do: as `fold` has it, and brackets, and dots or blanks for `_` make no
    difference, and a name ends at a NUL. Raises UnreadableNames where to tell would be more work than honest names are.
    """
    sought = tuple(names)
    return bool(sought) and _Fields(encoded, sought).have_any()


def overrides_method(query: str, allowed: frozenset[bytes]) -> bool:
    """Return True if a query (one character per byte) may make a server use a method that is not allowed.

    Raises UnreadableNames.
    """
    names = {fold(name) for name in _METHOD_OVERRIDES}
    # A field that every server reads as an allowed method says nothing about the others.
    rest = [field for field in _SEPARATOR.split(query) if not _is_allowed_override(field, names, allowed)]
    return names_any("&".join(rest), _METHOD_OVERRIDES)


def may_override_method(query: bytes) -> bool:
    """Return True if `overrides_method` must read this query, which is plain ASCII."""
    return b"%" in query or b"method" in query.lower()


def _is_allowed_override(field: str, names: set[str], allowed: frozenset[bytes]) -> bool:
    name, _, value = field.partition("=")
    method = unquote(value).upper()
    return field.isascii() and method.isascii() and method.encode() in allowed and fold(unquote(name)) in names


def _octets(name: str) -> str:
    """A name as it travels: its UTF-8 bytes, one character per byte."""
    return name.encode().decode("latin-1")


def begins_any(encoded: str, prefix: str) -> bool:
    """Whether a query or form has a parameter whose name begins so, in any decoding; as `names_any` compares them."""
    return _Fields(encoded, (prefix,), begin=True).have_any()


def fold(name: str) -> str:
    """The form in which names are compared: compatibility characters are what they stand for, case makes no difference.

    `accessToken` is not `access_token`, though the JSON mapping of protobuf reads both as one field: given twice that
    is an error there, or the last one counts, which is ours; and an API may well have a parameter of its own by that
    name.
    `\u0131` and `\u0130` are an i, since that is what the one is in upper case and the other in lower case.
    """
    return _fold(unicodedata.normalize("NFKC", name))


def _fold(characters: str) -> str:
    return characters.upper().casefold().replace("i\u0307", "i")


class _Sought(Bounded):
    """Looks for parameters in one text; the bound on its work grows with the text."""

    __slots__ = ()

    WORK_FOR_ANY: Final = 300_000
    WORK_FOR_EACH: Final = 30

    def __init__(self, size: int) -> None:
        refusal = UnreadableNames("must have fewer parameters that are escaped or not ASCII")
        super().__init__(self.WORK_FOR_ANY + self.WORK_FOR_EACH * size, refusal)

    def _next_level(self, text: str) -> str:
        """The fields that have escapes, each after its separator, decoded once more; the others are done with."""
        self._charge(5 * len(text) + 150 * (text.count("&") + text.count(";")))
        return self._decoded(self._wide_decoded("".join(_ESCAPED_FIELD.findall(text))))


class _Fields(_Sought):
    """The fields of a query or form, among which parameters are looked for of these names, or that `begin` so."""

    __slots__ = ("_foreign", "_shape", "_text")

    def __init__(self, encoded: str, names: tuple[str, ...], *, begin: bool = False) -> None:
        super().__init__(len(encoded))
        self._shape, self._foreign = _names_shape(names, begin)
        self._text: Final = f"&{encoded}"

    def have_any(self) -> bool:
        """Whether the text has one of them when decoded 0 to `DECODINGS` times."""
        foreign: set[str] = set()
        text = self._text
        for decodings in range(DECODINGS + 1):
            if decodings:
                text = self._next_level(text)
            self._charge(3_000 + 5 * len(text))
            if self._among_fields(text.lower()):
                return True
            if not text.isascii():
                self._charge(150 * (text.count("&") + text.count(";")))
                foreign.update(name for name in self._foreign.findall(text) if not name.isascii())
            if "%" not in text:
                break
        return bool(foreign) and self._among_fields(_fold(self._compatible("&".join(["", *foreign]))))

    def _among_fields(self, text: str) -> bool:
        """Whether a field of the text, in lower case, has one of the names."""
        for found in self._shape.finditer(text):
            start = found.start()
            self._charge(3_000 + len(text) // 4)
            field = max(text.rfind("&", 0, start), text.rfind(";", 0, start)) + 1
            if _LEADING.fullmatch(text, field, start):
                return True
        return False


class _Readings(_Sought):
    """Reads one name as lenient servers do, wherever they cut and however often they decode it."""

    __slots__ = ()

    def of(self, name: str) -> set[str]:
        """Return the canonical form of each name that a server may read."""
        found = {_canonical(name)}
        text = f"&{_octets(name)}"
        for _ in range(DECODINGS):
            for field in _SEPARATOR.split(text):
                found.update(map(self._canonical, self._cut(field)))
            if "%" not in text:
                break
            text = self._next_level(text)
        return found

    def _cut(self, field: str) -> Iterator[str]:
        """Yield the field from each place where its name may begin to each place where it may end."""
        self._charge(100 * len(field))
        leading = _LEADING.match(field)
        starts = 0 if leading is None else leading.end()
        ends = []
        is_end = True
        for index in range(len(field), 0, -1):
            if index < len(field):
                is_end = field[index] in _ENDS or (is_end and (field[index] == "+" or field[index].isspace()))
            if is_end:
                ends.append(index)
        for start in range(starts + 1):
            for end in ends:
                if start < end:
                    self._charge(3_000 + 10 * (end - start))
                    yield field[start:end]

    def _canonical(self, octets: str) -> str:
        return _canonical(octets) if octets.isascii() else _underscored(_fold(self._compatible(octets)))


class Names:
    """Names of parameters, each folded once: tells whether a lenient server takes a further name for one of them.

    `client_id[]` and `Client.ID` are `client_id`. The cost of a name does not depend on how many there are.
    """

    __slots__ = ("_canonical", "_readings")

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._canonical: Final[dict[str, str]] = {}
        self._readings: Final[dict[str, str]] = {}
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        """Add a name. Raises UnreadableNames for a name that can be read in too many ways."""
        self._canonical.setdefault(_canonical(name), name)
        for reading in _readings_of(name):
            self._readings.setdefault(reading, name)

    def find(self, name: str) -> str | None:
        """Return one of the names that a lenient server may take for this name. Raises UnreadableNames."""
        found = self._readings.get(_canonical(name))
        if found is not None:
            return found
        return next((self._canonical[each] for each in _readings_of(name) if each in self._canonical), None)


def _readings_of(name: str) -> Iterable[str]:
    if _PLAIN_NAME.fullmatch(name):
        return (_canonical(name),)
    return _Readings(len(name)).of(name)


def _canonical(name: str) -> str:
    """Fold a name, with an underscore for each character that servers replace by one."""
    return _underscored(fold(name))


def _underscored(folded: str) -> str:
    return folded.translate(_TO_UNDERSCORE)


class _Members(_Sought):
    """The outermost members of a JSON object of so many bytes, among which parameters of these names are looked for."""

    __slots__ = ()

    def have_any(self, found: set[str], names: Iterable[str]) -> bool:
        """Whether one of the names found is one of these. A member's name ends at a NUL."""
        wanted = set(map(fold, names))
        # No folding makes a text shorter by more than this; what is longer need not be folded.
        longest = 4 * max(map(len, wanted), default=0)
        short = {name for each in found if len(name := each.partition("\0")[0]) <= longest}
        foreign = "\0".join(name for name in short if not name.isascii())
        octets = foreign.encode("utf-8", "surrogatepass").decode("latin-1")
        folded = _fold(self._compatible(octets)).split("\0")
        return not wanted.isdisjoint(folded) or any(name.lower() in wanted for name in short if name.isascii())


@lru_cache(maxsize=256)
def _names_shape(names: tuple[str, ...], begin: bool) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """One of these names with what may come before its value, and a field with a name that may be folded to one.

    The latter has no letters of ASCII but theirs, where the names do not only `begin` so. The names are the config's,
    or fixed: nothing of a caller is kept.
    """
    spelled = [
        "".join("[_. +\\[]" if character in _UNDERSCORES else re.escape(character) for character in fold(name))
        for name in names
    ]
    letters = {each for name in names for each in fold(name) if each.isascii() and each.isalpha()}
    others = "" if begin else re.escape("".join(sorted(set(string.ascii_lowercase) - letters)))
    end = "" if begin else r"[\s+]*+(?=[=&;\[\]\0]|\Z)"
    foreign = rf"[&;][\s+?\[\]]*+([^&;=\[\]\0{others}{others.upper()}]*+)(?=[&;=\[\]\0]|\Z)"
    return re.compile(rf"(?:{'|'.join(spelled)}){end}"), re.compile(foreign)


def append(encoded: str, addition: str) -> str:
    """Append encoded pairs to a query or form."""
    joint = "&" if encoded and not encoded.endswith("&") else ""
    return f"{encoded}{joint}{addition}"


def media_type(content_type: str) -> str:
    """`FORM` or `JSON`, as Content-Type says. Raises Unplaceable for other types, and for charsets other than UTF-8."""
    essence, *parameters = (part.strip().lower() for part in content_type.split(";"))
    form = essence == FORM
    if not form and essence != JSON and not (essence.startswith("application/") and essence.endswith("+json")):
        raise Unplaceable("Content-Type must be application/x-www-form-urlencoded or JSON")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in (_ASCII_ALIKE if form else _UTF_8):
            raise Unplaceable("the charset of Content-Type must be UTF-8")
    return FORM if form else JSON


def check_body(body: bytes, kind: str, names: Iterable[str]) -> None:
    """Refuse a body to which the parameters cannot be added: raises Unplaceable, NamedAlready or UnreadableNames."""
    if kind == FORM:
        if names_any(body.decode("latin-1"), names):
            raise NamedAlready
        return
    if _Members(len(body)).have_any(set(_object_names(body)), names):
        raise NamedAlready


def _object_names(body: bytes) -> list[str]:
    """The names of a JSON object's members, the outermost only, each as often as it occurs."""
    try:
        value = json.loads(
            body.decode(), object_pairs_hook=list, parse_int=str, parse_float=str, parse_constant=_no_constant
        )
    except (ValueError, RecursionError):
        raise Unplaceable("the body must be valid JSON in UTF-8") from None
    # An array is a list as well, but not of pairs: the first character tells the two apart.
    if not body.lstrip(_JSON_SPACE.encode()).startswith(b"{"):
        raise Unplaceable("the body must be a JSON object")
    return [name for name, _ in value]


def _no_constant(_: str) -> Any:
    raise ValueError("NaN and Infinity are not JSON (RFC 8259 6)")


def placed(body: bytes, kind: str, pairs: Iterable[tuple[str, Scalar]]) -> bytes:
    """The body with the parameters appended; it has passed `check_body`."""
    if kind == FORM:
        return append(body.decode("latin-1"), encode(pairs)).encode("latin-1")
    head, _, tail = body.rpartition(b"}")
    fields = ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs)
    joint = b"" if head.rstrip(_JSON_SPACE.encode()).endswith(b"{") else b","
    return head + joint + fields.encode() + b"}" + tail


class Scrubber:
    """Removes injected parameters from the fields of a response, which may repeat the URL of the request.

    A pair `name=value` is removed with its separator, so that what is left is a URL that may be followed; a value
    elsewhere is removed alone. Both are found through any percent-encoding, up to `ENCODINGS` times over.
    """

    ENCODINGS: Final = 3

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        spelled = [(re.escape(name), re.escape(value)) for name, value in pairs]
        pair = f"(?:{'|'.join(f'{name}={value}' for name, value in spelled)})"
        # The separator before stays where another pair follows, in place of the one between them: it is a group.
        shape = rf"[?&;#]{pair}(?:[&;]{pair})*(?![&;])|([?&;#])(?:{pair}[&;])+|{pair}(?:[&;]{pair})*"
        self._pairs = re.compile(shape.encode())
        self._values = re.compile("|".join(value for _, value in spelled).encode())

    def __call__(self, field: bytes) -> bytes | None:
        """The field without the injected values; None where a value is left after that: the field must be dropped."""
        # Pairs first: a value that is removed alone would leave the rest of its pair behind.
        for sought in (self._pairs, self._values):
            field = _without(field, self._spans(field, sought))
        return None if self._spans(field, self._values) else field

    def _spans(self, field: bytes, sought: re.Pattern[bytes]) -> list[tuple[int, int]]:
        """Where in the field it is found, in each of its decodings."""
        spans: list[tuple[int, int]] = []
        decoded: bytes = field
        places: Sequence[int] = range(len(field) + 1)
        for times in range(self.ENCODINGS + 1):
            if times:
                if b"%" not in decoded:
                    break
                decoded, places = _decoded(decoded, places)
            for match in sought.finditer(decoded):
                start, end = match.end(1) if match.lastindex else match.start(), match.end()
                spans.append((places[start], places[end]))
        return spans


def _without(field: bytes, spans: list[tuple[int, int]]) -> bytes:
    """The field without these pieces, which may overlap."""
    kept = []
    at = 0
    for start, end in sorted(spans):
        kept.append(field[at : max(at, start)])
        at = max(at, end)
    return b"".join([*kept, field[at:]])


def _decoded(field: bytes, places: Sequence[int]) -> tuple[bytes, list[int]]:
    """One percent-decoding of the field, and where each byte of that begins, by where those of `field` do.

    The last place is where the field ends.
    """
    found = bytearray()
    kept: list[int] = []
    at = 0
    for escape in _ESCAPE.finditer(field):
        start, end = escape.span()
        found += field[at:start] + bytes.fromhex(escape[1].decode())
        kept += places[at : start + 1]
        at = end
    return bytes(found + field[at:]), [*kept, *places[at:]]
