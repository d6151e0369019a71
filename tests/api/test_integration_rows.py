"""api/integration_rows.py: presets that use an integration are named, also those that are not served."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidekey.api.errors import ApiProblem
from sidekey.api.integration_rows import presets_of, refuse_deletion, refuse_edit
from sidekey.config.build.presets import PresetChecker
from sidekey.config.errors import MAX_ERRORS
from sidekey.config.stored.presets import build_preset
from sidekey.snapshot.snapshot import Preset, Snapshot
from sidekey.store.records import PresetRow
from sidekey.store.state import State
from support.plane import base_url, integration
from support.presets import preset

FITTING = integration("h", base_url(1, "/api"))
ELSEWHERE = integration("h", base_url(1, "/other"))
EMPTY = State()


def snapshot(*presets: Preset) -> Snapshot:
    """One in which these are used with an integration `h`."""
    return Snapshot({"h": FITTING}, presets=PresetChecker()({each.id: each for each in presets}, {"h": FITTING}))


def row(name: str, of: str = "h") -> PresetRow:
    document = f'{{"integration":"{of}","url":"{base_url(1, "/api/x")}","content_type":"text/plain"}}'
    return PresetRow(row=f"row-of-{name}", id=name, document=document)


def test_what_uses_an_integration_is_found_wherever_it_is() -> None:
    """Of files, stored, or not in use yet; not what was altered, or names another."""
    served = row("served")
    rows = [served, row("later"), row("others", "sms"), replace(row("altered"), verified=False)]
    rows.append(replace(row("broken"), document="{"))
    state = State(presets={each.id: each for each in rows})
    found = snapshot(preset("of-a-file"), build_preset(served))
    assert presets_of("h", state, found) == ["later", "of-a-file", "served"]
    assert presets_of("other", state, found) == []
    refuse_deletion("other", state, found)
    with pytest.raises(ApiProblem) as refused:
        refuse_deletion("h", state, found)
    assert (refused.value.code, refused.value.presets) == ("in_use", ("later", "of-a-file", "served"))
    assert refused.value.detail.startswith("presets later, of-a-file, served use it: ")


def test_a_response_names_some_of_very_many() -> None:
    """It stays short."""
    found = snapshot(*(preset(f"p{number:03}") for number in range(MAX_ERRORS + 1)))
    with pytest.raises(ApiProblem) as refused:
        refuse_deletion("h", EMPTY, found)
    assert len(refused.value.presets) == MAX_ERRORS
    assert f"p009 and {MAX_ERRORS - 9} more use it" in refused.value.detail


def test_an_edit_is_refused_for_what_could_not_be_used_any_more_alone() -> None:
    """What cannot be used now is no reason: who puts that right may have to do several steps."""
    outside = preset("outside", base_url(1, "/third"))
    refuse_edit(FITTING, snapshot(preset(), outside))
    refuse_edit(ELSEWHERE, snapshot(outside))
    with pytest.raises(ApiProblem) as refused:
        refuse_edit(ELSEWHERE, snapshot(preset(), outside))
    assert (refused.value.code, refused.value.presets) == ("in_use", ("hook",))
    (error,) = refused.value.errors
    assert error.detail.startswith("preset hook: must be allowed by integration h")
