"""A whole Sidekey whose config has an integration that can never work: the others serve, and it says where to look."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.ca import Authority
from support.child import Child, run_cli, run_process
from support.files import replace
from support.serving import Serving, problem, serving
from support.tunnels import connect_request
from support.upstream import RawUpstream
from support.wire import Message

HOSTS = {"up.test": ["127.0.0.1"], "in.test": ["10.0.0.5"]}
NEVER = "this can never work, and requests that need it are refused"


def keyed(name: str, *prefixes: str) -> str:
    """An integration with these prefixes."""
    listed = ", ".join(f"'{each}'" for each in prefixes)
    auth = "type: headers, headers: {X-Key: {secret: {insecure_value: not-to-be-seen-4711}}}"
    return f"  {name}: {{endpoint_prefix: [{listed}], auth: {{{auth}}}}}\n"


OAUTH2 = """\
  tokens:
    endpoint_prefix: https://api.example.com/v1
    auth: {type: oauth2, token_endpoint: 'https://up.test/token', client_id: id, client_secret: {insecure_value: s}}
"""


def is_refused(answer: Message) -> bool:
    """Whether a response says that the integration can never work, and where to look."""
    said = problem(answer)
    assert "10.0.0.5" not in str(said)
    return (answer.status, said["code"], "`sidekey check`" in said["detail"]) == (502, "credential_unavailable", True)


async def serves(sidekey: Serving, upstream: RawUpstream, name: str = "it") -> bool:
    """Whether a request has come to the upstream, with its credential."""
    assert (await sidekey.reverse("/x", name=name)).status == 200
    found = upstream.requests[-1]
    return (found.target, found.values(b"x-key")) == (b"/v1/x", [b"not-to-be-seen-4711"])


@pytest.mark.parametrize("quick", [True, False])
async def test_the_others_serve_and_requests_of_that_one_are_refused(
    quick: bool, ca: Authority, tmp_path: Path
) -> None:
    """By the reverse proxy, the forward proxy and CONNECT; what one prefix of several says leaves the others."""
    async with RawUpstream() as upstream:
        base = f"http://up.test:{upstream.port}/v1"
        config = (
            keyed("it", base) + keyed("never", "http://in.test/v1") + keyed("half", base, "http://in.test") + OAUTH2
        )
        async with serving(config, tmp_path, ca, hosts=HOSTS) as sidekey:
            path = "/x" if quick else "/%78"
            for _ in range(2):
                assert await serves(sidekey, upstream)
                assert await serves(sidekey, upstream, "half")
                for name in ("never", "tokens"):
                    assert is_refused(await sidekey.reverse(path, name=name))
                assert is_refused(await sidekey.forward(f"http://in.test/v1{path}", name="never"))
                assert is_refused(await sidekey.ask(connect_request("in.test:443", user="never:x")))
            assert len(upstream.requests) == 4


async def test_a_reload_refuses_it_and_takes_it_back(ca: Authority, tmp_path: Path) -> None:
    """Others keep the connections that they have; nothing of the reload fails."""
    async with RawUpstream() as upstream:
        good = keyed("it", f"http://up.test:{upstream.port}/v1")
        mended = keyed("other", f"http://up.test:{upstream.port}/v1")
        async with serving(good + mended, tmp_path, ca, hosts=HOSTS) as sidekey:
            file = tmp_path / "sidekey.yaml"
            head = file.read_text().partition("integrations:\n")[0] + "integrations:\n"
            assert await serves(sidekey, upstream)
            assert await serves(sidekey, upstream, "other")
            replace(file, head + good + keyed("other", "http://in.test/v1"))
            assert "integrations.other.endpoint_prefix" in (await sidekey.logged(NEVER))["place"]
            assert await sidekey.metric("sidekey_config_last_reload_successful") == 1
            assert is_refused(await sidekey.reverse("/x", name="other"))
            assert await serves(sidekey, upstream)
            replace(file, head + good + mended)
            sidekey.hang_up()
            while (await sidekey.reverse("/x", name="other")).status != 200:
                pass
            assert await serves(sidekey, upstream, "other")


def test_check_and_strict_refuse_what_run_warns_of(tmp_path: Path) -> None:
    """As processes: exit 1 with the place and the way out, and a process that serves."""
    config = "integrations:\n" + keyed("never", "http://10.0.0.5/v1")
    with Child(config, tmp_path) as child:
        line = child.wait_for_line(lambda each: NEVER in each)
        way_out = "10.0.0.5 is not a global address (private): add 10.0.0.5/32 to allow_private of the integration"
        assert way_out in line
        checked = run_cli("check", "--config", str(child.config))
        assert (checked.returncode, checked.stdout.splitlines()[0].partition(": ")[2]) == (
            1,
            f"integrations.never.endpoint_prefix[0]: {way_out}, or to network.allow_private",
        )
        strict = run_process("run", "--strict", "--config", str(child.config))
        assert (strict.returncode, way_out in strict.stderr) == (1, True)
        listed = run_cli("list", "--usable", "--config", str(child.config))
        assert (listed.returncode, "never" in listed.stdout) == (0, False)
        explained = run_cli("explain", "never", "/x", "--config", str(child.config))
        assert (explained.returncode, way_out in explained.stdout) == (1, True)
