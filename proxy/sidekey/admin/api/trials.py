"""`/test`, `/explain` and `/drafts`: what becomes of a request, without anything being changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from sidekey.admin.api.answer import YAML, Answer
from sidekey.admin.api.ask import Ask
from sidekey.admin.api.documents import hidden_from_viewers
from sidekey.admin.api.problems import ApiProblem, ItemError, invalid, not_found
from sidekey.admin.api.route import JSON, Route
from sidekey.admin.api.saving import document_in, draft_of
from sidekey.admin.api.service import Service
from sidekey.admin.api.standings import problem_of
from sidekey.explain import Sample, parse_header, parse_method, parse_moment, with_addresses
from sidekey.explain import explain as judge
from sidekey.probe import Outcome
from sidekey.runtime.admin_rules import Role
from sidekey.runtime.snapshot import Integration, Snapshot, Stored
from sidekey.settings.models import IntegrationSettings
from sidekey.settings.stored.source import build_draft

T = TypeVar("T")

_DRAFT: Final = "draft"
"""The ID of a draft while it is tested."""


async def test(service: Service, ask: Ask) -> Answer:
    """Send its test request through the data plane."""
    found = _served(service, ask.names["id"])
    if found.test is None:
        raise invalid([ItemError("/test", 'is missing in what is saved: add {"method": "GET", "path": "/..."}')])
    service.admit_test(ask.operator)
    begun = await service.begin_test(ask, "integration", found.id, found.row)
    began = time.perf_counter()
    result = timed(await service.probe(found.id, found.test), began)
    service.last_tests.note(found, ask.operator.name, result)
    await service.end_test(begun, result)
    return Answer.of(result)


async def explain(service: Service, ask: Ask) -> Answer:
    """Say what would become of a request for a URL, and what would be signed of it."""
    wrong: list[ItemError] = []
    url = _url_in(ask.document, service.snapshot.limits.target, wrong)
    sample = _sample_in(ask.document, wrong)
    if wrong:
        raise invalid(wrong)
    found = _served(service, ask.names["id"])
    return Answer.of(await service.validate(_explained, found, url, sample, service.snapshot, ask.operator.role))


def _explained(found: Integration, url: str, sample: Sample, snapshot: Snapshot, role: Role) -> dict[str, Any]:
    """Nothing is looked up: whoever may look here would decide what Sidekey asks of DNS."""
    explained = with_addresses(judge(found, url, snapshot.passing, sample), snapshot).as_json()
    if role == "viewer" and isinstance(found.written, IntegrationSettings):
        auth = found.written.auth
        hidden = hidden_from_viewers(type(auth), auth.model_dump(include={"provider"}).get("provider")).paths
        explained["profile"] = {path: text for path, text in explained["profile"].items() if path not in hidden}
    return explained


def _url_in(document: Mapping[str, Any], longest: int, wrong: list[ItemError]) -> str:
    url = document.get("url")
    if not isinstance(url, str):
        wrong.append(ItemError("/url", "must be a URL, or a path such as /whoami"))
        return ""
    if not url.isprintable() or not url.isascii():
        wrong.append(ItemError("/url", "must be ASCII and printable, as it is sent"))
    if len(url) > longest:
        wrong.append(ItemError("/url", f"must be at most {longest} bytes, as limits.target says"))
    return url


def _sample_in(document: Mapping[str, Any], wrong: list[ItemError]) -> Sample:
    """The request that a document describes beside its URL."""
    wrong += [ItemError(f"/{key}", "is unknown here") for key in sorted(document.keys() - _EXPLAINED)]
    fields = document.get("headers", [])
    if not isinstance(fields, list):
        wrong.append(ItemError("/headers", _HEADERS))
        fields = []
    headers = []
    for index, field in enumerate(fields):
        if isinstance(field, list) and len(field) == 2 and all(isinstance(each, str) for each in field):
            headers.append(_parsed(f"/headers/{index}", parse_header, field, wrong))
        else:
            wrong.append(ItemError(f"/headers/{index}", _HEADERS))
    body = document.get("body", "")
    if not isinstance(body, str):
        wrong.append(ItemError("/body", "must be a text, which is taken as UTF-8"))
        body = ""
    return Sample(
        time.time() if "at" not in document else _parsed("/at", parse_moment, [document["at"]], wrong) or 0.0,
        _parsed("/method", parse_method, [document.get("method", "")], wrong) or "",
        tuple(header for header in headers if header is not None),
        body.encode("utf-8", "replace"),
    )


def _parsed(pointer: str, parse: Callable[..., T], written: list[Any], wrong: list[ItemError]) -> T | None:
    """What is written, parsed; None where it cannot be, of which is told."""
    try:
        return parse(*written)
    except ValueError as error:
        wrong.append(ItemError(pointer, str(error)))
        return None


_EXPLAINED: Final = frozenset({"url", "method", "headers", "body", "at"})
_HEADERS: Final = "must be a list of headers, each a list of its name and its value"


async def test_draft(service: Service, ask: Ask) -> Answer:
    """Send the test request of a document that is not saved, with the secrets that it brings."""
    snapshot = service.snapshot
    draft = await service.validate(draft_of, document_in(ask.document), None, snapshot)
    integration = await service.validate(build_draft, _DRAFT, draft, snapshot.stored or Stored(), time.time())
    if integration.test is None:
        raise invalid([ItemError("/test", 'is missing: add {"method": "GET", "path": "/..."}')])
    service.admit_test(ask.operator)
    began = time.perf_counter()
    result = timed(await service.probe_draft(integration, integration.test), began)
    await service.note_draft_test(ask, result)
    return Answer.of(result)


def timed(outcome: Outcome, began: float) -> dict[str, Any]:
    """What came of a test that began then, by `time.perf_counter`."""
    return {**outcome.as_json(), "milliseconds": round((time.perf_counter() - began) * 1000)}


def _served(service: Service, name: str) -> Integration:
    """What is served under a name. Raises ApiProblem, also where something else responds in its place."""
    snapshot = service.snapshot
    found = snapshot.integrations.get(name)
    if found is not None and not (found.stored and found.rebuild is not None):
        return found
    if name not in service.store.state.integrations:
        raise not_found()
    problem = problem_of(snapshot, name) or "it was saved a moment ago"
    raise ApiProblem("not_found", f"it is not served now: {problem}")


ROUTES: Final = (
    Route(
        method="POST",
        path="/integrations/{id}/test",
        name="testIntegration",
        summary="Send the saved test request through the data plane. Only 200 is success.",
        role="viewer",
        handle=test,
        gives="TestResult",
        codes=("not_found", "invalid", "too_many"),
    ),
    Route(
        method="POST",
        path="/integrations/{id}/explain",
        name="explainIntegration",
        summary="Explain which rule allows a target, or why none does, where the credential would go, and what is"
        " signed.",
        role="viewer",
        handle=explain,
        body="ExplainRequest",
        gives="Explanation",
        codes=("not_found", "invalid"),
    ),
    Route(
        method="POST",
        path="/drafts/integration/test",
        name="testDraft",
        summary="Send the test request of an unsaved document, with the secrets in this request only.",
        role="editor",
        handle=test_draft,
        body="IntegrationDocument",
        accepts=(JSON, YAML),
        gives="TestResult",
        codes=("invalid", "too_many"),
    ),
)
