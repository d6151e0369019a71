"""A running Sidekey whose secrets are written by programs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from base64 import b64encode
from contextlib import suppress
from pathlib import Path

import pytest

from support import programs
from support.files import replace
from support.http_get import get, wait_until
from support.nginx import Nginx
from support.scraping import series, value_of
from support.sidekey_process import HEAD, SidekeyProcess, run_cli, run_process

ARGUMENT = "argument-never-shown"
NOISE = "standard-error-never-shown"
ALLOW = ("--allow-commands",)
FAILED = "command failed; its last secret stays in use"
UNREADABLE = "secret or CA file cannot be read; what needs it is unavailable"


def program(folder: Path, script: str, name: str = "program") -> Path:
    """Write a shell script that anybody may read and only its owner may change."""
    path = folder / name
    replace(path, f"#!/bin/sh\n{script}\n", 0o755)
    return path


def expiring(folder: Path, seconds: int = 8) -> Path:
    """Write a program that writes the content of the file `secret`, which expires after some seconds."""
    (folder / "runs").touch()
    return program(
        folder,
        f"""\
echo {NOISE} >&2
cd {folder} || exit 2
echo run >> runs
test -f secret || exit 7
value=$(cat secret)
echo "{{\\"value\\": \\"$value\\", \\"expires_at\\": \\"$(date -u -d '+{seconds} seconds' +%FT%TZ)\\"}}"
""",
    )


def integration(name: str, port: int, command: Path, options: str = "", at: str = "") -> str:
    """Build an integration with a password that the command writes."""
    reference = f"{{command: [{command}, {ARGUMENT}]{options}}}"
    return f"""\
  {name}:
    endpoint_prefix: http://127.0.0.1:{port}/{at}
    auth: {{type: basic, username: svc, password: {reference}}}
"""


def config(*integrations: str) -> str:
    """Build the config below the head that `SidekeyProcess` writes."""
    return f"integrations:\n{''.join(integrations)}"


def sends(child: SidekeyProcess, name: str, password: str) -> bool:
    """Return True if a request of an integration reaches the upstream with this password."""
    response = get(child.proxy_port, f"/i/{name}/x")
    return response.status == 200 and b64encode(f"svc:{password}".encode()).decode() in response.body


def problem_of(child: SidekeyProcess, name: str) -> str:
    """Return the detail of the problem with which Sidekey denies a request."""
    response = get(child.proxy_port, f"/i/{name}/x")
    document = json.loads(response.body)
    assert (response.status, document["code"]) == (502, "credential_unavailable")
    return str(document["detail"])


def events(child: SidekeyProcess, event: str) -> list[dict[str, object]]:
    """Return the log lines of an event so far."""
    return [entry for line in list(child.lines) if (entry := json.loads(line))["event"] == event]


def is_running(process: int) -> bool:
    """Return True if a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def numbers_in(path: Path, count: int) -> list[int]:
    """Wait until programs have written their process numbers to a file, and return the numbers."""
    wait_until(lambda: path.exists() and len(path.read_text().split()) >= count)
    return [int(number) for number in path.read_text().split()]


def test_secret_reaches_the_upstream_and_a_new_one_rebuilds_only_its_integrations(tmp_path: Path) -> None:
    """Equal commands run once. No output has an argument, a secret, or standard error."""
    (tmp_path / "secret").write_text("first-secret")
    path = expiring(tmp_path)
    fixed = program(tmp_path, "echo fixed-secret", "fixed")
    with Nginx(tmp_path) as nginx:
        text = config(*(integration(name, nginx.port, path) for name in ("one", "two")))
        text += integration("other", nginx.port, fixed)
        with SidekeyProcess(text, tmp_path, arguments=ALLOW) as child:
            assert (tmp_path / "runs").read_text() == "run\n"
            assert sends(child, "one", "first-secret")
            assert sends(child, "two", "first-secret")
            assert sends(child, "other", "fixed-secret")
            replace(tmp_path / "secret", "second-secret")
            wait_until(lambda: sends(child, "one", "second-secret"))
            assert sends(child, "two", "second-secret")
            page = get(child.admin_port, "/metrics").body
            assert child.stop() == 0
    reloads = events(child, "config reloaded")
    assert [(line["integrations"], line["changed"]) for line in reloads] == [(3, 2)]
    assert value_of(page, 'sidekey_command_runs_total{outcome="ok"}') >= 3
    assert value_of(page, 'sidekey_command_runs_total{outcome="failed"}') == 0
    for hidden in (ARGUMENT, NOISE, "first-secret", "second-secret", "fixed-secret"):
        assert hidden not in page
        assert not any(hidden in line for line in child.lines)


def test_last_secret_is_used_until_it_expires_while_the_command_fails(tmp_path: Path) -> None:
    """The failure is a warning with the program and the exit status. A later success ends it."""
    (tmp_path / "secret").write_text("first")
    path = expiring(tmp_path, 6)
    with (
        Nginx(tmp_path) as nginx,
        SidekeyProcess(config(integration("one", nginx.port, path)), tmp_path, arguments=ALLOW) as child,
    ):
        (tmp_path / "secret").unlink()
        child.wait_for_line(lambda line: FAILED in line)
        assert sends(child, "one", "first")
        page = get(child.admin_port, "/metrics").body
        assert series(page, "sidekey_command_failing") == [({"integration": "one"}, 1.0)]
        wait_until(lambda: get(child.proxy_port, "/i/one/x").status == 502)
        reason = problem_of(child, "one")
        assert reason.startswith(f"auth.password: {path} exited with status 7: ")
        (tmp_path / "secret").write_text("second")
        wait_until(lambda: sends(child, "one", "second"))
        assert value_of(get(child.admin_port, "/metrics").body, 'sidekey_command_failing{integration="one"}') == 0
        assert child.stop() == 0
    warnings = events(child, FAILED)
    assert [(line["level"], line["integrations"], line["program"]) for line in warnings] == [
        ("warning", ["one"], str(path))
    ]
    assert str(warnings[0]["reason"]).startswith("exited with status 7: ")


def test_integration_whose_command_fails_at_the_start_is_unavailable_until_a_run_succeeds(tmp_path: Path) -> None:
    path = expiring(tmp_path)
    fixed = program(tmp_path, "echo fixed", "fixed")
    with Nginx(tmp_path) as nginx:
        text = config(integration("one", nginx.port, path), integration("other", nginx.port, fixed))
        with SidekeyProcess(text, tmp_path, arguments=ALLOW) as child:
            assert problem_of(child, "one").startswith(f"auth.password: {path} exited with status 7: ")
            assert sends(child, "other", "fixed")
            (line,) = events(child, UNREADABLE)
            assert f"integrations.one.auth.password: {path} exited with status 7: " in str(line["place"])
            (tmp_path / "secret").write_text("late")
            wait_until(lambda: sends(child, "one", "late"))
            assert child.stop() == 0


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("true", "must not be empty"),
        ("printf 'a\\tb'", "must not contain a control character"),
        ("printf 'a\\n\\n'", "must not end with more than one newline"),
    ],
)
def test_output_that_cannot_be_used_is_named_and_counts_as_a_failure(tmp_path: Path, script: str, reason: str) -> None:
    """The program runs again soon, and the metric is 1 until its output can be used."""
    path = program(tmp_path, script)
    with SidekeyProcess(config(integration("one", 1, path)), tmp_path, arguments=ALLOW) as child:

        def failing() -> float:
            return value_of(get(child.admin_port, "/metrics").body, 'sidekey_command_failing{integration="one"}')

        assert problem_of(child, "one") == f"auth.password: the output of {path} {reason}"
        assert failing() == 1
        program(tmp_path, f"{script}; echo run >> {tmp_path}/runs")
        # The same output again does not end the failure.
        wait_until((tmp_path / "runs").exists)
        assert failing() == 1
        program(tmp_path, "echo good")
        wait_until(lambda: failing() == 0)


def test_integration_that_cannot_use_an_output_does_not_affect_another(tmp_path: Path) -> None:
    """Each has a metric of its own, also while the program writes the same secret with a later end."""
    path = expiring(tmp_path)
    (tmp_path / "secret").write_text("a:b")
    wrong = f"""\
  wrong:
    endpoint_prefix: http://127.0.0.1:1
    auth: {{type: basic, username: {{command: [{path}, {ARGUMENT}]}}, password: {{insecure_value: password}}}}
"""
    with Nginx(tmp_path) as nginx:
        text = config(integration("good", nginx.port, path), wrong)
        with SidekeyProcess(text, tmp_path, arguments=ALLOW) as child:
            assert sends(child, "good", "a:b")
            wait_until(lambda: (tmp_path / "runs").read_text().count("run") >= 4)
            assert sends(child, "good", "a:b")
            page = get(child.admin_port, "/metrics").body
            assert value_of(page, 'sidekey_command_failing{integration="good"}') == 0
            assert value_of(page, 'sidekey_command_failing{integration="wrong"}') == 1


def test_strict_does_not_start_while_a_command_fails(tmp_path: Path) -> None:
    path = program(tmp_path, "exit 3")
    child = SidekeyProcess(config(integration("one", 1, path)), tmp_path, arguments=(*ALLOW, "--strict"))
    child.start()
    assert child.wait() == 1
    (line,) = events(child, "config error")
    assert f"{path} exited with status 3" in str(line["place"])


def test_hanging_programs_delay_the_start_by_one_timeout_and_are_killed_with_their_children(tmp_path: Path) -> None:
    """Five hang, and four run at a time."""
    hanging = "sleep 600 & echo $$ $! >> %s; wait"
    with Nginx(tmp_path) as nginx:
        paths = [program(tmp_path, hanging % (tmp_path / "pids"), f"p{number}") for number in range(5)]
        text = config(*(integration(p.name, nginx.port, p, ", timeout: 1s") for p in paths))
        began = time.monotonic()
        with SidekeyProcess(text, tmp_path, arguments=ALLOW) as child:
            assert time.monotonic() - began < 60
            reasons = sorted(problem_of(child, p.name) for p in paths)
            assert sum("did not exit within its `timeout` of 1s, and was killed" in reason for reason in reasons) >= 4
            numbers = numbers_in(tmp_path / "pids", 10)
            wait_until(lambda: not any(map(is_running, numbers[:8])))
            # The next runs hang when Sidekey stops.
            numbers = numbers_in(tmp_path / "pids", 20)
            assert child.stop() == 0
        assert not any(map(is_running, numbers_in(tmp_path / "pids", 20)))


def test_sigterm_during_the_first_run_ends_sidekey_and_the_program(tmp_path: Path) -> None:
    path = program(tmp_path, f"sleep 600 & echo $$ $! > {tmp_path}/pids; wait")
    child = SidekeyProcess(config(integration("one", 1, path, ", timeout: 30s")), tmp_path, arguments=ALLOW)
    child.start()
    numbers = numbers_in(tmp_path / "pids", 2)
    assert child.stop() == 128 + signal.SIGTERM
    wait_until(lambda: not any(map(is_running, numbers)))


def test_second_signal_kills_running_programs(tmp_path: Path) -> None:
    script = f"test -f {tmp_path}/hang || exit 1; sleep 600 & echo $$ $! > {tmp_path}/pids; wait"
    path = program(tmp_path, script)
    text = config(integration("one", 1, path)) + "timeouts: {drain_delay: 1h}\n"
    with SidekeyProcess(text, tmp_path, arguments=ALLOW) as child:
        (tmp_path / "hang").touch()
        numbers = numbers_in(tmp_path / "pids", 2)
        child.process.send_signal(signal.SIGTERM)
        child.wait_for_line(lambda line: '"draining"' in line)
        assert child.stop() == 128 + signal.SIGTERM
        wait_until(lambda: not any(map(is_running, numbers)))


def test_run_without_permission_names_each_command_and_runs_nothing(tmp_path: Path) -> None:
    path = program(tmp_path, f"touch {tmp_path}/ran")
    other = program(tmp_path, f"touch {tmp_path}/ran", "other")
    child = SidekeyProcess(config(integration("one", 1, path), integration("two", 1, other)), tmp_path)
    for arguments, refused in (((), {path, other}), ((f"--allow-commands={path}",), {other})):
        run = run_process("run", "--config", str(child.config), *arguments)
        assert run.returncode == 1
        places = [json.loads(line)["place"] for line in run.stderr.splitlines()]
        name = {path: "one", other: "two"}
        assert sum("was not run" in place for place in places) == len(refused)
        for denied in refused:
            assert any(f"integrations.{name[denied]}.auth.password: {denied} was not run" in place for place in places)
        assert ARGUMENT not in run.stderr
    assert not (tmp_path / "ran").exists()


def test_allowed_program_runs(tmp_path: Path) -> None:
    path = program(tmp_path, "echo secret")
    with Nginx(tmp_path) as nginx:
        arguments = ("--allow-commands=/usr/bin/age", f"--allow-commands={path}")
        with SidekeyProcess(config(integration("one", nginx.port, path)), tmp_path, arguments=arguments) as child:
            assert sends(child, "one", "secret")


def test_check_and_explain_name_the_program_that_they_do_not_run(tmp_path: Path) -> None:
    path = program(tmp_path, f"touch {tmp_path}/ran")
    text = HEAD.format(proxy=1, admin=2) + config(integration("one", 3, path))
    (tmp_path / "sidekey.yaml").write_text(text)
    checked = run_cli("check", "--config", "sidekey.yaml", folder=tmp_path)
    line = 1 + text[: text.index("password:")].count("\n")
    assert checked.returncode == 0
    assert f"warning: sidekey.yaml:{line}:50: integrations.one.auth.password: {path} was not run: " in checked.stdout
    explained = run_cli("explain", "--config", "sidekey.yaml", "one", "/x", folder=tmp_path)
    assert f"auth.password: {path} was not run: only `sidekey run`" in explained.stdout
    assert "credential_unavailable" not in explained.stdout
    assert ARGUMENT not in checked.stdout + explained.stdout
    assert not (tmp_path / "ran").exists()


def test_list_shows_the_status_of_the_process_that_runs_the_program(tmp_path: Path) -> None:
    path = program(tmp_path, f"echo run >> {tmp_path}/runs; echo secret")
    text = config(integration("one", 1, path), integration("two", 2, path).replace("svc", "{file: absent}"))
    with SidekeyProcess(text, tmp_path, arguments=ALLOW) as child:
        runs = (tmp_path / "runs").read_text()
        output = run_cli("list", "--config", str(child.config), "--usable", "--json").stdout
        (listed,) = json.loads(output)
        assert (listed["id"], listed["status"], listed["usable"], listed["problem"]) == ("one", "ok", True, None)
        assert (tmp_path / "runs").read_text() == runs


def test_test_runs_commands_only_with_permission(tmp_path: Path) -> None:
    path = program(tmp_path, "echo secret")
    with Nginx(tmp_path) as nginx:
        text = HEAD.format(proxy=1, admin=2) + config(integration("one", nginx.port, path))
        (tmp_path / "sidekey.yaml").write_text(f"{text}    test: {{method: GET, path: /whoami}}\n")
        arguments = ("test", "--config", str(tmp_path / "sidekey.yaml"), "one")
        denied = run_process(*arguments)
        assert denied.returncode == 1
        assert f"{path} was not run" in denied.stdout
        assert run_process(*arguments, *ALLOW).returncode == 0


def test_test_runs_only_permitted_programs_of_its_integration(tmp_path: Path) -> None:
    path = program(tmp_path, f"echo one >> {tmp_path}/ran; echo secret", "allowed")
    other = program(tmp_path, f"echo two >> {tmp_path}/ran; echo secret", "other")
    with Nginx(tmp_path) as nginx:
        text = HEAD.format(proxy=1, admin=2) + "integrations:\n"
        for name, command in (("one", path), ("two", other)):
            text += integration(name, nginx.port, command) + "    test: {method: GET, path: /whoami}\n"
        # Permitted too, but of another integration.
        text += integration("three", nginx.port, path).replace(ARGUMENT, "another-argument")
        (tmp_path / "sidekey.yaml").write_text(text)
        arguments = ("test", "--config", str(tmp_path / "sidekey.yaml"))
        assert run_process(*arguments, "one", *ALLOW).returncode == 0
        assert (tmp_path / "ran").read_text() == "one\n"
        assert run_process(*arguments, f"--allow-commands={path}", "one").returncode == 0
        denied = run_process(*arguments, f"--allow-commands={path}", "two")
        assert denied.returncode == 1
        assert f"auth.password: {other} was not run" in denied.stdout
        assert (tmp_path / "ran").read_text() == "one\none\n"


@pytest.mark.parametrize("command", ["run", "test"])
def test_permission_for_a_program_without_its_absolute_path_is_refused(command: str) -> None:
    """Such as an ID after --allow-commands, which click takes for the option's program."""
    result = run_process(command, "--allow-commands", "crm")
    assert result.returncode == 2
    assert "Invalid value for '--allow-commands': write --allow-commands=PROGRAM with an absolute path" in result.stderr


def test_commands_of_a_refused_config_do_not_run(tmp_path: Path) -> None:
    """At the start and at a reload."""
    path = program(tmp_path, f"touch {tmp_path}/ran; echo secret")
    child = SidekeyProcess(config(integration("one", 1, path), "  two: {}\n"), tmp_path, arguments=ALLOW)
    child.start()
    assert child.wait() == 1
    with SidekeyProcess("integrations: {}\n", tmp_path, arguments=ALLOW) as child:
        head = child.config.read_text().removesuffix("integrations: {}\n")
        child.rewrite(head + config(integration("one", 1, path), "  two: {}\n"))
        child.wait_for_line(lambda line: "was not reloaded" in line)
        assert child.stop() == 0
    assert not (tmp_path / "ran").exists()


def test_changed_limits_keep_the_last_secret_of_a_failing_command(tmp_path: Path) -> None:
    """Somebody raises the timeout of a command that has become slow."""
    (tmp_path / "secret").write_text("first")
    path = program(tmp_path, f"cat {tmp_path}/secret")
    with (
        Nginx(tmp_path) as nginx,
        SidekeyProcess(config(integration("one", nginx.port, path)), tmp_path, arguments=ALLOW) as child,
    ):
        (tmp_path / "secret").unlink()
        child.rewrite(child.config.read_text().replace(ARGUMENT + "]", ARGUMENT + "], timeout: 20s, ttl: 10s"))
        child.wait_for_line(lambda line: '"config reloaded"' in line)
        child.wait_for_line(lambda line: FAILED in line)
        assert sends(child, "one", "first")
        (tmp_path / "secret").write_text("second")
        wait_until(lambda: sends(child, "one", "second"))
        assert child.stop() == 0


def test_removed_command_runs_no_more(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("first")
    path = expiring(tmp_path)
    with SidekeyProcess(config(integration("one", 1, path)), tmp_path, arguments=ALLOW) as child:
        text = child.config.read_text()
        child.rewrite(text[: text.index("integrations:")] + "integrations: {}\n")
        child.wait_for_line(lambda line: '"config reloaded"' in line)
        wait_until(lambda: not series(get(child.admin_port, "/metrics").body, "sidekey_command_failing"))
        page = get(child.admin_port, "/metrics").body
        assert child.stop() == 0
    # A run may have begun before the reload.
    runs = (tmp_path / "runs").read_text().count("run")
    assert runs - value_of(page, 'sidekey_command_runs_total{outcome="ok"}') <= 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may create a PID namespace here")
def test_first_process_of_a_container_keeps_no_zombies(tmp_path: Path) -> None:
    """The children of a killed program become children of Sidekey, which reaps them."""
    path = program(tmp_path, f"sleep 600 & echo run >> {tmp_path}/runs; wait")
    ps = programs.require("ps")
    wrapper = (programs.require("unshare"), "--pid", "--fork", "--kill-child", "--mount-proc")
    tried = subprocess.run([*wrapper, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        programs.missing("unshare", f"no PID namespace can be made here ({tried.stderr.strip()})")
    text = config(integration("one", 1, path, ", timeout: 1s"))
    with SidekeyProcess(text, tmp_path, arguments=ALLOW, wrapper=wrapper) as child:
        wait_until(lambda: (tmp_path / "runs").read_text().count("run") >= 3)
        (sidekey,) = Path(f"/proc/{child.process.pid}/task/{child.process.pid}/children").read_text().split()
        children = subprocess.run([ps, "--ppid", sidekey, "-o", "stat="], capture_output=True, text=True, check=False)
        assert children.stdout.count("Z") <= 1
        with suppress(ProcessLookupError):
            os.kill(int(sidekey), signal.SIGTERM)
