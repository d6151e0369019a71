"""Logs the errors and warnings of a load of the config."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sidekey.observe.logs import get_logger
from sidekey.settings.config_errors import ConfigError
from sidekey.settings.load import Loaded

WARNINGS_SHOWN: Final = 20
"""How many warnings of one load are logged each: there may be thousands, one for each integration."""


def log_load(loaded: Loaded) -> None:
    """Of a config in use: each error that it is used with nevertheless, the first warnings, and the number of them."""
    log = get_logger()
    for error in loaded.unreadable:
        log.error(
            "secret or CA file cannot be read; what needs it is unavailable until it can be read", place=str(error)
        )
    for error in loaded.refused:
        log.error("client certificate must not be used; what needs it is unavailable", place=str(error))
    for error in loaded.mismatched:
        log.error("preset cannot be used with its integration", place=str(error))
    for error in loaded.writable:
        log.error("other users can change a file that Sidekey trusts", place=str(error))
    for name, errors in loaded.kept.items():
        for error in errors:
            log.error(
                "new secret or CA file cannot be used; the previous one stays in use",
                integration=name,
                place=str(error),
            )
    if loaded.warnings:
        log.warning("the config has warnings; run `sidekey check` to list them", count=len(loaded.warnings))
    for warning in loaded.warnings[:WARNINGS_SHOWN]:
        log.warning("config warning", place=str(warning))


def log_errors(errors: Iterable[ConfigError]) -> None:
    """Of a config that is not used: every error."""
    log = get_logger()
    found = list(errors)
    log.error("the config has errors and was not reloaded; the previous one stays in use", count=len(found))
    for error in found:
        log.error("config error", place=str(error))
