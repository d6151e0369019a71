"""`/drafts/integration/preview`: the result of saving a document, without saving it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from cryptography import x509
from pydantic import Field

from sidekey.api.errors import ItemError, ProblemItem, limit_errors
from sidekey.api.handlers.integration_tests import Places
from sidekey.api.handlers.integrations import IntegrationDocument, IntegrationMembers
from sidekey.api.integration_rows import describe_overlap, reentry_errors
from sidekey.api.messages import JSON, YAML, ApiRequest, ApiResult
from sidekey.api.models import Body, Instant, read_name, strip_read_only
from sidekey.api.route import Route
from sidekey.api.service import ApiServices
from sidekey.api.statuses import served_integration
from sidekey.api.yaml_bodies import with_lines
from sidekey.config.addresses import address_warnings
from sidekey.config.errors import MAX_ERRORS
from sidekey.config.models import IntegrationSettings
from sidekey.config.stored.build import build_unserved
from sidekey.config.stored.document import pointer
from sidekey.config.stored.rows import previous_integration
from sidekey.config.stored.validate import Assessment, assess
from sidekey.credentials.certificates.chain import find_extension, name_of
from sidekey.credentials.certificates.validate import leaf_of
from sidekey.credentials.destination import references_in, tied_secrets
from sidekey.credentials.fields import WRITTEN, mapping
from sidekey.diagnostics.explain import credential_places
from sidekey.policy.paths import under
from sidekey.policy.targets import Policy
from sidekey.snapshot.snapshot import Snapshot, StoredObjects
from sidekey.store.records import IntegrationRow

_DRAFT: Final = "draft"
"""ID for a document without one."""

_MORE_WARNINGS: Final = ItemError("", f"there are more warnings than the first {MAX_ERRORS}")

USED_BY_FILE: Final = "a config file has an integration of this ID: choose another"


class Targets(Body):
    """Where a credential would go."""

    base: str | None = Field(description="The URL to which the reverse proxy appends the path.")
    allowed: list[str] = Field(description="Requests may go to these URLs and below. `*.` stands for any subdomain.")
    learns: bool = Field(description="Whether Sidekey learns the base URL from the token response.")
    places: Places = Field(description="The places of the credential in a request, without public headers.")


class ShownCertificate(Body):
    """A client certificate."""

    subject: str
    issuer: str
    alternative_names: list[str]
    not_after: Instant


class Preview(Body):
    """The result of saving a document. It contains no part of a secret."""

    valid: bool = Field(description="Whether the document can be saved.")
    version: int | None = Field(description="The version of the stored integration that it would replace; null: none.")
    errors: list[ProblemItem] = Field(description="The errors for which saving would return `invalid`.")
    warnings: list[ProblemItem]
    reenter: list[ProblemItem] = Field(
        description="Secrets that must be sent again, or saving is refused as `reenter`."
    )
    certificate: ShownCertificate | None = Field(description="The client certificate that the document has in PEM.")
    destination: Targets | None = Field(description="Null while the document has errors.")


@partial(
    Route,
    "POST",
    "/drafts/integration/preview",
    "previewDraft",
    permission="editor",
    body=IntegrationDocument,
    accepts=(JSON, YAML),
    response=Preview,
)
async def preview(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Show the result of saving a document, without saving it.

    With the `id` of a stored integration, the document replaces it.
    """
    sent = request.document
    name, errors = read_name(sent, "id") if "id" in sent else (_DRAFT, [])
    if served_integration(service.snapshot, name, stored=False) is not None:
        errors.append(ItemError("/id", USED_BY_FILE))
    row = service.store.state.integrations.get(name)
    return await service.run_validation(_preview, request, name, row, errors, service.snapshot)


def _preview(
    request: ApiRequest,
    name: str,
    row: IntegrationRow | None,
    known_errors: Sequence[ItemError],
    snapshot: Snapshot,
) -> ApiResult:
    document, now = strip_read_only(request.document, IntegrationMembers), time.time()
    assessment = assess(document, previous_integration(row), in_flight=snapshot.limits.in_flight, now=now)
    errors = [*known_errors, *(ItemError(*error) for error in assessment.errors)]
    if assessment.draft is not None:
        overlap = describe_overlap(snapshot, name, assessment.draft)
        errors += [] if overlap is None else [ItemError("", overlap)]
    found = [ItemError(*warning) for warning in assessment.warnings]
    if assessment.settings is not None and not assessment.errors:
        built = build_unserved(name, assessment.settings, assessment.entered, snapshot.stored or StoredObjects(), now)
        # Without DNS: operators must not choose the names that Sidekey looks up while they type.
        found += (ItemError(pointer(loc), text) for loc, text in address_warnings(built, snapshot.network))
    warnings = limit_errors(found, _MORE_WARNINGS)
    reentry = limit_errors(reentry_errors(assessment.reenter))

    def to_items(items: Iterable[ItemError]) -> list[ProblemItem]:
        return [item.to_item() for item in with_lines(items, request.yaml_table)]

    return ApiResult.of(
        Preview(
            valid=not errors and not reentry,
            version=None if row is None else row.version,
            errors=to_items(limit_errors(errors)),
            warnings=to_items(warnings),
            reenter=to_items(reentry),
            certificate=_describe_certificate(_certificate_texts(document, assessment.settings)),
            destination=None if assessment.errors else _targets(name, assessment, snapshot, now),
        )
    )


def _targets(name: str, assessment: Assessment, snapshot: Snapshot, now: float) -> Targets | None:
    if assessment.settings is None:
        return None
    built = build_unserved(name, assessment.settings, assessment.entered, snapshot.stored or StoredObjects(), now)
    places = credential_places(built)
    public = dict(built.public_headers)
    places["headers"] = [name for name in places["headers"] if name not in public]
    return Targets(
        base=None if built.base is None or built.traits.discovers_base_url else str(built.base),
        allowed=[*dict.fromkeys(_allowed_urls(built.policy))],
        learns=built.traits.discovers_base_url,
        places=Places(**places),
    )


def _allowed_urls(policy: Policy) -> Iterator[str]:
    """Yield the URLs below which the policy allows targets."""
    if not policy.prefixes:
        yield from (f"{domain}{policy.path}" for domain in policy.domains)
    for prefix in policy.prefixes:
        path = max(prefix.path, policy.path, key=len)
        if not (under(path, prefix.path) and under(path, policy.path)):
            continue
        if prefix.origin == policy.placeholder_origin:
            # The token response replaces this host with another host under one of the domains.
            yield from (f"{domain}{path}" for domain in policy.domains)
        elif policy.reaches(prefix.origin):
            yield f"{prefix.origin}{path}"


def _describe_certificate(texts: Iterable[str]) -> ShownCertificate | None:
    """Describe the first certificate that can be parsed."""
    for text in texts:
        # The errors say why a certificate cannot be read.
        with suppress(ValueError):
            leaf = leaf_of(text.encode())
            names = find_extension(leaf, x509.SubjectAlternativeName)
            return ShownCertificate(
                subject=name_of(leaf.subject),
                issuer=name_of(leaf.issuer),
                alternative_names=[] if names is None else [str(name.value) for name in names],
                not_after=leaf.not_valid_after_utc.timestamp(),
            )
    return None


def _certificate_texts(document: Mapping[str, Any], settings: IntegrationSettings | None) -> Iterator[str]:
    """Yield the certificates of a document, even if it is incomplete: people paste the certificate first."""
    if settings is None:
        for section in ("auth", "client_certificate"):
            inline = mapping(mapping(document.get(section)).get("certificate")).get("inline")
            if isinstance(inline, str):
                yield inline
        return
    references = dict(references_in(settings))
    for place, _ in tied_secrets(settings):
        if references[place].source in WRITTEN:
            yield references[place].value


ROUTES: Final = (preview,)
