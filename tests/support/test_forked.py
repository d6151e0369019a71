"""What a forked Sidekey cannot show is refused, so that no test passes without its subject."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest

from support.child import Child, run_cli


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
