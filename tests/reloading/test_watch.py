"""That a change in a watched folder is told, on the loop, and nothing is told of another folder."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sidekey.reloading.watch import Watch
from support.plane import DEADLINE
from support.projected import Projected


class Told:
    """Counts what it is told, and lets a test wait for the next."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self._event = asyncio.Event()

    def __call__(self) -> None:
        self.threads.append(threading.current_thread())
        self._event.set()

    async def next(self) -> None:
        async with asyncio.timeout(DEADLINE):
            await self._event.wait()
        self._event.clear()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def watch(told: Told) -> AsyncIterator[Watch]:
    watch = Watch(told)
    yield watch
    await watch.close()


async def test_a_new_file_is_reported_on_the_event_loop(watch: Watch, told: Told, tmp_path: Path) -> None:
    await watch.over(frozenset({tmp_path}))
    assert watch.working
    (tmp_path / "new").write_text("x")
    await told.next()
    assert set(told.threads) == {threading.current_thread()}


async def test_each_swap_of_a_mounted_secret_is_reported(watch: Watch, told: Told, tmp_path: Path) -> None:
    mount = Projected(tmp_path / "secret", {"token": "1"})
    await watch.over(frozenset({mount.folder}))
    for value in ("2", "3", "4"):
        mount.update({"token": value})
        await told.next()
    assert len(told.threads) >= 3


async def test_the_same_folders_are_not_watched_again(watch: Watch, tmp_path: Path) -> None:
    await watch.over(frozenset({tmp_path}))
    first = [thread for thread in threading.enumerate() if thread.name == "watch"]
    await watch.over(frozenset({tmp_path}))
    assert [thread for thread in threading.enumerate() if thread.name == "watch"] == first


async def test_another_folder_takes_the_place_of_the_former(watch: Watch, told: Told, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    await watch.over(frozenset({tmp_path / "a"}))
    await watch.over(frozenset({tmp_path / "b"}))
    (tmp_path / "b/file").write_text("")
    await told.next()
    assert [thread.name for thread in threading.enumerate()].count("watch") == 1


async def test_a_folder_that_can_not_be_watched_is_complained_of_once_and_tried_again(
    watch: Watch, tmp_path: Path
) -> None:
    folder = tmp_path / "gone"
    with capture_logs() as lines:
        for _ in range(2):
            await watch.over(frozenset({folder}))
            assert not watch.working
    assert [line["log_level"] for line in lines] == ["warning"]
    folder.mkdir()
    await watch.over(frozenset({folder}))
    assert watch.working


async def test_closing_ends_the_thread(told: Told, tmp_path: Path) -> None:
    watch = Watch(told)
    await watch.over(frozenset({tmp_path}))
    await watch.close()
    assert "watch" not in [thread.name for thread in threading.enumerate()]
    assert not watch.working


async def test_the_folder_that_takes_the_place_of_another_is_watched_again(
    watch: Watch, told: Told, tmp_path: Path
) -> None:
    """The kernel goes on with the one that was moved away."""
    folder = tmp_path / "conf"
    folder.mkdir()
    assert await watch.over(frozenset({folder}))
    assert not await watch.over(frozenset({folder}))
    folder.rename(tmp_path / "former")
    folder.mkdir()
    await told.next()
    assert await watch.over(frozenset({folder}))
    (folder / "file").write_text("")
    await told.next()
    assert not await watch.over(frozenset({folder}))


async def test_a_link_on_the_way_that_leads_elsewhere_now_is_followed_again(
    watch: Watch, told: Told, tmp_path: Path
) -> None:
    for name in ("1", "2"):
        (tmp_path / name / "conf").mkdir(parents=True)
    link = tmp_path / "current"
    link.symlink_to("1")
    folders = frozenset({tmp_path, link / "conf"})
    await watch.over(folders)
    (tmp_path / "new").symlink_to("2")
    (tmp_path / "new").replace(link)
    await told.next()
    assert await watch.over(folders)
    (link / "conf/file").write_text("")
    await told.next()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_thread_that_fails_holds_nobody_up(
    watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library may be refused a thread of its own, which is none of the errors that it documents."""

    def refused(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr("sidekey.reloading.watch.RustNotify", refused)
        assert not await watch.over(frozenset({tmp_path}))
    assert await watch.over(frozenset({tmp_path}))
