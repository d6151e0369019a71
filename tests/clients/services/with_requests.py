"""requests, with its defaults."""

from collections.abc import Iterable

import requests

from cases import BASE, LARGE, SMALL, digest, events, run


def upload() -> str:
    with LARGE.open("rb") as file:
        return requests.post(f"{BASE}/large", data=file).text


def stream() -> Iterable[str]:
    with requests.get(f"{BASE}/events", stream=True) as response:
        yield from events(response.iter_lines())


run(
    get=lambda: requests.get(f"{BASE}/small").text,
    post=lambda: requests.post(f"{BASE}/small", data=SMALL).text,
    download=lambda: digest([requests.get(f"{BASE}/large").content]),
    upload=upload,
    events=stream,
)
