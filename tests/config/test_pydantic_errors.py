import pytest
from pydantic import ValidationError

from sidekey.config.errors import error_of
from sidekey.config.models import GlobalSettings, IntegrationSettings
from sidekey.config.pydantic_errors import findings_of
from sidekey.config.yaml_reader import parse
from sidekey.credentials.context import Context
from sidekey.credentials.registry import KINDS


def messages_of(model: type[GlobalSettings | IntegrationSettings], text: str) -> list[str]:
    root, _ = parse("c.yaml", text.encode())
    context = Context("file")
    with pytest.raises(ValidationError) as caught:
        model.model_validate(root, context=context)
    findings = findings_of(caught.value, model, lambda _: root, context)
    return [str(error_of(root, finding, base=("integrations", "crm"))) for finding in findings]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (
            "callers: {a: {token: {env: A}, zzz: 1}}",
            "unknown key; known: token, certificate, jwt, integrations, presets",
        ),
        ("auth: {}", "this key belongs to an integration"),
    ],
)
def test_unknown_key_outside_integrations_has_a_hint(text: str, hint: str) -> None:
    """tests/config/errors has the hints of all other keys."""
    (message,) = messages_of(GlobalSettings, f"version: 1\n{text}\n")
    assert message.endswith(f": {hint}")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("bearer", "headers"),
        ("apikey", "headers"),
        ("api-key", "headers"),
        ("header", "headers"),
        ("oauth", "oauth2"),
        ("OAuth2", "oauth2"),
        ("AWS", "aws_sigv4"),
        ("basci", "basic"),
        ("kerberos", None),
    ],
)
def test_unknown_kind_has_a_suggestion(written: str, meant: str | None) -> None:
    """By a common name, or by a close one."""
    (message,) = messages_of(
        IntegrationSettings, f"auth: {{type: {written}}}\nendpoint_prefix: https://api.example.com\n"
    )
    known = "must be one of basic, headers, oauth2, responsys, mtls, signature, session, jwt, aws_sigv4"
    assert message.endswith(f"{known}; did you mean {meant}?" if meant else known)


def test_common_names_of_kinds_are_unique() -> None:
    words = [word for kind in KINDS.values() for word in kind.mistaken_types]
    assert len(words) == len({*words} - KINDS.keys())
