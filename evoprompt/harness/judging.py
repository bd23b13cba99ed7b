"""The tests of a suite as they run in the judge's process, where what the solution provides is a proxy.

Standard library only. The host hands over one test after the other, answers what is asked of the candidate, and keeps
the literals that asserts compare with. The names of the module that tests run in mean what they mean in Python.
"""

from __future__ import annotations

import builtins
import random
import sys
import types
from collections import deque
from typing import Any

from . import proxies
from .proxies import ProxyType, fill, inside, proxy_class
from .remote import Peer
from .texts import arguments_of, shown
from .wire import Malformed

TO_CANDIDATE, COMPARE, CLOSE, LITERAL, DONE = b">", b"=", b"~", b"#", b"."
"""First byte of what the judge's side sends: a message for the candidate, what the host is to do, or the end."""

_CALL = proxies.methods_of(type(lambda: None))
_SHOWN_CALLS = 3
_MISSING = object()
_PLAIN = frozenset(
    name for kind in (int, float, complex, str, bytes, list, tuple, set, frozenset, dict, range) for name in dir(kind)
) - frozenset(dir(object))
"""What is called on plain answers, and then runs here."""


_ADDRESSES = frozenset({"__array_interface__", "__array_struct__", "__cuda_array_interface__"})
"""What would tell numpy where in the memory of this process an array is."""


class Ended(BaseException):
    """The test can't go on: the candidate is gone, or what is needed may not be done in this session."""


class Judge(Peer):
    """The judge's side of a conversation with a candidate.

    Attributes:
        status: What has ended the test, if anything has: `deferred`, `refused`, `malformed`.
        marked: The verdict of the test rests on what the candidate says of its own objects.
        telling: Whether it may hand the candidate what may be expected: `never`, `always`, or `later`, which ends it.
        told: It did.
    """

    def __init__(self, server: Any, config: dict[str, Any]) -> None:
        super().__init__(server, 1)
        self.config = config
        self.space: dict[str, Any] = server.module
        self.last: dict[str, Any] = {}
        self.status = ""
        self.marked = self.told = False
        self.telling = "never"
        self.count = 0
        self.errors: dict[int, tuple[BaseException, int]] = {}
        self.calls: deque[list[str]] = deque(maxlen=_SHOWN_CALLS)
        self.made: dict[str, Any] = {}
        self.taken: set[str] = set()
        self.console = {"@input": builtins.input, "@print": builtins.print, "@stdin": sys.stdin}
        self.seeds()

    def start(self) -> None:
        """Makes the module that the tests run in."""
        for name, value in self.server.common.items():
            self.space.setdefault(name, value)
        self.space["__name__"] = "__main__"
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
        proxies.mark_made(made)
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
            return super().request(header, values)
        except Malformed:
            self.status = "malformed"
            raise Ended from None

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
                return (next(value),)
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

    def forget(self) -> None:
        """Drops what no test refers to any more."""
        self.forgotten += self.unused()

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

    # Proxies.

    def called(self, proxy: Any, values: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """A call, kept as a text too."""
        number, guarded, operands = inside(proxy, "_number"), inside(proxy, "_guarded"), (*values, *named.values())
        # A method that no class of the solution's has would be asked what is right.
        if guarded and operands and (guarded > 1 or not self.may_have(proxy, operands)):
            raise AttributeError(f"the object has no attribute {inside(proxy, '_name')!r}")
        told = [f"{inside(proxy, '_name') or 'it'}({arguments_of(values, named)})", ""]
        self.calls.append(told)
        result = super().called(proxy, values, named)
        told[1] = shown(result)
        if isinstance(type(result), ProxyType):
            if number in self.config["classes"]:
                proxies.mark_made(result)
            elif isinstance(number, str) and inside(result, "_made"):
                proxies.mark_made(result, False)
        return result

    def got(self, proxy: Any, name: str) -> Any:
        """An attribute; a method of what the test did not make is guarded."""
        if name in _ADDRESSES:
            raise AttributeError(f"the object has no attribute {name!r}")
        result = super().got(proxy, name)
        if not isinstance(type(result), ProxyType):
            return result
        if inside(proxy, "_made"):
            if isinstance(inside(proxy, "_number"), str) and not callable(result):
                self.marked = True  # a member of a class of the candidate's, for comparison
            proxies.rename(result, f"{inside(proxy, '_name')}.{name}")
            return result
        if not callable(result) or isinstance(inside(result, "_number"), str):
            return result
        method: Any = object.__new__(type(result))
        foreign = name in _PLAIN and name not in self.config["methods"] and not inside(proxy, "_kind")
        fill(method, self, inside(result, "_number"), name, inside(result, "_kind"), 2 if foreign else 1)
        return method

    def may_have(self, proxy: Any, operands: tuple[Any, ...]) -> bool:
        """Whether the candidate may have these operands of its object."""
        if inside(proxy, "_made") or all(isinstance(type(o), ProxyType) for o in operands):
            return True
        return self.may_tell()

    def may_tell(self) -> bool:
        """Whether the candidate may be told what may be expected; ends the test where that is to be found out."""
        if self.telling == "later":
            self.status = "deferred"
            raise Ended
        if self.telling == "always":
            self.marked = self.told = True
            return True
        return False

    def equality(self, proxy: Any, other: Any) -> bool:
        """Whether the candidate compares: two objects of its own, or where its class says what it equals."""
        if isinstance(type(other), ProxyType):
            self.marked = True
            return True
        return self.config["equalities"] and self.may_tell()

    # What stands for parts of asserts.

    def equal(self, value: Any, number: int) -> Any:
        """Whether a value equals a literal that the host holds; what is no plain data is compared here."""
        if type(value) not in self.classes and not isinstance(type(value), ProxyType):
            try:
                return self.host(COMPARE + number.to_bytes(4, "little") + self.encode(value))
            except (self.codec.Unencodable, RecursionError):
                pass
        return value == self.host(LITERAL + number.to_bytes(4, "little"))

    def close(self, value: Any, other: Any) -> Any:
        """Whether two values are equal, or close where a tolerance applies."""
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
