"""slowhttptest, a program for slow attacks, against a listener of this process."""

from __future__ import annotations

import asyncio
import re
import subprocess
from dataclasses import dataclass

from support import programs

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class AttackResult:
    """The reported reason of the end, and whether all probes got responses."""

    reason: str
    served: bool
    text: str


async def attack(*options: str, url: str, connections: int = 20, seconds: int = 20) -> AttackResult:
    """Attack until every connection is closed, or for this many seconds. Cancellation ends the program."""
    command = [programs.require("slowhttptest"), *options, "-u", url]
    command += ["-c", str(connections), "-r", str(connections), "-l", str(seconds), "-i", "1"]
    program = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(50):
            output, _ = await program.communicate()
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
    text = _COLOURS.sub("", output.decode())
    reason = re.findall(r"Exit status:\s*(.*)", text)
    served = re.findall(r"service available:\s*(\w+)", text)
    return AttackResult(reason[-1] if reason else "", set(served) == {"YES"}, text)
