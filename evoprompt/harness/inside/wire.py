"""Values that the judge's process and the candidate's share. Standard library only.

Both sides have a table of what was exchanged: what can be changed (lists, dicts, objects of the setup's classes)
has a number and a copy on each side, and every message brings the copies up to date in place, so identity and
aliasing are as in one process. What only one side has is a number to the other, see `remote`.

A message is a header and values; a value is a leaf, or refers to a node by number: above 0 one of the table, below 0
one of this message. A node is (number, kind, what tells more, items, references): an item at position p that the
references name is no leaf. Nothing of a message is believed: what does not fit raises `Malformed`.
"""

from __future__ import annotations

import enum
import sys
from collections import deque, namedtuple
from collections.abc import Iterable
from typing import Any

from .reading import Reader
from .shapes import (
    BASES,
    FROZEN,
    KINDS,
    LEAVES,
    bare,
    content_of,
    fields_of,
    is_plain,
    named_of,
    same,
    structure_of,
)
from .shapes import Malformed as Malformed

_PLAIN_DEPTH = 20


def _entry() -> dict[int, object]:
    return {0: object()}


def _count(objects: dict[int, Any], key: int) -> int:
    return sys.getrefcount(objects[key])


_ALONE = _count(_entry(), 0)
"""What is counted where nothing but a table refers to an object."""


class Table:
    """What one side knows of what was exchanged."""

    def __init__(self, codec: Any, standard: Any, first: int, room: int) -> None:
        self.codec, self.standard, self.room = codec, standard, room
        self.next = first
        self.objects: dict[int, Any] = {}
        self.numbers: dict[int, int] = {}
        self.agreed: dict[int, Any] = {}  # number -> content of data when both sides knew the same
        self.exported: set[int] = set()
        self.setup: dict[str, Any] = {}  # classes and functions that both sides have by name
        self.named: dict[int, str] = {}
        self.classes: dict[type, str] = {}
        self.forgotten: list[int] = []
        self.tuples: dict[tuple[str, tuple[str, ...]], Any] = {}

    def knows(self, names: dict[str, Any]) -> None:
        """Takes what both sides have by name."""
        self.setup.update(names)
        self.named.update((id(v), n) for n, v in names.items())
        self.classes.update((v, n) for n, v in names.items() if isinstance(v, type))

    # What a side does in its own way.

    def foreign(self, value: Any) -> tuple[str, Any] | None:
        """Kind and name of what the other side has by that name."""
        return None

    def proxy(self, number: int, about: Any) -> Any:
        """What stands for an object that only the other side has."""
        raise Malformed("it is no handle")

    def at(self, kind: str, name: str) -> Any:
        """What the other side means by a name of this side."""
        raise Malformed("no such name")

    def tuple_of(self, name: str, fields: tuple[str, ...]) -> Any:
        """A class of tuples with names for their fields, as the other side has it."""
        if (name, fields) not in self.tuples:
            self.tuples[name, fields] = namedtuple(name, fields)  # it refuses what is no name
        return self.tuples[name, fields]

    def extended(self, kind: type) -> Any:
        """The type of data that a class of the solution's extends by methods; None for any other."""
        return None

    def about(self, value: Any) -> Any:
        """What the other side is told of an object that it will have a handle of."""
        return ""

    # Writing.

    def write(self, header: tuple[Any, ...], values: Iterable[Any], *, shared: bool = True) -> bytes:
        """A message with these values, and with all shared data that has changed."""
        writer = _Writer(self)
        items, references = writer.pack(list(values))
        if shared:
            writer.refresh()
        nodes = writer.finish()
        if shared:
            self.forget(writer.told)
        forgotten, self.forgotten = self.forgotten, []
        return self.encode((header, items, references, nodes, forgotten))

    def encode(self, value: Any) -> bytes:
        """Plain data as bytes."""
        data: bytes = self.standard.encode(value, self.room)
        return data

    def number(self, value: Any, exported: bool) -> int:
        """A new number for an object."""
        number = self.next
        self.next += 2
        self.objects[number] = value
        self.numbers[id(value)] = number
        if exported:
            self.exported.add(number)
        return number

    def forget(self, told: set[int]) -> None:
        """Drops the data that nothing here refers to any more and no message tells; the judge's side decides."""

    def drop(self, number: int) -> None:
        """Forgets an object."""
        if number in self.objects:
            self.numbers.pop(id(self.objects.pop(number)), None)
            self.agreed.pop(number, None)
            self.exported.discard(number)

    def unused(self, told: set[int]) -> list[int]:
        """Numbers of data that only the table refers to, and that has not changed."""
        found: list[int] = []
        for number in self.agreed.keys() - told:
            if number in self.objects and _count(self.objects, number) <= _ALONE:
                self.drop(number)
                found.append(number)
        return found

    # Reading.

    def read(self, data: bytes) -> tuple[tuple[Any, ...], list[Any]]:
        """Header and values of a message.

        Raises:
            Malformed: It is none.
        """
        try:
            message = self.codec.decode(data, max_bytes=1 << 62, max_cost=1 << 30)
            match message:
                case (tuple(header), list(items), list(references), list(nodes), list(forgotten)):
                    for number in forgotten:
                        self.drop(number)
                    return header, Reader(self, nodes).run(items, references)
        except Malformed:
            raise
        except Exception as e:  # whatever was sent does not fit
            raise Malformed(f"{type(e).__name__}: {e}") from e
        raise Malformed("it is no message")


class _Writer:
    """Makes one message."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.local: dict[int, int] = {}
        self.kept: list[Any] = []
        self.waiting: deque[tuple[int, str, Any, Any]] = deque()
        self.told: set[int] = set()
        self.nodes: list[tuple[Any, ...]] = []

    def pack(self, values: list[Any]) -> tuple[list[Any], list[int]]:
        """Leaves as they are, and for every other position its reference."""
        if LEAVES.issuperset(map(type, values)):
            return values, []
        items: list[Any] = []
        references: list[int] = []
        for position, value in enumerate(values):
            if type(value) in LEAVES or (type(value) is tuple and is_plain(value, _PLAIN_DEPTH)):
                items.append(value)
            else:
                items.append(None)
                references += (position, self.reference(value))
        return items, references

    def reference(self, value: Any) -> int:
        """The number of a value that is no leaf; what it holds is told later."""
        table, key = self.table, id(value)
        number = table.numbers.get(key) or self.local.get(key)
        if number is not None and (number < 0 or table.objects[number] is value):
            if number in table.agreed and number not in self.told:
                self.changed(number, value)
            return number
        kind, about, content = self.describe(value)
        data = kind in BASES or kind in ("object", "ndarray")
        if data or kind == "remote":
            number = table.number(value, kind == "remote")
            if data:
                table.agreed[number] = ()
        else:
            number = -len(self.local) - 1
            self.local[key] = number
            self.kept.append(value)
        self.told.add(number)
        self.waiting.append((number, kind, about, content))
        return number

    def changed(self, number: int, value: Any) -> None:
        kind, about, content = self.describe(value)
        if not same(content, self.table.agreed[number]):
            self.told.add(number)
            self.waiting.append((number, kind, about, content))

    def refresh(self) -> None:
        """Tells all shared data that has changed."""
        for number in list(self.table.agreed):
            if number not in self.told and number in self.table.objects:
                self.changed(number, self.table.objects[number])

    def finish(self) -> list[tuple[Any, ...]]:
        while self.waiting:
            number, kind, about, content = self.waiting.popleft()
            if number in self.table.agreed:
                self.table.agreed[number] = content
            self.nodes.append((number, kind, about, *self.pack(list(content))))
        return self.nodes

    def describe(self, value: Any) -> tuple[str, Any, list[Any]]:
        """Kind of a value that is no leaf, what tells more, and what it holds."""
        table, kind = self.table, type(value)
        if kind in KINDS:
            return content_of(KINDS[kind], value)
        if kind is tuple or kind is frozenset:
            return kind.__name__, "", list(value)
        if (found := table.foreign(value)) is not None:
            return found[0], found[1], []
        if id(value) in table.named and table.setup[table.named[id(value)]] is value:
            return "setup", table.named[id(value)], []
        if kind in table.classes:
            return self.instance(value, table.classes[kind])
        if isinstance(value, BaseException):
            return _exception(table, value)
        if table.extended(kind) is not None:
            return "remote", table.about(value), []
        if (standard := self.standard(value, kind)) is not None:
            return standard
        for base, name in KINDS.items():
            if issubclass(kind, base):
                return content_of(name, value)
        if issubclass(kind, tuple) and (structure := structure_of(value)) is not None:
            return structure
        for base in FROZEN:  # also of a class that only this side has: its methods are not asked
            if issubclass(kind, base):
                return "plain", named_of(kind) if base is tuple else "", [bare(base, value)]
        return "remote", table.about(value), []

    def standard(self, value: Any, kind: type) -> tuple[str, Any, list[Any]] | None:
        try:
            data = self.table.standard.take(value, kind)
        except Exception:  # of a class of the candidate's, which may raise whatever it likes
            return None
        if data is None:
            return None
        return "ndarray" if kind.__name__ == "ndarray" else "standard", "", [data]

    def instance(self, value: Any, name: str) -> tuple[str, Any, list[Any]]:
        """An object of a class that both sides have: its fields, and what it holds as a list or dict."""
        if isinstance(value, enum.Enum):
            return "enum", name, [value.name]
        if isinstance(value, BaseException):
            return _exception(self.table, value)
        for base in FROZEN:
            if isinstance(value, base):
                return "frozen", (name, base.__name__), [bare(base, value)]
        fields = fields_of(value)
        flat = [part for pair in fields.items() for part in pair]
        for kind, base in BASES.items():
            if isinstance(value, base):
                return "object", (name, kind, len(fields)), flat + content_of(kind, value)[2]
        return "object", (name, "", len(fields)), flat


def _cause(value: BaseException) -> BaseException | None:
    """What an exception was raised from, unless that leads back to it."""
    read = BaseException.__dict__["__cause__"].__get__
    seen = [value]
    while (cause := read(seen[-1])) is not None:
        if any(cause is one for one in seen):
            return None
        seen.append(cause)
    return seen[1] if len(seen) > 1 else None


def _exception(table: Table, value: BaseException) -> tuple[str, Any, list[Any]]:
    """Its classes from the first to the last by name, its arguments and fields."""
    names: list[tuple[str, str]] = []
    for kind in type.__dict__["__mro__"].__get__(type(value)):
        if kind in table.classes:
            names.append(("setup", table.classes[kind]))
        elif (found := table.foreign(kind)) is not None:
            names.append((found[0], str(found[1])))
        else:
            module, name = type.__dict__["__module__"].__get__(kind), type.__dict__["__qualname__"].__get__(kind)
            names.append((str(module), str(name)))
    fields = fields_of(value)
    arguments = BaseException.args.__get__(value)  # type: ignore[attr-defined]
    fields = {k: v for k, v in fields.items() if isinstance(k, str) and not k.startswith("_")}
    if (cause := _cause(value)) is not None:
        fields["__cause__"] = cause
    return "exception", names, [len(arguments), *arguments, *(part for pair in fields.items() for part in pair)]
