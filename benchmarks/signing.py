"""Cost of a signature for an exchange without sockets: 1 KiB, compared with a fixed header, in turn."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from types import MappingProxyType

from benchmarks.core import BASIC, exchange_once, in_turn
from sidekey.credentials.aws.sigv4 import AccessKey, CredentialScope, SigV4Rules, SigV4Signer
from sidekey.credentials.base import Grant
from sidekey.credentials.signatures.keys import load_hmac_key, load_webhook_key
from sidekey.credentials.signatures.schemes import SCHEMES
from sidekey.credentials.signing import Signer, SigningRules

ROUNDS = 200
EXCHANGES = 200

_KEY = b64encode(b"a key of 32 bytes for signatures").decode()
_SERVICE = "execute-api"


def _webhook(key: str) -> tuple[Signer, SigningRules, bytes]:
    scheme = SCHEMES["standard-webhooks"]
    return scheme.signer([load_webhook_key(key)]), scheme.rules(), b"\r\nwebhook-signature: "


def _github() -> tuple[Signer, SigningRules, bytes]:
    scheme = SCHEMES["github"]
    return scheme.signer([load_hmac_key(_KEY, "text", scheme.algorithm)]), scheme.rules(), b"\r\nX-Hub-Signature-256: "


def _aws() -> tuple[Signer, SigningRules, bytes]:
    signer = SigV4Signer(
        AccessKey(b"AKIDEXAMPLE", b"s" * 40), CredentialScope("eu-west-1", _SERVICE), sign_payload=True
    )
    return signer, SigV4Rules(_SERVICE, sign_payload=True), b"\r\nAuthorization: AWS4-HMAC-SHA256 "


CASES: Mapping[str, Callable[[], tuple[Signer, SigningRules, bytes]]] = MappingProxyType(
    {
        "github": _github,
        "webhook": lambda: _webhook(f"whsec_{_KEY}"),
        "ed25519": lambda: _webhook(f"whsk_{_KEY}"),
        "aws": _aws,
    }
)
"""What is signed: GitHub's scheme, HMAC-SHA-256 over the body; Standard Webhooks, over ID, time and body; the same
with Ed25519; AWS Signature Version 4. Each with its rules, and how the line begins that carries the signature."""


def warm(case: str) -> Callable[[], None]:
    """Return a function that runs one exchange of this case, after two checked ones. Each is signed."""
    signer, signing, line = CASES[case]()
    headers, secrets = ((), ()) if case == "aws" else (BASIC.headers, BASIC.secrets)
    grant = Grant(headers=headers, secrets=secrets, signer=signer)
    once, caller, upstream = exchange_once(grant=grant, signing=signing)
    for _ in range(2):
        once()
        if upstream.written.count(line) != 1 or not caller.written.endswith(b"y" * 200):
            raise RuntimeError("the exchange did not go through, or was not signed")
    return once


def run() -> dict[str, float]:
    """Return the microseconds of each case beyond the fixed header, best rounds."""
    plain, _, _ = exchange_once()
    exchanges = {"plain": plain} | {case: warm(case) for case in CASES}
    rounds = in_turn(exchanges, ROUNDS, EXCHANGES, time.perf_counter)
    best = {case: min(times) for case, times in rounds.items()}
    return {f"{case}_more_us": best[case] - best["plain"] for case in CASES}


def main() -> None:
    """Print the figures."""
    figures = run()
    print("the same signed, us more: " + ", ".join(f"{case} {figures[f'{case}_more_us']:.2f}" for case in CASES))


if __name__ == "__main__":
    main()
