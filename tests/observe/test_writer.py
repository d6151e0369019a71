"""observe/writer.py: lines get out whole, and nothing that happens to the descriptor stops the process."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidekey.observe.output import Output, open_file
from sidekey.observe.writer import LineWriter


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe; a test gives the writing end to a LineWriter, which owns it."""
    end, fd = os.pipe()
    yield end, fd
    os.close(end)


def read_to_end(end: int) -> bytes:
    """All that is written until the writing end closes."""
    return b"".join(iter(lambda: os.read(end, 1 << 16), b""))


def test_a_line_is_out_at_once_before_the_thread_starts(pipe: tuple[int, int]) -> None:
    """A command line needs no thread and no loop."""
    end, fd = pipe
    writer = LineWriter(fd)
    writer.write(b"one\n")
    assert os.read(end, 100) == b"one\n"
    writer.close()


def test_closing_writes_what_waits(pipe: tuple[int, int]) -> None:
    """Lines of the last moments before an exit are not lost, and come in order."""
    end, fd = pipe
    writer = LineWriter(fd)
    writer.start()
    lines = [b"%d\n" % number for number in range(2000)]
    for line in lines:
        writer.write(line)
    writer.close()
    assert read_to_end(end) == b"".join(lines)


def test_lines_of_many_threads_stay_whole(tmp_path: Path) -> None:
    """Any thread may write; each line arrives once and undivided."""
    path = tmp_path / "log"
    writer = LineWriter(os.open(path, os.O_WRONLY | os.O_CREAT))
    writer.start()

    def work(name: int) -> None:
        for number in range(500):
            writer.write(b"%d %d\n" % (name, number))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    expected = sorted(b"%d %d" % (name, number) for name in range(8) for number in range(500))
    assert sorted(path.read_bytes().splitlines()) == expected


def test_a_reader_that_stalls_costs_lines_and_is_reported_how_many(pipe: tuple[int, int]) -> None:
    """Where nobody reads, `write` goes on within a bounded backlog; what gets through first says what is missing."""
    end, fd = pipe
    writer = LineWriter(fd, backlog=100_000)
    writer.start()
    line = b"x" * 999 + b"\n"
    total = 5000
    for _ in range(total):
        writer.write(line)
    dropped = writer.unreported
    assert dropped >= total - 200 - 64
    reader: list[bytes] = []
    thread = threading.Thread(target=lambda: reader.append(read_to_end(end)))
    thread.start()
    # Room again: this line, or one before it, carries the news.
    while writer.unreported:
        writer.write(b"last\n")
    writer.close()
    thread.join()
    lines = reader[0].splitlines()
    notices = [json.loads(text) for text in lines if text.startswith(b"{")]
    arrived = sum(text == line.rstrip() for text in lines)
    assert {notice["event"] for notice in notices} == {"log lines were dropped"}
    assert arrived + sum(notice["lines"] for notice in notices) >= total
    assert set(lines) <= {line.rstrip(), b"last", *(text for text in lines if text.startswith(b"{"))}


def test_a_pipe_that_nobody_reads_does_not_hold_up_the_exit() -> None:
    """A process whose log is stuck ends all the same."""
    code = (
        "import os\nfrom sidekey.observe.writer import LineWriter\n"
        "end, fd = os.pipe()\nwriter = LineWriter(fd)\nwriter.start()\n"
        "for _ in range(100_000): writer.write(b'x' * 99 + b'\\n')\n"
        "writer.close(timeout=0.1)\nprint('ended')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "ended\n", "")


def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    """Every write to a full device fails; the lines are counted."""
    writer = LineWriter(os.open("/dev/full", os.O_WRONLY))
    for _ in range(3):
        writer.write(b"lost\n")
    assert writer.unreported == 3
    writer.close()


def test_a_closed_pipe_costs_lines_and_nothing_else() -> None:
    """Where the reader has gone, no signal and no exception reaches the process."""
    end, fd = os.pipe()
    os.close(end)
    writer = LineWriter(fd)
    writer.start()
    writer.write(b"lost\n")
    writer.close()
    writer.write(b"refused\n")
    assert writer.unreported == 2


def test_a_line_cut_short_is_ended_before_the_next(tmp_path: Path) -> None:
    """A disk that fills up within a line leaves its beginning; what comes later starts on a line of its own."""
    path = tmp_path / "log"
    code = (
        "import os, resource, signal, sys\nfrom sidekey.observe.writer import LineWriter\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)\nwriter = LineWriter(fd)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))\n"
        "writer.write(b'first\\n')\nwriter.write(b'second\\n')\nwriter.write(b'third\\n')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "writer.write(b'fourth\\n')\nwriter.close()"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    first, torn, notice, fourth = path.read_text().splitlines()
    assert (first, torn, fourth) == ("first", "seco", "fourth")
    assert json.loads(notice)["lines"] == 2


def test_a_line_cut_short_is_ended_although_its_file_was_opened_again(tmp_path: Path) -> None:
    """SIGUSR1 without a rename, once the disk has room again."""
    path = tmp_path / "log"
    code = (
        "import os, resource, signal, sys\nfrom sidekey.observe.writer import LineWriter\n"
        "from sidekey.observe.output import Output, open_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "writer = LineWriter(os.open(os.devnull, os.O_WRONLY))\nwriter.use(open_file(sys.argv[1], 'auto'))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))\n"
        "writer.write(b'first\\n')\nwriter.write(b'second\\n')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "writer.reopen()\nwriter.write(b'third\\n')\n"
        "os.rename(sys.argv[1], sys.argv[1] + '.1')\nwriter.reopen()\nwriter.write(b'fourth\\n')\nwriter.close()"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    first, torn, notice, third = (tmp_path / "log.1").read_text().splitlines()
    assert (first, torn, third) == ("first", "seco", "third")
    assert json.loads(notice)["lines"] == 1
    assert path.read_text() == "fourth\n"


def test_a_close_just_after_the_thread_has_looked_for_one_ends_it(pipe: tuple[int, int]) -> None:
    """It is not left waiting for a line that never comes, which would hold up the exit."""
    end, fd = pipe
    writer = LineWriter(fd)

    class Late(threading.Event):
        """Set, with all that `close` does before it waits, at the moment after a look that found it unset."""

        def wait(self, timeout: float | None = None) -> bool:
            found = super().wait(timeout)
            if not found:
                self.set()
                writer._wake.set()
            return found

    writer._closing = Late()
    writer.start()
    writer.write(b"line\n")
    assert writer._thread is not None
    writer._thread.join(30)
    assert not writer._thread.is_alive()
    writer.close()
    assert read_to_end(end) == b"line\n"


def test_a_descriptor_that_others_made_non_blocking_is_waited_for(pipe: tuple[int, int]) -> None:
    """A parent that shares standard error may have set O_NONBLOCK; no line is lost to EAGAIN."""
    end, fd = pipe
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK)
    writer = LineWriter(fd)
    writer.start()
    lines = [b"x" * 999 + b"\n"] * 500
    for line in lines:
        writer.write(line)
    reader: list[bytes] = []
    thread = threading.Thread(target=lambda: reader.append(read_to_end(end)))
    thread.start()
    writer.close(timeout=30)
    thread.join()
    assert reader == [b"".join(lines)]


@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full"])
def test_standard_error_that_is_closed_or_full_is_survived(redirect: str) -> None:
    """Without standard error lines go nowhere, and never to whatever got its number."""
    code = (
        "import socket\na, b = socket.socketpair()\n"
        "from sidekey.observe.writer import LineWriter\nwriter = LineWriter.stderr()\nwriter.start()\n"
        "writer.write(b'line\\n')\nwriter.close()\na.close()\nprint(b.recv(10))"
    )
    run = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {redirect}', sys.executable, code],
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "b''\n")


def test_a_file_that_was_renamed_is_opened_again_and_no_line_is_lost(tmp_path: Path) -> None:
    """As logrotate does it, while others write all the time."""
    path = tmp_path / "log"
    writer = LineWriter(os.open(os.devnull, os.O_WRONLY))
    writer.use(open_file(str(path), "auto"))
    writer.start()
    for turn in range(5):
        for number in range(200):
            writer.write(b"%d\n" % (200 * turn + number))
        path.rename(tmp_path / f"log.{turn}")
        writer.reopen()
        while not path.exists():
            os.sched_yield()
    writer.write(b"last\n")
    writer.close()
    files = [*(tmp_path / f"log.{turn}" for turn in range(5)), path]
    text = b"".join(file.read_bytes() for file in files)
    assert text.split() == [*(b"%d" % number for number in range(1000)), b"last"]
    assert files[-1].read_bytes().endswith(b"last\n")


def test_a_file_that_cannot_be_opened_again_stays_in_use_and_the_first_output_tells(
    tmp_path: Path, pipe: tuple[int, int]
) -> None:
    """Its folder is gone, say; the first output is standard error."""
    end, fd = pipe
    folder = tmp_path / "logs"
    folder.mkdir()
    writer = LineWriter(fd)
    writer.use(open_file(str(folder / "log"), "auto"))
    folder.rename(tmp_path / "moved")
    writer.reopen()
    writer.write(b"line\n")
    writer.close()
    said = json.loads(read_to_end(end))
    assert (said["level"], said["file"], said["reason"]) == ("error", str(folder / "log"), "No such file or directory")
    assert said["event"] == "the log file cannot be opened again; the one that was renamed stays in use"
    assert (tmp_path / "moved" / "log").read_bytes() == b"line\n"


def test_a_file_on_a_full_disk_is_told_of_once(pipe: tuple[int, int]) -> None:
    """The lines are counted, and nothing raises."""
    end, fd = pipe
    writer = LineWriter(fd)
    writer.use(open_file("/dev/full", "auto"))
    for _ in range(3):
        writer.write(b"lost\n")
    assert writer.count_dropped() == 3
    writer.close()
    said = json.loads(read_to_end(end))
    assert said["event"] == "the log file cannot be written to; log lines are dropped"
    assert said["reason"] == "No space left on device"


def test_what_was_dropped_is_told_although_no_line_follows(pipe: tuple[int, int]) -> None:
    """The next request may come tomorrow."""
    end, fd = pipe
    writer = LineWriter(fd, backlog=10)
    writer.start()
    for _ in range(100_000):
        writer.write(b"0123456789\n")
    dropped = writer.count_dropped()
    assert dropped > 0
    writer.close()
    notices = [json.loads(line) for line in read_to_end(end).splitlines() if line.startswith(b"{")]
    assert sum(notice["lines"] for notice in notices) == dropped


def test_an_output_that_is_left_says_where_lines_go_on(tmp_path: Path, pipe: tuple[int, int]) -> None:
    """Else who changes `log.file` leaves no trace where the log was read until then."""
    end, fd = pipe
    one, other = tmp_path / "one", tmp_path / "other"
    writer = LineWriter(fd)
    writer.use(open_file(str(one), "json"))
    writer.write(b"line\n")
    writer.use(open_file(str(other), "text"), announce=True)
    writer.use(open_file(str(other), "json"), announce=True)
    writer.use(Output(os.dup(fd)), announce=True)
    writer.write(b"last\n")
    writer.close()
    line, told = one.read_text().splitlines()
    assert line == "line"
    assert (json.loads(told)["event"], json.loads(told)["file"]) == ("log lines go to a file", str(other))
    (told,) = other.read_text().splitlines()
    assert json.loads(told)["event"] == "log lines go to standard error"
    assert read_to_end(end) == b"last\n"


def test_another_output_has_its_own_form(tmp_path: Path, pipe: tuple[int, int]) -> None:
    """What waits when it is changed goes to the next one; notices are in its form, too."""
    end, fd = pipe
    writer = LineWriter(fd)
    line = b'{"timestamp":"","level":"info","event":"e"}\n'
    writer.write(line)
    writer.use(open_file(str(tmp_path / "log"), "text"))
    writer.write(line)
    writer.use(open_file(str(tmp_path / "log"), "json"))
    writer.write(line)
    writer.close()
    assert read_to_end(end) == line
    assert (tmp_path / "log").read_bytes() == b" info    e\n" + line
