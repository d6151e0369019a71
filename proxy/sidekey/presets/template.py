"""Templates of presets: `{{name}}` stands for a parameter's value, and `{{{{` for `{{`.

Sidekey parses a template when it loads the preset. Each placeholder has a function that escapes values for its context,
so that no value can break out of it. There are no expressions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal
from hashlib import sha256
from json.encoder import encode_basestring
from math import isfinite
from typing import Final, NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree as ET

from sidekey.policy.parameters import FORM
from sidekey.policy.paths import PLAIN_TARGET, UnreadablePath, final_form
from sidekey.policy.urls import InvalidTarget, check_characters

Value = str | bool | Decimal
Values = Mapping[str, Value]
Place = tuple[str | int, ...]
"""The keys and indexes that lead to a place in a body."""
Findings = list[tuple[Place, str]]
Errors = dict[str, str]
"""Why a parameter's value cannot be written, by the parameter's name."""
Escape = Callable[[Value], str]
"""Returns the text of a value, escaped for its context. Raises InvalidValue."""

NAME: Final = r"[A-Za-z_][A-Za-z0-9_-]{0,62}"
_OPENING: Final = re.compile(rf"\{{\{{(?:(\{{\{{)|({NAME})\}}\}})?")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_~!$&'()*+,=:@.-]*")
"""Text that may surround a placeholder in a path segment: every server reads these characters the same way."""
_SEGMENT_ENDS: Final = re.compile("[/;?#]")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML does not allow, not even as references (XML 1.0, 2.2)."""
_OTHER_ENCODING: Final = re.compile(r"""<\?xml\s[^>]*encoding\s*=\s*["'](?!utf-8["'])""", re.IGNORECASE)
_XML_ESCAPES: Final = {ord(character): f"&#{ord(character)};" for character in "&<>]\"'\t\n\r"}
"""References for markup, and for white space that a parser would normalize (XML 1.0, 2.11 and 3.3.3)."""
_LEAVES_SEGMENT: Final = (
    "must not leave its segment of the path: / \\ ; ? # and controls are not allowed there, encoded or not, and the "
    "segment must not be empty, . or .."
)


class InvalidTemplate(ValueError):
    """An invalid template. The message says how to fix it."""


class InvalidValue(ValueError):
    """A value that its placeholder does not allow. The message says what is allowed and never repeats the value."""


class TooLarge(Exception):
    """The filled text is over its limit."""


class ParsedText(NamedTuple):
    """A parsed text: the names of its placeholders, and the literals before, between and after them."""

    literals: list[str]
    names: list[str]


def parse(text: str, parameters: Collection[str]) -> ParsedText:
    """Parse a text and check that every placeholder is in `parameters`. Raises InvalidTemplate."""
    literals: list[str] = []
    names: list[str] = []
    literal = ""
    at = 0
    for opening in _OPENING.finditer(text):
        literal += text[at : opening.start()]
        at = opening.end()
        if opening[1] is not None:
            literal += "{{"
        elif opening[2] is None:
            raise InvalidTemplate("{{ must begin a placeholder such as {{name}}: write {{{{ for {{ itself")
        elif opening[2] not in parameters:
            advice = "add the parameter, or remove the placeholder"
            raise InvalidTemplate(f"{{{{{opening[2]}}}}} must name a parameter: {advice}")
        else:
            literals.append(literal)
            names.append(opening[2])
            literal = ""
    return ParsedText([*literals, literal + text[at:]], names)


def as_text(value: Value) -> str:
    """Return the text of a value. A number keeps all its digits."""
    if isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)


def _as_json(value: Value) -> str:
    return encode_basestring(value) if isinstance(value, str) else as_text(value)


def _within_json_string(value: Value) -> str:
    return encode_basestring(as_text(value))[1:-1]


def _percent_encoded(value: Value) -> str:
    return quote(as_text(value), safe="")


def _within_xml(value: Value) -> str:
    text = as_text(value)
    if _NOT_XML.search(text):
        raise InvalidValue("must not contain characters that XML does not allow")
    return text.translate(_XML_ESCAPES)


def as_header(value: Value) -> str:
    """Encode a value for a header (RFC 9110 5.5): UTF-8, one character per byte. Raises InvalidValue."""
    text = as_text(value)
    if _CONTROLS.search(text):
        raise InvalidValue("must not contain control characters: it goes into a header")
    return text.encode().decode("latin-1")


class Template:
    """A parsed text, with the function that escapes the value of each placeholder."""

    __slots__ = ("_escapes", "_literals", "literal", "names")

    def __init__(self, text: ParsedText, escapes: Sequence[Escape]) -> None:
        self._literals: Final = text.literals
        self._escapes: Final = escapes
        self.names: Final = text.names
        self.literal: Final = None if text.names else text.literals[0]
        """The text if it has no placeholders."""

    @classmethod
    def of(cls, text: ParsedText, escape: Escape) -> Template:
        """Build a template that escapes all values the same way."""
        return cls(text, [escape] * len(text.names))

    def fill(self, values: Values, errors: Errors, max_length: int) -> str:
        """Fill in the values. Skip missing ones, and add invalid ones to `errors`.

        Raises TooLarge if the text has more than `max_length` characters.
        """
        literals = self._literals
        pieces = [literals[0]]
        size = len(literals[0])
        for at, name in enumerate(self.names):
            value = values.get(name)
            if value is None:
                continue
            try:
                piece = self._escapes[at](value)
            except InvalidValue as reason:
                errors.setdefault(name, str(reason))
                continue
            literal = literals[at + 1]
            size += len(piece) + len(literal)
            if size > max_length:
                raise TooLarge
            pieces.append(piece)
            pieces.append(literal)
        return "".join(pieces)


def essence_of(content_type: str) -> str:
    """Return type and subtype of a Content-Type in lower case."""
    return content_type.partition(";")[0].strip(" \t").lower()


def content_type_parameters(content_type: str) -> frozenset[str]:
    """Return the parameters of a Content-Type, with names and the `charset` in lower case (RFC 9110 8.3.1)."""
    parameters = set()
    for part in content_type.split(";")[1:]:
        name, _, value = part.strip(" \t").partition("=")
        name, value = name.lower(), value.strip('"')
        parameters.add(f"{name}={value.lower() if name == 'charset' else value}")
    return frozenset(parameters)


def json_template(document: object, parameters: Collection[str], findings: Findings) -> Template | None:
    """Parse a JSON body. If it is invalid, add its errors to `findings`, which is empty, and return None."""
    _check_body(document, (), parameters, findings)
    if findings:
        return None
    # In JSON, {{ occurs only inside strings, which do not escape it, so the serialized document is the template.
    text = parse(json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False), parameters)
    literals = text.literals
    escapes: list[Escape] = []
    for at in range(len(text.names)):
        before, after = literals[at], literals[at + 1]
        if before.endswith('"') and not before.endswith('\\"') and after.startswith('"'):
            literals[at], literals[at + 1] = before[:-1], after[1:]
            escapes.append(_as_json)
        else:
            escapes.append(_within_json_string)
    return Template(text, escapes)


def form_template(body: object, parameters: Collection[str], findings: Findings) -> Template | None:
    """Parse a form body. If it is invalid, add its errors to `findings`, which is empty, and return None."""
    if not isinstance(body, dict):
        findings.append(((), "must be a mapping of fields to texts, numbers, true or false"))
        return None
    for name, value in body.items():
        if not isinstance(value, str | int | float):
            findings.append(((name,), "must be a text, a number, true or false"))
    _check_body(body, (), parameters, findings)
    if findings:
        return None
    fields = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in body.items()]
    encoded = "&".join([f"{quote(name, safe='')}={quote(value, safe='{}')}" for name, value in fields])
    text = parse(encoded, parameters)
    literals = [literal.replace("{", "%7B").replace("}", "%7D") for literal in text.literals]
    return Template.of(ParsedText(literals, text.names), _percent_encoded)


def _check_body(node: object, place: Place, parameters: Collection[str], findings: Findings) -> None:
    if isinstance(node, str):
        try:
            parse(node, parameters)
        except InvalidTemplate as error:
            findings.append((place, str(error)))
    elif isinstance(node, float) and not isfinite(node):
        findings.append((place, "must be a number that JSON has"))
    elif isinstance(node, list):
        for index, item in enumerate(node):
            _check_body(item, (*place, index), parameters, findings)
    elif isinstance(node, dict):
        for key, item in node.items():
            if "{{" in key:
                findings.append(((*place, key), "a key must not contain {{"))
            _check_body(item, (*place, key), parameters, findings)


def text_template(content_type: str, body: str, parameters: Collection[str]) -> Template:
    """Parse a text body. Values are escaped in XML only. Raises InvalidTemplate."""
    text = parse(body, parameters)
    essence = essence_of(content_type)
    if "xml" in essence:
        return _xml_template(body, text)
    if "json" in essence or essence == FORM or essence.startswith("multipart/"):
        raise InvalidTemplate("must not be JSON, a form or multipart, which a value could alter: use json or form")
    return Template.of(text, as_text)


def _xml_template(body: str, text: ParsedText) -> Template:
    if "<!DOCTYPE" in body or "<![CDATA[" in body:
        raise InvalidTemplate("must not contain <!DOCTYPE or <![CDATA[")
    if _OTHER_ENCODING.match(body):
        raise InvalidTemplate("the encoding must be UTF-8")
    # No document contains its own digest, so only placeholders match.
    digest = sha256(body.encode()).hexdigest()
    marked = text.literals[0] + "".join([f"p{digest}n{at}e{literal}" for at, literal in enumerate(text.literals[1:])])
    try:
        root = ET.fromstring(marked)  # noqa: S314 - without a document type no entity can expand
    except ET.ParseError:
        raise InvalidTemplate("must be well-formed XML with one root element") from None
    attributes = [value for element in root.iter() for value in element.attrib.values()]
    content = "\n".join([*root.itertext(), *attributes])
    if len(set(re.findall(f"p{digest}n([0-9]+)e", content))) != len(text.names):
        raise InvalidTemplate("in XML a placeholder may stand only in text and in values of attributes")
    return Template.of(text, _within_xml)


def stays_in_segment(segment: str) -> bool:
    """Return True if every server reads a percent-encoded path segment as one segment (`policy/paths.py`)."""
    path = f"/{segment}"
    if len(path) > 1 and PLAIN_TARGET.fullmatch(path.encode()):
        return True
    try:
        final = final_form(path)
    except UnreadablePath:
        return False
    return len(final) > 1 and _SEGMENT_ENDS.search(final, 1) is None


class UrlTemplate:
    """An absolute URL with placeholders in path segments and query values."""

    __slots__ = ("_pieces", "literal")

    def __init__(self, pieces: Sequence[tuple[Template, bool]], literal: str | None) -> None:
        self._pieces: Final = pieces
        """Templates, and True for a path segment with placeholders."""
        self.literal: Final = literal
        """The URL if it has no placeholders."""

    @classmethod
    def parse(cls, url: str, parameters: Collection[str]) -> UrlTemplate:
        """Parse a URL. Raises InvalidTemplate."""
        text = parse(url, parameters)
        try:
            check_characters("x".join(text.literals))
        except InvalidTarget as error:
            raise InvalidTemplate(str(error).replace("the target", "the URL")) from None
        scheme, separator, rest = url.partition("://")
        if not separator:
            raise InvalidTemplate("must be an absolute URL such as https://api.example.com/v1/hook")
        cut = min((rest.find(mark) for mark in "/?" if mark in rest), default=len(rest))
        if "{{" in scheme or "{{" in rest[:cut]:
            raise InvalidTemplate("a placeholder must not stand in the scheme or the host of the URL")
        path, mark, query = rest[cut:].partition("?")
        pieces = [(_literal(f"{scheme}://{rest[:cut]}"), False)]
        for index, segment in enumerate(path.split("/")):
            if index:
                pieces.append((_literal("/"), False))
            parsed = parse(segment, parameters)
            if parsed.names and not _SEGMENT.fullmatch("".join(parsed.literals)):
                raise InvalidTemplate("beside a placeholder a path segment must not contain escapes, ; or other marks")
            pieces.append((Template.of(parsed, _percent_encoded), bool(parsed.names)))
        if any(parse(pair.partition("=")[0], parameters).names for pair in query.split("&")):
            raise InvalidTemplate("in the query a placeholder may stand only in a value, behind name=")
        pieces.append((Template.of(parse(mark + query, parameters), _percent_encoded), False))
        return cls(pieces, None if text.names else text.literals[0])

    def fill_sample(self) -> str:
        """Return the URL with a plain value for each placeholder."""
        values = {name: "x" for template, _ in self._pieces for name in template.names}
        return self.fill(values, {}, 1 << 30)

    def fill(self, values: Values, errors: Errors, max_length: int) -> str:
        """Fill in the values, and add the names of values that leave their path segment to `errors`.

        Raises TooLarge as soon as the URL has more than `max_length` characters: it may repeat a value thousands of
        times.
        """
        pieces: list[str] = []
        remaining = max_length
        for template, is_segment in self._pieces:
            piece = template.fill(values, errors, remaining)
            remaining -= len(piece)
            if remaining < 0:
                raise TooLarge
            if is_segment and all(name in values for name in template.names) and not stays_in_segment(piece):
                for name in template.names:
                    errors.setdefault(name, _LEAVES_SEGMENT)
            pieces.append(piece)
        return "".join(pieces)


def _literal(text: str) -> Template:
    return Template.of(ParsedText([text], []), as_text)
