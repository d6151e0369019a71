"""Composition root: build and start the parts of a process, reload on SIGHUP, drain on SIGTERM. `run` does it all."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from sidekey import process
from sidekey.api.listeners import AdminExtension, Extension, Health, build_admin, build_metrics
from sidekey.api.server import MAX_CONNECTIONS, AdminTls, Server, serve
from sidekey.api.service import ApiServices
from sidekey.callers.jwt_issuers import JwtIssuers
from sidekey.certificates.leaves import Leaves
from sidekey.certificates.service import Certificates
from sidekey.config.load import Loaded, Loader
from sidekey.config.reload import Reloader, ReloadHooks, log_load
from sidekey.credentials.base import GrantSource
from sidekey.diagnostics.probe import ProbeResult, probe, probe_preset, target_of
from sidekey.errors import ProblemError, StartError
from sidekey.network.dial import Dialer
from sidekey.network.fetch import Fetcher
from sidekey.network.guard import own_listeners
from sidekey.network.listen import Listener, ProtocolFactory, listen
from sidekey.network.tls import prepare_trust
from sidekey.network.tls_server import ListenerTls
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

_CUT_TURNS: Final = 10
"""Turns of the event loop until all connections have noticed a cut: the ends of a tunnel notice it one by one."""


class App:
    """A running Sidekey. `start` opens the listeners, `serve` waits for a signal, then drains.

    `manager` manages the store if the config has one. `ledger` shares tokens between processes, or is None.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        writer: LineWriter,
        manager: StoreManager | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.metrics = Metrics()
        self.health = Health(
            None if manager is None else lambda: manager.unread_reason, lambda: self.metrics.config_loaded
        )
        self.metrics.count_dropped = writer.count_dropped
        self._history = History(self.metrics, lambda: self.snapshot)
        self._writer = writer
        self._log = get_logger()
        self._stop_requested = asyncio.Event()
        self._exit_task: asyncio.Task[None] | None = None
        self._reloader: Reloader | None = None
        self.manager = manager
        self._admin_tls = _admin_tls(snapshot)
        self._proxy_tls = _proxy_tls(snapshot)
        self._api_services: ApiServices | None = None
        self._servers: list[Server] = []
        self._listener: Listener | None = None
        self._dialer = Dialer(snapshot.network)
        addresses = snapshot.listen
        self._dialer.own_listeners = own_listeners((addresses.proxy, addresses.admin, addresses.metrics))
        self._fetcher = Fetcher(self._dialer, process.max_calls())
        self._certificates = Certificates(self._fetcher, self.metrics, report_defect)
        identity_of = self._certificates.source
        self._jwt_issuers = JwtIssuers(self._fetcher, self.metrics, report_defect)
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
            jwts=self._jwt_issuers,
        )
        published_parts = (
            self._dialer,
            self._jwt_issuers,
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
            *(() if manager is None else (manager,)),
            *(() if self._admin_tls is None else (self._admin_tls,)),
            *(() if self._proxy_tls is None else (self._proxy_tls,)),
        )
        self.publisher = Publisher(snapshot, published_parts, report_defect)

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot in use."""
        return self.publisher.snapshot

    def watch_config(self, loader: Loader, loaded: Loaded, *, strict: bool) -> None:
        """Reload the config that `loader` reads whenever it changes. `loaded` is the one in use."""
        hooks = ReloadHooks(
            self.publisher, self._watched_files, self._reload_files, self.metrics, report_defect, self._audit
        )
        if loader.commands is not None:
            self.metrics.command_runs = loader.commands.runs
            self.metrics.failing_commands = loader.commands.failures
        self._reloader = Reloader(loader, loaded, hooks, strict=strict)
        self._reloader.start()
        if self.manager is not None:
            self.manager.connect(self._reloader, self.metrics)
        if self._api_services is not None:
            self._history.start(None if self.manager is None else self.manager.store, report_defect)
            self._api_services.company_logins.start(lambda: self.snapshot.admin.oidc)

    def _watched_files(self) -> set[Path]:
        """Return the files that parts reload without a new snapshot."""
        return self._certificates.watched_files() | self.leaves.watched_files()

    async def _reload_files(self, changed: set[Path]) -> None:
        await self._certificates.reload_changed(changed)
        await self.leaves.reload_changed(changed)

    def _source(self, integration: Integration) -> GrantSource:
        """Return the grant source of an integration: a token source if its grants expire, else a static source.

        An unresolved integration (`rebuild`) needs no token: the router replaces it before a request gets a grant.
        """
        if integration.traits.grants_expire and integration.rebuild is None:
            return self._tokens.source(integration)
        return StaticSource(integration.secrets)

    @property
    def proxy_address(self) -> Address:
        """Address of the proxy listener, with the port that the system chose if the config sets 0."""
        return self.snapshot.listen.proxy if self._listener is None else self._listener.addresses[0]

    @property
    def admin_address(self) -> Address:
        """Address of the admin listener."""
        return self._servers[0].addresses[0]

    def collect_certificate_requests(self) -> set[str]:
        """Collect the names of servers that request a client certificate, for `sidekey test`."""
        return self._dialer.collect_certificate_requests()

    async def start(self, inherited: socket.socket | None = None) -> None:
        """Publish the first snapshot, then open every listener. `inherited` replaces the socket of the proxy listener.

        Raises StartError, or the exception of a part. Closes everything first.
        """
        addresses = self.snapshot.listen
        process.raise_descriptor_limit()
        self._fetcher.set_limit(process.max_calls())
        try:
            self.publisher.publish(self.snapshot)
            # Callers that start when Sidekey is ready read the trust folder.
            await self.leaves.wait_until_ready()
            await self._jwt_issuers.wait_until_ready()
            self.metrics.config_loaded = True
            self.metrics.config_loaded_at = time.time()
            self.plane.worker.deadlines.start(asyncio.get_running_loop())
            max_connections = process.lower_connections(process.ADMIN_CONNECTIONS)
            exposition = Exposition(self.metrics)
            application = build_admin(self.health, exposition, self._build_extension(addresses.admin))
            tls = None if self._admin_tls is None else self._admin_tls.context
            self._servers.append(
                await serve(
                    application,
                    addresses.admin,
                    "listen.admin",
                    max_connections,
                    is_behind_proxy=lambda: self.snapshot.admin.behind_tls,
                    tls=tls,
                )
            )
            if addresses.metrics is not None:
                application = build_metrics(self.health, exposition)
                max_connections = process.lower_connections(MAX_CONNECTIONS)
                self._servers.append(await serve(application, addresses.metrics, "listen.metrics", max_connections))
            backlog = process.backlog()
            factory: ProtocolFactory = self.plane.connection
            if self._proxy_tls is not None:
                factory = self.plane.accept_over_tls(self._proxy_tls)
            self._listener = await listen(
                factory, addresses.proxy, "listen.proxy", backlog=backlog, inherited=inherited
            )
        except BaseException:
            await self.close()
            raise
        bound = [*self._listener.addresses, *(address for server in self._servers for address in server.addresses)]
        self._dialer.own_listeners = own_listeners(bound)
        # A full collection with 1,000 integrations would stop all requests for 0.1 s, with 10,000 for 0.4 s.
        gc.freeze()
        self.health.started = True
        self._log.info(
            "listening",
            proxy=str(self.proxy_address),
            admin=str(self.admin_address),
            integrations=len(self.snapshot.integrations),
        )

    def _build_extension(self, address: Address) -> Extension | None:
        """Build the API and the console, or return None if there is neither a store nor an operator."""
        if not self.snapshot.has_api:
            return None
        self._api_services = ApiServices(
            self.manager,
            snapshot=lambda: self.snapshot,
            probe=self.probe,
            probe_draft=self.probe_draft,
            probe_preset=self.probe_preset,
            find_denial=self._dialer.find_denial,
            metrics=self.metrics,
            history=self._history,
            # Hanging token endpoints must not delay logins, and a flood of logins must not delay tokens.
            fetcher=Fetcher(self._dialer, min(process.LOGIN_CALLS, process.max_calls())),
            report=report_defect,
        )
        return AdminExtension(self._api_services, address)

    async def probe(self, name: str, test: TestRequest) -> ProbeResult:
        """Obtain a token with an integration's secrets, then send its test request through the data plane."""
        integration = self.snapshot.integrations.get(name)
        source = None if integration is None else self._source(integration)
        if isinstance(source, TokenSource):
            try:
                await source.obtain_for_test()
            except ProblemError as error:
                # Without a token, the data plane below reports the same problem and records it.
                if source.current is not None:
                    problem, request = error.problem, f"{test.method} {target_of(name, test)}"
                    return ProbeResult(request, problem.status, problem.code, problem.detail, maybe_sent=False)
        return await probe(self.plane, name, test)

    async def probe_draft(self, draft: Integration, test: TestRequest) -> ProbeResult:
        """Send the test request of a draft through a data plane of its own, without callers."""
        # Nothing would store a rotated refresh token, and a new token could revoke the one in use.
        ledger = NoLedger("other processes may share it: save the draft, and test what is saved")
        trial = App(_with_draft_only(self.snapshot, draft), self._writer, ledger=ledger)
        # The draft must not reach this process's listeners, whose ports the system may have chosen.
        trial._dialer.own_listeners = self._dialer.own_listeners
        trial.plane.worker.deadlines.start(asyncio.get_running_loop())
        await asyncio.to_thread(prepare_trust, trial.snapshot)
        try:
            return await probe(trial.plane, draft.id, test)
        finally:
            await trial.close()

    async def probe_preset(self, preset: Preset, data: bytes, content_type: str, who: str) -> ProbeResult:
        """Send a preset for an operator through the data plane, with the credential of the integration in use."""
        return await probe_preset(self.plane, preset, data, content_type, draft=True, who=who)

    def install_signal_handlers(self) -> None:
        """Let SIGTERM or SIGINT end `serve`, and a second one exit the process.

        SIGHUP reloads the config, SIGUSR1 reopens the log file. Call this before any listener opens.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        loop.add_signal_handler(signal.SIGUSR1, self._writer.reopen)
        # The command ignored SIGUSR1 until now, and may have missed one since it opened the file.
        self._writer.reopen()

    def _on_hangup(self) -> None:
        # A signal before the reloader exists is not lost: the reloader begins by comparing every file.
        if self._reloader is not None:
            # systemd ends the reload at READY=1 only if a RELOADING=1 after its signal came first.
            self._notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000}")
            self._reloader.request_load().add_done_callback(lambda _: self._notify("READY=1"))

    def _on_signal(self, number: int) -> None:
        if self._stop_requested.is_set():
            self._exit_task = asyncio.get_running_loop().create_task(self._exit_now(128 + number))
            return
        self._log.info("draining", signal=signal.Signals(number).name)
        self._stop_requested.set()

    async def _exit_now(self, status: int) -> None:
        """Cut every exchange, log it, and exit the process."""
        try:
            if self._reloader is not None:
                self._reloader.end_commands()
            # At exit, the kernel would end an unfinished response as if it were complete.
            self.plane.worker.end_connections()
            for _ in range(_CUT_TURNS):
                await asyncio.sleep(0)
        finally:
            # The end of the drain cancels this task.
            try:
                self._writer.close(timeout=0.2)
            finally:
                process.exit_now(status)

    async def serve(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain. Notify the service manager of both."""
        self._notify("READY=1")
        await self._stop_requested.wait()
        self._notify("STOPPING=1")
        await self.stop()

    def _notify(self, *states: str) -> None:
        try:
            process.notify(*states)
        except OSError as error:
            self._log.error("the service manager cannot be notified", reason=os.strerror(error.errno or 0))

    async def stop(self) -> None:
        """Fail readiness, serve for `drain_delay`, stop accepting, and let exchanges finish within `drain`."""
        timeouts = self.snapshot.timeouts
        self.health.draining = True
        self.plane.drain()
        await asyncio.sleep(timeouts.drain_delay)
        if self._api_services is not None:
            self._api_services.sender.stop()
        if self._listener is not None:
            await self._listener.stop()
        clean = await self.plane.finish(timeouts.drain)
        if not clean:
            self._log.warning("exchanges in flight were cut at the end of timeouts.drain")
        await self.close()
        self._log.info("stopped")

    async def close(self) -> None:
        """Close every part without a drain. The order lets the last results and tokens reach the store."""
        if self._reloader is not None:
            await self._reloader.close()
        await self.plane.close()
        if self._api_services is not None:
            # Cut sends have a result now: store it before the store closes.
            await self._api_services.sender.finish()
            await self._api_services.company_logins.close()
        await self._history.close()
        await self._tokens.close()
        if self.manager is not None:
            # By now the last tokens are stored.
            await self.manager.close()
        await self._certificates.close()
        await self._jwt_issuers.close()
        await self.leaves.close()
        if self._listener is not None:
            self._listener.close()
        for server in self._servers:
            await server.close()
        if self._api_services is not None:
            self._api_services.close()


def _admin_tls(snapshot: Snapshot) -> AdminTls | None:
    """Return the TLS of the admin listener, or None if it serves plain HTTP. Raises StartError."""
    certificate = snapshot.admin.certificate
    if not snapshot.has_api or certificate is None:
        return None
    try:
        return AdminTls(certificate)
    except (OSError, ValueError):
        raise StartError("admin.tls: the certificate and its private key cannot be used for TLS") from None


def _proxy_tls(snapshot: Snapshot) -> ListenerTls | None:
    """Return the TLS of the proxy listener, or None if it serves plain HTTP. Raises StartError."""
    if snapshot.listen.tls is None:
        return None
    try:
        return ListenerTls(snapshot.listen.tls)
    except (OSError, ValueError):
        raise StartError("listen.tls: the certificate and its private key cannot be used for TLS") from None


def _with_draft_only(snapshot: Snapshot, draft: Integration) -> Snapshot:
    """Copy the snapshot with the draft as its only integration, and without callers."""
    return replace(
        snapshot,
        integrations={draft.id: draft},
        callers=None,
        stored=None,
        passthrough=None,
        matching=None,
        awaits_store=False,
        log=replace(snapshot.log, access="off"),
    )


class InFlightLimit:
    """Limits requests in flight and connections, by the config and by the file descriptors of the process."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._configured = 0
        self._log = get_logger()

    def prepare(self, snapshot: Snapshot) -> Commit:
        """Prepare the limits of another snapshot. The returned commit applies them."""
        configured = snapshot.limits.in_flight
        allowed, descriptors = process.descriptor_budget(configured)

        def commit() -> None:
            previous, self._configured = self._configured, configured
            if allowed < configured != previous:
                self._log.warning(
                    "limits.in_flight is lowered: too few file descriptors (NOFILE)",
                    in_flight=allowed,
                    wanted=configured,
                    nofile=process.descriptor_limit(),
                )
            self._worker.limit_in_flight(allowed)
            self._worker.limit_descriptors(descriptors)

        return commit


def run(loader: Loader, loaded: Loaded, *, strict: bool) -> None:
    """Run a loaded config without errors until a signal, and reload it when it changes.

    Raises StartError if a listener or the store cannot be opened.
    """
    file_snapshot = loaded.snapshot
    if file_snapshot is None:
        raise ValueError("a config with errors must not be run")
    inherited = process.inherited_socket()

    async def main(writer: LineWriter) -> None:
        log_load(loaded)
        snapshot, manager = file_snapshot, None
        if file_snapshot.store is not None:
            manager = await StoreManager.start(file_snapshot.store, loader)
            snapshot = await asyncio.to_thread(loader.combine, loaded)
        app = App(snapshot, writer, manager, None if manager is None else manager.ledger)
        app.install_signal_handlers()
        await app.start(inherited)
        writer.start()
        app.watch_config(loader, loaded, strict=strict)
        await app.serve()

    process.shorten_switch_interval()
    run_logged(file_snapshot.log, main)


def command_log(log: Log) -> Log:
    """Build the log settings of a command that sends requests: errors, and audit entries if `log.audit` is on.

    Audit entries go to the config's log file. Without them, errors go to standard error.
    """
    errors = Log(level="error", access="off", audit=log.audit)
    return errors if log.audit == "off" else replace(errors, format=log.format, file=log.file)


def run_logged(log: Log, main: Callable[[LineWriter], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on a new event loop with this log, and return its result.

    Logs an exception without its text, then raises it again. Does not log StartError, which the command prints, or an
    error of the output, such as a full disk or a closed pipe. Raises StartError if the log cannot be opened.
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
        writer.switch_to(output)

    async def run() -> T:
        install_safe_hooks(asyncio.get_running_loop())
        return await main(writer)

    try:
        with asyncio.Runner(loop_factory=process.new_event_loop) as runner:
            return runner.run(run())
    except StartError:
        raise
    except Exception as defect:
        if not (isinstance(defect, OSError) and is_output_error(defect)):
            get_logger().critical("uncaught exception", **describe(defect))
        raise
    finally:
        writer.close()
