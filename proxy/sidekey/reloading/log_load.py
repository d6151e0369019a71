"""Logs the errors and warnings of a load of the config."""

from __future__ import annotations

from collections.abc import Iterable

from sidekey.observe.logs import get_logger
from sidekey.settings.config_errors import ConfigError
from sidekey.settings.load import Loaded


def log_load(loaded: Loaded) -> None:
    """Of a config in use: each file that cannot be read, and the number of warnings (there may be thousands)."""
    log = get_logger()
    for error in loaded.unreadable:
        log.error(
            "secret or CA file cannot be read; what needs it is unavailable until it can be read", place=str(error)
        )
    for name, errors in loaded.kept.items():
        for error in errors:
            log.error(
                "new secret or CA file cannot be used; the previous one stays in use",
                integration=name,
                place=str(error),
            )
    if loaded.warnings:
        first = str(loaded.warnings[0])
        log.warning(
            "the config has warnings; run `sidekey check` to list them", count=len(loaded.warnings), first=first
        )


def log_errors(errors: Iterable[ConfigError]) -> None:
    """Of a config that is not used: every error."""
    log = get_logger()
    found = list(errors)
    log.error("the config has errors and was not reloaded; the previous one stays in use", count=len(found))
    for error in found:
        log.error("config error", place=str(error))
