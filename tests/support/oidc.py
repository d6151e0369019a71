"""npm oidc-provider as a real token endpoint, with an API that takes its tokens: tests/peers/oidc/server.js."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support import oauth, peers
from support.ca import Leaf
from support.raw import DEADLINE

PROGRAM = Path(__file__).parents[1] / "peers" / "oidc"
SECRET = "s3cret/+ &=%:~"
"""Of the clients `basic` and `post`; it holds what form-encoding must change."""

SIGNING_SECRET = "a secret of 64 characters, which signs by any of the algorithms!"
"""Of the client `hmac`."""


def clients() -> list[dict[str, Any]]:
    """One client for each way of authentication: `basic`, `post`, `hmac` and `jwt` (by the key of `oauth.signer`)."""
    jwks = {"keys": [oauth.signer().public_jwk]}
    return [
        {
            "client_id": "basic",
            "client_secret": SECRET,
            "token_endpoint_auth_method": "client_secret_basic",
            "grant_types": ["client_credentials", "refresh_token", "authorization_code"],
            "response_types": ["code"],
            "redirect_uris": ["https://localhost/unused"],
            "scope": "orders offline_access",
        },
        {"client_id": "post", "client_secret": SECRET, "token_endpoint_auth_method": "client_secret_post"},
        {"client_id": "hmac", "client_secret": SIGNING_SECRET, "token_endpoint_auth_method": "client_secret_jwt"},
        {"client_id": "jwt", "jwks": jwks, "token_endpoint_auth_method": "private_key_jwt"},
    ]


class OidcProvider:
    """`with OidcProvider(tmp_path, leaf) as oidc`: `leaf` is a certificate for 127.0.0.1, where it listens.

    Tokens live `lifetime` seconds, and their only scope is `orders`. Whatever lies below `/api/` answers 200 to a
    valid token. Entering blocks until it listens.
    """

    def __init__(self, folder: Path, leaf: Leaf, *, lifetime: int = 3600, port: int = 0) -> None:
        self._node = peers.require("node")
        if not (PROGRAM / "node_modules").is_dir():
            peers.missing("oidc-provider", "its packages are not installed (make peers, where npm is)")
        self._log = folder / "oidc.log"
        self._clients = folder / "clients.json"
        self._clients.write_text(json.dumps(clients()))
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
        """Its base URL, which a client's JWT may name as its audience."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def token_endpoint(self) -> str:
        """Where tokens are asked for."""
        return f"{self.issuer}/token"

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
