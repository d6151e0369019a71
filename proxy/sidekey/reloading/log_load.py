"""Logs what a load of the config found that is not as it should be."""

from __future__ import annotations

from collections.abc import Iterable

from sidekey.observe.logs import get_logger
from sidekey.settings.config_errors import ConfigError
from sidekey.settings.load import Loaded


def log_load(loaded: Loaded) -> None:
    """Of a config in use: each file that cannot be read, and how many warnings (there may be thousands)."""
    log = get_logger()
    for error in loaded.unreadable:
        log.error("cannot be read; what needs it is unavailable until it can", place=str(error))
    for name, errors in loaded.kept.items():
        for error in errors:
            log.error("what is read now cannot be used; the former is kept", integration=name, place=str(error))
    if loaded.warnings:
        first = str(loaded.warnings[0])
        log.warning("the config has warnings; `sidekey check` names them all", count=len(loaded.warnings), first=first)


def log_errors(errors: Iterable[ConfigError]) -> None:
    """Of a config that is not taken up: every error."""
    log = get_logger()
    found = list(errors)
    log.error("the config has errors and is not taken up; the former one stays in use", count=len(found))
    for error in found:
        log.error("an error of the config", place=str(error))
