"""The console: pages for logged-in operators, and the API for the scripts of these pages."""

from __future__ import annotations

import gzip
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote

from aiohttp import hdrs, web

from sidekey.admin.api.dispatch import Dispatcher, read_body, require, source_of
from sidekey.admin.api.operators import Operator, unauthenticated
from sidekey.admin.api.problems import CODES, ApiProblem
from sidekey.admin.api.route import PREFIX, PathTable, Route
from sidekey.admin.api.service import Service, unavailable
from sidekey.admin.console.backend import Backend
from sidekey.admin.console.origin import CrossSiteToken, is_same_origin
from sidekey.admin.console.page import Page, Redirect, View, Visit
from sidekey.admin.console.render import renderer
from sidekey.admin.console.sessions import Sessions, Visitor
from sidekey.admin.console.static_files import files
from sidekey.admin.sessions import LIFE
from sidekey.runtime.snapshot import Address
from sidekey.settings.stored.document import LARGEST
from sidekey.store.errors import StoreError

FORM: Final = "application/x-www-form-urlencoded"

_API: Final = f"/session{PREFIX}"
"""The API for the script of our pages: the session identifies the operator, and each request needs a form token."""

_FORM_TOKEN: Final = "Sidekey-Form-Token"  # noqa: S105  a header's name

_LOGIN_FORM: Final = 8 << 10
"""Bytes of the form that anybody may send: reading one costs no thread anything."""

_OUTDATED: Final = "the page was from before you logged in: load it again"

_FIELDS: Final = 2000
"""Of a form, at most."""

_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_ALWAYS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    # With `no-referrer` browsers send `Origin: null` with our own forms (Fetch Standard).
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_FOR_GOOD: Final = {**_ALWAYS, "Cache-Control": "public, max-age=31536000, immutable"}
_NEXT: Final = re.compile(r"/(?![/\\])[A-Za-z0-9_~./?=&%+-]*")
"""Where to go after the log-in: a path of ours."""

_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}")
"""What a cookie holds: 32 random bytes."""


class Console:
    """Serves pages; `routes` are what they ask the API for.

    `proxy` tells where the proxy listener is bound.
    """

    def __init__(
        self, service: Service, routes: tuple[Route, ...], pages: tuple[Page, ...], proxy: Callable[[], Address]
    ) -> None:
        self._proxy = proxy
        self._service = service
        self._routes = {route.name: route for route in routes}
        self._pages = PathTable(pages)
        self._sessions = Sessions(service)
        self._dispatcher = Dispatcher(service, routes)
        self._files = files()

    async def serve(self, request: web.Request) -> web.Response:
        """The response to any request that nothing else on the listener is for."""
        if request.raw_path.startswith(f"{_API}/"):
            return await self._dispatcher.serve(request, _API, self._by_session)
        try:
            return await self._serve(request)
        except ApiProblem as problem:
            return await self._problem(problem)
        except Exception as defect:  # noqa: BLE001  the edge: a defect is logged, and its sender told nothing of it
            logged = self._service.report(defect)
            return await self._problem(ApiProblem("internal_error", f"a defect of Sidekey, logged as {logged}"))

    async def _serve(self, request: web.Request) -> web.Response:
        method = hdrs.METH_GET if request.method == hdrs.METH_HEAD else request.method
        path = request.raw_path.partition("?")[0]
        if method == hdrs.METH_GET and path.startswith("/static/"):
            return self._static(request, path.removeprefix("/static/"))
        if method not in (hdrs.METH_GET, hdrs.METH_POST):
            raise ApiProblem("method_denied", "pages take GET and POST", headers={hdrs.ALLOW: "GET, HEAD, POST"})
        # Sessions, and most operators' tokens, are in the store.
        self._service.require_store()
        if path == "/login":
            return await (self._login_form(request) if method == hdrs.METH_GET else self._log_in(request))
        visitor = await self._visitor(request)
        if visitor is None:
            wanted = request.raw_path if method == hdrs.METH_GET else "/"
            return self._redirect(f"/login?next={quote(wanted, safe='/')}" if wanted != "/" else "/login")
        return await self._visit(request, method, path, visitor)

    async def _visitor(self, request: web.Request) -> Visitor | None:
        secret = _secret_in(request, self._cookie)
        return await self._sessions.visitor(secret) if secret else None

    async def _by_session(self, request: web.Request) -> Operator:
        """Find the operator whose page sends a request. Raises ApiProblem."""
        self._service.require_store()
        visitor = await self._visitor(request)
        if visitor is None:
            raise unauthenticated("the session has ended: log in again")
        self._require_own_page(request)
        _check_token(visitor.secret, request.headers.get(_FORM_TOKEN, ""))
        return visitor.operator

    async def _visit(self, request: web.Request, method: str, path: str, visitor: Visitor) -> web.Response:
        found, names = self._pages.find(path)
        page = found.get(method)
        form: Mapping[str, str] = {}
        if method == hdrs.METH_POST:
            form = await self._form(request, visitor.secret)
        if path == "/logout" and method == hdrs.METH_POST:
            return await self._log_out(visitor)
        if page is None:
            if not found:
                raise ApiProblem("not_found", "there is no such page")
            allowed = ", ".join(sorted(found))
            raise ApiProblem("method_denied", f"this page takes {allowed} alone", headers={hdrs.ALLOW: allowed})
        require(visitor.operator, page.role)
        backend = Backend(self._service, self._routes, visitor.operator, source_of(self._service, request))
        query = dict(parse_qsl(request.raw_path.partition("?")[2], keep_blank_values=True))
        done = await page.handle(Visit(self._service, visitor, backend, self._proxy(), names, query, form))
        if isinstance(done, Redirect):
            return self._redirect(done.path)
        return await self._page(request, done, visitor)

    # Logging in and out.

    async def _login_form(self, request: web.Request, *, error: str = "") -> web.Response:
        secret = _secret_in(request, self._login_cookie) or secrets.token_urlsafe(32)
        wanted = _next(request)
        values = {"error": error, "next": wanted, "form_token": CrossSiteToken(secret).masked()}
        response = await self._page(request, View("login.html", values), None)
        self._set(response, self._login_cookie, secret, None, "Strict")
        return response

    async def _log_in(self, request: web.Request) -> web.Response:
        own = _secret_in(request, self._login_cookie)
        form = await self._form(request, own, _LOGIN_FORM)
        former = _secret_in(request, self._cookie)
        try:
            secret = await self._sessions.log_in(form.get("token", "").strip(), source_of(self._service, request))
            if secret is not None and former:
                # The browser forgets it now: nobody could log out of it any more.
                await self._sessions.log_out(former)
        except StoreError as error:
            raise unavailable(error) from None
        if secret is None:
            return await self._login_form(request, error="This token is not known, or has expired.")
        response = self._redirect(_next(request))
        self._set(response, self._cookie, secret, LIFE, "Lax")
        response.del_cookie(self._login_cookie, secure=self._secure, httponly=True)
        return response

    async def _log_out(self, visitor: Visitor) -> web.Response:
        try:
            await self._sessions.log_out(visitor.secret)
        except StoreError as error:
            raise unavailable(error) from None
        response = self._redirect("/login")
        response.del_cookie(self._cookie, secure=self._secure, httponly=True)
        return response

    @property
    def _secure(self) -> bool:
        """Whether browsers reach the listener by TLS."""
        return self._service.snapshot.admin.over_tls

    @property
    def _cookie(self) -> str:
        return "__Host-sidekey" if self._secure else "sidekey"

    @property
    def _login_cookie(self) -> str:
        return "__Host-sidekey-login" if self._secure else "sidekey-login"

    def _set(self, response: web.Response, name: str, value: str, life: int | None, same_site: str) -> None:
        response.set_cookie(name, value, max_age=life, path="/", secure=self._secure, httponly=True, samesite=same_site)

    # Requests and responses.

    def _require_own_page(self, request: web.Request) -> None:
        """Raise ApiProblem if a request was not sent by a page of this console."""
        rules = self._service.snapshot.admin
        same = is_same_origin(
            request.headers, tls=rules.certificate is not None, behind_tls=rules.behind_tls, names=rules.names
        )
        if not same:
            raise ApiProblem(
                "forbidden", "this was not sent by a page of this console", headers={"Connection": "close"}
            )

    async def _form(self, request: web.Request, secret: str, most: int = LARGEST) -> dict[str, str]:
        """What a form of ours has sent. Raises ApiProblem where it is another's."""
        self._require_own_page(request)
        if request.content_type != FORM:
            raise ApiProblem("unsupported", f"Content-Type must be {FORM}")
        data = await read_body(request, most)
        try:
            values = await self._service.run(_fields, data)
        except ValueError:
            raise ApiProblem("malformed", f"the form must be UTF-8, with at most {_FIELDS} fields") from None
        _check_token(secret, values.pop("form_token", ""))
        return values

    async def _page(self, request: web.Request, view: View, visitor: Visitor | None) -> web.Response:
        values: dict[str, Any] = {"operator": None, "form_token": "", "store_down": "", "path": request.path}
        if visitor is not None:
            health = self._service.store.health
            values |= {
                "operator": visitor.operator,
                "form_token": CrossSiteToken(visitor.secret).masked(),
                "store_down": "" if visitor.reachable and health.up else health.problem or "it cannot be reached",
            }
        return await self._rendered(view.template, {**values, **view.values}, view.status, _takes_gzip(request))

    async def _problem(self, problem: ApiProblem) -> web.Response:
        values = {
            "operator": None,
            "form_token": "",
            "store_down": "",
            "path": "",
            "title": CODES[problem.code].title,
            "detail": problem.detail,
        }
        response = await self._rendered("problem.html", values, problem.status, gzipped=False)
        response.headers.update(problem.headers)
        return response

    async def _rendered(self, template: str, values: Mapping[str, Any], status: int, gzipped: bool) -> web.Response:
        body = await self._service.run(_render, template, values, gzipped)
        response = web.Response(status=status, body=body, headers=_ALWAYS, content_type="text/html", charset="utf-8")
        response.headers[hdrs.VARY] = "Accept-Encoding, Cookie"
        if gzipped:
            response.headers[hdrs.CONTENT_ENCODING] = "gzip"
        return response

    def _redirect(self, path: str) -> web.Response:
        return web.Response(status=303, headers={**_ALWAYS, hdrs.LOCATION: path})

    def _static(self, request: web.Request, name: str) -> web.Response:
        found = self._files.get(name)
        if found is None:
            raise ApiProblem("not_found", "there is no such file")
        gzipped = _takes_gzip(request)
        headers = {**_FOR_GOOD, hdrs.CONTENT_TYPE: found.content_type, hdrs.VARY: "Accept-Encoding"}
        if gzipped:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        return web.Response(body=found.compressed if gzipped else found.body, headers=headers)


def _render(template: str, values: Mapping[str, Any], gzipped: bool) -> bytes:
    body = renderer().page(template, values)
    return gzip.compress(body, 6, mtime=0) if gzipped else body


def _check_token(secret: str, token: str) -> None:
    """Raise ApiProblem if a form token is not of a page that the browser with this secret has."""
    if not secret or not CrossSiteToken(secret).accepts(token):
        raise ApiProblem("forbidden", _OUTDATED)


def _fields(data: bytes) -> dict[str, str]:
    """The first value of each field of a form. Raises ValueError. Up to 30 ms, so it is done in the thread."""
    return dict(reversed(parse_qsl(data.decode(), keep_blank_values=True, errors="strict", max_num_fields=_FIELDS)))


def _secret_in(request: web.Request, name: str) -> str:
    """The secret that a cookie of ours holds; empty where there is none, or something else, which nobody looks up."""
    value = request.cookies.get(name, "")
    return value if _SECRET.fullmatch(value) else ""


def _takes_gzip(request: web.Request) -> bool:
    codings = [part.strip().lower() for part in request.headers.get(hdrs.ACCEPT_ENCODING, "").split(",")]
    return "gzip" in codings


def _next(request: web.Request) -> str:
    wanted = request.query.get("next", "/")
    return wanted if _NEXT.fullmatch(wanted) else "/"
