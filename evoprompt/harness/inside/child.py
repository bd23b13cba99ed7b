"""Serves the host from a process that is locked in: that of a solution, or that of the tests (the judge's).

Uses the standard library and its siblings only: the zygote loads this module by its location. The host asks
one thing at a time over a socket and waits for the one frame that answers it. The host trusts nothing in here
once the source of a solution has run; the judge's process never runs one.

    prepare   run the setup, keep the imports for the tests     done, error
    compile   compile the solution, run nothing                 done, error
    load      run the solution once                             done, error, missing
    call      evaluate a call of a test                         value, error, refused
    test      run a whole test                                  done, error
    apply     call a function with each of the inputs that      for each: value, digest, error, refused
              follow as messages of their own
    judge     be the side of the tests, see `judge`            done
    unit      run one test; in between, messages are sent       value
    join      be the side of the solution, see `solution`       done
    message   do what the tests ask for                         value
    batch     several of these, up to one that is not done      for each the above
"""

from __future__ import annotations

import builtins
import contextlib
import io
import marshal
import math
import os
import resource
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType, TracebackType
from typing import Any

from . import codec, digest, judge, kinds
from .solution import SolutionPeer

COMPACT_BYTES = 1 << 17
"""Most bytes of a value that is answered itself where its digest would do."""
MESSAGE = 200
"""Most characters of a message, or of the name of an exception."""


class Server:
    """Answers requests in order, each with exactly one frame."""

    def __init__(self, fd: int, output_bytes: int, cpu_call: int) -> None:
        self.fd = fd
        self.output_bytes = output_bytes
        self.cpu_call = cpu_call
        self.sequence = self.packed = 0
        self.code: CodeType | None = None
        self.setup: dict[str, Any] = {}
        self.own: set[int] = set()
        self.main = ModuleType("builtins")
        self.module: dict[str, Any] = vars(self.main)
        self.module.clear()
        self.module |= {"__name__": "builtins", "__builtins__": builtins}
        self.common: dict[str, Any] = {"math": math}
        self.peer: Any = None
        self.results = judge.Results()
        self.stderr = _Stderr()
        sys.stderr = io.TextIOWrapper(self.stderr, "utf-8", "backslashreplace", write_through=True)

    def serve(self) -> None:
        """Answers until the host hangs up."""
        while (request := self.receive()) is not None:
            for one in request[1] if request[0] == "batch" else (request,):
                if one[0] == "apply":
                    self.apply(*one[1:])
                elif self.reply(self.answer, *one) != codec.DONE:
                    break

    def reply(self, make: Callable[..., tuple[bytes, bytes]], *arguments: Any) -> bytes:
        """Sends one answer, kind and content as `make` gives them; returns its kind."""
        self.begin()
        try:
            kind, payload = make(*arguments)
        except codec.Unencodable as e:
            kind, payload = codec.REFUSED, str(e).encode("utf-8", "replace")[:MESSAGE]
        except BaseException as e:
            kind, payload = codec.ERROR, self.describe(e)
        self.send(kind, payload)
        return kind

    def begin(self) -> None:
        """Begins the answer to the next request."""
        self.sequence += 1
        if self.cpu_call:
            _limit_cpu(self.cpu_call)

    def answer(self, request: str, *arguments: Any) -> tuple[bytes, bytes]:
        """Does one thing that the host asks for."""
        match request:
            case "prepare":
                self.prepare(*arguments)
            case "compile":
                self.code = compile(arguments[0], "<solution>", "exec", dont_inherit=True)
                self.own = set(_ids(self.code))
            case "load":
                exec(self.code or "", self.module)
                if arguments[0] not in self.module:
                    return codec.MISSING, b""
            case "call":
                return self.value(eval(compile(arguments[0], "<call>", "eval", dont_inherit=True), self.names()))
            case "test":
                self.test(arguments[0])
            case "judge":
                self.peer = judge.JudgePeer(self, *arguments)
                self.peer.knows(self.setup)
            case "unit":
                return codec.VALUE, self.peer.unit(*arguments)
            case "join":
                self.peer = SolutionPeer(self, *arguments)
                self.peer.knows(self.setup)
                self.peer.knows({n: self.module[n] for n, v in self.setup.items() if isinstance(v, type)})
            case "message":
                return codec.VALUE, self.peer.serve(arguments[0])
        return codec.DONE, b""

    def test(self, source: str) -> None:
        """Runs a test; what it defines is there for the next, and for the solution."""
        main, results = ModuleType("__main__"), self.results
        names = vars(main)
        names |= self.names()
        judge.become_main(main)
        before = dict(names)
        results.watch(source)
        try:
            exec(compile(source, "<test>", "exec", dont_inherit=True), names)
            results.check()
        except SystemExit as e:  # as `unittest.main` ends
            results.check()
            if e.code or not results.ran:
                raise
        finally:
            self.module.update((n, v) for n, v in names.items() if n not in before or before[n] is not v)

    def apply(self, name: str, count: int) -> None:
        """Calls a function with each of `count` inputs, encoded lists of arguments, and answers each before the next.

        An input is read when its turn comes: no frame and no object holds one that is still to come.
        """
        for _ in range(count):
            encoded = self.message()
            if encoded is None:
                os._exit(0)
            self.reply(self.applied, name, encoded)

    def applied(self, name: str, encoded: bytes) -> tuple[bytes, bytes]:
        """Calls a function with one input."""
        return self.given(self.module[name](*self.real(encoded[1:])), encoded[:1])

    def prepare(self, setup: str, imports: tuple[str, ...], paths: tuple[str, ...]) -> None:
        """Runs the setup and the common imports, for a solution or for the tests."""
        sys.path.extend(p for p in paths if p not in sys.path)
        for statement in imports:
            with contextlib.suppress(ImportError):  # a test that needs it says so itself
                exec(statement, self.common)
        exec(compile(setup, "<setup>", "exec", dont_inherit=True), self.module)
        self.setup = {
            name: value
            for name, value in self.module.items()
            if isinstance(value, type | FunctionType)
            and value.__module__ == self.module["__name__"]
            and getattr(builtins, name, None) is not value
        }

    def names(self) -> dict[str, Any]:
        """Returns all that a test can name: the common imports, and over them what the module holds now."""
        return {**self.common, **self.module}

    def value(self, value: object) -> tuple[bytes, bytes]:
        """Encodes an answer."""
        return codec.VALUE, self.encode(value, self.output_bytes)

    def take(self, value: Any, kind: type) -> bytes | None:
        """Encodes an object of a type of the standard library's, or numpy's; returns None for any other."""
        if kind is not range and kind.__module__ not in ("decimal", "fractions") and kinds.reduce(value, kind) is None:
            return None
        return self.encode(value, self.output_bytes)

    def given(self, value: Any, form: bytes) -> tuple[bytes, bytes]:
        """Encodes the result for an input in the form that the host asks for."""
        if form == codec.AS_DIGEST:
            return self.digest(value)
        if form == codec.COMPACT and not (type(value) in (list, tuple) and set(map(type, value)) == {float}):
            with contextlib.suppress(codec.TooLarge):
                return codec.VALUE, self.encode(value, COMPACT_BYTES)
            with contextlib.suppress(digest.Uncertain):
                return self.digest(value, certain=True)
        if form == codec.AS_LIST and hasattr(type(value), "__iter__"):
            with contextlib.suppress(codec.Unencodable):
                return self.value(list(value) if type(value) is range else value)
            value = list(value)
        return self.value(value)

    def digest(self, value: Any, certain: bool = False) -> tuple[bytes, bytes]:
        """Answers with the digest of a value, and a few words about it."""
        self.packing()
        found = digest.digest(value, certain=certain)
        name = type.__dict__["__name__"].__get__(type(value))
        words = f"a {name} of {len(value)} elements" if hasattr(type(value), "__len__") else f"a large {name}"
        return codec.DIGEST, found + words.encode("utf-8", "replace")[:MESSAGE]

    def encode(self, value: object, most: int) -> bytes:
        """Encodes a value, and tells the host first if that takes a while."""
        encoded: bytes = codec.encode(value, max_bytes=most, on_long=self.packing)
        return encoded

    def packing(self) -> None:
        """Tells the host, once for each answer, that the call is over and the encoding begins."""
        if self.packed != self.sequence:
            self.packed = self.sequence
            self.send(codec.PACKING, b"")

    def real(self, encoded: bytes) -> Any:
        """Decodes bytes to real Python values."""
        return codec.decode(encoded, kinds.rebuild, max_bytes=1 << 62, max_cost=1 << 62)

    def describe(self, error: BaseException) -> bytes:
        """Encodes type, message and line of an exception whose class may be hostile."""
        name = type.__dict__["__name__"].__get__(type(error))
        try:
            message = str.__getitem__(str(error), slice(MESSAGE))
        except BaseException:
            message = ""
        line = 0
        if self.code is None and isinstance(error, SyntaxError) and error.filename == "<solution>":
            message, line = str(error.msg), error.lineno or 0
        trace: TracebackType | None = BaseException.__dict__["__traceback__"].__get__(error)
        while trace is not None:
            if id(trace.tb_frame.f_code) in self.own:  # a name of a file is anybody's to choose
                line = trace.tb_lineno
            trace = trace.tb_next
        described: bytes = codec.encode((name[:MESSAGE], message[:MESSAGE], int(line)))
        return described

    def receive(self) -> tuple[Any, ...] | None:
        """Returns the next request, or None when the host has hung up."""
        data = self.message()
        if not data:
            return None
        request: tuple[Any, ...] = marshal.loads(data)  # the host is to be believed; nothing goes this way back
        return request

    def turn(self, data: bytes) -> tuple[Any, ...]:
        """Gives the turn to the host with a message, and returns the request that it sends back."""
        self.send(codec.VALUE, data)
        request = self.receive()
        if request is None:
            os._exit(0)
        self.begin()
        return request

    def message(self) -> bytes | None:
        """Reads one message of the host, and no byte of the next."""
        header = self.read(4)
        return self.read(int.from_bytes(header, "little")) if header else None

    def read(self, count: int) -> bytes | None:
        """Reads exactly `count` bytes; returns None when the host has hung up."""
        data = bytearray()
        while len(data) < count:
            part = os.read(self.fd, min(count - len(data), 1 << 20))
            if not part:
                return None
            data += part
        return bytes(data)

    def send(self, kind: bytes, payload: bytes) -> None:
        """Sends the one frame that answers the current request, or says that it is on its way."""
        frames = codec.FRAME.pack(kind, self.sequence, len(payload)) + payload
        if kind != codec.PACKING and self.stderr.end:
            written, self.stderr.end = self.stderr.end, b""
            frames = codec.FRAME.pack(codec.STDERR, self.sequence, len(written)) + written + frames
        rest = memoryview(frames)
        while rest:
            rest = rest[os.write(self.fd, rest) :]


class _Stderr(io.RawIOBase):
    """Standard error of the process. Keeps the end of what was written since the last answer."""

    def __init__(self) -> None:
        super().__init__()
        self.end = b""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2

    def write(self, data: Any) -> int:
        with memoryview(data).cast("B") as view:
            self.end = (self.end + bytes(view[-codec.STDERR_BYTES :]))[-codec.STDERR_BYTES :]
            return len(view)


def _ids(code: CodeType) -> Iterator[int]:
    """Yields the ids of a code object and of all that it holds."""
    yield id(code)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _ids(constant)


def _limit_cpu(seconds: int) -> None:
    """Has SIGXCPU end the process in a call that takes longer, where the host can't read its clock."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = math.ceil(usage.ru_utime + usage.ru_stime) + seconds
    with contextlib.suppress(OSError, ValueError):  # a filter of system calls denies it
        resource.setrlimit(resource.RLIMIT_CPU, (min(soft, hard), hard))
