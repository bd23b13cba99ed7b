"""Expected outputs of a task's inputs: computed once by the canonical solution, kept in the user's cache folder.

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
from evoprompt.harness.inside import codec, digest, encoding, kinds, names
from evoprompt.harness.judging import compare, oracles
from evoprompt.harness.judging.solution import Job, SolutionRun, Unloadable, printable
from evoprompt.harness.sandbox.pool import Sandbox
from evoprompt.harness.sandbox.process import Limits, Reply
from evoprompt.tasks import Suite, Task

Kind = Literal["value", "packed", "digest"]

FORMAT: Final = b"evoprompt expected outputs 3\n"
MAX_KEPT: Final = 64 << 10
"""Size up to which an output is kept as it is; a larger one is compressed."""
LIMITS: Final = Limits(
    cpu_seconds=120.0, memory_mb=4096, output_mb=1024, packing_seconds=300.0, total_cpu_seconds=600.0
)
"""For canonical solutions."""

_COST_PER_BYTE = 16
_SHOWN_BYTES = 1 << 20
_CODE = (codec, encoding, kinds, names, digest)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Expected:
    """The expected output of one input.

    Attributes:
        kind: `value`: the output. `packed`: its SHA-256 and the output, compressed. `digest`: the digest of whatever
            is equal to it, see `harness.digest`.
        data: What the kind says; outputs are encoded.
        seconds: CPU time that the canonical solution took.
        packing: CPU time that encoding its output took, where that was long.
        size: Bytes of the encoded output; 0 where its digest is kept.
    """

    kind: Kind
    data: bytes
    seconds: float
    packing: float = 0.0
    size: int = 0

    def form(self, oracle: str) -> bytes:
        """The form of answer that can be compared with this one."""
        if self.kind == "digest":
            return codec.AS_DIGEST
        return codec.AS_LIST if oracle == oracles.SET_EQUALITY else codec.AS_VALUE

    def matches(self, payload: bytes, arguments: bytes, oracle: str, atol: float) -> bool:
        """True if an answer in the right form to the encoded arguments is right.

        Raises:
            codec.CodecError: The answer is malformed, or takes far more than a right one could.
        """
        if self.kind == "digest":
            return payload[: digest.SIZE] == self.data
        # The same bytes are the same value.
        if payload == self.data if self.kind == "value" else hashlib.sha256(payload).digest() == self.data[:32]:
            return True
        wanted = self.encoded
        if not oracle and payload[:6] == wanted[:6] and payload[:2] in (b"Ld", b"Pd"):
            return compare.close_floats(payload, wanted, 6, atol or compare.EVALPLUS_ATOL)
        most = codec.MAX_COST + _COST_PER_BYTE * len(wanted)
        observed = codec.decode(payload, max_bytes=len(payload), max_cost=most)
        given = unbounded(arguments)
        return oracles.agrees(observed, unbounded(wanted), list(given), oracle, atol)  # type: ignore[call-overload]

    @property
    def encoded(self) -> bytes:
        """The output, encoded, where the kind has it."""
        return self.data if self.kind == "value" else zlib.decompress(self.data[32:])

    @property
    def value(self) -> object:
        """The output, decoded, where the kind has it."""
        return unbounded(self.encoded)


def unbounded(data: bytes) -> object:
    """Decodes trusted bytes of any size."""
    most = codec.UNBOUNDED
    return codec.decode(data, max_bytes=most, max_cost=most, max_depth=most)


def shown(reply: Reply) -> str:
    """An answer as text: of a large one only a few words.

    Raises:
        codec.CodecError: The answer is malformed.
    """
    if reply.kind == "digest":
        return printable(reply.payload[digest.SIZE :].decode("utf-8", "replace"))
    if len(reply.payload) > _SHOWN_BYTES:
        return f"a value of {len(reply.payload) / 1e6:.1f} MB"
    return compare.show(codec.decode(reply.payload))


def load_or_run(task: Task, suite: Suite, sandbox: Sandbox) -> tuple[Expected, ...]:
    """Expected outputs of every input of a suite, from the cache or from the canonical solution.

    Args:
        task: A task with inputs.
        suite: Which of them.
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
    found = tuple(_run(task, suite, sandbox))
    _write(path, found)
    return found


def cache_folder() -> Path:
    """The folder of evoprompt in the user's cache folder."""
    given = os.environ.get("XDG_CACHE_HOME")
    if given and Path(given).is_absolute():
        return Path(given) / "evoprompt"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "evoprompt"


def _run(task: Task, suite: Suite, sandbox: Sandbox) -> Iterable[Expected]:
    """Asks for one output at a time: in between the process stands still, so the CPU time read is that input's."""
    run = SolutionRun(Job(task, suite, task.code), LIMITS, sandbox)
    try:
        with run.process() as process:
            form = codec.COMPACT if not task.oracle and not task.atol else Expected("value", b"", 0.0).form(task.oracle)
            for index, arguments in enumerate(task.inputs(suite)):
                before, packed = process.cpu_seconds, process.packing_seconds
                reply = process.ask("apply", task.entry_point, (form + arguments,))
                packing = process.packing_seconds - packed
                seconds = process.cpu_seconds - before - packing
                kind, data, size = _expected(task, reply, f"{suite} input {index}", run)
                yield Expected(kind, data, seconds, packing, size)
    except Unloadable as e:
        raise DataError(f"the canonical solution can't be loaded: it {e.finding.observed}") from e


def _expected(task: Task, reply: Reply, where: str, run: SolutionRun) -> tuple[Kind, bytes, int]:
    """Kind and data of an output, and its size."""
    if task.oracle == oracles.NOT_NONE and reply.kind in ("value", "refused"):
        return "value", codec.encode(reply.payload != codec.encode(None)), 1
    if reply.kind == "refused":
        reason = printable(reply.payload.decode("utf-8", "replace"))
        raise DataError(f"its own solution returns on {where} what can't be compared: {reason}")
    if reply.kind == "crashed":
        raise SandboxError(f"the canonical solution of {task.task_id} {reply.detail} on {where}")
    if reply.kind == "digest":
        return "digest", reply.payload[: digest.SIZE], 0
    if reply.kind != "value":
        found = run.unanswered(reply)
        if found.exception == "MemoryError":  # it needs too much, or the machine has too little: nothing is known
            raise SandboxError(f"the canonical solution of {task.task_id} {found.observed} on {where}")
        raise DataError(f"the canonical solution fails on {where}: it {found.observed}")
    size = len(reply.payload)
    if size <= MAX_KEPT:
        return "value", reply.payload, size
    return "packed", hashlib.sha256(reply.payload).digest() + zlib.compress(reply.payload, 1), size


def _name(task: Task, suite: Suite) -> str:
    code = (Path(str(module.__file__)).read_bytes() for module in _CODE)
    parts = (FORMAT, *code, sys.version.encode(), task.key.encode(), suite.encode())
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
    rows = tuple((e.kind, e.data, e.seconds, e.packing, e.size) for e in found)
    body = zlib.compress(codec.encode(rows, max_bytes=codec.UNBOUNDED), 6)
    try:
        write_bytes(path, hashlib.sha256(body).digest() + body)
    except OSError as e:
        _log.warning("expected outputs can't be kept in %s (%s): they are computed anew each time", path.parent, e)
