"""Makes the row of a preset of the document that was sent, or says all that is wrong with it. In a thread."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sidekey.admin.api.collection import Saving
from sidekey.admin.api.preset_documents import ABOUT
from sidekey.admin.api.problems import ApiProblem, ItemError, invalid
from sidekey.admin.api.saving import document_in
from sidekey.runtime.snapshot import Snapshot
from sidekey.settings.stored.document import MalformedError, merge_patch
from sidekey.settings.stored.presets import PresetDraft, document_of, prepare_preset
from sidekey.settings.stored.rows import Made, saved_preset
from sidekey.settings.stored.saving import Invalid
from sidekey.store.records import PresetRow


def preset_draft_of(
    name: str, sent: Mapping[str, Any], snapshot: Snapshot, wrong: Sequence[ItemError] = ()
) -> PresetDraft:
    """A preset that may be saved, of what was sent. Raises ApiProblem with all that is wrong.

    That its integration can be used now is part of it. `wrong` is known already.
    """
    found = prepare_preset(name, document_in(sent, ABOUT), snapshot.integrations, time.time(), require_fetched=True)
    errors = [*wrong, *(ItemError(*each) for each in (found.errors if isinstance(found, Invalid) else ()))]
    if errors or isinstance(found, Invalid):
        raise invalid(errors)
    return found


class PresetSaving(Saving[PresetRow]):
    """Makes the row of a preset, named `name`. `wrong` is what is wrong already; `by` is who sends it."""

    def __init__(
        self, snapshot: Snapshot, name: str, row: PresetRow | None, *, wrong: Sequence[ItemError], by: str
    ) -> None:
        super().__init__(row)
        self._snapshot = snapshot
        self._name = name
        self._wrong = wrong
        self._by = by

    def written(self, sent: Mapping[str, Any]) -> Made[PresetRow]:
        """Of a whole document."""
        draft = preset_draft_of(self._name, sent, self._snapshot, self._wrong)
        return saved_preset(self._name, draft, self.row, by=self._by, now=int(time.time()))

    def patched(self, sent: Mapping[str, Any]) -> Made[PresetRow]:
        """Of what is stored after a merge patch."""
        try:
            former = {} if self.row is None else document_of(self.row)
        except MalformedError:
            raise ApiProblem("invalid", "what is stored cannot be read: send the whole document by PUT") from None
        # No value of a preset is a secret that reads as another.
        return self.written(merge_patch(former, document_in(sent, ABOUT), lambda _: False))
