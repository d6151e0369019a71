"""A real Prometheus with the delivered config."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from support.http_get import get
from support.ports import free_port
from support.programs import require
from support.raw_connection import DEADLINE

Result = TypeVar("Result")
SCRAPES = 0.5
"""Seconds from one scrape to the next, and from one evaluation to the next."""
FOLDER = Path(__file__).parents[2] / "prometheus"


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[int]:
    """Run Prometheus with the delivered config, except for the target and for intervals of at most a second."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    names = ("scrape_interval", "scrape_timeout", "evaluation_interval")
    config["global"] = dict.fromkeys(names, f"{SCRAPES * 1000:.0f}ms")
    config["rule_files"] = [str((FOLDER / name).resolve()) for name in config["rule_files"]]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{target}"]
    path, port = folder / "prometheus.yml", free_port()
    path.write_text(json.dumps(config))
    command = [
        require("prometheus"),
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield port
        finally:
            process.terminate()


def query(port: int, path: str) -> Any:
    """Query the API of Prometheus. Return None until it responds."""
    try:
        response = get(port, f"/api/v1/{path}")
    except ConnectionError:
        return None
    return json.loads(response.body)["data"] if response.status == 200 else None


def until(query: Callable[[], Result | None]) -> Result:
    """Wait for a result, and return it."""
    ends = time.monotonic() + DEADLINE
    while time.monotonic() < ends:
        value = query()
        if value is not None:
            return value
        time.sleep(0.1)
    raise TimeoutError
