"""urllib3, which reads no variable for its proxy: a service hands it what the standard library reads."""

from collections.abc import Iterable
from urllib.parse import unquote
from urllib.request import getproxies

import urllib3

from cases import BASE, LARGE, SMALL, digest, events, run

proxy = urllib3.util.parse_url(getproxies()["https"])
pool = urllib3.ProxyManager(proxy.url, proxy_headers=urllib3.make_headers(proxy_basic_auth=unquote(proxy.auth)))


def text(method: str, path: str, body: object = None) -> str:
    return pool.request(method, f"{BASE}{path}", body=body).data.decode()


def upload() -> str:
    with LARGE.open("rb") as file:
        return text("POST", "/large", file)


def stream() -> Iterable[str]:
    response = pool.request("GET", f"{BASE}/events", preload_content=False)
    for piece in response.stream():
        yield from events(piece.splitlines())


run(
    get=lambda: text("GET", "/small"),
    post=lambda: text("POST", "/small", SMALL),
    download=lambda: digest([pool.request("GET", f"{BASE}/large").data]),
    upload=upload,
    events=stream,
)
