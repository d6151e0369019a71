"""Options that several commands have, and what completes an ID."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from sidekey.runtime.snapshot import Snapshot

F = TypeVar("F", bound=Callable[..., Any])


def config_option(command: F) -> F:
    """Add `--config`."""
    text = "A config file, or a folder of them. Default: $SIDEKEY_CONFIG, then /etc/sidekey."
    return click.option("--config", metavar="PATH", help=text)(command)


def json_option(command: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")(command)


def complete_id(context: click.Context, _: click.Parameter, begun: str) -> list[str]:
    """What completes an ID: those of the config that begin so; none where it cannot be read."""
    found = _known(context)
    return [] if found is None else sorted(name for name in found.integrations if name.startswith(begun))


def complete_first_id(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """What completes the first of several words, which is an ID."""
    return [] if context.params.get("words") else complete_id(context, parameter, begun)


def complete_preset_id(context: click.Context, _: click.Parameter, begun: str) -> list[str]:
    """What completes the ID of a preset, likewise."""
    found = _known(context)
    return [] if found is None else sorted(name for name in found.presets if name.startswith(begun))


def _known(context: click.Context) -> Snapshot | None:
    # `run` has these options too, and imports nothing before its time.
    from sidekey.cli.loading import load  # noqa: PLC0415 - as the line above says

    return load(context.params.get("config")).snapshot
