"""Templates of presets: text in which `{{name}}` stands for a parameter's value, parsed once into parts.

There are no expressions, loops, filters or includes: a template only says where a value goes, and each place says how
it is written there. So no value can break out of its place, and filling costs no more than the result is long.
`{{{{` writes `{{`.

Values are what `core/preset_parameters.py` reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from json.encoder import encode_basestring
from typing import Final, NamedTuple
from urllib.parse import quote
from xml.parsers import expat

from sidekey.core.parameters import FORM, JSON
from sidekey.core.paths import UnreadablePath, final_form
from sidekey.core.preset_parameters import DEPTH, Number, Parameter, Values
from sidekey.core.routing import PLAIN
from sidekey.core.urls import InvalidTarget, check_characters

XML: Final = "application/xml"
TEXT: Final = "text/plain"

Place = tuple[str | int, ...]
"""The keys and indexes that lead to a place in a body."""
Findings = list[tuple[Place, str]]
Errors = dict[str, str]
"""Names of parameters to why their values cannot be written."""
Write = Callable[[object], str]

_OPENING: Final = re.compile(r"\{\{(?:(\{\{)|([A-Za-z_][A-Za-z0-9_-]{0,62})\}\})?")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_~!$&'()*+,=:@.\0-]*")
"""What may stand beside placeholders in a path segment: characters that no server reads as anything else."""
_LEAVES_SEGMENT: Final = re.compile("[/;?#]")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML document contains, not even as a reference (XML 1.0, 2.2)."""
_XML_TEXT: Final = {
    ord("&"): "&amp;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
    ord('"'): "&quot;",
    ord("'"): "&apos;",
    # A parser makes a line feed of it (XML 1.0, 2.11).
    ord("\r"): "&#13;",
}
# And of these, in an attribute, a space (3.3.3).
_XML_ATTRIBUTE: Final = {**_XML_TEXT, ord("\t"): "&#9;", ord("\n"): "&#10;"}
_MARKER: Final = re.compile("p([0-9]+)q")
"""Begins a mark that stands for a placeholder while an XML document is parsed."""
_XML_REFERENCE: Final = re.compile("&#(?:0*([0-9]{1,3})|x0*([0-9A-Fa-f]{1,2}));")
"""A reference to an ASCII character (XML 1.0, 4.1), by which a document could forge a mark."""
_SLOT: Final = "\0"
"""Stands for a placeholder where a template is looked at as a whole; no template contains it."""


class InvalidTemplate(ValueError):
    """The template cannot be used; the message says what must be true."""


class Unwritable(ValueError):
    """A value cannot be written in its place; the message says what must be true of it, and repeats nothing."""


class TooLarge(Exception):
    """What is filled in is over its limit."""


class Text(NamedTuple):
    """A text in its parts: a literal, then for each name the literal behind its placeholder."""

    literals: Sequence[str]
    names: Sequence[str]

    @property
    def is_exact(self) -> bool:
        """Whether it is one placeholder and nothing else."""
        return len(self.names) == 1 and not any(self.literals)


def parse(text: str) -> Text:
    """Read a text. Raises InvalidTemplate where `{{` begins no placeholder."""
    literals: list[str] = []
    names: list[str] = []
    literal = ""
    at = 0
    for found in _OPENING.finditer(text):
        literal += text[at : found.start()]
        at = found.end()
        if found[1] is not None:
            literal += "{{"
        elif found[2] is not None:
            literals.append(literal)
            names.append(found[2])
            literal = ""
        else:
            raise InvalidTemplate("{{ must begin a placeholder such as {{name}}: write {{{{ for {{ itself")
    return Text([*literals, literal + text[at:]], names)


def check_names(text: Text, parameters: Mapping[str, Parameter], *, whole: bool = False) -> None:
    """Refuse placeholders that have no value, or none that is a text. `whole`: an exact one may be of any type.

    Raises InvalidTemplate.
    """
    for name in text.names:
        parameter = parameters.get(name)
        if parameter is None:
            raise InvalidTemplate("a placeholder must name one of the parameters")
        if parameter.is_structure and not (whole and text.is_exact):
            raise InvalidTemplate("a list or an object may only stand alone, as a whole value of a JSON body")


def written(value: object) -> str:
    """The text of a value that is no list or object."""
    if isinstance(value, str):
        return value
    if isinstance(value, Number):
        return value.text
    if isinstance(value, bool):
        return "true" if value else "false"
    raise TypeError("a list or object has no text")


def json_written(value: object) -> str:
    """A value as JSON, numbers spelled as they came."""
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, list):
        return f"[{','.join([json_written(each) for each in value])}]"
    if isinstance(value, dict):
        return f"{{{','.join([f'{encode_basestring(name)}:{json_written(each)}' for name, each in value.items()])}}}"
    return "null" if value is None else written(value)


def _within_json(value: object) -> str:
    return encode_basestring(written(value))[1:-1]


def _encoded(value: object) -> str:
    return quote(written(value), safe="")


def _xml(value: object, replaced: Mapping[int, str]) -> str:
    text = written(value)
    if _NOT_XML.search(text):
        raise Unwritable("must not contain characters that XML does not allow")
    return text.translate(replaced)


def _within_xml_text(value: object) -> str:
    return _xml(value, _XML_TEXT)


def _within_xml_attribute(value: object) -> str:
    return _xml(value, _XML_ATTRIBUTE)


def header_written(value: object) -> str:
    """A value in a header field (RFC 9110 5.5): UTF-8, one character a byte. Raises Unwritable."""
    text = written(value)
    if _CONTROLS.search(text):
        raise Unwritable("must not contain control characters: it goes into a header")
    return text.encode().decode("latin-1")


class Slot(NamedTuple):
    """A placeholder: whose value, how it is written, and the literal behind it."""

    name: str
    write: Write
    after: str


class Template:
    """Literals and slots, ready to be filled in."""

    __slots__ = ("_first", "_slots")

    def __init__(self, first: str, slots: list[Slot]) -> None:
        self._first: Final = first
        self._slots: Final = slots

    @classmethod
    def of(cls, text: Text, write: Write) -> Template:
        """A text whose values are all written in one way."""
        return cls(text.literals[0], [Slot(name, write, text.literals[at + 1]) for at, name in enumerate(text.names)])

    @property
    def literal(self) -> str | None:
        """The text, where it has no slots."""
        return None if self._slots else self._first

    def fill(self, values: Values, errors: Errors, most: int) -> str:
        """The text with these values; what cannot be written is added to `errors`, what has no value is left out.

        Raises TooLarge where it has more than `most` characters.
        """
        pieces = [self._first]
        size = len(self._first)
        for slot in self._slots:
            value = values.get(slot.name)
            if value is None:
                continue
            try:
                piece = slot.write(value)
            except Unwritable as reason:
                errors.setdefault(slot.name, str(reason))
                continue
            size += len(piece) + len(slot.after)
            if size > most:
                raise TooLarge
            pieces.append(piece)
            pieces.append(slot.after)
        return "".join(pieces)

    def fill_bytes(self, values: Values, errors: Errors, most: int) -> bytes:
        """The same in UTF-8, of at most so many bytes."""
        data = self.fill(values, errors, most).encode()
        if len(data) > most:
            raise TooLarge
        return data


class _Writer:
    """Gathers literals and slots into a template."""

    def __init__(self) -> None:
        self._first = ""
        self._slots: list[Slot] = []
        self._pieces: list[str] = []

    def add(self, literal: str) -> None:
        self._pieces.append(literal)

    def add_slot(self, name: str, write: Write) -> None:
        self._flush()
        self._slots.append(Slot(name, write, ""))

    def add_text(self, text: Text, write: Write) -> None:
        """A text whose literals are written as values are."""
        self.add(write(text.literals[0]))
        for name, literal in zip(text.names, text.literals[1:], strict=True):
            self.add_slot(name, write)
            self.add(write(literal))

    def _flush(self) -> None:
        literal = "".join(self._pieces)
        self._pieces = []
        if self._slots:
            self._slots[-1] = self._slots[-1]._replace(after=literal)
        else:
            self._first = literal

    def template(self) -> Template:
        self._flush()
        return Template(self._first, self._slots)


# Bodies.


def kind_of(content_type: str) -> str | None:
    """What a body of this Content-Type is filled in as: JSON, FORM, XML or TEXT; None where it cannot be."""
    essence = essence_of(content_type)
    if essence == JSON or (essence.startswith("application/") and essence.endswith("+json")):
        return JSON
    if essence in (XML, "text/xml") or essence.endswith("+xml"):
        return XML
    return essence if essence in (FORM, TEXT) else None


def is_utf_8(content_type: str) -> bool:
    """Whether a Content-Type says UTF-8, or nothing of it."""
    charsets = [part for part in parameters_of(content_type) if part.startswith("charset=")]
    return all(each == "charset=utf-8" for each in charsets)


def parameters_of(content_type: str) -> frozenset[str]:
    """The parameters of a Content-Type, names in lower case; a charset's value as well (RFC 9110 8.3.1)."""
    found = set()
    for part in content_type.split(";")[1:]:
        name, _, value = part.strip(" \t").partition("=")
        name, value = name.lower(), value.strip('"')
        found.add(f"{name}={value.lower() if name == 'charset' else value}")
    return frozenset(found)


def essence_of(content_type: str) -> str:
    """Type and subtype of a Content-Type, in lower case."""
    return content_type.partition(";")[0].strip(" \t").lower()


def body_template(
    content_type: str, body: object, parameters: Mapping[str, Parameter], findings: Findings
) -> Template | None:
    """The template of a body, or None and why it cannot be used, with the places in it."""
    before = len(findings)
    try:
        found = _body_template(kind_of(content_type), body, parameters, findings)
    except InvalidTemplate as error:
        findings.append(((), str(error)))
        return None
    return found if len(findings) == before else None


def _body_template(kind: str | None, body: object, parameters: Mapping[str, Parameter], findings: Findings) -> Template:
    if kind is None:
        raise InvalidTemplate("needs a content_type of JSON, XML, text/plain or application/x-www-form-urlencoded")
    if kind == JSON:
        return _JsonBody(parameters, findings).read(body)
    if kind == FORM:
        return _form_template(body, parameters, findings)
    if not isinstance(body, str):
        raise InvalidTemplate("with this content_type a body must be a text")
    if kind == XML:
        return _xml_template(body, parameters)
    text = parse(body)
    check_names(text, parameters)
    return Template.of(text, written)


class _JsonBody:
    """Reads a JSON document: every error is noted with its place."""

    def __init__(self, parameters: Mapping[str, Parameter], findings: Findings) -> None:
        self._parameters = parameters
        self._findings = findings
        self._writer = _Writer()

    def read(self, document: object) -> Template:
        """The template; it is of no use where there is a finding."""
        self._read(document, ())
        return self._writer.template()

    def _read(self, node: object, place: Place) -> None:
        if len(place) >= DEPTH and isinstance(node, list | dict):
            self._findings.append((place, f"must not be nested deeper than {DEPTH} levels"))
        elif isinstance(node, dict):
            self._read_object(node, place)
        elif isinstance(node, list):
            self._writer.add("[")
            for index, each in enumerate(node):
                self._writer.add("," if index else "")
                self._read(each, (*place, index))
            self._writer.add("]")
        elif isinstance(node, str):
            self._read_text(node, place)
        else:
            self._read_plain(node, place)

    def _read_object(self, node: Mapping[str, object], place: Place) -> None:
        self._writer.add("{")
        for index, (key, each) in enumerate(node.items()):
            if "{{" in key:
                self._findings.append(((*place, key), "a key must not contain {{"))
            self._writer.add(f"{',' if index else ''}{encode_basestring(key)}:")
            self._read(each, (*place, key))
        self._writer.add("}")

    def _read_text(self, node: str, place: Place) -> None:
        try:
            text = parse(node)
            check_names(text, self._parameters, whole=True)
        except InvalidTemplate as error:
            self._findings.append((place, str(error)))
            return
        if text.is_exact:
            self._writer.add_slot(text.names[0], json_written)
            return
        self._writer.add('"')
        self._writer.add_text(text, _within_json)
        self._writer.add('"')

    def _read_plain(self, node: object, place: Place) -> None:
        try:
            self._writer.add("null" if node is None else written(plain_value(node)))
        except ValueError as error:
            self._findings.append((place, str(error)))


def plain_value(node: object) -> object:
    """A number, true or false of a document as a value. Raises ValueError for anything else, and for NaN."""
    if isinstance(node, bool):
        return node
    if isinstance(node, int):
        return Number(str(node))
    if isinstance(node, float) and node - node == 0:
        return Number(repr(node))
    raise ValueError("must be a value that JSON has")


def _form_template(body: object, parameters: Mapping[str, Parameter], findings: Findings) -> Template:
    if not isinstance(body, dict):
        raise InvalidTemplate("the body of a form must be a mapping of fields to texts")
    writer = _Writer()
    for index, (key, each) in enumerate(body.items()):
        if "{{" in key:
            findings.append(((key,), "a key must not contain {{"))
        writer.add(f"{'&' if index else ''}{_encoded(key)}=")
        try:
            if isinstance(each, str):
                text = parse(each)
                check_names(text, parameters)
                writer.add_text(text, _encoded)
            else:
                writer.add(_encoded(plain_value(each)))
        except InvalidTemplate as error:
            findings.append(((key,), str(error)))
        except ValueError:
            findings.append(((key,), "a field of a form must be a text, a number, true or false"))
    return writer.template()


def _xml_template(body: str, parameters: Mapping[str, Parameter]) -> Template:
    """An XML document whose placeholders stand in text and in values of attributes. Raises InvalidTemplate."""
    text = parse(body)
    check_names(text, parameters)
    taken = {number for literal in text.literals for number in _MARKER.findall(_dereferenced(literal))}
    marker = next(f"p{number}q" for number in range(len(taken) + 1) if str(number) not in taken)
    marks = [f"{marker}{at}r" for at in range(len(text.names))]
    document = text.literals[0] + "".join([f"{mark}{text.literals[at + 1]}" for at, mark in enumerate(marks)])
    reading = _XmlReading()
    reading.parse(document)
    pattern = re.compile(f"{marker}([0-9]+)r")
    in_text, in_attributes = set(pattern.findall(reading.text)), set(pattern.findall(reading.attributes))
    slots = []
    for at in range(len(marks)):
        if str(at) in in_text:
            write: Write = _within_xml_text
        elif str(at) in in_attributes:
            write = _within_xml_attribute
        else:
            raise InvalidTemplate("in XML a placeholder may stand only in text and in values of attributes")
        slots.append(Slot(text.names[at], write, text.literals[at + 1]))
    return Template(text.literals[0], slots)


def _dereferenced(literal: str) -> str:
    return _XML_REFERENCE.sub(lambda found: chr(int(found[1]) if found[1] else int(found[2], 16)), literal)


class _XmlReading:
    """The text and the values of attributes in an XML document."""

    def __init__(self) -> None:
        self.text = ""
        self.attributes = ""
        self._pieces: list[str] = []
        self._values: list[str] = []
        self._is_literal = False

    def parse(self, document: str) -> None:
        """Read a whole document. Raises InvalidTemplate."""
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.CharacterDataHandler = self._characters
        parser.StartCdataSectionHandler = self._start_literal
        parser.EndCdataSectionHandler = self._end_literal
        parser.StartDoctypeDeclHandler = self._doctype
        parser.XmlDeclHandler = self._declaration
        try:
            parser.Parse(document.encode(), True)
        except expat.ExpatError:
            raise InvalidTemplate("the body must be well-formed XML, with one element that holds all others") from None
        self.text, self.attributes = "".join(self._pieces), "\n".join(self._values)

    def _start(self, _: str, attributes: dict[str, str]) -> None:
        # Texts around an element must not be read as one.
        self._pieces.append("\n")
        self._values += attributes.values()

    def _characters(self, data: str) -> None:
        if not self._is_literal:
            self._pieces.append(data)

    def _start_literal(self) -> None:
        self._is_literal = True

    def _end_literal(self) -> None:
        self._is_literal = False

    def _doctype(self, *_: object) -> None:
        raise InvalidTemplate("the body must not have a document type declaration")

    def _declaration(self, _: str, encoding: str | None, __: int) -> None:
        if encoding is not None and encoding.lower() != "utf-8":
            raise InvalidTemplate("the encoding of the body must be UTF-8")


# URLs.


class _Part:
    """Placeholders of one path segment, or of one value in the query, and the literal behind it."""

    __slots__ = ("after", "in_path", "literals", "names")

    def __init__(self, literals: Sequence[str], names: Sequence[str], after: str, *, in_path: bool) -> None:
        self.literals: Final = literals
        self.names: Final = names
        self.after: Final = after
        self.in_path: Final = in_path

    def fill(self, values: Values, errors: Errors, most: int) -> str:
        """What stands there with these values, percent-encoded. Raises TooLarge where it is over `most` characters."""
        pieces = [self.literals[0]]
        size = len(self.literals[0])
        for at, name in enumerate(self.names):
            value = values.get(name)
            if value is None:
                return ""
            encoded, behind = _encoded(value), self.literals[at + 1]
            size += len(encoded) + len(behind)
            if size > most:
                raise TooLarge
            pieces += (encoded, behind)
        filled = "".join(pieces)
        if self.in_path and not stays_in_segment(filled):
            for name in self.names:
                errors.setdefault(name, _LEAVES)
        return filled


_LEAVES: Final = (
    "must not leave its segment of the path: / \\ ; ? # and controls are not allowed there, encoded or not, and the "
    "segment must not be empty, . or .."
)


def stays_in_segment(segment: str) -> bool:
    """Return True if a percent-encoded segment of a path is one segment to every server (`core/paths.py`)."""
    path = f"/{segment}"
    if len(path) > 1 and PLAIN.fullmatch(path.encode()):
        return True
    try:
        final = final_form(path)
    except UnreadablePath:
        return False
    return len(final) > 1 and _LEAVES_SEGMENT.search(final, 1) is None


class UrlTemplate:
    """An absolute URL with placeholders within path segments and values of the query."""

    __slots__ = ("_first", "_parts")

    def __init__(self, first: str, parts: list[_Part]) -> None:
        self._first: Final = first
        self._parts: Final = parts

    @classmethod
    def read(cls, url: str, parameters: Mapping[str, Parameter]) -> UrlTemplate:
        """Read a URL. Raises InvalidTemplate."""
        text = parse(url)
        check_names(text, parameters)
        shape = _SLOT.join(text.literals)
        if shape.count(_SLOT) != len(text.names):
            raise InvalidTemplate("must be a URL")
        try:
            check_characters(shape.replace(_SLOT, "x"))
        except InvalidTarget as error:
            raise InvalidTemplate(str(error).replace("the target", "the URL")) from None
        scheme, separator, rest = shape.partition("://")
        if not separator:
            raise InvalidTemplate("must be an absolute URL such as https://api.example.com/v1/hook")
        cut = min((rest.find(mark) for mark in "/?" if mark in rest), default=len(rest))
        if _SLOT in scheme or _SLOT in rest[:cut]:
            raise InvalidTemplate("a placeholder must not stand in the scheme or the host of the URL")
        path, mark, query = rest[cut:].partition("?")
        names = iter(text.names)
        first = f"{scheme}{separator}{rest[:cut]}"
        parts: list[_Part] = []
        for literal, within in _pieces_of(path, mark, query):
            if within is None:
                if parts:
                    last = parts[-1]
                    parts[-1] = _Part(last.literals, last.names, last.after + literal, in_path=last.in_path)
                else:
                    first += literal
                continue
            literals = literal.split(_SLOT)
            parts.append(_Part(literals, [next(names) for _ in literals[1:]], "", in_path=within))
        return cls(first, parts)

    @property
    def literal(self) -> str | None:
        """The URL, where it has no placeholders."""
        return None if self._parts else self._first

    def sample(self) -> str:
        """The URL with a plain value for each placeholder."""
        return self._first + "".join([f"{'x'.join(part.literals)}{part.after}" for part in self._parts])

    def fill(self, values: Values, errors: Errors, most: int) -> str:
        """The URL with these values; names of those that do not stay in their place are added to `errors`.

        Raises TooLarge where it has more than `most` characters: before it is whole, since a value may stand in it
        thousands of times.
        """
        pieces = [self._first]
        size = len(self._first)
        for part in self._parts:
            piece = f"{part.fill(values, errors, most)}{part.after}"
            size += len(piece)
            if size > most:
                raise TooLarge
            pieces.append(piece)
        return "".join(pieces)


def _pieces_of(path: str, mark: str, query: str) -> Iterator[tuple[str, bool | None]]:
    """Literals (None), path segments with placeholders (True) and values of a query with placeholders (False)."""
    for index, segment in enumerate(path.split("/")):
        yield ("/" if index else ""), None
        if _SLOT not in segment:
            yield segment, None
        elif _SEGMENT.fullmatch(segment):
            yield segment, True
        else:
            raise InvalidTemplate("beside a placeholder a path segment must not contain escapes, ; or other marks")
    yield mark, None
    for index, pair in enumerate(query.split("&")):
        name, equals, value = pair.partition("=")
        if _SLOT in name:
            raise InvalidTemplate("in the query a placeholder may stand only in a value, behind name=")
        yield f"{'&' if index else ''}{name}{equals}", None
        yield value, (False if _SLOT in value else None)
