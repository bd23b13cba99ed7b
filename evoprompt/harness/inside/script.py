"""The tests of a suite as they run in the judge's process, where what the solution provides is a proxy.

Standard library only. The host hands over one test after the other, answers what is asked of the candidate, and keeps
the literals that asserts compare with. The names of the module that tests run in mean what they mean in Python.
"""

from __future__ import annotations

import asyncio
import builtins
import random
import sys
import types
from typing import Any

from . import proxies
from .around import become_main
from .guarding import Ended, Guard
from .proxies import MADE, OTHERS, ProxyType, fill, inside, proxy_class
from .wire import Malformed

TO_CANDIDATE, COMPARE, CLOSE, LITERAL, DONE = b">", b"=", b"~", b"#", b"."
"""First byte of what the judge's side sends: a message for the candidate, what the host is to do, or the end."""

_CALL = proxies.methods_of(type(lambda: None))
_MISSING = object()
_SWALLOWED = (StopIteration, StopAsyncIteration, GeneratorExit, asyncio.CancelledError)
"""Exceptions that end something else than a test."""


class Judge(Guard):
    """The judge's side of a conversation with a candidate."""

    def __init__(self, server: Any, config: dict[str, Any]) -> None:
        super().__init__(server, config)
        self.space: dict[str, Any] = server.module
        self.last: dict[str, Any] = {}
        self.count = 0
        self.errors: dict[int, tuple[BaseException, int]] = {}
        self.made: dict[str, Any] = {}
        self.taken: set[str] = set()
        self.console = {"@input": builtins.input, "@print": builtins.print, "@stdin": sys.stdin}
        self.seeds()

    def start(self) -> None:
        """Makes the module that the tests run in."""
        for name, value in self.server.common.items():
            self.space.setdefault(name, value)
        become_main(self.server.main)
        for name in self.config["functions"]:
            self.space[name] = self.provided(name, _CALL)
        for name in self.config["classes"]:
            self.space[name] = self.provided(name, proxies.methods_of(_Any))
        for name, base in self.config["exceptions"]:
            known: Any = self.made.get(base) or getattr(builtins, base, Exception)
            self.space[name] = self.made[name] = type(name, (known,), {"__module__": "solution"})
        self.space |= {"__equal__": self.equal, "__close__": self.close, "__type__": self.type_of}
        self.taken = {*self.config["stored"], *self.config["data"]}
        if self.taken or self.config["told"]:
            self.request(("hello", ""), [])
        self.taken = {*self.config["stored"]}
        missing = [n for n in self.config["data"] if n not in self.space]
        self.space.update((n, self.provided(n, _CALL)) for n in missing)

    def provided(self, name: str, methods: int) -> Any:
        """What stands for a function or class of the solution's."""
        made: Any = object.__new__(proxy_class(methods))
        fill(made, self, name, name, None)
        proxies.mark_made(made, OTHERS if name in self.config["data"] else MADE)
        self.made[name] = made
        return made

    def seeds(self) -> None:
        """Lets a test seed the candidate's random numbers too."""
        seed = random.seed

        def both(*values: Any, **named: Any) -> None:
            seed(*values, **named)
            self.request(("seed", "random"), list(values))

        if self.config["seeds"]:
            random.seed = both

    def unit(self, source: str | None, telling: str) -> bytes:
        """Runs one test, or makes the module for them, and tells how it went."""
        self.status, self.marked, self.told, self.telling = "", False, False, telling
        self.errors.clear()
        self.calls.clear()
        self.server.results.watch(source or "")
        status, name, number = self.verdict(self.run(source))
        calls = tuple(tuple(call) for call in self.calls)
        return DONE + self.encode((status, name, number, self.marked, self.told, calls))

    def run(self, source: str | None) -> BaseException | None:
        """Executes a test; returns the exception that ends it."""
        try:
            if source is None:
                self.start()
            else:
                exec(compile(source, "<test>", "exec", dont_inherit=True), self.space)
                self.server.results.check()
        except BaseException as e:
            return e
        finally:
            if self.config["console"]:
                builtins.input, builtins.print, sys.stdin = self.console.values()  # type: ignore[assignment]
        return None

    def verdict(self, error: BaseException | None) -> tuple[str, str, int]:
        """Status, name of the exception, and the number of the candidate's that it is."""
        if self.status:
            return self.status, "", 0
        if error is None or (isinstance(error, SystemExit) and not error.code and id(error) not in self.errors):
            return "passed", "", 0
        if id(error) in self.errors:
            return "error", "", self.errors[id(error)][1]
        return "failed", type(error).__name__, 0

    # Conversation.

    def exchange(self, data: bytes) -> bytes:
        """Gives the turn away, until it comes back."""
        if self.status:
            raise Ended
        if data[:1] != TO_CANDIDATE:
            data = TO_CANDIDATE + data
        answer = self.host(data)
        return bytes(answer)

    def host(self, data: bytes) -> Any:
        """Gives the turn to the host."""
        request = self.server.turn(data)
        if request[0] == "end":
            self.status = request[1]
            raise Ended
        return request[1]

    def request(self, header: tuple[Any, ...], values: list[Any]) -> Any:
        """As of any side; nothing more once the test has ended."""
        if self.status:
            raise Ended
        try:
            result = super().request(header, values)
        except Malformed:
            self.status = "malformed"
            raise Ended from None
        except _SWALLOWED as e:
            if header[0] not in ("next", "await") or not isinstance(e, StopIteration | StopAsyncIteration):
                self.marked = True  # it may end a loop in which the rest of the test is
            raise
        self.reached(result)  # which may be one of the values that were sent
        if header[0] == "operation" and result is values[0] and f"__{header[1]}__" in self.config["fluent"]:
            self.restore(result)
        return result

    def thrown(self, error: Any) -> BaseException:
        """The exception of the candidate, remembered as its own."""
        if not isinstance(error, BaseException):
            raise Malformed("it is no exception")
        self.count += 1
        self.errors[id(error)] = error, self.count
        if self.calls:
            self.calls[-1][1] = ""
        return error

    def message(self, header: tuple[Any, ...], values: list[Any]) -> bytes:
        """A message with the data that the solution reads by name."""
        names, space = self.config["told"], self.space
        changed = [n for n in names if n in space and space[n] is not self.last.get(n, _MISSING)]
        self.last.update((n, space[n]) for n in changed)
        values = [*values, *(space[n] for n in changed)]
        if self.config["console"]:
            for name, now in (("@input", builtins.input), ("@print", builtins.print), ("@stdin", sys.stdin)):
                if now is not self.last.get(name, self.console[name]):
                    self.last[name] = now
                    changed.append(name)
                    values.append(None if now is self.console[name] else now)
        return self.write((*header, tuple(changed), ()), values)

    def common(self, header: tuple[Any, ...], values: list[Any]) -> list[Any]:
        """Takes the data that the solution has by name out of a message: once what it defines, then what it sets."""
        names, output = header[-2], header[-1]
        rest = len(values) - len(names)
        for name, value in zip(names, values[rest:], strict=True):
            if name in self.taken:
                self.space[name] = self.last[name] = value
        for stream, text in zip(output[::2], output[1::2], strict=True):
            (sys.stderr if stream == "1" else sys.stdout).write(text)
        return values[:rest]

    def answer(self, header: tuple[Any, ...], values: list[Any]) -> bytes:
        """Calls what the test handed over. Nothing else of this side can be had."""
        try:
            result = self.perform(*header[:-2], values=values)
        except Ended:
            raise
        except BaseException as e:
            if isinstance(e, Malformed):
                raise
            return self.message(("raise",), [e])
        return self.message(("return", -1), [result])

    def perform(self, kind: str, name: str, more: Any = (), *, values: list[Any]) -> Any:
        """One operation that the other side asks for."""
        value = values[0]
        if self.numbers.get(id(value)) not in self.exported:
            raise Malformed("it is not to be had")
        match kind:
            case "call":
                named = {n: values.pop() for n in reversed(more)}
                return value(*values[1:], **named)
            case "next":
                return next(value)
            case "get" if not name.startswith("_") and self.is_own(value):
                return getattr(value, name)
            case "set" if not name.startswith("_") and self.is_own(value):
                return setattr(value, name, values[1])
            case "operation" if name in proxies.OPERATIONS:
                return proxies.OPERATIONS[name](*values)
        raise AttributeError(f"{type(value).__name__!r} object has no attribute {name!r}")

    def is_own(self, value: Any) -> bool:
        """Whether an object is of a class that a test defines: then its public attributes can be had."""
        return type(value).__module__ == "__main__"

    def forget(self, told: set[int]) -> None:
        """Drops what no test refers to any more."""
        self.forgotten += self.unused(told)

    def foreign(self, value: Any) -> tuple[str, Any] | None:
        """What the other side knows by a name or number."""
        if isinstance(type(value), ProxyType) and inside(value, "_peer") is self:
            number = inside(value, "_number")
            return ("@solution", number) if isinstance(number, str) else ("@handle", number)
        if isinstance(value, type) and (name := value.__name__) in self.made and self.made[name] is value:
            return "@solution", name
        if isinstance(value, types.ModuleType):
            return "@module", value.__name__
        if id(value) in self.named:
            return None
        return _importable(value) or super().foreign(value)

    def at(self, kind: str, name: Any) -> Any:
        """What the other side means by a name."""
        if kind == "@solution":
            return self.made.get(name)  # a class or function that the candidate names as the test does
        return super().at(kind, name)

    # What stands for parts of asserts.

    def equal(self, value: Any, number: int) -> Any:
        """Whether a value equals a literal that the host holds; what is no plain data is compared here."""
        value = proxies.content(value)
        if type(value) not in self.classes and not isinstance(type(value), ProxyType):
            try:
                return self.host(COMPARE + number.to_bytes(4, "little") + self.encode(value))
            except (self.codec.Unencodable, RecursionError):
                pass
        return value == self.host(LITERAL + number.to_bytes(4, "little"))

    def close(self, value: Any, other: Any) -> Any:
        """Whether two values are equal, or close where a tolerance applies."""
        if not isinstance(type(value), ProxyType) or not isinstance(type(other), ProxyType):
            value, other = proxies.content(value), proxies.content(other)
        found = value == other
        if found is True or isinstance(type(value), ProxyType):
            return found
        try:
            pair = self.encode(value), self.encode(other)
        except (self.codec.Unencodable, RecursionError):
            return found
        return self.host(CLOSE + len(pair[0]).to_bytes(4, "little") + b"".join(pair)) or found

    def type_of(self, *values: Any) -> Any:
        """`type`, also of what the candidate has."""
        if len(values) == 1 and isinstance(type(values[0]), ProxyType):
            return inside(values[0], "_kind") or self.got(values[0], "__class__")
        return type(*values)


class _Any:
    """Has what a class of the solution's may have itself."""

    def __call__(self) -> None: ...
    def __getitem__(self, key: Any) -> None: ...
    def __len__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Any: ...
    def __contains__(self, item: Any) -> bool:
        return False


def _importable(value: Any) -> tuple[str, str] | None:
    """The name by which a type or function is had from its module."""
    owner = getattr(value, "__objclass__", None)
    module = owner.__module__ if owner is not None else getattr(value, "__module__", None)
    path = getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(path, str) or module in ("__main__", "solution"):
        return None
    if not isinstance(value, type | types.FunctionType | types.BuiltinFunctionType | types.MethodDescriptorType):
        return None
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return ("@named", f"{module}:{path}") if found is value else None
