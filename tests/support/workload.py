"""Tokens of a workload, as a cluster writes them to the file of a pod."""

from __future__ import annotations

import time
from typing import Any, Literal
from uuid import uuid4

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

SUBJECT = "system:serviceaccount:payments:sidekey"


class Cluster:
    """An issuer of tokens. Kubernetes signs with RS256, SPIRE by default with ES256."""

    def __init__(self, algorithm: Literal["RS256", "ES256"] = "ES256") -> None:
        self.algorithm = algorithm
        self._key = RSAKey.generate_key(2048) if algorithm == "RS256" else ECKey.generate_key("P-256")

    @property
    def public(self) -> RSAKey | ECKey:
        """The key that verifies the tokens."""
        return type(self._key).import_key(self._key.as_dict(private=False))

    def token(self, audience: str, *, subject: str = SUBJECT, lifetime: float = 3600) -> str:
        """Sign a token that expires in `lifetime` seconds; a negative lifetime is over."""
        now = int(time.time())
        claims: dict[str, Any] = {"iss": subject, "sub": subject, "aud": audience, "jti": uuid4().hex}
        times = {"iat": now - 7200, "nbf": now - 7200, "exp": now + int(lifetime)}
        return jwt.encode({"alg": self.algorithm, "typ": "JWT"}, {**claims, **times}, self._key)
