"""Where peers meet: the shared upstream, and peers started side by side and measured in turn (A B A B)."""

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
from benchmarks.probe import CHECK, await_answer
from benchmarks.processes import MeasureFailed, Program
from benchmarks.upstream import Upstream, nginx_upstream

SETTLE_SECONDS = 0.3
"""Seconds after which a peer's memory is at rest."""


@dataclass(frozen=True, slots=True)
class Running:
    """A peer that has answered its first request. `subject` is the name under which a row measures it."""

    subject: str
    peer: Peer
    program: Program
    job: Job
    start_seconds: float
    idle_bytes: int

    def load(self, load: Load) -> Sample:
        """One round of wrk against it."""
        before = self.program.cpu_seconds()
        requests, seen = load.run(f"http://127.0.0.1:{self.job.port}{self.peer.path('hook')}", self.job.folder)
        used = self.program.cpu_seconds() - before
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
    """What all rows share. The nginx upstream starts when a row first asks for it and stops with the arena."""

    folder: Path
    cores: Cores
    open_files: int
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
        """The CA whose client certificates the upstream takes."""
        return ClientCa(self.folder / "clients")

    @cached_property
    def upstreams(self) -> Mapping[str, Upstream]:
        """The nginx upstream: `http`, `https` and `mtls`, the latter two also with `, once`. Raises MeasureFailed."""
        sides = nginx_upstream(self.folder / "upstream", self.cores.load, self.open_files, self.clients)
        return self._stack.enter_context(sides)

    def start(self, subject: str, peer: Peer, upstream: Upstream, stack: ExitStack) -> Running:
        """Start a peer and wait for its first answer; `stack` stops it. Raises MeasureFailed."""
        self._started += 1
        folder = self.folder / f"{self._started}-{peer.name}"
        folder.mkdir()
        job = Job(folder, free_port(), free_port(), upstream, self.open_files)
        command = peer.command(job)
        began = time.perf_counter()
        program = stack.enter_context(Program(command, folder / "output.log", self.cores.proxy))
        await_answer(program, job.port, peer.path(CHECK), {})
        seconds = time.perf_counter() - began
        time.sleep(SETTLE_SECONDS)
        return Running(subject, peer, program, job, seconds, program.resident_bytes())


@dataclass(slots=True)
class Contest:
    """The subjects of one row. A subject that fails is dropped, and the others go on."""

    running: dict[str, Running] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    rounds: dict[str, list[Sample]] = field(default_factory=dict)

    @contextmanager
    def noting(self, subject: str) -> Iterator[None]:
        """Note the subject's failure in the block instead of ending the row."""
        try:
            yield
        except MeasureFailed as fault:
            self.failures[subject] = str(fault)
            self.running.pop(subject, None)
            self.rounds.pop(subject, None)

    def measure(self, count: int, act: Callable[[Running], Sample]) -> None:
        """Run a round that warms up and `count` that count, each subject once a round."""
        for number in range(count + 1):
            for subject, running in list(self.running.items()):
                with self.noting(subject):
                    sample = act(running)
                    if number > 0:
                        self.rounds.setdefault(subject, []).append(sample)

    def medians(self) -> dict[str, dict[Figure, float]]:
        """The medians of each subject that got through."""
        return {subject: medians(samples) for subject, samples in self.rounds.items()}


@contextmanager
def contest(arena: Arena, peers: Mapping[str, Peer], upstream: Upstream) -> Iterator[Contest]:
    """Start the peers that are installed, keyed by subject, side by side, and stop them at the end."""
    found = Contest()
    with ExitStack() as stack:
        for subject, peer in peers.items():
            if peer.program() is not None:
                with found.noting(subject):
                    found.running[subject] = arena.start(subject, peer, upstream, stack)
        yield found


def afresh(
    arena: Arena, peers: Mapping[str, Peer], upstream: Upstream, count: int, act: Callable[[Running], Sample]
) -> Contest:
    """Run `count` rounds for which each installed peer is started anew, alone."""
    found = Contest()
    for _ in range(count):
        for subject, peer in peers.items():
            if peer.program() is not None and subject not in found.failures:
                with found.noting(subject), ExitStack() as stack:
                    sample = act(arena.start(subject, peer, upstream, stack))
                    found.rounds.setdefault(subject, []).append(sample)
    return found
