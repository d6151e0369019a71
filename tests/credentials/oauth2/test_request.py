import json
from urllib.parse import parse_qsl, urlsplit

import pytest

from sidekey.credentials.oauth2.clients import Proof
from sidekey.credentials.oauth2.parameters import Parameters
from sidekey.credentials.oauth2.request import TokenRequest

URL = "https://auth.example.com/oauth2/token"
GRANTED: Parameters = (("grant_type", "client_credentials"),)
FURTHER: Parameters = (("scope", "a b"), ("account", 510), ("ratio", 0.5), ("flag", True))


def test_a_form_says_what_it_is_and_what_it_wants() -> None:
    """RFC 6749 4.4.2: a POST of a form; the response is JSON."""
    call = TokenRequest(URL, body=FURTHER).call(GRANTED, Proof())
    assert (call.method, call.url) == ("POST", URL)
    assert dict(call.headers) == {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
    assert call.body == b"grant_type=client_credentials&scope=a+b&account=510&ratio=0.5&flag=true"


def test_in_json_numbers_stay_numbers() -> None:
    """Salesforce Marketing Cloud types account_id as a number; true and false stay, too."""
    call = TokenRequest(URL, format="json", body=FURTHER).call(GRANTED, Proof())
    assert dict(call.headers)["Content-Type"] == "application/json"
    assert json.loads(call.body) == {**dict(GRANTED), **dict(FURTHER)}
    assert b'"account": 510' in call.body
    assert b'"flag": true' in call.body


def test_a_proof_goes_beside_the_grant_or_into_the_query() -> None:
    """Its fields into the body, its query behind the URL's own."""
    proof = Proof(
        headers=(("Authorization", "Basic x"),), fields=(("client_id", "c"),), query=(("client_secret", "s/ "),)
    )
    call = TokenRequest(f"{URL}?policy=p", query=(("scope", "a b"),)).call(GRANTED, proof)
    assert call.url == f"{URL}?policy=p&client_secret=s%2F%20&scope=a%20b"
    assert call.body == b"grant_type=client_credentials&client_id=c"
    assert call.headers[0] == ("Authorization", "Basic x")


def test_with_get_all_goes_into_the_query() -> None:
    """Marketo takes it so: no body, and no header that describes one."""
    proof = Proof(query=(("client_id", "c"), ("client_secret", "s")))
    call = TokenRequest(URL, "GET", query=FURTHER).call(GRANTED, proof)
    assert (call.method, call.body, call.headers) == ("GET", b"", (("Accept", "application/json"),))
    assert parse_qsl(urlsplit(call.url).query) == [
        ("grant_type", "client_credentials"),
        ("client_id", "c"),
        ("client_secret", "s"),
        ("scope", "a b"),
        ("account", "510"),
        ("ratio", "0.5"),
        ("flag", "true"),
    ]


@pytest.mark.parametrize("url", [f"{URL}?", f"{URL}?a=b&"])
def test_a_query_that_stands_open_gets_no_second_mark(url: str) -> None:
    """What was configured stays as it is."""
    assert TokenRequest(url, query=(("x", "y"),)).call(GRANTED, Proof()).url == f"{url}x=y"


def test_a_request_shows_no_secret() -> None:
    """Its further parameters may be secrets, and its URL may hold one."""
    request = TokenRequest(f"{URL}?key=hunter2", body=(("api_key", "hunter2"),))
    assert "hunter2" not in repr(request)
    assert "hunter2" not in repr(request.call(GRANTED, Proof()))
