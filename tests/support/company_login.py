"""People with a company account: a Sidekey with `admin.oidc`, npm oidc-provider as issuer, and a scripted browser."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urljoin, urlsplit

import requests

from support.api import OF_A_FILE, Api, ApiResponse, config
from support.console_browser import PAGE
from support.oidc import SECRET, OidcProvider
from support.ports import free_port
from support.private_ca import Authority
from support.sidekey_process import HEAD, SidekeyProcess

ROLES: Final = {"admins": "admin", "editors": "editor", "readers": "viewer", "marketing": "sender", "events": "sender"}
PRESETS: Final = {"marketing": ["hook-of-a-file"], "events": ["other-of-a-file"], "admins": ["hook-of-a-file"]}


@dataclass
class CompanyLogin:
    """An issuer, and a Sidekey that trusts it."""

    child: SidekeyProcess
    issuer: OidcProvider
    ca: Authority
    folder: Path
    more: str
    has_store: bool = True

    def rewrite(self, roles: Mapping[str, str] = ROLES, admin: str = "") -> None:
        """Change the maps of the config, or add keys to `admin`."""
        self.child.rewrite(text(self, roles, admin))

    def browser(self, address: str = "") -> OidcBrowser:
        """Return a new browser. Behind a proxy, it has this address."""
        return OidcBrowser(self, address)


def text(company: CompanyLogin, roles: Mapping[str, str] = ROLES, admin: str = "") -> str:
    """Build the config of the Sidekey."""
    port = company.child.admin_port
    oidc = {
        "issuer": company.issuer.issuer,
        "client_id": "basic",
        "client_secret": {"file": "client-secret"},
        "redirect_url": f"http://127.0.0.1:{port}/ui/callback",
        "trusted_ca": {"file": str(company.ca.bundle)},
        "allow_private": ["127.0.0.0/8"],
        "roles": {"claim": "groups", "map": roles},
        "presets": {"claim": "groups", "map": PRESETS},
        "session": "1h",
    }
    body = config(company.folder, more=company.more)
    if not company.has_store:
        body = body.partition("\n")[2]
    head = HEAD.format(proxy=company.child.proxy_port, admin=port)
    return head + body.replace("admin: {", f"admin: {{oidc: {json.dumps(oidc)}, {admin}", 1)


@contextmanager
def company(
    folder: Path, ca: Authority, *, more: str = OF_A_FILE, admin: str = "", has_store: bool = True, down: bool = False
) -> Iterator[CompanyLogin]:
    """Run the issuer (`down`: without responses) and the Sidekey. `admin` has further keys of that section."""
    (folder / "client-secret").write_text(SECRET)
    child = SidekeyProcess("", folder)
    callback = f"http://127.0.0.1:{child.admin_port}/ui/callback"
    issuer = OidcProvider(folder, ca.leaf("127.0.0.1"), port=free_port(), callback=callback)
    running = CompanyLogin(child, issuer, ca, folder, more, has_store)
    running.rewrite(admin=admin)
    with issuer:
        issuer.forge(down=down)
        with child:
            yield running


@dataclass
class OidcBrowser:
    """Logs in as pages of the console do, and keeps the cookies of Sidekey and of the issuer."""

    company: CompanyLogin
    address: str = ""
    cookies: dict[str, str] = field(default_factory=dict)
    issuer: requests.Session = field(default_factory=requests.Session)

    def request(
        self, method: str, path: str, body: Any = None, *, match: str | None = None, key: str | None = None
    ) -> ApiResponse:
        """Call the API as a page of the console does. `key` is the Idempotency-Key."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        proxy = {"X-Forwarded-For": self.address} if self.address else {}
        fields = {"Authorization": "", "Cookie": cookie, **PAGE, **proxy, "Idempotency-Key": key or ""}
        response = Api(self.company.child.admin_port).request(method, path, body, match=match, headers=fields)
        for cookie in response.headers.get_all("Set-Cookie", []):
            for name, morsel in SimpleCookie(cookie).items():
                if morsel["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value
        return response

    def start(self, *, again: bool = False) -> str:
        """Start a login, and return the URL of the issuer."""
        response = self.request("POST", "/session/oidc/start", {"again": again})
        assert response.status == 200, response
        return str(response.json["url"])

    def visit(self, url: str) -> dict[str, str]:
        """Log in at the issuer, and return the parameters of the redirect to the callback page."""
        self.issuer.trust_env = False
        callback = f"http://127.0.0.1:{self.company.child.admin_port}/ui/callback"
        for _ in range(10):
            response = self.issuer.get(url, allow_redirects=False, verify=str(self.company.ca.bundle), timeout=30)
            assert response.is_redirect, response.text
            url = urljoin(url, response.headers["Location"])
            if url.startswith(callback):
                return dict(parse_qsl(urlsplit(url).query))
        raise AssertionError(f"too many redirects: {url}")

    def finish(self, redirect: Mapping[str, Any]) -> ApiResponse:
        """Finish the login."""
        return self.request("POST", "/session/oidc", dict(redirect))

    def log_in(self, *, again: bool = False) -> ApiResponse:
        """Log in as the current person of the issuer."""
        return self.finish(self.visit(self.start(again=again)))
