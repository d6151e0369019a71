import pytest
from pydantic import ValidationError

from sidekey.credentials.certificates.settings import CertificateSettings, parse_certificate, parse_key
from sidekey.credentials.context import Context
from sidekey.credentials.fields import Reference

FILES = {"certificate": {"file": "tls.crt"}, "private_key": {"file": "tls.key"}}
WAY_OUT = "use {file: PATH}, {env: NAME} or {url: URL}"
KEY = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n"


def errors(keys: dict[str, object]) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        CertificateSettings.model_validate(keys, context=Context("file"))
    return {str(error["loc"][0]): error["msg"].removeprefix("Value error, ") for error in caught.value.errors()}


def test_certificate_and_private_key_are_references() -> None:
    settings = CertificateSettings.model_validate(FILES, context=Context("file"))
    assert settings.references() == {
        "certificate": Reference("file", "tls.crt"),
        "private_key": Reference("file", "tls.key"),
    }
    assert not settings.allow_private_ca
    assert settings.refresh == 3600.0


def test_one_pem_replaces_certificate_and_key() -> None:
    settings = CertificateSettings.model_validate(
        {"pem": {"env": "PEM"}, "key_passphrase": {"env": "PASS"}}, context=Context("file")
    )
    assert settings.references() == {"pem": Reference("env", "PEM")}


@pytest.mark.parametrize(
    ("keys", "result"),
    [
        ({}, {"certificate": "Field required", "private_key": "Field required"}),
        ({"certificate": {"file": "a"}}, {"private_key": "Field required"}),
        ({"private_key": {"file": "a"}}, {"certificate": "Field required"}),
        (
            {"pem": {"file": "a"}, **FILES},
            dict.fromkeys(
                ("certificate", "private_key"),
                "may not be used with pem, which contains both certificate and key: remove one",
            ),
        ),
        ({"pem": "hunter2"}, {"pem": f"a secret may not be written inline: {WAY_OUT}"}),
    ],
    ids=["nothing", "no key", "no certificate", "both ways", "an invalid pem"],
)
def test_missing_or_duplicate_part_is_reported(keys: dict[str, object], result: dict[str, str]) -> None:
    assert errors(keys) == result


def test_refresh_interval_of_a_url() -> None:
    halves = {"certificate": {"url": "https://vault.example/crt"}, "private_key": {"file": "tls.key"}}
    assert CertificateSettings.model_validate({**halves, "refresh": "5m"}, context=Context("file")).refresh == 300.0
    assert errors({**halves, "refresh": "59s"}) == {"refresh": "must be at least 1m"}


def test_refresh_without_a_url_is_an_error() -> None:
    """Files are watched."""
    assert errors({**FILES, "refresh": "5m"}) == {"refresh": "may be used only with {url}: files are watched"}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://vault.example/crt", "must be an https URL"),
        ("vault.example/crt", "must be an https URL"),
        ("file:///etc/passwd", "must be an https URL"),
        ("https://svc:hunter2@vault.example/crt", "userinfo"),
        ("https://vault.example/crt#top", "fragment"),
        ("https://vault.example/../crt", "dot segment"),
    ],
)
@pytest.mark.parametrize("parse", [parse_certificate, parse_key])
def test_url_must_be_https(parse: type[Reference], url: str, reason: str) -> None:
    """It may have a query."""
    with pytest.raises(ValueError, match=reason) as caught:
        parse({"url": url}, Context("file"))
    assert "hunter2" not in str(caught.value)
    assert parse({"url": "https://vault.example/crt?version=2"}, Context("file")).source == "url"


def test_certificate_may_be_inline() -> None:
    """It is public."""
    assert parse_certificate({"inline": "-----BEGIN"}, Context("file")) == Reference("inline", "-----BEGIN")


def test_inline_private_key_is_refused() -> None:
    """The error names the remedy."""
    with pytest.raises(ValueError, match="must not contain a private key, which is a secret"):
        parse_certificate({"inline": KEY}, Context("file"))
    with pytest.raises(ValueError, match=r"use \{file: PATH\}, \{env: NAME\} or \{url: URL\}"):
        parse_key({"inline": KEY}, Context("file"))
    assert parse_key({"insecure_value": KEY}, Context("file")) == Reference("insecure_value", KEY)


@pytest.mark.parametrize("raw", [None, "tls.crt", [], {}, {"file": ""}, {"env": "A-B"}, {"inline": " "}, {"text": "a"}])
def test_other_references_are_refused(raw: object) -> None:
    """For certificate and key."""
    for parse in (parse_certificate, parse_key):
        with pytest.raises(ValueError, match=r"."):
            parse(raw, Context("file"))
    with pytest.raises(ValueError, match="must not be empty"):
        parse_key({"insecure_value": "\n"}, Context("file"))


def test_stored_certificate_is_public_and_its_key_is_not() -> None:
    for source in ("file", "env"):
        assert parse_certificate({source: "NAME"}, Context("file")).form == "inline"
        assert parse_key({source: "NAME"}, Context("file")).form == "value"
