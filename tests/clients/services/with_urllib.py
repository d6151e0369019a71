"""urllib of the standard library, with its defaults."""

from collections.abc import Iterable
from urllib.request import Request, urlopen

from cases import BASE, LARGE, SMALL, digest, events, run


def text(url: str, data: bytes | None = None) -> str:
    with urlopen(url, data) as response:
        return response.read().decode()


def download() -> str:
    with urlopen(f"{BASE}/large") as response:
        return digest([response.read()])


def upload() -> str:
    with LARGE.open("rb") as file:
        length = {"Content-Length": str(LARGE.stat().st_size)}
        with urlopen(Request(f"{BASE}/large", file, length)) as response:
            return response.read().decode()


def stream() -> Iterable[str]:
    with urlopen(f"{BASE}/events") as response:
        yield from events(response)


run(
    get=lambda: text(f"{BASE}/small"),
    post=lambda: text(f"{BASE}/small", SMALL),
    download=download,
    upload=upload,
    events=stream,
)
