"""certificates/watch.py: what counts as a change of a file, and what follows from it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from sidekey.certificates.source import CertificateSource
from sidekey.certificates.watch import EVERY, Watch, stamp
from sidekey.observe.metrics import Metrics
from support.mounted import FILES, configured, events, is_of, lasting, mount, ring_of, wall
from support.tokens import StillLoop


class Rig:
    """A watched source, and every reading of it."""

    def __init__(self, folder: Path, keys: str = FILES) -> None:
        self.metrics = Metrics()
        self.defects: list[BaseException] = []
        self.source = CertificateSource("bank", ring_of(configured(folder, keys)), self.metrics, wall=wall)
        self.watch = Watch([self.source], self.report)

    def report(self, defect: BaseException) -> str:
        self.defects.append(defect)
        return "d1"

    @property
    def failures(self) -> int:
        return self.metrics.reload_failures["bank", "certificate"]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    mount(tmp_path, lasting(60))
    made = Rig(tmp_path)
    yield made
    await made.source.close()


async def test_a_rotated_pair_is_taken_up(rig: Rig, tmp_path: Path) -> None:
    """Written in place, or put in place of the old files."""
    for round_trip in range(2):
        issued = lasting(70 + round_trip)
        folder = tmp_path / f"new{round_trip}"
        folder.mkdir()
        mount(folder if round_trip else tmp_path, issued)
        if round_trip:
            for name in ("tls.crt", "tls.key"):
                (folder / name).replace(tmp_path / name)
        await rig.watch.look()
        assert is_of(rig.source.identity, issued)
    assert rig.failures == 0


async def test_what_has_not_changed_is_not_read(rig: Rig, tmp_path: Path) -> None:
    """The same object goes on, and connections with it."""
    identity = rig.source.identity
    (tmp_path / "tls.crt").touch()
    with structlog.testing.capture_logs() as lines:
        await rig.watch.look()
        await rig.watch.look()
    assert rig.source.identity is identity
    assert lines == []


async def test_a_swap_of_the_kubernetes_kind_is_seen(tmp_path: Path) -> None:
    """The paths stay links through `..data`, which is renamed to lead to another folder, both files at once."""
    for name in ("..one", "..two"):
        (tmp_path / name).mkdir()
    first, second = mount(tmp_path / "..one", lasting(60)), mount(tmp_path / "..two", lasting(90))
    (tmp_path / "..data").symlink_to("..one")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    rig = Rig(tmp_path)
    assert is_of(rig.source.identity, first)
    (tmp_path / "..data_tmp").symlink_to("..two")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    await rig.watch.look()
    assert is_of(rig.source.identity, second)
    await rig.source.close()


async def test_half_a_rotation_is_not_taken_up(rig: Rig, tmp_path: Path) -> None:
    """The certificate came, its key not yet: the old pair goes on until both match. One fault, once."""
    old, new = rig.source.identity, lasting(90)
    with structlog.testing.capture_logs() as lines:
        (tmp_path / "tls.crt").write_bytes(new.pem)
        await rig.watch.look()
        await rig.watch.look()
        assert rig.source.identity is old
        assert rig.failures == 1
        (tmp_path / "tls.key").write_bytes(new.key_pem)
        await rig.watch.look()
    assert is_of(rig.source.identity, new)
    assert events(lines, "error") == ["a client certificate was not taken up"]
    assert events(lines, "info") == ["the client certificate is good again", "a client certificate is taken up"]


async def test_files_that_go_and_come_back_change_nothing(rig: Rig, tmp_path: Path) -> None:
    """Between the two the old certificate serves."""
    old = rig.source.identity
    (tmp_path / "tls.key").rename(tmp_path / "away")
    await rig.watch.look()
    assert (rig.source.identity, rig.failures) == (old, 1)
    (tmp_path / "away").rename(tmp_path / "tls.key")
    await rig.watch.look()
    assert (rig.source.identity, rig.failures) == (old, 1)


async def test_only_what_names_a_changed_file_is_read(rig: Rig, tmp_path: Path) -> None:
    """Of two integrations one."""
    (tmp_path / "other").mkdir()
    mount(tmp_path / "other", lasting(60))
    keys = "certificate: {file: other/tls.crt}, private_key: {file: other/tls.key}"
    other = CertificateSource("other", ring_of(configured(tmp_path, keys)), rig.metrics, wall=wall)
    watch = Watch([rig.source, other], rig.report)
    (tmp_path / "other" / "tls.crt").write_text("nothing")
    await watch.look()
    assert rig.metrics.reload_failures == {("bank", "certificate"): 0, ("other", "certificate"): 1}
    await other.close()


async def test_it_looks_every_few_seconds(rig: Rig, tmp_path: Path) -> None:
    """Until it is cancelled."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, StillLoop)
    issued = mount(tmp_path, lasting(90))
    running = asyncio.create_task(rig.watch.run())
    await loop.advance(EVERY - 0.1)
    assert not is_of(rig.source.identity, issued)
    await loop.advance(0.1)
    async with asyncio.timeout(1):
        while not is_of(rig.source.identity, issued):
            await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_defect_in_one_leaves_the_others_watched(rig: Rig, tmp_path: Path) -> None:
    """It is reported."""

    class Broken(CertificateSource):
        async def reload(self) -> bool:
            raise ZeroDivisionError

    broken = Broken("broken", rig.source.ring, Metrics(), wall=wall)
    watch = Watch([broken, rig.source], rig.report)
    issued = mount(tmp_path, lasting(90))
    await watch.look()
    assert is_of(rig.source.identity, issued)
    assert [type(defect) for defect in rig.defects] == [ZeroDivisionError]
    await broken.close()


def test_no_state_of_a_file_is_taken_for_another(tmp_path: Path) -> None:
    """Neither one of the same size and time of modification, nor none; a folder that cannot be entered is none."""
    path = tmp_path / "file"
    assert stamp(path) is None
    path.write_text("one")
    before = stamp(path)
    times = path.stat()
    (tmp_path / "next").write_text("two")
    os.utime(tmp_path / "next", ns=(times.st_atime_ns, times.st_mtime_ns))
    (tmp_path / "next").replace(path)
    assert before is not None
    assert stamp(path) not in (before, None)
    assert stamp(path / "below") is None


def test_an_integration_without_files_is_not_watched() -> None:
    """Then there is nothing to look at."""
    assert not Watch([], lambda defect: "d1")
