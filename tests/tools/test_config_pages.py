import re
from functools import cache
from pathlib import Path

import pytest

from sidekey.config import profiles
from sidekey.config.load import load
from sidekey.config.models import Config, IntegrationSettings
from sidekey.credentials.oauth2.client_authentication import (
    ClientSecretJwtSettings,
    HeaderSettings,
    PrivateKeyJwtSettings,
)
from sidekey.credentials.oauth2.grant_types import (
    CustomGrantSettings,
    JwtBearerSettings,
    PasswordSettings,
    RefreshTokenSettings,
)
from sidekey.credentials.oauth2.settings import OAuth2Settings
from sidekey.credentials.oauth2.token_request import TokenRequestSettings
from sidekey.credentials.oauth2.token_response import TokenResponseSettings
from sidekey.credentials.registry import KINDS as AUTH_KINDS
from sidekey.credentials.responsys import ResponsysSettings
from sidekey.errors import RESPONSE_KINDS
from tools import config_pages

ROOT = Path(__file__).parents[2]
config_page, providers_page = cache(config_pages.config_page), cache(config_pages.providers_page)
errors_page = cache(config_pages.errors_page)
EXAMPLES = sorted((ROOT / "config").glob("*.yaml"))


@pytest.mark.parametrize("key", [*Config.model_fields, *IntegrationSettings.model_fields])
def test_every_key_has_a_row_with_a_meaning(key: str) -> None:
    (row, *_) = [line for line in config_page().splitlines() if line.startswith(f"| `{key}` |")]
    assert row.split("|")[4].strip()


@pytest.mark.parametrize("code", RESPONSE_KINDS)
def test_every_error_has_a_row_with_its_statuses(code: str) -> None:
    (row,) = [line for line in errors_page().splitlines() if line.startswith(f"| [`{code}`](#{code}) |")]
    assert all(str(status) in row for status in RESPONSE_KINDS[code].statuses)
    assert all(error in row for error in RESPONSE_KINDS[code].errors)


@pytest.mark.parametrize("name", profiles.provider_names())
def test_every_profile_has_a_section(name: str) -> None:
    """The section has parameters, secrets, additions, sources and documentation."""
    profile = profiles.profile(name)
    section = providers_page().partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    assert f"({profile.documentation})" in section
    assert all(f"\n| `{key}` |" in section for key in profile.names)
    for _, text in profile.entries():
        assert f"| `{text}` |" in section
    assert all(source in section for source in profile.sources)
    test = "" if profile.test is None else f"`{profile.test.method} {profile.test.path}`"
    assert (f"\nTest request: {test}.\n" in section) is (profile.test is not None)
    category = providers_page().partition(f"\n## {profile.category[0].upper()}{profile.category[1:]}\n")[2]
    row = f"| [`{name}`](#{name}) | {profile.title} | {', '.join(profile.aliases)} | `{profile.kind}` | {test} |"
    assert row in category.partition("\n## ")[0]
    assert (f"[{profile.title}](#{name})" in providers_page()) is profile.popular


def test_entries_with_fewer_than_two_sources_are_in_one_table() -> None:
    """A profile with fewer than two sources has at least one such entry."""
    page = providers_page().partition("## Entries with fewer than two sources")[2].partition("\n## ")[0]
    for name in profiles.provider_names():
        profile = profiles.profile(name)
        for fact, grounds in profile.unconfirmed.items():
            assert f"| [`{name}`](#{name}) | {fact} | {grounds} |" in page
        assert len(profile.sources) >= 2 or profile.unconfirmed


@pytest.mark.parametrize(
    ("section", "keys"),
    [
        ("auth, type oauth2", set(OAuth2Settings.model_fields)),
        ("auth.token_request, type oauth2", set(TokenRequestSettings.model_fields)),
        ("auth.token_response, type oauth2", set(TokenResponseSettings.model_fields)),
        ("auth.token_placement, type oauth2", {"in", "name", "scheme", "prefix"}),
        ("auth.grant, type refresh_token", set(RefreshTokenSettings.model_fields) - {"type"}),
        ("auth.grant, type password", set(PasswordSettings.model_fields) - {"type"}),
        ("auth.grant, type jwt_bearer", set(JwtBearerSettings.model_fields) - {"type"}),
        ("auth.grant, type custom", set(CustomGrantSettings.model_fields) - {"type"}),
        ("auth.client_authentication, type header", set(HeaderSettings.model_fields) - {"type"}),
        ("auth.client_authentication, type private_key_jwt", set(PrivateKeyJwtSettings.model_fields) - {"type"}),
        ("auth.client_authentication, type client_secret_jwt", set(ClientSecretJwtSettings.model_fields) - {"type"}),
        ("auth, type responsys", set(ResponsysSettings.model_fields)),
    ],
)
def test_each_mapping_of_a_kind_has_a_section_with_exactly_its_keys(section: str, keys: set[str]) -> None:
    text = config_page().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.M)) == keys


def test_example_of_each_kind_with_profiles_loads(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```", providers_page(), re.M | re.S)
    assert block.count("provider:") == len([name for name in AUTH_KINDS if profiles.supports_profiles(name)])
    (tmp_path / "sidekey.yaml").write_text(f"version: 1\n{block}")
    assert load(tmp_path / "sidekey.yaml", {}).errors == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_config_loads_without_its_secrets(path: Path) -> None:
    loaded = load(path, {})
    assert [str(error) for error in loaded.errors] == []
    assert loaded.snapshot is not None
    assert loaded.snapshot.integrations


def test_first_example_runs_on_a_fresh_clone() -> None:
    """Every secret is readable, and both listeners are local."""
    loaded = load(ROOT / "config" / "example.yaml", {})
    assert loaded.of("unreadable") == []
    assert loaded.snapshot is not None
    assert {str(loaded.snapshot.listen.proxy), str(loaded.snapshot.listen.admin)} == {
        "127.0.0.1:8080",
        "127.0.0.1:9090",
    }
    assert all(integration.secrets.credential for integration in loaded.snapshot.integrations.values())


def test_examples_load_as_one_folder() -> None:
    """`--config config` loads the folder."""
    assert load(ROOT / "config", {}).errors == []


def test_table_has_the_safe_keys_of_every_kind() -> None:
    page = config_pages.safe_to_change_table()
    assert "| auth, type basic | `provider` |" in page
    assert "`grant.rotates`, `grant.key_id`, `grant.certificate`, `client_id`" in page
    assert "| auth, type headers | `query`, `body`, `provider` |" in page
    assert "| add |" not in page
    freely = "`title`, `description`, `tags`, `methods`, `limits.in_flight`, `upgrade`, `test.method`, `test.path`"
    assert f"| the integration | {freely} |" in page
