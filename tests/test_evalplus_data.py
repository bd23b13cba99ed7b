"""MBPP+, HumanEval+ and MBPP: readers, and where they look for the data."""

from __future__ import annotations

import gzip
import json
import re
import sys
import types
from pathlib import Path

import pytest

from evoprompt import DataError, load_dataset
from evoprompt.datasets import evalplus
from evoprompt.harness import Harness
from evoprompt.harness.inside.codec import decode, encode
from evoprompt.wording import pip_install

MBPP = {
    "task_id": "Mbpp/116", "prompt": '"""\nTuple to int.\n"""\n', "entry_point": "to_int", "atol": 0,
    "canonical_solution": "\ndef to_int(t):\n    return int(''.join(map(str, t)))\n",
    "base_input": [[[1, 2, 3]], [[4]]], "plus_input": [[[0]]], "contract": "", "assertion": "",
}  # fmt: skip
HUMANEVAL = {
    "task_id": "HumanEval/32", "prompt": "import math\ndef find_zero(xs: list):\n", "entry_point": "find_zero",
    "canonical_solution": "    return -xs[0] / xs[1]\n", "base_input": [[[1, 2]]], "plus_input": {}, "atol": 1e-4,
}  # fmt: skip
ROW = {
    "task_id": 602, "text": "Write a function to add.", "code": "def add(a, b):\r\n  return a + b",
    "test_list": ["assert add(1, 2) == 3", "assert add(K, 0) == 7"], "test_setup_code": "K = 7",
    "challenge_test_list": ["assert add(-1, 1) == 0"],
}  # fmt: skip
SANITIZED = {
    "source_file": "x.ipynb", "task_id": 3, "prompt": "Write a function to find a root.",
    "code": "import math\ndef root(x):\n  return math.sqrt(x)", "test_imports": ["import math"],
    "test_list": ["assert math.isclose(root(4), 2)"],
}  # fmt: skip


def _lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_mbppplus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.jsonl.gz"
    path.write_bytes(gzip.compress(_lines(MBPP, MBPP | {"task_id": "Mbpp/7", "entry_point": "Diff"}).encode()))
    monkeypatch.setenv("MBPP_OVERRIDE_PATH", str(path))
    first, second = load_dataset("mbppplus")
    assert [decode(i) for i in first.base_inputs] == [[(1, 2, 3)], [(4,)]]
    assert [decode(i) for i in second.plus_inputs] == [[[0]]]
    assert (first.prompt, first.code, first.base, first.plus) == (MBPP["prompt"], MBPP["canonical_solution"], (), ())
    assert (first.oracle, second.oracle) == ("", "set_equality")
    assert first.source.startswith("mine.jsonl.gz, md5 ")
    assert load_dataset(path).hash == load_dataset("mbppplus").hash
    with Harness() as harness:
        assert harness.check(first, first.code).passed
        assert harness.check(first, "def to_int(t):\n    return t").status == "failed"


def test_humanevalplus_from_evalplus_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    (tmp_path / "evalplus").mkdir()
    (tmp_path / "evalplus" / "HumanEvalPlus-v0.1.10.jsonl").write_text(_lines(HUMANEVAL))
    (task,) = load_dataset("humanevalplus")
    assert task.code == HUMANEVAL["prompt"] + HUMANEVAL["canonical_solution"]  # type: ignore[operator]
    assert (task.oracle, task.atol, task.plus_inputs) == ("root", 1e-4, ())
    assert task.interface == "find_zero(xs)"
    with Harness() as harness:
        assert harness.check(task, task.code).passed


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (_lines(MBPP)[:80], ": not JSON: "),
        ("[1]\n", "must be an object with the fields task_id, prompt, test, not list"),
        (_lines({k: v for k, v in MBPP.items() if k != "plus_input"}), "field 'plus_input' is missing"),
        (_lines(MBPP | {"prompt": 1}), "field 'prompt': must be text, not 1"),
        (_lines(MBPP | {"task_id": "x"}), "field 'task_id': must be like 'Mbpp/2' or 'HumanEval/0', not 'x'"),
        (_lines(MBPP | {"base_input": 3}), "field 'base_input': must be a list of inputs, not int"),
        (_lines(MBPP | {"base_input": [3]}), "field 'base_input': input 0 does not fit the task"),
        (_lines(MBPP | {"plus_input": [[[1]], [4]]}), "field 'plus_input': input 1 does not fit the task"),
        (_lines(MBPP | {"atol": -1}), "field 'atol': must be a number ≥ 0, not -1"),
    ],
)
def test_each_mistake_is_one_line(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(_lines(HUMANEVAL) + line)
    with pytest.raises(DataError) as error:
        load_dataset(path)
    problem, hint = error.value.problems
    assert problem.startswith(f"{path}: line 2") and said in problem
    assert hint.startswith(f"{path}: 1 of 2 rows is wrong: mend it, or leave it out with --skip_bad")
    assert [t.task_id for t in load_dataset(path, skip_bad=True)] == ["HumanEval/32"]


def test_damaged_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gzip.compress(_lines(*[MBPP] * 50).encode())
    path = tmp_path / "data.jsonl.gz"
    for content, said in (
        (whole[:-20], "cut short or damaged"),
        (whole[:30] + b"\0\0\0" + whole[33:], "cut short or damaged"),
        (gzip.compress(b""), "the file is empty; give tasks"),
        (gzip.compress(b"\xff"), "not UTF-8"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=said):
            load_dataset(path)
    monkeypatch.setenv("MBPP_OVERRIDE_PATH", str(tmp_path / "nothing"))
    with pytest.raises(DataError, match=r"MBPP_OVERRIDE_PATH='.*nothing' is not a file: correct or unset it"):
        load_dataset("mbppplus")


def _evalplus(monkeypatch: pytest.MonkeyPatch, fetch: object) -> None:
    package, data = types.ModuleType("evalplus"), types.ModuleType("evalplus.data")
    data.get_mbpp_plus_hash = data.get_human_eval_plus_hash = fetch  # type: ignore[attr-defined]
    package.data = data  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "evalplus", package)
    monkeypatch.setitem(sys.modules, "evalplus.data", data)


def test_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    url = "https://github.com/evalplus/mbppplus_release/releases/download/v0.2.0/MbppPlus.jsonl.gz"
    monkeypatch.setitem(sys.modules, "evalplus", None)
    with pytest.raises(DataError) as error:
        load_dataset("mbppplus")
    assert str(error.value) == (
        f"MBPP+ v0.2.0 is not on this machine: run `{pip_install('bench')}`, which downloads it, "
        f"or download {url} and set MBPP_OVERRIDE_PATH to its path"
    )

    def offline() -> None:
        raise OSError("no route to host")

    _evalplus(monkeypatch, offline)
    with pytest.raises(DataError, match=r"can't be downloaded \(OSError: no route to host\): download https"):
        load_dataset("humanevalplus")
    _evalplus(monkeypatch, lambda: None)
    with pytest.raises(DataError, match="is not where evalplus keeps it"):
        load_dataset("mbppplus")

    def fetch() -> None:
        sys.stdout.write("Downloading\n")
        (tmp_path / "evalplus").mkdir()
        (tmp_path / "evalplus" / "MbppPlus-v0.2.0.jsonl").write_text(_lines(MBPP))

    _evalplus(monkeypatch, fetch)
    assert len(load_dataset("mbppplus")) == 1
    assert capsys.readouterr().out == ""


def _check_mbpp(tasks: object) -> None:
    found = {t.task_id: t for t in tasks}  # type: ignore[attr-defined]
    add, root = found["602"], found["3"]
    assert (add.prompt, add.entry_point, add.setup) == ("Write a function to add.", "add", "")
    assert add.test_setup == "K = 7"  # it may need the solution
    assert add.base == tuple(ROW["test_list"]) and add.plus == tuple(ROW["challenge_test_list"])  # type: ignore[arg-type]
    assert (root.setup, root.plus) == ("import math", ())
    with Harness() as harness:
        assert harness.check(add, add.code).passed and harness.check(root, root.code).passed


def test_mbpp_from_local_files(tmp_path: Path) -> None:
    (tmp_path / "mbpp.json").write_text(json.dumps([ROW, SANITIZED]))
    (tmp_path / "mbpp.jsonl").write_text(_lines(ROW, SANITIZED))
    for name in ("mbpp.json", "mbpp.jsonl"):
        _check_mbpp(load_dataset(tmp_path / name))
    (tmp_path / "mbpp.jsonl").write_text(_lines(ROW) + _lines(ROW | {"task_id": 1, "text": None}))
    with pytest.raises(DataError, match=r"line 2, task 1: field 'prompt': must be text"):
        load_dataset(tmp_path / "mbpp.jsonl")


def test_mbpp_from_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mbpp.parquet"
    path.write_bytes(b"PAR1 this is none")
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    with pytest.raises(DataError, match=r"mbpp.parquet: not a Parquet file: "):
        load_dataset(path)
    parquet.write_table(pyarrow.Table.from_pylist([ROW | SANITIZED, ROW]), path)
    assert [t.task_id for t in load_dataset(path)] == ["3", "602"]
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=re.escape(pip_install("bench"))):
        load_dataset(path)


def test_mbpp_from_hugging_face(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(repository: str, configuration: str) -> dict[str, list[dict[str, object]]]:
        asked.append((repository, configuration))
        if configuration == "sanitized":
            raise ConnectionError("couldn't reach the hub\nat all")
        return {"train": [ROW], "test": [SANITIZED]}

    monkeypatch.setattr("socket.getaddrinfo", lambda *a: ["an address"])
    library = types.ModuleType("datasets")
    library.load_dataset = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", library)
    tasks = load_dataset("mbpp")
    assert [t.task_id for t in tasks] == ["3", "602"] and asked == [("google-research-datasets/mbpp", "full")]
    _check_mbpp(tasks)
    with pytest.raises(DataError) as error:
        load_dataset("mbpp-sanitized")
    assert str(error.value).startswith(
        "'mbpp-sanitized' can't be downloaded (ConnectionError: couldn't reach the hub): download"
    ) and "\n" not in str(error.value)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=re.escape(f"needs the package `datasets`: run `{pip_install('bench')}`")):
        load_dataset("mbpp")


def test_without_network_hugging_face_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    seen = []

    def load(repository: str, configuration: str) -> None:
        seen.append(constants.HF_HUB_OFFLINE)
        raise ConnectionError("offline")

    def unresolved(*arguments: object) -> None:
        raise OSError("no name service")

    library = types.ModuleType("datasets")
    library.load_dataset = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", library)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr("socket.getaddrinfo", unresolved)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(DataError, match="can't be downloaded"):
        load_dataset("mbpp")
    assert seen == [True] and constants.HF_HUB_OFFLINE is False


SYNTHETIC = {
    2: [[1, [2]], [3]], 63: [[[1, 2], [3]]], 75: [[[1, 2], [3]], 4], 106: [[1], [2]], 250: [[1, 2], 3],
    259: [[[1], [2]], [[3]]], 278: [[1, [2, 3], 4]], 307: [[1, []], 2, 3], 722: [{"a": [1, 2]}, 3], 115: [[[1], []]],
    124: ["1", "2j"], 252: ["1+2j"], 580: [[1, [2, [3]]]], 3: [[1, [2]]],
}  # fmt: skip


def _as_evalplus(reference: types.ModuleType, number: int, inputs: list[object]) -> list[bytes]:
    typed = reference.mbpp_deserialize_inputs(f"Mbpp/{number}", json.loads(json.dumps(inputs)))
    return [encode(list(arguments)) for arguments in typed]


def test_argument_types_are_those_of_evalplus(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = pytest.importorskip("evalplus.data.mbpp")
    numbers = {n for _, several in evalplus.CONVERSIONS for n in several}
    assert len(numbers) == sum(len(several) for _, several in evalplus.CONVERSIONS)
    for rule, several in evalplus.CONVERSIONS:
        (sample,) = [SYNTHETIC[n] for n in several if n in SYNTHETIC]
        for number in several:
            mine = [encode(list(evalplus.typed_arguments(number, sample)))]
            assert rule(sample) and mine == _as_evalplus(reference, number, [sample]), number
    untouched = [n for n in range(1000) if n not in numbers]
    sample = SYNTHETIC[3]
    assert all(_as_evalplus(reference, n, [sample]) == [encode(sample)] for n in untouched)


def test_the_real_data_set(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shared / "data" / "MbppPlus.jsonl.gz"
    monkeypatch.setenv("MBPP_OVERRIDE_PATH", str(path))
    data = load_dataset("mbppplus")
    assert len(data) == 378 and sum(t.count("base") + t.count("plus") for t in data) == 41_015
    assert sum(bool(t.oracle) for t in data) == 12 and sum(t.atol > 0 for t in data) == 13
    reference = pytest.importorskip("evalplus.data.mbpp")
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
    for row in rows:
        task, number = data.by_id(row["task_id"]), int(row["task_id"].partition("/")[2])
        assert list(task.base_inputs) == _as_evalplus(reference, number, row["base_input"]), number
        assert list(task.plus_inputs) == _as_evalplus(reference, number, row["plus_input"]), number
