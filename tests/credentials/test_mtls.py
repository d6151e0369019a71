import pytest
from pydantic import ValidationError

from sidekey.credentials.base import CredentialTraits, FixedCredential, Grant, InjectionPoints
from sidekey.credentials.context import Context
from sidekey.credentials.mtls import MtlsSettings
from support.stored import destination, harmless, mtls

KEYS = {"type": "mtls", "certificate": {"file": "tls.crt"}, "private_key": {"file": "tls.key"}}


def test_certificate_is_the_only_credential() -> None:
    """The grant is empty, and there are no inputs."""
    settings = MtlsSettings.model_validate(KEYS, context=Context("file"))
    assert settings.traits() == CredentialTraits(InjectionPoints())
    assert settings.read(lambda _: "hunter2", {}) == ({}, ())
    assert settings.credential({}) == FixedCredential(Grant())
    assert settings.needs_prefix


def test_section_accepts_only_the_keys_of_a_certificate() -> None:
    with pytest.raises(ValidationError):
        MtlsSettings.model_validate({**KEYS, "username": "svc"}, context=Context("file"))
    with pytest.raises(ValidationError):
        MtlsSettings.model_validate({"type": "mtls"}, context=Context("file"))


def test_stored_key_is_tied_to_its_certificate_and_prefix() -> None:
    """How the certificate is checked and fetched moves nothing; that the two go together is judged when one is sent."""
    assert harmless(MtlsSettings) == {"certificate", "allow_private_ca", "refresh"}
    assert destination(mtls())["auth"] == {"type": "mtls"}
