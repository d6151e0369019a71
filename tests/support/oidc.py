"""npm oidc-provider as a real token endpoint, with an API that accepts its tokens: tests/peers/oidc/server.js."""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPSConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support import oauth, programs
from support.private_ca import Leaf
from support.raw_connection import DEADLINE

PROGRAM = Path(__file__).parents[1] / "peers" / "oidc"
SECRET = "s3cret/+ &=%:~"
"""Secret of the clients `basic` and `post`, with characters that form-encoding changes."""

SIGNING_SECRET = "a secret of 64 characters, which signs by any of the algorithms!"
"""Secret of the client `hmac`."""


def clients(callback: str) -> list[dict[str, Any]]:
    """Build a client for each method: `basic`, `post`, `hmac` and `jwt` (with the key of `oauth.signer`).

    People log in with `basic`, and are redirected to `callback`.
    """
    jwks = {"keys": [oauth.signer().public_jwk]}
    return [
        {
            "client_id": "basic",
            "client_secret": SECRET,
            "token_endpoint_auth_method": "client_secret_basic",
            "grant_types": ["client_credentials", "refresh_token", "authorization_code"],
            "response_types": ["code"],
            "redirect_uris": [callback],
            "scope": "orders offline_access openid profile",
        },
        {"client_id": "post", "client_secret": SECRET, "token_endpoint_auth_method": "client_secret_post"},
        {"client_id": "hmac", "client_secret": SIGNING_SECRET, "token_endpoint_auth_method": "client_secret_jwt"},
        {"client_id": "jwt", "jwks": jwks, "token_endpoint_auth_method": "private_key_jwt"},
    ]


class OidcProvider:
    """`with OidcProvider(tmp_path, leaf) as oidc`: listens on 127.0.0.1 with the certificate `leaf`.

    Tokens are valid for `lifetime` seconds, with the scope `orders`. Paths below `/api/` return 200 to a valid token.
    People log in for `callback` (tests/peers/oidc/people.js). Entering blocks until it listens.
    """

    def __init__(
        self,
        folder: Path,
        leaf: Leaf,
        *,
        lifetime: int = 3600,
        port: int = 0,
        callback: str = "https://localhost/unused",
    ) -> None:
        self._node = programs.require("node")
        programs.require_npm("oidc")
        self._log = folder / "oidc.log"
        self._clients = folder / "clients.json"
        self._clients.write_text(json.dumps(clients(callback)))
        self._options = {
            "port": str(port),
            "certificate": str(leaf.certificate),
            "key": str(leaf.key),
            "lifetime": str(lifetime),
            "clients": str(self._clients),
        }
        self._process: subprocess.Popen[str]
        self.port = port

    @property
    def issuer(self) -> str:
        """Base URL, which is also an audience of client JWTs."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def token_endpoint(self) -> str:
        """URL of the token endpoint."""
        return f"{self.issuer}/token"

    def person(self, person: dict[str, Any] | None) -> None:
        """Set the person who logs in. With None, the login page asks for a name."""
        self._control("PUT", "/person", person)

    def forge(self, **forgery: Any) -> None:
        """Forge parts of the next responses. Without arguments, forge nothing."""
        self._control("PUT", "/forgery", forgery)

    @contextmanager
    def holding(self) -> Iterator[Callable[[], int]]:
        """Delay responses of the token endpoint, and yield a counter of them."""
        self._control("POST", "/hold")
        try:
            yield lambda: int(self._control("POST", "/hold")["held"])
        finally:
            self._control("POST", "/release")

    def fetched(self) -> dict[str, int]:
        """Return the number of requests for discovery, keys and tokens."""
        counts: dict[str, int] = self._control("GET", "/fetched")
        return counts

    def _control(self, method: str, path: str, body: Any = None) -> Any:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with closing(HTTPSConnection("127.0.0.1", self.port, context=context, timeout=DEADLINE)) as connection:
            connection.request(method, path, json.dumps(body))
            response = connection.getresponse()
            assert response.status == 200, response.read()
            return json.loads(response.read())

    def __enter__(self) -> Self:
        options = [word for name, value in self._options.items() for word in (f"--{name}", value)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [self._node, "server.js", *options],
                cwd=PROGRAM,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._end()
            raise RuntimeError(f"oidc-provider ended: {self._log.read_text()}")
        self.port = json.loads(line)["port"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait(timeout=DEADLINE)
        assert self._process.stdout is not None
        self._process.stdout.close()
