"""The two sides of a conversation, and what the candidate's does when it is asked. Standard library only.

The judge's process and the candidate's take turns: one asks for an operation, the other does it, and may ask back
before it answers (a callback). The host passes every message on. See `wire` for the messages.
"""

from __future__ import annotations

import asyncio
import builtins
import importlib
import io
import operator
import random
import sys
import threading
import types
from typing import Any

from .proxies import OPERATIONS, ProxyType, fill, inside, methods_of, proxy_class
from .shapes import DATA, extended, plain_of
from .wire import Malformed, Table

_TEXT = 1 << 20
CALL, RAISED, REFUSED = b"<", b"!", b"?"
"""First byte of what the candidate's side sends: a message; one that tells an exception; why there is none."""
_TYPES = {value: name for name, value in vars(types).items() if isinstance(value, type)}


class Peer(Table):
    """One side of the conversation."""

    def __init__(self, server: Any, first: int) -> None:
        super().__init__(server.codec, server, first, server.output_bytes)
        self.server = server
        self.lock = threading.RLock()
        self.abouts: dict[type, Any] = {}
        self.proxies: dict[int, type] = {}

    def about(self, value: Any) -> Any:
        """The class of an object, and its special methods."""
        kind = type(value)
        if kind not in self.abouts:
            module, name = (type.__dict__[n].__get__(kind) for n in ("__module__", "__qualname__"))
            where = ("types", _TYPES[kind]) if kind in _TYPES else (str(module), str(name))
            base = self.extended(kind)
            self.abouts[kind] = (*where, methods_of(kind), "" if base is None else base.__name__)
        return self.abouts[kind]

    def proxy(self, number: int, about: Any) -> Any:
        """What stands for an object of the other side."""
        match about:
            case (str(module), str(name), int(methods), str(base)):
                made: Any = object.__new__(proxy_class(methods))
                known = sys.modules.get(module) if module in sys.stdlib_module_names else None
                kind = getattr(known, name, None)
                stands_for = kind if isinstance(kind, type) else None
                if stands_for is types.CoroutineType:
                    return self.coroutine(number)
                fill(made, self, number, name, stands_for, base=next((b for b in DATA if b.__name__ == base), None))
                return made
        raise Malformed("it is no handle")

    def coroutine(self, number: int) -> Any:
        """A coroutine of this side that has one of the other side awaited."""

        async def awaited() -> Any:
            return self.request(("await", ""), [Handle(number)])

        return awaited()

    def foreign(self, value: Any) -> tuple[str, Any] | None:
        """What the other side knows by a name or number."""
        if type(value) is Handle:
            return "@handle", value.number
        if isinstance(type(value), ProxyType) and inside(value, "_peer") is self:
            return "@handle", inside(value, "_number")
        return None

    def at(self, kind: str, name: Any) -> Any:
        """What the other side means by a name."""
        if kind == "@handle" and name in self.exported:
            return self.objects[name]
        raise Malformed("no such name")

    def request(self, header: tuple[Any, ...], values: list[Any]) -> Any:
        """Has the other side do something, and does meanwhile what it asks for."""
        sent = values
        with self.lock:
            data = self.message(header, values)
            while True:
                header, values = self.read(self.exchange(data))
                values = self.common(header, values)
                if header[0] == "return" and header[1] >= 0:  # what cannot change has no number, but is the same
                    return sent[header[1]]
                if header[0] == "return":
                    return values[0]
                if header[0] == "raise":
                    raise self.thrown(values[0])
                data = self.answer(header, values)

    def message(self, header: tuple[Any, ...], values: list[Any]) -> bytes:
        """A message with what goes along with each."""
        return self.write((*header, (), ()), values)

    def common(self, header: tuple[Any, ...], values: list[Any]) -> list[Any]:
        """Takes out of a message what goes along with each."""
        return values

    def thrown(self, error: Any) -> BaseException:
        """The exception that a request ends with."""
        return error if isinstance(error, BaseException) else Malformed("it is no exception")

    def answer(self, header: tuple[Any, ...], values: list[Any]) -> bytes:
        """Does what the other side asks for."""
        raise NotImplementedError

    def exchange(self, data: bytes) -> bytes:
        """Gives the turn to the other side, until it gives it back."""
        raise NotImplementedError

    def reached(self, value: Any, field: bool = False) -> Any:
        """What a message refers to, on its way to where it goes; in a field of an object of the setup's, or not."""
        return value

    # What proxies ask of a side.

    def may_have(self, proxy: Any, operands: tuple[Any, ...]) -> bool:
        """Whether a proxy may hand over operands of which one may be what is expected."""
        return True

    def equality(self, proxy: Any, other: Any) -> bool:
        """Whether the other side is to compare the two."""
        return True

    def called(self, proxy: Any, values: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Calls an object of the other side."""
        return self.request(("call", "", tuple(named)), [proxy, *values, *named.values()])

    def got(self, proxy: Any, name: str) -> Any:
        """An attribute of an object of the other side."""
        return self.request(("get", name), [proxy])


class Handle:
    """What refers to an object of the other side by its number, where there is no proxy."""

    def __init__(self, number: int) -> None:
        self.number = number


class Candidate(Peer):
    """The candidate's side. Nothing that it does is believed."""

    def __init__(self, server: Any, names: tuple[str, ...], provided: tuple[str, ...], console: bool) -> None:
        super().__init__(server, 2)
        self.provided = provided
        self.names = names
        self.last: dict[str, Any] = {}
        self.output: list[str] = []
        self.original = {"@input": builtins.input, "@print": builtins.print, "@stdin": sys.stdin}
        if console:
            sys.stdout, sys.stderr = _Captured(self, 0), _Captured(self, 1)

    def serve(self, data: bytes) -> bytes:
        """Answers one message of the judge's."""
        error: BaseException | None = None
        try:
            header, values = self.read(data)
            values = self.common(header, values)
            given = list(values)
            result = self.perform(*header[:-2], values=values)
        except BaseException as e:
            error = e
        return self.told(error) if error is not None else self.returned(result, given)

    def returned(self, result: Any, given: list[Any]) -> bytes:
        """The frame that tells a result."""
        same = next((i for i, value in enumerate(given) if value is result), -1)
        try:
            data: bytes = self.message(("return", same), [None if same >= 0 else result])
            return CALL + data
        except (self.codec.Unencodable, RecursionError) as e:
            return REFUSED + str(e).encode("utf-8", "replace")[:200]

    def told(self, error: BaseException) -> bytes:
        """The frame that tells an exception."""
        described: bytes = self.server.describe(error)
        error.__traceback__ = None
        try:
            data = self.message(("raise",), [error])
        except BaseException:
            data = self.message(("raise",), [RuntimeError()])
        return RAISED + len(described).to_bytes(4, "little") + described + data

    def perform(self, kind: str, name: str, more: Any = None, *, values: list[Any]) -> Any:
        """One operation of the judge's."""
        match kind:
            case "call":
                named = {n: values.pop() for n in reversed(more)}
                return values[0](*values[1:], **named)
            case "get":
                return getattr(values[0], name)
            case "set":
                return setattr(values[0], name, values[1])
            case "del":
                return delattr(values[0], name)
            case "operation":
                return OPERATIONS[name](*values)
            case "content":
                return plain_of(self.extended(type(values[0])), values[0])
            case "next":
                return next(values[0])
            case "await":
                return asyncio.run(_awaited(values[0]))
            case "seed":
                module = sys.modules.get(name) or random
                return module.seed(*values)
        return None

    def message(self, header: tuple[Any, ...], values: list[Any]) -> bytes:
        """A message with the data that both sides have by name."""
        module = self.server.module
        changed = [n for n in self.names if n in module and module[n] is not self.last.get(n, self)]
        self.last.update((n, module[n]) for n in changed)
        output, self.output = tuple(self.output), []
        return self.write((*header, tuple(changed), output), [*values, *(module[n] for n in changed)])

    def common(self, header: tuple[Any, ...], values: list[Any]) -> list[Any]:
        """Takes the data that both sides have by name out of a message."""
        names = header[-2]
        rest = len(values) - len(names)
        for name, value in zip(names, values[rest:], strict=True):
            if name in self.original:
                self.console(name, self.original[name] if value is None else value)
            else:
                self.server.module[name] = self.last[name] = value
        return values[:rest]

    def console(self, name: str, value: Any) -> None:
        """Puts what a test has in place of input, print or stdin."""
        if name == "@stdin":
            sys.stdin = value
        else:
            setattr(builtins, name[1:], value)

    def tuple_of(self, name: str, fields: tuple[str, ...]) -> Any:
        """The solution's own class, if it is the one."""
        own = self.server.module.get(name)
        if isinstance(own, type) and issubclass(own, tuple) and getattr(own, "_fields", None) == fields:
            return own
        return super().tuple_of(name, fields)

    def at(self, kind: str, name: Any) -> Any:
        """What the other side means by a name."""
        if kind == "@solution":
            if name not in self.server.module:
                raise NameError(f"name {name!r} is not defined", name=name)
            return self.server.module[name]
        if kind == "@module":
            return importlib.import_module(name)
        if kind == "@named":
            module, _, path = name.partition(":")
            return operator.attrgetter(path)(importlib.import_module(module))
        return super().at(kind, name)

    def read(self, data: bytes) -> tuple[tuple[Any, ...], list[Any]]:
        """As of any table; a name that the solution lacks is its own fault."""
        try:
            return super().read(data)
        except Malformed as e:
            if isinstance(e.__cause__, NameError):
                raise e.__cause__ from None
            raise

    def answer(self, header: tuple[Any, ...], values: list[Any]) -> bytes:
        """Does what the judge asks while this side waits for it."""
        given = list(values)
        try:
            result = self.perform(*header[:-2], values=values)
        except BaseException as e:
            return self.told(e)
        return self.returned(result, given)

    def exchange(self, data: bytes) -> bytes:
        """Gives the turn away, until it comes back."""
        if data[:1] not in (CALL, RAISED, REFUSED):
            data = CALL + data
        return bytes(self.server.turn(data)[1])

    def extended(self, kind: type) -> Any:
        """The type of data that a class of the solution's extends by methods."""
        name = type.__dict__["__name__"].__get__(kind)
        known = name in self.provided and self.server.module.get(name) is kind
        return extended(kind) if known else None

    def foreign(self, value: Any) -> tuple[str, Any] | None:
        """What the other side knows by a name or number."""
        found = super().foreign(value)
        if found is None and isinstance(value, type | types.FunctionType):
            name = type.__dict__["__name__"].__get__(value) if isinstance(value, type) else value.__name__
            if self.server.module.get(name) is value and (name in self.provided or _is_exception(value)):
                return "@solution", name
        return found


def _is_exception(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


async def _awaited(value: Any) -> Any:
    return await value


class _Captured(io.TextIOBase):
    """Standard output of the candidate, on its way to the judge's."""

    def __init__(self, peer: Candidate, number: int) -> None:
        self.peer, self.number, self.room = peer, number, _TEXT

    def write(self, text: str) -> int:
        if type(text) is not str:
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self.room -= len(text)
        if self.room >= 0:
            self.peer.output += (str(self.number), text)
        return len(text)

    def writable(self) -> bool:
        return True
