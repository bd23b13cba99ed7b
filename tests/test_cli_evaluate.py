"""`evoprompt evaluate`: samples that exist, and a model's."""

from __future__ import annotations

import html
import json
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import dspy
import pytest

from evoprompt import Program
from evoprompt.atomic import write_text
from evoprompt.cli import run
from evoprompt.report.compare import read_side
from tests.models import ScriptedEngine
from tests.openai_server import OpenAIServer, Reply, completion, engine_responder
from tests.world import data, reply, solution


def _samples(folder: Path, *rows: dict[str, object]) -> list[str]:
    wrong = {"task_id": "t1", "solution": "def top_1(xs): return 0"}
    half = {"task_id": "t2", "solution": solution(2, careful=False)}
    right = [{"task_id": t.task_id, "solution": t.code} for t in data(4)[2:]]
    (folder / "samples.jsonl").write_text("\n".join(json.dumps(r) for r in [wrong, half, *right, *rows]))
    return ["evaluate", "--dataset", str(folder / "train.json"), "--samples", str(folder / "samples.jsonl")]


def _asking(folder: Path, *more: str) -> list[str]:
    return ["evaluate", "--dataset", str(folder / "train.json"), "--model", "openai/x", *more]


def test_evaluate_samples(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*_samples(folder), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["score"], summary["statuses"]) == (50.0, {"error": 1, "failed": 1, "passed": 2})
    assert summary["pass_at_k"]["base"]["pass@1"]["value"] == 0.75
    assert summary["pass_at_k"]["plus"]["pass@1"]["value"] == 0.5
    results = json.loads((folder / "samples_eval_results.json").read_text())
    assert results["pass_at_k"] == {"base": {"pass@1": 0.75}, "plus": {"pass@1": 0.5}}
    (row,) = results["eval"]["t2"]
    assert (row["base_status"], row["plus_status"], row["status"]) == ("pass", "fail", "error")
    assert row["plus_fail_tests"] == ["top_2([])"] and row["first_failure"]["exception"] == "ValueError"
    assert not (folder / "samples_eval_results.json.progress").exists()


def test_evaluate_several_samples_a_task_and_a_threshold(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = [{"task_id": t.task_id, "solution": t.code} for t in data(4) for _ in range(9)]
    words = _samples(folder, *more)
    assert run([*words, "--output", str(folder / "out.json"), "--fail-under", "96"]) == 1
    told = capsys.readouterr()
    assert "pass@10" in told.out and "pass@100" not in told.out
    assert "the score 95.0 is below --fail_under 96" in told.err
    assert json.loads((folder / "out.json").read_text())["pass_at_k"]["plus"] == {"pass@1": 0.95, "pass@10": 1.0}


def test_a_report_and_four_lines_at_the_end(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fenced = {"task_id": "t1", "solution": f"Here it is:\n```python\n{data(1)[0].code}\n```\nIt works."}
    assert run([*_samples(folder, fenced), "--output", str(folder / "my results.json")]) == 0
    told = capsys.readouterr()
    assert "of 5 samples, 1 held a fenced block: its code was taken, as out of a model's reply" in told.err
    assert [line.split()[0] for line in told.out.splitlines()[-4:]] == ["result:", "cost:", "report:", "next:"]
    assert f"next:   evoprompt compare '{folder}/my results.json' OTHER" in told.out  # fit for a shell
    page = (folder / "my results.html").read_text()
    assert (
        "87.5 %" in page
        and "62.5 %" in page
        and "top_2([])" in page
        and "def top_1(xs): return 0" in page
        and "http" not in page
    )
    assert "<small>plus: <bdi>top_2([])</bdi> <bdi>raised ValueError" in page  # also where a row is not opened
    assert page.index("<bdi>t1</bdi>") < page.index("<bdi>t3</bdi>")  # what failed stands first


def test_an_array_of_samples(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"task_id": t.task_id, "solution": t.code} for t in data(4)]
    for text in (json.dumps(rows), json.dumps(rows, indent=1)):
        (folder / "s.json").write_text(text)
        words = ["evaluate", "--dataset", str(folder / "train.json"), "--samples", str(folder / "s.json"), "--json"]
        assert run(words) == 0
        assert json.loads(capsys.readouterr().out)["score"] == 100.0
    (folder / "s.json").write_text(json.dumps([t.code for t in data(4)][:2]))  # solutions of nobody knows which tasks
    assert run(words) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_evaluate_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for t in data(4):
        (folder / "given" / t.task_id).mkdir(parents=True)
        (folder / "given" / t.task_id / "0.py").write_text(t.code)
    (folder / "given" / "t9").mkdir()
    words = ["evaluate", "--dataset", str(folder / "train.json"), "--samples", str(folder / "given"), "--json"]
    assert run(words) == 2  # something was skipped
    told = capsys.readouterr()
    assert json.loads(told.out)["score"] == 100.0
    assert told.err.splitlines() == [f"evoprompt: skipped {folder / 'given' / 't9'}: holds no .py file"]


def test_what_cannot_be_judged_is_told_and_the_rest_is_judged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = _samples(folder, {"task_id": "zzz", "solution": ""}, {"task_id": "t1"})
    with (folder / "samples.jsonl").open("ab") as file:
        file.write(b"\nnonsense\n\xff\xfe\n\n[1]\n")
    assert run([*words, "--json"]) == 2
    told = capsys.readouterr()
    assert json.loads(told.out)["score"] == 50.0
    reasons = [line.split("samples.jsonl: ")[1] for line in told.err.splitlines()]
    assert reasons == [
        "line 5: the data set has no task 'zzz'",
        "line 6: task 't1' has neither 'solution' nor 'completion' as text",
        "line 7: not JSON",
        "line 8: not JSON",
        "line 10: must be an object with 'task_id' and 'solution'",
    ]


def test_binary_samples(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = _samples(folder)
    (folder / "samples.jsonl").write_bytes(b"PK\3\4" + bytes(range(256)) * 9)
    assert run(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_and_pays_for_nothing_twice(folder: Path) -> None:
    stop, forever = threading.Event(), threading.Event()

    def dies(body: dict[str, object], n: int) -> str | Reply:
        if n >= 3:
            stop.set()
            forever.wait(30)
        return answer(body, n)

    answer = engine_responder(ScriptedEngine(reply))
    words = _asking(folder, "--parallel", "1")
    words += ["--output", str(folder / "out_eval_results.json")]
    with OpenAIServer(dies) as server:
        child = subprocess.Popen([sys.executable, "-m", "evoprompt", *words, "--api_base", server.base])
        assert stop.wait(60)
        child.kill()
        child.wait()
        forever.set()
    with OpenAIServer(answer) as server:
        assert run([*words, "--api_base", server.base]) == 0
        assert len(server.seen) == 1
        assert run([*words, "--api_base", server.base]) == 0
        assert len(server.seen) == 1
    results = json.loads((folder / "out_eval_results.json").read_text())
    assert len(results["eval"]) == 4 and results["spent"]["generator"]["calls"] == 4
    assert len((folder / "out.jsonl").read_text().splitlines()) == 4


def test_the_command_of_a_result_gives_it_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key := "sk-this-is-nobodys-business-0123456789")
    target = folder / "with space.json"
    (folder / "prompt.txt").write_text(f"Write code, it's for `{key}`.")
    words = _asking(folder, "--prompt", str(folder / "prompt.txt"), "--output", str(target), "--base_only")
    with OpenAIServer(engine_responder(ScriptedEngine(reply))) as server:
        assert run([*words, "--api_base", server.base, "--json"]) == 0
    first = json.loads(target.read_text())
    command = read_side(target).command
    assert key not in command
    target.rename(folder / "first.json")
    (folder / "prompt.txt").unlink()
    with OpenAIServer(engine_responder(ScriptedEngine(reply))) as server:
        again = ["--api_base", server.base, "--output", str(folder / "again.json")]
        assert run([*shlex.split(command)[1:], *again]) == 0
    second = json.loads((folder / "again.json").read_text())
    assert (second["eval"].keys(), second["instruction"]) == (first["eval"].keys(), first["instruction"])
    assert second["pass_at_k"] == first["pass_at_k"] and "plus" not in second["pass_at_k"]
    shown = html.unescape((folder / "with space.html").read_text())
    assert command in shown and key not in shown


@pytest.mark.parametrize("stem", ["out", "o" * 100])
def test_what_a_killed_one_was_writing_goes_and_nothing_of_another_result(
    folder: Path, stem: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    begun = tempfile.mkstemp
    target = folder / f"{stem}_eval_results.json"
    other = target.with_name(f"{stem}_eval_results_2.json")

    def killed(*, prefix: str, **how: Any) -> tuple[int, str]:
        begun(prefix=prefix, **how)  # and stays
        return begun(prefix=prefix, **how)

    with OpenAIServer(engine_responder(ScriptedEngine(reply))) as server:
        words = [*_asking(folder, "--output", str(target)), "--api_base", server.base]
        with monkeypatch.context() as patch:
            patch.setattr("evoprompt.atomic.tempfile.mkstemp", killed)
            write_text(other, "another's")
            assert run(words) == 0
        assert len(list(folder.glob(".*.tmp"))) == 4
        assert run(words) == 0
    assert len(list(folder.glob(".*.tmp"))) == 1, "the other's"


def test_a_folder_is_no_result_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (".", str(folder)):
        assert run([*_samples(folder), "--output", name]) == 2
        assert f"--output {name!r} is a directory; give a file" in capsys.readouterr().err


def test_a_program_is_kept_with_its_demos(folder: Path) -> None:
    program, demo = Program(), {"prompt": "Halve.", "entry_point": "half(x)", "code": "def half(x): return x / 2"}
    program.generator.demos = [dspy.Example(**demo)]
    program.save(folder / "program.json")
    words = _asking(folder, "--output", str(folder / "o.json"))
    with OpenAIServer(engine_responder(ScriptedEngine(reply))) as server:
        assert run([*words, "--program", str(folder / "program.json"), "--api_base", server.base]) == 0
        assert "Halve." in str(server.seen[0].body["messages"])
    results = json.loads((folder / "o.json").read_text())
    assert results["demos"] == [demo] and results["instruction"] == program.generator.signature.instructions


@pytest.mark.slow
def test_one_that_is_interrupted_says_how_to_go_on(folder: Path) -> None:
    held, forever = threading.Event(), threading.Event()

    def hangs(body: dict[str, object], n: int) -> str | Reply:
        if n >= 3:
            held.set()
            forever.wait(30)
        return answer(body, n)

    answer = engine_responder(ScriptedEngine(reply))
    words = _asking(folder, "--parallel", "1")
    with OpenAIServer(hangs) as server:
        child = subprocess.Popen(
            [sys.executable, "-m", "evoprompt", *words, "--api_base", server.base, "--output", str(folder / "o.json")],
            stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # where the tests run in the background
        )  # fmt: skip
        assert held.wait(60)
        child.send_signal(signal.SIGINT)
        said = child.communicate(timeout=60)[1]
        forever.set()
    assert child.returncode == 130 and said.endswith(
        "evoprompt: interrupted; what was finished is on disk\nevoprompt: stopped; the same command goes on\n"
    )


@pytest.mark.parametrize("first", [0, 2])
def test_one_that_a_server_ends_says_why_and_how_to_go_on(
    first: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuses(body: dict[str, object], n: int) -> str | Reply:
        return answer(body, n) if n < first else Reply(401, {"error": {"message": "no such key"}})

    answer = engine_responder(ScriptedEngine(reply))
    words = _asking(folder, "--parallel", "1")
    with OpenAIServer(refuses) as server:
        assert run([*words, "--api_base", server.base, "--output", str(folder / "o.json")]) == 3
    why, then = capsys.readouterr().err.splitlines()[-2:]
    assert "refused the key" in why and then == "evoprompt: stopped; the same command goes on"


def test_what_has_no_verdict_is_not_told_as_known(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def empty(body: dict[str, object], n: int) -> str | Reply:
        return Reply(200, completion("", body)) if n >= 2 and not mended else answer(body, n)

    answer, mended = engine_responder(ScriptedEngine(reply)), False
    with OpenAIServer(empty) as server:
        words = _asking(folder, "--parallel", "1", "--num_retries", "0", "--api_base", server.base)
        assert run([*words, "--output", str(folder / "o.json")]) == 0
        told = capsys.readouterr().out
        assert "4 of 4 tasks, 2 of 4 samples measured: error 2\n" in told
        assert "2 samples were not measured (empty_reply 2) and are in no score\n" in told
        assert ", 2 of 4 tasks, 2 not measured (empty_reply 2)\ncost:   2 calls (generator 2), 2 failed tries, " in told
        (folder / "o.json").unlink()
        mended = True
        assert run([*words, "--output", str(folder / "o.json")]) == 0
        assert "going on where the last run stopped: 2 of 4 are known" in capsys.readouterr().err
        assert len(server.seen) == 6


def test_one_server_does_not_answer_for_another(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = _asking(folder, "--output", str(folder / "o.json"))
    with OpenAIServer(engine_responder(ScriptedEngine(reply))) as first:
        assert run([*words, "--api_base", first.base]) == 0
    capsys.readouterr()
    with OpenAIServer(engine_responder(ScriptedEngine(reply))) as second:
        assert run([*words, "--api_base", second.base]) == 2
        assert not second.seen
        assert f"was measured with the server {first.base}; give another --output" in capsys.readouterr().err


@pytest.mark.slow
def test_each_prompt_and_each_state_of_the_tasks_is_an_evaluation_of_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    words = ["evaluate", "--dataset", "train.json", "--model", "simulated"]
    role = "You are the senior Python engineer of {company}. You write code that others read with ease, every day. "
    (folder / "a.md").write_text(f"{role}Be brief.")
    for given in ([], ["--prompt", "a.md"], ["--prompt", f"{role}Be careful."]):
        assert run([*words, *given]) == 0
    (folder / "a.md").write_text(f"{role}Be kind.")
    assert run([*words, "--prompt", "a.md"]) == 0
    rows = json.loads((folder / "train.json").read_text())
    (folder / "train.json").write_text(json.dumps(rows[:3]))
    assert run(words) == 0 == run(words)
    assert "is of other tasks, or of these before they changed" in capsys.readouterr().err
    names = sorted(p.name for p in (folder / "results/evaluations/train").glob("*_eval_results.json"))
    assert "simulated_start_temp_0_seed_42_eval_results.json" in names and len(names) == 5
    assert sum("_prompt_" in name for name in names) == 3 and sum("_seed_42_data_" in name for name in names) == 1

    out = ["--output", "out.json"]
    assert run([*words, *out, "--prompt", "a.md"]) == 0
    capsys.readouterr()
    assert run([*words, *out, "--prompt", f"{role}Be careful."]) == 2
    told = capsys.readouterr().err
    assert "every day. Be kind.', is …" in told and "every day. Be careful.'." in told
    assert "another --output to begin anew" in told and "--fork" not in told and "--run_name" not in told


def test_evaluate_needs_one_source_of_solutions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "--dataset", str(folder / "train.json")]) == 2
    assert "give either --samples" in capsys.readouterr().err


def test_a_run_directory_stands_for_its_program(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Program().save(folder / "program.json")
    words = ["evaluate", "--dataset", str(folder / "train.json"), "--model", "simulated", "--program"]
    found = []
    for program in (folder, folder / "program.json"):
        assert run([*words, str(program), "--output", str(folder / "out.json"), "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["score"])
    assert found[0] == found[1]
    (folder / "empty").mkdir()
    assert run([*words, str(folder / "empty")]) == 2
    assert "empty/program.json' does not exist" in capsys.readouterr().err
