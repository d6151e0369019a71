"""Row: large bodies and slow readers: throughput, and memory."""

from __future__ import annotations

from pathlib import Path

from benchmarks.arena import Arena, Running, side_by_side
from benchmarks.bulk import BulkUpstream, download, read_slowly, upload
from benchmarks.figures import Figure, Outcome, Sample, at_most, lines_of
from benchmarks.peers.base import Peer
from benchmarks.peers.envoy import Envoy
from benchmarks.peers.nginx import Nginx
from benchmarks.peers.sidekey import Sidekey
from benchmarks.processes import PeakMemory

_BIG = 1 << 30
_SLOW = 10 << 20
_READERS = 20
_WARM_UP = 64 << 20
_ROUNDS = 5

_DOWNLOAD = Figure("1 GB response, MB/s", 0)
_DOWNLOAD_CPU = Figure("1 GB response, CPU s", 2)
_UPLOAD = Figure("1 GB upload, MB/s", 0)
_UPLOAD_CPU = Figure("1 GB upload, CPU s", 2)
_GROWTH = Figure("RSS growth, big bodies MB", 1)
_SLOW_GROWTH = Figure("RSS growth, slow readers MB", 1)


class Bulk:
    """1 GB down, 1 GB up, and 20 callers that read 10 MB each at 5 MB/s."""

    name = "bulk"
    title = "1 GB response, 1 GB upload, 20 slow readers of 10 MB"

    def run(self, arena: Arena) -> Outcome:
        """Rates, processor time, and the peak of memory over idle."""
        subjects: dict[str, Peer] = {
            "sidekey": Sidekey(request_body="2GiB"),
            "envoy": Envoy(),
            "nginx": Nginx(streaming=True),
        }
        reaches = {
            _DOWNLOAD_CPU: at_most(1, over="envoy"),
            _UPLOAD_CPU: at_most(1, over="envoy"),
            _GROWTH: at_most(32),
            _SLOW_GROWTH: at_most(32),
        }
        folder = arena.folder / self.name
        folder.mkdir()
        with BulkUpstream(folder) as bulk, side_by_side(arena, subjects, bulk.upstream) as comparison:
            comparison.measure(
                _ROUNDS, lambda running: _round(running, bulk.zeros), lambda running: _warm_up(running, bulk.zeros)
            )
        return Outcome(lines_of(comparison.medians(), reaches), comparison.failures, comparison.rounds)


def _warm_up(running: Running, zeros: Path) -> None:
    port, path = running.job.port, running.peer.path("bulk")
    download(port, path, _WARM_UP)
    upload(port, path, _WARM_UP, zeros)


def _round(running: Running, zeros: Path) -> Sample:
    port, path, program = running.job.port, running.peer.path("bulk"), running.program
    with PeakMemory(program) as big:
        began = program.cpu_seconds()
        received = download(port, path, _BIG)
        between = program.cpu_seconds()
        sent = upload(port, path, _BIG, zeros)
        ended = program.cpu_seconds()
    with PeakMemory(program) as slow:
        read_slowly(port, path, _SLOW, _READERS)
    return {
        _DOWNLOAD: _BIG / received / 1e6,
        _DOWNLOAD_CPU: between - began,
        _UPLOAD: _BIG / sent / 1e6,
        _UPLOAD_CPU: ended - between,
        _GROWTH: (big.peak - running.idle_bytes) / 1e6,
        _SLOW_GROWTH: (slow.peak - running.idle_bytes) / 1e6,
    }
