"""api/integration_rows.py: presets that use an integration prevent its deletion and some edits."""

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
    """A snapshot in which these presets use an integration `h`."""
    return Snapshot({"h": FITTING}, presets=PresetChecker()({preset.id: preset for preset in presets}, {"h": FITTING}))


def row(name: str, integration_id: str = "h") -> PresetRow:
    document = f'{{"integration":"{integration_id}","url":"{base_url(1, "/api/x")}","content_type":"text/plain"}}'
    return PresetRow(row_id=f"row-of-{name}", id=name, document=document)


def test_presets_of_an_integration_include_those_not_served() -> None:
    """Altered rows and presets of other integrations do not count."""
    served = row("served")
    rows = [served, row("later"), row("others", "sms"), replace(row("altered"), verified=False)]
    rows.append(replace(row("broken"), document="{"))
    state = State(presets={row.id: row for row in rows})
    in_use = snapshot(preset("of-a-file"), build_preset(served))
    assert presets_of("h", state, in_use) == ["later", "of-a-file", "served"]
    assert presets_of("other", state, in_use) == []
    refuse_deletion("other", state, in_use)
    with pytest.raises(ApiProblem) as refused:
        refuse_deletion("h", state, in_use)
    assert (refused.value.code, refused.value.presets) == ("in_use", ("later", "of-a-file", "served"))
    assert refused.value.detail.startswith("presets later, of-a-file, served use it: ")


def test_detail_names_at_most_ten_presets() -> None:
    in_use = snapshot(*(preset(f"p{number:03}") for number in range(MAX_ERRORS + 1)))
    with pytest.raises(ApiProblem) as refused:
        refuse_deletion("h", EMPTY, in_use)
    assert len(refused.value.presets) == MAX_ERRORS
    assert f"p009 and {MAX_ERRORS - 9} more use it" in refused.value.detail


def test_edit_that_makes_a_preset_unusable_is_refused() -> None:
    """Presets that are already unusable do not count: a repair may need several steps."""
    outside = preset("outside", base_url(1, "/third"))
    refuse_edit(FITTING, snapshot(preset(), outside))
    refuse_edit(ELSEWHERE, snapshot(outside))
    with pytest.raises(ApiProblem) as refused:
        refuse_edit(ELSEWHERE, snapshot(preset(), outside))
    assert (refused.value.code, refused.value.presets) == ("in_use", ("hook",))
    (error,) = refused.value.errors
    assert error.detail.startswith("preset hook: must be allowed by integration h")
