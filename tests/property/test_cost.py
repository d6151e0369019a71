"""What a document costs grows with its size: twice as much of any part of it costs at most 2.5 times as much.

The parts are those of the schemas in the API's OpenAPI document, so that a part that is added is tried as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from http.client import HTTPConnection
from typing import Any, Final, NamedTuple

import pytest

from support.api import JSON, OF_A_FILE, TOKENS, Api, managed
from support.child import Child
from support.raw import DEADLINE
from support.stored import BASIC, documents

MOST: Final = 2.5
"""How many times the cost of half a document the whole one may cost."""

NOISE: Final = 0.03
"""Seconds of CPU time below which a document holds up nobody, and fixed costs count."""

ENTRIES: Final = 4000
CHARACTERS: Final = 200_000
DEPTH: Final = 30
"""How far a part is grown at most: until the API refuses the document as too large."""

WIDE = {**BASIC, "allow_other_domains": True, "allowed_domains": ["https://api.example.com"], "methods": ["GET"]}
PRESET = {
    "integration": "of-a-file",
    "url": "http://127.0.0.1:1/v1/{{a}}",
    "content_type": "application/json",
    "parameters": {"a": {"type": "text"}},
    "body": {"a": "{{a}}"},
}
FORM = {**PRESET, "content_type": "application/x-www-form-urlencoded"}
XML = {**PRESET, "content_type": "application/xml", "body": "<a>{{a}}</a>"}

BASES: Mapping[str, list[dict[str, Any]]] = {
    "previewDraft": [WIDE, *documents().values()],
    "previewPresetDraft": [{"preset": each, "parameters": {"a": "x"}} for each in (PRESET, FORM, XML)],
    "previewPreset": [{"parameters": {"user": "x"}}],
    "explainIntegration": [{"url": "/x"}],
    "createCaller": [{"name": "grown", "integrations": []}],
    "createToken": [{"name": "grown", "role": "viewer", "own_token": TOKENS["admin"]}],
}
"""Documents that operations accept, to be grown."""

SAME: Mapping[str, str] = {
    "createIntegration": "previewDraft",
    "replaceIntegration": "previewDraft",
    "patchIntegration": "previewDraft",
    "testDraft": "previewDraft",
    "createPreset": "previewPresetDraft",
    "replacePreset": "previewPresetDraft",
    "patchPreset": "previewPresetDraft",
    "testPresetDraft": "previewPresetDraft",
    "testPreset": "previewPreset",
    "replaceCaller": "createCaller",
    "patchCaller": "createCaller",
}
"""Operations that read a document as another one does, and would save or send it."""

NAMES: Final = ("n{}", "X-N{}")
TEXTS: Final = ("n{}", "https://h{}.example.com", "https://api.example.com/v1/p{}", "M{}", "10.0.{}.0/24")
"""Forms of names and texts of which a part accepts one."""

LONG: Final = (
    "a",
    "{{a}}",
    "https://a.example/b?c=&",
    " []%2525;a=&/../{\u00e9<a>-\n",
)
"""Pieces of long texts."""

Place = tuple[str | int, ...]


class Part(NamedTuple):
    """A part of a document. `grow` makes a document in which the part has a size, of at most `most`."""

    name: str
    most: int
    grow: Callable[[int], Any]


XML_ELEMENT: Final = '<b c="{{a}}"/>'
XML_BODIES: Mapping[str, tuple[int, Callable[[int], str]]] = {
    "text like one long mark": (400_000, lambda size: f"<a>p{'q' * size}</a>"),
    "text like many marks": (50_000, lambda size: f"<a>{''.join(f'p{number}q' for number in range(size))}</a>"),
    "text like one long mark, and placeholders": (50_000, lambda size: f"<a>p{'q' * size}{'{{a}}' * size}</a>"),
    "placeholders in text": (40_000, lambda size: f"<a>{'<b>{{a}}</b>' * size}</a>"),
    "placeholders in attributes": (30_000, lambda size: f"<a>{XML_ELEMENT * size}</a>"),
}
"""Bodies of presets, each by its largest size and by how it is built."""


class Server:
    """The API of a running Sidekey, and what its requests cost."""

    def __init__(self, child: Child, connection: HTTPConnection) -> None:
        self._child = child
        self._connection = connection
        described = Api(child.admin_port).get("/openapi.json")
        self.schemas: Mapping[str, Any] = described["components"]["schemas"]
        self.operations = {
            each["operationId"]: (path.replace("{id}", "hook-of-a-file" if "preset" in path else "of-a-file"), each)
            for path, methods in described["paths"].items()
            for each in methods.values()
            if "requestBody" in each
        }

    def ask(self, operation: str, document: Any) -> tuple[int, Any, float]:
        """Return status and JSON of a response, and the CPU time of the process that it took."""
        data = json.dumps(document).encode()
        fields = {"Authorization": f"Bearer {TOKENS['admin']}", "Content-Type": JSON}
        before = self._child.cpu_time()
        self._connection.request("POST", self.operations[operation][0], data, fields)
        response = self._connection.getresponse()
        body = response.read()
        return response.status, json.loads(body), self._child.cpu_time() - before

    def schema_of(self, operation: str) -> Mapping[str, Any]:
        (content,) = self.operations[operation][1]["requestBody"]["content"].values()
        return self.resolved(content["schema"])

    def resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in schema:
            schema = self.schemas[schema["$ref"].rpartition("/")[2]]
        return schema


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """One process for all parts."""
    with managed(tmp_path_factory.mktemp("cost"), more=OF_A_FILE) as found:
        yield found


@pytest.fixture
def server(child: Child) -> Iterator[Server]:
    """Its API, by a connection of the test's own."""
    with closing(HTTPConnection("127.0.0.1", child.admin_port, timeout=DEADLINE)) as connection:
        yield Server(child, connection)


def with_value(document: Any, path: Place, value: Any) -> Any:
    """A copy of a document with a value at a path, which need not be there."""
    if not path:
        return value
    key, rest = path[0], path[1:]
    if isinstance(key, int):
        return [with_value(None, rest, value)]
    found = dict(document) if isinstance(document, dict) else {}
    return {**found, key: with_value(found.get(key), rest, value)}


def value_at(document: Any, path: Place) -> Any:
    for key in path:
        document = document.get(key) if isinstance(document, dict) and isinstance(key, str) else None
    return document


class Parts:
    """The parts of one document by the schema of its operation."""

    def __init__(self, server: Server, operation: str, base: Any, seen: set[str]) -> None:
        self._server = server
        self._operation = operation
        self._base = base
        self._seen = seen
        self._wide: list[tuple[Place, Callable[[int], Any]]] = []

    def all(self) -> Iterator[Part]:
        """Every part by itself, then all lists and mappings together."""
        yield from self._below(self._server.schema_of(self._operation), ())
        if self._wide:
            yield Part("all lists and mappings", ENTRIES, self._all_wide)

    def _all_wide(self, size: int) -> Any:
        document = self._base
        for path, make in self._wide:
            document = with_value(document, path, make(size // len(self._wide)))
        return document

    def _below(self, schema: Mapping[str, Any], path: Place) -> Iterator[Part]:
        for variant in self._variants(schema, value_at(self._base, path)):
            shape = json.dumps([variant, path[-1:]])
            if shape in self._seen and path:
                # The same schema under the same key is read by the same code.
                continue
            self._seen.add(shape)
            kinds = variant.get(
                "type", [] if "const" in variant or "enum" in variant else ["string", "array", "object"]
            )
            for kind in [kinds] if isinstance(kinds, str) else kinds:
                if kind == "string" and "enum" not in variant:
                    yield from self._texts(path)
                elif kind == "array":
                    yield from self._lists(variant, path)
                    yield from self._below(variant.get("items", {"type": "null"}), (*path, 0))
                elif kind == "object":
                    yield from self._mappings(variant, path)
                    for name, each in variant.get("properties", {}).items():
                        if not self._server.resolved(each).get("readOnly"):
                            yield from self._below(each, (*path, name))
                    for each in self._values_of(variant):
                        yield from self._below(each, (*path, "X-N0"))
            if "type" not in variant or "DocumentValue" in json.dumps(variant):
                yield Part(f"{path} depth", DEPTH, lambda size: with_value(self._base, path, nested(size)))

    def _variants(self, schema: Mapping[str, Any], value: Any) -> Iterator[Mapping[str, Any]]:
        """The schemas of which a value has one; of kinds, the one that the document has."""
        schema = self._server.resolved(schema)
        chosen = schema.get("discriminator", {})
        name = value.get(chosen.get("propertyName")) if isinstance(value, dict) else None
        if name in chosen.get("mapping", {}):
            yield self._server.resolved({"$ref": chosen["mapping"][name]})
            return
        choices = [*schema.get("oneOf", ()), *schema.get("anyOf", ())]
        for each in choices:
            yield from self._variants(each, value)
        if not choices:
            yield schema

    def _values_of(self, schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        more = schema.get("additionalProperties")
        return [*([more] if isinstance(more, dict) else []), *schema.get("patternProperties", {}).values()]

    def _texts(self, path: Place) -> Iterator[Part]:
        for piece in LONG:
            size = len(json.dumps(piece)) - 2
            yield Part(
                f"{path} text of {piece!r}",
                CHARACTERS // size,
                lambda count, piece=piece: with_value(self._base, path, piece * count),
            )

    def _lists(self, schema: Mapping[str, Any], path: Place) -> Iterator[Part]:
        found = [
            lambda size, item=item: [item(number) for number in range(size)]
            for item in self._samples(schema.get("items", {}))
        ]
        yield from self._accepted(path, "list", found)

    def _mappings(self, schema: Mapping[str, Any], path: Place) -> Iterator[Part]:
        kept = value_at(self._base, path)
        kept = kept if isinstance(kept, dict) else {}
        values = [each for schema in self._values_of(schema) for each in self._samples(schema)]
        found = [
            lambda size, name=name, value=value: {
                **kept,
                **{name.format(number): value(number) for number in range(size)},
            }
            for name in NAMES
            for value in values
        ]
        yield from self._accepted(path, "names", found)
        unknown = lambda size: with_value(self._base, path, {**kept, **{f"n{number}": {} for number in range(size)}})  # noqa: E731
        yield Part(f"{path} unknown keys", ENTRIES, unknown)

    def _accepted(self, path: Place, name: str, ways: list[Callable[[int], Any]]) -> Iterator[Part]:
        """The ways to grow a part that the API has least to say about."""
        judged: dict[int, list[Callable[[int], Any]]] = {}
        for way in ways:
            status, response, _ = self._server.ask(self._operation, with_value(self._base, path, way(2)))
            errors = len(response.get("errors", ())) + (status >= 400)
            judged.setdefault(errors, []).append(way)
        best = judged[min(judged)] if judged else []
        for number, way in enumerate(best[-2:]):
            self._wide += [(path, way)] if number == 0 else []
            yield Part(
                f"{path} {name} {number}", ENTRIES, lambda size, way=way: with_value(self._base, path, way(size))
            )

    def _samples(self, schema: Mapping[str, Any], depth: int = 0) -> list[Callable[[int], Any]]:
        """Makers of values of a schema, by their number."""
        found: list[Callable[[int], Any]] = []
        for variant in self._variants(schema, None):
            kind = variant.get("type")
            if "const" in variant or "enum" in variant:
                value = variant["const"] if "const" in variant else variant["enum"][0]
                found.append(lambda _, value=value: value)
            elif kind == "object" and depth < 3:
                required = {name: variant["properties"][name] for name in variant.get("required", ())}
                makers = {name: self._samples(each, depth + 1)[-1] for name, each in required.items()}
                found.append(lambda number, makers=makers: {name: make(number) for name, make in makers.items()})
            elif kind == "array" and depth < 3:
                items = self._samples(variant.get("items", {}), depth + 1)[-1:] * variant.get("minItems", 1)
                found.append(lambda number, items=items: [item(number) for item in items])
            elif kind in ("integer", "number", "boolean"):
                found.append(lambda number: number)
            else:
                found += [lambda number, text=text: text.format(number) for text in TEXTS]
        return found


def nested(depth: int) -> Any:
    """A value of this depth with many below."""
    value: Any = [f"n{number}" for number in range(ENTRIES // 2)]
    for _ in range(depth):
        value = {"a": value}
    return value


def excess(server: Server, operation: str, part: Part) -> str | None:
    """Say how much more than `MOST` times its half a part costs, if it does; of several measurements the least.

    A small part is tried first: what grows with the square would take minutes at full size.
    """
    for size in (part.most // 16, part.most):
        found = excess_at(server, operation, part, size)
        if found is not None:
            return found
    return None


def excess_at(server: Server, operation: str, part: Part, size: int) -> str | None:
    """The same at a size, or at the largest one below that the API reads."""
    status, response, whole = server.ask(operation, part.grow(size))
    while status in (400, 413) and size > 1:
        size //= 2
        status, response, whole = server.ask(operation, part.grow(size))
    assert status < 500, (part.name, size, response)
    half = float("inf")
    for _ in range(5):
        if whole <= NOISE:
            return None
        half = min(half, server.ask(operation, part.grow(size // 2))[2])
        if whole <= MOST * half:
            return None
        whole = min(whole, server.ask(operation, part.grow(size))[2])
    return f"{operation} {part.name}: {size // 2} cost {half * 1e3:.0f} ms, {size} cost {whole * 1e3:.0f} ms"


def test_operation_that_takes_a_document_is_tried(server: Server) -> None:
    """One that is added is put into one of the two lists."""
    assert server.operations.keys() == BASES.keys() | SAME.keys()


@pytest.mark.parametrize("operation", BASES)
def test_twice_the_document_costs_at_most_two_and_a_half_times(server: Server, operation: str) -> None:
    """By CPU time of the whole process, over each part of every kind of document."""
    seen: set[str] = set()
    tried = []
    for part in (part for base in BASES[operation] for part in Parts(server, operation, base, seen).all()):
        found = excess(server, operation, part)
        assert found is None, found
        tried.append(part.name)
    assert len(tried) > 5


@pytest.mark.parametrize("name", XML_BODIES)
def test_twice_the_xml_body_costs_at_most_two_and_a_half_times(server: Server, name: str) -> None:
    """Many placeholders, and text that resembles the marks that stand for them while the body is parsed."""
    most, build = XML_BODIES[name]
    (base,) = [each for each in BASES["previewPresetDraft"] if each["preset"] is XML]
    part = Part(name, most, lambda size: with_value(base, ("preset", "body"), build(size)))
    assert excess(server, "previewPresetDraft", part) is None
