"""admin/console/form/forms.py: which fields come first, for every kind and every provider."""

from __future__ import annotations

from itertools import groupby

import pytest

from sidekey.admin.console.form.fields import every
from sidekey.admin.console.form.forms import form_for, section_of
from sidekey.credentials.registry import KINDS
from sidekey.settings import profiles

FIRST = {
    "aws_sigv4": ["endpoint_prefix", "region", "service", "access_key_id", "secret_access_key"],
    "basic": ["endpoint_prefix", "username", "password"],
    "headers": ["endpoint_prefix", "headers", "query", "body"],
    "jwt": ["endpoint_prefix", "algorithm", "private_key", "secret", "key_id", "claims"],
    "mtls": ["endpoint_prefix", "certificate", "private_key"],
    "oauth2": ["token_endpoint", "client_id", "client_secret"],
    "responsys": ["login_endpoint", "username", "password"],
    "session": ["login", "token"],
    "signature": ["endpoint_prefix", "scheme", "algorithm", "secret", "signed", "headers", "key"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_needed_comes_first(kind: str) -> None:
    """And every key once."""
    form = form_for(kind)
    assert [field.key for field in form.first] == FIRST[kind]
    pointers = [field.pointer for field in form.fields]
    assert len(pointers) == len(set(pointers))
    assert [field.key for field in form.more][:3] == ["description", "tags", "test"]


@pytest.mark.parametrize("provider", profiles.names())
def test_a_provider_asks_for_its_parameters_and_none_of_others(provider: str) -> None:
    """Those it must have come first, in its own words."""
    profile = profiles.profile(provider)
    form = form_for(profile.kind, provider)
    first = {field.key: field for field in form.first}
    for name, parameter in profile.parameters.items():
        if parameter.required and parameter.default is None and not parameter.defaults:
            assert first[name].required
            assert parameter.description in first[name].help
    foreign = {name for each in profiles.names() for name in profiles.profile(each).parameters}
    foreign -= set(profile.parameters) | set(KINDS[profile.kind].model_fields)
    assert not foreign & {field.key for field in form.fields}


def test_fields_that_count_only_with_another_value_say_so() -> None:
    when = form_for("oauth2").when
    assert when["/auth/refresh_token"] == (("/auth/grant", ("refresh_token",)),)
    pointers = {field.pointer for field in every(form_for("oauth2").fields)}
    assert {*when, *(other for conditions in when.values() for other, _ in conditions)} <= pointers


def test_a_profile_that_has_chosen_the_grant_asks_for_what_that_needs() -> None:
    """A key to sign with, and no secret; or the refresh token beside the secret."""
    first = [field.key for field in form_for("oauth2", "google-service-account").first]
    assert first == ["service_account", "scope", "api", "assertion"]
    assert "refresh_token" in [field.key for field in form_for("oauth2", "acoustic-campaign").first]


@pytest.mark.parametrize("kind", KINDS)
def test_what_may_be_left_as_it_is_stands_in_sections(kind: str) -> None:
    """Each is one, in one piece."""
    titles = [section_of(field) for field in form_for(kind).more]
    assert [title for title, _ in groupby(titles)] == [*dict.fromkeys(titles)]


def test_a_certificate_is_asked_for_once() -> None:
    assert "client_certificate" not in {field.key for field in form_for("mtls").fields}
    assert "client_certificate" in {field.key for field in form_for("basic").fields}


def test_a_profile_of_one_key_asks_for_that_key_alone() -> None:
    """In the profile's words; where it sends is known, and may be set otherwise."""
    form = form_for("headers", "klaviyo")
    assert [(each.key, each.widget, each.required) for each in form.first] == [("key", "secret", True)]
    assert form.first[0].help == profiles.profile("klaviyo").secrets["key"]
    prefix = next(each for each in form.more if each.key == "endpoint_prefix")
    assert not prefix.required
    assert prefix.help.endswith("Left empty: `https://a.klaviyo.com`.")
    assert "headers" in {each.key for each in form.more}


def test_a_profile_of_a_user_and_a_key_asks_for_what_it_does_not_bring() -> None:
    """Its parameters come first, as everywhere."""
    assert [each.key for each in form_for("basic", "mailchimp").first] == ["dc", "key"]
    assert [each.key for each in form_for("basic", "segment").first] == ["write_key"]
    assert [each.key for each in form_for("basic", "dotdigital").first] == ["region", "username", "password"]
    assert [each.key for each in form_for("jwt", "app-store-connect").first] == ["issuer_id", "private_key", "key_id"]
    assert [each.key for each in form_for("session", "yotpo").first] == ["store_id", "api_secret"]
    assert [(each.key, each.widget) for each in form_for("session", "github-app").first] == [
        ("app_client_id", "text"),
        ("installation_id", "text"),
        ("app_private_key", "pem"),
    ]
    by_hand = {each.key: each.required for each in form_for("basic").first}
    assert by_hand == {"endpoint_prefix": True, "username": True, "password": False}


def test_no_form_asks_for_the_secrets_of_another_profile() -> None:
    """Each has its own."""
    keys = {each.key for each in form_for("headers").fields}
    assert keys.isdisjoint(key for name in profiles.names_of("headers") for key in profiles.profile(name).secrets)


def test_what_is_hidden_by_a_choice_within_a_group_does_not_count() -> None:
    """A signature that is not chosen has no further keys, and a login only those of how it is authenticated."""
    form = form_for("session")
    hidden = form.hidden({})
    assert {"/signature/secret", "/signature/components", "/auth/login/auth/password"} <= hidden
    chosen = form.hidden({"/signature/scheme": "custom", "/auth/login/auth/type": "basic"})
    assert not {"/signature/secret", "/signature/signed", "/auth/login/auth/password"} & chosen
    assert {"/signature/components", "/auth/login/auth/claims"} <= chosen


def test_a_login_by_a_jwt_asks_for_the_key_of_its_algorithm_alone() -> None:
    """And for neither while it is authenticated otherwise, whatever algorithm was chosen before."""
    form = form_for("session")
    keys = {f"/auth/login/auth/{key}" for key in ("private_key", "secret", "secret_encoding")}
    jwt = {"/auth/login/auth/type": "jwt"}
    algorithm = "/auth/login/auth/algorithm"
    assert keys - form.hidden({**jwt, algorithm: "ES256"}) == {"/auth/login/auth/private_key"}
    assert keys - form.hidden({**jwt, algorithm: "HS256"}) == keys - {"/auth/login/auth/private_key"}
    for chosen in (jwt, {algorithm: "ES256"}, {"/auth/login/auth/type": "basic", algorithm: "HS256"}):
        assert keys <= form.hidden(chosen)
