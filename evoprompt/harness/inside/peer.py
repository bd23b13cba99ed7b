"""One side of the conversation between the process of the tests and that of the solution. Standard library only.

The two take turns: one asks for an operation, the other does it, and may ask back before it answers (a callback). The
host passes every message on. Both sides have a table of what was exchanged: what can be changed (lists, dicts, objects
of the setup's classes) has a number and a copy on each side, and every message brings the copies up to date in place,
so identity and aliasing are as in one process. An object that only one side has is a proxy on the other.
"""

from __future__ import annotations

import sys
import threading
import types
from collections import namedtuple
from collections.abc import Iterable
from typing import Any

from . import codec
from .contents import DATA, Malformed
from .messages import Reader, Writer
from .proxies import OPERATIONS, fill, inside, is_proxy, methods_of, proxy_class

_TYPES = {value: name for name, value in vars(types).items() if isinstance(value, type)}


class Peer:
    """One side: its table, and the turns that it takes.

    Attributes:
        objects: Number -> object, of all that was exchanged.
        numbers: `id` of an object -> its number.
        agreed: Number of shared data -> its content when both sides last had the same.
        exported: Numbers of the objects that the other side may ask operations of.
        setup: Name -> class or function of the setup, which both sides have.
        classes: Class of the setup -> its name.
        forgotten: Numbers that the other side is to forget with the next message.
        last: Name -> value, of the names that both sides keep the same, as last exchanged.
    """

    def __init__(self, server: Any, first: int) -> None:
        self.server = server
        self.next = first
        self.objects: dict[int, Any] = {}
        self.numbers: dict[int, int] = {}
        self.agreed: dict[int, Any] = {}
        self.exported: set[int] = set()
        self.setup: dict[str, Any] = {}
        self.classes: dict[type, str] = {}
        self.forgotten: list[int] = []
        self.last: dict[str, Any] = {}
        self.lock = threading.RLock()
        self._named: dict[int, str] = {}
        self._tuples: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._abouts: dict[type, Any] = {}

    def knows(self, names: dict[str, Any]) -> None:
        """Takes the classes and functions that both sides have by name."""
        self.setup.update(names)
        self._named.update((id(v), n) for n, v in names.items())
        self.classes.update((v, n) for n, v in names.items() if isinstance(v, type))

    # The table.

    def number(self, value: Any, exported: bool) -> int:
        """Gives an object a new number: odd ones are the judge's, even ones the solution's."""
        number = self.next
        self.next += 2
        self.objects[number] = value
        self.numbers[id(value)] = number
        if exported:
            self.exported.add(number)
        return number

    def drop(self, number: int) -> None:
        """Forgets an object."""
        if number in self.objects:
            self.numbers.pop(id(self.objects.pop(number)), None)
            self.agreed.pop(number, None)
            self.exported.discard(number)

    def forget(self, told: set[int]) -> None:
        """Drops data that nothing here refers to any more, but for the numbers `told`. Only the judge's side does."""

    def setup_name(self, value: Any) -> str | None:
        """Returns the name of a class or function of the setup."""
        name = self._named.get(id(value))
        return name if name is not None and self.setup[name] is value else None

    def about(self, value: Any) -> Any:
        """Describes an object to the other side: module, name and special methods of its class, and its base."""
        kind = type(value)
        if kind not in self._abouts:
            module, name = (type.__dict__[n].__get__(kind) for n in ("__module__", "__qualname__"))
            where = ("types", _TYPES[kind]) if kind in _TYPES else (str(module), str(name))
            base = self.extended(kind)
            self._abouts[kind] = (*where, methods_of(kind), "" if base is None else base.__name__)
        return self._abouts[kind]

    def extended(self, kind: type) -> Any:
        """Returns the type of data that a class of the solution extends by methods; None for any other class."""
        return None

    def tuple_of(self, name: str, fields: tuple[str, ...]) -> Any:
        """Returns this side's class of named tuples with these fields."""
        if (name, fields) not in self._tuples:
            self._tuples[name, fields] = namedtuple(name, fields)  # it refuses what is no name
        return self._tuples[name, fields]

    def proxy(self, number: int, about: Any) -> Any:
        """Makes a proxy of an object of the other side."""
        match about:
            case (str(module), str(name), int(methods), str(base)):
                known = sys.modules.get(module) if module in sys.stdlib_module_names else None
                found = getattr(known, name, None)
                kind = found if isinstance(found, type) else None
                extends = next((b for b in DATA if b.__name__ == base), None)
                made = fill(object.__new__(proxy_class(methods)), self, number, name, kind, base=extends)
                return self.coroutine(made) if kind is types.CoroutineType else made
        raise Malformed("it is no handle")

    def coroutine(self, proxy: Any) -> Any:
        """Makes a coroutine that has an object of the other side awaited there."""

        async def awaited() -> Any:
            return self.request(("await", ""), [proxy])

        return awaited()

    def foreign(self, value: Any) -> tuple[str, Any] | None:
        """Returns sort and name of a value that the other side has; None if only this side has it."""
        if is_proxy(value) and inside(value, "_peer") is self:
            return "@handle", inside(value, "_number")
        return None

    def at(self, kind: str, name: Any) -> Any:
        """Returns what the other side refers to by sort and name."""
        if kind == "@handle" and name in self.exported:
            return self.objects[name]
        raise Malformed("no such name")

    def reached(self, value: Any, field: bool = False) -> Any:
        """Called with each value that a message refers to, `field` if an object of the setup holds it; returns it."""
        return value

    # Messages.

    def write(self, header: tuple[Any, ...], values: Iterable[Any]) -> bytes:
        """Writes a message with these values, and with all shared data that has changed."""
        writer = Writer(self)
        items, references = writer.pack(list(values))
        nodes = writer.finish()
        self.forget(writer.told)
        forgotten, self.forgotten = self.forgotten, []
        return self.encode((header, items, references, nodes, forgotten))

    def read(self, data: bytes) -> tuple[tuple[Any, ...], list[Any]]:
        """Returns header and values of a message.

        Raises:
            Malformed: It is none.
        """
        try:
            match codec.decode(data, max_bytes=1 << 62, max_cost=1 << 30):
                case (tuple(header), list(items), list(references), list(nodes), list(forgotten)):
                    for number in forgotten:
                        self.drop(number)
                    return header, Reader(self, nodes).run(items, references)
        except Malformed:
            raise
        except Exception as e:  # whatever was sent does not fit
            raise Malformed(f"{type(e).__name__}: {e}") from e
        raise Malformed("it is no message")

    def encode(self, value: Any) -> bytes:
        """Encodes plain data."""
        data: bytes = self.server.encode(value, self.server.output_bytes)
        return data

    def changes(self, names: Iterable[str], space: dict[str, Any]) -> list[str]:
        """Returns those of the shared names whose values are others than last time."""
        changed = [n for n in names if n in space and space[n] is not self.last.get(n, self)]
        self.last.update((n, space[n]) for n in changed)
        return changed

    def message(self, header: tuple[Any, ...], values: list[Any]) -> bytes:
        """Writes a message with what goes along with each: shared names that changed, and output."""
        raise NotImplementedError

    def common(self, header: tuple[Any, ...], values: list[Any]) -> list[Any]:
        """Takes what goes along with each message out of the values; returns the others."""
        raise NotImplementedError

    # Turns.

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

    def perform(self, kind: str, name: str, more: Any = (), *, values: list[Any]) -> Any:
        """Does one operation that the other side asks for."""
        match kind:
            case "call":
                named = {n: values.pop() for n in reversed(more)}
                return values[0](*values[1:], **named)
            case "get":
                return getattr(values[0], name)
            case "set":
                return setattr(values[0], name, values[1])
            case "operation":
                return OPERATIONS[name](*values)
            case "next":
                return next(values[0])
        return None

    def exchange(self, data: bytes) -> bytes:
        """Gives the turn to the other side, until it gives it back."""
        raise NotImplementedError

    def answer(self, header: tuple[Any, ...], values: list[Any]) -> bytes:
        """Does what the other side asks for, and returns the message that tells the result."""
        raise NotImplementedError

    def thrown(self, error: Any) -> BaseException:
        """Returns the exception that a request ends with."""
        return error if isinstance(error, BaseException) else Malformed("it is no exception")

    # What proxies ask of a side.

    def may_have(self, proxy: Any, operands: tuple[Any, ...]) -> bool:
        """True if a proxy may hand over operands of which one may be what is expected."""
        return True

    def equality(self, proxy: Any, other: Any) -> bool:
        """True if the other side is to compare the two."""
        return True

    def called(self, proxy: Any, values: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Calls an object of the other side."""
        return self.request(("call", "", tuple(named)), [proxy, *values, *named.values()])

    def got(self, proxy: Any, name: str) -> Any:
        """Returns an attribute of an object of the other side."""
        return self.request(("get", name), [proxy])
