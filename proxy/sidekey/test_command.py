"""`sidekey test`: one request through the data plane of this very process, with no listener and no caller's token."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

from sidekey.app import App, run_logged
from sidekey.observe.writer import LineWriter
from sidekey.probe import Outcome, probe
from sidekey.runtime.snapshot import Snapshot, TestRequest


def send_test(snapshot: Snapshot, integration: str, test: TestRequest) -> Outcome:
    """Send the integration's test request with an empty body through the reverse proxy."""
    quiet = replace(snapshot, log=replace(snapshot.log, access="off"))
    return run_logged("error", partial(_send, quiet, integration, test))


async def _send(snapshot: Snapshot, name: str, test: TestRequest, writer: LineWriter) -> Outcome:
    app = App(snapshot, writer)
    app.plane.worker.deadlines.start(asyncio.get_running_loop())
    asking = app.note_certificate_requests()
    try:
        return await probe(app.plane, name, test, asking)
    finally:
        await app.close()
