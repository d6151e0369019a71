"""`sidekey preset`: list the presets of a config, preview their requests, and send one."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from sidekey.app import App, command_log, run_logged
from sidekey.cli.config import complete_preset_id, find_preset, load_snapshot
from sidekey.cli.groups import Group
from sidekey.cli.options import config_option, json_option
from sidekey.cli.running_status import ListedStatus, RunningStatus, read_running_status, status_with
from sidekey.cli.terminal import fail, print_result, table, terminal_width
from sidekey.diagnostics.preview import Preview, preview
from sidekey.diagnostics.probe import ProbeResult, probe_preset
from sidekey.errors import StartError
from sidekey.observe.output import printable
from sidekey.observe.writer import LineWriter
from sidekey.snapshot.snapshot import Preset, Snapshot
from sidekey.snapshot.status import status_of_preset

F = TypeVar("F", bound=Callable[..., Any])


class PresetCommandError(Exception):
    """The command failed. The message says why and what to do."""


def describe(snapshot: Snapshot, running: RunningStatus, now: float) -> list[dict[str, Any]]:
    """Build the JSON of all presets, sorted by ID. `now` is in seconds since the epoch."""
    return [
        _describe(preset, *_status(preset, snapshot, running, now)) for _, preset in sorted(snapshot.presets.items())
    ]


def _status(preset: Preset, snapshot: Snapshot, running: RunningStatus, now: float) -> tuple[ListedStatus, str]:
    name = preset.rules.integration
    integration = snapshot.integrations.get(name)
    problem = "" if snapshot.stored is None else snapshot.stored.problems.get(name, "")
    status = status_of_preset(
        None if integration is None else status_with(running, name, integration, problem, now), preset.invalid
    )
    missing = running.missing_reason(name)
    return ("unknown", missing) if status.status == "ok" and missing else (status.status, status.problem)


def _describe(preset: Preset, status: ListedStatus, problem: str) -> dict[str, Any]:
    # A preset whose row cannot be read has no URL. Its other values are placeholders.
    readable = bool(preset.url)
    return {
        "id": preset.id,
        "source": "store" if preset.stored else "file",
        "integration": preset.rules.integration if readable else None,
        "method": preset.rules.method.decode() if readable else None,
        "url": preset.url if readable else None,
        "content_type": preset.content_type if readable else None,
        "description": preset.description,
        "tags": list(preset.tags),
        "status": status,
        "problem": problem or None,
    }


def lines(presets: Iterable[dict[str, Any]], width: int | None = None) -> list[str]:
    """Format the result of `describe` as a table, at most `width` columns wide unless it is None."""
    return table(
        [
            (
                preset["id"],
                preset["integration"] or "-",
                f"{preset['method']} {preset['url']}" if preset["url"] else "-",
                preset["description"]
                if preset["status"] in ("ok", "unknown")
                else f"{preset['status']}: {preset['problem']}",
            )
            for preset in presets
        ],
        width,
    )


def preview_lines(preview_result: Preview) -> list[str]:
    """Format a preview as text, with control characters escaped: another operator may have written the preset."""
    return [printable(line) for line in str(preview_result).split("\n")]


def read_data(data: str | None, preset: Preset) -> bytes:
    """Read the caller's body: `@FILE` names a file and `@-` standard input, as in curl. Raises PresetCommandError."""
    if data is None:
        return b"{}" if preset.rules.has_body else b""
    if not data.startswith("@"):
        return data.encode("utf-8", "surrogateescape")
    if data == "@-":
        return sys.stdin.buffer.read()
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise PresetCommandError(f"{data[1:]} cannot be read: {error.strerror}") from None


def send(snapshot: Snapshot, preset: Preset, data: bytes) -> ProbeResult:
    """Send a preset's request for a caller's body through a data plane in this process."""
    quiet = replace(snapshot, log=command_log(snapshot.log))
    return run_logged(quiet.log, partial(_send, quiet, preset, data))


async def _send(snapshot: Snapshot, preset: Preset, data: bytes, writer: LineWriter) -> ProbeResult:
    app = App(snapshot, writer)
    app.plane.worker.deadlines.start(asyncio.get_running_loop())
    try:
        return await probe_preset(app.plane, preset, data)
    finally:
        await app.close()


@click.group("preset", cls=Group)
def command() -> None:
    """List webhook presets, show their requests, and send one."""


def data_option(command: F) -> F:
    """Add `--data`."""
    text = "The caller's request body: parameters as JSON, or the payload. @FILE reads a file, @- standard input."
    return click.option("--data", metavar="TEXT", help=text)(command)


@command.command("list")
@config_option
@json_option
def list_command(config: str | None, as_json: bool) -> None:
    """List the presets.

    The list has ID, integration, request, and why a preset is failing or unusable. As `sidekey list`, the command reads
    the status from a running Sidekey.
    """
    snapshot = load_snapshot(config)
    running = read_running_status(snapshot)
    presets = describe(snapshot, running, time.time())
    print_result(presets, lines(presets, terminal_width()), as_json=as_json)
    if running.reason and not as_json:
        click.echo(f"note: status `unknown`: {running.reason}", err=True)


@command.command("preview")
@config_option
@json_option
@data_option
@click.argument("preset_id", metavar="ID", shell_complete=complete_preset_id)
def preview_command(config: str | None, as_json: bool, data: str | None, preset_id: str) -> None:
    """Show the request of a preset without sending it.

    The request is built from parameters or a payload. Only the name of the credential is shown.
    """
    snapshot = load_snapshot(config)
    preset = find_preset(snapshot, preset_id)
    result = preview(snapshot, preset, _read_data_or_fail(data, preset))
    print_result(result.as_json(), preview_lines(result), as_json=as_json)
    raise SystemExit(0 if result.problem is None else 1)


@command.command("test")
@config_option
@json_option
@data_option
@click.argument("preset_id", metavar="ID", shell_complete=complete_preset_id)
def test_command(config: str | None, as_json: bool, data: str | None, preset_id: str) -> None:
    """Send a preset's request to its upstream.

    The request goes through the data plane, without a listener. A 2xx response is success.
    """
    snapshot = load_snapshot(config)
    preset = find_preset(snapshot, preset_id)
    try:
        result = send(snapshot, preset, _read_data_or_fail(data, preset))
    except StartError as error:
        fail(error)
    print_result(result.as_json(), (str(result),), as_json=as_json)
    raise SystemExit(0 if result.ok else 1)


def _read_data_or_fail(data: str | None, preset: Preset) -> bytes:
    """Read the caller's body. Exit with an error if its file cannot be read."""
    try:
        return read_data(data, preset)
    except PresetCommandError as error:
        fail(error)
