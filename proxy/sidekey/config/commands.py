"""Run the commands of a config, and keep and refresh the secrets that they write."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from sidekey.config.errors import FindingKind
from sidekey.config.programs import Programs
from sidekey.credentials.commands import Command
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.observe.log import get_logger, report_defect
from sidekey.refresh import backoff

PARALLEL: Final = 4
"""Maximum number of programs that run at the same time."""

NOT_RUN: Final = "was not run: only `sidekey run` and `sidekey test` run commands, with --allow-commands"
"""The reason without permission to run commands. It continues a sentence that begins with the program."""

_EARLIEST, _LATEST = 0.8, 0.9
"""Shares of its lifetime after which a secret is refreshed, so that many processes do not run at once."""

_GRACE: Final = 1.0
"""Seconds for the end of a killed program."""

_NOT_FINISHED = f"has not finished yet: at most {PARALLEL} commands run at the same time"


class SecretExpired(ValueError):
    """The last secret of a command has expired, so that it must not be used any longer."""


def kind_of(reason: str) -> FindingKind:
    """Return the kind of a finding about a value that cannot be read.

    `check` runs no command, so it only warns of one; `run` does not start without the permission.
    """
    return "absent" if reason.endswith(NOT_RUN) else "unreadable"


class _State(SecretHolder):
    """The last secret of a command, and its next run. `version` changes with `value` and `reason`."""

    __slots__ = ("due_at", "expires_at", "failures", "has_run", "is_running", "reason", "value", "version")

    def __init__(self) -> None:
        self.value: str | None = None
        self.expires_at: float | None = None
        self.reason = _NOT_FINISHED
        self.version = 0
        self.failures = 0
        self.has_run = self.is_running = False
        self.due_at = 0.0


class Commands(SecretHolder):
    """The commands of a running process, which several threads use.

    A reader registers a command at its first use with `require`, which starts the first run in another thread. From
    then on, `poll` refreshes its secret, until `retain` drops it. Nothing but `wait` blocks. `runs` counts runs by
    outcome.
    """

    __slots__ = (
        "_changed",
        "_closed",
        "_environ",
        "_loaded",
        "_new",
        "_pool",
        "_programs",
        "_states",
        "_version",
        "runs",
    )

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self.runs = {"ok": 0, "failed": 0}
        self._environ = os.environ if environ is None else environ
        self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="command")
        self._programs = Programs()
        self._changed = threading.Condition()
        self._states: dict[Command, _State] = {}
        self._new: set[Command] = set()
        self._version = 0
        self._loaded = 0
        self._closed = False

    @property
    def failing(self) -> int:
        """Return the number of commands whose last run failed."""
        with self._changed:
            return sum(state.failures > 0 for state in self._states.values())

    def require(self, command: Command) -> int:
        """Return the version of a command's result. Start a command that is not known yet."""
        with self._changed:
            state = self._states.get(command)
            if state is None:
                state = self._states[command] = _State()
                self._new.add(command)
                self._start(command, state)
            return state.version

    def version(self, command: Command) -> int | None:
        """Return the version of a command's result, or None for an unknown command."""
        with self._changed:
            state = self._states.get(command)
            return None if state is None else state.version

    def read(self, command: Command) -> str:
        """Return the last secret of a command. Raises ValueError, or SecretExpired."""
        with self._changed:
            state = self._states.get(command)
            if state is None:
                raise ValueError(_NOT_FINISHED)
            self._expire(state)
            if state.value is None:
                raise (ValueError if state.expires_at is None else SecretExpired)(state.reason)
            return state.value

    def begin_load(self) -> None:
        """Note that a load begins, which reads all results so far."""
        with self._changed:
            self._loaded = self._version

    def wait(self) -> bool:
        """Wait until all new commands have run once, for at most their longest `timeout`. Return False without any."""
        with self._changed:
            new, self._new = self._new, set()
            if not new:
                return False
            longest = max(command.timeout for command in new)
            self._changed.wait_for(
                lambda: self._closed or all(self._states[command].has_run for command in new), longest + _GRACE
            )
            return True

    def poll(self) -> bool:
        """Start the runs that are due, and drop expired secrets.

        Return True if a result changed since the last load.
        """
        now = time.monotonic()
        with self._changed:
            for command, state in self._states.items():
                self._expire(state)
                if now >= state.due_at and not state.is_running:
                    self._start(command, state)
            return self._version != self._loaded

    def retain(self, commands: Collection[Command]) -> None:
        """Forget all other commands."""
        with self._changed:
            for command in self._states.keys() - commands:
                del self._states[command]

    def close(self) -> None:
        """Kill the running programs, and run no more. Does not wait for them."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._programs.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _start(self, command: Command, state: _State) -> None:
        if not self._closed:
            state.is_running = True
            self._pool.submit(self._run, command)

    def _run(self, command: Command) -> None:
        began = time.monotonic()
        try:
            output = self._programs.run(command, self._environ)
        except ValueError as error:
            self._fail(command, str(error))
        except Exception as defect:  # noqa: BLE001 - the edge of a thread: the next run may go well
            self._fail(
                command, f"could not be run because of a defect in Sidekey: see the log at {report_defect(defect)}"
            )
        else:
            self._succeed(command, output.value, output.expires_at, began)

    def _succeed(self, command: Command, value: str, expires_at: float | None, began: float) -> None:
        with self._changed:
            state = self._end_run(command, "ok")
            if state is None:
                return
            lifetime = command.ttl if expires_at is None else min(command.ttl, expires_at - time.time())
            state.due_at = began + max(1.0, lifetime * random.uniform(_EARLIEST, _LATEST))  # noqa: S311 - no secret
            state.failures = 0
            state.expires_at = expires_at
            state.reason = ""
            if state.value != value:
                state.value = value
                self._change(state)

    def _fail(self, command: Command, reason: str) -> None:
        with self._changed:
            state = self._end_run(command, "failed")
            if state is None or self._closed:
                return
            state.failures += 1
            state.due_at = time.monotonic() + backoff(state.failures, random.random())  # noqa: S311 - no secret
            is_repeated, state.reason = state.reason == reason, reason
            if state.value is None:
                if not is_repeated:
                    self._change(state)
                return
        if not is_repeated:
            get_logger().warning("command failed; its last secret stays in use", program=command.program, reason=reason)

    def _end_run(self, command: Command, outcome: str) -> _State | None:
        """Count a run and return the state of its command, or None if no config names the command any longer."""
        self.runs[outcome] += 1
        state = self._states.get(command)
        if state is not None:
            state.is_running, state.has_run = False, True
            self._changed.notify_all()
        return state

    def _expire(self, state: _State) -> None:
        if state.value is not None and state.expires_at is not None and state.expires_at <= time.time():
            state.value = None
            failure = f"since then it {state.reason}" if state.reason else "no run has finished since"
            state.reason = f"wrote a secret whose `expires_at` has passed; {failure}"
            self._change(state)

    def _change(self, state: _State) -> None:
        self._version += 1
        state.version = self._version
