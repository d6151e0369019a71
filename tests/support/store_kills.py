"""Kill writers of a store: `python -m support.store_kills [--path PATH | --url URL] COUNT`."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from pathlib import Path

from sidekey.snapshot.store import StoreRules
from sidekey.store.open import open_store
from sidekey.store.state import Put
from support.stores import ENTRY, KEYS, integration, purpose_of, sealed

_LONGEST = 0.02
"""Seconds for which a writer writes, at most, behind its first acknowledgement."""


async def write(rules: StoreRules, number: int, known: list[str], pipe: int) -> None:
    """Write until killed. `known` has the acknowledged writes of previous writers."""
    store = await open_store(rules)
    state = store.state
    if state.rolled_back or state.altered or not set(known) <= set(state.integrations):
        os.write(pipe, b"lost\n")
        return
    await store.commit([Put(sealed(store, f"w{number}", "secret"), None)], ENTRY)
    os.write(pipe, f"w{number}\n".encode())
    for step in range(1000):
        one, two = integration(f"w{number}-{step}-a"), integration(f"w{number}-{step}-b")
        await store.commit([Put(one, None), Put(two, None)], ENTRY)
        os.write(pipe, f"{one.id}\n{two.id}\n".encode())
        if step % 10 == 9:
            await store.rotate_key(purpose_of, "ops")


def kill_writer(rules: StoreRules, number: int, known: list[str]) -> list[str]:
    """Start a writer, kill it, and return its acknowledged writes."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        asyncio.run(write(rules, number, known, writing))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as lines:
        first = lines.readline()
        time.sleep(random.uniform(0, _LONGEST))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        acknowledged = [first, *lines]
    if not first.endswith("\n") or first == "lost\n":
        raise SystemExit(f"writer {number}: {first or 'it did not write'}")
    return [line.strip() for line in acknowledged if line.endswith("\n")]


def main() -> None:
    """Kill this many writers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--path", type=Path)
    parser.add_argument("--url")
    parser.add_argument("count", type=int)
    arguments = parser.parse_args()
    rules = StoreRules(arguments.path, arguments.url, tuple(KEYS.items()), 1000.0)
    known: list[str] = []
    for number in range(arguments.count):
        known += kill_writer(rules, number, known)
    sys.stdout.write("".join([f"{name}\n" for name in known]))


if __name__ == "__main__":
    main()
