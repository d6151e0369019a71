"""A form of an integration with what is in it, and the document that it has sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from sidekey.admin.api.documents import ABOUT
from sidekey.admin.api.problems import ItemError
from sidekey.admin.console.form.document import document_of, file_in
from sidekey.admin.console.form.fields import Field
from sidekey.admin.console.form.filled import Filled, fill, placed, unplaced
from sidekey.admin.console.form.forms import Form, form_for, section_of
from sidekey.admin.console.form.preview import NOTHING, Preview, worded
from sidekey.admin.console.form.rows import TypedMapping
from sidekey.admin.console.form.typed import Sent
from sidekey.credentials.certificates.pem import what_it_is
from sidekey.credentials.registry import KINDS
from sidekey.settings import profiles
from sidekey.settings.stored.document import found_at

ID: Final = Field(
    pointer="/id",
    label="ID",
    widget="text",
    help="Small letters, digits, `-` and `_`. Requests name it, and it stays what it is.",
    required=True,
)
"""Of what is new; an integration keeps its ID."""

_AUTH: Final = "/auth/"


@dataclass(frozen=True, slots=True)
class Entries:
    """A form with what is in it. `version` None: there is no integration yet."""

    form: Form
    first: tuple[Filled, ...]
    more: tuple[Filled, ...]
    version: int | None
    preview: Preview = NOTHING

    def placed(self, places: Iterable[str]) -> list[str]:
        """Where the form shows what is at these pointers, as its script finds it: rows by their numbers."""
        return placed((*self.first, *self.more), places)

    @property
    def sections(self) -> list[tuple[str, list[Filled]]]:
        """What may be left as it is, under headings."""
        return [(title, [*found]) for title, found in groupby(self.more, lambda each: section_of(each.field))]

    @property
    def opened(self) -> bool:
        """Whether something is said of what may be left as it is."""
        return any(each.is_wrong for each in self.more)

    @property
    def set(self) -> int:
        """How much is set of what may be left as it is."""
        return sum(each.is_set for each in self.more)


def entries_of(
    form: Form,
    document: Mapping[str, Any],
    version: int | None,
    errors: Sequence[ItemError] = (),
    preview: Preview = NOTHING,
) -> Entries:
    """A form with what a document says, what is wrong with it, and what saving it would do."""
    new = (ID,) if version is None else ()
    errors = worded(form, errors)
    first, more = _filled((*new, *form.first), document, errors), _filled(form.more, document, errors)
    return Entries(form, first, more, version, preview)


def _filled(fields: Sequence[Field], document: Mapping[str, Any], errors: Sequence[ItemError]) -> tuple[Filled, ...]:
    auth = _auth(document)
    found: list[Filled] = []
    for field in fields:
        found += fill((field,), auth if field.pointer.startswith(_AUTH) else document, errors)
    return tuple(found)


def _auth(document: Mapping[str, Any]) -> Mapping[str, Any]:
    auth = document.get("auth")
    return auth if isinstance(auth, Mapping) else {}


def form_of(document: Mapping[str, Any]) -> Form | None:
    """The form of a stored document; None where there is none that could show it."""
    auth = _auth(document)
    kind, provider = auth.get("type"), auth.get("provider", "")
    # Another version may have written what is stored.
    if not isinstance(kind, str) or not isinstance(provider, str):
        return None
    if kind not in KINDS or (provider and provider not in profiles.names()):
        return None
    return form_for(kind, provider)


def sent_document(form: Form, sent: Sent, former: Mapping[str, Any]) -> dict[str, Any]:
    """The whole document that a form has sent; what it has no field for stays as it is. `former` empty: it is new."""
    own = [each for each in form.fields if each.pointer.startswith(_AUTH)]
    common = [each for each in form.fields if not each.pointer.startswith(_AUTH)]
    about = {key: value for key, value in former.items() if key not in {"auth", *ABOUT}}
    named = {"provider": form.provider} if form.provider else {}
    hidden = form.hidden(sent)
    auth = {**document_of(own, sent, _auth(former), hidden), "type": form.kind, **named}
    return {**document_of(common if former else (ID, *common), sent, about, hidden), "auth": auth}


def wrong_files(form: Form, sent: Sent) -> tuple[ItemError, ...]:
    """What is wrong with files that are not PEM: such a file may be of any kind, and is no text to be sent on."""
    fields = [each for field in form.fields for each in field.walk() if each.widget == "pem"]
    files = {field.pointer: file_in(field, sent) for field in fields}
    return tuple(
        ItemError(where, f"this file is {what_it_is(file.encode('latin-1', 'replace'))}")
        for where, file in files.items()
        if file and "-----BEGIN " not in file
    )


def wrong_rows(form: Form, document: Mapping[str, Any]) -> tuple[ItemError, ...]:
    """What is wrong with rows of a document that was typed, as far as the document itself cannot say it."""
    fields = [each for field in form.fields for each in field.walk() if each.widget == "tree"]
    typed = ((field.pointer, found_at(document, field.pointer)) for field in fields)
    return tuple(
        ItemError(f"{where}#{row.number}", text)
        for where, value in typed
        if isinstance(value, TypedMapping)
        for row in value.rows
        for text in row.errors
    )


def without_field(form: Form, errors: Sequence[ItemError]) -> tuple[ItemError, ...]:
    """What is wrong with what the form has no field for."""
    return tuple(unplaced((ID, *form.fields), errors))
