"""Makes the row of an integration of the document that was sent, or says all that is wrong with it. In a thread."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sidekey.admin.api.collection import Saving
from sidekey.admin.api.problems import ApiProblem, ItemError, invalid, listed
from sidekey.admin.api.standings import served
from sidekey.admin.api.uses import refuse_edit
from sidekey.runtime.snapshot import Snapshot, Stored
from sidekey.settings.stored.document import LARGEST
from sidekey.settings.stored.opening import Vault
from sidekey.settings.stored.overlaps import overlap_of
from sidekey.settings.stored.rows import Made, former_of, saved_row
from sidekey.settings.stored.saving import DocumentError, Draft, Former, assess
from sidekey.settings.stored.source import build_draft, build_unserved
from sidekey.store.records import IntegrationRow


def enter_again(again: Iterable[DocumentError]) -> list[ItemError]:
    """Return the errors of stored secrets that must be sent again."""
    return [ItemError(each.pointer, f"must be sent again, since {each.detail}") for each in again]


def draft_of(
    document: Mapping[str, Any], former: Former | None, snapshot: Snapshot, wrong: Sequence[ItemError] = ()
) -> Draft:
    """A document that may be saved. Raises ApiProblem with all that is wrong with it, of which `wrong` is known."""
    found = assess(document, former, in_flight=snapshot.limits.in_flight, now=time.time())
    errors = [*wrong, *(ItemError(*each) for each in found.errors)]
    again = enter_again(found.again)
    if errors:
        raise invalid([*errors, *again])
    if found.draft is None:
        detail = "the place or destination of secrets has changed: enter them again, see errors"
        raise ApiProblem("reenter", detail, errors=listed(again))
    return found.draft


def overlap_in(snapshot: Snapshot, name: str, draft: Draft) -> str | None:
    """Why a draft may not be saved beside what else is served; None: it may."""
    if draft.kept or snapshot.matching is None:
        # What is kept is for the same destination as before, so that the targets are the same, too.
        return None
    integration = build_draft(name, draft, snapshot.stored or Stored(), time.time())
    found = overlap_of(snapshot, integration)
    if found is None:
        return None
    other = found.second if found.first == name else found.first
    return f"integration {other} covers {found.where} as well, and one caller lists both: narrow one of them"


def _size_errors(document: Mapping[str, Any]) -> Iterator[ItemError]:
    """Refuse a document that is larger after a patch than any that can be sent: nobody could send it back."""
    if len(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()) > LARGEST:
        yield ItemError("", f"must have at most {LARGEST >> 10} KiB after the patch")


class IntegrationSaving(Saving[IntegrationRow]):
    """Makes the row of an integration, named `name`.

    `wrong` is what is wrong already; `by` is who sends it.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        vault: Vault,
        name: str,
        row: IntegrationRow | None,
        *,
        wrong: Sequence[ItemError],
        by: str,
    ) -> None:
        super().__init__(row)
        self._snapshot = snapshot
        self._vault = vault
        self._name = name
        self._wrong = wrong
        self._by = by

    def written(self, document: Mapping[str, Any]) -> Made[IntegrationRow]:
        """Make the row of a whole document."""
        return self._saved(document, former_of(self.row), self._wrong)

    def patched(self, patch: Mapping[str, Any]) -> Made[IntegrationRow]:
        """Make the row of the stored document with a merge patch."""
        former = former_of(self.row)
        if former is None:
            raise ApiProblem("invalid", "what is stored cannot be read: send the whole document by PUT")
        document = former.patched(patch)
        return self._saved(document, former, [*self._wrong, *_size_errors(document)])

    def _saved(
        self, document: Mapping[str, Any], former: Former | None, wrong: Sequence[ItemError]
    ) -> Made[IntegrationRow]:
        draft = draft_of(document, former, self._snapshot, wrong)
        overlap = overlap_in(self._snapshot, self._name, draft)
        if overlap is not None:
            raise ApiProblem("overlaps", overlap)
        self._refuse_in_use(draft)
        return saved_row(self._vault, self._name, draft, self.row, former, by=self._by, now=int(time.time()))

    def _refuse_in_use(self, draft: Draft) -> None:
        is_used = any(each.rules.integration == self._name for each in self._snapshot.presets.values())
        if is_used and served(self._snapshot, self._name, stored=True) is not None:
            stored = self._snapshot.stored or Stored()
            refuse_edit(build_unserved(self._name, draft.settings, draft.entered, stored, time.time()), self._snapshot)
