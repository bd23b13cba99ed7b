# ruff: noqa: E501
"""Files that people have: each shape loads as what it is, or is refused in a line that says what it is."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evoprompt.cli import run
from evoprompt.datasets import Dataset
from evoprompt.datasets.load import load_dataset
from evoprompt.datasets.reader import read_tasks
from evoprompt.datasets.shapes import ALIASES, MORE_TESTS, TESTS
from evoprompt.errors import DataError
from evoprompt.harness import Harness

CHECK = "\n\nMETADATA = {\n    'author': 'x'\n}\n\n\ndef check(candidate):\n    assert candidate(2) == 4\n    assert candidate(3) == 9\n"
HUMANEVAL = {
    "task_id": "HumanEval/900", "entry_point": "sq", "canonical_solution": "    return x * x\n",
    "prompt": 'from typing import List\n\n\ndef sq(x: int) -> int:\n    """ Square x. """\n', "test": CHECK,
}  # fmt: skip
WHOLE = "def sq(x):\r\n    return x * x"
MBPP = {"task_id": 7, "text": "Square a number.", "code": WHOLE, "test_list": ["assert sq(2) == 4"]}
HELPERS = "def assertion(out, exp, atol):\n    assert out == exp or abs(out - exp) <= atol\n\n\n"
LOOP = "inputs = [[2], [3]]\nresults = [4, 9]\nfor i, (inp, exp) in enumerate(zip(inputs, results)):\n    "

GOOD: dict[str, tuple[dict[str, Any], int, int]] = {
    "HumanEval": (HUMANEVAL, 2, 0),
    "HumanEval-ET": (HUMANEVAL | {"test_case_list": ["assert sq(4) == 16"]}, 2, 1),
    "HumanEval+ as the hub has it": (
        HUMANEVAL | {"test": HELPERS + "def check(candidate):\n    " + LOOP.replace("\n", "\n    ") + "    assertion(candidate(*inp), exp, 0)\n"},
        1, 0,
    ),
    "a check with a loop": (HUMANEVAL | {"test": "def check(candidate):\n    for i in range(9):\n        assert candidate(i) == i * i\n"}, 1, 0),
    "CodeT's MBPP, whose entry point ends with a blank and is not the one that is tested": (
        HUMANEVAL | {
            "prompt": "def helper(x):\n    '''\n    Square x.\n    '''\n", "entry_point": "helper ",
            "canonical_solution": "    return x * x\ndef sq(x):\n    return helper(x)\n",
            "test": "def check(candidate):\n    assert sq(2) == 4\n    assert sq(3) == 9\n",
        },
        2, 0,
    ),
    "a solution that is named check": (
        HUMANEVAL | {
            "prompt": "", "text": '"""\nSquare x.\n"""', "entry_point": "check", "canonical_solution": "def check(x):\r\n    return x * x",
            "test": "def check(candidate):\n    assert check(2) == 4\n",
        },
        1, 0,
    ),
    "MBXP": (HUMANEVAL | {"task_id": "MBPP/1", "completion": HUMANEVAL["canonical_solution"], "language": "python"}, 2, 0),
    "MultiPL-E's Python, without a solution": (
        {"name": "mbpp_1_sq", "language": "py", "prompt": "def sq(x: int) -> int:\n    \"\"\"Square x.\"\"\"\n",
         "doctests": "transform", "stop_tokens": ["\ndef"],
         "tests": "def check(candidate):\n    assert candidate(2) == 4\n\ndef test_check():\n    check(sq)\n\ntest_check()\n"},
        1, 0,
    ),
    "HumanEvalPack": (
        HUMANEVAL | {
            "declaration": "def sq(x: int) -> int:\n", "buggy_solution": "    return x + x\n", "bug_type": "operator misuse",
            "test": "def check(sq):\n    assert sq(2) == 4\n    assert sq(3) == 9\n\ncheck(sq)", "import": "", "test_setup": "",
        },
        2, 0,
    ),
    "a prompt that ends in blanks": (
        HUMANEVAL | {"prompt": "def sq(x):\n    ", "canonical_solution": "    y = x * x\n    return y\n"}, 2, 0,
    ),
    "BigCodeBench": (
        {"task_id": "BigCodeBench/0", "complete_prompt": "import math\ndef sq(x):\n    \"\"\"Square x.\"\"\"\n", "instruct_prompt": "Square x.",
         "code_prompt": "import math\ndef sq(x):\n", "canonical_solution": "    return int(math.pow(x, 2))", "entry_point": "sq",
         "test": "import unittest\nclass TestCases(unittest.TestCase):\n    def test_case_1(self):\n        self.assertEqual(sq(2), 4)\n"
                 "    def test_case_2(self):\n        self.assertTrue(sq(3) > 8)\n"},
        2, 0,
    ),
    "LeetCode": (
        {"task_id": "sq", "prompt": "import math\n\n", "entry_point": "Solution().sq", "problem_description": "Square x.",
         "starter_code": "class Solution:\n    def sq(self, x: int) -> int:\n        ", "input_output": [{"input": "x = 2", "output": "4"}],
         "completion": "class Solution:\n    def sq(self, x: int) -> int:\n        return int(math.pow(x, 2))\n",
         "test": "def check(candidate):\n    assert candidate(x = 2) == 4\n    assert candidate(x = 3) == 9\n"},
        2, 0,
    ),
    "a prompt of one word": (
        {"name": "sq", "prompt": "square", "canonical_solution": "def sq(x):\n    return x * x", "tests": ["assert sq(2) == 4"],
         "entry_point": "sq"}, 1, 0,
    ),
    "MBPP": (MBPP | {"challenge_test_list": ["assert sq(3) == 9"]}, 1, 1),
    "MBPP-ET": (MBPP | {"test_case_list": ["assert sq(3) == 9", "assert sq(0) == 0"]}, 1, 2),
    "MBPP+ as the hub has it": (MBPP | {"test_imports": [], "test": HELPERS + LOOP + "assertion(sq(*inp), exp, 0)\n"}, 1, 1),
    "MBPP with plus tests and a setup": (
        MBPP | {"plus_test": ["assert sq(N) == 9"], "setup": "N = 3", "test_imports": ["import math"]}, 1, 1,
    ),
    "lists written into one cell": (MBPP | {"test_list": "['assert sq(2) == 4'\n \"assert sq(3) == 9\"]"}, 2, 0),
    "pytest functions": (
        MBPP | {"test_list": "from solution import sq\nimport pytest\n\ndef test_two():\n    assert sq(2) == 4\n\n"
                "@pytest.mark.parametrize('x, y', [(1, 1), (3, 9)])\ndef test_more(x, y):\n    assert sq(x) == y\n"},
        2, 0,
    ),
    "a class of pytest": (MBPP | {"test_list": ["class TestSq:\n    def test_two(self):\n        y = sq(2)\n        assert y == 4\n"]}, 1, 0),
    "unittest": (
        MBPP | {"test_list": ["import unittest\n\nclass TestSq(unittest.TestCase):\n    def setUp(self):\n        self.two = 2\n"
                "    def test_two(self):\n        self.assertEqual(sq(self.two), 4)\n    def test_three(self):\n"
                "        self.assertEqual(sq(3), 9)\n\nif __name__ == '__main__':\n    unittest.main()\n"]},
        2, 0,
    ),
    "pytest.raises": (
        MBPP | {"test_list": ["import contextlib\ndef raises(kind):\n    return contextlib.suppress(kind)\n"
                              "with raises(TypeError):\n    x = sq(None)\nassert sq(2) == 4"]}, 1, 0,
    ),
    "a main guard": (MBPP | {"test_list": ["if __name__ == \"__main__\":\n    assert sq(2) == 4\n"]}, 1, 0),
    "names that one test sets for the next": (
        MBPP | {"test_list": ["x = 2", "y = sq(x)", "assert y == 4", "assert sq(y) == 16"]}, 2, 0,
    ),
    "a function that tests never call by its name": (
        MBPP | {"code": "def sq(x):\n    return x * x", "test_list": ["assert list(map(sq, [2, 3])) == [4, 9]"]}, 1, 0,
    ),
    "an expected exception": (
        MBPP | {"test_list": ["try:\n    sq(None)\n    assert False\nexcept TypeError:\n    assert sq(2) == 4\n"]}, 1, 0,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def harness() -> Iterator[Harness]:
    with Harness() as one:
        yield one


def _read(*rows: Any, **options: Any) -> Dataset:
    return read_tasks("".join(json.dumps(row) + "\n" for row in rows).encode(), "f", **options)


@pytest.mark.parametrize("name", GOOD)
def test_a_published_shape_is_read_as_what_it_is(name: str, harness: Harness) -> None:
    row, base, plus = GOOD[name]
    (task,) = _read(row)
    assert (len(task.base), len(task.plus)) == (base, plus)
    root = task.entry_point
    right = task.code or "def sq(x):\n    return x * x"
    report = harness.check(task, right)
    assert report.passed, report.failures
    wrong = right.replace("x * x", "x + x + 1").replace("math.pow(x, 2)", "x")
    report = harness.check(task, wrong)
    assert report.base is not None and report.base.status != "passed"
    assert root in task.interface and task.prompt.strip()


def test_inputs_of_evoeval(harness: Harness) -> None:
    row = {k: v for k, v in HUMANEVAL.items() if k != "test"} | {
        "task_id": "EvoEval/0",
        "inputs": "[[2], [3]]",
        "parent": "x",
    }
    (task,) = _read(row)
    assert task.count("base") == 2 and harness.check(task, task.code).passed
    assert not harness.check(task, "def sq(x):\n    return 4").passed
    with pytest.raises(DataError, match="field 'inputs': must be a list of inputs as a Python literal"):
        _read(row | {"inputs": "[["})


def test_imports_of_a_prompt_are_the_solutions_own_to_make(harness: Harness) -> None:
    row = HUMANEVAL | {"prompt": 'import math\n\n\ndef sq(x):\n    """ Square x. """\n'}
    (task,) = _read(row)
    assert task.setup == "" and harness.check(task, task.code).passed
    assert not harness.check(task, "def sq(x):\n    return int(math.pow(x, 2))").passed


def test_helpers_that_a_prompt_has_before_its_function_are_there_for_every_solution(harness: Harness) -> None:
    row = HUMANEVAL | {
        "prompt": 'import math\n\n\ndef half(x):\n    return x / 2\n\n\ndef sq(x):\n    """ Square x. """\n',
        "test": "def check(candidate):\n    assert half(candidate(2)) == 2\n",
    }
    (task,) = _read(row)
    assert task.setup == "import math\n\n\ndef half(x):\n    return x / 2" and task.test_setup == ""
    assert harness.check(task, "def sq(x):\n    return int(math.pow(x, 2))").passed


def test_asserts_of_a_check_keep_their_imports_and_helpers() -> None:
    test = "import math\n\ndef near(a, b):\n    return math.isclose(a, b)\n\ndef check(candidate):\n    assert near(candidate(2), 4)\n"
    (task,) = _read(HUMANEVAL | {"test": test + "    assert math.floor(candidate(3)) == 9, f'{candidate(3)}'\n"})
    assert task.base == ("assert near(sq(2), 4)", "import math\nassert math.floor(sq(3)) == 9, f'{sq(3)}'")
    assert task.test_setup == "import math\ndef near(a, b):\n    return math.isclose(a, b)"


@pytest.mark.parametrize(
    ("test", "wrong"),
    [
        ("def t(x, expected=4):\n    assert sq(x) == expected\nt(2)\n", "def sq(x):\n    return 5"),
        ("def t(x, *, expected=4):\n    assert sq(x) == expected\nt(2)\n", "def sq(x):\n    return 5"),
        ("def t(x, *more):\n    assert sq(x) == 4 + len(more)\nt(2)\n", "def sq(x):\n    return 5"),
        ("def t(x):\n    assert sq(x[0]) == 4\n    assert x == [2]\nt([2])\n", "def sq(x):\n    return x"),
        (
            "def t(g):\n    assert next(g) == 4\n    assert next(g) == 9\nt(map(sq, [2, 3]))\n",
            "def sq(x):\n    return 4",
        ),
    ],
)
def test_what_a_check_is_given_may_be_anything(test: str, wrong: str, harness: Harness) -> None:
    """A parameter with a default, or an argument that is not the same each time it is evaluated."""
    (task,) = _read(HUMANEVAL | {"test": [test, "assert sq(5) == 25"]})
    assert harness.check(task, task.code).passed
    assert not harness.check(task, wrong).passed


NOTHING = {
    "def check(candidate):\n    pass\n": "tests nothing: 'check' holds no assert",
    "def check(candidate):\n    print(candidate(2) == 4)\n": "tests nothing: it prints; begin it with `assert`",
    "def helper():\n    return sq(2) == 4\n": "tests nothing: it defines 'helper', and nothing calls that",
    "def check(a, b):\n    assert a == b\n": "tests nothing: it defines 'check', and nothing calls that",
    "def test_it():\n    print(sq(2))\n": "tests nothing: it prints; begin it with `assert`",
    "def test_it(tmp_path):\n    assert sq(2) == 4\n": "'test_it' needs the pytest fixture 'tmp_path'",
    "@given(1)\ndef test_it(x):\n    assert sq(2) == 4\n": "'test_it' is decorated with 'given(1)'",
    "async def test_it():\n    assert sq(2) == 4\n": "'test_it' is an async test of pytest",
    "assert (sq(2) == 4, 'msg')": "asserts a tuple, which is always true: drop the brackets",
    "assert sq(1) == 1\nassert (sq(2) == 4, 'msg')": "asserts a tuple, which is always true: drop the brackets",
    "print(sq(2) == 4)": "tests nothing: it prints; begin it with `assert`",
    "sq(2) == 4": "tests nothing: begin it with `assert`",
    "assert True, sq(2)": "asserts True, which is always true",
    "assert 'sq(2) == 4'": "asserts 'sq(2) == 4', which is always true",
    "try:\n    assert sq(2) == 4\nexcept AssertionError:\n    print('no')": "its `except` swallows what its asserts raise",
    "METADATA = {}": "tests nothing: begin it with `assert`",
    "x = sq(2)": "tests nothing: begin it with `assert`",
    "def test_it():\n    assert sq(1) == 1\n    if 1:\n        assert (sq(2) == 4, 'msg')\n": "asserts a tuple, which is always true",
    "def f():\n    f()\nf()": "tests nothing: 'f' holds no assert",
    "def f():\n    print(sq(2))\nf()": "tests nothing: it prints; begin it with `assert`",
}  # fmt: skip


@pytest.mark.parametrize("test", NOTHING)
def test_a_test_that_can_not_fail_is_refused_by_name(test: str) -> None:
    with pytest.raises(DataError) as error:
        _read(MBPP | {"test_list": [test]})
    (line,) = error.value.problems
    assert line.startswith("f: item 1, task 7: field 'test', assert 1: ") and NOTHING[test] in line and "\n" not in line


REFUSED = {
    "APPS": ({"problem_id": 1, "question": "Add.", "solutions": ["print(1)"], "input_output": '{"inputs": ["1\\n"]}'}, "reads stdin and writes stdout"),
    "CodeContests": ({"name": "x", "description": "Add.", "public_tests": {"input": ["1"]}, "solutions": {"solution": ["1"]}}, "reads stdin and writes stdout"),
    "xCodeEval": ({"src_uid": "a", "description": "Add.", "lang": "GNU C++17", "hidden_unit_tests": "[]x"}, "written in 'GNU C++17'"),
    "MultiPL-E": ({"name": "x", "language": "cpp", "prompt": "int f() {", "tests": "assert(f() == 1);"}, "written in 'cpp': only Python can be run"),
    "HumanEval-X": (HUMANEVAL | {"task_id": "Java/0"}, "written in 'Java': only Python can be run"),
    "infilling": (HUMANEVAL | {"suffix": "    return y\n"}, "a task to fill in the middle ('suffix')"),
    "ClassEval": ({"task_id": "ClassEval_0", "skeleton": "class A:", "test": "import unittest", "class_name": "A"}, "a class to complete (ClassEval)"),
    "verdicts": ({"task_id": "HumanEval/0", "completion": "return 1", "result": "passed", "passed": True}, "a verdict, not a task"),
    "MapCoder's APPS": ({"task_id": 1, "prompt": "Add.", "test_list": [{"input": "1\n", "output": ["1"]}]}, "reads stdin and writes stdout"),
    "samples with their prompts": ({"task_id": "HumanEval/0", "prompt": "def f():\n", "completion": "    return 1"}, "a solution, not a task"),
    "samples": ({"task_id": "HumanEval/0", "solution": "def f(): return 1"}, "give such a file to `evoprompt evaluate --samples`"),
    "an entry point that is none": (HUMANEVAL | {"entry_point": "sq it"}, "must be the name of a function, not 'sq it'"),
    "a solution that is no Python": (HUMANEVAL | {"canonical_solution": "    return ("}, "neither after the prompt nor alone is it Python"),
    "numbers as tests": (MBPP | {"test_list": [1]}, "field 'test': must be a list of asserts as text, not [1]"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_can_not_be_judged_is_refused_in_one_line(name: str) -> None:
    row, said = REFUSED[name]
    with pytest.raises(DataError) as error:
        read_tasks(gzip.compress("".join(json.dumps(row) + "\n" for _ in range(30)).encode()), "f")
    (line,) = error.value.problems
    assert said in line and line.startswith("f: line 1, ") and "and 29 more rows" in line and "\n" not in line


ROWS = [MBPP, MBPP | {"task_id": 8}]


def _csv(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


CONTAINERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "JSON lines": lambda rows: "\n".join(map(json.dumps, rows)).encode(),
    "an array": lambda rows: json.dumps(rows).encode(),
    "a pretty array": lambda rows: json.dumps(rows, indent=2).encode(),
    "pretty objects": lambda rows: "\n".join(json.dumps(r, indent=2) for r in rows).encode(),
    "splits": lambda rows: json.dumps({"train": rows[:1], "test": rows[1:]}).encode(),
    "one list beside other things": lambda rows: json.dumps({"version": 1, "data": rows}).encode(),
    "columns": lambda rows: json.dumps({k: [r[k] for r in rows] for k in rows[0]}).encode(),
    "columns by row": lambda rows: json.dumps({k: {str(i): r[k] for i, r in enumerate(rows)} for k in rows[0]}).encode(),
    "objects by id": lambda rows: json.dumps({str(r["task_id"]): {k: v for k, v in r.items() if k != "task_id"} for r in rows}).encode(),
    "the hub's server": lambda rows: json.dumps({"features": [], "rows": [{"row_idx": i, "row": r} for i, r in enumerate(rows)]}).encode(),
    "CSV": _csv,
    "CSV with semicolons": lambda rows: _csv(rows, ";"),
    "CSV of asserts": lambda rows: _csv([r | {"test_list": r["test_list"][0]} for r in rows]),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("compressed", [False, True])
def test_rows_are_found_in_files_of_every_shape(name: str, compressed: bool) -> None:
    content = CONTAINERS[name](ROWS)
    data = read_tasks(gzip.compress(content, mtime=0) if compressed else content, "f")
    assert [t.task_id for t in data] == ["7", "8"] and data.notices == ()
    assert all(t.base == ("assert sq(2) == 4",) and t.code == WHOLE.replace("\r", "") for t in data)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04zip", "f: compressed with zip: unpack it first"),
        (gzip.compress(b"x", mtime=0)[:-4], "f: the compressed file is cut short or damaged"),
        (b"# Notes\n\nSome text.", "f: line 1: not JSON: Expecting value (it begins with '# Notes')"),
        (b'[\n  {"task_id": 1,\n   "prompt": }\n]', "f: line 3: not JSON: Expecting value"),
        (
            b'{"date": "x", "hash": "y", "eval": {"Mbpp/2": [[1]]}}',
            "f: verdicts, not tasks: give the file with the problems",
        ),
        (
            b'{"question": "2 + 2?", "answer": "4"}',
            "f: item 1: field 'task_id' is missing, field 'test' is missing; it has 'question', 'answer'",
        ),
        (b'{"a": {"b": 1}}', "f: must be a JSON array of tasks or JSONL, not one dict with the keys 'a'"),
        (
            b"name,price\n1,2\n",
            "f: row 1, task '1': field 'prompt' is missing, field 'test' is missing; it has 'name', 'price'",
        ),
        (b"a\0b", "f: a binary file"),
    ],
)
def test_other_files_are_told_in_one_line(content: bytes, said: str) -> None:
    with pytest.raises(DataError) as error:
        read_tasks(content, "f")
    (line,) = error.value.problems
    assert said in line


@pytest.mark.parametrize("content", [b"nr,question,answer\n1,Add.,2\n", b"nr;question;answer\n1;Add.;2\n"])
def test_a_table_that_lacks_columns_is_told_which_and_what_it_has(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError) as error:
        load_dataset(tmp_path / "t.csv")
    said = "row 1: field 'task_id' is missing, field 'test' is missing; it has 'nr', 'question', 'answer'"
    assert said in error.value.problems[0]


def test_bad_rows_are_named_and_left_out_only_when_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in [*ROWS, MBPP | {"task_id": 9, "code": "def"}]) + '{"task_id')
    with pytest.raises(DataError) as error:
        load_dataset(path)
    assert [p.removeprefix(str(path)) for p in error.value.problems] == [
        ": line 3, task 9: field 'code': not Python: invalid syntax",
        ": line 4: not JSON: Unterminated string starting at; is the file cut short?",
        ": 2 of 4 rows are wrong: mend them, or leave them out with --skip_bad (Python: `skip_bad=True`)",
    ]
    data = load_dataset(path, skip_bad=True)
    assert [t.task_id for t in data] == ["7", "8"] and len(data.notices) == 2
    assert [r.getMessage() for r in caplog.records] == [f"{p} (left out)" for p in error.value.problems[:2]]


def test_fields_that_are_not_read_are_named_once_a_file(caplog: pytest.LogCaptureFixture) -> None:
    row = MBPP | {"bug_type": "x", "sample_io": ["assert sq(2) == 4"], "source_file": "y", "hints": []}
    data = _read(row, row | {"task_id": 8})
    assert data.notices == ("f: not read: 'bug_type', 'sample_io'",)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
OTHERS = {"language", "suffix", "base_input", "plus_input", "inputs", "test_imports", "declaration"}
NAMES = st.sampled_from(sorted({*TESTS, *MORE_TESTS, *OTHERS}.union(*ALIASES.values())))
PYTHON = st.sampled_from(
    [CHECK, WHOLE, "", "(", *NOTHING, "    return x", "sq", "Solution().sq", "def check(*a): a(1)"]
)
LIKELY = st.dictionaries(NAMES, JSON | PYTHON | st.lists(PYTHON, max_size=3), max_size=8)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.one_of(JSON, st.lists(LIKELY, max_size=3), LIKELY.map(lambda change: [MBPP | change, HUMANEVAL | change])))
def test_no_json_raises_anything_but_a_data_error(content: Any) -> None:
    for text in (json.dumps(content), "\n".join(map(json.dumps, content if isinstance(content, list) else [content]))):
        for skip_bad in (False, True):
            try:
                read_tasks(text.encode("utf-8", "surrogatepass"), "f", skip_bad=skip_bad)
            except DataError as e:
                assert e.problems and all("\n" not in p for p in e.problems)


def test_a_folder_of_mixed_files_is_told_in_a_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write: dict[str, Any] = {
        "a.jsonl.gz": gzip.compress(json.dumps(HUMANEVAL).encode()),
        "apps.json": json.dumps([REFUSED["APPS"][0]] * 3).encode(),
        "below/mbpp.csv": _csv(ROWS),
        "notes.md": b"# Notes",
        "s.jsonl": json.dumps(REFUSED["samples"][0]).encode(),
        "weak.json": json.dumps([MBPP, MBPP | {"task_id": 8, "test_list": ["sq(2)"]}]).encode(),
        "wrong.json": json.dumps([MBPP | {"test_list": ["assert sq(2) == 5", "assert sq(3) == 5"]}]).encode(),
    }
    (tmp_path / "below").mkdir()
    for name, content in write.items():
        (tmp_path / name).write_bytes(content)
    assert run(["datasets", "--check", str(tmp_path)]) == 2
    told = capsys.readouterr()
    lines = told.out.replace(f"{tmp_path}/", "").splitlines()
    assert told.err == "" and lines == [
        "a.jsonl.gz: 1 task, 2 tests; every canonical solution passes, and nonsense none",
        "apps.json: item 1, task 1, and 2 more rows: a program that reads stdin and writes stdout, with no asserts: "
        "only functions can be tested; give a set such as HumanEval or MBPP",
        "below/mbpp.csv: 2 tasks, 2 tests; every canonical solution passes, and nonsense none",
        "notes.md: line 1: not JSON: Expecting value (it begins with '# Notes')",
        "s.jsonl: item 1, task 'HumanEval/0': a solution, not a task, as it has no tests: give such a file to "
        "`evoprompt evaluate --samples`",
        "weak.json: 2 tasks, not all right: task 8: its tests pass a function that returns nonsense, so they test "
        "nothing; compare what it returns, as in `assert sq(1) == 2`",
        "wrong.json: 1 task, not all right: task '7': assert sq(2) == 5 returned 4, by its own canonical solution "
        "(and 1 more)",
        "2 of 7 files hold tasks that can be judged",
    ]


def test_bad_rows_may_be_left_out_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in [MBPP, MBPP | {"task_id": 8, "code": "def"}]))
    (tmp_path / "s.jsonl").write_text(json.dumps({"task_id": 7, "solution": WHOLE}))
    for words in (
        ["datasets", "--check", str(path)],
        ["evaluate", "--dataset", str(path), "--samples", str(tmp_path / "s.jsonl")],
        ["train", "--experiment_name", "e", "--run_name", "r", "--root_dir", str(tmp_path), "--model", "simulated",
         "--dataset_path", str(tmp_path), "--train_file", "f.jsonl", "--dry_run"],
    ):  # fmt: skip
        assert run(words) == 2
        assert "1 of 2 rows is wrong: mend it, or leave it out with --skip_bad" in capsys.readouterr().err
        assert run([*words, "--skip_bad"]) == 0
        told = capsys.readouterr()
        assert (told.out + told.err).count("line 2, task 8: field 'code': not Python: invalid syntax (left out)") == 1


BINARY_TREE = {
    "task_id": 367, "text": "Write a function to find the value at the root.", "challenge_test_list": [],
    "code": "class Node:\r\n  def __init__(self, v):\r\n    self.v = v\r\ndef root_value(root):\r\n  return root.v",
    "test_setup_code": "root = Node(7)", "test_list": ["assert root_value(root) == 7", "assert root_value(Node(8)) == 8"],
}  # fmt: skip


def test_the_known_set_mbpp_goes_on_after_bad_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = MBPP | {"task_id": 927, "setup": "raise ValueError('broken')"}
    rows = [BINARY_TREE, broken, *({**MBPP, "task_id": n} for n in range(2, 8))]
    library = types.ModuleType("datasets")
    library.load_dataset = lambda *_: {"train": rows}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", library)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: ["an address"])
    (tmp_path / "s.jsonl").write_text(
        "".join(json.dumps({"task_id": r["task_id"], "solution": r["code"]}) + "\n" for r in rows)
    )
    assert load_dataset("mbpp").by_id("367").test_setup == "root = Node(7)"
    run(["datasets", "--check", "mbpp"])
    told = capsys.readouterr()
    assert "927" in told.err and "mbpp: 8 tasks" in told.err + told.out
    run(["evaluate", "--dataset", "mbpp", "--samples", str(tmp_path / "s.jsonl")])
    assert "pass@1" in capsys.readouterr().out
