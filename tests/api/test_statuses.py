"""What API, commands, metrics and alerts say of an integration and its preset, or of a caller, in each situation."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal

import pytest

from sidekey.api.handlers.callers import CallerCollection
from sidekey.api.handlers.integrations import INTEGRATIONS, IntegrationFilter
from sidekey.api.handlers.presets import PRESETS, PresetFilter
from sidekey.api.models import After
from sidekey.api.statuses import StatusView
from sidekey.cli.list import describe, list_integrations
from sidekey.cli.preset import describe as describe_presets
from sidekey.cli.running_status import RunningStatus, parse_metrics
from sidekey.config.load import Loader, load
from sidekey.config.secrets import NOT_RUN
from sidekey.config.stored.build import StoredSource
from sidekey.observe.metrics import Metrics
from sidekey.snapshot.certificate_loader import CertificateLoader, CertificateResult
from sidekey.snapshot.snapshot import Integration, Snapshot, StoredObjects
from sidekey.snapshot.status import FailingSince
from sidekey.store.records import CallerRow, IntegrationRow
from sidekey.store.state import State
from support.certificates import IssuedCertificate, issue
from support.loading import loaded_snapshot
from support.plane import integration
from support.presets import preset
from support.scraping import samples, scrape
from support.sidekey_process import run_cli
from support.statuses import with_certificate, with_unreadable_secrets, without_certificate
from support.stored import BASIC, VAULT, stored

NOW: Final = time.time()
DAY: Final = 86_400
SINCE: Final = FailingSince(int(NOW) - 600)
DENIED: Final = SINCE._replace(denied=True)

FILE: Final = integration("h", "https://up.test/v1")
SAVED: Final = replace(FILE, stored=True)
UNREAD: Final = with_unreadable_secrets(FILE, "auth.password: the file does not exist")
NOT_RUN_HERE: Final = with_unreadable_secrets(FILE, f"auth.password: /bin/vault {NOT_RUN}")
COMMAND_FAILS: Final = with_unreadable_secrets(FILE, "auth.password: /bin/vault exited with status 7")
UNFETCHED: Final = replace(
    FILE,
    certificate=CertificateLoader(
        lambda *_: CertificateResult(None), urls=((("auth", "certificate"), "https://vault.test"),)
    ),
)
EXPIRED: Final = with_certificate(FILE, NOW - DAY)
EXPIRING: Final = with_certificate(FILE, NOW + DAY)
DOMAIN: Final = "https://other.test"
OUTSIDE: Final = integration("h", "https://up.test/v1", "https://up.test/v2", domains=[DOMAIN])
VALID: Final = with_certificate(FILE, NOW + 90 * DAY)
REFUSED: Final = without_certificate(FILE, "is not PEM", refused=True)
ELSEWHERE: Final = "the running Sidekey reports `{}`: its log has the reason"


@dataclass(frozen=True)
class Situation:
    """An integration of the running process (None: it is not served) and of a command, which reads the config itself.

    `problem` is that of a stored integration. `text` is part of the problem that users see. `listed_text` is that of
    `sidekey list`, if it differs, and `offline` the status there without a running process.
    """

    running: Integration | None
    status: str
    reason: str = ""
    text: str = ""
    here: Integration | None = None
    failing: FailingSince | None = None
    problem: str = ""
    offline: str = "unknown"
    listed_text: str | None = None


SITUATIONS: Final[Mapping[str, Situation]] = {
    "file": Situation(FILE, "ok"),
    "stored": Situation(SAVED, "ok"),
    "certificate valid": Situation(VALID, "ok"),
    "certificate expires soon": Situation(
        EXPIRING, "expiring", "certificate_expires", "expires on", offline="expiring"
    ),
    "certificate expired": Situation(EXPIRED, "unusable", "certificate_expired", "expired on", offline="unusable"),
    "certificate expired and requests fail": Situation(
        EXPIRED, "unusable", "certificate_expired", "expired on", failing=SINCE, offline="unusable"
    ),
    "certificate expires soon and requests fail": Situation(
        EXPIRING, "failing", "requests_failed", "requests have failed", failing=SINCE, offline="expiring"
    ),
    "certificate not usable": Situation(REFUSED, "unusable", "certificate_refused", "is not PEM", offline="unusable"),
    "certificate not readable": Situation(
        without_certificate(FILE, "does not exist"), "unusable", "unreadable", "does not exist", offline="unusable"
    ),
    "certificate not fetched": Situation(UNFETCHED, "unusable", "certificate_unfetched", "was not fetched yet"),
    "certificate fetched by the process only": Situation(VALID, "ok", here=UNFETCHED),
    "fetched certificate expires soon": Situation(
        EXPIRING, "expiring", "certificate_expires", "expires on", here=UNFETCHED
    ),
    "fetched certificate expired": Situation(EXPIRED, "unusable", "certificate_expired", "expired on", here=UNFETCHED),
    "secret missing": Situation(UNREAD, "unusable", "unreadable", "the file does not exist", offline="unusable"),
    "secret missing and requests fail": Situation(
        UNREAD, "unusable", "unreadable", "the file does not exist", failing=SINCE, offline="unusable"
    ),
    "secret deleted after the start": Situation(FILE, "ok", here=UNREAD, offline="unusable"),
    "secret not read again yet": Situation(
        UNREAD, "unusable", "unreadable", "file does not", here=FILE, listed_text=ELSEWHERE.format("unreadable")
    ),
    "command works": Situation(FILE, "ok", here=NOT_RUN_HERE),
    "command fails": Situation(
        COMMAND_FAILS,
        "unusable",
        "unreadable",
        "exited with status 7",
        here=NOT_RUN_HERE,
        listed_text=f"/bin/vault {NOT_RUN}",
    ),
    "secret of a command is rejected": Situation(
        FILE,
        "failing",
        "requests_failed",
        "requests have failed",
        here=NOT_RUN_HERE,
        failing=SINCE,
        listed_text=ELSEWHERE.format("requests_failed"),
    ),
    "assertion file deleted, token valid": Situation(FILE, "ok", here=UNREAD, offline="unusable"),
    "assertion file deleted, requests fail": Situation(
        FILE,
        "failing",
        "requests_failed",
        "requests have failed",
        here=UNREAD,
        failing=SINCE,
        offline="unusable",
        listed_text=ELSEWHERE.format("requests_failed"),
    ),
    "requests fail": Situation(FILE, "failing", "requests_failed", "requests have failed", failing=SINCE),
    "host denied": Situation(FILE, "failing", "destination_denied", "list the network in its", failing=DENIED),
    "host of a stored one denied": Situation(
        SAVED, "failing", "destination_denied", "list the network in `store.allow_private`", failing=DENIED
    ),
    "document not valid": Situation(
        SAVED, "unusable", "invalid", "limits.in_flight: ", problem="limits.in_flight: is too high", offline="unusable"
    ),
    "no prefix is an allowed domain": Situation(
        OUTSIDE, "unusable", "invalid", "https://up.test is not an allowed domain: ", offline="unusable"
    ),
    "no prefix of a stored one is an allowed domain": Situation(
        replace(OUTSIDE, stored=True), "unusable", "invalid", "endpoint_prefix: no request passes", offline="unusable"
    ),
    "one prefix is an allowed domain": Situation(
        integration("h", "https://up.test/v1", f"{DOMAIN}/v1", domains=[DOMAIN]), "ok"
    ),
    "covered by another": Situation(
        None, "unusable", "invalid", "covers https", problem="covers https://up.test as crm does", offline="unusable"
    ),
}


def snapshot_of(served: Integration | None, problem: str) -> Snapshot:
    """Build a snapshot with an integration and its preset. Without one, the store has a row that is not served."""
    is_stored = served is None or served.stored
    integrations = {} if served is None else {"h": served}
    content = StoredObjects(1, integrations if is_stored else {}, problems={"h": problem} if is_stored else {})
    return Snapshot(integrations, presets={"hook": preset("hook", "https://up.test/v1/x")}, stored=content)


def in_api(snapshot: Snapshot, failing: Mapping[str, FailingSince]) -> tuple[dict[str, Any], dict[str, Any]]:
    """List the integration and its preset."""
    row: IntegrationRow = stored(BASIC, "h")
    state = State(integrations={"h": row} if "h" in (snapshot.stored or StoredObjects()).problems else {})
    view = StatusView(snapshot, failing, NOW)
    (item,) = INTEGRATIONS.page(state, view, IntegrationFilter()).items
    (hook,) = PRESETS.page(state, view, PresetFilter()).items
    return item.model_dump(mode="json"), hook.model_dump(mode="json")


def in_list(here: Snapshot, running: RunningStatus) -> dict[str, Any]:
    """List the integration by `sidekey list`."""
    (item,) = list_integrations(here, running, now=NOW, usable=False)
    return describe(item, running)


@pytest.mark.parametrize("name", SITUATIONS)
async def test_every_surface_says_the_same(name: str) -> None:
    situation = SITUATIONS[name]
    snapshot = snapshot_of(situation.running, situation.problem)
    here = snapshot if situation.here is None else snapshot_of(situation.here, situation.problem)
    failing = {} if situation.failing is None else {"h": situation.failing}
    item, hook = in_api(snapshot, failing)
    assert (item["status"], situation.text in (item["problem"] or "")) == (situation.status, True)
    assert bool(item["problem"]) == (situation.status != "ok")

    metrics = Metrics()
    metrics.prepare(snapshot)()
    metrics.failing = lambda: failing
    certificate = None if situation.running is None else situation.running.certificate
    if certificate is not None and certificate.expires_at is not None:
        metrics.expiries["h", "certificate"] = certificate.expires_at
    page = await scrape(metrics)
    # With the status `unusable`, the series of the alert SidekeyIntegrationsUnusable.
    labels = {"integration": "h", "status": situation.status, "reason": situation.reason}
    assert samples(page)["sidekey_integration_status", tuple(sorted(labels.items()))] == 1
    is_stored = situation.running is None or situation.running.stored
    unusable = samples(page).get(("sidekey_store_integrations", (("state", "unusable"),)), 0)
    assert unusable == (1 if is_stored and situation.status == "unusable" else 0)

    listed = in_list(here, parse_metrics(page))
    assert listed["status"] == situation.status
    expected = item["problem"] if situation.listed_text is None else situation.listed_text
    assert (listed["problem"] or "").endswith(expected or "")
    offline = in_list(here, RunningStatus(reason="not running"))
    assert offline["status"] == situation.offline

    if situation.running is not None:
        usable = {"ok": "ok", "expiring": "ok"}.get(situation.status, situation.status)
        assert hook["status"] == usable
        assert bool(hook["problem"]) == (usable != "ok")
        (listed_hook,) = describe_presets(here, parse_metrics(page), NOW)
        assert listed_hook["status"] == usable


TODAY: Final = datetime.now(UTC)
MTLS: Final = "{type: mtls, allow_private_ca: true, certificate: {file: tls.crt}, private_key: {file: tls.key}}"


def certified(start: int, days: int, key: IssuedCertificate | None = None) -> dict[str, bytes]:
    """Create the files of a certificate that is valid for `days` from `start` days after today, and of a key."""
    issued = issue(start=TODAY + timedelta(days=start), life=timedelta(days=days))
    return {"tls.crt": issued.pem, "tls.key": (key or issued).key_pem}


@dataclass(frozen=True)
class InFiles:
    """An integration in a config file, with the files that it names.

    `text` is part of its problem. `check` is the kind of the line with this text that `sidekey check` prints.
    """

    auth: str
    files: Mapping[str, bytes]
    status: str = "ok"
    reason: str = ""
    text: str = ""
    check: Literal["", "warning", "error"] = ""
    more: str = ""


IN_FILES: Final[Mapping[str, InFiles]] = {
    "certificate valid": InFiles(MTLS, certified(-1, 90)),
    "certificate expires soon": InFiles(
        MTLS, certified(-1, 10), "expiring", "certificate_expires", "its client certificate expires on", "warning"
    ),
    "certificate expired": InFiles(
        MTLS, certified(-9, 8), "unusable", "certificate_expired", "certificate expired on", "error"
    ),
    "certificate missing": InFiles(MTLS, {}, "unusable", "unreadable", "tls.crt does not exist", "error"),
    "certificate with another key": InFiles(
        MTLS, certified(-1, 90, issue()), "unusable", "certificate_refused", "does not belong to", "error"
    ),
    "secret missing": InFiles(
        "{type: basic, username: u, password: {file: password}}",
        {},
        "unusable",
        "unreadable",
        "auth.password: the file does not exist",
        "error",
    ),
    "no prefix is an allowed domain": InFiles(
        "{type: headers, headers: {X-A: b}}",
        {},
        "unusable",
        "invalid",
        "endpoint_prefix: no request passes",
        "warning",
        more="allow_other_domains: true, allowed_domains: ['https://other.test'], ",
    ),
}


def write_in(folder: Path, text: str, files: Mapping[str, bytes]) -> Path:
    """Write a config, and the files that it names."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    (folder / "sidekey.yaml").write_text(f"version: 1\n{text}\n")
    return folder / "sidekey.yaml"


def findings_of(config: Path) -> dict[str, str]:
    """Return the lines of `sidekey check`, each with its kind, and make sure that only errors fail it."""
    result = run_cli("check", "--config", str(config))
    lines = [line for line in result.stdout.splitlines() if not line.startswith("ok: ")]
    kinds = {line: "warning" if line.startswith("warning: ") else "error" for line in lines}
    assert result.returncode == ("error" in kinds.values())
    return kinds


@pytest.mark.parametrize("name", IN_FILES)
def test_check_finds_what_the_status_of_a_file_says(name: str, tmp_path: Path) -> None:
    case = IN_FILES[name]
    config = write_in(
        tmp_path,
        f"integrations: {{h: {{endpoint_prefix: 'https://up.test', {case.more}auth: {case.auth}}}}}",
        case.files,
    )
    snapshot = load(config, {}).snapshot
    assert snapshot is not None
    metrics = Metrics()
    metrics.prepare(snapshot)()
    page = asyncio.run(scrape(metrics))
    (item,) = INTEGRATIONS.page(State(), StatusView(snapshot, {}, NOW), IntegrationFilter()).items
    assert (item.status, case.text in (item.problem or "")) == (case.status, True)
    labels = {"integration": "h", "status": case.status, "reason": case.reason}
    assert samples(page)["sidekey_integration_status", tuple(sorted(labels.items()))] == 1
    assert in_list(snapshot, parse_metrics(page))["status"] == case.status
    kinds = findings_of(config)
    assert {kind for line, kind in kinds.items() if case.text in line} == ({case.check} if case.check else set())


CALLER: Final = "callers: {billing: {token: {file: token}, integrations: []}}"
TOKEN: Final = b"a-token-of-24-characters"
ROW: Final = CallerRow(row_id="row", id="billing", token_sha256=sha256(TOKEN).hexdigest())


@dataclass(frozen=True)
class OfCaller:
    """A caller of the config in `text`, or of the store. `problem` is part of its problem; `check` as above."""

    text: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    row: CallerRow | None = None
    problem: str = ""
    check: Literal["", "warning", "error"] = ""


CALLERS: Final[Mapping[str, OfCaller]] = {
    "of a file": OfCaller(CALLER, {"token": TOKEN}),
    "of a file, without its token": OfCaller(CALLER, problem="token: the file does not exist", check="error"),
    "of a file, with an empty token": OfCaller(
        CALLER, {"token": b""}, problem="token: the file must not be empty", check="error"
    ),
    "stored": OfCaller("", row=ROW),
    "stored, with another MAC": OfCaller("", row=replace(ROW, token_sha256=""), problem="other than Sidekey changed"),
    "stored, with the name of one in a file": OfCaller(
        CALLER, {"token": b"another-token-of-a-file"}, row=ROW, problem="a config file has the same caller name"
    ),
    "stored, with the token of one in a file": OfCaller(
        CALLER.replace("billing", "shop"), {"token": TOKEN}, row=ROW, problem="caller shop of a config file has its"
    ),
}


@pytest.mark.parametrize("name", CALLERS)
def test_check_finds_what_the_status_of_a_caller_says(name: str, tmp_path: Path) -> None:
    """A stored caller that is not usable admits nobody."""
    case = CALLERS[name]
    store = "" if case.row is None else "store: {path: s.db, keys: [{id: k1, key: {file: k1}}]}\n"
    config = write_in(tmp_path, store + case.text, {"k1": b64encode(b"1" * 32), **case.files})
    state = State(callers={} if case.row is None else {case.row.id: case.row})
    loader, source = Loader(config, {}), StoredSource(lambda _: None)
    source.update(state, VAULT)
    loader.use_store(source)
    snapshot = loaded_snapshot(loader.load())
    items = CallerCollection().page(state, StatusView(snapshot), After()).items
    (item,) = [item for item in items if item.name == "billing" and (item.source == "store") == bool(case.row)]
    assert (item.status, case.problem in (item.problem or "")) == ("unusable" if case.problem else "ok", True)
    assert bool(item.problem) == bool(case.problem)
    admitted = {caller.name for digest, caller in (snapshot.callers or {}).items() if digest == sha256(TOKEN).digest()}
    assert ("billing" in admitted) == (case.problem == "")
    if case.row is None:
        place = f"callers.billing.{case.problem}"
        kinds = {kind for line, kind in findings_of(config).items() if place in line}
        assert kinds == ({case.check} if case.check else set())


async def test_integration_that_the_process_does_not_have_is_unknown() -> None:
    """A reload failed, or another config runs there."""
    metrics = Metrics()
    metrics.prepare(Snapshot({}))()
    listed = in_list(snapshot_of(FILE, ""), parse_metrics(await scrape(metrics)))
    assert (listed["status"], "does not have it" in listed["problem"]) == ("unknown", True)
