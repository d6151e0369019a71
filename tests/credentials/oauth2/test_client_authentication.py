"""Client authentication methods (RFC 6749 2.3)."""

import string
from base64 import b64decode
from urllib.parse import unquote, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.credentials.oauth2.client_authentication import Client, ClientProof, Method

PRINTABLE = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1)
SECRET = "s3cret/+ &=%:~"


def basic(client: Client) -> str:
    ((name, value),) = client.prove(0.0).headers
    assert name == "Authorization"
    scheme, _, coded = value.partition(" ")
    assert scheme == "Basic"
    return b64decode(coded).decode()


def test_header_form_encodes_id_and_secret() -> None:
    """RFC 6749 2.3.1 and appendix B: colons and spaces stay unambiguous."""
    assert basic(Client("header", "my client", SECRET)) == "my%20client:s3cret%2F%2B%20%26%3D%25%3A~"


@given(PRINTABLE, PRINTABLE)
def test_server_decodes_the_same_id_and_secret(client_id: str, secret: str) -> None:
    """It decodes them as a form or as a URL."""
    first, _, second = basic(Client("header", client_id, secret)).partition(":")
    assert set(first + second) <= set(string.ascii_letters + string.digits + "%-._~")
    for decode in (unquote_plus, unquote):
        assert (decode(first), decode(second)) == (client_id, secret)


def test_form_encoding_can_be_disabled() -> None:
    """For servers that ignore RFC 6749 2.3.1."""
    assert basic(Client("header", "my client", SECRET, form_encoded=False)) == f"my client:{SECRET}"


@pytest.mark.parametrize(
    ("method", "proof"),
    [
        ("body", ClientProof(fields=(("client_id", "c"), ("client_secret", SECRET)))),
        ("query", ClientProof(query=(("client_id", "c"), ("client_secret", SECRET)))),
        ("public", ClientProof(fields=(("client_id", "c"),))),
        ("tls_client_auth", ClientProof(fields=(("client_id", "c"),))),
        ("none", ClientProof()),
    ],
)
def test_exactly_one_method_authenticates_the_client(method: Method, proof: ClientProof) -> None:
    """RFC 6749 2.3."""
    assert Client(method, "c", SECRET).prove(0.0) == proof


def test_private_key_method_signs_a_new_assertion() -> None:
    """RFC 7523 2.2, at the time of the request."""
    client = Client("private_key_jwt", "c", sign=lambda now: f"signed at {now:g}")
    assert client.prove(5.0) == ClientProof(
        fields=(
            ("client_id", "c"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", "signed at 5"),
        )
    )
