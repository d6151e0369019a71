"""Template schemes: vectors of the platforms, and custom schemes with their message IDs and required fields."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from hmac import new
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.signature import Clock, SignatureVerifier
from standardwebhooks.webhooks import Webhook
from stripe import Webhook as StripeWebhook
from svix.webhooks import Webhook as SvixWebhook

from sidekey.credentials.signatures.keys import Hmac, load_webhook_key
from sidekey.credentials.signatures.schemes import (
    SCHEMES,
    Scheme,
    parse_header_template,
    parse_signature_format,
    parse_signed_text,
)
from sidekey.credentials.signatures.settings import signature_errors
from sidekey.credentials.signing import NO_RANDOM_IDS, OutgoingRequest
from sidekey.policy.headers import normalise
from support.outgoing_requests import NEW_ID, NONCE, NOW, UNIQUE, outgoing, pieces, written

WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
WHSK = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
SECRET = "It's a Secret to Everybody"
BODY = b'{"test": 2432232314}'


def signed(
    scheme: str, *keys: str, body: bytes = BODY, at: float = NOW, fields: tuple[bytes, ...] = ()
) -> dict[str, str]:
    """Sign with a scheme, and with Standard Webhooks secrets if it uses them."""
    result = SCHEMES[scheme]
    read = [load_webhook_key(key) if result.asymmetric else Hmac(key.encode(), result.algorithm) for key in keys]
    signer, request = result.signer(read), outgoing(*fields)
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
    """Its documentation computes it so."""
    assert signed("shopify", "hunter2") == {
        "X-Shopify-Hmac-Sha256": b64encode(new(b"hunter2", BODY, sha256).digest()).decode()
    }


@pytest.mark.parametrize(("scheme", "keys"), [("convoy", 3), ("stripe", 3), ("standard-webhooks", 3), ("svix", 3)])
def test_each_secret_makes_a_signature(scheme: str, keys: int) -> None:
    """Receivers can then rotate secrets. Each signature depends on its secret only."""
    secrets = [f"whsec_{b64encode(bytes([index]) * 32).decode()}" for index in range(keys)]
    (name,) = (name for name in SCHEMES[scheme].headers if "signature" in name.lower())
    signatures = [signed(scheme, secret)[name].rpartition(SCHEMES[scheme].join)[2] for secret in secrets]
    assert signed(scheme, *secrets)[name].removeprefix("t=1614265330,") == SCHEMES[scheme].join.join(signatures)


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

    result = signed("slack", "hunter2", at=now)
    assert SignatureVerifier("hunter2", Stopped()).is_valid_request(BODY, result)
    assert not SignatureVerifier("hunter3", Stopped()).is_valid_request(BODY, result)


def test_message_id_cannot_make_two_messages_equal() -> None:
    """With a dot, ID `a.1700000000` with body `x` and ID `a` with body `1700000000.x` had one signature."""
    scheme = SCHEMES["standard-webhooks"]
    signer = scheme.signer([load_webhook_key(WHSEC)])
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
    signer = SCHEMES["standard-webhooks"].signer([load_webhook_key(WHSEC)])

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
def test_documentation_matches_each_scheme(name: str) -> None:
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
    kept = scheme.rules().caller_fields
    assert {line for line in lines if normalise(line.encode()) in kept} == {
        line for line, value in lines.items() if value == NEW_ID.decode()
    }


KEY = b"hunter2"
OF_BODY = hmac.new(KEY, b"body", hashlib.sha256)
PLAIN = {"X-Signature": "{signature}"}
WITH_ID = {"X-Message-Id": "{id}", **PLAIN}


def signed_by(scheme: Scheme, request: OutgoingRequest | None = None, keys: Sequence[bytes] = (KEY,)) -> dict[str, str]:
    signer = scheme.signer([Hmac(key, scheme.algorithm) for key in keys])
    return written(signer.sign(request or outgoing(), [b"bo", b"dy"], NOW, UNIQUE))


@pytest.mark.parametrize(
    ("encoding", "value"),
    [
        ("hex", OF_BODY.hexdigest()),
        ("base64", b64encode(OF_BODY.digest()).decode()),
        ("base64url", b64encode(OF_BODY.digest(), b"-_").decode().rstrip("=")),
    ],
)
def test_signature_is_encoded_as_configured(encoding: Any, value: str) -> None:
    """This signature has a plus, a slash and padding in base64."""
    assert signed_by(Scheme("{body}", PLAIN, encoding=encoding)) == {"X-Signature": value}


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha384", "sha512"])
def test_algorithm_of_the_scheme(algorithm: str) -> None:
    expected = hmac.new(KEY, b"body", algorithm).hexdigest()
    assert signed_by(Scheme("{body}", PLAIN, algorithm=f"hmac-{algorithm}")) == {"X-Signature": expected}


def test_format_of_several_signatures() -> None:
    headers = {"X-Signature": "t={timestamp};{signatures};end%"}
    scheme = Scheme("{timestamp_ms}.{method}", headers, each="%v1={signature}%", join=" | ")
    first, second = (hmac.new(key, b"1614265330750.POST", "sha256").hexdigest() for key in (b"one", b"two"))
    assert signed_by(scheme, keys=[b"one", b"two"]) == {
        "X-Signature": f"t=1614265330;%v1={first}% | %v1={second}%;end%"
    }
    assert signed_by(scheme, keys=[b"two"]) == {"X-Signature": f"t=1614265330;%v1={second}%;end%"}
    assert scheme.allows_several
    assert not Scheme("{body}", {**headers, **PLAIN}).allows_several


def test_generated_values_may_be_in_a_header() -> None:
    headers = {"Date": "{date}", "X-Id": "i={id}", "X-Nonce": "{nonce}", "X-Ms": "{timestamp_ms}", **PLAIN}
    result = signed_by(Scheme("{body}", headers))
    assert [*result] == [*headers]
    assert result == {
        "Date": "Thu, 25 Feb 2021 15:02:10 GMT",
        "X-Id": f"i={NEW_ID.decode()}",
        "X-Nonce": NONCE.decode(),
        "X-Ms": "1614265330750",
        "X-Signature": OF_BODY.hexdigest(),
    }


@pytest.mark.parametrize("sent", ["a", "msg_1-2", "x" * 128, "_", "-"])
def test_message_id_of_the_caller_is_signed_and_kept(sent: str) -> None:
    scheme, request = Scheme("{id}", WITH_ID), outgoing(f"x-message-id:  {sent}".encode())
    signer = scheme.signer([Hmac(KEY, scheme.algorithm)])
    assert signer.check(request) is None
    assert signed_by(scheme, request) == {"X-Signature": hmac.new(KEY, sent.encode(), "sha256").hexdigest()}


def test_message_without_an_id_gets_one() -> None:
    result = signed_by(Scheme("{id}", WITH_ID))
    assert result == {
        "X-Message-Id": NEW_ID.decode(),
        "X-Signature": hmac.new(KEY, NEW_ID, "sha256").hexdigest(),
    }


@pytest.mark.parametrize(
    "sent",
    [[b""], [b"a.b"], [b"a b"], [b"x" * 129], [b"\xc3\xa9"], [b"a\n"], [b"a,b"], [b"a", b"a"], [b"a", b"b"]],
)
def test_invalid_or_repeated_message_id_is_refused(sent: list[bytes]) -> None:
    scheme = Scheme("{id}", WITH_ID)
    signer = scheme.signer([Hmac(KEY, scheme.algorithm)])
    problem = signer.check(outgoing(*(b"X_Message_Id: " + value for value in sent)))
    assert problem is not None
    assert (problem.code, problem.status, problem.sent) == ("request_invalid", 400, "no")
    assert problem.detail == (
        "X-Message-Id must be 1 to 128 letters, digits, _ and -, and be sent once: it is signed; without this header "
        "the message gets an ID"
    )


@pytest.mark.parametrize("lines", [(), (b"X-Tenant: a", b"x_tenant: a")])
def test_signed_field_must_occur_once(lines: tuple[bytes, ...]) -> None:
    scheme = Scheme("{header:X-Tenant}.{body}", PLAIN)
    problem = scheme.signer([Hmac(KEY, scheme.algorithm)]).check(outgoing(*lines))
    assert problem is not None
    assert (problem.code, problem.status) == ("request_invalid", 400)
    assert problem.detail == "the header x-tenant must be sent once: the signature covers it"


def test_empty_field_is_signed() -> None:
    scheme = Scheme("{header:X-Tenant}.{body}", PLAIN)
    signer = scheme.signer([Hmac(KEY, scheme.algorithm)])
    for line, value in ((b"X-Tenant:", b""), (b"x_tenant: a b ", b"a b")):
        assert signer.check(outgoing(line)) is None
        assert signer.explain(outgoing(line), [b"x"], NOW, UNIQUE) == [value + b".x"]


def test_explain_shows_one_text_for_all_keys() -> None:
    scheme = Scheme(
        "{id}.{timestamp}.{nonce}.{body}.{body_sha256}", {**WITH_ID, "X-N": "{nonce}", "X-T": "{timestamp}"}
    )
    signer = scheme.signer([Hmac(b"one", scheme.algorithm), Hmac(b"two", scheme.algorithm)])
    (text,) = signer.explain(outgoing(), [b"bo", b"dy"], NOW, UNIQUE)
    assert text == b"%b.1614265330.%b.body.%b" % (NEW_ID, NONCE, hashlib.sha256(b"body").hexdigest().encode())
    result = written(signer.sign(outgoing(), [b"bo", b"dy"], NOW, UNIQUE))
    assert result["X-Signature"] == hmac.new(b"one", text, "sha256").hexdigest()
    (hidden,) = signer.explain(outgoing(), None, NOW, UNIQUE)
    assert hidden == b"%b.1614265330.%b.[redacted].[redacted]" % (NEW_ID, NONCE)


@pytest.mark.parametrize("request_", [outgoing(), outgoing(b"X_Message_Id: mine")], ids=["without an ID", "with one"])
def test_names_equal_those_of_the_written_headers(request_: OutgoingRequest) -> None:
    """A second signer needs them."""
    scheme = Scheme("{id}", WITH_ID)
    signer = scheme.signer([Hmac(KEY, scheme.algorithm)])
    assert signer.names(request_) == [name.encode() for name in signed_by(scheme, request_)]


@pytest.mark.parametrize(
    ("text", "headers", "uses_random_ids"),
    [
        ("{timestamp}.{body}", {**PLAIN, "X-Time": "{timestamp}"}, False),
        ("{body}", WITH_ID, True),
        ("{id}.{body}", WITH_ID, True),
        ("{nonce}.{body}", {**PLAIN, "X-Nonce": "{nonce}"}, True),
        ("{body}", {"X-Signature": "n={nonce},{signature}"}, True),
    ],
)
def test_random_ids_affect_only_signers_that_use_them(
    text: str, headers: dict[str, str], uses_random_ids: bool
) -> None:
    signer = Scheme(text, headers).signer([Hmac(KEY, "hmac-sha256")])
    first, second = (signer.sign(outgoing(), [b"body"], NOW, unique) for unique in (UNIQUE, NO_RANDOM_IDS))
    assert signer.uses_random_ids is uses_random_ids is (first != second)


def test_rules_list_the_headers_of_a_scheme() -> None:
    rules = Scheme("{id}{header:X_Tenant}{body_sha256}", {**WITH_ID, "X_Time": "{timestamp}"}).rules()
    assert rules.names == {b"x-message-id", b"x-signature", b"x-time"}
    assert rules.caller_fields == {b"x-message-id"}
    assert rules.signed == {b"x-tenant"}
    assert rules.body
    assert Scheme("{body}", PLAIN).rules().body
    streamed = Scheme("{id}{header:X-Tenant}", {"X-Signature": "id={id},{signature}"}).rules()
    assert not streamed.body
    assert streamed.caller_fields == frozenset()


def test_values_allowed_in_each_template() -> None:
    assert parse_signed_text("{body}{header:x}{id}").names == {"body", "header:x", "id"}
    assert parse_header_template("{id}{signature}{signatures}").names == {"id", "signature", "signatures"}
    assert parse_signature_format("v1={signature}.") == ("v1=", ".")
    for read, text in (
        (parse_signed_text, "{signature}"),
        (parse_header_template, "{body}"),
        (parse_header_template, "{header:x}"),
    ):
        with pytest.raises(ValueError, match="no value here"):
            read(text)
    for text in ("{signatures}", "{id}", "{timestamp}"):
        with pytest.raises(ValueError, match="no value here"):
            parse_signature_format(text)
    for text in ("", "v1", "{signature}{signature}"):
        with pytest.raises(ValueError, match="once"):
            parse_signature_format(text)


SECRETS = st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=3)
TEXTS = st.text("aZ09.,:;=-_% ", max_size=4)


@given(
    keys=SECRETS,
    names=st.lists(st.sampled_from(["id", "timestamp", "method", "target", "body", "header:x"]), max_size=5),
    between=TEXTS,
    around=st.tuples(TEXTS, TEXTS),
    join=TEXTS,
    body=st.binary(max_size=30),
    size=st.integers(1, 9),
)
def test_signature_equals_one_by_the_standard_library(
    keys: list[bytes], names: list[str], between: str, around: tuple[str, str], join: str, body: bytes, size: int
) -> None:
    """For any pieces of the body."""
    text = between.join(f"{{{name}}}" for name in names)
    scheme = Scheme(
        text, {"X-I": "{id}", "X-T": "{timestamp}", "X-S": "={signatures}."}, each="{signature}".join(around), join=join
    )
    request = outgoing(b"X: tenant")
    values = {
        "id": NEW_ID,
        "timestamp": b"1614265330",
        "method": b"POST",
        "target": b"/v1/mails?a=b",
        "body": body,
        "header:x": b"tenant",
    }
    message = between.encode().join(values[name] for name in names)
    signatures = [hmac.new(key, message, "sha256").hexdigest().join(around) for key in keys]
    signer = scheme.signer([Hmac(key, scheme.algorithm) for key in keys])
    assert signer.check(request) is None
    assert written(signer.sign(request, pieces(body, size=size), NOW, UNIQUE)) == {
        "X-I": NEW_ID.decode(),
        "X-T": "1614265330",
        "X-S": f"={join.join(signatures)}.",
    }
