import json
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from sidekey.config import profiles
from sidekey.config.load import load
from sidekey.config.models import (
    CallerSettings,
    GlobalSettings,
    IntegrationSettings,
    LimitSettings,
    ListenSettings,
    LogSettings,
    NetworkSettings,
    TestSettings,
    TimeoutSettings,
)
from sidekey.credentials.certificates.settings import CertificateSettings
from sidekey.credentials.oauth2.client_authentication import (
    ClientSecretJwtSettings,
    HeaderSettings,
    PrivateKeyJwtSettings,
)
from sidekey.credentials.oauth2.grant_types import JwtBearerSettings, PasswordSettings, RefreshTokenSettings
from sidekey.credentials.oauth2.token_request import TokenRequestSettings
from sidekey.credentials.oauth2.token_response import TokenResponseSettings
from sidekey.credentials.placement import PlacementSettings
from sidekey.credentials.registry import KINDS

ERRORS = Path(__file__).parent / "errors"
ENVIRON = {"HOME": "/nowhere"}

ONE = (
    "  {name}: {{endpoint_prefix: https://api.example.com/v1, auth: {{type: headers, headers: {{X-Tenant: acme}}}}}}\n"
)


@pytest.mark.parametrize("name", sorted(path.stem for path in ERRORS.glob("*.yaml")))
def test_errors_of_example_configs_are_exactly_these_lines(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The .txt file beside a config has its errors in order."""
    monkeypatch.chdir(ERRORS)
    loaded = load(f"{name}.yaml", ENVIRON)
    assert [str(error) for error in loaded.errors] == (ERRORS / f"{name}.txt").read_text().splitlines()
    assert loaded.errors
    assert loaded.snapshot is None


@pytest.mark.parametrize("path", sorted(ERRORS.glob("*.yaml")), ids=lambda path: path.stem)
def test_no_error_or_warning_shows_a_secret(path: Path) -> None:
    """Every secret of these files contains the word hunter2."""
    loaded = load(path, ENVIRON)
    assert "hunter2" not in "\n".join(map(str, loaded.of("error", "warning", "unreadable")))


def write(folder: Path, text: str) -> Path:
    path = folder / "sidekey.yaml"
    path.write_text(text)
    return path


def test_valid_config_becomes_a_snapshot(tmp_path: Path) -> None:
    """The order of integrations stays."""
    path = write(tmp_path, "version: 1\nintegrations:\n" + ONE.format(name="sms") + ONE.format(name="crm"))
    loaded = load(path, {})
    assert loaded.errors == loaded.of("unreadable") == loaded.warnings == []
    assert loaded.snapshot is not None
    assert list(loaded.snapshot.integrations) == ["sms", "crm"]


@pytest.mark.parametrize(
    ("forward", "effect"),
    [
        ("", "every request is denied"),
        ("forward: {unmatched: deny}\n", "every request is denied"),
        ("forward: {unmatched: pass}\n", "requests pass without a credential, by `forward.unmatched`"),
    ],
)
def test_config_without_integrations_is_a_warning(forward: str, effect: str, tmp_path: Path) -> None:
    loaded = load(write(tmp_path, f"version: 1\n{forward}"), {})
    assert loaded.snapshot is not None
    assert [error.message for error in loaded.warnings] == [f"no integration is configured: {effect}"]


def test_credential_that_two_processes_cannot_share_is_a_warning_at_its_key(tmp_path: Path) -> None:
    """A profile whose refresh token can be used repeatedly causes no warning."""
    text = (
        "version: 1\nintegrations:\n  mails:\n    auth:\n      type: oauth2\n"
        "      token_endpoint: https://auth.example.com/token\n      client_id: id\n"
        "      grant:\n        type: refresh_token\n"
        "        refresh_token: {env: SECRET}\n      single_live_token: true\n"
        "  campaign: {auth: {type: oauth2, provider: acoustic-campaign, pod: US-1, client_id: id,"
        " client_secret: {env: SECRET}, refresh_token: {env: SECRET}}}\n"
    )
    loaded = load(write(tmp_path, text), {"SECRET": "hunter2"})
    places = [(error.line, error.column, error.path) for error in loaded.warnings]
    assert places == [
        (10, 24, "integrations.mails.auth.grant.refresh_token"),
        (11, 26, "integrations.mails.auth.single_live_token"),
    ]
    assert "rotates: false" in loaded.warnings[0].message


def test_unreadable_secret_makes_only_its_integration_unusable(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "version: 1\nintegrations:\n  crm:\n    endpoint_prefix: https://api.example.com\n"
        "    auth: {type: basic, username: svc, password: {file: crm}}\n" + ONE.format(name="sms"),
    )
    loaded = load(path, {})
    assert loaded.errors == []
    assert [str(error) for error in loaded.of("unreadable")] == [
        f"{path}:5:50: integrations.crm.auth.password: "
        "the file does not exist; a relative path starts at the config file's folder"
    ]
    assert loaded.snapshot is not None
    assert loaded.snapshot.integrations["crm"].secrets.credential is None
    assert loaded.snapshot.integrations["sms"].secrets.credential is not None


@pytest.mark.parametrize(
    ("region", "valid"), [("region: europe-west1.gcp, ", True), ("region: 5, ", False), ("", False)]
)
def test_no_message_has_an_example_of_a_profile(tmp_path: Path, region: str, valid: bool) -> None:
    """Examples replace missing and invalid parameters. The domains are unknown then."""
    path = write(
        tmp_path,
        "version: 1\nintegrations:\n  shop:\n    endpoint_prefix: https://api.us-central1.gcp.commercetools.com/shop\n"
        f"    auth: {{type: oauth2, provider: commercetools, {region}client_id: id, client_secret: {{env: S}}}}\n"
        "    test: {path: /carts}\n",
    )
    loaded = load(path, {"S": "hunter2"})
    assert [error.path for error in loaded.errors] == ([] if valid else ["integrations.shop.auth.region"])
    assert loaded.of("unreadable") == []
    assert [warning.path for warning in loaded.warnings] == (["integrations.shop.endpoint_prefix"] if valid else [])


def test_invalid_file_of_a_folder_causes_no_error_of_a_caller(tmp_path: Path) -> None:
    """The caller's integration may be in that file."""
    (tmp_path / "a.yaml").write_text(
        "version: 1\ncallers: {billing: {token: {insecure_value: hunter2}, integrations: [crm]}}\n"
    )
    (tmp_path / "b.yaml").write_text("version: 1\nintegrations: {crm: [}\n")
    assert [error.file for error in load(tmp_path, {}).errors] == [str(tmp_path / "b.yaml")]


def test_errors_of_a_folder_are_in_the_order_of_files_and_lines(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("version: 1\nintegrations: {crm: 1}\nvia: 1\n")
    (tmp_path / "a.yaml").write_text("version: 1\nintegrations: {sms: 1}\nlog: 1\n")
    places = [(Path(error.file).name, error.line) for error in load(tmp_path, {}).errors]
    assert places == [("a.yaml", 2), ("a.yaml", 3), ("b.yaml", 2), ("b.yaml", 3)]


def test_invalid_caller_hides_no_duplicate_token(tmp_path: Path) -> None:
    token = "{token: {insecure_value: hunter2}}"
    path = write(tmp_path, f"version: 1\nvia: 1\ncallers:\n  a: {token}\n  b: {{}}\n  c: {token}\n")
    messages = [(error.line, error.message) for error in load(path, {}).errors]
    assert messages == [
        (2, "must be true or false"),
        (5, "needs token, certificate or jwt, which identifies the caller"),
        (6, "must differ from the token of caller a"),
    ]


def test_a_thousand_integrations_load_without_an_error(tmp_path: Path) -> None:
    """Each has its own policy and credential."""
    many = 1_000
    lines = [
        f"  crm-{n}:\n    endpoint_prefix: https://api{n}.example.com/v1\n"
        f"    auth: {{type: basic, username: svc{n}, password: {{env: SECRET}}}}\n"
        for n in range(many)
    ]
    loaded = load(write(tmp_path, "version: 1\nintegrations:\n" + "".join(lines)), {"SECRET": "hunter2"})
    assert loaded.snapshot is not None
    integrations = loaded.snapshot.integrations
    assert len({str(integration.base) for integration in integrations.values()}) == many
    assert len({integration.secrets.credential for integration in integrations.values()}) == many


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["5s", "64KiB", "basic", "headers", "oauth2", "https://api.example.com/v1", "hunter2", "*", "GET"]),
    st.fixed_dictionaries(
        {}, optional={key: st.just("hunter2") for key in ("file", "env", "insecure_value", "store", "inline", "url")}
    ),
)
ANYTHING = st.recursive(
    ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)


def mappings(*models: type[BaseModel]) -> st.SearchStrategy[object]:
    """Generate mappings with some of the models' keys and any values."""
    keys = {key: ANYTHING for model in models for key in model.model_fields}
    return st.fixed_dictionaries({}, optional=keys) | ANYTHING


def tagged(*members: type[BaseModel]) -> st.SearchStrategy[object]:
    """Generate the tag of a union's member, alone or with some of the members' keys."""
    tags = st.sampled_from([tag for member in members for tag in get_args(member.model_fields["type"].annotation)])
    return tags | st.tuples(tags, mappings(*members)).map(
        lambda both: {**both[1], "type": both[0]} if isinstance(both[1], dict) else both[1]
    )


OF_OAUTH2 = st.fixed_dictionaries(
    {},
    optional={
        "provider": st.sampled_from([*profiles.provider_names(), "comercetools", "acme"]),
        "token_request": mappings(TokenRequestSettings),
        "token_response": mappings(TokenResponseSettings),
        "token_placement": mappings(PlacementSettings) | st.sampled_from(["header", "body", "query"]),
        "grant": tagged(JwtBearerSettings, PasswordSettings, RefreshTokenSettings),
        "client_authentication": tagged(ClientSecretJwtSettings, HeaderSettings, PrivateKeyJwtSettings),
        **dict.fromkeys(profiles.parameter_properties("oauth2"), ANYTHING),
    },
)
AUTHS = mappings(*KINDS.values()) | st.tuples(mappings(*KINDS.values()), OF_OAUTH2).map(
    lambda keys: {**keys[0], **keys[1]} if isinstance(keys[0], dict) else keys[1]
)
INTEGRATIONS = st.tuples(
    mappings(IntegrationSettings),
    AUTHS,
    mappings(TestSettings),
    mappings(CertificateSettings),
    st.sampled_from(["", "oauth2", *KINDS]),
)
SECTIONS = {
    "listen": ListenSettings,
    "network": NetworkSettings,
    "timeouts": TimeoutSettings,
    "limits": LimitSettings,
    "log": LogSettings,
}


@given(
    mappings(GlobalSettings),
    st.fixed_dictionaries({}, optional={name: mappings(model) for name, model in SECTIONS.items()}),
    st.dictionaries(st.sampled_from(["crm", "sms", "A b"]), INTEGRATIONS, max_size=2),
    st.dictionaries(st.sampled_from(["billing", "B c"]), mappings(CallerSettings), max_size=2),
)
def test_any_document_loads_or_has_errors_without_secrets(
    tmp_path_factory: pytest.TempPathFactory,
    top: object,
    sections: dict[str, object],
    integrations: dict[str, tuple[object, object, object, object, str]],
    callers: dict[str, object],
) -> None:
    tree = dict(top) if isinstance(top, dict) else {"version": 1}
    tree |= sections
    tree |= {"callers": callers} if callers else {}
    tree["integrations"] = {}
    for name, (keys, auth, test, certificate, kind) in integrations.items():
        further = {"auth": auth, "test": test, "client_certificate": certificate}
        merged = {**keys, **further} if isinstance(keys, dict) else keys
        if kind and isinstance(merged, dict) and isinstance(auth, dict):
            merged["auth"] = {**auth, "type": kind}
        tree["integrations"][name] = merged
    path = tmp_path_factory.getbasetemp() / "anything.yaml"
    path.write_text(json.dumps(tree, ensure_ascii=False).replace("\x7f", ""), "utf-8")
    loaded = load(path, {})
    assert (loaded.snapshot is None) == bool(loaded.errors)
    assert "hunter2" not in "".join(error.message for error in loaded.of("error", "warning", "unreadable"))


@pytest.mark.parametrize(
    ("auth", "warned"),
    [
        ("type: headers, headers: {X-Key: {secret: {insecure_value: '12345678'}}}", False),
        ("type: headers, headers: {X-Key: {secret: {insecure_value: '1234567'}}}", True),
        ("type: headers, headers: {X-Key: public-text}", True),
        ("type: basic, username: svc, password: {insecure_value: '1'}", False),
        ("type: mtls, certificate: {file: none}, private_key: {file: none}", True),
        ("type: oauth2, token_endpoint: 'https://a.example.com/t', client_id: a, client_secret: {env: NONE}", False),
        ("type: headers, headers: {X-Key: {secret: {env: NONE}}}", False),
    ],
)
@pytest.mark.parametrize("redact", [True, False])
def test_redaction_without_a_long_secret_is_a_warning(auth: str, warned: bool, redact: bool, tmp_path: Path) -> None:
    """A secret that was not read yet may be long enough."""
    config = tmp_path / "c.yaml"
    config.write_text(
        "version: 1\nintegrations:\n  it:\n    endpoint_prefix: https://api.example.com/v1\n"
        f"    redact_response: {str(redact).lower()}\n    auth: {{{auth}}}\n"
    )
    loaded = load(config, {})
    assert loaded.errors == []
    text = "does nothing: no secret of 8 bytes or more is put into requests; remove this key"
    warnings = [str(warning) for warning in loaded.warnings if "redact_response" in warning.path]
    assert warnings == ([f"{config}:5:22: integrations.it.redact_response: {text}"] if warned and redact else [])
