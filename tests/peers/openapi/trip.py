"""Create, read, change and delete an integration and a preset with the client that openapi-python-client generates.

The client is the package `client` in the current folder. Arguments: the address of the admin listener, an operator's
token, the prefix of the upstream.
"""

from __future__ import annotations

import sys
from typing import Any

sys.path.insert(0, "")
from client import AuthenticatedClient
from client.api.default import (
    create_integration,
    create_preset,
    delete_integration,
    delete_preset,
    get_integration,
    get_preset,
    list_integrations,
    patch_integration,
    patch_preset,
    preview_preset,
    replace_integration,
    replace_preset,
)
from client.models import (
    BasicSettings,
    BodySettings,
    EnteredSecret,
    Integration,
    IntegrationDocument,
    ListIntegrationsKind,
    NewIntegration,
    NewPreset,
    NewPresetParameters,
    Patch,
    Preset,
    PresetDocument,
    PresetPreview,
    PresetTrial,
    Problem,
)

ID = "by-python"
address, token, prefix = sys.argv[1:]
api = AuthenticatedClient(address, token, raise_on_unexpected_status=True)


def tag(response: Any) -> str:
    """Return the ETag of a response."""
    return str(response.headers["ETag"])


auth = BasicSettings(type_="basic", username=EnteredSecret("svc"), password=EnteredSecret("canary"))
integration = NewIntegration(id=ID, endpoint_prefix=prefix, auth=auth)
created = create_integration.sync_detailed(client=api, body=integration)
assert isinstance(created.parsed, Integration), created
assert (created.status_code, created.parsed.status) == (201, "ok")
again = create_integration.sync(client=api, body=integration)
assert isinstance(again, Problem), again
assert again.code == "exists"
read = get_integration.sync_detailed(ID, client=api)
assert isinstance(read.parsed, Integration), read
assert isinstance(read.parsed.auth, BasicSettings)
assert tag(read) == tag(created)

# A document that was read can be sent back: its secrets are kept.
document = IntegrationDocument.from_dict({**read.parsed.to_dict(), "description": "replaced"})
replaced = replace_integration.sync_detailed(ID, client=api, body=document, if_match=tag(read))
assert isinstance(replaced.parsed, Integration), replaced
assert (replaced.parsed.description, replaced.parsed.version) == ("replaced", 2)
patch = Patch.from_dict({"tags": ["patched"]})
old = patch_integration.sync_detailed(ID, client=api, body=patch, if_match=tag(created))
assert old.status_code == 412
patched = patch_integration.sync_detailed(ID, client=api, body=patch, if_match=tag(replaced))
assert isinstance(patched.parsed, Integration), patched
assert patched.parsed.tags == ["patched"]
listed = list_integrations.sync(client=api, tag="patched", kind=ListIntegrationsKind.BASIC)
assert [each.id for each in listed.items] == [ID]  # type: ignore[union-attr]

preset = NewPreset(
    id=ID,
    integration=ID,
    url=f"{prefix}/users/{{{{user}}}}",
    parameters=NewPresetParameters.from_dict({"user": {"type": "text"}}),
    body=BodySettings(json={"text": "Hello {{user}}"}),
)
made = create_preset.sync_detailed(client=api, body=preset)
assert isinstance(made.parsed, Preset), made
assert (made.status_code, made.parsed.url) == (201, preset.url)
shown = preview_preset.sync(ID, client=api, body=PresetTrial.from_dict({"parameters": {"user": "ann"}}))
assert isinstance(shown, PresetPreview), shown
assert shown.request.url == f"{prefix}/users/ann"  # type: ignore[union-attr]
used = delete_integration.sync(ID, client=api, if_match="*")
assert isinstance(used, Problem), used
assert used.code == "in_use"
shown_preset = get_preset.sync_detailed(ID, client=api)
assert isinstance(shown_preset.parsed, Preset), shown_preset
preset_document = PresetDocument.from_dict({**shown_preset.parsed.to_dict(), "description": "replaced"})
renamed = replace_preset.sync_detailed(ID, client=api, body=preset_document, if_match=tag(shown_preset))
assert isinstance(renamed.parsed, Preset), renamed
assert renamed.parsed.description == "replaced"
changed = patch_preset.sync_detailed(ID, client=api, body=patch, if_match=tag(renamed))
assert isinstance(changed.parsed, Preset), changed
assert changed.parsed.version == 3
assert delete_preset.sync_detailed(ID, client=api, if_match=tag(changed)).status_code == 204
assert delete_integration.sync_detailed(ID, client=api, if_match=tag(patched)).status_code == 204
for response in (get_preset.sync_detailed(ID, client=api), get_integration.sync_detailed(ID, client=api)):
    assert response.status_code == 404
