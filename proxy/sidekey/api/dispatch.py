"""Dispatch requests of the API: find the route, authenticate the operator, read the body, call the handler."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11
from prometheus_client.exposition import gzip_accepted
from pydantic import ValidationError

from sidekey.api.auth.operators import Operator, bearer, unknown_token
from sidekey.api.errors import TYPE, ApiProblem
from sidekey.api.guard import is_complete
from sidekey.api.handlers.sessions import cookie_name
from sidekey.api.messages import JSON, YAML, ApiRequest, ApiResult, Condition, version_in
from sidekey.api.route import CONSOLE, IDEMPOTENCY_KEY, PREFIX, PathTable, Route, needs_console
from sidekey.api.service import ApiServices, problem_of
from sidekey.api.yaml_bodies import read_yaml, with_lines
from sidekey.config.stored.document import MAX_SIZE, MalformedError, parse
from sidekey.policy.addresses import parse_address
from sidekey.snapshot.admin import Permission, roles_with
from sidekey.store.errors import StoreError

BODY_TIMEOUT: Final = 30.0
"""Seconds until a request body must be complete."""

_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}

_WEIGHT: Final = re.compile(r"(?:^|;)[ \t]*q=([01](?:\.[0-9]{0,3})?)[ \t]*(?:;|$)", re.IGNORECASE)
"""The weight among the parameters of a media type in Accept (RFC 9110 12.4.2)."""

_KEY_PATTERN: Final = re.compile(IDEMPOTENCY_KEY)

_AUDITED_CODES: Final = frozenset(
    {"forbidden", "not_found", "exists", "read_only", "in_use", "overlaps", "changed", "reenter"}
)
"""Problem codes of refused changes that the audit lists. It does not list typing errors (`invalid`)."""

_MAX_ANONYMOUS_SIZE: Final = 8 << 10
"""Maximum bytes of the body of an anonymous route."""

_NOT_SAME_ORIGIN: Final = (
    "a request with the cookie of a session needs Sec-Fetch-Site: same-origin: open the console over https, or at "
    "localhost; a script sends a token instead"
)


async def perform(
    service: ApiServices, route: Route, request: ApiRequest, complete: Callable[[ApiRequest], Awaitable[ApiRequest]]
) -> ApiResult:
    """Check the permission, complete the request, and call the handler of the route.

    `complete` adds query, body and condition, after the check: without the permission, nobody makes Sidekey read a
    body. This function counts changes and audits refused ones. The handler audits the changes that it commits. Raises
    ApiProblem, with line numbers for a YAML body, and StoreError if a refusal cannot be audited.
    """
    try:
        if route.permission != "anonymous":
            require_permission(request.operator, route.permission)
        if route.writes not in ("", "session"):
            service.require_writable()
        request = await complete(request)
        result = await route.handle(service, request)
    except (ApiProblem, StoreError) as error:
        problem = error if isinstance(error, ApiProblem) else problem_of(error)
        problem.errors = await service.run(with_lines, problem.errors, request.yaml_table)
        if route.writes:
            service.metrics.admin_changes[route.writes, problem.code] += 1
            if problem.code in _AUDITED_CODES:
                await service.audit_refusal(request, problem.code)
        raise problem from None
    if route.writes:
        service.metrics.admin_changes[route.writes, "ok"] += 1
    return result


def require_permission(operator: Operator, permission: Permission) -> None:
    """Raise ApiProblem unless the operator has a permission."""
    if not operator.may(permission):
        roles = " or ".join(roles_with(permission))
        raise ApiProblem("forbidden", f"this needs the role {roles}: yours is {operator.role}")


def read_query(route: Route, query: Mapping[str, str]) -> Any:
    """Validate the parameters of a query. Raises ApiProblem."""
    known = route.query.model_fields if route.query else {}
    if not query.keys() <= known.keys():
        text = f"this operation takes {', '.join(known)}" if known else "this operation takes none"
        raise ApiProblem("malformed", f"a query parameter is unknown: {text}")
    try:
        return route.query and route.query.model_validate(query)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        reason = "is missing" if first["type"] == "missing" else first["ctx"]["error"]
        raise ApiProblem("malformed", f"query parameter {first['loc'][0]} {reason}") from None


class Dispatcher:
    """Serves the routes of the API. It authenticates by bearer token, else by the cookie of a session."""

    def __init__(self, service: ApiServices, routes: tuple[Route, ...]) -> None:
        self._service = service
        self._routes = PathTable(routes)

    async def serve(self, request: web.Request) -> web.Response:
        """Respond to any request below `PREFIX`."""
        try:
            result = await self._handle(request)
            return _response(result, gzip_accepted(request.headers.get(hdrs.ACCEPT_ENCODING, "")))
        except ApiProblem as problem:
            return respond_problem(problem)
        except StoreError as error:
            return respond_problem(problem_of(error))
        except Exception as defect:  # noqa: BLE001  the client sees only the ID of the log entry
            logged = self._service.report(defect)
            return respond_problem(ApiProblem("internal_error", f"a defect of Sidekey, logged as {logged}"))

    async def _authenticate(self, request: web.Request) -> Operator:
        header = _header(request, hdrs.AUTHORIZATION)
        if header is None and (cookie := self._cookie(request)):
            # A page on another port of this host can send the cookie, but not these headers.
            if request.headers.get("Sec-Fetch-Site") != "same-origin":
                raise ApiProblem("forbidden", _NOT_SAME_ORIGIN)
            _require_console(request)
            return await self._service.session_operator(cookie)
        token = bearer(header)
        if token is not None:
            await self._service.discover_token(token)
        return self._service.authenticate(token)

    def _cookie(self, request: web.Request) -> str:
        return request.cookies.get(cookie_name(self._service.snapshot.admin), "")

    async def _operator_if_any(self, request: web.Request) -> Operator | None:
        """Return the operator of an anonymous route, or None without valid credentials. Raises ApiProblem."""
        if hdrs.AUTHORIZATION not in request.headers and not self._cookie(request):
            return None
        try:
            return await self._authenticate(request)
        except ApiProblem as problem:
            if problem.code not in ("unauthenticated", "store_unavailable"):
                raise
            return None

    async def _handle(self, request: web.Request) -> ApiResult:
        try:
            route, names = self._find_route(request)
        except ApiProblem:
            # Only operators learn which routes exist.
            await self._authenticate(request)
            raise
        if needs_console(route):
            _require_console(request)
        anonymous = route.permission == "anonymous"
        operator = await (self._operator_if_any(request) if anonymous else self._authenticate(request))
        if route.needs_store:
            self._service.require_store()
        source = source_of(self._service, request)
        received = ApiRequest(operator, route.action, route.writes, names, source=source, cookies=request.cookies)
        result = await perform(self._service, route, received, partial(self._complete, request, route))
        if route.method == hdrs.METH_GET and _is_not_modified(request, result):
            return ApiResult(304, headers={"ETag": result.headers["ETag"]})
        return result

    def _find_route(self, request: web.Request) -> tuple[Route, Mapping[str, str]]:
        """Return the route of a request, and its path parameters, which are not decoded: no valid one has escapes."""
        routes, names = self._routes.find(request.raw_path.partition("?")[0].removeprefix(PREFIX))
        if not routes:
            raise ApiProblem("not_found", "the API has no such path: see /api/v1/openapi.json")
        method = hdrs.METH_GET if request.method == hdrs.METH_HEAD else request.method
        if method in routes:
            return routes[method], names
        allowed = [*routes, *([hdrs.METH_HEAD] if hdrs.METH_GET in routes else [])]
        raise ApiProblem("method_denied", "see Allow", headers={hdrs.ALLOW: ", ".join(sorted(allowed))})

    async def _complete(self, request: web.Request, route: Route, received: ApiRequest) -> ApiRequest:
        """Add query, body and condition, and check the permission again after the body. Raises ApiProblem."""
        if len(request.query) > len(set(request.query)):
            raise ApiProblem("malformed", "a query parameter must not be repeated")
        query = read_query(route, dict(request.query))
        received = await self._add_body(request, route, received)
        if route.body is not None and route.permission != "anonymous":
            operator = await self._current_operator(request, received.operator)
            require_permission(operator, route.permission)
            received = replace(received, optional_operator=operator)
        key = _idempotency_key(request) if route.needs_idempotency_key else ""
        as_yaml = route.offers_yaml and _prefers_yaml(request)
        received = replace(received, query=query, idempotency_key=key, as_yaml=as_yaml)
        if not route.conditional:
            return received
        condition = _condition(request, route)
        return replace(received, condition=condition, action="create" if condition.absent else received.action)

    async def _current_operator(self, request: web.Request, operator: Operator) -> Operator:
        """Look the operator up again: the token may have been revoked while the body was read. Raises ApiProblem."""
        if operator.session_ends_at is not None:
            return await self._service.session_operator(self._cookie(request))
        current = self._service.operator_of_token(operator.digest)
        if not isinstance(current, Operator):
            raise unknown_token()
        return current

    async def _add_body(self, request: web.Request, route: Route, received: ApiRequest) -> ApiRequest:
        if route.body is None:
            if request.body_exists:
                raise ApiProblem("malformed", "this operation takes no body")
            return received
        if not request.body_exists:
            raise ApiProblem("malformed", "a body must be sent")
        _check_media_type(request, route)
        data = await _read_body(request, _MAX_ANONYMOUS_SIZE if route.permission == "anonymous" else MAX_SIZE)
        if request.content_type == YAML:
            document = await self._service.run(read_yaml, data)
            return replace(received, body=document.value, yaml_table=document.table)
        try:
            return replace(received, body=await self._service.run(partial(parse, exact=route.exact), data))
        except MalformedError as error:
            raise ApiProblem("malformed", f"the body {error}") from None


def source_of(service: ApiServices, request: web.Request) -> str:
    """Return the address of the client for the audit: behind a proxy, `CLIENT by PROXY`.

    Only the last entry of X-Forwarded-For comes from the proxy. Clients can forge the entries before it.
    """
    peer = request.remote or "unix"
    if not service.snapshot.admin.behind_tls:
        return peer
    last = ",".join(request.headers.getall("X-Forwarded-For", [])).rpartition(",")[2].strip(" \t")
    address = parse_address(last.partition("%")[0])
    return peer if address is None else f"{address} by {peer}"


def _response(result: ApiResult, accepts_gzip: bool = False) -> web.Response:
    headers = {**_HEADERS, **result.headers}
    body = result.body
    if body:
        headers[hdrs.CONTENT_TYPE] = result.content_type
    if result.compressed:
        headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
        if accepts_gzip:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
            body = result.compressed
    response = web.Response(status=result.status, body=body or None, headers=headers)
    for cookie in result.cookies:
        response.headers.add(hdrs.SET_COOKIE, cookie)
    return response


def respond_problem(problem: ApiProblem) -> web.Response:
    """Build the response of a problem (RFC 9457)."""
    result = ApiResult.of(problem.to_body(), status=problem.status)
    return _response(replace(result, headers=problem.headers, content_type=TYPE))


def _require_console(request: web.Request) -> None:
    if request.headers.get(CONSOLE) != "1":
        raise ApiProblem("forbidden", f"send the header {CONSOLE}: 1, which a page of another site cannot send")


def _header(request: web.Request, name: str) -> str | None:
    """Return the value of a header, or None if it is missing. Raises ApiProblem if it is repeated."""
    values = request.headers.getall(name, [])
    if len(values) > 1:
        raise ApiProblem("malformed", f"{name} must not be repeated")
    return values[0] if values else None


def _idempotency_key(request: web.Request) -> str:
    """Return the Idempotency-Key. Raises ApiProblem."""
    key = _header(request, "Idempotency-Key") or ""
    if not _KEY_PATTERN.fullmatch(key):
        raise ApiProblem("malformed", "send an Idempotency-Key of 16 to 64 letters, digits, - and _")
    return key


def _prefers_yaml(request: web.Request) -> bool:
    """Return True if Accept gives YAML more weight than JSON (RFC 9110 12.5.1)."""
    weights: dict[str, float] = {}
    for accepted in _list_header(request, hdrs.ACCEPT):
        media, _, parameters = accepted.partition(";")
        weight = _WEIGHT.search(parameters)
        weights[media.rstrip(" \t").lower()] = 1.0 if weight is None else float(weight[1])
    return weights.get(YAML, 0.0) > weights.get(JSON, 0.0)


def _condition(request: web.Request, route: Route) -> Condition:
    """Parse the precondition of a change (RFC 9110 13.1.1, 13.1.2). Raises ApiProblem."""
    match, none_match = _list_header(request, hdrs.IF_MATCH), _list_header(request, hdrs.IF_NONE_MATCH)
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


def _list_header(request: web.Request, name: str) -> list[str]:
    """Return the members of a list header. Sidekey's entity tags contain no comma."""
    members = ",".join(request.headers.getall(name, [])).split(",")
    return [stripped for member in members if (stripped := member.strip(" \t"))]


def _is_not_modified(request: web.Request, result: ApiResult) -> bool:
    """Return True if If-None-Match lists the ETag of the result (RFC 9110 13.1.2)."""
    tag = result.headers.get("ETag")
    tags = _list_header(request, hdrs.IF_NONE_MATCH)
    return tag is not None and (tags == ["*"] or tag in {sent.removeprefix("W/") for sent in tags})


def _check_media_type(request: web.Request, route: Route) -> None:
    """Raise ApiProblem unless the route accepts the type of the body."""
    types = " or ".join(route.accepts)
    headers = {"Accept-Patch" if route.method == hdrs.METH_PATCH else "Accept": ", ".join(route.accepts)}
    if (_header(request, hdrs.TRANSFER_ENCODING) or "chunked").lower() != "chunked":
        # aiohttp removes the chunks, and would leave any other coding in the body.
        raise ApiProblem("malformed", "Transfer-Encoding must be chunked alone")
    if _header(request, hdrs.CONTENT_ENCODING) not in (None, "identity"):
        raise ApiProblem("unsupported", "a body must have no Content-Encoding", headers=headers)
    charset = (request.charset or "utf-8").lower()
    if _header(request, hdrs.CONTENT_TYPE) is None or request.content_type not in route.accepts or charset != "utf-8":
        raise ApiProblem("unsupported", f"Content-Type must be {types}, in UTF-8", headers=headers)


async def defer_continue(_: web.Request) -> None:
    """Replace aiohttp's handler, which sends 100 Continue at once: `_read_body` sends it after authentication."""


def _awaits_continue(request: web.Request) -> bool:
    """Return True if the client waits for 100 Continue before it sends the body. Ignore other expectations."""
    expected = request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
    return expected and request.version >= HttpVersion11 and not is_complete(request)


async def _read_body(request: web.Request, max_size: int) -> bytes:
    """Read a body of at most `max_size` bytes. Raises ApiProblem if it is larger or incomplete."""
    if request.content_length is not None and request.content_length > max_size:
        raise _too_large(max_size)
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            if _awaits_continue(request):
                await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                # As aiohttp does: the response has not started yet.
                request.writer.output_size = 0
            async for chunk in request.content.iter_chunked(64 << 10):
                data += chunk
                if len(data) > max_size:
                    raise _too_large(max_size)
    except (TimeoutError, ConnectionError, web.RequestPayloadError):
        # If the client has left, nobody reads this response.
        raise ApiProblem("malformed", "the body is incomplete") from None
    return bytes(data)


def _too_large(max_size: int) -> ApiProblem:
    return ApiProblem("too_large", f"a body must be at most {max_size >> 10} KiB")
