from sidekey.credentials.base import Attempt
from sidekey.credentials.oauth2.grants import ClientCredentials, JwtBearer, Password, RefreshToken


def test_client_credentials_send_their_type_only() -> None:
    """RFC 6749 4.4.2."""
    assert ClientCredentials().parameters(Attempt(0.0)) == (("grant_type", "client_credentials"),)


def test_a_grant_of_a_platforms_own_sends_its_name() -> None:
    """RFC 6749 4.5."""
    assert ClientCredentials("openapi_2lo").parameters(Attempt(0.0)) == (("grant_type", "openapi_2lo"),)


def test_a_user_is_presented_with_every_request() -> None:
    """RFC 6749 4.3.2; what a response left is not."""
    grant = Password("svc", "hunter2")
    expected = (("grant_type", "password"), ("username", "svc"), ("password", "hunter2"))
    assert grant.parameters(Attempt(0.0, memory="r-1")) == expected
    assert not grant.rotates
    assert "hunter2" not in repr(grant)


def test_the_refresh_token_of_the_config_is_presented_first() -> None:
    """RFC 6749 6; later the one that the last answer brought."""
    grant = RefreshToken("hunter2")
    assert grant.parameters(Attempt(0.0)) == (("grant_type", "refresh_token"), ("refresh_token", "hunter2"))
    assert dict(grant.parameters(Attempt(0.0, memory="newer")))["refresh_token"] == "newer"
    assert "hunter2" not in repr(grant)


def test_a_refresh_token_that_does_not_rotate_is_presented_always() -> None:
    """Whatever a response before brought."""
    grant = RefreshToken("hunter2", rotates=False)
    assert dict(grant.parameters(Attempt(0.0, memory="newer")))["refresh_token"] == "hunter2"


def test_an_assertion_is_signed_for_each_request() -> None:
    """RFC 7523 2.1, at the time of the request."""
    grant = JwtBearer(lambda now: f"signed at {now:g}")
    assert grant.parameters(Attempt(5.0)) == (
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("assertion", "signed at 5"),
    )
    assert repr(grant) == "JwtBearer(REDACTED)"
