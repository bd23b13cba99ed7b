"""A scheduler and nodes for `scale.py`: they can be killed, cut off and slowed down."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
BRIDGE, NETWORK = "evoscale", "10.77.0"


def command(*words: str) -> bool:
    """Run a command; True if it worked."""
    return subprocess.run(words, capture_output=True).returncode == 0


def free_port() -> int:
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        return int(there.getsockname()[1])


class Node:
    """A machine with a worker that is started again whenever it ends, as systemd would."""

    def __init__(self, lab: Lab, number: int, workers: int, threads: int) -> None:
        self.lab, self.name = lab, f"{BRIDGE}{number}"
        host = f"{NETWORK}.{number + 1}" if lab.namespaces else f"127.0.0.{number + 1}"
        self._prefix: list[str] = []
        if lab.namespaces:
            self._prefix = ["ip", "netns", "exec", self.name]
            for words in (
                f"ip netns add {self.name}", f"ip link add {self.name} type veth peer name eth0 netns {self.name}",
                f"ip link set {self.name} master {BRIDGE} up", f"ip -n {self.name} addr add {host}/24 dev eth0",
                f"ip -n {self.name} link set eth0 up", f"ip -n {self.name} link set lo up",
            ):  # fmt: skip
                assert command(*words.split()), words
        self._words = (
            f"{sys.executable} -m distributed.cli.dask_worker {lab.address} --host {host} --nworkers {workers} "
            f"--nthreads {threads} --no-dashboard --death-timeout 20"
        )
        self._program: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = [*self._prefix, "sh", "-c", f"while :; do {self._words}; sleep 0.5; done"]
        self._program = subprocess.Popen(
            words,
            env=ENVIRONMENT,
            start_new_session=True,
            cwd="/tmp",
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def signal(self, number: int) -> None:
        """To all processes of the node."""
        if self._program is not None:
            _signal([self._program.pid, *_below(self._program.pid)], number)

    def kill(self) -> None:
        """A power cut, as it looks to others."""
        if self._program is not None:
            while found := _of_session(self._program.pid):  # again: some may have been starting others
                _signal(found, signal.SIGKILL)
                time.sleep(0.05)
            self._program.wait()

    def cut(self, seconds: float, until: threading.Event) -> None:
        """Nothing reaches it for so long, or until then. Where there is no link, its processes stand still."""
        if self.lab.namespaces:
            assert command("ip", "link", "set", self.name, "down")
            until.wait(seconds)
            assert command("ip", "link", "set", self.name, "up")
        else:
            self.signal(signal.SIGSTOP)
            until.wait(seconds)
            self.signal(signal.SIGCONT)

    def slow(self, until: threading.Event, share: float = 0.1) -> None:
        """Its processes run for this share of the time only."""
        while not until.is_set():
            self.signal(signal.SIGSTOP)
            time.sleep(0.1 * (1 - share))
            self.signal(signal.SIGCONT)
            time.sleep(0.1 * share)

    def bytes(self) -> int:
        """Bytes over its link in both directions, headers and heartbeats counted."""
        folder = Path("/sys/class/net") / self.name / "statistics"
        return sum(int((folder / f"{way}_bytes").read_text()) for way in ("rx", "tx"))


class Lab:
    """A scheduler and some nodes; use it in a `with` statement. Nothing is left of them after it, however it ends.

    Attributes:
        namespaces: Whether each node has a network of its own; else it has an address of 127.0.0.0/8.
    """

    def __init__(self, nodes: int, *, workers: int = 1, threads: int = 2, namespaces: bool = True) -> None:
        self._sizes, self.namespaces = (nodes, workers, threads), namespaces
        self.nodes: list[Node] = []
        self.scheduler: subprocess.Popen[bytes] | None = None

    def _build(self) -> None:
        nodes, workers, threads = self._sizes
        _clear()  # what a lab that was killed has left
        self.namespaces = self.namespaces and command("ip", "link", "add", BRIDGE, "type", "bridge")
        if self.namespaces:
            command("ip", "link", "set", BRIDGE, "up")
            command("ip", "addr", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
        self.host = f"{NETWORK}.1" if self.namespaces else "127.0.0.1"
        self.port = free_port()
        self.address = f"tcp://{self.host}:{self.port}"
        self.start_scheduler()
        for number in range(nodes):
            self.nodes.append(Node(self, number + 1, workers, threads))
            self.nodes[-1].start()

    def start_scheduler(self) -> None:
        words = ["--host", self.host, "--port", str(self.port), "--no-dashboard"]
        self.scheduler = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_scheduler", *words],
            env=ENVIRONMENT, cwd="/tmp", stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the benchmark, which ends it when nobody waits for it
        )  # fmt: skip

    def stop_scheduler(self) -> None:
        if self.scheduler is not None:
            self.scheduler.kill()
            self.scheduler.wait()

    def __enter__(self) -> Lab:
        try:
            self._build()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self.nodes:
            node.kill()
        self.stop_scheduler()
        _clear()


def _clear() -> None:
    """Remove links and namespaces. A namespace goes when its last process has."""
    named = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout.split()
    for name in (name for name in named if name.startswith(BRIDGE)):
        for pid in subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split():
            _signal([int(pid)], signal.SIGKILL)
        command("ip", "link", "del", name)
        command("ip", "netns", "del", name)
    command("ip", "link", "del", BRIDGE)


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _of_session(session: int) -> list[int]:
    """The processes of a session that live, and those that they have started in others."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found += [int(folder.name), *_below(int(folder.name))]
    return found


def _below(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    found = []
    with contextlib.suppress(OSError):
        for thread in (Path("/proc") / str(pid) / "task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                found += [child, *_below(child)]
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used."""
    fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int | str = "self") -> float:
    fields = (Path("/proc") / str(pid) / "statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
