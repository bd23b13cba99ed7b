"""What can be made of the bytes that a candidate sends: nothing of them is code, and nothing opens or allocates."""

import enum
import importlib
import types

import pytest

from evoprompt.harness.inside.kinds import KINDS, rebuild
from evoprompt.harness.inside.names import MODULES, TYPES, path_of

DANGEROUS = """
builtins:super dataclasses:Field enum:DynamicClassAttribute enum:property enum:verify functools:cached_property
functools:partial functools:partialmethod functools:singledispatchmethod io:FileIO io:TextIOWrapper json:JSONDecoder
numpy:memmap numpy:vectorize operator:attrgetter operator:itemgetter operator:methodcaller queue:deque
random:SystemRandom re:Scanner string:Formatter string:Template types:CellType types:CodeType types:TracebackType
typing:ForwardRef typing:io
"""


def listed(path):
    module, _, name = path.partition(":")
    return name in TYPES.get(module, "").split()


def made(kind, content):
    try:
        return rebuild(kind, content)
    except Exception:
        return None


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_name_gives_or_calls_a_type_outside_a_closed_list(module):
    """Whatever goes by the name: as a name, as an exception, and as the owner of a member."""
    numpy = importlib.import_module("numpy")
    for path in (f"{module}:{n}" for n in dir(importlib.import_module(module)) if not n.startswith("_")):
        named = made("name", path)
        if isinstance(named, type):
            assert listed(path) or issubclass(named, BaseException | numpy.generic), path
        for arguments in ((), (1,), ("a",), ("a", 1), (b"a",), ([],), ({},), ("a", (), {}), ("f", "os", "x")):
            raised = made("exception", (path, arguments))
            assert raised is None or isinstance(raised, BaseException), path
        for name in ("mro", "__subclasses__", "__class__", "__init__", "fromkeys", "IGNORECASE", "SIGINT", "OK"):
            member = made("enum", (path, name, None))
            assert member is None or isinstance(member, enum.Enum), path


@pytest.mark.parametrize("path", DANGEROUS.split())
def test_what_runs_or_opens_what_it_is_given_does_not_go_by_name(path):
    for kind, content in (("name", path), ("exception", (path, ("a",))), ("enum", (path, "A", None))):
        with pytest.raises((ValueError, AttributeError)):
            rebuild(kind, content)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize(
    "content",
    [
        10**11, types.SimpleNamespace(keys=list, startswith=list), [list], (map, 1), ("<i8", (1 << 40,), 1 << 40),
        ("<U99999999", (99,), ["a"] * 99), ("builtins:map", (print, [1])), ("q", range(1 << 40)), ("B", list),
        (list, 0), {"__array_interface__": {"data": (0, False)}}, "os:system", b"a",
    ],
    ids=range(13),
)  # fmt: skip
def test_hostile_content_makes_nothing_that_is_large_or_runs(kind, content):
    """What is made of it, if anything, is small data."""
    found = made(kind, content)
    assert not callable(found) and not hasattr(found, "__next__")
    assert not hasattr(found, "nbytes") or found.nbytes < 1000
    assert not hasattr(found, "__array_interface__") or type(found).__module__ == "numpy"


def test_exceptions_take_no_arguments_but_data():
    for argument in (map, print, iter([1]), [[{"a": lambda: 1}]], types.SimpleNamespace()):
        with pytest.raises(ValueError, match="arguments"):
            rebuild("exception", ("builtins:ValueError", (argument,)))
    group = rebuild("exception", ("builtins:ExceptionGroup", ("a", [KeyError(1)])))
    assert isinstance(group, ExceptionGroup) and group.exceptions[0].args == (1,)


def test_what_is_listed_exists_somewhere():
    """A name that is misspelt would be let through nowhere."""
    lately = {
        "Buffer",
        "ByteString",
        "batched",
        "PatternError",
        "Day",
        "Month",
        "Any",
    }  # not in every version of Python
    for module, names in TYPES.items():
        for name in names.split():
            assert name in lately or isinstance(getattr(importlib.import_module(module), name), type), (module, name)
            assert f"{module}:{name}" not in DANGEROUS.split()


def test_what_is_listed_goes_by_name_wherever_this_python_defines_it():
    listed = ((importlib.import_module(module), name) for module, names in TYPES.items() for name in names.split())
    for value in (getattr(module, name) for module, name in listed if hasattr(module, name)):
        assert rebuild("name", path_of(value)) is value
