"""Logs the errors and warnings of a load of the config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from sidekey.observe.logs import get_logger
from sidekey.settings.config_errors import ConfigError, Kind
from sidekey.settings.loaded import Loaded

WARNINGS_SHOWN: Final = 20
"""How many warnings of one load are logged each: there may be thousands, one for each integration."""


_EVENTS: Final[Mapping[Kind, str]] = {
    "unreadable": "secret or CA file cannot be read; what needs it is unavailable until it can be read",
    "refused": "client certificate must not be used; what needs it is unavailable",
    "mismatched": "preset cannot be used with its integration",
    "writable": "other users can change a file that Sidekey trusts",
}


def log_load(loaded: Loaded) -> None:
    """Log each finding with which a config is used nevertheless, the first warnings, and their number."""
    log = get_logger()
    for error, kind in loaded.findings:
        if kind in _EVENTS:
            log.error(_EVENTS[kind], place=str(error))
    for name, kept in loaded.kept.items():
        for error in kept.reasons:
            log.error(
                "new secret or CA file cannot be used; the previous one stays in use",
                integration=name,
                place=str(error),
            )
    warnings = loaded.warnings
    if warnings:
        log.warning("the config has warnings; run `sidekey check` to list them", count=len(warnings))
    for warning in warnings[:WARNINGS_SHOWN]:
        log.warning("config warning", place=str(warning))


def log_errors(errors: Iterable[ConfigError]) -> None:
    """Log every error of a config that is not used."""
    log = get_logger()
    found = list(errors)
    log.error("the config has errors and was not reloaded; the previous one stays in use", count=len(found))
    for error in found:
        log.error("config error", place=str(error))
