"""Programs that write secrets: who may change them, what they get, and what they may write."""

from __future__ import annotations

import json
import os
import time
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.config.programs import MAX_OUTPUT, ProgramRunner, check_program, parse_output
from sidekey.credentials.commands import Command
from support.files import replace
from support.http_get import wait_until

ROOT = os.geteuid() == 0
SECRET = "hunter2-and-more"
ENVIRON = {"HOME": "/var/lib/sidekey", "TOKEN": "t", "OTHER": "o", "PATH": "/opt/bin"}


def script(folder: Path, text: str) -> Path:
    """Write a shell script that only its owner may change."""
    path = folder / "program"
    replace(path, f"#!/bin/sh\n{text}\n", 0o755)
    return path


def run(folder: Path, text: str, *arguments: str, env: tuple[str, ...] = (), timeout: float = 20) -> str:
    """Run a shell script as Sidekey does, and return the secret."""
    command = Command((str(script(folder, text)), *arguments), env)
    return ProgramRunner().run(command, timeout, ENVIRON).value


def reason_of(folder: Path, text: str, *, env: tuple[str, ...] = (), timeout: float = 20) -> str:
    """Return why a script's output cannot be used. Nothing of the error may show the output."""
    with pytest.raises(ValueError, match=r".") as caught:
        run(folder, text, env=env, timeout=timeout)
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


def refusal_of(path: Path | str) -> str | None:
    """Return why a program is not run, or None."""
    try:
        check_program(str(path))
    except ValueError as error:
        return str(error)
    return None


def test_program_of_root_or_of_this_user_may_run(tmp_path: Path) -> None:
    assert refusal_of("/bin/sh") is None
    assert refusal_of(script(tmp_path, "")) is None


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_program_that_others_may_change_is_not_run(tmp_path: Path, mode: int) -> None:
    path = script(tmp_path, "")
    path.chmod(mode)
    assert refusal_of(path) == (
        f"is not run, because other users can change {path} (mode 0{mode:o}): run chmod go-w {path}"
    )


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_program_in_a_folder_that_others_may_change_is_not_run(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "bin"
    (folder / "deep").mkdir(parents=True)
    path = script(folder / "deep", "")
    folder.chmod(mode)
    assert f"other users can change {folder} (mode 0{mode:o})" in str(refusal_of(path))
    # In a sticky folder, others cannot replace what is not theirs.
    folder.chmod(mode | 0o1000)
    assert refusal_of(path) is None


def test_every_folder_of_a_link_and_of_its_target_counts(tmp_path: Path) -> None:
    for name in ("links", "targets"):
        (tmp_path / name).mkdir()
    target = script(tmp_path / "targets", "")
    link = tmp_path / "links" / "link"
    link.symlink_to("../targets/./program")
    assert refusal_of(link) is None
    for name in ("links", "targets"):
        (tmp_path / name).chmod(0o777)
        assert f"other users can change {tmp_path / name}" in str(refusal_of(link))
        (tmp_path / name).chmod(0o755)
    target.chmod(0o777)
    assert f"other users can change {target}" in str(refusal_of(link))


@pytest.mark.skipif(not ROOT, reason="only root may give files away")
def test_owner_of_each_step_must_be_root_or_this_user(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    path = script(folder, "")
    link = tmp_path / "link"
    link.symlink_to(path)
    for step in (path, folder, link):
        os.chown(step, 12345, -1, follow_symlinks=False)
        assert f"another user owns {step}: " in str(refusal_of(link))
        os.chown(step, 0, -1, follow_symlinks=False)
    assert refusal_of(link) is None


@pytest.mark.parametrize("mode", [0o4755, 0o2755])
def test_setuid_program_is_not_run(tmp_path: Path, mode: int) -> None:
    path = script(tmp_path, "")
    path.chmod(mode)
    assert "setuid or setgid" in str(refusal_of(path))


def test_only_an_executable_file_can_run(tmp_path: Path) -> None:
    assert refusal_of(tmp_path / "missing") == "does not exist"
    assert refusal_of(tmp_path) == "must be a file"
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert refusal_of(loop) == "cannot be run: Too many levels of symbolic links"
    path = script(tmp_path, "")
    path.chmod(0o644)
    with pytest.raises(ValueError, match=r"^cannot be run: Permission denied$"):
        ProgramRunner().run(Command((str(path),)), 20, ENVIRON)


def test_path_is_checked_at_each_run(tmp_path: Path) -> None:
    runner, path = ProgramRunner(), script(tmp_path, "echo secret")
    command = Command((str(path),))
    assert runner.run(command, 20, ENVIRON).value == "secret\n"
    path.chmod(0o777)
    with pytest.raises(ValueError, match="other users can change"):
        runner.run(command, 20, ENVIRON)


def test_environment_has_only_fixed_variables_and_those_of_env(tmp_path: Path) -> None:
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    output = ProgramRunner().run(Command(("/usr/bin/env",), ("TOKEN",)), 20, ENVIRON).value
    assert sorted(output.split()) == ["HOME=/var/lib/sidekey", "LANG=C.UTF-8", f"PATH={path}", "TOKEN=t"]
    reason = reason_of(tmp_path, "", env=("MISSING", "TOKEN"))
    assert reason == "needs environment variables that Sidekey does not have: set MISSING"


def test_no_shell_reads_the_arguments(tmp_path: Path) -> None:
    arguments = ("$HOME", "a b", "`id`", "*", ";", "")
    assert run(tmp_path, 'printf "<%s>" "$@"', *arguments) == "".join(f"<{argument}>" for argument in arguments)


def test_program_inherits_no_input_terminal_or_descriptor(tmp_path: Path) -> None:
    """It leads a session of its own, in the root folder, and what it creates is for its user only."""
    with (tmp_path / "inherited").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        made = tmp_path / "made"
        text = f"""\
cat
echo $(ls /proc/self/fd | sort -n)
readlink /proc/$$/fd/2
pwd
echo $(cut -d' ' -f6 /proc/$$/stat) $$
touch {made}
"""
        output = run(tmp_path, text).splitlines()
    # ls has one descriptor for the folder.
    assert output[:3] == ["0 1 2 3", "/dev/null", "/"]
    session, number = output[3].split()
    assert session == number
    assert made.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"echo {SECRET}; exit 3", "exited with status 3: as Sidekey's user, run it with env -i and its variables"),
        (f"echo {SECRET}; kill -ABRT $$", "was ended by signal 6"),
        (f"printf '{SECRET}\\377'", "must write UTF-8"),
        (f'printf \'{{"value": ["{SECRET}"]}}\'', "must write a text as the member `value` of its JSON object"),
        (
            f'echo \'{{"value": "{SECRET}", "expires_at": "tomorrow"}}\'',
            "must write `expires_at` as in RFC 3339, such as 2026-01-31T23:59:59Z",
        ),
        (
            f'echo \'{{"value": "{SECRET}", "expires_at": "2020-01-31T23:59:59Z"}}\'',
            "wrote a secret whose `expires_at` is in the past",
        ),
        (f"yes {SECRET}", "wrote more than 64 KiB, and was killed"),
    ],
)
def test_unusable_result_has_a_reason_without_its_output(tmp_path: Path, text: str, reason: str) -> None:
    assert reason_of(tmp_path, text) == reason


def test_output_of_64_kib_is_the_limit(tmp_path: Path) -> None:
    assert len(run(tmp_path, f"head -c {MAX_OUTPUT} /dev/zero | tr '\\0' x")) == MAX_OUTPUT
    assert "more than 64 KiB" in reason_of(tmp_path, f"head -c {MAX_OUTPUT + 1} /dev/zero | tr '\\0' x")


def test_program_is_killed_at_its_timeout(tmp_path: Path) -> None:
    """Also if it has closed its output."""
    for text in (f"echo {SECRET}; sleep 600", "exec >&-; sleep 600", "trap '' TERM HUP INT; sleep 600"):
        reason = reason_of(tmp_path, text, timeout=1)
        assert reason == "did not exit within its `timeout` of 1s, and was killed"


def test_background_process_does_not_delay_the_result_and_is_killed(tmp_path: Path) -> None:
    """One that has left the process group may keep the output open, but delays nothing either."""
    began = time.monotonic()
    assert run(tmp_path, f"sleep 600 & echo $! > {tmp_path}/pid; echo secret") == "secret\n"
    wait_until(lambda: has_ended(tmp_path / "pid"))
    assert run(tmp_path, "setsid sleep 5 & echo secret") == "secret\n"
    assert time.monotonic() - began < 20


def has_ended(path: Path) -> bool:
    """Return True if the process whose number is in a file does not run any longer."""
    try:
        stat = Path(f"/proc/{path.read_text().strip()}/stat").read_text()
    except FileNotFoundError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


def test_closed_runner_runs_nothing_to_its_end(tmp_path: Path) -> None:
    runner = ProgramRunner()
    runner.close()
    with pytest.raises(ValueError, match=r"^was ended by signal 9$"):
        runner.run(Command((str(script(tmp_path, "sleep 600")),)), 20, ENVIRON)


@pytest.mark.parametrize("text", ["secret", "secret\n", "", '{"secret": 1}', '{"value"', "[1]", '"value"', "{" * 5000])
def test_other_output_is_the_secret_itself(text: str) -> None:
    assert parse_output(text.encode()) == (text, None)


@pytest.mark.parametrize(
    ("zone", "expires"),
    [("Z", timedelta()), ("+02:00", timedelta(hours=-2))],
)
def test_json_object_has_the_secret_and_its_end(zone: str, expires: timedelta) -> None:
    moment = datetime(2100, 1, 31, 23, 59, 59, tzinfo=UTC)
    document = {"value": "a\nb", "expires_at": f"2100-01-31T23:59:59{zone}", "id": "x"}
    assert parse_output(json.dumps(document).encode()) == ("a\nb", (moment + expires).timestamp())
    assert parse_output(b' {"value": "x", "expires_at": null}\n') == ("x", None)


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()), st.text())
def test_value_of_any_json_object_is_the_secret(members: dict[str, object], value: str) -> None:
    members.pop("expires_at", None)
    assert parse_output(json.dumps({**members, "value": value}).encode()).value == value
