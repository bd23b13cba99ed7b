from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoprompt.datasets import Dataset, check_disjoint, load_dataset, starter_splits
from evoprompt.datasets.reader import read_tasks
from evoprompt.errors import DataError, UsageError

ORIGINAL = {
    "task_id": 602,
    "prompt": "Write a python function to find the first repeated character in a given string.",
    "code": "def first_repeated_char(str1):\n  for index,c in enumerate(str1):\n"
    "    if str1[:index+1].count(c) > 1:\n      return c",
    "test": ['assert first_repeated_char("abcabc") == "a"', 'assert first_repeated_char("abc") == None'],
}


def _write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text(json.dumps(rows))
    return path


def test_the_original_format(tmp_path: Path) -> None:
    (task,) = load_dataset(_write(tmp_path / "train.json", [ORIGINAL]))
    assert (task.task_id, task.entry_point) == ("602", "first_repeated_char")
    assert task.interface == "first_repeated_char(str1)"
    assert task.base == tuple(ORIGINAL["test"]) and task.plus == ()


def test_optional_fields_and_jsonl_with_a_byte_order_mark(tmp_path: Path) -> None:
    row = ORIGINAL | {
        "task_id": "x/1", "plus_test": ["assert f(0.1) == 0.1"], "entry_point": "f", "atol": 1e-6,
        "setup": "import math", "code": "def f(x): return x", "source_file": "kept out",
    }  # fmt: skip
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + (json.dumps(row) + "\n\n" + json.dumps(ORIGINAL) + "\n").encode())
    first, second = load_dataset(path)
    assert (first.task_id, first.entry_point, first.atol, first.setup) == ("x/1", "f", 1e-6, "import math")
    assert first.plus == ("assert f(0.1) == 0.1",)
    assert second.task_id == "602"


def test_the_entry_point_is_what_the_tests_call() -> None:
    row = ORIGINAL | {
        "code": "def helper(x): return x\ndef solve(x): return helper(x)\ndef unused(): pass",
        "test": ["assert solve(1) == 1", "assert solve(helper(2)) == 2"],
    }
    (task,) = read_tasks(json.dumps([row]).encode(), "x")
    assert task.entry_point == "solve"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": None}, "field 'prompt': must be text, not None"),
        ({"prompt": "  "}, "field 'prompt': must be text"),
        ({"task_id": True}, "field 'task_id': must be a number or a string, not True"),
        ({"task_id": 1.5}, "field 'task_id': must be a number or a string, not 1.5"),
        ({"test": []}, "field 'test': holds no assert"),
        ({"test": [1]}, "field 'test': must be a list of asserts as text, not [1]"),
        ({"test": ["assert f("]}, "field 'test', assert 1: "),
        ({"plus_test": "assert (", "code": "def f(): pass", "test": "assert f()"}, "field 'plus_test', assert 1: "),
        ({"code": "def f("}, "field 'code': not Python: "),
        ({"code": "def g(): pass"}, "field 'entry_point': no test calls a function that 'code' defines; add it"),
        ({"code": ""}, "field 'entry_point': there is no 'code' to find it in; add it"),
        ({"test": ["first_repeated_char('aa') == 'a'"]}, "assert 1: tests nothing: begin it with `assert`"),
        ({"entry_point": "nothing"}, "field 'entry_point': 'code' does not define 'nothing'"),
        ({"atol": -1}, "field 'atol': must be a number ≥ 0, not -1"),
        ({"atol": float("nan")}, "field 'atol': must be a number ≥ 0, not nan"),
        ({"plus_tests": []}, "field 'plus_tests' is unknown; did you mean 'plus_test'?"),
    ],
)
def test_each_mistake_is_one_line_with_task_and_field(change: dict[str, object], said: str) -> None:
    with pytest.raises(DataError) as error:
        read_tasks(json.dumps([ORIGINAL | change]).encode(), "train.json")
    (line,) = error.value.problems
    task_id = change.get("task_id", 602)
    assert line.startswith(f"train.json: item 1, task {task_id!r}: ")
    assert said in line and "\n" not in line


def test_all_mistakes_are_told_at_once_and_nothing_is_loaded() -> None:
    rows: list[object] = [ORIGINAL, ORIGINAL, 7, {"task_id": 1}]
    with pytest.raises(DataError) as error:
        read_tasks(json.dumps(rows).encode(), "t")
    said = "\n".join(error.value.problems)
    assert "t: item 2, task 602: field 'task_id': the same id as item 1" in said
    assert "t: item 3: must be an object" in said
    assert "t: item 4, task 1: field 'prompt' is missing, field 'test' is missing" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "t: the file is empty; give tasks with `task_id`, `prompt` and `test`"),
        (b"[]", "t: holds no task"),
        (b'[{"task_id": 1,]', "t: line 1: not JSON"),
        (b'{"a": 1}', "must be a JSON array of tasks or JSONL, not one dict"),
        (b"3", "not one int"),
        (b"\xff\xfe", "t: not UTF-8 text (byte 0): save it as UTF-8, as with `iconv -f UTF-16 -t UTF-8"),
        (b'[{"task_id": "\xe9"}]', "t: not UTF-8 text (byte 14): save it as UTF-8, as with `iconv -f LATIN1"),
        (b'{"task_id": 1}\nnonsense\n', "t: line 2: not JSON"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_files_that_hold_no_tasks(content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=r"\w") as error:
        read_tasks(content, "t")
    assert said in str(error.value)


@given(st.binary(max_size=200) | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(
    lambda v: json.dumps(v).encode()
))  # fmt: skip
def test_no_content_raises_anything_but_a_data_error(content: bytes) -> None:
    with pytest.raises(DataError):
        read_tasks(content, "t")


def test_unknown_names_get_a_hint(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did you mean 'starter'"):
        load_dataset("startr")
    for name, known in (("mbpp+", "mbppplus"), ("HumanEval+", "humanevalplus"), ("mbpp_plus", "mbppplus")):
        with pytest.raises(DataError, match=f"did you mean '{known}'"):
            load_dataset(name)
    with pytest.raises(DataError, match="is a directory"):
        load_dataset(tmp_path)


def test_split_is_seeded_disjoint_and_refuses_too_much() -> None:
    data = load_dataset("starter")
    first, again, other = (data.split(train=20, dev=10, test=12, seed=s) for s in (1, 1, 2))
    assert [[e.task_id for e in part] for part in first] == [[e.task_id for e in part] for part in again]
    assert [e.task_id for e in first[0]] != [e.task_id for e in other[0]]
    ids = [e.task_id for part in first for e in part]
    assert len(ids) == len(set(ids)) == 42
    with pytest.raises(UsageError, match="it has 72 tasks"):
        data.split(train=60, dev=10, test=3)


def test_examples_carry_nothing_of_the_answer() -> None:
    for task, example in zip(load_dataset("starter"), load_dataset("starter").examples(), strict=True):
        assert set(example.toDict()) == {"task_id", "prompt", "entry_point"}
        assert set(example.inputs().toDict()) == {"prompt", "entry_point"}
        assert example.labels().toDict() == {"task_id": task.task_id}


def test_a_shared_task_or_prompt_is_named() -> None:
    a = read_tasks(json.dumps([ORIGINAL]).encode(), "a")
    b = read_tasks(
        json.dumps([ORIGINAL | {"task_id": "other", "prompt": "  " + ORIGINAL["prompt"].upper()}]).encode(), "b"
    )
    with pytest.raises(DataError, match="task_id '602' is in train and in dev"):
        check_disjoint(train=Dataset(a), dev=Dataset(a))
    with pytest.raises(DataError, match="test task 'other' has the prompt of train task '602'"):
        check_disjoint(train=Dataset(a), test=Dataset(b))
    check_disjoint(**starter_splits())


def test_two_tasks_with_one_id_are_refused() -> None:
    (task,) = read_tasks(json.dumps([ORIGINAL]).encode(), "a")
    with pytest.raises(DataError, match="task_id '602' is used more than once"):
        Dataset([task, task])
