"""The line writer: lines stay complete, and no output error stops the process."""

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
    """Return both ends of a pipe. The LineWriter owns the writing end."""
    end, fd = os.pipe()
    yield end, fd
    os.close(end)


def read_to_end(end: int) -> bytes:
    """Read until the writing end closes."""
    return b"".join(iter(lambda: os.read(end, 1 << 16), b""))


def test_line_is_written_at_once_before_start(pipe: tuple[int, int]) -> None:
    end, fd = pipe
    writer = LineWriter(fd)
    writer.write(b"one\n")
    assert os.read(end, 100) == b"one\n"
    writer.close()


def test_close_writes_waiting_lines(pipe: tuple[int, int]) -> None:
    end, fd = pipe
    writer = LineWriter(fd)
    writer.start()
    lines = [b"%d\n" % number for number in range(2000)]
    for line in lines:
        writer.write(line)
    writer.close()
    assert read_to_end(end) == b"".join(lines)


def test_lines_of_many_threads_stay_complete(tmp_path: Path) -> None:
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


def test_lines_dropped_for_a_stalled_reader_are_reported(pipe: tuple[int, int]) -> None:
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
    # Write until the reader has made room for the notice.
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


def test_unread_pipe_does_not_block_the_exit() -> None:
    code = (
        "import os\nfrom sidekey.observe.writer import LineWriter\n"
        "end, fd = os.pipe()\nwriter = LineWriter(fd)\nwriter.start()\n"
        "for _ in range(100_000): writer.write(b'x' * 99 + b'\\n')\n"
        "writer.close(timeout=0.1)\nprint('ended')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "ended\n", "")


def test_full_disk_only_drops_lines() -> None:
    writer = LineWriter(os.open("/dev/full", os.O_WRONLY))
    for _ in range(3):
        writer.write(b"lost\n")
    assert writer.unreported == 3
    writer.close()


def test_closed_pipe_only_drops_lines() -> None:
    """The process gets no signal and no exception."""
    end, fd = os.pipe()
    os.close(end)
    writer = LineWriter(fd)
    writer.start()
    writer.write(b"lost\n")
    writer.close()
    writer.write(b"refused\n")
    assert writer.unreported == 2


def test_incomplete_line_is_ended_before_the_next(tmp_path: Path) -> None:
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
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    first, incomplete, notice, fourth = path.read_text().splitlines()
    assert (first, incomplete, fourth) == ("first", "seco", "fourth")
    assert json.loads(notice)["lines"] == 2


def test_incomplete_line_is_ended_after_a_reopen(tmp_path: Path) -> None:
    """The disk was full before a SIGUSR1 without a rename."""
    path = tmp_path / "log"
    code = (
        "import os, resource, signal, sys\nfrom sidekey.observe.writer import LineWriter\n"
        "from sidekey.observe.output import Output, open_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "writer = LineWriter(os.open(os.devnull, os.O_WRONLY))\nwriter.switch_to(open_file(sys.argv[1], 'auto'))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))\n"
        "writer.write(b'first\\n')\nwriter.write(b'second\\n')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "writer.reopen()\nwriter.write(b'third\\n')\n"
        "os.rename(sys.argv[1], sys.argv[1] + '.1')\nwriter.reopen()\nwriter.write(b'fourth\\n')\nwriter.close()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    first, incomplete, notice, third = (tmp_path / "log.1").read_text().splitlines()
    assert (first, incomplete, third) == ("first", "seco", "third")
    assert json.loads(notice)["lines"] == 1
    assert path.read_text() == "fourth\n"


def test_close_between_two_checks_ends_the_thread(pipe: tuple[int, int]) -> None:
    end, fd = pipe
    writer = LineWriter(fd)

    class Late(threading.Event):
        """An event that is set right after a `wait` has returned False."""

        def wait(self, timeout: float | None = None) -> bool:
            result = super().wait(timeout)
            if not result:
                self.set()
                writer._wake.set()
            return result

    writer._closing = Late()
    writer.start()
    writer.write(b"line\n")
    assert writer._thread is not None
    writer._thread.join(30)
    assert not writer._thread.is_alive()
    writer.close()
    assert read_to_end(end) == b"line\n"


def test_non_blocking_descriptor_loses_no_line(pipe: tuple[int, int]) -> None:
    """Another process that shares standard error may have set O_NONBLOCK."""
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
def test_closed_or_full_standard_error_does_not_stop_the_process(redirect: str) -> None:
    """Lines must not go to another file with the same descriptor number."""
    code = (
        "import socket\na, b = socket.socketpair()\n"
        "from sidekey.observe.writer import LineWriter\nwriter = LineWriter.stderr()\nwriter.start()\n"
        "writer.write(b'line\\n')\nwriter.close()\na.close()\nprint(b.recv(10))"
    )
    result = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {redirect}', sys.executable, code],
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "b''\n")


def test_log_rotation_loses_no_line(tmp_path: Path) -> None:
    """logrotate renames the file while lines are written."""
    path = tmp_path / "log"
    writer = LineWriter(os.open(os.devnull, os.O_WRONLY))
    writer.switch_to(open_file(str(path), "auto"))
    writer.start()
    for rotation in range(5):
        for number in range(200):
            writer.write(b"%d\n" % (200 * rotation + number))
        path.rename(tmp_path / f"log.{rotation}")
        writer.reopen()
        while not path.exists():
            os.sched_yield()
    writer.write(b"last\n")
    writer.close()
    files = [*(tmp_path / f"log.{rotation}" for rotation in range(5)), path]
    text = b"".join(file.read_bytes() for file in files)
    assert text.split() == [*(b"%d" % number for number in range(1000)), b"last"]
    assert files[-1].read_bytes().endswith(b"last\n")


def test_failed_reopen_keeps_the_file_and_is_reported(tmp_path: Path, pipe: tuple[int, int]) -> None:
    """The error goes to standard error."""
    end, fd = pipe
    folder = tmp_path / "logs"
    folder.mkdir()
    writer = LineWriter(fd)
    writer.switch_to(open_file(str(folder / "log"), "auto"))
    folder.rename(tmp_path / "moved")
    writer.reopen()
    writer.write(b"line\n")
    writer.close()
    notice = json.loads(read_to_end(end))
    assert (notice["level"], notice["file"], notice["reason"]) == (
        "error",
        str(folder / "log"),
        "No such file or directory",
    )
    assert notice["event"] == "the log file cannot be opened again; the one that was renamed stays in use"
    assert (tmp_path / "moved" / "log").read_bytes() == b"line\n"


def test_full_disk_is_reported_once(pipe: tuple[int, int]) -> None:
    end, fd = pipe
    writer = LineWriter(fd)
    writer.switch_to(open_file("/dev/full", "auto"))
    for _ in range(3):
        writer.write(b"lost\n")
    assert writer.count_dropped() == 3
    writer.close()
    notice = json.loads(read_to_end(end))
    assert notice["event"] == "the log file cannot be written to; log lines are dropped"
    assert notice["reason"] == "No space left on device"


def test_dropped_lines_are_reported_without_another_line(pipe: tuple[int, int]) -> None:
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


def test_previous_output_names_the_next_one(tmp_path: Path, pipe: tuple[int, int]) -> None:
    """Otherwise the log could move unnoticed."""
    end, fd = pipe
    first, other = tmp_path / "one", tmp_path / "other"
    writer = LineWriter(fd)
    writer.switch_to(open_file(str(first), "json"))
    writer.write(b"line\n")
    writer.switch_to(open_file(str(other), "text"), announce=True)
    writer.switch_to(open_file(str(other), "json"), announce=True)
    writer.switch_to(Output(os.dup(fd)), announce=True)
    writer.write(b"last\n")
    writer.close()
    line, notice = first.read_text().splitlines()
    assert line == "line"
    assert (json.loads(notice)["event"], json.loads(notice)["file"]) == ("log lines go to a file", str(other))
    (notice,) = other.read_text().splitlines()
    assert json.loads(notice)["event"] == "log lines go to standard error"
    assert read_to_end(end) == b"last\n"


def test_each_output_has_its_own_format(tmp_path: Path, pipe: tuple[int, int]) -> None:
    end, fd = pipe
    writer = LineWriter(fd)
    line = b'{"timestamp":"","level":"info","event":"e"}\n'
    writer.write(line)
    writer.switch_to(open_file(str(tmp_path / "log"), "text"))
    writer.write(line)
    writer.switch_to(open_file(str(tmp_path / "log"), "json"))
    writer.write(line)
    writer.close()
    assert read_to_end(end) == line
    assert (tmp_path / "log").read_bytes() == b" info    e\n" + line
