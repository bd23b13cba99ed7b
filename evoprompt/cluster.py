"""A Dask cluster as an executor of judging jobs. The only module that imports Dask.

Dask decides who judges what. Beside it stands a watch, once a second: nothing is waited for of a worker that is gone,
silent or unfit, and a scheduler that was restarted is found again. What is paid for is never a Dask task, which Dask
may repeat: calls of models are made by this process, or by a worker of its choice, and this process keeps the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError, Executor, Future, wait
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import resource_tracker
from typing import Any, Final, TypeAlias

import dask
from distributed import Client, LocalCluster, Security, rpc

from evoprompt.errors import ClusterError, UsageError
from evoprompt.harness.remote import HELLO, Served, Setup, described, forget, serve
from evoprompt.pool import begun
from evoprompt.wording import counted, pip_install

logger = logging.getLogger("evoprompt")

_CONNECT_SECONDS: Final = 10.0
"""A scheduler has so long to answer."""
_WORKER_SECONDS: Final = 60.0
"""So long no worker may be there, at the start and in the middle. The jobs of a queue may take any time to start."""
_LOOK_SECONDS: Final = 1.0
"""Seconds between two looks at the workers."""
_SAID_SECONDS: Final = 15.0
"""So long after the first word about waiting the second is said, then after twice the time, and so on."""
_SBATCH_SECONDS: Final = 60.0
"""Slurm has so long to say whether it takes a job."""
_SILENT_SECONDS: Final = 5.0
"""A worker that was not heard of for so long gets no work, and what it may have is done elsewhere."""
_NAMED: Final = 32
"""Most workers that a job may choose from where some are unfit: their names travel with it."""
_SHUNNED_SECONDS: Final = 10.0
"""A node whose model does not answer, or a worker that was lost, is asked last for so long: it would draw all calls."""
_CONFIG: Final = {
    "distributed.comm.timeouts.tcp": "12s",  # a connection that was cut is noticed; Dask takes no fewer than 11
    "distributed.scheduler.allowed-failures": 0,  # who sent a job sends it again, not a scheduler in this process
    "distributed.scheduler.worker-ttl": "30s",  # a call that is paid for waits so long for a worker that is overloaded
}


@dataclass(eq=False)
class _Job:
    """A call that is under way. `workers` are those that may take it; none stands for all. `host` asks a model."""

    future: Future[Any]
    workers: list[str]
    since: float
    host: str = ""


_Begun: TypeAlias = tuple[Coroutine[Any, Any, Any], list[str], str]
"""A call that is begun when it is awaited, the workers that may take it, and the host whose model it asks."""


class Cluster(Executor):
    """A Dask cluster: `local:8` starts workers here, `tcp://host:8786` is there already, `slurm:20` is asked for.

    Give it as `executor`; close it, or use it in a `with` statement.

    Args:
        where: Which cluster.
        say: Is told in a line what is waited for.
        lm_on_workers: The workers ask the models as well: for models that are served on their nodes. The journal,
            the budget and all keys stay in this process; a worker uses the keys of its own environment.

    Raises:
        UsageError: There is no such kind of cluster.
        ClusterError: The scheduler does not answer.
    """

    def __init__(
        self, where: str, say: Callable[[str], None] = logger.info, *, lm_on_workers: bool = False
    ) -> None:  # fmt: skip
        self._where, self._say, self.lm_on_workers = where, say, lm_on_workers
        self._setup: Setup | None = None
        self._lost = ""
        self._closing, self._usable, self._lock = threading.Event(), threading.Event(), threading.Lock()
        self._jobs: set[_Job] = set()
        self._shunned: dict[str, float] = {}
        self._heard: dict[str, tuple[float, float]] = {}
        self._tiers: dict[str, str] = {}
        self._unfit: dict[str, str] = {}
        self._greeted: dict[str, Future[Served]] = {}
        self._good: dict[str, dict[str, Any]] = {}
        self._all_good = True
        with contextlib.ExitStack() as stack:
            stack.enter_context(dask.config.set(_CONFIG))
            self._address = _started(where, stack)
            self._client = self._connected()
            self._opened = stack.pop_all()

    @property
    def at_once(self) -> int:
        """Threads of the workers that may judge: so many calls it runs at once."""
        return sum(told["nthreads"] for told in self._good.values()) or 1

    def __str__(self) -> str:
        """One line for people: nodes, threads and sandboxes."""
        return f"{self._where}: {self.size}, sandbox {', '.join(sorted({self._tiers[w] for w in self._good}))}"

    @property
    def size(self) -> str:
        """`2 nodes, 8 threads`: those that may judge now."""
        nodes = {told["host"] for told in self._good.values()}
        return f"{counted(len(nodes), 'node')}, {counted(self.at_once, 'thread')}"

    @property
    def link(self) -> str:
        """Address of Dask's dashboard; empty where there is none."""
        there = "dashboard" in self._client.scheduler_info(n_workers=0)["services"]
        return str(self._client.dashboard_link) if there and find_spec("bokeh") else ""

    def begin(self, setup: Setup) -> str:
        """Have every worker test itself; return the tiers of those that may judge.

        Raises:
            ClusterError: None may, or none is there.
        """
        first, self._setup = self._setup is None, setup
        self._tiers, self._unfit, self._greeted = {}, {}, {}
        began, told = time.monotonic(), 0.0
        until = began + (float("inf") if self._where.startswith("slurm") else _WORKER_SECONDS)
        while not self._look():
            if self._unfit and not self._greeted:
                raise ClusterError(f"no worker of {self._where} can judge: {next(iter(self._unfit.values()))}")
            if time.monotonic() > until:
                if self._greeted:
                    raise ClusterError(
                        f"worker {next(iter(self._greeted))} does not end its test of itself: see its log"
                    )
                raise ClusterError(f"{self._where} has no worker: start some with `dask worker {self._address}`")
            if (waited := time.monotonic() - began) >= told:
                self._say(f"waiting for a worker of {self._where}" + (f", {waited:.0f} s so far" if told else ""))
                told = max(_SAID_SECONDS, 2 * told)  # a queue may take hours
            time.sleep(_LOOK_SECONDS)
        if first:
            threading.Thread(target=self._watch, name="evoprompt-cluster", daemon=True).start()
        return ", ".join(sorted({self._tiers[w] for w in self._good}))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See `Executor.submit`. Waits while no worker is there.

        Raises:
            ClusterError: None has come back, or the cluster is closed.
        """

        def begin(client: Client, good: Mapping[str, Mapping[str, Any]]) -> _Begun:
            workers = [] if self._all_good else random.sample(list(good), min(_NAMED, len(good)))
            future = client.submit(fn, *args, **kwargs, pure=False, workers=workers or None)
            return client.gather(future, asynchronous=True), workers, ""

        return self._begin(begin)

    def ask(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Call a function that waits for a model, on the node with fewest such calls, beside the threads that judge.

        Raises:
            ClusterError: See `submit`.
        """

        def begin(client: Client, good: Mapping[str, Mapping[str, Any]]) -> _Begun:
            now, waiting = time.monotonic(), Counter(job.host for job in list(self._jobs))
            shunned = {place for place, until in list(self._shunned.items()) if until > now}
            host, worker = min(
                ((told["host"], worker) for worker, told in good.items()),
                key=lambda at: (not shunned.isdisjoint(at), waiting[at[0]], random.random()),
            )
            return _asked(client, worker, fn, args), [worker], host

        return self._begin(begin)

    def _begin(self, begin: Callable[[Client, Mapping[str, Mapping[str, Any]]], _Begun]) -> Future[Any]:
        """Begin a call as soon as some worker is there."""
        while not self._lost:
            if self._usable.wait(_LOOK_SECONDS):
                with self._lock:
                    client, good = self._client, self._good
                try:
                    asked, workers, host = begin(client, good)
                except Exception:
                    if client.status == "running":
                        raise
                    self._usable.clear()  # until the watch has found the scheduler again
                    continue
                future = asyncio.run_coroutine_threadsafe(asked, client.loop.asyncio_loop)
                job = _Job(future, workers, time.monotonic(), host)
                self._jobs.add(job)
                future.add_done_callback(lambda _, job=job: self._end(job))  # type: ignore[misc]
                return future
        raise ClusterError(self._lost)

    def _end(self, job: _Job) -> None:
        self._jobs.discard(job)
        lost = job.future.cancelled() or job.future.exception() is not None
        if job.host and (lost or job.future.result()[0] == "unreached"):
            self._shunned[job.workers[0] if lost else job.host] = time.monotonic() + _SHUNNED_SECONDS

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the harnesses on the workers, and what was started here."""
        if not self._closing.is_set():
            self._closing.set()
            self._lost = self._lost or f"{self._where} is closed"
            with contextlib.suppress(Exception):
                self._client.run(forget, workers=list(self._good), on_error="ignore")
            self._client.close(timeout=_LOOK_SECONDS)
            with contextlib.suppress(Exception):  # Dask's own troubles at the end change no result
                self._opened.close()

    def _connected(self) -> Any:
        try:
            begun(asyncio.run, _reached(self._address)).result()
            return Client(self._address, timeout=_CONNECT_SECONDS, set_as_default=False)
        except ClusterError:
            raise
        except Exception as e:
            first: BaseException = e
            while first.__cause__ is not None:  # Dask's own words stand around the system's
                first = first.__cause__
            why = described(first) if isinstance(e, OSError | ValueError) else "what answers there is none"
            raise ClusterError(
                f"no scheduler answers at {self._address} within {_CONNECT_SECONDS:.0f} s"
                f"{'' if isinstance(e, TimeoutError) else f' ({why})'}: start one there with `dask scheduler`"
            ) from e

    def _watch(self) -> None:
        usable = time.monotonic()
        while not self._closing.wait(_LOOK_SECONDS):
            try:
                if self._look():
                    usable = time.monotonic()
            except (Exception, asyncio.CancelledError) as e:
                self._usable.clear()
                logger.debug("looking at %s: %s", self._where, described(e))
            if time.monotonic() - usable > _WORKER_SECONDS:
                self._lost = f"{self._where} has had no worker for {_WORKER_SECONDS:.0f} s"
                for job in list(self._jobs):
                    job.future.cancel()
                return

    def _look(self) -> bool:
        """Look who is there. True if anyone may judge."""
        if self._client.status == "closed":
            self._client, self._greeted = self._connected(), {}
        workers = dict(self._client.scheduler_info(n_workers=-1)["workers"])
        now = time.monotonic()
        for worker, told in workers.items():
            if self._heard.get(worker, (0.0, 0.0))[0] != told["last_seen"]:
                self._heard[worker] = told["last_seen"], now
        longest = max(_SILENT_SECONDS, len(workers) / 50)  # in large clusters Dask has them speak more rarely
        silent = {w for w in workers if now - self._heard[w][1] > longest}
        known = self._tiers.keys() | self._unfit.keys() | self._greeted.keys() | silent
        new: dict[str, Future[Served]] = {
            worker: asyncio.run_coroutine_threadsafe(
                _asked(self._client, worker, serve, (self._setup, [HELLO])), self._client.loop.asyncio_loop
            )
            for worker in workers if worker not in known
        }  # fmt: skip
        self._greeted.update(new)
        wait(new.values(), _SILENT_SECONDS)  # who takes longer may judge later
        for worker, greeting in list(self._greeted.items()):
            if greeting.done():
                self._greeted.pop(worker, None)
                self._meet(worker, greeting)
        with self._lock:
            self._good = {w: told for w, told in workers.items() if w in self._tiers and w not in silent}
            self._all_good = len(self._good) == len(workers)
            # A call that is paid for is given up with its worker; what is only judged, as soon as it may be lost.
            lost = [
                job for job in list(self._jobs)
                if (
                    (workers if job.host else self._good).keys().isdisjoint(job.workers) if job.workers
                    else silent and now - job.since > longest
                )
            ]  # fmt: skip
        (self._usable.set if self._good else self._usable.clear)()
        for job in lost:  # who sent them sends them again
            job.future.cancel()
        return bool(self._good)

    def _meet(self, worker: str, greeting: Future[Served]) -> None:
        """Take in how a new worker's test of itself ended."""
        try:
            ((kind, words),), *_ = greeting.result()
        except (OSError, CancelledError) as e:  # it has gone; if it has not, it is asked again
            logger.debug("greeting worker %s: %s", worker, described(e))
            return
        except Exception as e:
            missing = re.search(r"No module named '([^']+)'", str(e))  # Dask may send no more of it than its text
            kind, words = "", f"can't run evoprompt: {described(e)}"
            if missing:
                words = f"has no package {missing[1]!r}: run `pip install '.[dask]'` there, in evoprompt's checkout"
        if kind == "done":
            self._tiers[worker] = words
        else:
            self._unfit[worker] = f"worker {worker}: {words}"
            logger.warning("%s; it gets no work", self._unfit[worker])


async def _reached(address: str) -> None:
    """Ask a scheduler who it is. Dask's client has no deadline for what takes a connection and then says nothing."""
    security = Security().get_connection_args("client")
    if address.startswith("tls") and security["ssl_context"] is None:
        raise ClusterError(
            f"{address} needs certificates: set distributed.comm.tls.ca-file, client.cert and client.key in "
            "~/.config/dask/, see https://distributed.dask.org/en/stable/tls.html"
        )
    async with asyncio.timeout(_CONNECT_SECONDS + _LOOK_SECONDS):  # longer, so that Dask can say why
        async with rpc(address, timeout=_CONNECT_SECONDS, connection_args=security) as there:
            await there.identity(n_workers=0)


async def _asked(client: Client, worker: str, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    return (await client.run(_beside, fn, args, workers=[worker]))[worker]


async def _beside(fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Call a function on this worker, in a thread of its own."""
    return await asyncio.wrap_future(begun(fn, *args))


def _local(workers: int) -> LocalCluster:
    """Start workers here. Ctrl-C in a terminal is sent to them as well, but meant for this process alone."""
    resource_tracker.ensure_running()  # its start unblocks signals
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # in this thread, and in all that it starts
    return LocalCluster(  # what matters of its troubles comes to us as errors
        n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
    )  # fmt: skip


def _started(where: str, stack: contextlib.ExitStack) -> str:
    """The address of a scheduler, which is started where none is named."""
    kind, _, rest = where.partition(":")
    if kind in ("tcp", "tls") and rest.startswith("//"):
        return where
    if kind not in ("local", "slurm") or not (rest or "1").isdecimal() or not int(rest or "1"):
        raise UsageError(
            f"the cluster must be local:WORKERS, tcp://HOST:PORT, tls://HOST:PORT or slurm:JOBS, not {where!r}"
        )
    cluster: Any
    if kind == "local":
        starting = begun(_local, int(rest or 1))
        stack.callback(lambda: starting.result().close())  # after Ctrl-C too: half-started processes would complain
        return str(starting.result().scheduler_address)
    if find_spec("dask_jobqueue") is None:
        raise UsageError(f"the cluster 'slurm' needs dask-jobqueue: {pip_install('dask')}")
    ctrl_c = signal.getsignal(signal.SIGINT)
    from dask_jobqueue.slurm import SLURMCluster

    signal.signal(signal.SIGINT, ctrl_c)  # the import has set its own

    directives = list(dask.config.get("jobqueue.slurm.job-extra-directives", None) or [])
    if not any(d.startswith("--export") for d in directives):  # else sbatch sends the environment along, keys too
        directives.append("--export=NONE")
    try:
        cluster = stack.enter_context(SLURMCluster(job_extra_directives=directives))
    except (ValueError, TypeError) as e:
        raise UsageError(f"{where!r} needs a configuration ({described(e)}): see docs/how_to/clusters.md") from e
    try:  # else Dask waits for jobs that there never will be
        tried = subprocess.run(
            ["sbatch", "--test-only"], input=cluster.job_script(), text=True, capture_output=True,
            timeout=_SBATCH_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as e:
        raise ClusterError(f"{where!r} needs Slurm's sbatch ({described(e)}): run it where jobs are submitted") from e
    if tried.returncode:
        said = (tried.stderr.strip() or "no reason given").splitlines()[0]
        raise ClusterError(f"Slurm does not take the jobs of {where!r} ({said}): see ~/.config/dask/jobqueue.yaml")
    cluster.scale(jobs=int(rest or 1))
    return str(cluster.scheduler_address)
