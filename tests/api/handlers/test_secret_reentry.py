"""A stored secret stays only with its destination: the tests change each key of each kind and change it back."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from api.conftest import Named
from sidekey.config.models import IntegrationSettings
from sidekey.config.stored.document import merge_patch
from sidekey.credentials.registry import KINDS
from support.api import Api, ApiResponse
from support.key_edits import EDITS, HARMLESS_EDITS
from support.model_keys import keys_of_integrations
from support.stored import BASIC, CANARY
from support.transfer import every_kind, lasting_chain

NOT_OF_LOGINS = frozenset({"session.login.auth.provider", "session.login.auth.renewal_interval"})
"""Keys of a signed token that are not allowed in a login."""

EDITS_TO_THE_DEFAULT = frozenset({"redact_response", "oauth2.token_response.pin_base_url"})
"""Edits that set the default value of a key."""


def test_each_key_of_each_kind_has_an_edit() -> None:
    """A new key is either harmless or decides about the destination. In either case it needs an edit below.

    `provider` is exempt because the keys that its profile fills in decide. A certificate changes with its private key.
    """
    selected = [key for key in keys_of_integrations() if not key.secret and key.name not in NOT_OF_LOGINS]
    harmless = {key.name for key in selected if key.safe_to_change and not key.certificate}
    assert {name for name in harmless if not name.endswith(".provider")} == HARMLESS_EDITS.keys()
    assert {key.name for key in selected if not key.safe_to_change} == EDITS.keys()


def stored_secrets_in(document: Any, pointer: str = "") -> set[str]:
    """Return the JSON pointers of the stored secrets in a document that was read."""
    if isinstance(document, dict) and document.get("set") is True:
        return {pointer}
    if isinstance(document, dict | list):
        items = document.items() if isinstance(document, dict) else enumerate(document)
        return set().union(*(stored_secrets_in(value, f"{pointer}/{key}") for key, value in items))
    return set()


def inverse_of(patch: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch that undoes a patch of a document."""
    return {
        key: inverse_of(value, document[key])
        if isinstance(value, dict) and isinstance(document.get(key), dict)
        else document.get(key)
        for key, value in patch.items()
    }


def without(document: Any, key: str) -> Any:
    """Return a copy of a document without a key, named as in `EDITS`."""
    first, *rest = key.split(".")
    path = ["auth" if first in KINDS else first, *rest]
    copied = copy.deepcopy(document)
    inner = copied
    for part in path[:-1]:
        inner = inner[part]
    del inner[path[-1]]
    return copied


class Stored:
    """A stored integration that an editor reads and edits."""

    def __init__(self, api: Api, name: str, document: Mapping[str, Any]) -> None:
        self._api = api
        self._path = f"/integrations/{name}"
        api.create("/integrations", {"id": name, **document})

    def read(self) -> Any:
        return self._api.get(self._path)

    def replace(self, document: Any) -> ApiResponse:
        return self._api.request("PUT", self._path, document, match=f'"{document["version"]}"')

    def refuses(self, document: Any, *codes: str, patch: Any = None) -> None:
        """Check that Sidekey refuses a document, names each secret in it, and changes nothing.

        `patch` is the merge patch that turns the stored document into this one.
        """
        before = self.read()
        responses = [self.replace(document)]
        if patch is not None:
            responses.append(self._api.request("PATCH", self._path, patch, match=f'"{document["version"]}"'))
        for response in responses:
            assert (response.status, response.code in codes) == (422, True), response
            if response.code == "reenter":
                assert response.pointers == stored_secrets_in(document)
            assert CANARY.encode() not in response.body
        assert self.read() == before


@pytest.mark.parametrize("key", EDITS)
def test_change_of_a_key_that_decides_about_the_destination_needs_each_secret_again(
    editor: Api, named: Named, key: str
) -> None:
    """To set, change or remove the key has the same effect."""
    document, patch = EDITS[key]
    integration = Stored(editor, named("edited"), document)
    shown = integration.read()
    assert stored_secrets_in(merge_patch(shown, patch))
    if key.endswith(".type"):
        # The document may be invalid for the other kind.
        integration.refuses(merge_patch(shown, patch), "reenter", "invalid", patch=patch)
        return
    integration.refuses(merge_patch(shown, patch), "reenter", patch=patch)
    if key in EDITS_TO_THE_DEFAULT:
        return
    integration = Stored(editor, named("edited"), merge_patch(document, patch))
    shown = integration.read()
    integration.refuses(merge_patch(shown, inverse_of(patch, document)), "reenter")
    removed = without(shown, key)
    if stored_secrets_in(removed):
        integration.refuses(removed, "reenter", "invalid")


def test_redaction_can_be_enabled_without_the_secrets_but_not_disabled(editor: Api, named: Named) -> None:
    integration = Stored(editor, named("redacted"), BASIC)
    response = integration.replace({**integration.read(), "redact_response": True})
    assert (response.status, response.json["redact_response"]) == (200, True)
    integration.refuses({**integration.read(), "redact_response": False}, "reenter")
    integration.refuses(without(integration.read(), "redact_response"), "reenter")


@pytest.mark.parametrize("key", HARMLESS_EDITS)
def test_change_of_a_safe_key_keeps_all_secrets(editor: Api, named: Named, key: str) -> None:
    document, patch = HARMLESS_EDITS[key]
    integration = Stored(editor, named("harmless"), document)
    before = integration.read()
    for edit in (patch, inverse_of(patch, document)):
        response = integration.replace(merge_patch(integration.read(), edit))
        assert response.status == 200, response
        assert response.json["status"] == before["status"]
        assert stored_secrets_in(response.json) == stored_secrets_in(before)
    after = integration.read()
    assert after["version"] == 3
    assert [after.get(key) for key in IntegrationSettings.model_fields] == [
        before.get(key) for key in IntegrationSettings.model_fields
    ]


DOCUMENTS = every_kind(lasting_chain())
CERTIFICATES: dict[str, tuple[dict[str, Any], str, str]] = {
    "mtls": (DOCUMENTS["mtls"], "auth", "/auth/private_key"),
    "encrypted": (DOCUMENTS["encrypted"], "auth", "/auth/private_key"),
    "beside": (DOCUMENTS["beside"], "client_certificate", "/client_certificate/private_key"),
}


@pytest.mark.parametrize("name", CERTIFICATES)
def test_new_certificate_needs_its_key(editor: Api, named: Named, name: str) -> None:
    """Other secrets stay, because their destination does not change."""
    document, section, key = CERTIFICATES[name]
    integration = Stored(editor, named("certified"), document)
    patch = {section: {"certificate": {"inline": lasting_chain().pem.decode()}}}
    response = integration.replace(merge_patch(integration.read(), patch))
    assert (response.status, response.code, response.pointers) == (422, "reenter", {key})
