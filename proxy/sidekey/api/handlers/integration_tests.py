"""`/test`, `/explain` and `/drafts/integration/test`: send or explain a request of an integration."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema

from sidekey.api.errors import ApiProblem, ItemError, invalid, not_found
from sidekey.api.handlers.integrations import IntegrationDocument, IntegrationMembers, hidden_from_viewers
from sidekey.api.integration_rows import validate_draft
from sidekey.api.messages import JSON, YAML, ApiRequest, ApiResult
from sidekey.api.models import Body, strip_read_only
from sidekey.api.route import Route
from sidekey.api.service import ApiServices
from sidekey.api.statuses import integration_problem
from sidekey.config.models import IntegrationSettings
from sidekey.config.stored.build import build_draft
from sidekey.diagnostics.explain import Sample, apply_address_rules, parse_header, parse_method, parse_moment
from sidekey.diagnostics.explain import explain as explain_target
from sidekey.diagnostics.probe import ProbeResult
from sidekey.snapshot.snapshot import Integration, Snapshot, StoredObjects
from sidekey.store.errors import StoreError

_DRAFT: Final = "draft"
"""ID of a draft during its test."""


class TestResult(Body):
    """The result of a test. Of the upstream's response it contains only the status."""

    __test__ = False

    ok: bool = Field(description="Whether the upstream returned 200; of a preset, any 2xx.")
    request: str = Field(description="Method and target at the reverse proxy.")
    status: int | None
    code: str | None = Field(description="Sidekey's own code, if it refused or failed.")
    reason: str
    note: str | None
    milliseconds: int

    @classmethod
    def of(cls, outcome: ProbeResult, started: float) -> TestResult:
        """Build the result of a test that started at `started` (`time.perf_counter`)."""
        return cls(**outcome.as_json(), milliseconds=round((time.perf_counter() - started) * 1000))


class Places(Body):
    """The places of a credential in a request, by name."""

    headers: list[str] = Field(default=[])
    query: list[str] = Field(default=[])
    body: list[str] = Field(default=[])
    signature: list[str] = Field(default=[])
    handshake: list[str] = Field(default=[])


class Destination(Places):
    """The places of a credential, and the origin that it is sent to."""

    origin: str | None = Field(description="Null: only the token response says so.")


def _parse_url(text: str) -> str:
    if not text.isprintable() or not text.isascii():
        raise ValueError("must be ASCII and printable, as it is sent")
    return text


def _parse_header(raw: object) -> tuple[str, str]:
    if not isinstance(raw, list) or len(raw) != 2 or not all(isinstance(text, str) for text in raw):
        raise ValueError("must be a list of two texts: the name and the value")
    return parse_header(*raw)


class ExplainRequest(Body):
    """A request to explain. Its headers, body and time matter if requests are signed."""

    url: Annotated[str, AfterValidator(_parse_url)] = Field(
        description="An absolute URL, or a path as it follows `/i/ID`."
    )
    method: Annotated[str, AfterValidator(parse_method)] = Field(
        default="", description="The request's method. Default: GET, if it is allowed."
    )
    headers: list[
        Annotated[
            tuple[str, str],
            PlainValidator(_parse_header),
            WithJsonSchema({"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}),
        ]
    ] = Field(default=[], description="The request's headers: names and values.")
    body: str = Field(default="", description="The request's body, as text.")
    at: Annotated[float | None, PlainValidator(parse_moment), WithJsonSchema({"type": "string"})] = Field(
        default=None,
        description="The time of the signature: as `2026-01-31T23:59:59Z`, or in Unix seconds. Default: now.",
    )


class Explanation(Body):
    """The decision on a request, with the rule, and the places of the credential."""

    integration: str
    kind: str
    door: str = Field(description="`reverse` or `forward`: the proxy that the URL is for.")
    as_sent: str
    sent_on: str | None = Field(description="The target at the upstream.")
    upgraded: bool = Field(description="Whether http became https.")
    allowed: bool
    passes: bool = Field(description="Whether the request is forwarded without a credential.")
    code: str | None
    reason: str
    rule: str | None
    credential: Destination | None
    methods: list[str] | None
    profile: dict[str, str] = Field(description="The keys that the provider profile fills in.")
    note: str | None
    signed: list[str] = Field(
        default=[],
        description="The bytes that are signed, escaped, with `[redacted]` for injected values; never a signature.",
    )
    unsigned: str | None = Field(default=None, description="Why the signed bytes are not known.")


@partial(
    Route,
    "POST",
    "/integrations/{id}/test",
    "testIntegration",
    permission="viewer",
    response=TestResult,
    codes=("not_found", "invalid", "too_many"),
)
async def test(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Send the saved test request through the data plane, if the saved secrets obtain a token. Only 200 is success."""
    integration = _find_served(service, request.path_parameters["id"])
    if integration.test is None:
        raise invalid([ItemError("/test", 'is missing in the saved document: add {"method": "GET", "path": "/..."}')])
    service.admit_test(request.operator)
    entry = replace(
        request.audit_entry(),
        action="test",
        kind="integration",
        id=integration.id,
        row_id=integration.row,
        outcome="sent",
    )
    # If the store cannot be written, nothing is sent. `admit_test` limits the number of entries.
    number = await service.store.audit(entry)
    started = time.perf_counter()
    result = TestResult.of(await service.probe(integration.id, integration.test), started)
    # If the store fails now, the outcome stays "sent", and the metrics report the error.
    with suppress(StoreError):
        await service.store.audit(replace(entry, outcome="ok" if result.ok else "failed"), (number, entry))
    return ApiResult.of(result)


@partial(
    Route,
    "POST",
    "/integrations/{id}/explain",
    "explainIntegration",
    permission="viewer",
    body=ExplainRequest,
    response=Explanation,
    codes=("not_found", "invalid"),
)
async def explain(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Explain which rule allows a target, or why none does, where the credential would go, and what is signed."""
    sent = await service.parse_body(ExplainRequest, request)
    max_length = service.snapshot.limits.target
    if len(sent.url) > max_length:
        raise invalid([ItemError("/url", f"must be at most {max_length} bytes, as limits.target says")])
    integration = _find_served(service, request.path_parameters["id"])
    moment = time.time() if sent.at is None else sent.at
    sample = Sample(moment, sent.method, tuple(sent.headers), sent.body.encode("utf-8", "replace"))
    for_viewer = not request.operator.may("editor")
    return ApiResult.of(
        await service.run_validation(_explain, integration, sent.url, sample, service.snapshot, for_viewer)
    )


def _explain(integration: Integration, url: str, sample: Sample, snapshot: Snapshot, for_viewer: bool) -> Explanation:
    """Explain without DNS: operators must not choose the names that Sidekey looks up."""
    explanation: dict[str, Any] = apply_address_rules(
        explain_target(integration, url, snapshot.passthrough, sample), snapshot
    ).as_json()
    if for_viewer and isinstance(integration.settings, IntegrationSettings):
        auth = integration.settings.auth
        hidden = hidden_from_viewers(type(auth), auth.model_dump(include={"provider"}).get("provider")).paths
        explanation["profile"] = {path: text for path, text in explanation["profile"].items() if path not in hidden}
    # The response of `/integrations/{id}` has `status` instead.
    del explanation["usable"]
    # Operators need not know the files of Sidekey's machine.
    del explanation["token_files"]
    return Explanation.model_validate(explanation)


@partial(
    Route,
    "POST",
    "/drafts/integration/test",
    "testDraft",
    permission="editor",
    body=IntegrationDocument,
    accepts=(JSON, YAML),
    response=TestResult,
    codes=("invalid", "too_many"),
)
async def test_draft(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Send the test request of an unsaved document, with the secrets in this request only."""
    snapshot, document = service.snapshot, strip_read_only(request.document, IntegrationMembers)
    draft = await service.run_validation(validate_draft, document, None, snapshot)
    integration = await service.run_validation(
        build_draft, _DRAFT, draft, snapshot.stored or StoredObjects(), time.time()
    )
    if integration.test is None:
        raise invalid([ItemError("/test", 'is missing: add {"method": "GET", "path": "/..."}')])
    service.admit_test(request.operator)
    started = time.perf_counter()
    result = TestResult.of(await service.probe_draft(integration, integration.test), started)
    await service.audit_draft_test(request, ok=result.ok)
    return ApiResult.of(result)


def _find_served(service: ApiServices, name: str) -> Integration:
    """Return the integration that serves requests under an ID. Raises ApiProblem, with the reason if it is stored."""
    snapshot = service.snapshot
    integration = snapshot.integrations.get(name)
    if integration is not None and not (integration.stored and integration.rebuild is not None):
        return integration
    if name not in service.store.state.integrations:
        raise not_found()
    problem = integration_problem(snapshot, name) or "it was saved a moment ago"
    raise ApiProblem("not_found", f"it is not served now: {problem}")


ROUTES: Final = (test, explain, test_draft)
