"""The real nginx that tests use as an upstream."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from support.ca import Authority
from support.nginx import Nginx


def test_http_and_https_answer_and_are_logged(tmp_path: Path, ca: Authority) -> None:
    """Both ports echo the request, and the access log tells what arrived."""
    with Nginx(tmp_path, leaf=ca.leaf("127.0.0.1")) as nginx:
        for base in (f"http://127.0.0.1:{nginx.port}", f"https://127.0.0.1:{nginx.tls_port}"):
            request = urllib.request.Request(f"{base}/a?b=c", headers={"Authorization": "Basic eDp5"})
            context = ca.client_context() if base.startswith("https") else None
            with urllib.request.urlopen(request, context=context, timeout=15) as answer:
                assert answer.read() == b"GET /a?b=c\nauthorization: Basic eDp5\n"
        seen = nginx.requests(2)
    assert [(line["scheme"], line["target"], line["authorization"]) for line in seen] == [
        ("http", "/a?b=c", "Basic eDp5"),
        ("https", "/a?b=c", "Basic eDp5"),
    ]


def test_a_refused_configuration_says_why(tmp_path: Path) -> None:
    """A faulty snippet is reported with nginx's own words."""
    with pytest.raises(ValueError, match="unknown directive"), Nginx(tmp_path, "no_such_directive on;"):
        pass
