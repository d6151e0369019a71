"""Hooks log exceptions and warnings without their messages. Each case runs in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

SECRET = "hunter2-s3cret"

LOOP = """
import {loop} as implementation
def callback(argument): raise ValueError(SECRET)
async def task(): raise KeyError(SECRET)
async def main():
    install_safe_hooks(asyncio.get_running_loop())
    asyncio.get_running_loop().call_soon(callback, SECRET)
    running = asyncio.create_task(task(), name=SECRET)
    await asyncio.wait([running])
    del running
    gc.collect()
loop = implementation.new_event_loop()
loop.run_until_complete(main())
loop.close()
"""

CASES = {
    "an exception": "raise ValueError(SECRET)",
    "a thread": """
def work(): raise ValueError(SECRET)
thread = threading.Thread(target=work, name="dns-1"); thread.start(); thread.join()
""",
    "a finaliser": """
class Thing:
    def __del__(self): raise ValueError(SECRET)
thing = Thing(); del thing
""",
    "a warning": "warnings.warn(SECRET, UserWarning)",
    "asyncio": LOOP.format(loop="asyncio"),
    "uvloop": LOOP.format(loop="uvloop"),
    "another message": """
async def main():
    loop = asyncio.get_running_loop()
    install_safe_hooks(loop)
    loop.call_exception_handler({"message": f"strange {SECRET}"})
asyncio.run(main())
""",
    "records": """
try:
    raise ValueError(SECRET)
except ValueError:
    logging.getLogger("aiohttp.server").exception("Error handling request from %s", SECRET)
logging.getLogger("asyncio").warning(f"formatted {SECRET}")
logging.getLogger("aiohttp.client").info("not for the log %s", SECRET)
""",
    "installed twice": 'install_safe_hooks()\nlogging.getLogger("asyncio").error("formatted")',
}
"""Code to run after the hooks are installed."""

PROGRAM = """
import asyncio, gc, json, logging, os, sys, threading, warnings
from sidekey.observe.hooks import install_safe_hooks
from sidekey.observe.log import configure
from sidekey.observe.writer import LineWriter
statuses = {}
for name, code in json.load(sys.stdin).items():
    process = os.fork()
    if process == 0:
        break
    _, status = os.waitpid(process, 0)
    statuses[name] = os.waitstatus_to_exitcode(status)
else:
    json.dump(statuses, sys.stdout)
    sys.exit()
for descriptor, ending in ((1, "out"), (2, "err")):
    os.dup2(os.open(f"{name}.{ending}", os.O_WRONLY | os.O_CREAT), descriptor)
configure("info", LineWriter.stderr())
install_safe_hooks()
SECRET = "hunter2-s3cret"
exec(code)
"""
"""A program that imports all modules once, and forks a process for each case."""


CaseResult = tuple[int, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CaseResult]:
    """Return the exit status of each case, and the lines of its standard error."""
    folder = tmp_path_factory.mktemp("hooks")
    command = [sys.executable, "-c", PROGRAM]
    process = subprocess.run(
        command, cwd=folder, input=json.dumps(CASES), capture_output=True, text=True, timeout=30, check=True
    )
    outputs = {name: (folder / f"{name}.err").read_text() for name in CASES}
    assert SECRET not in "".join([*outputs.values(), *((folder / f"{name}.out").read_text() for name in CASES)])
    statuses = json.loads(process.stdout)
    return {name: (statuses[name], [json.loads(line) for line in text.splitlines()]) for name, text in outputs.items()}


def test_uncaught_exception_is_logged_without_its_message(results: dict[str, CaseResult]) -> None:
    status, (line,) = results["an exception"]
    assert (status, line["level"], line["event"], line["error"]) == (
        1,
        "critical",
        "uncaught exception",
        ["ValueError"],
    )


def test_uncaught_exception_in_a_thread_is_logged(results: dict[str, CaseResult]) -> None:
    _, (line,) = results["a thread"]
    assert (line["event"], line["thread"], line["error"]) == ("uncaught exception in a thread", "dns-1", ["ValueError"])


def test_exception_in_a_finalizer_is_logged(results: dict[str, CaseResult]) -> None:
    """Python would print `Exception ignored in` and the message."""
    _, (line,) = results["a finaliser"]
    assert (line["event"], line["error"]) == ("exception that could not be raised", ["ValueError"])


def test_warning_is_logged_with_category_and_location(results: dict[str, CaseResult]) -> None:
    """The text of a warning may contain a repr."""
    _, (line,) = results["a warning"]
    assert (line["event"], line["category"]) == ("a library warned", "UserWarning")
    assert line["where"].startswith("<string>:")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_errors_of_the_event_loop_are_logged(loop: str, results: dict[str, CaseResult]) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    _, lines = results[loop]
    assert [(line["event"], line["message"], line["error"]) for line in lines] == [
        ("the event loop reported an error", "Exception in callback", ["ValueError"]),
        ("the event loop reported an error", "Task exception was never retrieved", ["KeyError"]),
    ]


def test_unknown_message_of_the_event_loop_is_not_logged(results: dict[str, CaseResult]) -> None:
    _, (line,) = results["another message"]
    assert line["message"] is None


def test_library_record_is_logged_without_its_arguments(results: dict[str, CaseResult]) -> None:
    """aiohttp and asyncio log URLs and requests as arguments."""
    _, lines = results["records"]
    assert [(line["level"], line["logger"], line["message"], line.get("error")) for line in lines] == [
        ("error", "aiohttp.server", "Error handling request from %s", ["ValueError"]),
        ("warning", "asyncio", None, None),
    ]


def test_installing_twice_logs_once(results: dict[str, CaseResult]) -> None:
    _, lines = results["installed twice"]
    assert len(lines) == 1
