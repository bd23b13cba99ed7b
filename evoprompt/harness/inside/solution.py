"""The solution's side of the conversation: does what the tests ask for. Standard library only."""

from __future__ import annotations

import asyncio
import builtins
import importlib
import io
import operator
import random
import sys
import types
from typing import Any

from . import codec
from .contents import Malformed, extended, plain_of
from .encoding import Unencodable
from .peer import Peer

_TEXT = 1 << 20
"""Most characters of output that are passed on, of each stream."""


class SolutionPeer(Peer):
    """The solution's side. Nothing that it does is believed."""

    def __init__(self, server: Any, names: tuple[str, ...], provided: tuple[str, ...], console: bool) -> None:
        super().__init__(server, 2)
        self.provided = provided
        self.names = names
        self.output: list[str] = []
        self.original = {"@input": builtins.input, "@print": builtins.print, "@stdin": sys.stdin}
        if console:
            sys.stdout, sys.stderr = _Captured(self, 0), _Captured(self, 1)

    def serve(self, data: bytes) -> bytes:
        """Answers one message of the judge's."""
        try:
            header, values = self.read(data)
            values = self.common(header, values)
        except BaseException as e:
            return self.told(e)
        return self.answer(header, values)

    def answer(self, header: tuple[Any, ...], values: list[Any]) -> bytes:
        """Does what the judge asks for, and returns the frame that tells the result."""
        given = list(values)
        try:
            result = self.perform(*header[:-2], values=values)
        except BaseException as e:
            return self.told(e)
        return self.returned(result, given)

    def returned(self, result: Any, given: list[Any]) -> bytes:
        """Returns the frame that tells a result."""
        same = next((i for i, value in enumerate(given) if value is result), -1)
        try:
            data: bytes = self.message(("return", same), [None if same >= 0 else result])
            return codec.ANSWER + data
        except (Unencodable, RecursionError) as e:
            return codec.UNTOLD + str(e).encode("utf-8", "replace")[:200]

    def told(self, error: BaseException) -> bytes:
        """Returns the frame that tells an exception."""
        described: bytes = self.server.describe(error)
        error.__traceback__ = None
        try:
            data = self.message(("raise",), [error])
        except BaseException:
            data = self.message(("raise",), [RuntimeError()])
        return codec.RAISED + len(described).to_bytes(4, "little") + described + data

    def perform(self, kind: str, name: str, more: Any = (), *, values: list[Any]) -> Any:
        """Does one operation of the judge's."""
        match kind:
            case "del":
                return delattr(values[0], name)
            case "content":
                return plain_of(self.extended(type(values[0])), values[0])
            case "await":
                return asyncio.run(_awaited(values[0]))
            case "seed":
                module = sys.modules.get(name) or random
                return module.seed(*values)
        return super().perform(kind, name, more, values=values)

    def message(self, header: tuple[Any, ...], values: list[Any]) -> bytes:
        """Writes a message with the shared names that changed, and what was printed."""
        module = self.server.module
        changed = self.changes(self.names, module)
        output, self.output = tuple(self.output), []
        return self.write((*header, tuple(changed), output), [*values, *(module[n] for n in changed)])

    def common(self, header: tuple[Any, ...], values: list[Any]) -> list[Any]:
        """Takes the shared names out of a message."""
        names = header[-2]
        rest = len(values) - len(names)
        for name, value in zip(names, values[rest:], strict=True):
            if name in self.original:
                self.console(name, self.original[name] if value is None else value)
            else:
                self.server.module[name] = self.last[name] = value
        return values[:rest]

    def console(self, name: str, value: Any) -> None:
        """Replaces input, print or stdin as the test did."""
        if name == "@stdin":
            sys.stdin = value
        else:
            setattr(builtins, name[1:], value)

    def tuple_of(self, name: str, fields: tuple[str, ...]) -> Any:
        """Returns the solution's own class, if it has these fields."""
        own = self.server.module.get(name)
        if isinstance(own, type) and issubclass(own, tuple) and getattr(own, "_fields", None) == fields:
            return own
        return super().tuple_of(name, fields)

    def at(self, kind: str, name: Any) -> Any:
        """Returns what the judge means by a name."""
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
        """Reads a message; a name that the solution lacks is its own fault."""
        try:
            return super().read(data)
        except Malformed as e:
            if isinstance(e.__cause__, NameError):
                raise e.__cause__ from None
            raise

    def exchange(self, data: bytes) -> bytes:
        """Gives the turn to the judge, until it comes back."""
        if data[:1] not in (codec.ANSWER, codec.RAISED, codec.UNTOLD):
            data = codec.ANSWER + data
        return bytes(self.server.turn(data)[1])

    def extended(self, kind: type) -> Any:
        """Returns the type of data that a class of the solution extends by methods."""
        name = type.__dict__["__name__"].__get__(kind)
        known = name in self.provided and self.server.module.get(name) is kind
        return extended(kind) if known else None

    def foreign(self, value: Any) -> tuple[str, Any] | None:
        """Returns sort and name of a value that the judge has."""
        found = super().foreign(value)
        if found is None and isinstance(value, type | types.FunctionType):
            name = type.__dict__["__name__"].__get__(value) if isinstance(value, type) else value.__name__
            known = name in self.provided or (isinstance(value, type) and issubclass(value, BaseException))
            if known and self.server.module.get(name) is value:
                return "@solution", name
        return found


async def _awaited(value: Any) -> Any:
    return await value


class _Captured(io.TextIOBase):
    """Standard output or error of the solution: its text goes along with the next message."""

    def __init__(self, peer: SolutionPeer, number: int) -> None:
        self.peer, self.number, self.room = peer, number, _TEXT

    def write(self, text: str) -> int:
        if type(text) is not str:
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self.room -= len(text)
        if self.room >= 0:
            self.peer.output += (str(self.number), text)
        if self.number:
            self.peer.server.stderr.write(text.encode("utf-8", "backslashreplace"))
        return len(text)

    def writable(self) -> bool:
        return True
