"""What the inputs of a task should give: run once from the canonical solution, kept in the user's cache folder.

One file holds one suite of one task. Its name is a hash of all that matters (task, canonical solution, codec,
Python, this format), so a file is right or absent; one that is damaged counts as absent.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from evoprompt.atomic import write_bytes
from evoprompt.errors import DataError, SandboxError
from evoprompt.harness import codec, compare, oracles
from evoprompt.harness.process import Limits, Reply
from evoprompt.harness.sandbox import Sandbox
from evoprompt.harness.suite import Job, Run, Unloadable
from evoprompt.tasks import Suite, Task

Kind = Literal["value", "packed", "digest", "unjudged"]

FORMAT: Final = b"evoprompt expected outputs 2\n"
MAX_KEPT: Final = 64 << 10
"""Size up to which an output is kept, as it is or else compressed; a larger one by digests where those suffice."""
LIMITS: Final = Limits(cpu_seconds=120.0, memory_mb=4096, total_cpu_seconds=600.0)
"""For canonical solutions. The size of an answer is limited as for a candidate: what does not fit is not judged."""

_UNBOUNDED = 1 << 62
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Expected:
    """What one input should give.

    Attributes:
        kind: `value`: the output. `packed`: its SHA-256 and the output, compressed. `digest`: its SHA-256 and the
            digest of what is equal to it.
            `unjudged`: it is larger than an answer or the memory may be, or no plain data; the input is left out.
        data: What the kind says; outputs are encoded.
        seconds: CPU time that the canonical solution took.
    """

    kind: Kind
    data: bytes
    seconds: float

    def matches(self, payload: bytes, arguments: bytes, oracle: str, atol: float, max_bytes: int) -> bool:
        """Whether an encoded answer to the encoded arguments is right.

        Raises:
            codec.CodecError: The answer is malformed.
        """
        # The same bytes are the same value.
        if payload == self.data if self.kind == "value" else hashlib.sha256(payload).digest() == self.data[:32]:
            return True
        observed = codec.decode(payload, max_bytes=max_bytes)
        if self.kind == "digest":
            return self.data[32:] == _digest(observed)
        given = unbounded(arguments)
        return oracles.agrees(observed, self.value, list(given), oracle, atol)  # type: ignore[call-overload]

    @property
    def value(self) -> object:
        """The output, decoded, where the kind has it."""
        return unbounded(self.data if self.kind == "value" else zlib.decompress(self.data[32:]))


def unbounded(data: bytes) -> object:
    """Decodes trusted bytes of any size."""
    return codec.decode(data, max_bytes=_UNBOUNDED, max_nodes=_UNBOUNDED, max_depth=_UNBOUNDED)


def load_or_run(task: Task, suite: Suite, paths: tuple[str, ...], sandbox: Sandbox) -> tuple[Expected, ...]:
    """What every input of a suite should give, from the cache or from the canonical solution.

    Args:
        task: A task with inputs.
        suite: Which of them.
        paths: Directories at the end of the module search path of the canonical solution.
        sandbox: Runs it.

    Raises:
        SandboxError: No process could be started.
        DataError: The canonical solution fails.
    """
    path = cache_folder() / "expected" / f"{_name(task, suite)}.bin"
    inputs = task.inputs(suite)
    known = _read(path)
    if known is not None and len(known) == len(inputs):
        return known
    found = tuple(_run(task, suite, paths, sandbox))
    _write(path, found)
    return found


def cache_folder() -> Path:
    """The folder of evoprompt in the user's cache folder."""
    given = os.environ.get("XDG_CACHE_HOME")
    if given and Path(given).is_absolute():
        return Path(given) / "evoprompt"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "evoprompt"


def _run(task: Task, suite: Suite, paths: tuple[str, ...], sandbox: Sandbox) -> Iterable[Expected]:
    """Asks for one output at a time: in between the process stands still, so the CPU time read is that input's."""
    job = Job(task.code, task.entry_point, task.setup, (), task.atol, paths)
    run = Run(job, (), LIMITS, sandbox)
    try:
        with run.candidate() as process:
            for index, arguments in enumerate(task.inputs(suite)):
                before = process.cpu_seconds
                reply = process.ask("apply", task.entry_point, (arguments,))
                seconds = process.cpu_seconds - before
                yield _expected(task, reply, seconds, f"{suite} input {index}", run)
    except Unloadable as e:
        raise DataError(f"the canonical solution can't be loaded: it {e.finding.observed}") from e


def _expected(task: Task, reply: Reply, seconds: float, where: str, run: Run) -> Expected:
    if task.oracle == oracles.NOT_NONE and reply.kind in ("value", "refused"):
        return Expected("value", codec.encode(reply.payload != codec.encode(None)), seconds)
    if reply.kind == "refused":
        return Expected("unjudged", b"", seconds)
    if reply.kind == "crashed":
        raise SandboxError(f"the canonical solution of {task.task_id} {reply.detail} on {where}")
    if reply.kind != "value":
        found = run.unanswered(reply)
        if found.exception == "MemoryError":
            return Expected("unjudged", b"", seconds)
        raise DataError(f"the canonical solution fails on {where}: it {found.observed}")
    if len(reply.payload) <= MAX_KEPT:
        return Expected("value", reply.payload, seconds)
    exact = hashlib.sha256(reply.payload).digest()
    packed = zlib.compress(reply.payload, 1)
    if len(packed) > MAX_KEPT and not task.oracle and not task.atol:
        value = codec.decode(reply.payload)
        digest = b"" if compare.is_floats(value) else _digest(value)
        if digest:
            return Expected("digest", exact + digest, seconds)
    return Expected("packed", exact + packed, seconds)


def _digest(value: object) -> bytes:
    """Equal for equal values; empty for one that equals nothing."""
    try:
        return hashlib.sha256(compare.canonical(value)).digest()
    except ValueError:
        return b""


def _name(task: Task, suite: Suite) -> str:
    parts = (FORMAT, Path(codec.__file__).read_bytes(), sys.version.encode(), task.key.encode(), suite.encode())
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()[:32]


def _read(path: Path) -> tuple[Expected, ...] | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, body = content[:32], content[32:]
    if hashlib.sha256(body).digest() != digest:
        return None
    rows = unbounded(zlib.decompress(body))
    return tuple(Expected(*row) for row in rows)  # type: ignore[attr-defined]


def _write(path: Path, found: tuple[Expected, ...]) -> None:
    rows = tuple((e.kind, e.data, e.seconds) for e in found)
    body = zlib.compress(codec.encode(rows, max_bytes=_UNBOUNDED, max_nodes=_UNBOUNDED), 6)
    try:
        write_bytes(path, hashlib.sha256(body).digest() + body)
    except OSError as e:
        _log.warning("expected outputs can't be kept in %s (%s): they are computed anew each time", path.parent, e)
