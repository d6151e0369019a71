"""Logs what a load of the config found that is not as it should be."""

from __future__ import annotations

from collections.abc import Iterable

from sidekey.observe.logs import get_logger
from sidekey.settings.faults import Fault
from sidekey.settings.load import Loaded


def tell(loaded: Loaded) -> None:
    """Of a config in use: each file that cannot be read, and how many warnings (there may be thousands)."""
    log = get_logger()
    for fault in loaded.unreadable:
        log.error("cannot be read; what needs it is unavailable until it can", place=str(fault))
    for name, faults in loaded.kept.items():
        for fault in faults:
            log.error("what is read now cannot be used; the former is kept", integration=name, place=str(fault))
    if loaded.warnings:
        first = str(loaded.warnings[0])
        log.warning("the config has warnings; `sidekey check` names them all", count=len(loaded.warnings), first=first)


def tell_faults(faults: Iterable[Fault]) -> None:
    """Of a config that is not taken up: every fault."""
    log = get_logger()
    found = list(faults)
    log.error("the config has faults and is not taken up; the former one stays in use", count=len(found))
    for fault in found:
        log.error("a fault of the config", place=str(fault))
