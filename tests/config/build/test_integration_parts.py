from typing import Any

from sidekey.config.build.integration import (
    credential_of,
    read_parts,
    values_of,
)
from sidekey.config.models import IntegrationSettings
from sidekey.credentials.base import FixedCredential, Grant, Supplemented
from sidekey.credentials.context import Context
from sidekey.credentials.fields import Reference

SECRET = {"secret": {"insecure_value": "hunter2"}}
ADD = {"headers": {"X-Tenant": "acme"}, "query": {"key": SECRET}}
BASIC = {"type": "basic", "username": "svc", "password": {"env": "PASSWORD"}}
OAUTH2 = {
    "type": "oauth2",
    "token_endpoint": "https://auth.example.com/token",
    "client_id": "id",
    "client_secret": {"env": "PASSWORD"},
}


def settings_of(auth: dict[str, Any], **more: Any) -> IntegrationSettings:
    return IntegrationSettings.model_validate(
        {"endpoint_prefix": "https://api.example.com", "auth": auth, **more}, context=Context("file")
    )


def read(reference: Reference) -> str:
    if reference.source == "env":
        raise ValueError("it is not set")
    return reference.value


def test_values_have_keys_with_their_section() -> None:
    """Two sections may have the same key. All unreadable values are reported at once."""
    settings = settings_of({**BASIC, "username": {"env": "USER"}}, add={**ADD, "body": {"k": {"secret": {"env": "K"}}}})
    values, reasons = read_parts(settings, read, {("add", "headers", "X-Tenant"): "known"})
    assert values == {
        ("add", "headers", "X-Tenant"): "known",
        ("add", "query", "key", "prefix"): "",
        ("add", "query", "key", "secret"): "hunter2",
        ("add", "body", "k", "prefix"): "",
    }
    assert reasons == tuple(
        (place, "it is not set")
        for place in (("auth", "username"), ("auth", "password"), ("add", "body", "k", "secret"))
    )
    assert values_of(settings.auth, {("auth", "a"): "1", ("add", "b"): "2"}) == {("a",): "1"}


def test_token_does_not_depend_on_the_supplements() -> None:
    settings = settings_of(OAUTH2, add=ADD)
    values = {("auth", "client_id"): "id", ("auth", "client_secret"): "p", **read_parts(settings, read, {})[0]}
    credential = credential_of(settings, values)
    assert isinstance(credential, Supplemented)
    plain = credential_of(settings_of(OAUTH2), values)
    assert not isinstance(plain, FixedCredential | Supplemented)
    assert credential.credential.lineage == plain.lineage
    assert credential.supplement == Grant((("X-Tenant", "acme"),), (("key", "hunter2"),), secrets=(b"hunter2",))
