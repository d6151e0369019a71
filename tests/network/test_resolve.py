"""Resolving names: the order of sources, shared lookups, and errors."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from sidekey.errors import ProblemError
from sidekey.network import resolve
from sidekey.network.resolve import HostsFile, Resolver, parse_hosts
from sidekey.policy.addresses import Address
from sidekey.snapshot.snapshot import NetworkRules
from support import programs
from support.raw_connection import DEADLINE

ANSWER = (ip_address("192.0.2.7"),)


class Dns:
    """A scripted lookup that records names, and hangs for some of them."""

    def __init__(
        self,
        error: OSError | None = None,
        hang: Callable[[str], bool] = lambda _: False,
        until: threading.Event | None = None,
    ) -> None:
        self.asked: list[str] = []
        self.thread: threading.Thread | None = None
        """Where the last question was asked."""
        self._error = error
        self._hang = hang
        self._until = until

    def __call__(self, name: str) -> tuple[Address, ...]:
        self.asked.append(name)
        self.thread = threading.current_thread()
        if self._until is not None and self._hang(name):
            self._until.wait(DEADLINE)
        if self._error is not None:
            raise self._error
        return ANSWER


def resolver(dns: Dns, rules: NetworkRules | None = None, hosts: Path = Path("/nonexistent")) -> Resolver:
    """Build a resolver with scripted DNS and the given hosts file."""
    return Resolver(rules or NetworkRules(), hosts_file=HostsFile(hosts), lookup=dns)


async def resolve_name(names: Resolver, host: str, patience: float = DEADLINE) -> tuple[Address, ...]:
    """Resolve a name within a timeout."""
    return await names.resolve(host, asyncio.get_running_loop().time() + patience)


async def problem_of(names: Resolver, host: str, patience: float = DEADLINE) -> tuple[str, int, str]:
    """Return code, status and error of the failure to resolve."""
    with pytest.raises(ProblemError) as failed:
        await resolve_name(names, host, patience)
    assert failed.value.__suppress_context__ or failed.value.__context__ is None
    problem = failed.value.problem
    return problem.code, problem.status, problem.error


@pytest.mark.parametrize("host", ["127.0.0.1", "0x7f.1", "017700000001", "2130706433", "::1", "::ffff:127.0.0.1"])
async def test_literal_in_any_spelling_needs_no_dns(host: str) -> None:
    dns = Dns()
    (address,) = await resolve_name(resolver(dns), host)
    assert address.is_loopback or address == ip_address("::ffff:127.0.0.1")
    assert dns.asked == []


async def test_static_hosts_precede_the_hosts_file_and_dns(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("10.0.0.2 a.test b.test\n")
    dns = Dns()
    names = resolver(dns, NetworkRules(hosts={"a.test": ("10.0.0.1", "fd00::1")}), hosts)
    assert await resolve_name(names, "a.test") == (ip_address("10.0.0.1"), ip_address("fd00::1"))
    assert await resolve_name(names, "b.test") == (ip_address("10.0.0.2"),)
    assert dns.asked == []
    assert await resolve_name(names, "c.test") == ANSWER
    assert dns.asked == ["c.test."]


async def test_dns_gets_the_absolute_name_unless_search_is_on() -> None:
    """The trailing dot disables search domains."""
    absolute, searching = Dns(), Dns()
    await resolve_name(resolver(absolute), "up")
    await resolve_name(resolver(searching, NetworkRules(search=True)), "up")
    assert (absolute.asked, searching.asked) == (["up."], ["up"])


@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(socket.EAI_NONAME, "secret text"),
        socket.gaierror(socket.EAI_NODATA, "secret text"),
        socket.gaierror(socket.EAI_AGAIN, "secret text"),
        socket.gaierror(socket.EAI_FAIL, "secret text"),
        OSError(24, "secret text"),
    ],
    ids=lambda error: str(error.errno),
)
async def test_failed_lookup_is_a_dns_error(error: OSError) -> None:
    """NXDOMAIN, SERVFAIL and local errors are 502, without the library's text."""
    names = resolver(Dns(error))
    assert await problem_of(names, "a.test") == ("upstream_unreachable", 502, "dns_error")
    with pytest.raises(ProblemError) as failed:
        await resolve_name(names, "a.test")
    assert "secret" not in failed.value.problem.detail


async def test_hanging_lookup_is_a_dns_timeout(release: threading.Event) -> None:
    """The caller gets 504 at its deadline, while the thread still hangs."""
    dns = Dns(hang=lambda _: True, until=release)
    assert await problem_of(resolver(dns), "a.test", 0.05) == ("upstream_unreachable", 504, "dns_timeout")


async def test_requests_for_a_name_share_one_lookup(release: threading.Event) -> None:
    """Also one that arrives after other waiters have left."""
    dns = Dns(hang=lambda _: True, until=release)
    names = resolver(dns)
    assert await problem_of(names, "a.test", 0.05) == ("upstream_unreachable", 504, "dns_timeout")
    crowd = [asyncio.create_task(resolve_name(names, "a.test")) for _ in range(20)]
    await asyncio.sleep(0)
    release.set()
    assert await asyncio.gather(*crowd) == [ANSWER] * 20
    assert dns.asked == ["a.test."]
    assert await resolve_name(names, "a.test") == ANSWER
    assert dns.asked == ["a.test.", "a.test."]


async def test_hanging_name_does_not_delay_another(release: threading.Event) -> None:
    dns = Dns(hang=lambda name: name == "slow.test.", until=release)
    names = resolver(dns)
    crowd = [asyncio.create_task(resolve_name(names, "slow.test")) for _ in range(2 * resolve.MAX_LOOKUPS)]
    await asyncio.sleep(0)
    assert await resolve_name(names, "quick.test") == ANSWER
    release.set()
    await asyncio.gather(*crowd)


async def test_queued_lookup_without_waiters_is_skipped(release: threading.Event) -> None:
    dns = Dns(hang=lambda name: name.startswith("slow"), until=release)
    names = resolver(dns)
    slow = [asyncio.create_task(resolve_name(names, f"slow{number}.test")) for number in range(resolve.MAX_LOOKUPS)]
    await asyncio.sleep(0)
    assert await problem_of(names, "given-up.test", 0.05) == ("upstream_unreachable", 504, "dns_timeout")
    last = asyncio.create_task(resolve_name(names, "last.test"))
    await asyncio.sleep(0)
    release.set()
    assert await last == ANSWER
    await asyncio.gather(*slow)
    assert "given-up.test." not in dns.asked
    assert await resolve_name(names, "given-up.test") == ANSWER


async def test_parallel_lookups_are_limited(release: threading.Event) -> None:
    """Other names wait in order."""
    dns = Dns(hang=lambda _: True, until=release)
    names = resolver(dns)
    crowd = [
        asyncio.create_task(resolve_name(names, f"host{number}.test")) for number in range(resolve.MAX_LOOKUPS + 2)
    ]
    while len(dns.asked) < resolve.MAX_LOOKUPS:
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert sorted(dns.asked) == sorted(f"host{number}.test." for number in range(resolve.MAX_LOOKUPS))
    release.set()
    assert await asyncio.gather(*crowd) == [ANSWER] * len(crowd)
    assert len(dns.asked) == len(set(dns.asked)) == len(crowd)


async def test_running_lookup_without_waiters_keeps_its_thread(release: threading.Event) -> None:
    """It cannot be cancelled."""
    dns = Dns(hang=lambda name: name.startswith("slow"), until=release)
    names = resolver(dns)
    left = [asyncio.create_task(resolve_name(names, f"slow{number}.test")) for number in range(resolve.MAX_LOOKUPS)]
    while len(dns.asked) < resolve.MAX_LOOKUPS:
        await asyncio.sleep(0)
    for task in left:
        task.cancel()
    await asyncio.wait(left)
    assert await problem_of(names, "quick.test", 0.05) == ("upstream_unreachable", 504, "dns_timeout")
    release.set()
    assert await resolve_name(names, "quick.test") == ANSWER


async def test_process_without_threads_fails_the_lookup_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next lookup is tried again."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    dns = Dns()
    names = resolver(dns)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for _ in range(resolve.MAX_LOOKUPS + 1):
            assert await problem_of(names, "a.test") == ("upstream_unreachable", 502, "dns_error")
    assert await resolve_name(names, "a.test") == ANSWER


async def test_lookups_are_not_cached(release: threading.Event) -> None:
    """Callers may name any number of hosts."""
    dns = Dns(hang=lambda name: name.startswith("slow"), until=release)
    names = resolver(dns)
    assert await resolve_name(names, "a.test") == ANSWER
    slow = [asyncio.create_task(resolve_name(names, f"slow{number}.test")) for number in range(resolve.MAX_LOOKUPS)]
    while len(dns.asked) <= resolve.MAX_LOOKUPS:
        await asyncio.sleep(0)
    assert await problem_of(names, "left.test", 0.05) == ("upstream_unreachable", 504, "dns_timeout")
    release.set()
    await asyncio.gather(*slow)
    assert await resolve_name(names, "b.test") == ANSWER
    assert names._lookups == {}


async def test_lookup_of_a_cancelled_task_ends_without_an_error(release: threading.Event) -> None:
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    dns = Dns(hang=lambda _: True, until=release)
    waiting = asyncio.create_task(resolve_name(resolver(dns), "a.test"))
    while dns.thread is None:
        await asyncio.sleep(0)
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert waiting.cancelled()
    release.set()
    await asyncio.to_thread(dns.thread.join, DEADLINE)
    for _ in range(3):
        await asyncio.sleep(0)
    assert unhandled == []


def test_lookup_that_outlives_the_loop_ends_without_an_error(release: threading.Event) -> None:
    """The process does not wait for its thread."""
    dns = Dns(hang=lambda _: True, until=release)
    assert asyncio.run(problem_of(resolver(dns), "a.test", 0.05)) == ("upstream_unreachable", 504, "dns_timeout")
    thread = dns.thread
    assert thread is not None
    assert thread.daemon
    release.set()
    thread.join(DEADLINE)
    assert not thread.is_alive()


IN_NAMESPACE = Path(__file__).parent / "in_dns_namespace.sh"
ASK_DNS = """
import asyncio, json, socket, sys
from sidekey.errors import Problem, ProblemError
from sidekey.network.resolve import Resolver
from sidekey.snapshot.snapshot import NetworkRules

async def main():
    now = asyncio.get_running_loop().time
    for search, host, patience in json.loads(sys.argv[1]):
        try:
            found = await Resolver(NetworkRules(search=search)).resolve(host, now() + patience)
            print(json.dumps(sorted(map(str, found))))
        except ProblemError as raised:
            problem = raised.problem
            print(json.dumps([problem.code, problem.status, problem.error]))

with socket.socket(type=socket.SOCK_DGRAM) as silent:
    silent.bind(("127.0.0.1", 5353))
    asyncio.run(main())
"""


def resolve_with_dnsmasq(questions: list[tuple[bool, str, float]], folder: Path) -> list[Any]:
    """Return the C library's results in a namespace whose only DNS server is dnsmasq, in order."""
    unshare, dnsmasq, ip = (programs.require(name) for name in ("unshare", "dnsmasq", "ip"))
    isolate = [unshare, "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*isolate, "true"], capture_output=True, check=False).returncode:
        programs.missing(
            "unshare", "namespaces are not permitted here (user.max_user_namespaces, or a container's seccomp)"
        )
    resolv = folder / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\nsearch corp.test\noptions timeout:30 attempts:1\n")
    ran = subprocess.run(
        [*isolate, "sh", "-eu", str(IN_NAMESPACE), sys.executable, "-c", ASK_DNS, json.dumps(questions)],
        env=os.environ | {"RESOLV": str(resolv), "LOG": str(folder / "log"), "DNSMASQ": dnsmasq, "IP": ip},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_real_dns_server_gets_the_absolute_name_only(tmp_path: Path) -> None:
    """Both families are found; NXDOMAIN, a refusal and silence differ."""
    responses = resolve_with_dnsmasq(
        [
            (False, "both.test", 10),
            (False, "absent.test", 10),
            (False, "refused.example", 10),
            (False, "silent.test", 0.3),
            (False, "up", 10),
            (True, "up", 10),
            (False, "up.corp.test", 10),
        ],
        tmp_path,
    )
    assert responses == [
        ["192.0.2.7", "2001:db8::7"],
        ["upstream_unreachable", 502, "dns_error"],
        ["upstream_unreachable", 502, "dns_error"],
        ["upstream_unreachable", 504, "dns_timeout"],
        ["upstream_unreachable", 502, "dns_error"],
        ["192.0.2.9"],
        ["192.0.2.9"],
    ]


async def test_resolver_with_other_rules_keeps_hosts_file_and_lookup(tmp_path: Path) -> None:
    """Static hosts and search are the new rules'."""
    hosts = tmp_path / "hosts"
    hosts.write_text("10.0.0.2 b.test\n")
    dns = Dns()
    previous = resolver(dns, NetworkRules(hosts={"a.test": ("10.0.0.1",)}), hosts)
    names = previous.with_rules(NetworkRules(hosts={"c.test": ("10.0.0.3",)}, search=True))
    assert await resolve_name(names, "a.test") == ANSWER
    assert await resolve_name(names, "b.test") == (ip_address("10.0.0.2"),)
    assert await resolve_name(names, "c.test") == (ip_address("10.0.0.3"),)
    assert dns.asked == ["a.test"]
    assert await resolve_name(previous, "a.test") == (ip_address("10.0.0.1"),)


async def test_resolver_with_other_rules_shares_no_pending_lookup() -> None:
    """A waiter of the old one keeps waiting."""
    release = threading.Event()
    dns = Dns(hang=lambda name: name.endswith("."), until=release)
    previous = resolver(dns)
    waiting = asyncio.create_task(resolve_name(previous, "a.test"))
    while not dns.asked:
        await asyncio.sleep(0)
    assert await resolve_name(previous.with_rules(NetworkRules(search=True)), "a.test") == ANSWER
    assert not waiting.done()
    release.set()
    assert await waiting == ANSWER


V4, V6 = ip_address("10.0.0.1"), ip_address("fd00::1")


def test_line_gives_its_address_to_each_of_its_names() -> None:
    """Blanks or tabs separate names; case is ignored."""
    assert parse_hosts("10.0.0.1\tA.test  b.test") == {"a.test": (V4,), "b.test": (V4,)}


def test_name_on_several_lines_has_all_addresses_in_order() -> None:
    """A repeated one counts once."""
    assert parse_hosts("fd00::1 a.test\n10.0.0.1 a.test\nfd00::1 a.test\n") == {"a.test": (V6, V4)}


def test_comments_and_lines_without_an_address_are_skipped() -> None:
    text = "# all\n\n10.0.0.1 a.test # b.test\n#10.0.0.1 c.test\nnonsense d.test\n10.0.0.300 e.test\n10.0.0.1\n"
    assert parse_hosts(text) == {"a.test": (V4,)}


def test_changed_file_is_read_again(tmp_path: Path) -> None:
    """Also after a replacement of the file."""
    file = tmp_path / "hosts"
    file.write_text("10.0.0.1 a.test\n")
    hosts = HostsFile(file)
    assert hosts.addresses("a.test") == (V4,)
    file.write_text("fd00::1 a.test\n")
    os.utime(file, ns=(1, 1))
    assert hosts.addresses("a.test") == (V6,)
    replacement = tmp_path / "new"
    replacement.write_text("fd00::1 b.test\n")
    os.utime(replacement, ns=(1, 1))
    replacement.replace(file)
    assert hosts.addresses("a.test") == ()
    assert hosts.addresses("b.test") == (V6,)


def test_absent_file_counts_as_empty(tmp_path: Path) -> None:
    """Minimal images have no hosts file."""
    file = tmp_path / "hosts"
    hosts = HostsFile(file)
    assert hosts.addresses("a.test") == ()
    file.write_text("10.0.0.1 a.test\n")
    assert hosts.addresses("a.test") == (V4,)
    file.unlink()
    assert hosts.addresses("a.test") == ()
