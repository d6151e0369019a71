"""One request of the API: who sends it, which route it is for, what it brings; and the response, whatever happens."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from sidekey.admin.api.answer import YAML, Answer, version_in
from sidekey.admin.api.ask import Ask, Condition
from sidekey.admin.api.operation import perform
from sidekey.admin.api.operators import Operator, bearer
from sidekey.admin.api.problems import ApiProblem
from sidekey.admin.api.route import JSON, PREFIX, Route
from sidekey.admin.api.service import Service
from sidekey.admin.api.yaml_documents import read_yaml
from sidekey.admin.serve import is_whole
from sidekey.core.addresses import literal
from sidekey.settings.stored.document import LARGEST, MalformedError, parse

BODY_TIMEOUT: Final = 30.0
"""Seconds in which a body must come."""

_ALWAYS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}


_WEIGHT: Final = re.compile(r"(?:^|;)[ \t]*q=([01](?:\.[0-9]{0,3})?)[ \t]*(?:;|$)", re.IGNORECASE)
"""RFC 9110 12.4.2."""

Authenticate = Callable[[web.Request], Awaitable[Operator]]
"""Finds the operator who sends a request. Raises ApiProblem."""


class Dispatcher:
    """Serves the API by its table of routes."""

    def __init__(self, service: Service, routes: tuple[Route, ...]) -> None:
        self._service = service
        self._routes = routes

    async def serve(
        self, request: web.Request, prefix: str = PREFIX, authenticate: Authenticate | None = None
    ) -> web.Response:
        """The response to any request below a prefix. By default a bearer token identifies the operator."""
        try:
            answer = await self._answer(request, prefix, authenticate or self._by_token)
        except ApiProblem as problem:
            answer = problem.answer()
        except Exception as defect:  # noqa: BLE001  the edge: a defect is logged, and its sender told nothing of it
            logged = self._service.report(defect)
            answer = ApiProblem("internal_error", f"a defect of Sidekey, logged as {logged}").answer()
        return respond(answer)

    async def _by_token(self, request: web.Request) -> Operator:
        header = _single(request, hdrs.AUTHORIZATION)
        token = bearer(header)
        if token is not None:
            await self._service.look_for(token)
        return self._service.authenticate(header)

    async def _answer(self, request: web.Request, prefix: str, authenticate: Authenticate) -> Answer:
        operator = await authenticate(request)
        route, names = self._find(request, prefix)
        if route.needs_store:
            self._service.require_store()
        ask = Ask(operator, route.action, route.writes, names, source=source_of(self._service, request))
        answer = await perform(self._service, route, ask, partial(self._read, request, route))
        return _not_modified(answer) if route.method == hdrs.METH_GET and _has(request, answer) else answer

    async def _read(self, request: web.Request, route: Route, ask: Ask) -> Ask:
        """What a request brings."""
        query = _query(request, route)
        ask = replace(await self._body(request, route, ask), query=query)
        ask = replace(ask, as_yaml=route.gives_yaml and _prefers_yaml(request))
        if not route.conditional:
            return ask
        condition = _condition(request, route)
        return replace(ask, condition=condition, action="create" if condition.absent else ask.action)

    def _find(self, request: web.Request, prefix: str) -> tuple[Route, Mapping[str, str]]:
        """The route of a request, by the bytes of its path: no name needs an escape."""
        path = request.raw_path.partition("?")[0].removeprefix(prefix)
        segments = tuple(path.split("/")[1:])
        found = [(route, names) for route in self._routes if (names := route.match(segments)) is not None]
        if not found:
            raise ApiProblem("not_found", "the API has no such path: see /api/v1/openapi.json")
        method = hdrs.METH_GET if request.method == hdrs.METH_HEAD else request.method
        for route, names in found:
            if route.method == method:
                return route, names
        allowed = [route.method for route, _ in found]
        allowed += [hdrs.METH_HEAD] if hdrs.METH_GET in allowed else []
        raise ApiProblem("method_denied", "see Allow", headers={hdrs.ALLOW: ", ".join(sorted(allowed))})

    async def _body(self, request: web.Request, route: Route, ask: Ask) -> Ask:
        if not route.body:
            if request.body_exists:
                raise ApiProblem("malformed", "this takes no body")
            return ask
        if not request.body_exists:
            raise ApiProblem("malformed", "a body must be sent")
        _check_type(request, route)
        data = await read_body(request)
        if request.content_type == YAML:
            found = await self._service.run(read_yaml, data)
            return replace(ask, body=found.value, table=found.table)
        try:
            return replace(ask, body=await self._service.run(parse, data))
        except MalformedError as error:
            raise ApiProblem("malformed", f"the body {error}") from None


def source_of(service: Service, request: web.Request) -> str:
    """Where a request comes from: the peer's address, and behind a proxy whose it says that it passes on.

    The last one of X-Forwarded-For is what the proxy that connects has seen; what is before it anybody may write.
    """
    peer = request.remote or "unix"
    if not service.snapshot.admin.behind_tls:
        return peer
    said = ",".join(request.headers.getall("X-Forwarded-For", [])).rpartition(",")[2].strip(" \t")
    address = literal(said.partition("%")[0])
    return peer if address is None else f"{address} by {peer}"


def respond(answer: Answer) -> web.Response:
    """The response as aiohttp writes it."""
    headers = {**_ALWAYS, **answer.headers}
    if answer.body:
        headers[hdrs.CONTENT_TYPE] = answer.content_type
    return web.Response(status=answer.status, body=answer.body or None, headers=headers)


def _single(request: web.Request, name: str) -> str | None:
    """The value of a field that may be there once. Raises ApiProblem."""
    values = request.headers.getall(name, [])
    if len(values) > 1:
        raise ApiProblem("malformed", f"{name} must not be repeated")
    return values[0] if values else None


def _query(request: web.Request, route: Route) -> dict[str, str]:
    """The parameters of a query. Raises ApiProblem where one is repeated, not known or not valid."""
    found: dict[str, str] = {}
    for name, value in request.query.items():
        schema = route.query.get(name)
        if schema is None:
            known = f"this takes {', '.join(route.query)}" if route.query else "this takes none"
            raise ApiProblem("malformed", f"a query parameter is not known: {known}")
        if name in found:
            raise ApiProblem("malformed", f"query parameter {name} must not be repeated")
        if "enum" in schema and value not in schema["enum"]:
            raise ApiProblem("malformed", f"query parameter {name} must be one of {', '.join(schema['enum'])}")
        if "pattern" in schema and re.fullmatch(schema["pattern"], value) is None:
            raise ApiProblem("malformed", f"query parameter {name} must be as the page before says in next")
        found[name] = value
    return found


def _prefers_yaml(request: web.Request) -> bool:
    """Return True if Accept gives YAML more weight than JSON (RFC 9110 12.5.1)."""
    weights: dict[str, float] = {}
    for each in _list(request, hdrs.ACCEPT):
        media, _, parameters = each.partition(";")
        weight = _WEIGHT.search(parameters)
        weights[media.rstrip(" \t").lower()] = 1.0 if weight is None else float(weight[1])
    return weights.get(YAML, 0.0) > weights.get(JSON, 0.0)


def _condition(request: web.Request, route: Route) -> Condition:
    """Parse what a change expects of the row (RFC 9110 13.1.1, 13.1.2). Raises ApiProblem."""
    match, none_match = _list(request, hdrs.IF_MATCH), _list(request, hdrs.IF_NONE_MATCH)
    if none_match:
        if not route.creates or match or none_match != ["*"]:
            text = "If-None-Match of a change must be * alone, without If-Match, and only PUT may have it"
            raise ApiProblem("malformed", text)
        return Condition(absent=True)
    if not match:
        create = ", or If-None-Match: * to create" if route.creates else ""
        text = f"send If-Match with the ETag that it was read with, so that nobody else's change is lost{create}"
        raise ApiProblem("precondition_required", text)
    if match == ["*"]:
        return Condition(versions=None)
    return Condition(frozenset(version for tag in match if (version := version_in(tag)) is not None))


def _list(request: web.Request, name: str) -> list[str]:
    """Return the members of a list field: no comma is in an entity tag of ours."""
    members = ",".join(request.headers.getall(name, [])).split(",")
    return [member for each in members if (member := each.strip(" \t"))]


def _has(request: web.Request, answer: Answer) -> bool:
    """Return True if the client has this representation already (RFC 9110 13.1.2, by weak comparison)."""
    tag = answer.headers.get("ETag")
    tags = _list(request, hdrs.IF_NONE_MATCH)
    return tag is not None and (tags == ["*"] or tag in {each.removeprefix("W/") for each in tags})


def _not_modified(answer: Answer) -> Answer:
    """Return the 304 in place of a response that has an ETag."""
    return Answer(304, headers={"ETag": answer.headers["ETag"]})


def _check_type(request: web.Request, route: Route) -> None:
    """Raise ApiProblem where the body is not of a type that is accepted."""
    accepted = " or ".join(route.accepts)
    headers = {"Accept-Patch" if route.method == hdrs.METH_PATCH else "Accept": ", ".join(route.accepts)}
    if (_single(request, hdrs.TRANSFER_ENCODING) or "chunked").lower() != "chunked":
        # aiohttp passes any coding before it on as it came.
        raise ApiProblem("malformed", "Transfer-Encoding must be chunked alone")
    if _single(request, hdrs.CONTENT_ENCODING) not in (None, "identity"):
        raise ApiProblem("unsupported", "a body must come without content coding", headers=headers)
    charset = (request.charset or "utf-8").lower()
    if _single(request, hdrs.CONTENT_TYPE) is None or request.content_type not in route.accepts or charset != "utf-8":
        raise ApiProblem("unsupported", f"Content-Type must be {accepted}, in UTF-8", headers=headers)


async def expect_later(_: web.Request) -> None:
    """Say nothing yet: aiohttp would have a body sent before it is known whose it is (RFC 9110 10.1.1)."""


def _expects(request: web.Request) -> bool:
    """Whether the body is only sent once somebody asks for it. Any other expectation is met by being ignored."""
    expected = request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
    return expected and request.version >= HttpVersion11 and not is_whole(request)


async def read_body(request: web.Request, most: int = LARGEST) -> bytes:
    """The whole body, of at most so many bytes. Raises ApiProblem where it is larger, or does not come."""
    if request.content_length is not None and request.content_length > most:
        raise _too_large(most)
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            if _expects(request):
                await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                request.writer.output_size = 0
            async for chunk in request.content.iter_chunked(64 << 10):
                data += chunk
                if len(data) > most:
                    raise _too_large(most)
    except (TimeoutError, ConnectionError, web.RequestPayloadError):
        # Who has left needs no response.
        raise ApiProblem("malformed", "the body did not come whole") from None
    return bytes(data)


def _too_large(most: int) -> ApiProblem:
    return ApiProblem("too_large", f"a body must be at most {most >> 10} KiB")
