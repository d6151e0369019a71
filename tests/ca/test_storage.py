"""Storage of the CAs: file modes, atomic replacement, locking, and attacks on the path."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sidekey.ca import storage as state
from sidekey.ca.authorities import Authorities, LocalAuthority
from sidekey.ca.scope import Scope
from sidekey.ca.storage import FolderError, read, state_file, update
from support.local_cas import NOW, authority_of, scope_of
from support.raw_connection import DEADLINE

A = authority_of("https://a.test")
B = authority_of("https://b.test")


def authorities(*authorities: LocalAuthority) -> Authorities:
    return Authorities(1, authorities)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_file_is_0600_in_a_0700_folder_despite_the_umask(tmp_path: Path) -> None:
    previous_umask = os.umask(0)
    try:
        update(tmp_path / "deep" / "state", lambda _: authorities(A))
    finally:
        os.umask(previous_umask)
    path = state_file(tmp_path / "deep" / "state")
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    assert sorted(file.name for file in path.parent.iterdir()) == ["authorities.json", "lock"]
    assert read(tmp_path / "deep" / "state") == authorities(A)


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_missing_parents_are_created_for_this_user_only(tmp_path: Path, umask: int) -> None:
    """The XDG base directory specification requires this mode. Existing folders keep their mode."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there").chmod(0o751)
    previous_umask = os.umask(umask)
    try:
        update(tmp_path / "there" / "a" / "b", lambda _: authorities(A))
    finally:
        os.umask(previous_umask)
    modes = [mode(tmp_path / "there" / name) for name in (".", "a", "a/b", "a/b/ca")]
    assert modes == [0o751, 0o700, 0o700, 0o700]


def test_read_returns_none_before_the_first_update(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    assert read(tmp_path / "absent") is None
    assert list(tmp_path.iterdir()) == []


def test_group_and_other_permissions_are_removed(tmp_path: Path) -> None:
    """Kubernetes opens all files to the group of fsGroup at each mount."""
    update(tmp_path, lambda _: authorities(A))
    path = state_file(tmp_path)
    path.chmod(0o664)
    path.parent.chmod(0o2775)
    assert read(tmp_path) == authorities(A)
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)


def test_failed_update_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an exception nor a full disk leaves a file behind."""
    update(tmp_path, lambda _: authorities(A))

    def fail(_: Authorities | None) -> Authorities:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        update(tmp_path, fail)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(FolderError, match=r"cannot be written: No space left on device; set ca\.folder"):
            update(tmp_path, lambda _: authorities(B))
    assert read(tmp_path) == authorities(A)
    assert sorted(file.name for file in state_file(tmp_path).parent.iterdir()) == ["authorities.json", "lock"]


def test_temporary_file_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    """The temporary file contains keys."""
    update(tmp_path, lambda _: authorities(A))
    left = state_file(tmp_path).with_name(".authorities.json.0123abcd")
    left.write_text("a key")
    update(tmp_path, lambda _: authorities(B))
    assert not left.exists()


def test_unchanged_cas_are_not_written(tmp_path: Path) -> None:
    """A write would notify file watchers."""
    update(tmp_path, lambda _: authorities(A))
    before = state_file(tmp_path).stat()

    def keep(current: Authorities | None) -> Authorities:
        assert current is not None
        return current

    update(tmp_path, keep)
    assert state_file(tmp_path).stat().st_ino == before.st_ino


def test_concurrent_processes_create_one_ca(tmp_path: Path) -> None:
    """The other processes wait for the lock, and then read the CA."""
    code = (
        "import sys; from pathlib import Path; from sidekey.ca.storage import update\n"
        "from sidekey.ca.authorities import Authorities; from sidekey.ca.certificates import create_authority\n"
        "from sidekey.ca.scope import Scope\n"
        "update(Path(sys.argv[1]), lambda kept: (kept or Authorities()).ensure(\n"
        f"    Scope(frozenset({{'a.test'}})), {NOW}, lambda scope, number: create_authority(scope, number, {NOW})))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(3)
    ]
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert (output, process.returncode) == ("", 0)
    stored = read(tmp_path)
    assert stored is not None
    assert len(stored.members) == 1


def test_lock_that_is_never_released_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update(tmp_path, lambda _: authorities(A))
    monkeypatch.setattr(state, "_LOCK_SECONDS", 0.0)
    with state_file(tmp_path).with_name("lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(FolderError, match="is locked by another process of Sidekey"):
            update(tmp_path, lambda _: authorities(B))
        assert read(tmp_path) == authorities(A)


def test_waiting_writer_reads_again_under_the_lock(tmp_path: Path) -> None:
    entered, release = threading.Event(), threading.Event()

    def wait_for_release(_: Authorities | None) -> Authorities:
        entered.set()
        assert release.wait(DEADLINE)
        return authorities(A)

    first = threading.Thread(target=update, args=(tmp_path, wait_for_release))
    first.start()
    assert entered.wait(DEADLINE)
    arguments: list[Authorities | None] = []

    def record(current: Authorities | None) -> Authorities:
        arguments.append(current)
        return authorities(A, B)

    second = threading.Thread(target=update, args=(tmp_path, record))
    second.start()
    release.set()
    first.join(DEADLINE)
    second.join(DEADLINE)
    assert arguments == [authorities(A)]


@pytest.mark.parametrize("target", ["folder", "file"])
def test_symbolic_link_is_refused(target: str, tmp_path: Path) -> None:
    """Otherwise a user who may write to the parent folder could choose the location of the keys."""
    update(tmp_path / "elsewhere", lambda _: authorities(A))
    other_file = state_file(tmp_path / "elsewhere")
    if target == "folder":
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "ca").symlink_to(other_file.parent)
    else:
        update(tmp_path / "state", lambda _: authorities(B))
        state_file(tmp_path / "state").unlink()
        state_file(tmp_path / "state").symlink_to(other_file)
    with pytest.raises(FolderError):
        read(tmp_path / "state")
    with pytest.raises(FolderError):
        update(tmp_path / "state", lambda _: authorities(B))
    assert read(tmp_path / "elsewhere") == authorities(A)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    update(tmp_path, lambda _: authorities(A))
    os.chown(state_file(tmp_path).parent, 12345, 12345)
    with pytest.raises(FolderError, match=r"must belong to the user that Sidekey runs as: set ca\.folder"):
        read(tmp_path)


def test_unreadable_file_is_not_overwritten(tmp_path: Path) -> None:
    """The file may be the only copy of a key that callers trust."""
    update(tmp_path, lambda _: authorities(A))
    for content in (b"nonsense", b"\xff\xfe", b""):
        state_file(tmp_path).write_bytes(content)
        with pytest.raises(FolderError, match="restore it from a backup, or remove it"):
            update(tmp_path, lambda _: authorities(B))
        assert state_file(tmp_path).read_bytes() == content


def test_path_that_is_not_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match=r"file/ca cannot be made or entered: Not a directory; set ca\.folder"):
        update(tmp_path / "file", lambda _: authorities(A))
    with pytest.raises(FolderError, match="cannot be read: Not a directory"):
        read(tmp_path / "file")


def test_stored_ca_covers_its_scope_after_reading(tmp_path: Path) -> None:
    update(tmp_path, lambda _: authorities(A))
    stored = read(tmp_path)
    assert stored is not None
    assert stored.find_missing(scope_of("https://a.test"), NOW) == {}
    assert stored.find_missing(scope_of("https://b.test"), NOW) == {1: Scope(frozenset({"b.test"}))}
