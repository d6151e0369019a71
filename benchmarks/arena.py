"""The shared upstream, and peers that are started side by side and measured in turn (A B A B)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.clients import ClientCa
from benchmarks.figures import CPU, P50, P99, RATE, RESIDENT_IDLE, RESIDENT_LOADED, Figure, Sample, medians
from benchmarks.load import Load
from benchmarks.machine import Cores, free_port
from benchmarks.peers.base import Job, Peer
from benchmarks.probe import CHECK, TLS, await_response, negotiated_tls, read_page
from benchmarks.processes import MeasureFailed, Program
from benchmarks.tunnels import build
from benchmarks.upstream import Upstream, nginx_upstream


@dataclass(frozen=True, slots=True)
class Running:
    """A peer that has served its first request. `subject` is its name in a row.

    `idle_bytes` is its memory after that request and one for each of its status pages; `private_bytes` is the private
    part of it. `tls` is version and group of its connection to the nginx upstream; empty without TLS.
    """

    subject: str
    peer: Peer
    program: Program
    job: Job
    start_seconds: float
    idle_bytes: int
    private_bytes: int
    tls: str

    def load(self, load: Load) -> Sample:
        """Run one round of a load against it."""
        cpu_before = self.program.cpu_seconds()
        requests, seen = load.measure(self.job.port, self.peer.path("hook"), self.job.folder, self.peer.fields)
        used = self.program.cpu_seconds() - cpu_before
        return {
            RATE: seen[RATE],
            CPU: used / requests * 1e6,
            P50: seen[P50],
            P99: seen[P99],
            RESIDENT_IDLE: self.idle_bytes / 1e6,
            RESIDENT_LOADED: self.program.resident_bytes() / 1e6,
        }


@dataclass
class Arena:
    """Resources of all rows. The nginx upstream starts when a row first needs it, and stops with the arena.

    After `settle` seconds without work the memory of a peer no longer changes.
    """

    folder: Path
    cores: Cores
    open_files: int
    settle: float = 0.3
    _stack: ExitStack = field(default_factory=ExitStack)
    _started: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @cached_property
    def clients(self) -> ClientCa:
        """The CA whose client certificates the upstream accepts."""
        return ClientCa(self.folder / "clients")

    @cached_property
    def tunnel_callers(self) -> Path:
        """Return the program that loads tunnels. Raises MeasureFailed."""
        return build(self.folder)

    @cached_property
    def upstreams(self) -> Mapping[str, Upstream]:
        """Return the nginx upstream: `http`, `https` and `mtls`, the latter with `, once` too. Raises MeasureFailed."""
        sides = nginx_upstream(self.folder / "upstream", self.cores.load, self.open_files, self.clients)
        return self._stack.enter_context(sides)

    def start(self, subject: str, peer: Peer, upstream: Upstream, stack: ExitStack) -> Running:
        """Start a peer and wait for its first response; `stack` stops it. Raises MeasureFailed."""
        self._started += 1
        folder = self.folder / f"{self._started}-{peer.name}"
        folder.mkdir()
        job = Job(folder, free_port(), free_port(), upstream, self.open_files)
        command = peer.command(job)
        began = time.perf_counter()
        program = stack.enter_context(Program(command, folder / "output.log", self.cores.proxy))
        await_response(program, job.port, peer.path(CHECK), peer.fields, tls=peer.only_tls)
        seconds = time.perf_counter() - began
        for page in peer.pages:
            read_page(job.admin_port, page)
        tls = "" if upstream.ca is None else negotiated_tls(job.port, peer.path(TLS), peer.fields, tls=peer.only_tls)
        time.sleep(self.settle)
        return Running(subject, peer, program, job, seconds, program.resident_bytes(), program.private_bytes(), tls)


@dataclass(slots=True)
class Comparison:
    """The subjects of one row. If a subject fails, the comparison continues without it."""

    running: dict[str, Running] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    rounds: dict[str, list[Sample]] = field(default_factory=dict)
    tls: dict[str, str] = field(default_factory=dict)
    """TLS version and group to the upstream, of each subject that uses TLS."""

    def note_tls(self, running: Running) -> None:
        """Record TLS version and group of a subject that uses TLS."""
        if running.tls:
            self.tls[running.subject] = running.tls

    @contextmanager
    def noting(self, subject: str) -> Iterator[None]:
        """Record the subject's failure in the block instead of failing the row."""
        try:
            yield
        except MeasureFailed as error:
            self.failures[subject] = str(error)
            self.running.pop(subject, None)
            self.rounds.pop(subject, None)

    def measure(
        self, count: int, act: Callable[[Running], Sample], warm_up: Callable[[Running], object] | None = None
    ) -> None:
        """Run `warm_up`, or else `act`, once with each subject, and then `count` rounds of `act`."""
        for subject, running in list(self.running.items()):
            with self.noting(subject):
                (warm_up or act)(running)
        for _ in range(count):
            for subject, running in list(self.running.items()):
                with self.noting(subject):
                    self.rounds.setdefault(subject, []).append(act(running))

    def load(self, count: int, load: Load | Mapping[str, Load]) -> None:
        """Run `count` rounds of one load, or of each subject's, after a brief warm-up."""

        def load_of(running: Running) -> Load:
            return load[running.subject] if isinstance(load, Mapping) else load

        self.measure(
            count,
            lambda running: running.load(load_of(running)),
            lambda running: running.load(load_of(running).brief()),
        )

    def medians(self) -> dict[str, dict[Figure, float]]:
        """Return the medians of each subject that did not fail."""
        return {subject: medians(samples) for subject, samples in self.rounds.items()}


@contextmanager
def side_by_side(arena: Arena, peers: Mapping[str, Peer], upstream: Upstream) -> Iterator[Comparison]:
    """Start the installed peers, keyed by subject, and stop them at the end."""
    comparison = Comparison()
    with ExitStack() as stack:
        for subject, peer in peers.items():
            if peer.program() is not None:
                with comparison.noting(subject):
                    comparison.running[subject] = running = arena.start(subject, peer, upstream, stack)
                    comparison.note_tls(running)
        yield comparison


def one_by_one(
    arena: Arena, peers: Mapping[str, Peer], upstream: Upstream, count: int, act: Callable[[Running], Sample]
) -> Comparison:
    """Run `count` rounds, and start each installed peer again for each round, alone."""
    comparison = Comparison()
    for _ in range(count):
        for subject, peer in peers.items():
            if peer.program() is not None and subject not in comparison.failures:
                with comparison.noting(subject), ExitStack() as stack:
                    running = arena.start(subject, peer, upstream, stack)
                    comparison.note_tls(running)
                    comparison.rounds.setdefault(subject, []).append(act(running))
    return comparison
