"""Files of samples in the shapes that people have."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from evoprompt.cli import run
from evoprompt.datasets import Dataset
from evoprompt.errors import DataError
from evoprompt.evaluate import chatty, read_samples
from evoprompt.evaluate.prelude import HUMANEVAL, with_prelude
from evoprompt.tasks import Task

WHOLE = "def sq(x):\n    return x * x"
BODY = "    return x * x\n"
PROMPT = 'from typing import List\n\n\ndef sq(x: int) -> int:\n    """Square x."""\n'
REPLY = f"Sure, here it is:\n\n```python\n{WHOLE}\n```\nThat's it."


def made(task_id: str, prompt: str = "Write a function sq that squares a number.") -> Task:
    return Task(task_id=task_id, prompt=prompt, code=WHOLE, entry_point="sq", base=("assert sq(3) == 9",))


MBPP = Dataset([made("Mbpp/2"), made("Mbpp/3")], "mbppplus")
BARE = Dataset([made("2"), made("3")], "my tasks.jsonl")
HUMAN = Dataset([made("HumanEval/0", PROMPT), made("HumanEval/1", PROMPT)], "HumanEval.jsonl.gz")


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = value if isinstance(value, str) else json.dumps(value)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def lines(*rows: Any) -> str:
    return "\n".join(map(json.dumps, rows)) + "\n"


ROWS: dict[str, dict[str, Any]] = {
    "EvalPlus": {"solution": WHOLE, "_identifier": "Mbpp/2 (line 1 in x.jsonl)"},
    "human-eval": {"completion": WHOLE},
    "human-eval, with its verdict": {"completion": WHOLE, "result": "passed", "passed": True},
    "MapCoder": {"source_codes": [WHOLE], "responses": ["…"], "test_list": ["assert sq(3) == 9"], "is_solved": True},
    "DeepSeek-Coder": {"prompt": "p", "test": "…", "output": REPLY, "generation": WHOLE},
    "McEval": {"prompt": "p", "test": "…", "canonical_solution": "", "raw_generation": [WHOLE]},
    "a list of generations": {"generations": [WHOLE]},
    "code": {"code": WHOLE},
    "response": {"response": WHOLE},
    "output": {"output": WHOLE},
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("form", ["s.jsonl", "s.jsonl.gz", "s.json", "indented.json", "s.json.gz"])
def test_rows(row: dict[str, Any], form: str, tmp_path: Path) -> None:
    rows = [{"task_id": "Mbpp/2", **row}, {"task_id": "Mbpp/3", **row}]
    value: Any = lines(*rows) if "jsonl" in form else json.dumps(rows, indent=2 if "indented" in form else None)
    samples, skipped = read_samples(write(tmp_path / form, value), MBPP)
    assert [(s.task_id, s.solution) for s in samples] == [("Mbpp/2", WHOLE), ("Mbpp/3", WHOLE)]
    assert not skipped


@pytest.mark.parametrize("given", ["Mbpp/2", "mbpp/2", "MBPP/2", "Mbpp_2", "mbpp_2_is_not_prime", "2", 2, 2.0])
@pytest.mark.parametrize("data", [MBPP, BARE], ids=["full", "bare"])
def test_ids_of_one_task(given: object, data: Dataset, tmp_path: Path) -> None:
    samples, _ = read_samples(write(tmp_path / "s.jsonl", lines({"task_id": given, "solution": "x"})), data)
    assert [s.task_id for s in samples] == [data[0].task_id]


@pytest.mark.parametrize(
    ("given", "data"),
    [
        ("HumanEval/2", BARE),
        ("HumanEval/2", MBPP),
        ("Mbpp/0", HUMAN),
        ("4", MBPP),
        ("mbpp_4_is_not_prime", MBPP),
        ("Mbpp/2/1", MBPP),
        (True, MBPP),
    ],
)
def test_ids_of_another_set_are_not_taken_for_ours(given: object, data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_samples(write(tmp_path / "s.jsonl", lines({"task_id": given, "solution": "x"})), data)
    assert len(caught.value.problems) == 1


def test_a_bare_number_of_two_sets_is_nobodys(tmp_path: Path) -> None:
    both = Dataset([made("Mbpp/2"), made("HumanEval/2")])
    path = write(tmp_path / "s.jsonl", lines({"task_id": 2, "solution": "x"}, {"task_id": "mbpp/2", "solution": "y"}))
    samples, skipped = read_samples(path, both)
    assert [s.task_id for s in samples] == ["Mbpp/2"] and len(skipped) == 1
    named = Dataset([made("0"), made("1")], "human-eval.jsonl")
    assert read_samples(write(path, lines({"task_id": "HumanEval/0", "solution": "x"})), named)[0][0].task_id == "0"


COMPLETIONS: dict[str, tuple[Dataset, str, str]] = {
    "body after a stub": (HUMAN, BODY, PROMPT + BODY),
    "whole after a stub": (HUMAN, WHOLE, PROMPT + WHOLE),
    "whole after a stub that ends in its line": (
        Dataset([made("HumanEval/0", PROMPT.rstrip())]),
        WHOLE,
        f"{PROMPT.rstrip()}\n{WHOLE}",
    ),
    "whole after English": (MBPP, WHOLE, WHOLE),
    "whole after one word": (Dataset([made("Mbpp/2", "Square\n")]), WHOLE, WHOLE),
    "future import": (
        HUMAN,
        "from __future__ import annotations\n" + WHOLE,
        "from __future__ import annotations\n" + WHOLE,
    ),
    "broken after a stub": (HUMAN, "    return (", PROMPT + "    return ("),
    "broken after English": (MBPP, "def sq(x:", "def sq(x:"),
}


@pytest.mark.parametrize(("data", "text", "program"), COMPLETIONS.values(), ids=COMPLETIONS)
def test_completions(data: Dataset, text: str, program: str, tmp_path: Path) -> None:
    row = {"task_id": data[0].task_id, "completion": text}
    assert read_samples(write(tmp_path / "s.jsonl", lines(row)), data)[0][0].solution == program


def test_lists_by_position(tmp_path: Path) -> None:
    path = write(tmp_path / "generations.json", [[PROMPT + BODY, "x = 1"], [WHOLE]])
    samples, _ = read_samples(path, HUMAN)
    assert [(s.task_id, s.number) for s in samples] == [("HumanEval/0", 0), ("HumanEval/0", 1), ("HumanEval/1", 0)]
    assert samples[0].solution == PROMPT + BODY
    with pytest.raises(DataError, match=r"3 lists of solutions without a task_id.* the data set has 2 tasks"):
        read_samples(write(path, [[WHOLE]] * 3), HUMAN)


def test_logs_of_lm_eval(tmp_path: Path) -> None:
    doc = {"task_id": "HumanEval/0", "prompt": PROMPT, "test": "…"}
    base = {
        "doc_id": 0,
        "doc": doc,
        "arguments": [[PROMPT, {}]],
        "resps": [[BODY]],
        "pass@1": 1.0,
        "metrics": ["pass@1"],
    }
    rows = [{**base, "filtered_resps": [[BODY]], "filter": "none"},
            {**base, "filtered_resps": [[PROMPT + BODY]], "filter": "create_test"}]  # fmt: skip
    samples, skipped = read_samples(write(tmp_path / "samples_humaneval_x.jsonl", lines(*rows)), HUMAN)
    assert len(samples) == 1 and "return x * x" in samples[0].solution and not skipped
    others = [{"task_id": 0, "solution": WHOLE, "filter": name} for name in "ab"]
    assert len(read_samples(write(tmp_path / "o.jsonl", lines(*others)), HUMAN)[0]) == 2
    mbpp = {"doc_id": 0, "doc": {"task_id": 2, "text": "…"}, "resps": [[WHOLE]], "filtered_resps": [WHOLE]}
    assert read_samples(write(tmp_path / "m.jsonl", lines(mbpp)), MBPP)[0][0].solution == WHOLE


def test_objects_by_task(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    for value in (
        {"Mbpp/2": [WHOLE, WHOLE]},
        {"samples": [{"task_id": 2, "solution": WHOLE}] * 2},
        {"2": WHOLE, "Mbpp/3": WHOLE},
        {"2": {"solution": WHOLE}, "3": {"solution": WHOLE}},
    ):
        assert [s.solution for s in read_samples(write(path, value), MBPP)[0]] == [WHOLE, WHOLE]


@pytest.mark.parametrize(
    "names",
    [("Mbpp_2/0.py", "Mbpp_3/0.py"), ("2/0.py", "3/0.py"), ("2.py", "3.py"), ("Mbpp_2.py", "Mbpp_3.py.gz")],
)
def test_folders(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        write(tmp_path / "given" / name, WHOLE)
    for data in (MBPP, BARE):
        samples, skipped = read_samples(tmp_path / "given", data)
        assert [s.task_id for s in samples] == [t.task_id for t in data] and not skipped


REFUSED: dict[str, tuple[str, Any, str]] = {
    "EvalPlus' verdicts": (
        "s_eval_results.json",
        {"date": "x", "hash": "y", "eval": {"Mbpp/2": [{"solution": WHOLE}]}},
        "verdicts",
    ),
    "lm-eval's scores": ("results.json", {"results": {"mbpp": {"pass@1": 0.5}}, "config": {}}, "verdicts"),
    "bigcode's scores": ("evaluation_results.json", {"humaneval": {"pass@1": 0.5}, "config": {}}, "verdicts"),
    "rows of verdicts": ("v.jsonl", lines(*[{"task_id": "Mbpp/2", "passed": True}] * 9), "verdicts"),
    "MBPP": (
        "mbpp.jsonl",
        lines(*[{"task_id": 2, "text": "p", "code": WHOLE, "test_list": ["assert sq(1) == 1"]}] * 9),
        "problems",
    ),
    "human-eval": (
        "he.jsonl.gz",
        lines(*[{"task_id": "Mbpp/2", "prompt": "p", "canonical_solution": "x", "test": "t"}] * 9),
        "problems",
    ),
    "ours": (
        "t.json",
        [{"task_id": "Mbpp/2", "prompt": "p", "code": WHOLE, "test": ["assert sq(1) == 1"]}] * 2,
        "problems",
    ),
    "EvalPlus' problems": (
        "p.jsonl",
        lines(*[{"task_id": "Mbpp/2", "prompt": "p", "base_input": [[1]]}] * 2),
        "problems",
    ),
    "Java": (
        "j.jsonl",
        lines(*[{"task_id": "Mbpp/2", "language": "java", "generation": "class A {}"}] * 9),
        "only Python",
    ),
    "Python": ("s.py", WHOLE + "\n\n\ndef g(x):\n    return 1\n", "a Python file"),
    "CSV": ("s.csv", "task_id,solution\n2,x\n3,y\n", "a table"),
    "prose": ("s.txt", "Some text.\nMore of it.\n", "not JSON"),
    "nothing": ("s.jsonl", "\n\n", "holds no sample"),
    "an empty list": ("s.json", [], "holds no sample"),
    "cut": ("s.jsonl.gz.x", "\x1f\x8b\x08", "not JSON"),
    "another set": (
        "o.jsonl",
        lines(*[{"task_id": f"HumanEval/{i}", "solution": "x"} for i in range(9)]),
        "its ids are like 'Mbpp/2'",
    ),
    "no solution": ("n.jsonl", lines(*[{"task_id": 2, "text": "x"}] * 9), "neither 'solution' nor 'completion'"),
    "settings": ("c.json", {"model": "x", "temperature": 0.0}, "neither|without solutions|must be|task"),
}


@pytest.mark.parametrize(("name", "content", "told"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_file_of_samples_is_told_in_one_line(name: str, content: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=told) as caught:
        read_samples(write(tmp_path / name, content), MBPP)
    assert len(caught.value.problems) == 1 and "\n" not in str(caught.value)


def test_damaged_gzip_and_folders_without_python(tmp_path: Path) -> None:
    whole = gzip.compress(b"x" * 9999)
    (tmp_path / "s.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a damaged .gz file"):
        read_samples(tmp_path / "s.jsonl.gz", MBPP)
    write(tmp_path / "given" / "s.jsonl.gz", lines())
    with pytest.raises(DataError, match=r"holds no .py file; give one of its files: s.jsonl.gz"):
        read_samples(tmp_path / "given", MBPP)


def test_many_lines_of_one_kind_are_told_in_few(tmp_path: Path) -> None:
    rows = [{"task_id": f"Mbpp/{i}", "solution": WHOLE} for i in range(2, 500)]
    samples, skipped = read_samples(write(tmp_path / "s.jsonl", lines(*rows)), MBPP)
    assert len(samples) == 2 and len(skipped) == 4
    assert skipped[0].endswith("line 3: the data set has no task 'Mbpp/4'")
    assert skipped[-1].endswith("'Mbpp/7'; and 492 more like it")


@pytest.mark.parametrize("field", ["solution", "completion", "response"])
@pytest.mark.parametrize("data", [MBPP, HUMAN], ids=["English", "stub"])
def test_extract(field: str, data: Dataset, tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", lines({"task_id": data[0].task_id, field: REPLY}))
    unasked = read_samples(path, data)[0]
    told = "of 1 sample, 1 held a fenced block: its code was taken, as out of a model's reply"
    assert unasked[0].solution.endswith(WHOLE) and chatty(unasked, data) == told
    write(tmp_path / "whole.jsonl", lines({"task_id": data[0].task_id, "solution": WHOLE}))
    assert read_samples(tmp_path / "whole.jsonl", data, extract=True)[0][0].solution == WHOLE
    taken = read_samples(path, data, extract=True)[0]
    assert taken[0].solution.endswith(WHOLE) and chatty(taken, data) is None


def test_extract_where_the_fence_holds_the_body_alone(tmp_path: Path) -> None:
    for text in (f"```python\n{BODY}```", BODY):
        path = write(tmp_path / "s.jsonl", lines({"task_id": "HumanEval/0", "completion": text}))
        names: dict[str, Any] = {}
        exec(read_samples(path, HUMAN, extract=True)[0][0].solution, names)
        assert names["sq"](3) == 9


def test_text_around_code_is_told_too(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", lines({"task_id": 2, "solution": f"Here it is:\n\n{WHOLE}\n\nIt squares x."}))
    assert chatty(read_samples(path, MBPP)[0], MBPP) == "of 1 sample, 1 held code amid text: give `--extract`"


def test_bodies_that_call_themselves_solutions_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", lines({"task_id": 0, "solution": BODY}, {"task_id": 1, "solution": WHOLE}))
    samples = read_samples(path, HUMAN)[0]
    assert samples[0].solution == BODY
    told = "of 2 samples, 1 held the body of a function alone: name their field `completion`"
    assert chatty(samples, HUMAN) == told


def test_a_text_that_begins_with_the_prompt_is_whole(tmp_path: Path) -> None:
    path = write(
        tmp_path / "s.json", [{"task_id": 0, "prompt": PROMPT, "model_output": PROMPT + BODY, "result": "passed"}]
    )
    assert read_samples(path, HUMAN)[0][0].solution == PROMPT + BODY


def test_the_prelude_runs_before_each_solution(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"task_id": "1", "prompt": "p", "code": WHOLE, "test": ["assert sq(3) == 9"]}]
    data = write(tmp_path / "data.json", rows)
    needy = "from __future__ import annotations\n\ndef sq(x: List[int]):\n    return int(math.pow(x, 2)) + Counter()[0]"
    samples = write(tmp_path / "s.jsonl", lines({"task_id": "1", "solution": needy.replace("from __f", "from __f")}))
    words = ["evaluate", "--dataset", str(data), "--samples", str(samples), "--json"]
    scores = []
    mine = str(write(tmp_path / "mine.py", "import math\nfrom collections import Counter"))
    for more in ([], ["--prelude", "humaneval"], ["--prelude", mine]):
        assert run([*words, *more]) == 0
        scores.append(json.loads(capsys.readouterr().out)["score"])
    assert scores == [0.0, 100.0, 100.0]
    for bad, told in ((str(tmp_path / "none.py"), "No such file"), (str(data.parent / "s.jsonl"), "")):
        assert run([*words, "--prelude", bad]) in (0, 2)
        assert told in capsys.readouterr().err
    with pytest.raises(DataError, match="the prelude is no Python"):
        with_prelude(MBPP, "import")
    assert with_prelude(MBPP, HUMANEVAL).hash != MBPP.hash


@pytest.mark.slow
def test_the_time_limit_of_asserts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"task_id": "1", "prompt": "p", "code": WHOLE, "test": ["assert sq(3) == 9"]}]
    slow = "import time\ndef sq(x):\n    while time.process_time() < 0.6: pass\n    return x * x"
    samples = write(tmp_path / "s.jsonl", lines({"task_id": "1", "solution": slow}))
    words = ["evaluate", "--dataset", str(write(tmp_path / "data.json", rows)), "--samples", str(samples), "--json"]
    for limit, status in (("0.1", "timeout"), ("30", "passed")):
        assert run([*words, "--time_limit", limit]) == 0
        assert json.loads(capsys.readouterr().out)["statuses"] == {status: 1}


def test_a_broken_task_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"task_id": str(i), "prompt": f"p{i}", "code": WHOLE, "test": ["assert sq(3) == 9"], "setup": setup}
        for i, setup in enumerate(["", "import nothing_of_this_name", ""])
    ]
    samples = write(tmp_path / "s.jsonl", lines(*({"task_id": str(i), "solution": WHOLE} for i in range(3))))
    words = ["evaluate", "--dataset", str(write(tmp_path / "data.json", rows)), "--samples", str(samples)]
    assert run(words) == 0
    told = capsys.readouterr()
    assert "1 sample was not measured (broken_tests 1)" in told.out and "100.0 %" in told.out
    assert told.err.startswith("evoprompt: not measured: task 1: ") and "nothing_of_this_name" in told.err
