"""Previews of presets: limits, content types, and the location of the credential."""

from __future__ import annotations

import pytest

from sidekey.credentials.base import CredentialTraits, InjectionPoints
from sidekey.diagnostics.preview import preview
from sidekey.presets.preset import PARAMETERS_TOO_LARGE
from sidekey.snapshot.request_rules import Limits
from sidekey.snapshot.snapshot import Preset, Snapshot
from support.plane import base_url, integration
from support.presets import preset


def snapshot(*presets: Preset, traits: CredentialTraits | None = None, limits: Limits | None = None) -> Snapshot:
    """Build a snapshot of one integration and its presets."""
    served = integration("h", base_url(1)) if traits is None else integration("h", base_url(1), traits=traits)
    return Snapshot({"h": served}, presets={preset.id: preset for preset in presets}, limits=limits or Limits())


def test_headers_query_and_body_of_the_credential_are_named() -> None:
    draft = preset(url=base_url(1, "/api/hook?a=1"), content_type="text/x")
    places = InjectionPoints(headers=("X-Key",), query=("key",), body=("token",))
    shown = preview(snapshot(draft, traits=CredentialTraits(places)), draft, b"x")
    assert shown.credential == {"headers": ["X-Key"], "query": ["key"], "body": ["token"]}
    assert shown.headers == (("X-Key", "[credential]"), ("Content-Type", "text/x"))
    assert (shown.url, shown.body) == (base_url(1, "/api/hook?a=1"), b"x")


def test_oversized_parameters_are_not_parsed() -> None:
    draft = preset(parameters={"a": {"type": "text"}}, body={"json": "{{a}}"})
    small = snapshot(draft, limits=Limits(preset_parameters=16))
    assert preview(small, draft, b'{"a": "0123456"}').problem is None
    assert preview(small, draft, b'{"a": "01234567"}').problem == PARAMETERS_TOO_LARGE


@pytest.mark.parametrize(("sent", "code"), [("", None), ("text/x; a=b", None), ("text/y", "content_type_denied")])
def test_content_type_is_checked(sent: str, code: str | None) -> None:
    draft = preset(content_type="text/x")
    shown = preview(snapshot(draft), draft, b"", sent)
    assert (None if shown.problem is None else shown.problem.code) == code
    if code is None:
        assert shown.headers[-1] == ("Content-Type", sent or "text/x")
