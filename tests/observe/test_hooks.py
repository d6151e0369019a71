"""observe/hooks.py: nothing prints a message behind the log's back. Each case is a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

import pytest

SECRET = "hunter2-s3cret"

PROLOGUE = """
import asyncio, gc, logging, sys, threading, warnings
from sidekey.observe.hooks import install_safe_hooks
from sidekey.observe.logs import configure
from sidekey.observe.writer import LineWriter
configure("info", LineWriter.stderr())
install_safe_hooks()
SECRET = "hunter2-s3cret"
"""


def run(code: str) -> tuple[int, list[dict[str, Any]]]:
    """Run the code after the hooks are installed; answers the exit status and the lines of standard error."""
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert SECRET not in done.stdout + done.stderr
    return done.returncode, [json.loads(line) for line in done.stderr.splitlines()]


def test_an_uncaught_exception_ends_the_process_without_its_message() -> None:
    """The interpreter's traceback is replaced by a line."""
    status, (line,) = run("raise ValueError(SECRET)")
    assert (status, line["level"], line["event"], line["error"]) == (
        1,
        "critical",
        "uncaught exception",
        ["ValueError"],
    )


def test_an_uncaught_exception_of_a_thread_is_described() -> None:
    """With the thread's name."""
    _, (line,) = run("""
        def work(): raise ValueError(SECRET)
        thread = threading.Thread(target=work, name="dns-1"); thread.start(); thread.join()
    """)
    assert (line["event"], line["thread"], line["error"]) == ("uncaught exception in a thread", "dns-1", ["ValueError"])


def test_an_exception_of_a_finaliser_is_described() -> None:
    """What Python would print as `Exception ignored in` is a line."""
    _, (line,) = run("""
        class Thing:
            def __del__(self): raise ValueError(SECRET)
        thing = Thing(); del thing
    """)
    assert (line["event"], line["error"]) == ("exception that could not be raised", ["ValueError"])


def test_a_warning_shows_its_category_and_place() -> None:
    """A warning's text may hold a repr."""
    _, (line,) = run("warnings.warn(SECRET, UserWarning)")
    assert (line["event"], line["category"]) == ("a library warned", "UserWarning")
    assert line["where"].startswith("<string>:")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_the_loop_complains_of_is_described(loop: str) -> None:
    """A callback that raises and a task whose exception nobody took are lines, without reprs."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    _, lines = run(f"""
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
    """)
    assert [(line["event"], line["message"], line["error"]) for line in lines] == [
        ("the event loop reported an error", "Exception in callback", ["ValueError"]),
        ("the event loop reported an error", "Task exception was never retrieved", ["KeyError"]),
    ]


def test_a_message_of_the_loop_that_is_not_known_is_left_out() -> None:
    """Only what stands in the table is repeated."""
    _, (line,) = run("""
        async def main():
            loop = asyncio.get_running_loop()
            install_safe_hooks(loop)
            loop.call_exception_handler({"message": f"strange {SECRET}"})
        asyncio.run(main())
    """)
    assert line["message"] is None


def test_a_library_s_record_keeps_its_template_and_loses_its_arguments() -> None:
    """aiohttp and asyncio log URLs and requests as arguments."""
    _, lines = run("""
        try:
            raise ValueError(SECRET)
        except ValueError:
            logging.getLogger("aiohttp.server").exception("Error handling request from %s", SECRET)
        logging.getLogger("asyncio").warning(f"formatted {SECRET}")
        logging.getLogger("aiohttp.client").info("not for the log %s", SECRET)
    """)
    assert [(line["level"], line["logger"], line["message"], line.get("error")) for line in lines] == [
        ("error", "aiohttp.server", "Error handling request from %s", ["ValueError"]),
        ("warning", "asyncio", None, None),
    ]


def test_installing_twice_logs_once() -> None:
    """The hooks replace what was there."""
    _, lines = run('install_safe_hooks()\nlogging.getLogger("asyncio").error("formatted")')
    assert len(lines) == 1
