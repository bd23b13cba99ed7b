"""Messages between the two sides of a conversation: how one is written, and read. Standard library only.

A message is a header and values; a value is a leaf, or refers to a node by number: above 0 one of the table that both
sides keep, below 0 one of this message. A node is (number, kind, what tells more, items, references): an item at
position p that the references name is no leaf. Nothing of a message is believed: what does not fit raises `Malformed`,
or whatever else it leads to.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import Any

from . import contents
from .contents import BASES, FROZEN, KINDS, LEAVES, Malformed
from .encoding import bare

_PLAIN_DEPTH = 20
"""Most tuples within tuples that a message tells as one leaf."""
_LAST = frozenset({"dict", "OrderedDict", "Counter", "defaultdict", "set"})
"""Kinds that hash what they hold: filled when all other data is."""


class Writer:
    """Writes one message."""

    def __init__(self, peer: Any) -> None:
        self.peer = peer
        self.local: dict[int, int] = {}
        self.kept: list[Any] = []
        self.waiting: deque[tuple[int, str, Any, Any]] = deque()
        self.told: set[int] = set()
        self.nodes: list[tuple[Any, ...]] = []

    def pack(self, values: list[Any]) -> tuple[list[Any], list[int]]:
        """Returns leaves as they are, and for every other position its reference."""
        if LEAVES.issuperset(map(type, values)):
            return values, []
        items: list[Any] = []
        references: list[int] = []
        for position, value in enumerate(values):
            if type(value) in LEAVES or (type(value) is tuple and contents.is_plain(value, _PLAIN_DEPTH)):
                items.append(value)
            else:
                items.append(None)
                references += (position, self.reference(value))
        return items, references

    def reference(self, value: Any) -> int:
        """Returns the number of a value that is no leaf; its content is told later."""
        peer, key = self.peer, id(value)
        number = peer.numbers.get(key) or self.local.get(key)
        if number is not None and (number < 0 or peer.objects[number] is value):
            if number in peer.agreed and number not in self.told:
                self.changed(number, value)
            return number
        kind, about, content = self.describe(value)
        data = kind in BASES or kind in ("object", "ndarray")
        if data or kind == "remote":
            number = peer.number(value, kind == "remote")
            if data:
                peer.agreed[number] = ()
        else:
            number = -len(self.local) - 1
            self.local[key] = number
            self.kept.append(value)
        self.told.add(number)
        self.waiting.append((number, kind, about, content))
        return number

    def changed(self, number: int, value: Any) -> None:
        """Tells shared data again if it has changed."""
        kind, about, content = self.describe(value)
        if not contents.same(content, self.peer.agreed[number]):
            self.told.add(number)
            self.waiting.append((number, kind, about, content))

    def finish(self) -> list[tuple[Any, ...]]:
        """Returns the nodes: of the values, of what they hold, and of all shared data that has changed."""
        for number in list(self.peer.agreed):
            if number not in self.told and number in self.peer.objects:
                self.changed(number, self.peer.objects[number])
        while self.waiting:
            number, kind, about, content = self.waiting.popleft()
            if number in self.peer.agreed:
                self.peer.agreed[number] = content
            self.nodes.append((number, kind, about, *self.pack(list(content))))
        return self.nodes

    def describe(self, value: Any) -> tuple[str, Any, list[Any]]:
        """Returns the kind of a value that is no leaf, what tells more, and what it holds."""
        peer, kind = self.peer, type(value)
        if kind in KINDS:
            return contents.content_of(KINDS[kind], value)
        if kind is tuple or kind is frozenset:
            return kind.__name__, "", list(value)
        if (found := peer.foreign(value)) is not None:
            return found[0], found[1], []
        if (name := peer.setup_name(value)) is not None:
            return "setup", name, []
        if kind in peer.classes:
            return self.instance(value, peer.classes[kind])
        if isinstance(value, BaseException):
            return self.exception(value)
        if peer.extended(kind) is not None:
            return "remote", peer.about(value), []
        if (standard := self.standard(value, kind)) is not None:
            return standard
        for base in KINDS:
            if issubclass(kind, base):
                return contents.content_of(KINDS[base], value)
        if issubclass(kind, tuple) and (structure := contents.structure_of(value)) is not None:
            return structure
        if issubclass(kind, FROZEN):  # also of a class that only this side has: its methods are not asked
            return "plain", contents.named_of(kind) if issubclass(kind, tuple) else "", [bare(value, kind)]
        return "remote", peer.about(value), []

    def standard(self, value: Any, kind: type) -> tuple[str, Any, list[Any]] | None:
        """Describes an object of a type of the standard library's, or numpy's."""
        try:
            data = self.peer.server.take(value, kind)
        except Exception:  # of a class of the solution's, which may raise whatever it likes
            return None
        if data is None:
            return None
        return "ndarray" if kind.__name__ == "ndarray" else "standard", "", [data]

    def instance(self, value: Any, name: str) -> tuple[str, Any, list[Any]]:
        """Describes an object of a class that both sides have: its fields, and what it holds as a list or dict."""
        if isinstance(value, enum.Enum):
            return "enum", name, [value.name]
        if isinstance(value, BaseException):
            return self.exception(value)
        if isinstance(value, FROZEN):
            plain = bare(value, type(value))
            return "frozen", (name, type(plain).__name__), [plain]
        fields = contents.fields_of(value)
        flat = [part for pair in fields.items() for part in pair]
        for kind, base in BASES.items():
            if isinstance(value, base):
                return "object", (name, kind, len(fields)), flat + contents.content_of(kind, value)[2]
        return "object", (name, "", len(fields)), flat

    def exception(self, value: BaseException) -> tuple[str, Any, list[Any]]:
        """Describes an exception: its classes from the first to the last by name, its arguments and fields."""
        names: list[tuple[str, str]] = []
        for kind in type.__dict__["__mro__"].__get__(type(value)):
            if kind in self.peer.classes:
                names.append(("setup", self.peer.classes[kind]))
            elif (found := self.peer.foreign(kind)) is not None:
                names.append((found[0], str(found[1])))
            else:
                module, name = (type.__dict__[n].__get__(kind) for n in ("__module__", "__qualname__"))
                names.append((str(module), str(name)))
        arguments = BaseException.args.__get__(value)  # type: ignore[attr-defined]
        fields = {k: v for k, v in contents.fields_of(value).items() if isinstance(k, str) and not k.startswith("_")}
        if (cause := _cause(value)) is not None:
            fields["__cause__"] = cause
        return "exception", names, [len(arguments), *arguments, *(part for pair in fields.items() for part in pair)]


def _cause(value: BaseException) -> BaseException | None:
    """Returns what an exception was raised from, unless that leads back to it."""
    read = BaseException.__dict__["__cause__"].__get__
    seen = [value]
    while (cause := read(seen[-1])) is not None:
        if any(cause is one for one in seen):
            return None
        seen.append(cause)
    return seen[1] if len(seen) > 1 else None


class Reader:
    """Reads one message."""

    def __init__(self, peer: Any, nodes: list[Any]) -> None:
        self.peer = peer
        self.built: dict[int, Any] = {}
        self.local: dict[int, tuple[Any, ...]] = {}
        self.data: list[tuple[Any, ...]] = []
        for node in nodes:
            match node:
                case (int(number), str(), _, list(), list()) if number < 0:
                    self.local[number] = node
                case (int(), str(), _, list(), list()):
                    self.data.append(node)
                case _:
                    raise Malformed("it is no node")

    def run(self, items: list[Any], references: list[int]) -> list[Any]:
        """Returns the values. All data of the message is made first, then filled."""
        for number, kind, about, _, _ in self.data:
            if number not in self.peer.objects:
                self.make(number, kind, about)
        for node in sorted(self.data, key=lambda n: n[1] in _LAST or (n[1] == "object" and n[2][1] in _LAST)):
            self.fill(*node)
        return self.unpack(items, references)

    def unpack(self, items: list[Any], references: list[int]) -> list[Any]:
        """Returns items with what they refer to in its place."""
        found = list(items)
        for position, number in zip(references[::2], references[1::2], strict=True):
            found[position] = self.resolve(number)
        return found

    def resolve(self, number: int) -> Any:
        """Returns what a number refers to."""
        if number > 0:
            if number not in self.peer.objects:
                raise Malformed("no such number")
            return self.peer.reached(self.peer.objects[number])
        if number not in self.built:
            self.built[number] = self.build(*self.local.pop(number))
        return self.built[number]

    def make(self, number: int, kind: str, about: Any) -> None:
        """Registers a new object, still empty."""
        peer = self.peer
        if number % 2 == peer.next % 2:
            raise Malformed("no number of its own")
        value: Any
        if kind == "remote":
            value = peer.proxy(number, about)
        elif kind == "object":
            value = contents.shell(self.named(about[0]), about[1])
        elif kind == "ndarray":
            value = peer.server.real(next(n for n in self.data if n[0] == number)[3][0])
            if type(value).__name__ != "ndarray":
                raise Malformed("it is no array")
        else:
            value = deque(maxlen=about) if kind == "deque" else BASES[kind]()
        peer.objects[number] = value
        peer.numbers[id(value)] = number
        if kind != "remote":
            peer.agreed[number] = ()

    def fill(self, number: int, kind: str, about: Any, items: list[Any], references: list[int]) -> None:
        """Gives an object the content that a node tells."""
        if kind == "remote":
            return
        value, held = self.peer.objects[number], self.unpack(items, references)
        content = held
        if number not in self.peer.agreed:
            raise Malformed("it is no data")
        if kind == "object":
            name, kind, count = about
            if type(value) is not self.named(name):
                raise Malformed("it is of another class")
            fields = (self.peer.reached(field, True) for field in held[1 : 2 * count : 2])
            contents.set_fields(value, dict(zip(held[: 2 * count : 2], fields, strict=True)))
            held = held[2 * count :]
        elif kind == "ndarray":
            value[...] = self.peer.server.real(held[0])
            held = []
        if kind in BASES:
            if not isinstance(value, BASES[kind]):
                raise Malformed("it is of another kind")
            contents.refill(kind, value, held)
        self.peer.agreed[number] = content

    def named(self, name: str) -> Any:
        """Returns a class of the setup."""
        found = self.peer.setup.get(name)
        if not isinstance(found, type):
            raise Malformed("no such class")
        return found

    def build(self, number: int, kind: str, about: Any, items: list[Any], references: list[int]) -> Any:
        """Makes a value that can't be changed."""
        held = self.unpack(items, references)
        match kind:
            case "tuple" | "frozenset":
                return tuple(held) if kind == "tuple" else frozenset(held)
            case "plain" if about:
                return tuple.__new__(self.peer.tuple_of(*about), held[0])
            case "plain":
                return held[0]
            case "structure":
                made = contents.structure_class(*about)
                if made is None:
                    raise Malformed("no such class")
                return made(*held)
            case "setup":
                return self.peer.setup[about]
            case "enum":
                found = self.named(about)
                if not issubclass(found, enum.Enum):
                    raise Malformed("it is of another kind")
                return found.__members__[held[0]]
            case "frozen":
                base: Any = next(b for b in FROZEN if b.__name__ == about[1])
                if not issubclass(self.named(about[0]), base) or issubclass(self.named(about[0]), enum.Enum):
                    raise Malformed("it is of another class")
                return base.__new__(self.named(about[0]), held[0])
            case "standard":
                return self.peer.server.real(held[0])
            case "exception":
                return self.exception(about, held)
        return self.peer.reached(self.peer.at(kind, about))

    def exception(self, names: list[tuple[str, str]], held: list[Any]) -> BaseException:
        """Makes an exception without running anything that the other side chose."""
        kind = self.exception_class(names)
        count = held[0]
        arguments, rest = held[1 : 1 + count], held[1 + count :]
        if kind.__module__ == "builtins" and not issubclass(kind, UnicodeError):
            value: BaseException = kind(*arguments)
        else:
            value = kind.__new__(kind, *arguments)
            value.args = tuple(arguments)
        told = dict(zip(rest[::2], rest[1::2], strict=True))
        if isinstance(cause := told.get("__cause__"), BaseException):
            value.__cause__ = cause
        fields = {k: v for k, v in told.items() if not k.startswith("_")}
        for name, field in fields.items():
            if not hasattr(type(value), name):
                value.__dict__[name] = field
        return value

    def exception_class(self, names: list[tuple[str, str]]) -> type[BaseException]:
        """Returns the nearest of its classes that is known here."""
        for position, (module, name) in enumerate(names):
            if module == "setup":
                found = self.peer.setup.get(name)
            elif module.startswith("@"):
                found = self.peer.at(module, name)
            else:  # by an exception of its own unittest ends a test that has not failed
                found = contents.standard_class(module, name) if module.partition(".")[0] != "unittest" else None
            if isinstance(found, type) and issubclass(found, BaseException):
                return found if not position else type(names[0][1], (found,), {"__module__": "solution"})
        raise Malformed("it is no exception")
