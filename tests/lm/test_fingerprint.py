"""Another program or metric is told from the same one, whatever is changed of it; the same one is the same."""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dspy
import pytest

from evoprompt import EvoPrompt, Program
from evoprompt.errors import UsageError
from evoprompt.judges import ExampleJudge
from evoprompt.lm.identity import describe
from tests.evolve.moods import exact, examples, reply
from tests.lm.fingerprint_kinds import FILES, KINDS
from tests.models import scripted

STUDENT = '''
"""A module."""
import re
import dspy
from helpers import clean
import helpers

LIMIT = 3
LIMITS = {"a": {1, 2}, "b": re.compile("x+")}
SEEN = []
COUNT = 0

class Base(dspy.Module):
    """A base."""
    KINDS = ("x", "y")

    def tidy(self, text):
        return text.strip()

class Student(Base):
    """A student."""
    def __init__(self, hint="a"):
        super().__init__()
        self.tell = dspy.Predict("text -> label")
        self.hint, self.asked, self.weights = hint, 0, [0.5, 1]
        self.helper = dspy.ChainOfThought("text -> reason")
        self.helper._compiled = True

    def forward(self, text):
        """Tells."""
        self.asked += 1
        # a comment
        text = clean(self.tidy(text)) + self.hint
        found = [t for t in text.split() if len(t) > LIMIT and t not in LIMITS["a"]]
        return self.tell(text=" ".join(found))

def scale(value):
    return value * helpers.FACTOR

def metric(example, pred, trace=None):
    """A metric."""
    global COUNT
    COUNT += 1
    SEEN.append(pred)
    return scale(float(example.label == pred.label)) > LIMIT / 10
'''
HELPERS = """
FACTOR = 1.0
def clean(text):
    return text.lower()
"""
SHOW = """
import json, sys
from pathlib import Path
from tests.lm.test_fingerprint import told
print(json.dumps(told(Path(sys.argv[1])), sort_keys=True))
"""


def told(folder: Path, student: str = STUDENT, helpers: str = HELPERS) -> Any:
    """The identity of student and metric, which is the same after the metric was called."""
    (folder / "student.py").write_text(student)
    (folder / "helpers.py").write_text(helpers)
    names = ("helpers", "student")
    sys.path.insert(0, str(folder))
    try:
        importlib.invalidate_caches()
        _, module = (importlib.import_module(name) for name in names)
        found = _of(module)
        module.metric(dspy.Example(label=1), dspy.Example(label=1))
        assert _of(module) == found
        return found
    finally:
        sys.path.remove(str(folder))
        for name in names:
            sys.modules.pop(name, None)


def _of(module: Any) -> Any:
    return {"program": describe(module.Student()), "metric": ExampleJudge(module.metric).describe()}


SAME = {
    "docstrings": STUDENT.replace('"""A metric."""', '"""Another text."""').replace('"""Tells."""', ""),
    "no docstring of a class": STUDENT.replace('    """A base."""\n', ""),
    "comments": STUDENT.replace("# a comment", "# another comment, longer"),
    "moved": "import os\n\n\n\n" + STUDENT.replace("\n\nclass", "\n\n\n\n# here\nclass"),
    "what a metric itself changes": STUDENT.replace("SEEN = []", "SEEN = [1]").replace("COUNT = 0", "COUNT = 7"),
    "what neither reads": STUDENT + "\nOTHER = 5\n",
}  # fmt: skip
OTHER = {
    "Student.forward": STUDENT.replace('" ".join', '"  ".join'),
    "Base.tidy": STUDENT.replace("strip()", "lstrip()"),
    "Base.KINDS": STUDENT.replace('("x", "y")', '("x", "z")'),
    "self.hint": STUDENT.replace('hint="a"', 'hint="b"'),
    "self.weights": STUDENT.replace("[0.5, 1]", "[0.5, 2]"),
    "self.helper": STUDENT.replace("text -> reason", "text -> reasons"),
    "LIMIT": STUDENT.replace("LIMIT = 3", "LIMIT = 4"),
    "LIMITS": STUDENT.replace('"x+"', '"y+"'),
    "scale": STUDENT.replace("return value *", "return 2 * value *"),
    "metric": STUDENT.replace("/ 10", "/ 11"),
}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return told(tmp_path_factory.mktemp("first"))


def changed(old: Any, new: Any) -> set[str]:
    codes = [(x["program"]["parts"], x["metric"]["parts"]) for x in (old, new)]
    return {k for a, b in zip(*codes, strict=True) for k in {*a, *b} if a.get(k) != b.get(k)}


@pytest.mark.parametrize("what", SAME)
def test_the_same_program_is_the_same(what: str, first: Any, tmp_path: Path) -> None:
    assert told(tmp_path, SAME[what]) == first


@pytest.mark.slow
def test_the_same_program_is_the_same_in_another_process(first: Any, tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": root}
    command = [sys.executable, "-c", SHOW, str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=env, cwd=root).stdout
    assert json.loads(found) == json.loads(json.dumps(first))


@pytest.mark.parametrize("what", OTHER)
def test_another_program_is_told_by_the_name_of_the_difference(what: str, first: Any, tmp_path: Path) -> None:
    found = changed(first, told(tmp_path, OTHER[what]))
    assert any(name == what or name.startswith((f"{what}.", f"{what}(")) for name in found)


@pytest.mark.parametrize(("old", "new", "name"), [("= 1.0", "= 2.0", "FACTOR"), ("lower", "upper", "clean")])
def test_modules_of_ones_own_count(old: str, new: str, name: str, first: Any, tmp_path: Path) -> None:
    assert changed(first, told(tmp_path, helpers=HELPERS.replace(old, new))) == {name}


def test_a_secret_that_a_program_reads_is_not_told(first: Any, tmp_path: Path) -> None:
    student = STUDENT.replace("self.hint\n", "self.hint + KEY\n") + '\nKEY = "sk-secret-secret"\n'
    found = told(tmp_path, student)
    assert "KEY" in changed(first, found) and "secret" not in repr(found)


class Hinted(dspy.Module):
    def __init__(self, hint: str) -> None:
        super().__init__()
        self.tell = dspy.Predict("text -> label")
        self.hint = hint

    def forward(self, text: str) -> Any:
        return self.tell(text=f"{text} {self.hint}")


def test_a_run_is_refused_to_another_student_and_metric(tmp_path: Path) -> None:
    def strict(share: float) -> Any:
        return lambda example, pred, trace=None: float(exact(example, pred)) * share

    lm, engine = scripted(reply)

    def compile(student: dspy.Module, metric: Any) -> None:
        search = EvoPrompt(metric, strategy="refine", batch_size=3, num_threads=2, run_dir=tmp_path)
        search.compile(student, trainset=examples())

    with dspy.context(lm=lm):
        compile(Hinted("a"), strict(0.5))
        asked = len(engine.seen)
        with pytest.raises(UsageError, match=r"student\.parts\.self\.hint was .*--fork \(Python: journal\.fork\)"):
            compile(Hinted("b"), strict(0.5))
        with pytest.raises(UsageError, match=r"metric\.parts\.share was 0\.5, is 0\.25"):
            compile(Hinted("a"), strict(0.25))
        compile(Hinted("a"), strict(0.5))
        assert len(engine.seen) == asked


def test_what_only_libraries_have_a_part_in_has_no_code() -> None:
    assert "code" not in describe(dspy.Predict("a -> b")) and "code" not in describe(Program())


def test_other_forms_of_a_metric() -> None:
    class Judge:
        def __init__(self, share: float) -> None:
            self.share, self.seen = share, dict[str, int]()

        def __call__(self, example: Any, pred: Any) -> float:
            self.seen[str(pred)] = self.seen.get(str(pred), 0) + 1
            return self.share

        def method(self, example: Any, pred: Any) -> float:
            return self.share

    def with_share(share: float, example: Any, pred: Any) -> float:
        return share

    makers: list[Any] = [Judge, lambda s: Judge(s).method, lambda s: functools.partial(with_share, s)]
    for make in makers:
        one, same, other = (ExampleJudge(make(s)).describe() for s in (0.5, 0.5, 0.25))
        assert one == same != other
    judge = Judge(0.5)
    before = ExampleJudge(judge).describe()
    judge(1, 2)
    assert ExampleJudge(judge).describe() == before


DIFFERENT = [
    "slot", "field default", "field factory", "slots of a dataclass", "item of a list of its own",
    "attribute of a list", "item of a dict of its own", "attribute of a dict",
    "attribute of a set", "member of a metaclass", "descriptor",
    "value of a member", "method of an enum", "name of globals", "get of globals", "default factory",
    "function in a namespace", "template $a", "end of a pattern", "argument of a partial",
    "chosen function", "other function", "constant of a helper", "default", "keyword default",
    "argument of a decorator", "decorated function", "class of a decorator", "function in a decorator's class",
    "state of a decorator's class", "cached function", "closure in a closure", "dispatch", "registered",
    "attribute of a function", "inherited attribute", "inherited method", "lambda in a dict", "second lambda",
    "lambda of an attribute", "state", "word", "bound method", "cached property", "argument of a partialmethod",
    "dispatch of a method", "registered of a method", "getter", "setter", "deleter", "cached method", "static method",
    "class method", "lambda within", "literal name",
    "constant imported within", "what it reads", "function imported", "class imported", "package", "relative import",
    "import as", "module from a package",
]  # fmt: skip
REPLACED = {
    "another member": ("CHOSEN = Color.RED", "CHOSEN = Color.BLUE"),
    "another function by the same name": ("PICKED = first", "PICKED = second"),
    "another bound method": ("self.run = self._late", "self.run = self.told"),
    "another base": ("class Student(Base)", "class Student(dspy.Module)"),
    "lambdas swapped": ('"b": lambda: "lambda in a dict", "a"', '"a": lambda: "lambda in a dict", "b"'),
    "a name deleted": ('DEEP = "constant of a helper"', ""),
    "a name added": ("DEEP =", "def print(x): return x\nDEEP ="),
    "a registration added": ("def styled", "@dispatched.register\ndef _(x: str): return 1\ndef styled"),
    "an attribute added": ("self.call =", "self.new = 1; self.call ="),
    "a class attribute added": ("    described =", "    more = 1\n    described ="),
    "another function of a library": ("READ = operator.add", "READ = operator.mul"),
}


def swapped(one: str, other: str) -> tuple[str, str]:
    return f"{one}\n{other}", f"{other}\n{one}"


EQUAL = {
    "a comment": ("def deeper", "# here\n\n\ndef deeper"),
    "a docstring of a decorated function": ("A docstring of", "Another docstring of"),
    "a docstring": ("def deeper(): return DEEP", 'def deeper():\n    """Deep."""\n    return DEEP'),
    "order of attributes": ("SPACE.one, SPACE.two = 1, 2", "SPACE.two, SPACE.one = 2, 1"),
    "order of functions": swapped('def first(): return "chosen function"', 'def second(): return "other function"'),
    "order of methods": swapped(
        '    @staticmethod\n    def static(): return "static method"',
        '    @classmethod\n    def made(cls): return "class method"',
    ),
    "order of a set": ('{"b", "a", "c"}', '{"c", "b", "a"}'),
    "a name that is not read": ("never read", "changed"),
    "a name of another module that is not read": ("not read of a module", "changed"),
    "a count": ("HOLDER = types.SimpleNamespace(count=0)", "HOLDER = types.SimpleNamespace(count=9)"),
    "a count of a class": ("total = 0", "total = 9"),
    "what an object itself changes": ("COUNTER = Counter()", "COUNTER = Counter()\nCOUNTER.up()\nCOUNTER.up()"),
    "a list under another name": ("LOG = []", "LOG = [9]"),
}  # fmt: skip
OTHER_PROCESS = """
import json, sys
from pathlib import Path
from tests.lm.test_fingerprint import parts_of
print(json.dumps(parts_of(Path(sys.argv[1])), sort_keys=True))
"""


def parts_of(folder: Path, old: str = "", new: str = "") -> Any:
    """The identity of a student of many kinds of state and code, where a text is another one."""
    names = ["student", *(name[:-3].replace("/", ".").replace(".__init__", "") for name in FILES)]
    for name, text in {"student.py": KINDS, **FILES}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text.replace(old, new) if old else text)
    sys.path.insert(0, str(folder))
    try:
        importlib.invalidate_caches()
        student = importlib.import_module("student").Student()
        found = describe(student)
        assert student.hint and describe(student) == found == describe(student.deepcopy())  # a cached property is none
        return found["parts"]
    finally:
        sys.path.remove(str(folder))
        for name in names:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return parts_of(tmp_path_factory.mktemp("kinds"))


@pytest.mark.slow
@pytest.mark.parametrize("what", DIFFERENT)
def test_each_kind_of_code_and_state_counts(what: str, kinds: Any, tmp_path: Path) -> None:
    assert parts_of(tmp_path, f'"{what}"', '"changed $a"') != kinds


@pytest.mark.parametrize("what", REPLACED)
def test_another_choice_counts(what: str, kinds: Any, tmp_path: Path) -> None:
    assert REPLACED[what][0] in KINDS and parts_of(tmp_path, *REPLACED[what]) != kinds


@pytest.mark.parametrize("what", EQUAL)
def test_what_decides_about_nothing_does_not_count(what: str, kinds: Any, tmp_path: Path) -> None:
    assert any(EQUAL[what][0] in text for text in (KINDS, *FILES.values()))
    assert parts_of(tmp_path, *EQUAL[what]) == kinds


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["1", "2"])
def test_each_kind_is_the_same_in_another_process(seed: str, kinds: Any, tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root}
    command = [sys.executable, "-c", OTHER_PROCESS, str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=env, cwd=root).stdout
    assert json.loads(found) == json.loads(json.dumps(kinds))
