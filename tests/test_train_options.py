"""Options of `train` and `evaluate` that choose data and the start prompt, and what they refuse."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from pathlib import Path

import pytest
from dspy.utils.exceptions import LMError, LMRateLimitError, LMTimeoutError
from rich.console import Console
from rich.live import Live

from evoprompt import Budget, Candidate, Options, Program, load_dataset
from evoprompt.cli import run as cli
from evoprompt.cli.board import BAR, Board
from evoprompt.cli.display import Display
from evoprompt.cli.shown import note
from evoprompt.errors import StorageError
from evoprompt.evaluate import summarize
from evoprompt.evolve.events import Started
from evoprompt.evolve.records import BatchRecord
from evoprompt.judges import Rollout
from evoprompt.lm.concurrency import OUTAGE, Traffic, Waiting
from evoprompt.runs import Spent

PROMPT = "# Role\nDu schreibst {Python} in `code`.\n\n# Rules\n- Return values, never print.\n"


def train(root: Path, *words: str, name: str = "run") -> int:
    begin = ["train", "--experiment_name", "mine", "--run_name", name, "--root_dir", str(root), "--model", "simulated"]
    return cli([*begin, "--max_rollouts", "30", "--num_threads", "2", *words])


@pytest.mark.slow
def test_a_data_set_by_name_is_cut_by_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path, "--dataset", "starter", "--split", "12,6,6", "--json") == 0
    told = capsys.readouterr()
    assert "checking" not in told.err  # so few tasks take no time
    config = json.loads((tmp_path / "mine/run/config.json").read_text())
    assert {role: d["tasks"] for role, d in config["data"].items()} == {"train": 12, "dev": 6, "test": 6}
    summary = json.loads((tmp_path / "mine/run/summary.json").read_text())
    assert set(summary["test_scores"]) >= {"start"} and json.loads(told.out) == summary
    assert (tmp_path / "mine/run/report.html").is_file()


@pytest.mark.slow
def test_a_prompt_of_a_file_is_the_start_word_for_word(tmp_path: Path) -> None:
    (tmp_path / "p.md").write_text(PROMPT)
    data = ["--dataset", "starter", "--split", "8,4"]
    assert train(tmp_path, *data, "--prompt", str(tmp_path / "p.md")) == 0
    told = json.loads((tmp_path / "mine/run/training/prompt_evolution.json").read_text())
    assert told["prompts"][0]["instruction"] == PROMPT.strip()
    (tmp_path / "p.md").unlink()  # the text is kept with the run
    assert cli(["resume", str(tmp_path / "mine/run")]) == 0
    assert train(tmp_path, *data, "--prompt", "Another start.") == 2


@pytest.mark.slow
def test_what_is_locked_is_in_the_result_and_in_the_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--dataset", "starter", "--split", "6,4,0", "--max_rollouts", "30", "--prompt", "Be FooBot. Use tabs."]
    assert train(tmp_path, *words, "--lock", "FooBot") == 0
    run = tmp_path / "mine/run"
    assert "Be FooBot." in (run / "training/final_prompt.txt").read_text()
    assert json.loads((run / "config.json").read_text())["options"]["lock"] == ["FooBot"]
    assert cli(["resume", str(run)]) == 0
    assert cli(["train", "--config", str(run / "config.json"), "--root_dir", str(tmp_path), "--run_name", "again"]) == 0
    assert train(tmp_path, *words, "--lock", "BarBot", "--run_name", "other") == 2
    assert "lock: the start prompt does not hold 'BarBot'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_prompt_for_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--dataset", "starter", "--model", "simulated", "--output", str(tmp_path / "out.json")]
    assert cli([*words, "--prompt", "Write the function, and return its result."]) == 0
    assert (
        json.loads((tmp_path / "out.json").read_text())["instruction"] == "Write the function, and return its result."
    )
    (tmp_path / "my prompt.md").write_text("Of a file.")
    assert cli([*words[:-1], str(tmp_path / "2.json"), "--prompt", str(tmp_path / "my prompt.md")]) == 0
    assert json.loads((tmp_path / "2.json").read_text())["instruction"] == "Of a file."
    capsys.readouterr()
    assert cli([*words, "--prompt", "my_promt"]) == 2 == cli([*words, "--prompt", str(tmp_path)])
    told = capsys.readouterr().err
    assert "is no file, and one word is no prompt" in told and "is a directory" in told
    assert cli(["evaluate", "--dataset", "starter", "--samples", "x.jsonl", "--prompt", "Text."]) == 2
    assert "--prompt needs --model" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, told",
    [
        ([], "no tasks: give --dataset NAME --split TRAIN,DEV,TEST, or --dataset_path DIR --train_file FILE"),
        (["--dataset", "starter"], "--dataset needs --split: as in `--split 24,24,24`; 'starter' has 72 tasks"),
        (["--dataset", "starter", "--split", "a,b"], "--split 'a,b' is not TRAIN,DEV,TEST"),
        (["--dataset", "starter", "--split", "0,3"], "--split '0,3' is not TRAIN,DEV,TEST"),
        (["--dataset", "starter", "--split", "1,2,3,4"], "is not TRAIN,DEV,TEST"),
        (["--dataset", "starter", "--split", "90"], "it has 72 tasks"),
        (
            ["--dataset", "starter", "--split", "9", "--train_file", "x"],
            "--dataset and --train_file exclude",
        ),
        (["--dataset_path", ".", "--train_file", "x", "--split", "9"], "--split needs --dataset"),
        (["--dataset", "starter", "--split", "9", "--prompt", "no_such.md"], "--prompt 'no_such.md' can't be read"),
        (["--dataset", "starter", "--split", "9", "--prompt", "  "], "--prompt '  ' holds no text"),
        (["--dataset", "starter", "--split", "9", "--prompt", ""], "--prompt '' holds no text"),
        (["--dataset", "starter", "--split", "9", "--prompt", "adir"], "--prompt 'adir' is a directory; give a file"),
        (["--dataset", "starter", "--split", "9", "--prompt", "./adir"], "--prompt './adir' is a directory"),
        (
            ["--dataset", "starter", "--split", "9", "--prompt", "my_promt"],
            "--prompt 'my_promt' is no file, and one word is no prompt",
        ),
        (["--dataset", "starter", "--split", "9", "--prompt", "one.md"], "--prompt 'one.md' holds one word, and one"),
    ],
)
def test_what_is_incomplete_is_one_line(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "adir").mkdir()
    (tmp_path / "one.md").write_text("Solve:\n")
    assert train(tmp_path, *words) == 2
    err = capsys.readouterr().err
    assert told in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "mine").exists()


@pytest.mark.slow
def test_quiet_says_the_result_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path, "--dataset", "starter", "--split", "8,4", "--quiet") == 0
    shown = capsys.readouterr()
    assert "batch" not in shown.err and "report:" in shown.out


def drawn(board: Board, width: int = 100) -> str:
    console = Console(width=width, record=True, force_terminal=False, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(board)
    return console.export_text()


def test_the_board_tells_progress_cost_and_trouble() -> None:
    now = [0.0]
    spent = {"generator": Spent(1200, 3, 50_000, 9_000, 0.25, 0, 60.0)}
    board = Board("", lambda: spent, lambda: now[0])
    board.step("batch 3: solutions", 24)
    board.workers = lambda: "2 nodes, 8 threads, 71 % busy, 12.3 solutions/s, http://lab1:8787/status"
    now[0] = 30.0
    lost = Rollout(candidate="c", task_id="t", sample=0, status="lm_error", fault="rate_limit", error="slow down")
    for done in range(1, 9):
        board.advance(done, lost if done < 3 else None)
    text = drawn(board)
    assert "batch 3: solutions" in text and "8/24" in text and "about 1 min 0 s left" in text
    assert "1,200 calls, 59,000 tokens, $0.2500, 3 failed tries" in text
    assert "trouble  2 not measured: rate limit" in text
    assert "cluster  2 nodes, 8 threads, 71 % busy, 12.3 solutions/s, http://lab1:8787/status" in text


def test_the_board_tells_of_calls_under_way_and_of_those_that_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    board, traffic = Board("", dict, lambda: now[0]), Traffic()
    board.traffic = traffic
    for error in (LMRateLimitError("slow down"), LMRateLimitError("slow down"), LMTimeoutError("no answer")):
        with contextlib.suppress(LMError), traffic.one():
            raise error
    with traffic.one(), traffic.one():
        board.advance(8)
        text = drawn(board)
        assert "2 calls under way" in text and "waiting" not in text
        monkeypatch.setattr(traffic, "silent", lambda: 25.0)
        assert "waiting  no call was answered for 25 s" in drawn(board)
    now[0] = traffic.failed_at + 125
    text = drawn(board)
    assert "so far   failed calls: 2 rate limit, 1 timeout, the last 2 min 5 s ago" in text and "under way" not in text
    traffic.failed.update({"server": 1, "transport": 1, "provider": 1})
    told = " ".join(drawn(board, 60).split())
    assert "2 rate limit, 1 timeout, 1 server error, and 2 kinds more, the last 2 min 5 s ago" in told


def test_the_board_tells_what_is_waited_for_and_promises_no_end_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    board, traffic = Board("", dict, lambda: now[0]), Traffic()
    board.traffic = traffic
    board.evaluation("all.json, openai/x", 40)
    now[0] = 30.0
    for done in range(1, 21):
        board.advance(done)
    assert "about 30 s left" in drawn(board)
    monkeypatch.setattr(traffic, "waiting", lambda: Waiting("rate limit (429)", 1.0, 24.0))
    assert "waiting" not in drawn(board)  # most failures are over at once
    monkeypatch.setattr(traffic, "waiting", lambda: Waiting("rate limit (429)", 16.0, 24.0))
    text = drawn(board)
    assert "trouble  waiting for the provider: rate limit (429), for 16 s; next try in 24 s" in text
    assert "left" not in text and "failed calls" not in text
    folded = " ".join(drawn(board, 50).split())
    assert "waiting for the provider: rate limit (429), for 16 s; next try in 24 s" in folded


def test_the_board_counts_what_was_answered_since_the_last_event() -> None:
    now = [0.0]
    spent = {"generator": Spent(9, 0, 900, 90, 0.0, 0, 60.0)}
    board = Board("", lambda: spent, lambda: now[0])
    board.step("batch 1: solutions", 16)
    spent["generator"] = Spent(15, 0, 1500, 150, 0.0, 0, 60.0)
    now[0] = 1.0
    assert "15 calls, 1,650 tokens" in drawn(board)

    def closed() -> dict[str, Spent]:
        raise StorageError("closed")

    board.spent, now[0] = closed, 2.0
    assert "15 calls" in drawn(board)


def test_a_log_is_told_of_an_outage_and_a_quiet_one_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        with Display(quiet=quiet):
            logging.getLogger("evoprompt").warning("waiting for the provider for 10 s", extra=OUTAGE)
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "waiting for the provider for 10 s\n")


def test_the_bar_of_a_run_never_begins_anew() -> None:
    board = Board("", lambda: {"generator": Spent(80, 0, 1, 1, 0.0, 0, 1.0)}, lambda: 0.0)
    board.started(Started(Options(budget=Budget(lm_calls=100)), Candidate.of(Program()), 9, 9, batches=4))
    bars = [drawn(board).count("━")]
    for name in ("start", "evolved"):
        board.evaluation(f"test set, {name} prompt", 4)
        for done in range(1, 5):
            board.advance(done)
            bars.append(drawn(board).count("━"))
    assert bars == sorted(bars) and 0.8 * BAR == bars[0] < bars[4] < bars[-1] < BAR, bars


@pytest.mark.slow
def test_a_log_names_a_step_of_many_parts_as_it_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples, tasks = tmp_path / "s.jsonl", load_dataset("starter")
    samples.write_text("".join(json.dumps({"task_id": t.task_id, "solution": "x = 1"}) + "\n" for t in tasks))
    assert cli(["evaluate", "--dataset", "starter", "--samples", str(samples)]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "checking the tests of 72 tasks",
        "judging s.jsonl: 72 solutions",
    ]


def test_the_board_promises_no_end_that_it_does_not_know() -> None:
    now = [0.0]
    board = Board("", dict, lambda: now[0])
    board.evaluation("checking the tests of 9 tasks", 9)
    board.advance(9)
    board.started(Started(Options(budget=Budget(rollouts=100)), Candidate.of(Program()), 9, 9, batches=1))
    assert "━" not in drawn(board)  # what was before the search is no part of it
    record = BatchRecord(epoch=1, batch=1, parent=Candidate.of(Program()), evaluation=summarize([]))
    for _ in range(3):
        board.restored(record)  # more than were planned: the budget says how far it is
    board.step("batch 4: solutions", 16)
    now[0] = 60.0
    assert "0/16 60 s" in drawn(board).replace("1 min 0 s", "60 s")
    board.evaluation("judging", 10, {"slow": 5.5, "quick": 0.5})
    wrong = Rollout(candidate="c", task_id="slow", sample=0, status="failed", score=0.0)
    board.advance(1, wrong)
    now[0] = 62.0
    assert "left" not in drawn(board)  # one that ended at once is no measure
    now[0] = 64.0
    assert "1/10 · 0.2/s about 8 s left" in drawn(board)
    for done in range(2, 11):
        board.advance(done, wrong.model_copy(update={"task_id": "quick"}))
    assert "10/10" in drawn(board) and "left" not in drawn(board)


def test_a_long_text_leaves_room_for_what_it_is_about() -> None:
    board = Board("")
    board._last = "- This is how a good answer looks: ```python def double(values)" * 9
    (last,) = [line.rstrip() for line in drawn(board, 60).splitlines() if "last" in line]
    assert last.startswith("  last     - This is how") and last.endswith("…") and len(last) <= 60


def test_a_note_stands_above_a_bar() -> None:
    shown = io.StringIO()
    with Live("the bar", console=Console(file=shown, force_terminal=True)):
        note("stopped; `evoprompt resume r` goes on")
    assert "evoprompt: stopped; `evoprompt resume r` goes on" in shown.getvalue()


def test_a_search_of_dspy_is_as_far_as_its_calls() -> None:
    board = Board("", lambda: {"generator": Spent(60, 0, 1, 1, 0.0, 0, 1.0)}, lambda: 0.0)
    board.started(Started(Options(budget=Budget(rollouts=100)), Candidate.of(Program()), 9, 9, batches=0))
    assert "60 % of the budget" in drawn(board)
