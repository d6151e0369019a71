"""Run the commands of a config, and keep and refresh the secrets that they write."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from sidekey.config.programs import ProgramOutput, ProgramRunner
from sidekey.config.secrets import SecretExpired
from sidekey.credentials.commands import Command
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.observe.log import get_logger, report_defect
from sidekey.refresh import backoff

PARALLEL: Final = 4
"""Maximum number of programs that run at the same time."""

_EARLIEST, _LATEST = 0.7, 0.8
"""Shares of its lifetime after which a secret is refreshed, so that many processes do not run at once."""

_MIN_PAUSE: Final = 1.0
"""Seconds from the begin of a run to the next one."""

_GRACE: Final = 1.0
"""Seconds for the end of a killed program."""

_NOT_RUN_YET = "has not run yet"
_NOT_FINISHED = f"has not finished yet: at most {PARALLEL} commands run at the same time"


@dataclass(slots=True, eq=False, repr=False)
class _State(SecretHolder):
    """The last secret of a command, and its next run. `version` changes with the secret, and with `reason` without one.

    `integrations` are those that use it, and `rejected_by` those that cannot use the last secret. `rejections` counts
    the runs with such a secret.
    """

    ttl: float
    timeout: float
    integrations: list[str] = field(default_factory=list)
    value: str | None = None
    rejected_by: frozenset[str] = frozenset()
    rejections: int = 0
    expires_at: float | None = None
    reason: str = _NOT_RUN_YET
    version: int = 0
    failures: int = 0
    has_run: bool = False
    is_running: bool = False
    due_at: float = 0.0


class Commands(SecretHolder):
    """The commands of a running process, which several threads use.

    `programs` are the paths of the programs that may run, or None for all. With an `integration`, for a test, only its
    commands run. A load registers a command at its first use with `require`, and starts the new ones together with
    `run_new`. From then on, `poll` refreshes a secret, until `retain` drops its command. Only `run_new` blocks. `runs`
    counts runs by outcome.
    """

    def __init__(
        self,
        programs: Collection[str] | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        integration: str | None = None,
    ) -> None:
        self.runs = {"ok": 0, "failed": 0}
        self._programs = programs
        self.integration = integration
        self._permitted: frozenset[Command] | None = None
        self._environ = os.environ if environ is None else environ
        self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="command")
        self._runner = ProgramRunner()
        self._changed = threading.Condition()
        self._states: dict[Command, _State] = {}
        self._new: dict[Command, _State] = {}
        self._version = 0
        self._loaded = 0
        self._closed = False

    def allows(self, command: Command) -> bool:
        """Return True if the program may run."""
        return (self._programs is None or command.program in self._programs) and (
            self._permitted is None or command in self._permitted
        )

    def failures(self) -> dict[str, int]:
        """Return 1 for each integration with a command whose last run failed, and 0 for each other one.

        A run whose output an integration cannot use has failed.
        """
        result: dict[str, int] = {}
        with self._changed:
            for state in self._states.values():
                for name in state.integrations:
                    has_failed = state.failures > 0 or name in state.rejected_by
                    result[name] = max(result.get(name, 0), int(has_failed))
        return result

    def begin_load(self) -> None:
        """Note that a load begins, which reads all results so far."""
        with self._changed:
            self._loaded = self._version

    def require(self, command: Command) -> int:
        """Return the version of a command's result. Register the command if it is new."""
        with self._changed:
            state = self._states.get(command)
            if state is None:
                state = self._states[command] = self._new[command] = _State(command.ttl, command.timeout)
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
                raise ValueError(_NOT_RUN_YET)
            self._expire(state)
            if state.value is None:
                raise (ValueError if state.expires_at is None else SecretExpired)(state.reason)
            return state.value

    def run_new(self, users: Iterable[tuple[str, Command]]) -> bool:
        """Run the commands that a load has registered, and wait at most their longest `timeout`. False without any.

        `users` are the integrations with their commands. Blocks.
        """
        with self._changed:
            if self.integration is not None:
                self._permitted = frozenset(command for name, command in users if name == self.integration)
                self._forget(self._new.keys() - self._permitted)
            new, self._new = self._new, {}
            for command, state in new.items():
                state.reason = _NOT_FINISHED
                self._change(state)
                self._start(command, state)
            if not new:
                return False
            longest = max(state.timeout for state in new.values())
            self._changed.wait_for(
                lambda: self._closed or all(state.has_run for state in new.values()), longest + _GRACE
            )
            return True

    def forget_new(self) -> None:
        """Forget the commands that a load has registered, because its config is not used."""
        with self._changed:
            self._forget(set(self._new))

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

    def retain(self, users: Iterable[tuple[str, Command]], rejected: Iterable[tuple[str, Command]] = ()) -> None:
        """Forget all commands but those of the integrations in `users`. Those in `rejected` cannot use the last secret.

        If equal commands differ in `ttl` or `timeout`, the shortest `ttl` and the longest `timeout` apply.
        """
        by_command: dict[Command, list[tuple[str, Command]]] = {}
        for name, command in users:
            by_command.setdefault(command, []).append((name, command))
        rejected_by: dict[Command, set[str]] = {}
        for name, command in rejected:
            rejected_by.setdefault(command, set()).add(name)
        now = time.monotonic()
        with self._changed:
            self._states = {command: state for command, state in self._states.items() if command in by_command}
            for command, state in self._states.items():
                limits = state.ttl, state.timeout
                state.integrations = [name for name, _ in by_command[command]]
                # Without a secret, the failure of the command is the reason.
                state.rejected_by = frozenset(rejected_by.get(command, ()) if state.value is not None else ())
                if not state.rejected_by:
                    state.rejections = 0
                elif not state.rejections:
                    self._retry_rejected(state)
                state.ttl = min(used.ttl for _, used in by_command[command])
                state.timeout = max(used.timeout for _, used in by_command[command])
                if limits != (state.ttl, state.timeout):
                    # Somebody may have raised the timeout of a slow program.
                    state.due_at = now if state.failures else min(state.due_at, now + state.ttl * _EARLIEST)

    def close(self) -> None:
        """Kill the running programs, and run no more. Does not wait for them."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._runner.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _forget(self, new: Iterable[Command]) -> None:
        for command in new:
            del self._states[command], self._new[command]

    def _start(self, command: Command, state: _State) -> None:
        if not self._closed:
            state.is_running = True
            self._pool.submit(self._run, command, state)

    def _run(self, command: Command, state: _State) -> None:
        began = time.monotonic()
        try:
            output = self._runner.run(command, state.timeout, self._environ)
        except ValueError as error:
            self._fail(command, state, str(error))
        except Exception as defect:  # noqa: BLE001 - the edge of a thread: the next run may go well
            self._fail(
                command, state, f"was not run because of a defect in Sidekey: see {report_defect(defect)} in the log"
            )
        else:
            self._succeed(command, state, output, began)

    def _succeed(self, command: Command, state: _State, output: ProgramOutput, began: float) -> None:
        with self._changed:
            if not self._end_run(command, state, "ok"):
                return
            lifetime = state.ttl if output.expires_at is None else min(state.ttl, output.expires_at - time.time())
            state.due_at = began + max(_MIN_PAUSE, lifetime * random.uniform(_EARLIEST, _LATEST))  # noqa: S311
            state.failures, state.reason = 0, ""
            if state.rejected_by:
                self._retry_rejected(state)
            state.expires_at = output.expires_at
            if state.value != output.value:
                state.value = output.value
                self._change(state)

    def _fail(self, command: Command, state: _State, reason: str) -> None:
        with self._changed:
            if not self._end_run(command, state, "failed"):
                return
            state.failures += 1
            state.due_at = time.monotonic() + backoff(state.failures, random.random())  # noqa: S311
            is_repeated, state.reason = state.reason == reason, reason
            has_value, integrations = state.value is not None, sorted(state.integrations)
            if not has_value and not is_repeated:
                self._change(state)
        if has_value and not is_repeated:
            get_logger().warning(
                "command failed; its last secret stays in use",
                integrations=integrations,
                program=command.program,
                reason=reason,
            )

    def _end_run(self, command: Command, state: _State, outcome: str) -> bool:
        """Count a run. Return False if its result is no longer of use."""
        self.runs[outcome] += 1
        state.is_running, state.has_run = False, True
        self._changed.notify_all()
        return not self._closed and self._states.get(command) is state

    def _retry_rejected(self, state: _State) -> None:
        """Run the program again soon, because its next output may be usable."""
        state.rejections += 1
        pause = backoff(state.rejections, random.random())  # noqa: S311
        state.due_at = min(state.due_at, time.monotonic() + pause)

    def _expire(self, state: _State) -> None:
        if state.value is not None and state.expires_at is not None and state.expires_at <= time.time():
            state.value = None
            if not state.failures:
                state.reason = "has not finished since its last secret expired"
            self._change(state)

    def _change(self, state: _State) -> None:
        self._version += 1
        state.version = self._version
