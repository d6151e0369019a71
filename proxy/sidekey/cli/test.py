"""`sidekey test`: send a test request through a data plane in this process, without a listener or a caller's token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import click

from sidekey.app import App, command_log, run_logged
from sidekey.cli.command_options import allow_commands_option, create_commands
from sidekey.cli.config import complete_id, find_integration, load_snapshot
from sidekey.cli.look_up import look_up_target
from sidekey.cli.options import config_option, json_option
from sidekey.cli.terminal import fail, print_result
from sidekey.config.addresses import describe_route
from sidekey.diagnostics.explain import explain
from sidekey.diagnostics.probe import ProbeResult, probe, target_of
from sidekey.errors import StartError
from sidekey.observe.writer import LineWriter
from sidekey.snapshot.snapshot import Integration, Snapshot, TestRequest
from sidekey.snapshot.store import StoreRules
from sidekey.store.errors import StoreError
from sidekey.store.open import open_store
from sidekey.tokens.ledger import Ledger, NoLedger
from sidekey.tokens.store_ledger import StoreLedger

WOULD_SPEND = (
    "not sent: this command would use up the refresh token, and nobody would have the next one; send a request to a "
    "process that runs, add store, or write rotates: false under grant if the provider lets it stay valid"
)


def send_test(snapshot: Snapshot, integration: Integration, test: TestRequest) -> ProbeResult:
    """Send the integration's test request with an empty body through the reverse proxy."""
    quiet = replace(snapshot, log=command_log(snapshot.log))
    return run_logged(quiet.log, partial(_send, quiet, integration, test))


async def _send(snapshot: Snapshot, integration: Integration, test: TestRequest, writer: LineWriter) -> ProbeResult:
    if snapshot.store is None and integration.traits.rotates:
        return ProbeResult(f"{test.method} {target_of(integration.id, test)}", 0, None, WOULD_SPEND)
    async with _open_ledger(snapshot.store if integration.traits.needs_lease else None) as ledger:
        app = App(snapshot, writer, ledger=ledger)
        app.plane.worker.deadlines.start(asyncio.get_running_loop())
        certificate_requests = app.collect_certificate_requests()
        try:
            return await probe(app.plane, integration.id, test, certificate_requests)
        finally:
            await app.close()


@asynccontextmanager
async def _open_ledger(rules: StoreRules | None) -> AsyncIterator[Ledger | None]:
    """Open the ledger through which running processes share tokens, or None without a store."""
    if rules is None:
        yield None
        return
    try:
        store = await open_store(rules, create=False)
    except StoreError as error:
        yield NoLedger(f"the store cannot be used: {error}")
        return
    ledger = StoreLedger(store)
    try:
        yield ledger
    finally:
        await ledger.close()
        await store.close()


def _describe_route(snapshot: Snapshot, integration: Integration, test: TestRequest) -> str | None:
    """Describe the way of the test request, or return None without a parent proxy."""
    if snapshot.network.proxy is None and integration.egress.proxy is None:
        return None
    explanation = explain(integration, test.path, snapshot.passthrough)
    host, target = explanation.dialled_host, explanation.decision.target
    if host is None or target is None:
        return None
    egress = explanation.egress_for(host)
    return describe_route(target.origin, egress, snapshot.network, look_up_target(snapshot, host, egress))


@click.command()
@config_option
@json_option
@allow_commands_option
@click.argument("integration_id", metavar="ID", shell_complete=complete_id)
def command(config: str | None, as_json: bool, allowed: tuple[str, ...], integration_id: str) -> None:
    """Send an integration's test request to its upstream.

    The request goes through the data plane, without a listener. Only 200 is success. Of the permitted programs, only
    those of the integration run.
    """
    snapshot = load_snapshot(config, create_commands(allowed, integration_id))
    integration = find_integration(snapshot, integration_id)
    if integration.test is None:
        fail(f"integrations.{integration.id}.test: this key is missing: write test: {{method: GET, path: /whoami}}")
    try:
        result = send_test(snapshot, integration, integration.test)
    except StartError as error:
        fail(error)
    route = _describe_route(snapshot, integration, integration.test)
    if route is not None:
        result = replace(result, note=route if result.note is None else f"{result.note}; {route}")
    print_result(result.as_json(), (str(result),), as_json=as_json)
    raise SystemExit(0 if result.ok else 1)
