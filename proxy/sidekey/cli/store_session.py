"""A command's time in the store that the config names; and whom the audit names for what it does there."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sidekey.runtime.store_rules import StoreRules
from sidekey.store.place import open_store
from sidekey.store.store import Store

T = TypeVar("T")

WHO = "command line"
"""Whom the audit names, beside the user."""


def user() -> str:
    """Who runs the command, as far as the system knows: where it came from, to the audit."""
    try:
        return f"user {getpass.getuser()}"
    except (KeyError, OSError):
        return "user unknown"


def in_store(rules: StoreRules, work: Callable[[Store], Awaitable[T]], *, create: bool) -> T:
    """Open the store at once or not at all, do the work, and close it; `create` may make it. Raises StoreError."""

    async def main() -> T:
        store = await open_store(rules, create=create)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(main())
