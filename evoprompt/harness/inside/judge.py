"""The judge's side of the conversation: runs the tests, where what the solution provides is a proxy.

Standard library only. The host hands over one test after the other, answers what is asked of the solution, and keeps
the literals that asserts compare with. The names of the module that tests run in mean what they mean in Python.
"""

from __future__ import annotations

import asyncio
import builtins
import random
import sys
import types
from types import ModuleType
from typing import Any

from . import proxies
from .contents import Malformed
from .encoding import Unencodable
from .guard import Ended, Guard
from .proxies import MADE, OTHERS, fill, inside, is_proxy, proxy_class, put

TO_SOLUTION, COMPARE, CLOSE, LITERAL, DONE = b">", b"=", b"~", b"#", b"."
"""First byte of what this side sends: a message for the solution, what the host is to do, or the end."""

_CALL = proxies.bits("call")
_CLASS = proxies.bits("call", "getitem", "len", "bool", "iter", "contains")
"""The special methods of the proxy of a function, and of a class."""
_SWALLOWED = (StopIteration, StopAsyncIteration, GeneratorExit, asyncio.CancelledError)
"""Exceptions that end something else than a test."""


def _entry() -> dict[int, object]:
    return {0: object()}


def _references(objects: dict[int, Any], key: int) -> int:
    return sys.getrefcount(objects[key])


_ALONE = _references(_entry(), 0)
"""Count of references where nothing but a table refers to an object."""


class JudgePeer(Guard):
    """The judge's side of a conversation with a solution."""

    def __init__(self, server: Any, config: dict[str, Any]) -> None:
        super().__init__(server, config)
        self.space: dict[str, Any] = server.module
        self.count = 0
        self.errors: dict[int, tuple[BaseException, int]] = {}
        self.made: dict[str, Any] = {}
        self.taken: set[str] = set()
        self.console = {"@input": builtins.input, "@print": builtins.print, "@stdin": sys.stdin}
        if config["seeds"]:
            random.seed = self.seeding(random.seed)

    def start(self) -> None:
        """Makes the module that the tests run in."""
        for name, value in self.server.common.items():
            self.space.setdefault(name, value)
        become_main(self.server.main)
        for name in self.config["functions"]:
            self.space[name] = self.provided(name, _CALL)
        for name in self.config["classes"]:
            self.space[name] = self.provided(name, _CLASS)
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
        """Makes the proxy of a function or class of the solution."""
        self.made[name] = fill(object.__new__(proxy_class(methods)), self, name, name, None)
        put(self.made[name], "_made", OTHERS if name in self.config["data"] else MADE)
        return self.made[name]

    def seeding(self, seed: Any) -> Any:
        """Makes of `random.seed` a function that seeds the solution's random numbers too."""

        def both(*values: Any, **named: Any) -> None:
            seed(*values, **named)
            self.request(("seed", "random"), list(values))

        return both

    def unit(self, source: str | None, telling: str) -> bytes:
        """Runs one test, or without a source makes the module for all, and tells how it went."""
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
        """Returns a status, the name of the exception that ended the test, and its number if it is the solution's."""
        if self.status:
            return self.status, "", 0
        if error is None or (isinstance(error, SystemExit) and not error.code and id(error) not in self.errors):
            return "passed", "", 0
        if id(error) in self.errors:
            return "error", "", self.errors[id(error)][1]
        return "failed", type(error).__name__, 0

    # Conversation.

    def exchange(self, data: bytes) -> bytes:
        """Gives the turn to the solution, until it comes back."""
        if self.status:
            raise Ended
        if data[:1] != TO_SOLUTION:
            data = TO_SOLUTION + data
        answer = self.host(data)
        return bytes(answer)

    def host(self, data: bytes) -> Any:
        """Gives the turn to the host, and returns what it says."""
        request = self.server.turn(data)
        if request[0] == "end":
            self.status = request[1]
            raise Ended
        return request[1]

    def request(self, header: tuple[Any, ...], values: list[Any]) -> Any:
        """Has the solution do something; nothing more once the test has ended."""
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
        """Remembers an exception as the solution's own."""
        if not isinstance(error, BaseException):
            raise Malformed("it is no exception")
        self.count += 1
        self.errors[id(error)] = error, self.count
        if self.calls:
            self.calls[-1][1] = ""
        return error

    def message(self, header: tuple[Any, ...], values: list[Any]) -> bytes:
        """Writes a message with the data that the solution reads by name, and what replaces its console."""
        changed = self.changes(self.config["told"], self.space)
        values = [*values, *(self.space[n] for n in changed)]
        if self.config["console"]:
            for name, now in (("@input", builtins.input), ("@print", builtins.print), ("@stdin", sys.stdin)):
                if now is not self.last.get(name, self.console[name]):
                    self.last[name] = now
                    changed.append(name)
                    values.append(None if now is self.console[name] else now)
        return self.write((*header, tuple(changed), ()), values)

    def common(self, header: tuple[Any, ...], values: list[Any]) -> list[Any]:
        """Takes the names that the solution sets out of a message, and writes its output."""
        names, output = header[-2], header[-1]
        rest = len(values) - len(names)
        for name, value in zip(names, values[rest:], strict=True):
            if name in self.taken:
                self.space[name] = self.last[name] = value
        for stream, text in zip(output[::2], output[1::2], strict=True):
            (sys.stderr if stream == "1" else sys.stdout).write(text)
        return values[:rest]

    def answer(self, header: tuple[Any, ...], values: list[Any]) -> bytes:
        """Does what the solution asks of an object that the test handed over. Nothing else of this side can be had."""
        try:
            result = self.perform(*header[:-2], values=values)
        except (Ended, Malformed):
            raise
        except BaseException as e:
            return self.message(("raise",), [e])
        return self.message(("return", -1), [result])

    def perform(self, kind: str, name: str, more: Any = (), *, values: list[Any]) -> Any:
        """Does one operation that the solution asks for."""
        value = values[0]
        if self.numbers.get(id(value)) not in self.exported:
            raise Malformed("it is not to be had")
        # Of an object of a class that a test defines, public attributes can be had.
        public = kind in ("get", "set") and not name.startswith("_") and type(value).__module__ == "__main__"
        if public or kind in ("call", "next") or (kind == "operation" and name in proxies.OPERATIONS):
            return super().perform(kind, name, more, values=values)
        raise AttributeError(f"{type(value).__name__!r} object has no attribute {name!r}")

    def forget(self, told: set[int]) -> None:
        """Drops data that only the table refers to and no message tells, here and on the other side."""
        for number in self.agreed.keys() - told:
            if number in self.objects and _references(self.objects, number) <= _ALONE:
                self.drop(number)
                self.forgotten.append(number)

    def foreign(self, value: Any) -> tuple[str, Any] | None:
        """Returns sort and name of a value that the solution has."""
        if is_proxy(value) and inside(value, "_peer") is self:
            number = inside(value, "_number")
            return ("@solution", number) if isinstance(number, str) else ("@handle", number)
        if isinstance(value, type) and (name := value.__name__) in self.made and self.made[name] is value:
            return "@solution", name
        if isinstance(value, types.ModuleType):
            return "@module", value.__name__
        if self.setup_name(value) is not None:
            return None
        return _importable(value)

    def at(self, kind: str, name: Any) -> Any:
        """Returns what the solution means by a name."""
        if kind == "@solution":
            return self.made.get(name)  # a class or function that the solution names as the test does
        return super().at(kind, name)

    # What stands for parts of asserts.

    def equal(self, value: Any, number: int) -> Any:
        """Compares a value with a literal that the host holds; what is no plain data is compared here."""
        value = proxies.content(value)
        if type(value) not in self.classes and not is_proxy(value):
            try:
                return self.host(COMPARE + number.to_bytes(4, "little") + self.encode(value))
            except (Unencodable, RecursionError):
                pass
        return value == self.host(LITERAL + number.to_bytes(4, "little"))

    def close(self, value: Any, other: Any) -> Any:
        """True if two values are equal, or close where a tolerance applies."""
        if not is_proxy(value) or not is_proxy(other):
            value, other = proxies.content(value), proxies.content(other)
        found = value == other
        if found is True or is_proxy(value):
            return found
        try:
            pair = self.encode(value), self.encode(other)
        except (Unencodable, RecursionError):
            return found
        return self.host(CLOSE + len(pair[0]).to_bytes(4, "little") + b"".join(pair)) or found

    def type_of(self, *values: Any) -> Any:
        """Does what `type` does, also for objects of the solution."""
        if len(values) == 1 and is_proxy(values[0]):
            return inside(values[0], "_kind") or self.got(values[0], "__class__")
        return type(*values)


def _importable(value: Any) -> tuple[str, str] | None:
    """Returns the name by which a type or function is imported from its module."""
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


def become_main(module: ModuleType) -> None:
    """Makes the module of the tests the one that a program is, as for `unittest.main()` and for pickles."""
    module.__name__ = "__main__"
    sys.modules["__main__"] = module
    sys.argv = ["tests"]


class Results:
    """Results of the runs of unittest in a test: a script that drops them would pass whatever they are."""

    def __init__(self) -> None:
        self.ran: list[Any] = []
        self.watched = False

    def watch(self, source: str) -> None:
        """Begins anew for a test."""
        self.ran.clear()
        if self.watched or ("unittest" not in source and "unittest" not in sys.modules):
            return
        import unittest

        runs: Any = unittest.TextTestRunner
        run = runs.run

        def noted(runner: Any, test: Any) -> Any:
            self.ran.append(run(runner, test))
            return self.ran[-1]

        self.watched = True
        runs.run = noted

    def check(self) -> None:
        """Fails the test if one of them was not successful."""
        if not all(result.wasSuccessful() for result in self.ran):
            raise AssertionError from None
