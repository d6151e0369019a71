"""Signing with a template scheme: fields, message IDs, required fields, and the explained text."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.credentials.signatures.keys import Hmac
from sidekey.credentials.signatures.schemes import Scheme, read_each, read_field, read_signed
from sidekey.credentials.signing import NO_RANDOM_IDS, OutgoingRequest
from support.outgoing_requests import NEW_ID, NONCE, NOW, UNIQUE, outgoing, pieces, written

KEY = b"hunter2"
OF_BODY = hmac.new(KEY, b"body", hashlib.sha256)
PLAIN = {"X-Signature": "{signature}"}
WITH_ID = {"X-Message-Id": "{id}", **PLAIN}


def signed(scheme: Scheme, request: OutgoingRequest | None = None, keys: Sequence[bytes] = (KEY,)) -> dict[str, str]:
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
def test_encoding_of_a_signature(encoding: Any, value: str) -> None:
    """This signature has a plus, a slash and padding in base64."""
    assert signed(Scheme("{body}", PLAIN, encoding=encoding)) == {"X-Signature": value}


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha384", "sha512"])
def test_algorithm_of_the_scheme(algorithm: str) -> None:
    expected = hmac.new(KEY, b"body", algorithm).hexdigest()
    assert signed(Scheme("{body}", PLAIN, algorithm=f"hmac-{algorithm}")) == {"X-Signature": expected}


def test_format_of_several_signatures() -> None:
    headers = {"X-Signature": "t={timestamp};{signatures};end%"}
    scheme = Scheme("{timestamp_ms}.{method}", headers, each="%v1={signature}%", join=" | ")
    one, two = (hmac.new(key, b"1614265330750.POST", "sha256").hexdigest() for key in (b"one", b"two"))
    assert signed(scheme, keys=[b"one", b"two"]) == {"X-Signature": f"t=1614265330;%v1={one}% | %v1={two}%;end%"}
    assert signed(scheme, keys=[b"two"]) == {"X-Signature": f"t=1614265330;%v1={two}%;end%"}
    assert scheme.allows_several
    assert not Scheme("{body}", {**headers, **PLAIN}).allows_several


def test_generated_values_may_be_in_a_header() -> None:
    headers = {"Date": "{date}", "X-Id": "i={id}", "X-Nonce": "{nonce}", "X-Ms": "{timestamp_ms}", **PLAIN}
    found = signed(Scheme("{body}", headers))
    assert [*found] == [*headers]
    assert found == {
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
    assert signed(scheme, request) == {"X-Signature": hmac.new(KEY, sent.encode(), "sha256").hexdigest()}


def test_message_without_an_id_gets_one() -> None:
    found = signed(Scheme("{id}", WITH_ID))
    assert found == {
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
    found = written(signer.sign(outgoing(), [b"bo", b"dy"], NOW, UNIQUE))
    assert found["X-Signature"] == hmac.new(b"one", text, "sha256").hexdigest()
    (hidden,) = signer.explain(outgoing(), None, NOW, UNIQUE)
    assert hidden == b"%b.1614265330.%b.[redacted].[redacted]" % (NEW_ID, NONCE)


@pytest.mark.parametrize("request_", [outgoing(), outgoing(b"X_Message_Id: mine")], ids=["without an ID", "with one"])
def test_names_are_those_that_sign_writes(request_: OutgoingRequest) -> None:
    """A second signer needs them."""
    scheme = Scheme("{id}", WITH_ID)
    signer = scheme.signer([Hmac(KEY, scheme.algorithm)])
    assert signer.names(request_) == [name.encode() for name in signed(scheme, request_)]


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
    one, other = (signer.sign(outgoing(), [b"body"], NOW, unique) for unique in (UNIQUE, NO_RANDOM_IDS))
    assert signer.uses_random_ids is uses_random_ids is (one != other)


def test_rules_of_a_scheme() -> None:
    rules = Scheme("{id}{header:X_Tenant}{body_sha256}", {**WITH_ID, "X_Time": "{timestamp}"}).rules()
    assert rules.names == {b"x-message-id", b"x-signature", b"x-time"}
    assert rules.kept == {b"x-message-id"}
    assert rules.signed == {b"x-tenant"}
    assert rules.body
    assert Scheme("{body}", PLAIN).rules().body
    streamed = Scheme("{id}{header:X-Tenant}", {"X-Signature": "id={id},{signature}"}).rules()
    assert not streamed.body
    assert streamed.kept == frozenset()


def test_values_allowed_in_each_template() -> None:
    assert read_signed("{body}{header:x}{id}").names == {"body", "header:x", "id"}
    assert read_field("{id}{signature}{signatures}").names == {"id", "signature", "signatures"}
    assert read_each("v1={signature}.") == ("v1=", ".")
    for read, text in ((read_signed, "{signature}"), (read_field, "{body}"), (read_field, "{header:x}")):
        with pytest.raises(ValueError, match="no value here"):
            read(text)
    for text in ("{signatures}", "{id}", "{timestamp}"):
        with pytest.raises(ValueError, match="no value here"):
            read_each(text)
    for text in ("", "v1", "{signature}{signature}"):
        with pytest.raises(ValueError, match="once"):
            read_each(text)


SECRETS = st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=3)
TEXTS = st.text("aZ09.,:;=-_% ", max_size=4)


@given(
    keys=SECRETS,
    names=st.lists(st.sampled_from(["id", "timestamp", "method", "target", "body", "header:x"]), max_size=5),
    between=TEXTS,
    each=st.tuples(TEXTS, TEXTS),
    join=TEXTS,
    body=st.binary(max_size=30),
    size=st.integers(1, 9),
)
def test_signature_equals_one_by_the_standard_library(
    keys: list[bytes], names: list[str], between: str, each: tuple[str, str], join: str, body: bytes, size: int
) -> None:
    """For any pieces of the body."""
    text = between.join(f"{{{name}}}" for name in names)
    scheme = Scheme(
        text, {"X-I": "{id}", "X-T": "{timestamp}", "X-S": "={signatures}."}, each="{signature}".join(each), join=join
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
    signatures = [hmac.new(key, message, "sha256").hexdigest().join(each) for key in keys]
    signer = scheme.signer([Hmac(key, scheme.algorithm) for key in keys])
    assert signer.check(request) is None
    assert written(signer.sign(request, pieces(body, size=size), NOW, UNIQUE)) == {
        "X-I": NEW_ID.decode(),
        "X-T": "1614265330",
        "X-S": f"={join.join(signatures)}.",
    }
