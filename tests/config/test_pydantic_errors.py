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


def test_path_of_an_error_omits_the_kind() -> None:
    """pydantic adds the tag after `auth`, where the file has no such key."""
    text = "auth: {type: basic, username: svc, password: {}}\nendpoint_prefix: https://api.example.com\n"
    assert messages_of(IntegrationSettings, text)[0].startswith("c.yaml:1:46: integrations.crm.auth.password: ")


def test_path_of_a_single_value_has_no_index() -> None:
    """`endpoint_prefix` takes one or a list."""
    one = messages_of(IntegrationSettings, "auth: {type: headers, headers: {A: b}}\nendpoint_prefix: x\n")
    two = messages_of(IntegrationSettings, "auth: {type: headers, headers: {A: b}}\nendpoint_prefix: [x]\n")
    assert one[0].startswith("c.yaml:2:18: integrations.crm.endpoint_prefix: ")
    assert two[0].startswith("c.yaml:2:19: integrations.crm.endpoint_prefix[0]: ")


@pytest.mark.parametrize(
    ("keys", "hint"),
    [
        ("token_request: {formt: json}", "unknown key; did you mean format?"),
        ("token_response: {zzz: x}", "unknown key; known: access_token, expires_in, base_url, pin_base_url"),
        ("token_placement: {in: header, zzz: x}", "unknown key; known: in, name, scheme, prefix"),
        ("scope: read", "this is a parameter of the token request: write token_request: {body: {scope: ...}}"),
        ("munchkin_id: acme", "this is a parameter of a provider: write provider: marketo"),
        ("login_endpoint: x", "this key may be used only with type responsys"),
        ("path_prefix: /x", "this key may be used only with type responsys"),
        ("methods: [GET]", "this key belongs to the integration, not under auth"),
    ],
)
def test_unknown_key_of_a_kind_has_a_hint_where_it_belongs(keys: str, hint: str) -> None:
    auth = "type: oauth2, token_endpoint: 'https://auth.example.com/t', client_id: id, client_secret: {env: SECRET}"
    (message,) = messages_of(IntegrationSettings, f"auth: {{{auth}, {keys}}}\n")
    assert message.endswith(f": {hint}")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("log: {acces: all}", "unknown key; did you mean access?"),
        ("log: {zzz: all}", "unknown key; known: level, access, path, audit, format, file"),
        ("callers: {a: {token: {env: A}, zzz: 1}}", "unknown key; known: token, integrations, presets"),
        ("auth: {}", "this key belongs to an integration"),
        ("<<: {}", "merge keys are not supported: use an alias (*name) for a whole value"),
    ],
)
def test_unknown_key_has_a_hint(text: str, hint: str) -> None:
    """The closest key, or all of them."""
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
    words = [word for kind in KINDS.values() for word in kind.also_called]
    assert len(words) == len({*words} - KINDS.keys())
