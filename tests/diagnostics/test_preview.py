"""What a preset makes of what callers send, with the credential named. More: test_preset_command.py, admin/api."""

from __future__ import annotations

import pytest

from sidekey.credentials.base import CredentialTraits, InjectionPoints
from sidekey.diagnostics.preview import preview
from sidekey.presets.preset import OVERSIZED
from sidekey.snapshot.request_rules import Limits
from sidekey.snapshot.snapshot import Preset, Snapshot
from support.plane import base_url, integration
from support.presets import preset


def snapshot(*presets: Preset, traits: CredentialTraits | None = None, limits: Limits | None = None) -> Snapshot:
    """One integration, and presets of it."""
    served = integration("h", base_url(1)) if traits is None else integration("h", base_url(1), traits=traits)
    return Snapshot({"h": served}, presets={each.id: each for each in presets}, limits=limits or Limits())


def test_every_place_of_a_credential_is_named() -> None:
    """Headers, parameters of the query and of the body."""
    made = preset(url=base_url(1, "/api/hook?a=1"), content_type="text/x")
    places = InjectionPoints(headers=("X-Key",), query=("key",), body=("token",))
    shown = preview(snapshot(made, traits=CredentialTraits(places)), made, b"x")
    assert shown.credential == {"headers": ["X-Key"], "query": ["key"], "body": ["token"]}
    assert shown.headers == (("X-Key", "[credential]"), ("Content-Type", "text/x"))
    assert (shown.url, shown.body) == (base_url(1, "/api/hook?a=1"), b"x")


def test_what_the_limits_do_not_let_in_is_not_filled() -> None:
    """As the data plane has it, before anything is read."""
    made = preset(parameters={"a": {"type": "text"}}, body={"json": "{{a}}"})
    small = snapshot(made, limits=Limits(preset_parameters=16))
    assert preview(small, made, b'{"a": "0123456"}').problem is None
    assert preview(small, made, b'{"a": "01234567"}').problem == OVERSIZED


@pytest.mark.parametrize(("sent", "code"), [("", None), ("text/x; a=b", None), ("text/y", "content_type_denied")])
def test_the_content_type_is_judged_as_a_callers(sent: str, code: str | None) -> None:
    """It may bring what the preset leaves open."""
    made = preset(content_type="text/x")
    shown = preview(snapshot(made), made, b"", sent)
    assert (None if shown.problem is None else shown.problem.code) == code
    if code is None:
        assert shown.headers[-1] == ("Content-Type", sent or "text/x")
