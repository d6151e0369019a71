"""httpx, with its defaults."""

from collections.abc import Iterable

import httpx

from cases import BASE, LARGE, SMALL, digest, events, run


def download() -> str:
    with httpx.stream("GET", f"{BASE}/large") as response:
        return digest(response.iter_bytes())


def upload() -> str:
    with LARGE.open("rb") as file:
        return httpx.post(f"{BASE}/large", content=file).text


def stream() -> Iterable[str]:
    with httpx.stream("GET", f"{BASE}/events") as response:
        yield from events(response.iter_lines())


run(
    get=lambda: httpx.get(f"{BASE}/small").text,
    post=lambda: httpx.post(f"{BASE}/small", content=SMALL).text,
    download=download,
    upload=upload,
    events=stream,
)
