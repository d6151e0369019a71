"""What a forked Sidekey cannot show is refused, so that no test passes without its subject."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import pytest

from support.child import Child, run_cli, run_code
from support.forked import Forked


def test_a_variable_of_the_interpreter_is_refused() -> None:
    """It would have no effect: the interpreter has started before."""
    with pytest.raises(ValueError, match="PYTHONPROFILEIMPORTTIME"):
        run_cli("--version", environment={"PYTHONPROFILEIMPORTTIME": "1"})


def woken_by_eventfd(process: Path) -> bool:
    """Whether an eventfd wakes the loop: whatever looks at sockets. The watch of the config has one of its own."""
    for descriptor in (process / "fdinfo").iterdir():
        links = []
        # Connections end meanwhile.
        with suppress(FileNotFoundError):
            for number in re.findall(r"^tfd: +(\d+) ", descriptor.read_text(), re.MULTILINE):
                with suppress(FileNotFoundError):
                    links.append(str((process / "fd" / number).readlink()))
        if any(link.startswith("socket:") for link in links):
            return "anon_inode:[eventfd]" in links
    raise AssertionError("nothing looks at sockets")


@pytest.mark.parametrize("absent", [[], ["uvloop"]])
def test_a_process_has_few_descriptors_and_lacks_a_module(absent: list[str], tmp_path: Path) -> None:
    """As `ulimit` and another installation would have it; uvloop wakes itself by an eventfd, asyncio by sockets."""
    with Child("integrations: {}\n", tmp_path, descriptors=64, absent=absent) as child:
        process = Path(f"/proc/{child.process.pid}")
        assert re.search(r"^Max open files +64 +64 ", (process / "limits").read_text(), re.MULTILINE)
        assert woken_by_eventfd(process) is (not absent)
        assert child.stop() == 0


@pytest.mark.parametrize(
    ("code", "status", "output", "errors"),
    [
        ("import sys; print(sys.argv[1:]); print('e', file=sys.stderr)", 0, "['a', 'b']\n", "e\n"),
        ("raise SystemExit(3)", 3, "", ""),
        ("import os; os.abort()", -6, "", ""),
        (
            "import atexit; atexit.register(print, 'last'); raise ValueError('defect')",
            1,
            "last\n",
            "ValueError: defect\n",
        ),
    ],
)
def test_code_ends_as_an_interpreter_does(code: str, status: int, output: str, errors: str) -> None:
    """Its status, what is written until then, and what is said of an exception."""
    done = run_code(code, "a", "b")
    assert (done.returncode, done.stdout) == (status, output)
    assert done.stderr.endswith(errors)


def test_a_bare_process_has_not_imported_what_no_run_needs() -> None:
    """Those that are not bare have."""
    found = [run_code("import sys; print('cryptography' in sys.modules)", bare=bare).stdout for bare in (False, True)]
    assert found == ["True\n", "False\n"]


@pytest.mark.parametrize("unbuffered", [False, True])
def test_output_is_a_files_and_waits_for_the_end_unless_it_is_unbuffered(unbuffered: bool, tmp_path: Path) -> None:
    """As the interpreter does it by PYTHONUNBUFFERED."""
    path = tmp_path / "output"
    path.touch()
    code = "import sys; print('one'); print(open(sys.argv[1]).read(), file=sys.stderr)"
    process = Forked([str(path)], os.environ, merged=False, code=code, output=path, unbuffered=unbuffered)
    assert process.stderr is not None
    with process.stdout, process.stderr:
        assert process.stdout.read() == ""
        assert process.stderr.read() == ("one\n\n" if unbuffered else "\n")
    assert process.wait(60) == 0
    assert path.read_text() == "one\n"


def test_a_process_that_nobody_waits_for_is_killed() -> None:
    """It ends with the tests that started it."""
    process = Forked([], os.environ, merged=True, code="import time; print(flush=True); time.sleep(600)")
    with process.stdout:
        assert process.stdout.readline() == "\n"
        assert process.poll() is None
        process.close()
        assert process.stdout.read() == ""
