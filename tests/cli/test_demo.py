"""`sidekey demo`: its output, its commands and its errors."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from sidekey.cli import demo
from sidekey.cli.demo import AUTHORIZATION, PASSWORD, ProtectedUpstream, side_by_side
from support import programs
from support.console_browser import ConsoleBrowser
from support.ports import free_port
from support.sidekey_process import SIDEKEY, clean_environment, run_process


@pytest.fixture(scope="module")
def demo_output() -> str:
    """Return the output of a successful `sidekey demo --once`."""
    result = run_process(
        "demo", "--once", environment={"COLUMNS": "160", "HTTP_PROXY": "http://127.0.0.1:9", "no_proxy": "*"}
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def columns(text: str) -> list[tuple[str, str]]:
    """Return the two columns of each comparison."""
    return [
        (left.strip(), right.strip())
        for line in text.splitlines()
        if " | " in line
        for left, right in [line.split(" | ")]
    ]


def test_upstream_receives_the_credential_that_the_caller_does_not_send(demo_output: str) -> None:
    """The demo uses the reverse proxy and HTTP_PROXY."""
    sent, received = zip(*columns(demo_output), strict=True)
    assert received.count(f"+ Authorization: {AUTHORIZATION}") == 2
    assert not any(line.startswith("Authorization") for line in sent)
    assert sum(line.startswith("POST /i/demo/messages HTTP/1.1") for line in sent) == 1
    assert sum(bool(re.fullmatch(r"POST http://api\.example:\d+/v1/messages HTTP/1\.1", line)) for line in sent) == 1


def test_readme_shows_this_output() -> None:
    """The README may omit lines. Ports and the name in Via differ."""
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    (block,) = re.findall(r"^<!-- demo: .*? -->\n```text\n(.*?)^```$", readme, re.M | re.S)
    printed = run_process("demo", "--once", environment={"COLUMNS": "80"}).stdout
    readme_output, output = (
        [
            re.sub(r"(?<=:)\d{4,5}|(?<=sidekey \()\w+|(?<=urllib/)[\d.]+", "-", line).rstrip()
            for line in text.splitlines()
        ]
        for text in (block, printed)
    )
    rest = iter(output)
    assert [line for line in readme_output if line not in rest] == []


def test_output_explains_that_the_credential_is_an_example(demo_output: str) -> None:
    assert f"password {PASSWORD} (shown because it is made up)" in demo_output


def test_denied_target_is_shown_with_its_response(demo_output: str) -> None:
    assert "Sidekey returns 403" in demo_output
    assert '"code": "target_denied"' in demo_output
    assert "Proxy-Status: sidekey; error=http_request_denied" in demo_output


def test_commands_to_try_by_hand_are_printed(demo_output: str) -> None:
    assert re.search(r"curl http://127\.0\.0\.1:\d+/i/demo/hello", demo_output)
    assert re.search(r"http_proxy=http://demo:x@127\.0\.0\.1:\d+ curl http://api\.example:\d+/v1/hello", demo_output)
    assert re.search(r"-H 'X-Integration-Id: demo' http://api\.example", demo_output)
    assert re.search(r"curl http://127\.0\.0\.1:\d+/metrics", demo_output)


def test_demo_runs_until_ctrl_c_and_its_commands_work() -> None:
    """Each printed curl command works, and the console accepts the printed token."""
    curl = programs.require("curl")
    with subprocess.Popen(
        [*SIDEKEY, "demo"], env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line.strip())
            if "Ctrl-C" in line:
                break
        commands = [line.partition("    #")[0] for line in lines if "curl " in line]
        outputs = [
            subprocess.run(
                ["/bin/sh", "-c", line.replace("curl ", f"{curl} -s ")], capture_output=True, text=True, check=True
            ).stdout
            for line in commands
        ]
        (port, token) = re.findall(r"http://127\.0\.0\.1:(\d+)/ui/ .* token (\S+)", "\n".join(lines))[0]
        console = ConsoleBrowser(int(port))
        console.log_in(token)
        result = console.request("POST", "/integrations/demo/test").json
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    assert result["ok"] is True
    assert [AUTHORIZATION in response for response in outputs] == [True, True, True, False, False]
    assert "target_denied" in outputs[3]
    assert 'sidekey_requests_total{integration="demo",outcome="2xx"}' in outputs[4]


def test_demo_runs_without_a_home_folder_and_writes_no_files(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    environment = {"HOME": "/nonexistent", "TMPDIR": "/nonexistent"}
    result = run_process("demo", "--once", environment=environment, folder=tmp_path)
    assert result.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_demo_prints_no_traceback_after_a_closed_pipe() -> None:
    """The same happens with `sidekey demo | head`."""
    with subprocess.Popen(
        [*SIDEKEY, "demo", "--once"], env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait(60)) == ("", 1)


def test_failed_requests_are_listed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """The upstream expects another credential here."""
    monkeypatch.setattr(demo, "AUTHORIZATION", "Basic another")
    failures = demo.run_demo(once=True)
    assert [line.partition(":")[2].split(":")[0] for line in failures] == [
        " 1. Through the reverse proxy",
        " 2. Through HTTP_PROXY=http",
    ]
    assert all("status 401" in line for line in failures)
    assert "All of it worked" not in capfd.readouterr().out


def test_request_without_a_response_is_reported() -> None:
    response = demo.send(f"http://127.0.0.1:{free_port()}/")
    assert (response.status, response.body) == (0, "no response")


async def test_upstream_refuses_requests_without_the_credential() -> None:
    upstream = ProtectedUpstream()
    async with upstream.listening():
        url = f"http://127.0.0.1:{upstream.port}/v1/x"
        assert (await asyncio.to_thread(demo.send, url)).status == 401
        request = urllib.request.Request(url, headers={"Authorization": AUTHORIZATION})

        def send() -> int:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as response:
                return int(response.status)

        assert await asyncio.to_thread(send) == 200


def test_columns_mark_lines_that_only_the_upstream_received(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long lines wrap within their column."""
    monkeypatch.setenv("COLUMNS", "100")
    title, _, *lines = side_by_side(["GET / HTTP/1.1", "A: 1"], ["GET / HTTP/1.1", "Authorization: " + "x" * 60])
    separator = title.index("|")
    assert {len(line[:separator]) for line in lines} == {separator} == {52}
    assert [line[:separator].strip() for line in lines] == ["GET / HTTP/1.1", "A: 1", ""]
    received = [line[separator + 2 :] for line in lines]
    assert received == ["  GET / HTTP/1.1", "+ Authorization: " + "x" * 28, "    " + "x" * 32]
