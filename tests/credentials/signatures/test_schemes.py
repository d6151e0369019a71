"""The schemes of platforms: vectors of their authors, and consistency of their definitions."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from hmac import new
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.signature import Clock, SignatureVerifier
from standardwebhooks.webhooks import Webhook
from stripe import Webhook as StripeWebhook
from svix.webhooks import Webhook as SvixWebhook

from sidekey.credentials.signatures.keys import Hmac, webhook_key
from sidekey.credentials.signatures.schemes import SCHEMES
from sidekey.credentials.signatures.settings import signature_errors
from sidekey.policy.headers import normalise
from support.outgoing_requests import NEW_ID, NOW, UNIQUE, outgoing, pieces, written

WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
WHSK = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
SECRET = "It's a Secret to Everybody"
BODY = b'{"test": 2432232314}'


def signed(
    scheme: str, *keys: str, body: bytes = BODY, at: float = NOW, fields: tuple[bytes, ...] = ()
) -> dict[str, str]:
    """Sign with a scheme, and with Standard Webhooks secrets if it uses them."""
    found = SCHEMES[scheme]
    read = [webhook_key(key) if found.asymmetric else Hmac(key.encode(), found.algorithm) for key in keys]
    signer, request = found.signer(read), outgoing(*fields)
    assert signer.check(request) is None
    return written(signer.sign(request, pieces(body, size=7), at, UNIQUE))


@pytest.mark.parametrize("prefix", ["webhook", "svix"])
def test_vectors_of_standard_webhooks_and_svix(prefix: str) -> None:
    """From their libraries: test_sign_function of standardwebhooks, and worker.rs of svix-server for Ed25519."""
    scheme = {"webhook": "standard-webhooks", "svix": "svix"}[prefix]
    sent = f"{prefix}-id: msg_p5jXN8AQM9LWM0D4loKWxJek".encode()
    assert signed(scheme, WHSEC, WHSK, at=1614265330.9, fields=(sent,)) == {
        f"{prefix}-timestamp": "1614265330",
        f"{prefix}-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/"
        "enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
    }


def test_vector_of_github() -> None:
    """From "Testing the webhook payload validation" in its documentation."""
    assert signed("github", SECRET, body=b"Hello, World!") == {
        "X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    }


def test_vector_of_convoy() -> None:
    """`advanced_sha256_hex_valid` of pkg/signature/testdata in frain-dev/convoy."""
    body = b'{"event":"charge.success","amount":1000,"currency":"NGN"}'
    assert signed("convoy", "convoy-webhook-secret", body=body, at=1700000000.0) == {
        "X-Convoy-Signature": "t=1700000000,v1=77b8b9269f25a199846a55a2bd25b3fba151c70fdae60bb1dcd87fbbc943c55c"
    }


def test_vector_of_slack() -> None:
    """From its documentation."""
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name="
        b"foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2F"
        b"hooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015."
        b"47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    assert signed("slack", "8f742231b10e8888abcd99yyyzzz85a5", body=body, at=1531420618.0) == {
        "X-Slack-Request-Timestamp": "1531420618",
        "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }


def test_shopify_signs_the_body_in_base64() -> None:
    """As its documentation computes it."""
    assert signed("shopify", "hunter2") == {
        "X-Shopify-Hmac-Sha256": b64encode(new(b"hunter2", BODY, sha256).digest()).decode()
    }


@pytest.mark.parametrize(("scheme", "keys"), [("convoy", 3), ("stripe", 3), ("standard-webhooks", 3), ("svix", 3)])
def test_each_secret_makes_a_signature(scheme: str, keys: int) -> None:
    """So that receivers can rotate secrets. Each signature depends on its secret only."""
    secrets = [f"whsec_{b64encode(bytes([index]) * 32).decode()}" for index in range(keys)]
    (name,) = (name for name in SCHEMES[scheme].headers if "signature" in name.lower())
    each = [signed(scheme, secret)[name].rpartition(SCHEMES[scheme].join)[2] for secret in secrets]
    assert signed(scheme, *secrets)[name].removeprefix("t=1614265330,") == SCHEMES[scheme].join.join(each)


def test_libraries_of_receivers_accept_the_signatures() -> None:
    """With either of two secrets."""
    secrets = [WHSEC, f"whsec_{b64encode(b'k' * 24).decode()}"]
    now = datetime.now(UTC).timestamp()
    for secret in secrets:
        Webhook(secret).verify(BODY, signed("standard-webhooks", *secrets, at=now))
        SvixWebhook(secret).verify(BODY, signed("svix", *secrets, at=now))
        header = signed("stripe", *secrets, at=now)["Stripe-Signature"]
        assert StripeWebhook.construct_event(BODY, header, secret)["test"] == 2432232314

    class Stopped(Clock):
        def now(self) -> float:
            return now

    found = signed("slack", "hunter2", at=now)
    assert SignatureVerifier("hunter2", Stopped()).is_valid_request(BODY, found)
    assert not SignatureVerifier("hunter3", Stopped()).is_valid_request(BODY, found)


def test_message_id_cannot_make_two_messages_equal() -> None:
    """With a dot, ID `a.1700000000` with body `x` and ID `a` with body `1700000000.x` had one signature."""
    scheme = SCHEMES["standard-webhooks"]
    signer = scheme.signer([webhook_key(WHSEC)])
    honest, forged = outgoing(b"webhook-id: a"), outgoing(b"webhook-id: a.1700000000")
    assert signer.check(honest) is None
    problem = signer.check(forged)
    assert problem is not None
    assert (problem.code, problem.status) == ("request_invalid", 400)
    # What it would have been: the time is ours, and in both of them.
    assert signer.explain(honest, [b"1700000000.x"], 1700000000.0, UNIQUE) == [b"a.1700000000.1700000000.x"]
    assert signer.explain(forged, [b"x"], 1700000000.0, UNIQUE) == [b"a.1700000000.1700000000.x"]


IDS = st.text("abcXYZ019_-", min_size=1, max_size=12)
BODIES = st.binary(max_size=20) | st.from_regex(rb"[0-9.]{0,20}", fullmatch=True)


@given(first=st.tuples(IDS, BODIES), second=st.tuples(IDS, BODIES), at=st.tuples(*[st.integers(1, 2**33)] * 2))
def test_signed_text_is_unambiguous(first: tuple[str, bytes], second: tuple[str, bytes], at: tuple[int, int]) -> None:
    """For every accepted ID."""
    signer = SCHEMES["standard-webhooks"].signer([webhook_key(WHSEC)])

    def text(message: tuple[str, bytes], now: int) -> list[bytes]:
        request = outgoing(b"webhook-id: " + message[0].encode())
        assert signer.check(request) is None
        return signer.explain(request, [message[1]], float(now), UNIQUE)

    assert (text(first, at[0]) == text(second, at[1])) is ((first, at[0]) == (second, at[1]))


@pytest.mark.parametrize("name", SCHEMES)
def test_scheme_of_a_platform_is_a_valid_custom_scheme(name: str) -> None:
    """Except for its format of Ed25519 signatures."""
    scheme = SCHEMES[name]
    raw = {
        "scheme": "custom",
        "signed": scheme.signed,
        "headers": dict(scheme.headers),
        "secret": [{}, {}] if scheme.allows_several else {},
        **({"each": scheme.each, "join": scheme.join} if scheme.allows_several else {}),
    }
    assert not list(signature_errors(raw))
    assert scheme.source.startswith("https://")
    assert scheme.rules().body


@pytest.mark.parametrize("name", SCHEMES)
def test_documentation_of_each_scheme(name: str) -> None:
    """The table in docs/signatures.md."""
    scheme = SCHEMES[name]
    page = (Path(__file__).parents[3] / "docs" / "signatures.md").read_text("utf-8")
    (row,) = (line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
    _, _, signed, headers, secrets, source, _ = (cell.strip() for cell in row.split("|"))
    assert signed == f"`{scheme.signed}`"
    assert headers == ", ".join(f"`{header}`" for header in scheme.headers)
    assert secrets.partition(",")[0] == ("several" if scheme.allows_several else "one")
    assert f"({scheme.source})" in source


@pytest.mark.parametrize("name", SCHEMES)
def test_rules_list_every_written_header(name: str) -> None:
    scheme = SCHEMES[name]
    key = WHSEC if scheme.asymmetric else "k"
    lines = signed(name, key)
    assert {normalise(line.encode()) for line in lines} == scheme.rules().names
    kept = scheme.rules().kept
    assert {line for line in lines if normalise(line.encode()) in kept} == {
        line for line, value in lines.items() if value == NEW_ID.decode()
    }
