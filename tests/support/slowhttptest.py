"""slowhttptest, the real program of slow attacks, against a listener of this process."""

from __future__ import annotations

import asyncio
import re
import subprocess
from dataclasses import dataclass

from support import programs

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Attack:
    """Why it ended, in its own words, and whether its probes were answered all the while."""

    reason: str
    served: bool
    text: str


async def attack(*options: str, url: str, connections: int = 20, seconds: int = 20) -> Attack:
    """Run an attack until the program sees every connection closed, or for so many seconds; end it where cancelled."""
    command = [programs.require("slowhttptest"), *options, "-u", url]
    command += ["-c", str(connections), "-r", str(connections), "-l", str(seconds), "-i", "1"]
    program = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(50):
            written, _ = await program.communicate()
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
    text = _COLOURS.sub("", written.decode())
    reason = re.findall(r"Exit status:\s*(.*)", text)
    served = re.findall(r"service available:\s*(\w+)", text)
    return Attack(reason[-1] if reason else "", set(served) == {"YES"}, text)
