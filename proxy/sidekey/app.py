"""The composition root: the only module that knows every part. Starts them, reloads on signals, drains."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, TypeVar

from sidekey import process
from sidekey.api.listeners import AdminExtension, Extension, Health, build_admin, build_metrics
from sidekey.api.server import MAX_CONNECTIONS, AdminTls, Server, serve
from sidekey.api.service import ApiServices
from sidekey.certificates.leaves import Leaves
from sidekey.certificates.service import Certificates
from sidekey.config.load import Loaded, Loader
from sidekey.config.reload import Reloader, ReloadHooks, log_load
from sidekey.credentials.base import GrantSource
from sidekey.diagnostics.probe import Outcome, probe, probe_preset, target_of
from sidekey.errors import ProblemError, StartError
from sidekey.network.dial import Dialer
from sidekey.network.fetch import Fetcher
from sidekey.network.guard import Listener as OwnListener
from sidekey.network.listen import Listener, listen
from sidekey.network.tls import prepare_trust
from sidekey.observe.access import AccessLog
from sidekey.observe.audit import AuditLog
from sidekey.observe.exceptions import describe, is_output_error
from sidekey.observe.history import History
from sidekey.observe.hooks import install_safe_hooks
from sidekey.observe.log import LogLevel, LogOutput, configure, get_logger, open_log, report_defect
from sidekey.observe.metrics import Metrics
from sidekey.observe.output import open_standard_error
from sidekey.observe.prometheus import Exposition
from sidekey.observe.writer import LineWriter
from sidekey.proxy.data_plane import DataPlane
from sidekey.proxy.worker import Worker
from sidekey.publish import Commit, Publisher, PublishRefused
from sidekey.snapshot.snapshot import Address, Integration, Log, Preset, Snapshot, TestRequest
from sidekey.store_manager import StoreManager
from sidekey.tokens.ledger import Ledger, NoLedger
from sidekey.tokens.service import Tokens
from sidekey.tokens.source import TokenSource
from sidekey.tokens.static import StaticSource

T = TypeVar("T")

_TURNS: Final = 10
"""Turns of the loop in which connections hear that they were cut, in a tunnel a few after one another."""


class App:
    """One running Sidekey. `start` opens the listeners, `serve` ends with a signal, `stop` drains.

    `managed` is the store whose integrations it serves and which it manages, `ledger` where tokens are taken that
    processes share: None where it shares none.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        writer: LineWriter,
        managed: StoreManager | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.health = Health(None if managed is None else lambda: managed.unread)
        self.metrics = Metrics()
        self.metrics.count_dropped = writer.count_dropped
        self._history = History(self.metrics, lambda: self.snapshot)
        self._writer = writer
        self._log = get_logger()
        self._asked_to_stop = asyncio.Event()
        self._leaving: asyncio.Task[None] | None = None
        self._reloader: Reloader | None = None
        self.managed = managed
        self._admin_tls = _admin_tls(snapshot)
        self._service: ApiServices | None = None
        self._servers: list[Server] = []
        self._listener: Listener | None = None
        self._dialer = Dialer(snapshot.network)
        where = snapshot.listen
        self._dialer.own_listeners = own_listeners((where.proxy, where.admin, where.metrics))
        self._fetcher = Fetcher(self._dialer, process.calls())
        self._certificates = Certificates(self._fetcher, self.metrics, report_defect)
        identity_of = self._certificates.source
        self.leaves = Leaves(self.metrics, report_defect)
        self._tokens = Tokens(self._fetcher, self.metrics, report_defect, identity_of=identity_of, ledger=ledger)
        access = AccessLog(writer, snapshot.log.access, snapshot.log.path)
        self._audit = AuditLog(writer, snapshot.log.audit)
        self.plane = DataPlane(
            snapshot,
            source_of=self._source,
            identity_of=identity_of,
            dialer=self._dialer,
            metrics=self.metrics,
            access=access,
            audit=self._audit,
            leaves=self.leaves,
            report=report_defect,
        )
        parts = (
            self._dialer,
            self._certificates,
            self.leaves,
            self._tokens,
            self.plane,
            self.metrics,
            access,
            self._audit,
            LogLevel(snapshot.log.level),
            LogOutput(writer, snapshot.log),
            InFlightLimit(self.plane.worker),
            *(() if managed is None else (managed,)),
            *(() if self._admin_tls is None else (self._admin_tls,)),
        )
        self.publisher = Publisher(snapshot, parts, report_defect)

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot in use."""
        return self.publisher.snapshot

    def follow(self, loader: Loader, loaded: Loaded, *, strict: bool) -> None:
        """Reload from now on what changes of the config that `loader` reads; `loaded` is in use."""
        hooks = ReloadHooks(self.publisher, self._kept_files, self._rotate, self.metrics, report_defect, self._audit)
        self._reloader = Reloader(loader, loaded, hooks, strict=strict)
        self._reloader.start()
        if self.managed is not None:
            self.managed.follow(self._reloader, self.metrics)
        if self._service is not None:
            self._history.start(None if self.managed is None else self.managed.store, report_defect)

    def _kept_files(self) -> set[Path]:
        """The files that parts read again by themselves."""
        return self._certificates.files() | self.leaves.files()

    async def _rotate(self, changed: set[Path]) -> None:
        await self._certificates.changed(changed)
        await self.leaves.changed(changed)

    def _source(self, integration: Integration) -> GrantSource:
        """What obtains an integration's grants: from its secrets alone, or as tokens that end."""
        if integration.traits.ends and integration.rebuild is None:
            return self._tokens.source(integration)
        return StaticSource(integration.secrets)

    @property
    def proxy_address(self) -> Address:
        """The address of the proxy listener, with the port that was chosen where the config says 0."""
        return self.snapshot.listen.proxy if self._listener is None else self._listener.addresses[0]

    @property
    def admin_address(self) -> Address:
        """The address of the admin listener."""
        return self._servers[0].addresses[0]

    def note_certificate_requests(self) -> set[str]:
        """The names of servers that request a client certificate from now on, for `sidekey test`."""
        return self._dialer.note_certificate_requests()

    async def start(self) -> None:
        """Put the first snapshot in use, then open every listener.

        Raises StartError, or what a part raised, with nothing left open.
        """
        where = self.snapshot.listen
        process.raise_descriptors()
        self._fetcher.limit(process.calls())
        try:
            self.publisher.publish(self.snapshot)
            # Callers that start once Sidekey is ready read what they must trust.
            await self.leaves.ready()
            self.metrics.config_loaded = True
            self.metrics.config_loaded_at = time.time()
            self.plane.worker.deadlines.start(asyncio.get_running_loop())
            most = process.side_connections(process.ADMIN_CONNECTIONS)
            exposition = Exposition(self.metrics)
            application = build_admin(self.health, exposition, self._extension(where.admin))
            tls = None if self._admin_tls is None else self._admin_tls.context
            self._servers.append(
                await serve(
                    application,
                    where.admin,
                    "listen.admin",
                    most,
                    is_shared=lambda: self.snapshot.admin.behind_tls,
                    tls=tls,
                )
            )
            if where.metrics is not None:
                application = build_metrics(self.health, exposition)
                most = process.side_connections(MAX_CONNECTIONS)
                self._servers.append(await serve(application, where.metrics, "listen.metrics", most))
            backlog = process.backlog()
            self._listener = await listen(self.plane.connection, where.proxy, "listen.proxy", backlog=backlog)
        except BaseException:
            await self.close()
            raise
        bound = [*self._listener.addresses, *(address for server in self._servers for address in server.addresses)]
        self._dialer.own_listeners = own_listeners(bound)
        # A full collection of 1,000 integrations stops all requests for 0.1 s, one of 10,000 for 0.4 s.
        gc.freeze()
        self.health.started = True
        self._log.info(
            "listening",
            proxy=str(self.proxy_address),
            admin=str(self.admin_address),
            integrations=len(self.snapshot.integrations),
        )

    def _extension(self, address: Address) -> Extension | None:
        """Return the API and the console, or None if nobody could log in."""
        if not self.snapshot.has_api:
            return None
        self._service = ApiServices(
            self.managed,
            snapshot=lambda: self.snapshot,
            probe=self.probe,
            probe_draft=self.probe_draft,
            probe_preset=self.probe_preset,
            metrics=self.metrics,
            history=self._history,
            # Token endpoints that hang must not delay log-ins, nor a flood of log-ins the tokens.
            fetcher=Fetcher(self._dialer, min(process.LOGIN_CALLS, process.calls())),
            report=report_defect,
        )
        return AdminExtension(self._service, address)

    async def probe(self, name: str, test: TestRequest) -> Outcome:
        """Send the test request of an integration through the data plane, if its secrets obtain a token."""
        integration = self.snapshot.integrations.get(name)
        source = None if integration is None else self._source(integration)
        if isinstance(source, TokenSource):
            try:
                await source.prove()
            except ProblemError as failed:
                # Without a token the data plane reports the same problem, and records it.
                if source.current is not None:
                    problem, request = failed.problem, f"{test.method} {target_of(name, test)}"
                    return Outcome(request, problem.status, problem.code, problem.detail, maybe_sent=False)
        return await probe(self.plane, name, test)

    async def probe_draft(self, draft: Integration, test: TestRequest) -> Outcome:
        """Send the test request of an integration that nobody else may use."""
        # Nobody would keep what comes of a refresh token, and a token could be the end of one that is in use.
        ledger = NoLedger("other processes may share it: save the draft, and test what is saved")
        trial = App(_alone(self.snapshot, draft), self._writer, ledger=ledger)
        # What listens is this process's, whatever its config says.
        trial._dialer.own_listeners = self._dialer.own_listeners
        trial.plane.worker.deadlines.start(asyncio.get_running_loop())
        await asyncio.to_thread(prepare_trust, trial.snapshot)
        try:
            return await probe(trial.plane, draft.id, test)
        finally:
            await trial.close()

    async def probe_preset(self, preset: Preset, data: bytes, content_type: str, who: str) -> Outcome:
        """Send a preset for an operator through the data plane, with the credential of the integration in use."""
        return await probe_preset(self.plane, preset, data, content_type, draft=True, who=who)

    def install_signal_handlers(self) -> None:
        """Let SIGTERM or SIGINT end `serve`, and a second one the process.

        SIGHUP asks for a reload, SIGUSR1 to open the log file again. Must be called before anyone can connect.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        loop.add_signal_handler(signal.SIGUSR1, self._writer.reopen)
        # It was ignored until now, and may have been sent after the file was opened.
        self._writer.reopen()

    def _on_hangup(self) -> None:
        # Before there is a reloader nothing is lost: it begins by comparing every file.
        if self._reloader is not None:
            # systemd takes READY=1 for the end of the reload only after a RELOADING=1 that is newer than its signal.
            self._notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000}")
            self._reloader.request_load().add_done_callback(lambda _: self._notify("READY=1"))

    def _on_signal(self, number: int) -> None:
        if self._asked_to_stop.is_set():
            self._leaving = asyncio.get_running_loop().create_task(self._leave(128 + number))
            return
        self._log.info("draining", signal=signal.Signals(number).name)
        self._asked_to_stop.set()

    async def _leave(self, status: int) -> None:
        """End the process now, and tell of what that cuts."""
        try:
            # The kernel would end a response that is under way as if it were whole.
            self.plane.worker.cut()
            for _ in range(_TURNS):
                await asyncio.sleep(0)
        finally:
            # Also where the drain ends meanwhile, which cancels this.
            try:
                self._writer.close(timeout=0.2)
            finally:
                process.leave(status)

    async def serve(self) -> None:
        """Serve until a signal asks to stop, then drain. Tell the service manager about both."""
        self._notify("READY=1")
        await self._asked_to_stop.wait()
        self._notify("STOPPING=1")
        await self.stop()

    def _notify(self, *states: str) -> None:
        try:
            process.notify(*states)
        except OSError as error:
            self._log.error("the service manager cannot be notified", reason=os.strerror(error.errno or 0))

    async def stop(self) -> None:
        """Fail readiness, serve for `drain_delay`, stop accepting, let exchanges finish within `drain`."""
        timeouts = self.snapshot.timeouts
        self.health.draining = True
        self.plane.drain()
        await asyncio.sleep(timeouts.drain_delay)
        if self._service is not None:
            self._service.sender.stop()
        if self._listener is not None:
            await self._listener.stop()
        clean = await self.plane.finish(timeouts.drain)
        if not clean:
            self._log.warning("exchanges in flight were cut at the end of timeouts.drain")
        await self.close()
        self._log.info("stopped")

    async def close(self) -> None:
        """End everything at once."""
        if self._reloader is not None:
            await self._reloader.close()
        await self.plane.close()
        if self._service is not None:
            # Sends that were cut have a result now, which the store gets before it is closed.
            await self._service.sender.finish()
        await self._history.close()
        await self._tokens.close()
        if self.managed is not None:
            # What the last calls for tokens brought is in the store by now.
            await self.managed.close()
        await self._certificates.close()
        await self.leaves.close()
        if self._listener is not None:
            self._listener.close()
        for server in self._servers:
            await server.close()
        if self._service is not None:
            self._service.close()


def _admin_tls(snapshot: Snapshot) -> AdminTls | None:
    """Return the TLS of the admin listener if it serves the API over TLS."""
    certificate = snapshot.admin.certificate
    if not snapshot.has_api or certificate is None:
        return None
    try:
        return AdminTls(certificate)
    except (OSError, ValueError):
        raise StartError("admin.tls: the certificate and its private key cannot be used for TLS") from None


def _alone(snapshot: Snapshot, integration: Integration) -> Snapshot:
    """A snapshot in which there is nothing but one integration, for nobody's requests."""
    return replace(
        snapshot,
        integrations={integration.id: integration},
        callers=None,
        stored=None,
        passing=None,
        matching=None,
        awaits_store=False,
        log=replace(snapshot.log, access="off"),
    )


class InFlightLimit:
    """Limits requests in flight and connections to what the snapshot in use allows and file descriptors suffice for."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._asked = 0
        self._log = get_logger()

    def prepare(self, snapshot: Snapshot) -> Commit:
        """Get ready to limit them as another snapshot asks; the result does so from then on."""
        asked = snapshot.limits.in_flight
        allowed, descriptors = process.afford(asked)

        def commit() -> None:
            former, self._asked = self._asked, asked
            if allowed < asked != former:
                self._log.warning(
                    "limits.in_flight is lowered: too few file descriptors (NOFILE)",
                    in_flight=allowed,
                    wanted=asked,
                    nofile=process.descriptor_limit(),
                )
            self._worker.limit_in_flight(allowed)
            self._worker.limit_descriptors(descriptors)

        return commit


def own_listeners(addresses: Iterable[Address | None]) -> tuple[OwnListener, ...]:
    """What the dialer must refuse: every listener with an address that could be dialled."""
    return tuple(
        OwnListener(ip_address(address.host), address.port)
        for address in addresses
        if address is not None and address.path is None
    )


def run(loader: Loader, loaded: Loaded, *, strict: bool) -> None:
    """Run the valid config that `loader` has loaded, until a signal, and reload it when it changes.

    Raises StartError where a listener, or the store, cannot be opened.
    """
    of_files = loaded.snapshot
    if of_files is None:
        raise ValueError("a config with errors must not be run")

    async def main(writer: LineWriter) -> None:
        log_load(loaded)
        snapshot, managed = of_files, None
        if of_files.store is not None:
            managed = await StoreManager.start(of_files.store, loader)
            snapshot = await asyncio.to_thread(loader.join, loaded)
        app = App(snapshot, writer, managed, None if managed is None else managed.ledger)
        app.install_signal_handlers()
        await app.start()
        writer.start()
        app.follow(loader, loaded, strict=strict)
        await app.serve()

    process.share_interpreter()
    run_logged(of_files.log, main)


def log_of_command(log: Log) -> Log:
    """What a command logs that sends a request itself: errors, and with `log.audit` its use of a credential.

    That is where the others are, while errors alone are for whoever has called the command.
    """
    errors = Log(level="error", access="off", audit=log.audit)
    return errors if log.audit == "off" else replace(errors, format=log.format, file=log.file)


def run_logged(log: Log, main: Callable[[LineWriter], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on the fastest event loop, with a log as it is asked for; returns its result.

    What it raises is logged without its text before the log closes, except StartError, which the caller shows, and what
    is of its printing: the end of who reads it, or a disk that is full. StartError is raised here, too, where the log
    cannot be opened.
    """
    writer = LineWriter(open_standard_error(log.format))
    configure(log.level, writer)
    if log.file is not None:
        try:
            output = open_log(log)
        except PublishRefused as refused:
            writer.close()
            raise StartError(str(refused)) from None
        get_logger().info("log lines go to a file", file=log.file)
        writer.use(output)

    async def safely() -> T:
        install_safe_hooks(asyncio.get_running_loop())
        return await main(writer)

    try:
        with asyncio.Runner(loop_factory=process.new_event_loop) as runner:
            return runner.run(safely())
    except StartError:
        raise
    except Exception as defect:
        if not (isinstance(defect, OSError) and is_output_error(defect)):
            get_logger().critical("uncaught exception", **describe(defect))
        raise
    finally:
        writer.close()
