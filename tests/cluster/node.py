"""A one-node Kubernetes on this machine, in its own namespaces, which leaves nothing behind.

Needs root on Linux, the Kubernetes binaries (`hyper`, which is kube-apiserver, kube-controller-manager, kube-scheduler
and kubelet in one, and `kube-proxy`), and Debian's packages for the programs below. Processes, networks and mounts end
with the namespaces; files are below one folder, cgroups below one name.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

import yaml

from cluster.pki import Authority
from support import namespaces
from support.namespaces import Namespaces, remove_cgroup

PROGRAMS: Final = {
    "conntrack": "conntrack",
    "containerd": "containerd",
    "ctr": "containerd",
    "dnsmasq": "dnsmasq-base",
    "etcd": "etcd-server",
    "kubectl": "kubectl",
    "nft": "nftables",
    "openssl": "openssl",
    "runc": "runc",
}
"""The programs that must be on the path, and the Debian package of each."""

CNI_PLUGINS: Final = Path("/usr/lib/cni")
ADDRESS: Final = "10.77.0.1"
PODS: Final = "10.77.8.0/22"
SERVICES: Final = "10.77.16.0/22"
NETWORK: Final = "10.77.0.0/16"
"""All addresses of the cluster, as `network.allow_private` names them."""

_API_SERVICE: Final = "10.77.16.1"
_SYSCTLS: Final = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "vm/panic_on_oom")
"""Settings that the kubelet changes for the whole machine."""


_SETUP: Final = f"""
mount -t tmpfs tmpfs /var/lib
mount -t tmpfs tmpfs /var/log
ip link add node0 type veth peer name node1
ip address add {ADDRESS}/24 dev node0
ip link set node0 up
ip link set node1 up
ip route add default via 10.77.0.254 dev node0
echo 1 >/proc/sys/net/ipv4/ip_forward
"""
"""The API server needs a default route, which leads nowhere. CNI, containerd and the kubelet write to /var."""

_EVICTION_SIGNALS: Final = ("memory.available", "nodefs.available", "imagefs.available", "nodefs.inodesFree")


class NodeError(Exception):
    """The node did not start, or left something behind. The message has the log of the component."""


def missing(binaries: Path) -> list[str]:
    """List what this machine lacks for a node."""
    absent = [f"{name} (Debian: {package})" for name, package in PROGRAMS.items() if shutil.which(name) is None]
    absent += [str(binaries / name) for name in ("hyper", "kube-proxy") if not os.access(binaries / name, os.X_OK)]
    absent += [] if CNI_PLUGINS.is_dir() else [f"{CNI_PLUGINS} (Debian: containernetworking-plugins)"]
    return [*absent, *namespaces.missing()]


class Node:
    """A node that runs during its context. Each step of the start registers its undo."""

    def __init__(self, binaries: Path, folder: Path, images: Sequence[Path]) -> None:
        self.name: Final = f"sidekey-{secrets.token_hex(3)}"
        self.folder: Final = folder
        self.kubeconfig: Final = folder / "admin.kubeconfig"
        self.socket: Final = folder / "containerd.sock"
        """The socket of containerd."""
        self.enter: list[str] = []
        """The prefix of a command that enters the namespaces of the node."""
        self._binaries = binaries.resolve()
        self._images = images
        self._undo = contextlib.ExitStack()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            for step in (
                self._make_folder,
                self._keep_sysctls,
                self._make_cgroups,
                self._make_namespaces,
                self._make_certificates,
                self._start_containerd,
                self._load_images,
                self._start_control_plane,
                self._start_kubelet,
                self._start_services,
            ):
                step()
            self._wait_for("a ready node", self._is_ready, 120, "kubelet")
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def run(self, *command: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """Run a command on the node to its end. Raises CalledProcessError."""
        return subprocess.run([*self.enter, *command], check=True, capture_output=True, **options)

    def logs(self, lines: int = 40) -> str:
        """Return the last lines of each component's log."""
        logs = sorted((self.folder / "log").glob("*.log"))
        return "\n".join(f"--- {path.stem}\n{_tail(path, lines)}" for path in logs)

    # --- starting

    def _make_folder(self) -> None:
        for name in ("log", "pki", "cni", "hosts.d", "images"):
            (self.folder / name).mkdir(parents=True)
        self._undo.callback(shutil.rmtree, self.folder)

    def _keep_sysctls(self) -> None:
        for name in _SYSCTLS:
            path = Path("/proc/sys", name)
            self._undo.callback(path.write_text, path.read_text())

    def _make_cgroups(self) -> None:
        """Create one cgroup for all pods in each hierarchy. Its name is unique to this node."""
        roots = [
            path for path in Path("/sys/fs/cgroup").iterdir() if path.is_dir() and (path / "cgroup.procs").exists()
        ]
        unified = Path("/sys/fs/cgroup/cgroup.procs").exists()
        for root in [Path("/sys/fs/cgroup")] if unified else roots:
            group = root / self.name
            group.mkdir()
            if root.name == "cpuset":
                for setting in ("cpuset.cpus", "cpuset.mems"):
                    (group / setting).write_text((root / setting).read_text())
            self._undo.callback(remove_cgroup, group)

    def _make_namespaces(self) -> None:
        self._undo.callback(self._wait_for_processes)
        entered = self._undo.enter_context(Namespaces(_SETUP))
        self.enter = [*entered.enter, "env", f"KUBECACHEDIR={self.folder}/kubectl"]

    def _make_certificates(self) -> None:
        authority = Authority("node-ca")
        pki = self.folder / "pki"
        (pki / "ca.crt").write_bytes(authority.certificate)
        service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
        authority.issue(
            pki / "apiserver",
            "kube-apiserver",
            names=(*service, "localhost"),
            addresses=(ADDRESS, "127.0.0.1", _API_SERVICE),
        )
        authority.issue(
            pki / "kubelet", f"system:node:{self.name}", "system:nodes", names=(self.name,), addresses=(ADDRESS,)
        )
        authority.issue(pki / "admin", "admin", "system:masters")
        for component in ("controller-manager", "scheduler", "proxy"):
            authority.issue(pki / component, f"system:kube-{component}")
        for user in ("kubelet", "admin", "controller-manager", "scheduler", "proxy"):
            config = {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [
                    {
                        "name": "node",
                        "cluster": {
                            "server": f"https://{ADDRESS}:6443",
                            "certificate-authority": str(pki / "ca.crt"),
                        },
                    }
                ],
                "users": [
                    {
                        "name": user,
                        "user": {
                            "client-certificate": str(pki / f"{user}.crt"),
                            "client-key": str(pki / f"{user}.key"),
                        },
                    }
                ],
                "contexts": [{"name": "node", "context": {"cluster": "node", "user": user}}],
                "current-context": "node",
            }
            (self.folder / f"{user}.kubeconfig").write_text(yaml.safe_dump(config))

    def _start_containerd(self) -> None:
        (self.folder / "cni" / "10-pods.conflist").write_text(
            f"""{{"cniVersion": "1.0.0", "name": "pods", "plugins": [
              {{"type": "ptp", "ipMasq": false, "mtu": 1500, "ipam": {{
                "type": "host-local", "dataDir": "{self.folder}/ipam",
                "ranges": [[{{"subnet": "{PODS}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
              {{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}"""
        )
        config = self.folder / "containerd.toml"
        cri = 'plugins."io.containerd.grpc.v1.cri"'
        # restrict_oom_score_adj: a root without CAP_SYS_RESOURCE cannot lower it, and every sandbox would die.
        config.write_text(
            f"""version = 2
root = "{self.folder}/containerd"
state = "{self.folder}/containerd-state"
oom_score = 0
[grpc]
address = "{self.socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{self.folder}/opt"
[{cri}]
sandbox_image = "localhost/pause:1"
restrict_oom_score_adj = true
[{cri}.cni]
bin_dir = "{CNI_PLUGINS}"
conf_dir = "{self.folder}/cni"
[{cri}.containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"
[{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[{cri}.containerd.runtimes.runc.options]
SystemdCgroup = false
"""
        )
        self._start("containerd", "containerd", "--config", config)
        self._wait_for("containerd", lambda: self._ctr("version"), 30, "containerd")

    def _load_images(self) -> None:
        for image in self._images:
            self._ctr("images", "import", str(image))

    def _start_control_plane(self) -> None:
        pki, hyper = self.folder / "pki", self._binaries / "hyper"
        _run("openssl", "genrsa", "-out", pki / "sa.key", "2048")
        self._start(
            "etcd",
            "etcd",
            f"--data-dir={self.folder}/etcd",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls=http://127.0.0.1:2380",
            "--initial-cluster=default=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
        )
        self._start(
            "kube-apiserver",
            hyper,
            "kube-apiserver",
            "--etcd-servers=http://127.0.0.1:2379",
            f"--advertise-address={ADDRESS}",
            f"--bind-address={ADDRESS}",
            "--secure-port=6443",
            f"--tls-cert-file={pki}/apiserver.crt",
            f"--tls-private-key-file={pki}/apiserver.key",
            f"--client-ca-file={pki}/ca.crt",
            f"--kubelet-certificate-authority={pki}/ca.crt",
            f"--kubelet-client-certificate={pki}/admin.crt",
            f"--kubelet-client-key={pki}/admin.key",
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-cluster-ip-range={SERVICES}",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            "--enable-admission-plugins=NodeRestriction",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={pki}/sa.key",
            f"--service-account-key-file={pki}/sa.key",
        )
        self._wait_for("the API server", lambda: self._kubectl("get", "--raw", "/readyz"), 120, "kube-apiserver")
        self._kubectl(
            "create",
            "clusterrolebinding",
            "kube-proxy",
            "--clusterrole=system:node-proxier",
            "--user=system:kube-proxy",
        )
        self._start(
            "kube-controller-manager",
            hyper,
            "kube-controller-manager",
            f"--kubeconfig={self.folder}/controller-manager.kubeconfig",
            f"--authentication-kubeconfig={self.folder}/controller-manager.kubeconfig",
            f"--authorization-kubeconfig={self.folder}/controller-manager.kubeconfig",
            f"--service-account-private-key-file={pki}/sa.key",
            f"--root-ca-file={pki}/ca.crt",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--cluster-cidr={PODS}",
            "--allocate-node-cidrs=false",
        )
        self._start(
            "kube-scheduler",
            hyper,
            "kube-scheduler",
            f"--kubeconfig={self.folder}/scheduler.kubeconfig",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
        )

    def _start_kubelet(self) -> None:
        folder = self.folder
        (folder / "resolv.conf").write_text(f"nameserver {ADDRESS}\n")
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.name}",
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "address": ADDRESS,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{folder}/pki/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": f"{folder}/pki/kubelet.crt",
            "tlsPrivateKeyFile": f"{folder}/pki/kubelet.key",
            "clusterDomain": "cluster.local",
            "clusterDNS": [ADDRESS],
            "resolvConf": f"{folder}/resolv.conf",
            "failSwapOn": False,
            # A full disk of the machine must not evict pods.
            "evictionHard": dict.fromkeys(_EVICTION_SIGNALS, "0%"),
            "imageGCHighThresholdPercent": 100,
            "imageMinimumGCAge": "100h",
            "maxPods": 60,
            "makeIPTablesUtilChains": False,
            "volumePluginDir": f"{folder}/volumeplugins",
            "podLogsDir": f"{folder}/podlogs",
            "seccompDefault": True,
            # The time until pods have a changed Secret or ConfigMap. The default is 60 s.
            "syncFrequency": "5s",
        }
        (folder / "kubelet.yaml").write_text(yaml.safe_dump(config))
        self._start(
            "kubelet",
            self._binaries / "hyper",
            "kubelet",
            f"--config={folder}/kubelet.yaml",
            f"--kubeconfig={folder}/kubelet.kubeconfig",
            f"--hostname-override={self.name}",
            f"--node-ip={ADDRESS}",
            f"--root-dir={folder}/kubelet",
            "--v=1",
        )

    def _start_services(self) -> None:
        """Start kube-proxy and dnsmasq, which make Services reachable by address and by name."""
        self._start(
            "kube-proxy",
            self._binaries / "kube-proxy",
            f"--kubeconfig={self.folder}/proxy.kubeconfig",
            "--proxy-mode=nftables",
            # The following settings are machine-wide. A root without CAP_SYS_RESOURCE cannot change them.
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0s",
            "--conntrack-tcp-timeout-close-wait=0s",
            f"--hostname-override={self.name}",
            f"--cluster-cidr={PODS}",
            f"--bind-address={ADDRESS}",
        )
        names = self.folder / "hosts.d"
        self._start(
            "dnsmasq",
            "dnsmasq",
            "--keep-in-foreground",
            "--no-resolv",
            "--no-hosts",
            f"--hostsdir={names}",
            f"--listen-address={ADDRESS}",
            "--bind-interfaces",
            "--local=/#/",
            "--user=root",
            "--group=root",
            "--pid-file=",
            "--log-facility=-",
        )
        columns = "ip:.spec.clusterIP,name:.metadata.name,namespace:.metadata.namespace"
        watch = self._start(
            "services",
            "kubectl",
            f"--kubeconfig={self.kubeconfig}",
            "get",
            "services",
            "--all-namespaces",
            "--watch",
            "--no-headers",
            f"--output=custom-columns={columns}",
            stdout=subprocess.PIPE,
        )
        assert watch.stdout is not None
        threading.Thread(target=_write_names, args=(watch.stdout, names), daemon=True).start()

    # --- the parts

    def _start(self, name: str, *command: str | Path, stdout: int | None = None) -> subprocess.Popen[bytes]:
        """Start a component, with its log in a file."""
        with (self.folder / "log" / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [*self.enter, *command],
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=log,
                start_new_session=True,
            )
        self._processes[name] = process
        return process

    def _wait_for_processes(self) -> None:
        """Reap the components, which end with the namespaces."""
        for process in self._processes.values():
            process.wait()

    def _wait_for(self, what: str, is_there: Callable[[], object], seconds: float, component: str) -> None:
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(subprocess.CalledProcessError):
                if is_there() is not False:
                    return
            ended = self._processes[component].poll()
            if ended is not None or time.monotonic() > end:
                why = f"{component} ended with {ended}" if ended is not None else f"it took over {seconds:.0f} s"
                raise NodeError(f"{what}: {why}\n{_tail(self.folder / 'log' / f'{component}.log', 30)}")
            time.sleep(0.25)

    def _is_ready(self) -> bool:
        path = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
        return self._kubectl("get", "node", self.name, "--output", path).stdout == b"True"

    def _kubectl(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return self.run("kubectl", f"--kubeconfig={self.kubeconfig}", *arguments)

    def _ctr(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return self.run("ctr", f"--address={self.socket}", "--namespace=k8s.io", *arguments)


def _run(*command: str | Path) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise NodeError(f"{' '.join(map(str, command))}: {result.returncode}\n{result.stderr}")


def _tail(path: Path, lines: int) -> str:
    return "\n".join(path.read_text("utf-8", "replace").splitlines()[-lines:])


def _write_names(lines: IO[bytes], folder: Path) -> None:
    """Write a file with the name of each Service for dnsmasq. Files of deleted Services stay."""
    with lines:
        for line in lines:
            address, name, namespace = line.decode().split()
            if address[0].isdigit():
                (folder / f"{name}.{namespace}").write_text(f"{address} {name}.{namespace}.svc.cluster.local\n")
