from sidekey.credentials.certificates.identity import ClientIdentity, expired

IDENTITY = ClientIdentity(b"hunter2", b"hunter2", "0123456789abcdef" * 4, 0.0, 1_780_272_000.0, "CN=client", "CN=ca")


def test_an_identity_shows_whose_it_is_and_no_key() -> None:
    """By the beginning of its fingerprint, which pools are told apart by."""
    assert repr(IDENTITY) == "ClientIdentity(0123456789ab, REDACTED)"


def test_an_expired_certificate_is_reported_with_its_day() -> None:
    """The integration has no credential that may be used."""
    problem = expired(IDENTITY)
    assert (problem.code, problem.error) == ("credential_unavailable", "proxy_configuration_error")
    assert problem.detail == "the client certificate expired on 2026-06-01"
