"""JWTs of callers: which ones count, and how the keys of their issuers are fetched from a real nginx."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
import warnings
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwt
from joserfc._rfc7518.jws_algs import ESAlgorithm
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry
from structlog.testing import capture_logs

from sidekey.callers.jwt_issuers import JwtIssuers
from sidekey.network.dial import Dialer
from sidekey.network.fetch import Fetcher
from sidekey.observe.metrics import Metrics
from sidekey.policy.callers import Unidentified, jwt_key
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.jwt_issuer import JwtIssuer, usable_keys
from sidekey.snapshot.snapshot import Snapshot
from support.dialling import LOOPBACK, RULES
from support.keys import private_key
from support.nginx import Nginx
from support.plane import eventually
from support.private_ca import Authority

DAY = 86_400
"""Seconds. Parametrized tokens are signed long before their test runs."""
ISSUER = "https://issuer.example"
RSA = RSAKey.import_key(private_key("RS256"), {"kid": "rsa"})
EC = ECKey.import_key(private_key("ES256"), {"kid": "ec"})


def new_key(name: str = "other") -> ECKey:
    return ECKey.import_key(ec.generate_private_key(ec.SECP256R1()), {"kid": name})


OTHER = new_key()
P384 = ECKey.import_key(private_key("ES384"), {"kid": "p384"})
with warnings.catch_warnings(action="ignore"):
    SHORT = RSAKey.import_key(private_key("small"), {"kid": "short"})
JWKS = {"keys": [key.as_dict(private=False) for key in (RSA, EC, P384, SHORT)]}
BILLING = jwt_key("cluster", "billing")


class Clock:
    """Both clocks of a `JwtIssuers`."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def wall(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


def claims(**changes: Any) -> dict[str, Any]:
    """Build the claims of a valid JWT. A value of None removes a claim."""
    now = int(time.time())
    usual = {"iss": ISSUER, "aud": "sidekey", "sub": "billing", "iat": now, "exp": now + DAY}
    return {name: value for name, value in (usual | changes).items() if value is not None}


def sign(key: Any = RSA, algorithm: str = "RS256", header: dict[str, Any] | None = None, **changes: Any) -> str:
    fields = {"alg": algorithm, "kid": key.kid} | (header or {})
    registry = JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    return jwt.encode({k: v for k, v in fields.items() if v is not None}, claims(**changes), key, registry=registry)


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned() -> str:
    """Build a JWT without a signature (RFC 7519 6)."""
    parts = [_base64url(json.dumps(part).encode()) for part in ({"alg": "none", "kid": "rsa"}, claims())]
    return ".".join((*parts, ""))


def sign_with_the_public_key() -> str:
    """Sign with the issuer's public key as a shared secret (RFC 8725 2.1)."""
    parts = ".".join(_base64url(json.dumps(part).encode()) for part in ({"alg": "HS256", "kid": "rsa"}, claims()))
    return f"{parts}.{_base64url(hmac.digest(RSA.as_pem(private=False), parts.encode(), 'sha256'))}"


def issuers_of(*rules: JwtIssuer, clock: Clock | None = None) -> JwtIssuers:
    used = clock or Clock()
    fetcher = Fetcher(Dialer(RULES), 16)
    return JwtIssuers(fetcher, Metrics(), lambda error: pytest.fail(str(error)), used.wall, used.monotonic)


def verify(issuers: JwtIssuers, token: str) -> bytes | str:
    """Return the caller's key, or why the JWT is refused."""
    digest = hashlib.sha256(token.encode()).digest()
    result = issuers.find(digest) or issuers.verify(token.encode("latin-1"), digest)
    if isinstance(result, Unidentified):
        return f"{result.retry_after}: {result.detail}" if result.retry_after else result.detail
    return result


def with_file(keys: Any = JWKS, **changes: Any) -> Snapshot:
    values: dict[str, Any] = {
        "name": "cluster",
        "issuer": ISSUER,
        "audience": "sidekey",
        "keys": usable_keys(keys["keys"]),
    }
    return Snapshot({}, jwt_issuers={"cluster": JwtIssuer(**(values | changes))})


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (sign(), BILLING),
        (sign(EC, "ES256"), BILLING),
        (sign(aud=["other", "sidekey"]), BILLING),
        (sign(iat=None), BILLING),
        (sign(header={"typ": "at+jwt", "jku": "https://evil.example"}), BILLING),
        (sign(sub="system:serviceaccount:prod:billing"), jwt_key("cluster", "system:serviceaccount:prod:billing")),
        (sign(exp=None), "the JWT has no valid time in `exp`"),
        (sign(exp=True), "the JWT has no valid time in `exp`"),
        (sign(exp="2050"), "the JWT has no valid time in `exp`"),
        (
            sign(exp=int(time.time()) - 1),
            "the JWT has expired: get a new one, or compare the clocks of Sidekey and the issuer",
        ),
        (sign(nbf=time.time() + DAY), "the JWT is from the future: compare the clocks of Sidekey and the issuer"),
        (sign(aud=None), "the JWT is for another audience: request one with the audience in `jwt_issuers`"),
        (sign(aud="Sidekey"), "the JWT is for another audience: request one with the audience in `jwt_issuers`"),
        (sign(aud=["sidekey", ISSUER]), "the JWT is also for its issuer: request one for Sidekey alone"),
        (sign(sub=None), "the JWT has no subject"),
        (sign(sub=["billing"]), "the JWT has no subject"),
        (sign(iss="https://issuer.example/"), "the JWT is from an issuer that is not in `jwt_issuers`"),
        (sign(iss=None), "the JWT is from an issuer that is not in `jwt_issuers`"),
        (sign(iss=["https://issuer.example"]), "the JWT is from an issuer that is not in `jwt_issuers`"),
        (unsigned(), "the JWT has no valid RS256 or ES256 signature"),
        (sign(OTHER, "ES256"), "the JWT is signed with a key that its issuer does not have"),
        (sign(OTHER, "ES256", {"kid": "ec"}), "the JWT has no valid RS256 or ES256 signature"),
        (
            sign(OTHER, "ES256", {"kid": "ec", "jwk": OTHER.as_dict(private=False)}),
            "the JWT has no valid RS256 or ES256 signature",
        ),
        (sign(RSA, "RS384"), "the JWT has no valid RS256 or ES256 signature"),
        (sign(RSA, "PS256"), "the JWT has no valid RS256 or ES256 signature"),
        (sign(P384, "ES384"), "the JWT is signed with a key that its issuer does not have"),
        (sign(SHORT), "the JWT is signed with a key that its issuer does not have"),
        (sign(header={"kid": None}), BILLING),
        (sign(EC, "ES256", {"kid": None}), BILLING),
        (sign(OTHER, "ES256", {"kid": None}), "the JWT has no valid RS256 or ES256 signature"),
        (sign(P384, "ES384", {"kid": None}), "the JWT is signed with a key that its issuer does not have"),
        (sign(sub="x" * 7000), "the JWT has more than 8 KiB"),
        ("ey.ey.ey", "the JWT is malformed"),
        ("eyé..", "the JWT is malformed"),
        (f"{sign()[:-4]}AAAA", "the JWT has no valid RS256 or ES256 signature"),
        (f"{sign()[:-4]}AAAé", "the JWT has no valid RS256 or ES256 signature"),
        (sign_with_the_public_key(), "the JWT has no valid RS256 or ES256 signature"),
    ],
)
def test_jwt_must_be_signed_by_the_issuer_for_sidekey(token: str, expected: bytes | str) -> None:
    issuers = issuers_of()
    issuers.prepare(with_file())()
    assert verify(issuers, token) == expected
    assert (issuers.find(hashlib.sha256(token.encode()).digest()) is not None) is isinstance(expected, bytes)


@pytest.mark.parametrize(("number", "expected"), [(1, BILLING), (8, BILLING), (9, None)])
def test_jwt_without_kid_is_verified_with_at_most_eight_keys(
    number: int, expected: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only keys for its algorithm count. `number` is the place of the key that has signed."""
    others = [new_key().as_dict(private=False) for _ in range(9)]
    others[number - 1] = EC.as_dict(private=False)
    verifications = 0
    verify_one = ESAlgorithm.verify

    def count(*args: Any) -> bool:
        nonlocal verifications
        verifications += 1
        return verify_one(*args)

    monkeypatch.setattr(ESAlgorithm, "verify", count)
    issuers = issuers_of()
    issuers.prepare(with_file({"keys": [RSA.as_dict(private=False), *others]}))()
    assert verify(issuers, sign(EC, "ES256", {"kid": None})) == (
        expected
        or "the JWT has no `kid`, and none of the 8 keys of its issuer that Sidekey has tried verifies it: "
        "let the issuer set `kid`"
    )
    assert verifications == min(number, 8)


def test_verified_jwt_counts_until_it_expires() -> None:
    clock = Clock()
    issuers = issuers_of(clock=clock)
    issuers.prepare(with_file())()
    token = sign(exp=int(time.time()) + 600)
    assert verify(issuers, token) == BILLING
    clock.ahead = 590
    assert verify(issuers, token) == BILLING
    clock.ahead = 601
    assert (
        verify(issuers, token) == "the JWT has expired: get a new one, or compare the clocks of Sidekey and the issuer"
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            with_file(audience="other"),
            "the JWT is for another audience: request one with the audience in `jwt_issuers`",
        ),
        (
            with_file({"keys": [OTHER.as_dict(private=False)]}),
            "the JWT is signed with a key that its issuer does not have",
        ),
        (with_file(issuer="https://other.example"), "the JWT is from an issuer that is not in `jwt_issuers`"),
        (Snapshot({}), "the JWT is from an issuer that is not in `jwt_issuers`"),
        (with_file(token="renewed"), BILLING),
    ],
)
def test_reload_applies_to_jwts_that_were_verified_before(change: Snapshot, expected: bytes | str) -> None:
    issuers = issuers_of()
    issuers.prepare(with_file())()
    token = sign()
    assert verify(issuers, token) == BILLING
    issuers.prepare(change)()
    assert verify(issuers, token) == expected


class Fetched:
    """Issuers whose keys come from nginx. `folder` has the files that nginx serves."""

    def __init__(self, nginx: Nginx, folder: Path, issuers: JwtIssuers, clock: Clock, rules: JwtIssuer) -> None:
        self.nginx, self.folder, self.issuers, self.clock, self.rules = nginx, folder, issuers, clock, rules
        self.fetches = 0

    def serve(self, name: str, document: Any) -> None:
        (self.folder / name).write_text(json.dumps(document))

    async def start(self, **changes: Any) -> None:
        values = {name: getattr(self.rules, name) for name in self.rules.__slots__}
        rules = JwtIssuer(**(values | changes))
        self.issuers.prepare(Snapshot({}, jwt_issuers={rules.name: rules}))()
        await self.issuers.wait_until_ready()

    def outcomes(self) -> dict[str, int]:
        return {outcome: count for (_, outcome), count in self.issuers._metrics.jwks_fetches.items()}


@asynccontextmanager
async def fetched(folder: Path, ca: Authority) -> AsyncIterator[Fetched]:
    served = folder / "served"
    served.mkdir()
    snippet = f"location / {{ root {served}; }} location /moved {{ return 302 https://127.0.0.1:$server_port/jwks; }}"
    clock = Clock()
    issuers = issuers_of(clock=clock)
    with Nginx(folder, snippet, leaf=ca.leaf("127.0.0.1")) as nginx:
        url = f"https://127.0.0.1:{nginx.tls_port}"
        rules = JwtIssuer("cluster", ISSUER, "sidekey", None, f"{url}/jwks", Egress(ca.trust, LOOPBACK), "s3cret")
        found = Fetched(nginx, served, issuers, clock, rules)
        found.serve("jwks", JWKS)
        try:
            yield found
        finally:
            await issuers.close()


async def test_keys_are_fetched_with_the_token(tmp_path: Path, ca: Authority) -> None:
    async with fetched(tmp_path, ca) as found:
        await found.start()
        assert verify(found.issuers, sign()) == BILLING
        requests = await asyncio.to_thread(found.nginx.requests, 1)
        assert [(request["target"], request["authorization"]) for request in requests] == [("/jwks", "Bearer s3cret")]
        assert found.outcomes() == {"ok": 1}


async def test_unknown_key_is_fetched_once_a_minute(tmp_path: Path, ca: Authority) -> None:
    """A new key counts after one retry. Nobody can cause more fetches."""
    async with fetched(tmp_path, ca) as found:
        await found.start()
        found.serve("jwks", {"keys": [*JWKS["keys"], OTHER.as_dict(private=False)]})
        token = sign(OTHER, "ES256")
        assert verify(found.issuers, token) == "60: the JWT's key is not here yet"
        found.clock.ahead = 61
        assert [verify(found.issuers, token) for _ in range(3)] == ["1: the JWT's key is not here yet"] * 3
        await eventually(lambda: verify(found.issuers, token) == BILLING)
        for number in range(5):
            assert (
                verify(found.issuers, sign(OTHER, "ES256", {"kid": f"k{number}"}))
                == "60: the JWT's key is not here yet"
            )
        assert found.outcomes() == {"ok": 2}
        # A JWT from long before the keys were fetched has no new key: retries are useless.
        old = sign(OTHER, "ES256", {"kid": "gone"}, iat=time.time() - 600)
        assert verify(found.issuers, old) == "the JWT is signed with a key that its issuer does not have"


async def test_new_key_of_an_issuer_without_kid_is_fetched_once_a_minute(tmp_path: Path, ca: Authority) -> None:
    """The response stays 401: a retry is useless if the signature is forged."""
    async with fetched(tmp_path, ca) as found:
        await found.start()
        found.serve("jwks", {"keys": [*JWKS["keys"], OTHER.as_dict(private=False)]})
        token = sign(OTHER, "ES256", {"kid": None})
        assert verify(found.issuers, token) == "the JWT has no valid RS256 or ES256 signature"
        found.clock.ahead = 61
        assert verify(found.issuers, token) == "the JWT has no valid RS256 or ES256 signature"
        await eventually(lambda: verify(found.issuers, token) == BILLING)
        for _ in range(3):
            assert isinstance(verify(found.issuers, sign(new_key(), "ES256", {"kid": None})), str)
        assert found.outcomes() == {"ok": 2}


async def test_withdrawn_key_counts_no_more(tmp_path: Path, ca: Authority) -> None:
    """Not even for a JWT that was verified before."""
    async with fetched(tmp_path, ca) as found:
        await found.start()
        token = sign(EC, "ES256")
        assert verify(found.issuers, token) == BILLING
        found.serve("jwks", {"keys": [RSA.as_dict(private=False)]})
        found.clock.ahead = 61
        verify(found.issuers, sign(OTHER, "ES256"))
        await eventually(lambda: found.outcomes() == {"ok": 2})
        assert isinstance(verify(found.issuers, token), str)
        assert verify(found.issuers, sign()) == BILLING


async def test_failed_fetch_keeps_the_keys_for_a_day(tmp_path: Path, ca: Authority) -> None:
    async with fetched(tmp_path, ca) as found:
        await found.start()
        (found.folder / "jwks").unlink()
        found.clock.ahead = 61
        verify(found.issuers, sign(OTHER, "ES256"))
        await eventually(lambda: found.outcomes() == {"ok": 1, "invalid": 1})
        assert verify(found.issuers, sign()) == BILLING
        old = sign(OTHER, "ES256", iat=time.time() - 600)
        assert verify(found.issuers, old) == "60: the JWT's key is not here yet"
        found.clock.ahead = 86_401
        exp = time.time() + 2 * DAY
        assert verify(found.issuers, sign(exp=exp)) == "5: the keys of the JWT's issuer cannot be fetched now"


@pytest.mark.parametrize(
    ("path", "jwks"),
    [
        ("missing", JWKS),
        ("moved", JWKS),
        ("jwks", {"keys": []}),
        ("jwks", {"keys": [P384.as_dict(private=False)]}),
        ("jwks", {"keys": [EC.as_dict(private=False) | {"use": "enc"}, RSA.as_dict(private=False) | {"alg": "PS256"}]}),
        ("jwks", {"keys": [{"kty": ["RSA"], "crv": {}}, "x"]}),
        ("jwks", ["keys"]),
        ("jwks", {}),
    ],
)
async def test_useless_response_leaves_no_keys(path: str, jwks: Any, tmp_path: Path, ca: Authority) -> None:
    """A redirect is not followed."""
    async with fetched(tmp_path, ca) as found:
        found.serve("jwks", jwks)
        url = found.rules.jwks_url.replace("/jwks", f"/{path}")
        with capture_logs() as lines:
            await found.start(jwks_url=f"{url}?key=s3cret")
        assert [(line["issuer"], line["url"]) for line in lines] == [("cluster", url)]
        assert "s3cret" not in str(lines)
        assert found.outcomes() == {"invalid": 1}
        assert verify(found.issuers, sign()) == "5: the keys of the JWT's issuer cannot be fetched now"


@pytest.mark.parametrize(
    ("change", "works"),
    [
        (lambda url: {}, True),
        (lambda url: {"jwks_uri": url.replace("127.0.0.1", "localhost") + "/jwks"}, False),
        (lambda url: {"jwks_uri": "http" + url.removeprefix("https") + "/jwks"}, False),
        (lambda url: {"jwks_uri": None}, False),
        (lambda url: {"issuer": f"{url}/"}, False),
    ],
)
async def test_discovery_must_name_keys_at_the_issuers_origin(
    change: Callable[[str], dict[str, Any]],
    works: bool,
    tmp_path: Path,
    ca: Authority,
) -> None:
    async with fetched(tmp_path, ca) as found:
        url = found.rules.jwks_url.removesuffix("/jwks")
        (found.folder / ".well-known").mkdir()
        document = {"issuer": url, "jwks_uri": f"{url}/jwks"} | change(url)
        found.serve(".well-known/openid-configuration", document)
        await found.start(issuer=url, jwks_url="")
        assert (verify(found.issuers, sign(iss=url)) == BILLING) is works
        assert found.outcomes() == ({"ok": 1} if works else {"invalid": 1})


async def test_removed_issuer_is_fetched_no_more(tmp_path: Path, ca: Authority) -> None:
    async with fetched(tmp_path, ca) as found:
        await found.start()
        found.issuers.prepare(Snapshot({}))()
        assert found.outcomes() == {}
        assert isinstance(verify(found.issuers, sign()), str)
