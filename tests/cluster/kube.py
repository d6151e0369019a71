"""A cluster as operators use it: kubectl, Helm, and the pods of the tests."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
CHART: Final = ROOT / "helm" / "sidekey"
EXAMPLES: Final = ROOT / "helm" / "examples"

PYTHON: Final = "/opt/sidekey/bin/python"
"""Python in Sidekey's image, with aiohttp. It runs the tests' clients and upstreams."""

CLIENT: Final = "client"
"""The pod from which tests send requests to a gateway."""

_SEND: Final = """
import sys, urllib.request
token, *urls = sys.argv[1:]
for url in urls:
    request = urllib.request.Request(url, data=b"x", headers={"Sidekey-Token": token})
    print(urllib.request.urlopen(request, timeout=20).read().decode())
"""

Values = Mapping[str, Any]


class CommandFailed(AssertionError):
    """A command failed. The message has its output."""


class Cluster:
    """A cluster with its kubeconfig. `inside` is a prefix of commands that enters the network of the cluster."""

    def __init__(
        self, kubeconfig: Path, image: str, inside: Sequence[str] = (), containerd: Path | None = None
    ) -> None:
        self.image: Final = image
        self._containerd = containerd
        self._deleted: list[str] = []
        self._inside = list(inside)
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}

    def run(self, *command: str | Path, text: str = "") -> str:
        """Run a command to its end and return its standard output. Raises CommandFailed."""
        result = self.attempt(*command, text=text)
        if result.returncode:
            raise CommandFailed(
                f"{' '.join(map(str, command))[:300]}: {result.returncode}\n{result.stdout}{result.stderr}"
            )
        return result.stdout

    def attempt(self, *command: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command that may fail."""
        return subprocess.run(
            [*self._inside, *command], input=text, capture_output=True, text=True, env=self._environment, check=False
        )

    def start(self, *command: str | Path) -> subprocess.Popen[str]:
        """Start a command. `finish` returns its output."""
        return subprocess.Popen(
            [*self._inside, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment,
        )

    def finish(self, process: subprocess.Popen[str]) -> str:
        """Wait for a started command and return all its output. Raises CommandFailed."""
        assert process.stdout is not None
        with process:
            output = process.stdout.read()
        if process.returncode:
            raise CommandFailed(f"{process.args!r:.300}: {process.returncode}\n{output}")
        return output

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Create or change objects."""
        # kubectl itself would keep a copy in an annotation, which is too small for large ConfigMaps.
        self.run("kubectl", "apply", "--server-side", "--filename=-", text=yaml.safe_dump_all(objects))

    def kill(self, namespace: str, pod: str, container: str) -> None:
        """Send SIGKILL to a container's first process. Only the node can do so: other clusters skip the test."""
        if self._containerd is None:
            pytest.skip("a container can be killed only on its node, which tests of a foreign cluster do not reach")
        document = json.loads(self.run("kubectl", f"--namespace={namespace}", "get", "pod", pod, "--output=json"))
        statuses = [*document["status"].get("initContainerStatuses", ()), *document["status"]["containerStatuses"]]
        [name] = [status["containerID"].partition("://")[2] for status in statuses if status["name"] == container]
        ctr = ("ctr", f"--address={self._containerd}", "--namespace=k8s.io")
        self.run(*ctr, "tasks", "kill", "--signal=SIGKILL", name)

    @contextlib.contextmanager
    def namespace(self, name: str) -> Iterator[Namespace]:
        """Create a namespace that enforces the pod security standard `restricted`, and delete it at the end."""
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
        described = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        # This fails if the namespace exists, because it is another's or that of an earlier run.
        self.run("kubectl", "create", "--filename=-", text=json.dumps(described))
        try:
            # The API refuses pods until the controller has created the service account.
            self.run(
                "kubectl", f"--namespace={name}", "wait", "--for=create", "serviceaccount/default", "--timeout=60s"
            )
            yield Namespace(self, name)
        finally:
            self.attempt("kubectl", "delete", "namespace", name, "--wait=false")
            self._deleted.append(name)

    def wait_until_clean(self) -> None:
        """Wait until the namespaces of the tests are gone, because the next run uses the same names."""
        names = [f"namespace/{name}" for name in self._deleted]
        if names:
            self.run("kubectl", "wait", "--for=delete", *names, "--timeout=180s")


class Namespace:
    """One namespace of the cluster."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster: Final = cluster
        self.name: Final = name

    def kubectl(self, *arguments: str | Path) -> str:
        """Run kubectl in this namespace. Raises CommandFailed."""
        return self.cluster.run("kubectl", f"--namespace={self.name}", *arguments)

    def get(self, *arguments: str) -> Any:
        """Return the JSON of `kubectl get`."""
        return json.loads(self.kubectl("get", *arguments, "--output=json"))

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create or change objects here."""
        for item in objects:
            item["metadata"]["namespace"] = self.name
        self.cluster.apply(*objects)

    def secret(self, name: str, **entries: str) -> None:
        """Create or change a Secret."""
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": entries})

    def config_map(self, name: str, entries: Mapping[str, str]) -> None:
        """Create or change a ConfigMap."""
        self.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": dict(entries)})

    def helm(self, verb: str, name: str, chart: Path | None = None, values: Values | None = None) -> None:
        """Run a verb of Helm and wait until everything is ready. Raises CommandFailed with Helm's reason."""
        command: list[str | Path] = [sys.executable, HERE / "helm.py", verb, name, self.name]
        command += [chart] if chart else []
        self.cluster.run(*command, text=json.dumps(values or {}))

    def execute(self, pod: str, *command: str, container: str = "") -> str:
        """Run a command in a pod and return its standard output. Raises CommandFailed."""
        chosen = [f"--container={container}"] if container else []
        return self.kubectl("exec", pod, *chosen, "--", *command)

    def pods(self, selector: str) -> list[Any]:
        """Return the pods of a selector that are not being deleted, the oldest first."""
        items = self.get("pods", f"--selector={selector}")["items"]
        alive = [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]
        return sorted(alive, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def wait_for_rollout(self, deployment: str) -> None:
        """Wait until the rollout of a Deployment is complete."""
        self.kubectl("rollout", "status", f"deployment/{deployment}", "--timeout=120s")

    def start_client(self, trusted: str = "") -> None:
        """Start the pod CLIENT, which may send requests to a gateway.

        It has the load generator as /load/load.py, and the PEM of the CA that it trusts as /load/ca.crt.
        """
        self.config_map("load", {"load.py": (HERE / "load.py").read_text(), "ca.crt": trusted})
        self.apply(pod(CLIENT, self.cluster.image, mounts={"load": "/load"}, labels={"sidekey-client": "true"}))
        self.kubectl("wait", "--for=condition=Ready", f"pod/{CLIENT}", "--timeout=60s")

    def send(self, token: str, *urls: str) -> list[str]:
        """POST to each URL from CLIENT with a caller's token, and return the bodies. Raises CommandFailed."""
        return self.execute(CLIENT, PYTHON, "-c", _SEND, token, *urls).splitlines()

    def start_load(
        self,
        token: str,
        url: str,
        senders: int,
        pause: float,
        connections: str,
        environment: Sequence[str] = (),
        *,
        seconds: int,
    ) -> subprocess.Popen[str]:
        """Start the load generator in CLIENT with a caller's token. `counts` returns what it counted."""
        return self.cluster.start(
            *("kubectl", f"--namespace={self.name}", "exec", CLIENT, "--", "env", *environment),
            *(PYTHON, "/load/load.py", url, str(seconds), str(senders), str(pause), connections),
            f"Sidekey-Token={token}",
        )

    def counts(self, loads: Mapping[str, subprocess.Popen[str]]) -> dict[str, dict[str, Any]]:
        """Wait for load generators and return their counts."""
        outputs = {name: self.cluster.finish(process) for name, process in loads.items()}
        return {name: json.loads(output.splitlines()[-1]) for name, output in outputs.items()}


def pod(
    name: str,
    image: str,
    *,
    command: Sequence[str] = (PYTHON, "-c", "import signal; signal.pause()"),
    mounts: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    user: int = 10001,
) -> dict[str, Any]:
    """Describe a pod of one container as `restricted` demands. `mounts` are ConfigMaps with their paths."""
    volumes = mounts or {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": dict(labels or {})},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": user,
                "runAsGroup": user,
                "fsGroup": user,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": name,
                    "image": image,
                    "command": list(command),
                    "env": [{"name": "PYTHONDONTWRITEBYTECODE", "value": "1"}],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": source, "mountPath": path} for source, path in volumes.items()],
                }
            ],
            "volumes": [{"name": source, "configMap": {"name": source}} for source in volumes],
        },
    }


def eventually(description: str, condition: Callable[[], object], seconds: float = 60) -> float:
    """Wait until a condition of the cluster is true, and return the seconds. Fails with the description."""
    begin = time.monotonic()
    last: object = None
    while (passed := time.monotonic() - begin) < seconds:
        try:
            last = condition()
        except CommandFailed as error:
            last = error
        else:
            if last:
                return passed
        time.sleep(0.5)
    raise AssertionError(f"not within {seconds:.0f} s: {description}; last: {last}")
