"""An integration of a config file as the store would have it: with what the file refers to in place of references."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sidekey.credentials.destination import references_in
from sidekey.credentials.fields import Reference, as_stored
from sidekey.settings.certificates import LARGEST
from sidekey.settings.config_errors import Finding, Loc, held, placed
from sidekey.settings.models import IntegrationSettings
from sidekey.settings.profiles import PROVIDER
from sidekey.settings.secrets import SecretReader
from sidekey.settings.stored.document import parts_of, replaced
from sidekey.settings.stored.exporting import UNKNOWN_URL
from sidekey.settings.trust import build_trust


class Rewritten(NamedTuple):
    """The document, as the API would be sent it, and what is to be said of it. With `errors` it is not whole.

    It holds secrets: nothing shows or logs it.
    """

    document: Mapping[str, Any]
    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]


def rewritten(
    raw: Mapping[str, Any], settings: IntegrationSettings, read: SecretReader, written: Callable[[Loc], Loc]
) -> Rewritten:
    """Read all that an integration of a file refers to. `settings` are those of `raw`. Blocks.

    `written` says where `raw` has what is at a place of the settings (`Expansion.written`).
    """
    values: dict[Loc, Any] = {}
    errors: list[Finding] = []
    warnings: list[Finding] = []
    material = _material(settings)
    for place, reference in references_in(settings):
        where = held(raw, written(place))
        if reference.source == "url" and reference.value.startswith(UNKNOWN_URL):
            errors.append(Finding(where, "must be the URL itself, which this stands for since the export"))
        if reference.source not in ("file", "env", "insecure_value", "plain"):
            continue
        if reference.source == "plain" and (where == PROVIDER or not reference.value):
            # What a profile brings is public, and an empty text hides nothing: both stay as they are.
            continue
        try:
            text = _pem(reference, read) if any(each is reference for each in material) else read(reference)
        except ValueError as error:
            errors.append(Finding(where, str(error)))
            continue
        values[where] = as_stored(reference.form, text)
        if reference.form == "text":
            text = "is not a secret to this kind: in the store it can be read by whoever may read the integration"
            warnings.append(Finding(where, text))
    if settings.trusted_ca is not None and settings.trusted_ca.path is not None:
        trust, reason = build_trust(settings.trusted_ca, read)
        errors += [] if reason is None else [Finding(("trusted_ca",), reason)]
        values["trusted_ca",] = {"inline": trust.pem}
    return Rewritten(replaced(raw, values), tuple(errors), tuple(warnings))


def place_in(raw: Any, where: str) -> Loc:
    """The place in a document that a pointer names, whether there is something or not."""
    return placed(raw, parts_of(where))


def _material(settings: IntegrationSettings) -> list[Reference]:
    """The references that lead to a certificate or its key, which are bytes until they are examined."""
    given = settings.auth.certificate_settings() or settings.client_certificate
    return [] if given is None else list(given.references().values())


def _pem(reference: Reference, read: SecretReader) -> str:
    """Certificate or key as text. What stands around the blocks may be in any encoding. Raises ValueError."""
    return read.raw(reference, LARGEST).decode("latin-1").encode("ascii", "replace").decode()
