"""Hypothesis strategies: requests and responses near what HTTP allows, and how to split them into reads."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st

from support.plane import CREDENTIAL

PLAIN_SEGMENTS = ["/", "//", ".", "..", "a", "b.c", "api", "apix", "~", "@", ":", "-", "*", "+", "?", "?q=", "&"]
ESCAPES = ["%41", "%2e", "%2E%2e", "%252e", "%2f", "%252F", "%5c", "%3b", "%253f", "%", "%zz", "%00", "%0a"]
TREACHEROUS = ["\\", ";", ";x=y", "#", " ", "\xe9"]
SEGMENTS = st.sampled_from([*PLAIN_SEGMENTS, *ESCAPES, *TREACHEROUS])


def soup() -> st.SearchStrategy[str]:
    """Draw what may follow the ID at the reverse proxy: pieces of paths, plain and malicious."""
    plain = st.lists(st.sampled_from(["/", "a", "b.c", "~", "-", "api", "%41", "."]), max_size=8)
    return st.one_of(st.lists(SEGMENTS, max_size=8), plain).map("".join).map(lambda text: "/" + text)


def cuts(size: int) -> st.SearchStrategy[list[int]]:
    """Draw where to split `size` bytes into reads."""
    return st.lists(st.integers(0, size), max_size=8).map(sorted)


def pieces(data: bytes, at: list[int]) -> list[bytes]:
    """Draw the reads of `data`."""
    bounds = [0, *at, len(data)]
    return [data[start:end] for start, end in pairwise(bounds) if end > start]


FIELDS = st.sampled_from(
    [
        "X-A: 1",
        "Authorization: mine",
        "authorization:",
        "Connection: authorization, x-a",
        "Connection: close",
        "Connection: keep-alive",
        "Proxy-Authorization: Basic aDp4",
        "X-Integration-Id: h",
        "Sidekey-Token: t",
        "TE: trailers",
        "Cookie: a=b",
        "X_A: 2",
        "Expect: 100-continue",
        "X-Empty:",
        "Content_Length: 3",
    ]
)

BODIES = st.lists(st.binary(min_size=1, max_size=12), max_size=4)


def chunked(body: list[bytes]) -> bytes:
    """Draw a body in chunked coding."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*body, b""))


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Draw a valid request to the reverse proxy."""
    method = draw(st.sampled_from(["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH"]))
    path = draw(st.sampled_from(["/a", "", "/a/b?q=1", "/%41", "/x~y/", "?q"]))
    fields = [field for field in draw(st.lists(FIELDS, max_size=4)) if "close" not in field]
    # Those that may come once only.
    fields = list(dict.fromkeys(fields))
    body = draw(BODIES)
    framing = draw(st.sampled_from(["none", "length", "chunked"])) if method in {"POST", "PUT", "PATCH"} else "none"
    data = b""
    if framing == "length":
        data = b"".join(body)
        fields.append(f"Content-Length: {len(data)}")
    elif framing == "chunked":
        data = chunked(body)
        fields.append("Transfer-Encoding: chunked")
    head = "\r\n".join([f"{method} /i/h{path} HTTP/1.1", "Host: h.test", *fields, "", ""])
    return head.encode("latin-1") + data


@st.composite
def damaged(draw: st.DrawFn, sound: st.SearchStrategy[bytes]) -> bytes:
    """Draw valid bytes with up to three replaced positions."""
    data = draw(sound)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        gone = draw(st.integers(0, 3))
        put = draw(
            st.one_of(
                st.binary(max_size=3),
                st.sampled_from(
                    [
                        b"\r\n",
                        b"\n",
                        b"\r",
                        b"Content-Length: 3\r\n",
                        b"Transfer-Encoding: chunked\r\n",
                        b"\r\nTransfer-Encoding: x, chunked",
                        b"\r\nContent-Length: 5",
                        b"0\r\n\r\n",
                        b"HTTP/1.0",
                        b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
                        b"../../",
                        b"GET /i/h/b HTTP/1.1\r\nHost: h.test\r\n\r\n",
                        b"Authorization: " + CREDENTIAL + b"\r\n",
                        b"X-Integration-Id: o\r\n",
                    ]
                ),
            )
        )
        data = data[:at] + put + data[at + gone :]
    return data


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Draw an upstream's response that is valid, or nearly so."""
    status = draw(
        st.sampled_from(["200 OK", "204 No Content", "304 Not Modified", "404 Not Found", "500 Oops", "201 "])
    )
    version = draw(st.sampled_from(["1.1", "1.1", "1.0"]))
    body = draw(BODIES)
    framing = draw(st.sampled_from(["length", "chunked", "close", "shorter", "longer"]))
    fields = draw(
        st.lists(st.sampled_from(["X-A: 1", "Connection: close", "Keep-Alive: timeout=5", "X-B:"]), max_size=3)
    )
    data = b"".join(body)
    if framing == "chunked":
        fields.append("Transfer-Encoding: chunked")
        data = chunked(body)
    elif framing != "close":
        fields.append(f"Content-Length: {len(data) + {'length': 0, 'shorter': 2, 'longer': -2}[framing]}")
    interim = draw(
        st.sampled_from(["", "", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nX: 1\r\n\r\n"])
    )
    return (interim + "\r\n".join([f"HTTP/{version} {status}", *fields, "", ""])).encode() + data
