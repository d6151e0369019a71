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
duplicate = create_integration.sync(client=api, body=integration)
assert isinstance(duplicate, Problem), duplicate
assert duplicate.code == "exists"
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
conflict = patch_integration.sync_detailed(ID, client=api, body=patch, if_match=tag(created))
assert conflict.status_code == 412
patched = patch_integration.sync_detailed(ID, client=api, body=patch, if_match=tag(replaced))
assert isinstance(patched.parsed, Integration), patched
assert patched.parsed.tags == ["patched"]
listed = list_integrations.sync(client=api, tag="patched", kind=ListIntegrationsKind.BASIC)
assert [item.id for item in listed.items] == [ID]  # type: ignore[union-attr]

preset = NewPreset(
    id=ID,
    integration=ID,
    url=f"{prefix}/users/{{{{user}}}}",
    parameters=NewPresetParameters.from_dict({"user": {"type": "text"}}),
    body=BodySettings(json={"text": "Hello {{user}}"}),
)
created_preset = create_preset.sync_detailed(client=api, body=preset)
assert isinstance(created_preset.parsed, Preset), created_preset
assert (created_preset.status_code, created_preset.parsed.url) == (201, preset.url)
preview = preview_preset.sync(ID, client=api, body=PresetTrial.from_dict({"parameters": {"user": "ann"}}))
assert isinstance(preview, PresetPreview), preview
assert preview.request.url == f"{prefix}/users/ann"  # type: ignore[union-attr]
refused_deletion = delete_integration.sync(ID, client=api, if_match="*")
assert isinstance(refused_deletion, Problem), refused_deletion
assert refused_deletion.code == "in_use"
read_preset = get_preset.sync_detailed(ID, client=api)
assert isinstance(read_preset.parsed, Preset), read_preset
preset_document = PresetDocument.from_dict({**read_preset.parsed.to_dict(), "description": "replaced"})
replaced_preset = replace_preset.sync_detailed(ID, client=api, body=preset_document, if_match=tag(read_preset))
assert isinstance(replaced_preset.parsed, Preset), replaced_preset
assert replaced_preset.parsed.description == "replaced"
patched_preset = patch_preset.sync_detailed(ID, client=api, body=patch, if_match=tag(replaced_preset))
assert isinstance(patched_preset.parsed, Preset), patched_preset
assert patched_preset.parsed.version == 3
assert delete_preset.sync_detailed(ID, client=api, if_match=tag(patched_preset)).status_code == 204
assert delete_integration.sync_detailed(ID, client=api, if_match=tag(patched)).status_code == 204
for response in (get_preset.sync_detailed(ID, client=api), get_integration.sync_detailed(ID, client=api)):
    assert response.status_code == 404
