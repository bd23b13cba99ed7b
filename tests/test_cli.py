from __future__ import annotations

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import fields
from pathlib import Path

import pytest

from evoprompt.cli import run
from evoprompt.cli.doctor import _model
from evoprompt.cli.setup import Models
from evoprompt.cli.shown import broken
from evoprompt.cli.train import train
from evoprompt.errors import SandboxError
from evoprompt.evolve import Options
from evoprompt.runs import Journal
from evoprompt.wording import counted
from tests.models import ScriptedEngine, asked_for
from tests.openai_server import OpenAIServer, Reply, completion, engine_responder, error
from tests.world import RULE, reply


def _train(folder: Path, *more: str, model: str = "simulated", run_name: str = "r") -> list[str]:
    return [
        "train", "--experiment_name", "e", "--run_name", run_name, "--root_dir", str(folder / "results"),
        "--dataset_path", str(folder), "--train_file", "train.json", "--model", model, *more,
    ]  # fmt: skip


@pytest.mark.slow
def test_train_over_real_http_with_three_models(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with OpenAIServer(engine_responder(ScriptedEngine(reply))) as server:
        code = run(
            _train(
                folder, "--dev-file", "dev.json", "--test_file", "test.json", "--api_base", server.base,
                "--debugger_model", "openai/debugger", "--optimizer_model", "openai/optimizer",
                "--batch_size", "2", "--epochs", "2", "--eval-interval", "1", model="openai/coder",
            )
        )  # fmt: skip
        models = {r.body["model"] for r in server.seen}
    assert code == 0, capsys.readouterr().err
    assert models == {"coder", "debugger", "optimizer"}
    tree = folder / "results/e/r"
    assert RULE in (tree / "training/final_prompt.txt").read_text()
    assert json.loads((tree / "test_evaluation/evolved/test_evaluation.json").read_text())["score"] == 100.0
    assert json.loads((tree / "test_evaluation/start/test_evaluation.json").read_text())["score"] == 0.0
    assert "SIMULATED" not in capsys.readouterr().out


@pytest.mark.slow
def test_the_same_seed_writes_the_same_bytes(folder: Path) -> None:
    written = []
    for name in ("a", "b"):
        with OpenAIServer(engine_responder(ScriptedEngine(reply))) as server:
            more = ["--dev_file", "dev.json", "--api_base", server.base, "--num_threads", "1" if name == "a" else "6"]
            assert run(_train(folder, *more, model="openai/x", run_name=name)) == 0
        tree = folder / "results/e" / name / "training"
        written.append([(tree / f).read_bytes() for f in ("prompt_evolution.json", "final_prompt.txt")])
    assert written[0] == written[1]


@pytest.mark.slow
def test_skip_evaluations_and_accept_always(folder: Path) -> None:
    with OpenAIServer(engine_responder(ScriptedEngine(reply))) as server:
        more = ["--api_base", server.base, "--skip_evaluations", "--strategy", "refine", "--accept", "always"]
        more += ["--test_file", "test.json"]
        assert run(_train(folder, *more, model="openai/x")) == 0
    tree = folder / "results/e/r"
    assert (tree / "training/final_prompt.txt").is_file() and (tree / "program.json").is_file()
    assert not (tree / "dev_evaluation").exists() and not (tree / "test_evaluation").exists()
    record = json.loads((tree / "training/epochs/epoch_1/batch_1/batch_results.json").read_text())
    assert record["accepted"] and "accept=always" in record["reason"]


def test_a_run_that_was_begun_before_there_was_a_strategy_goes_on(folder: Path) -> None:
    with OpenAIServer(engine_responder(ScriptedEngine(reply))) as server:
        assert run(_train(folder, "--api_base", server.base, "--strategy", "refine", model="openai/x")) == 0
        asked, later = len(server.seen), {"strategy", "patience", "target", "optimizer"}
        with Journal(folder / "results/e/r/journal.sqlite") as journal:
            identities = [json.loads(journal.meta(name) or "{}")["options"] for name in ("identity", "command")]
            assert not any(later & set(options) for options in identities), "as it was written then"
            config = json.loads(journal.meta("config") or "{}")
            config["options"] = {k: v for k, v in config["options"].items() if k not in later}
            journal.keep_meta("config", json.dumps(config))
        assert run(["resume", str(folder / "results/e/r")]) == 0
        assert len(server.seen) == asked


@pytest.mark.slow
@pytest.mark.parametrize("helps", [True, False])
def test_train_tells_what_each_sentence_is_worth_or_why_the_start_stays(
    folder: Path, capsys: pytest.CaptureFixture[str], helps: bool
) -> None:
    def says(text: str) -> str:
        return reply(text if helps or asked_for(text) != "code" else text.replace(RULE, ""))

    with OpenAIServer(engine_responder(ScriptedEngine(says))) as server:
        more = ["--dev_file", "dev.json", "--api_base", server.base, "--max_rollouts", "60", "--batch_size", "4"]
        assert run(_train(folder, *more, model="openai/x")) == 0
    shown = capsys.readouterr()
    assert re.search(r"^batch 1: \d+ rules", shown.err, re.MULTILINE)
    assert ("confirmed against the start prompt: wins 6, loses 0 of" in shown.out) == helps
    assert bool(re.search(rf"^ \+\d+\.\d  \[.+\] +new +\d+  {RULE}$", shown.out, re.MULTILINE)) == helps
    assert ("the start prompt stays" in shown.out) != helps
    assert (folder / "results/e/r/training/confirmation.json").exists() or not helps


@pytest.mark.slow
def test_a_config_file_and_a_runs_own_config(folder: Path) -> None:
    options = {"experiment_name": "e", "run-name": "one", "root_dir": str(folder / "results"), "batch_size": 2,
               "dataset_path": str(folder), "train_file": "train.json", "model": "openai/x"}  # fmt: skip
    (folder / "c.json").write_text(json.dumps(options))
    with OpenAIServer(engine_responder(ScriptedEngine(reply))) as server:
        assert run(["train", "--config", str(folder / "c.json"), "--api_base", server.base]) == 0
        again = ["train", "--config", str(folder / "results/e/one/config.json"), "--run_name", "two"]
        assert run([*again, "--batch_size", "3"]) == 0
    first, second = (json.loads((folder / f"results/e/{n}/config.json").read_text()) for n in ("one", "two"))
    assert (first["options"]["batch_size"], second["options"]["batch_size"]) == (2, 3)
    assert first["data"] == second["data"] and "api_key" not in json.dumps(first)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dataset_path", "nowhere"], "--dataset_path 'nowhere' is not a folder"),
        (["--train_file", "absent.json"], "absent.json' does not exist"),
        (["--train_file", "."], "is a directory; give a file"),
        (["--dev_file", "train.json"], "task_id 't1' is in train and in dev"),
        (["--run_name", "../x"], "--run_name must be the name of a folder, not '../x'"),
        (["--run_name", "a\udcedb"], r"--run_name must be the name of a folder, not 'a\udcedb'"),
        (["--prompt", "Write\udced it."], r"'Write\udced it.' is no UTF-8 text: '\udced' stands at character 6"),
        (["--lock", "not in it"], "lock: the start prompt does not hold 'not in it'"),
        (["--accept", "maybe"], "--accept must be one of 'improves', 'always', not 'maybe' (`evoprompt train --help`"),
        (["--batch_size", "0"], "--batch_size must be 1 or more, not '0'"),
        (["--batch_size", "1.5"], "--batch_size must be a whole number, not '1.5'"),
        (["--temperature", "500"], "--temperature must be 100 or less, not '500'"),
        (["--max_cost", "2usd"], "--max_cost must be a number, not '2usd'"),
        (["--max_calls", ""], "--max_calls must be a whole number, not ''"),
        (["--config", "absent.json"], "'absent.json' can't be read: No such file"),
        (["--no_such_option"], "o such option"),
    ],
)
def test_bad_usage_is_told_and_leaves_with_2(
    folder: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*_train(folder), *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[0] and all(line.startswith("evoprompt: ") for line in lines)
    assert len(lines) == (4 if "--dev_file" in arguments else 1)
    assert not (folder / "results").exists()


def test_a_missing_key_is_one_line_before_anything_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(_train(folder, model="gpt-4o-mini")) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "OPENAI_API_KEY" in line
    assert not (folder / "results").exists()


def test_a_wrong_key_stops_at_once_and_never_shows_the_key(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-key-123456")
    refused = error(401, "Incorrect API key provided: sk-very-secret-key-123456", "invalid_api_key")
    with OpenAIServer(lambda *_: refused) as server:
        more = ["--api_base", server.base, "--num_threads", "1"]
        assert run(_train(folder, *more, model="openai/x")) == 3
        assert len(server.seen) == 1
    told = capsys.readouterr().err
    assert "Traceback" not in told and "secret" not in told
    everything = b"".join(p.read_bytes() for p in (folder / "results").rglob("*") if p.is_file())
    assert b"secret" not in everything
    assert (folder / "results/e/r/training/final_prompt.txt").is_file()


def test_a_dead_sandbox_leaves_with_4_and_scores_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(*_: object, **__: object) -> None:
        raise SandboxError("no process can be started")

    monkeypatch.setattr("evoprompt.harness.Harness.check", dead)
    with OpenAIServer(engine_responder(ScriptedEngine(reply))) as server:
        assert run(_train(folder, "--api_base", server.base, model="openai/x")) == 4
    told = capsys.readouterr().err
    assert len(re.findall(r"warning: task t\d: the sandbox failed: no process can be started", told)) == 3
    assert "… and more like this" in told
    assert "4 of 4 rollouts could not be measured" in told and "Traceback" not in told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "score"),
    [
        ([], 0.0),
        (["--base_test"], 100.0),
        (["--plus-test"], 0.0),
        (["--base_test", "--plus_test"], 100.0),
        (["--base_test", "--plus_test", "--require_both"], 0.0),
    ],
)
def test_which_suites_count(folder: Path, flags: list[str], score: float) -> None:
    with OpenAIServer(engine_responder(ScriptedEngine(reply))) as server:
        assert run(_train(folder, "--api_base", server.base, *flags, model="openai/x")) == 0
    record = json.loads((folder / "results/e/r/training/epochs/epoch_1/batch_1/batch_results.json").read_text())
    assert record["evaluation"]["score"] == score


@pytest.mark.slow
def test_an_existing_run_is_not_touched(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with OpenAIServer(engine_responder(ScriptedEngine(reply))) as server:
        assert run(_train(folder, "--api_base", server.base, model="openai/x")) == 0
        before = _files(folder)
        asked = len(server.seen)
        assert run(_train(folder, "--api_base", server.base, "--seed", "7", model="openai/x")) == 2
        assert "belongs to another run: options.seed was 42, is 7." in capsys.readouterr().err
        assert _files(folder) == before
        assert run(_train(folder, "--api_base", server.base, model="openai/x")) == 0
        assert len(server.seen) == asked, "a finished run costs nothing when it is asked for again"
    changed = {p.name for p, content in _files(folder).items() if before.get(p) != content}
    assert changed <= {"run.lock", "report.html", "journal.sqlite", "experiment.log", "events.jsonl"}


def _files(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in (folder / "results").rglob("*") if p.is_file() and p.name != "run.lock"}


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_finished(folder: Path) -> None:
    hold, seen = threading.Event(), threading.Event()

    def slow(body: dict[str, object], n: int) -> str | Reply:
        if n >= 14:
            seen.set()
            hold.wait(30)
        return answer(body, n)

    answer = engine_responder(ScriptedEngine(reply))
    with OpenAIServer(slow) as server:
        words = _train(
            folder, "--api_base", server.base, "--dev_file", "dev.json", "--batch_size", "2", model="openai/x"
        )
        child = subprocess.Popen(
            [sys.executable, "-m", "evoprompt", *words], stderr=subprocess.PIPE, text=True, env=os.environ.copy(),
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # where the tests run in the background
        )  # fmt: skip
        assert seen.wait(60)
        child.send_signal(signal.SIGINT)
        assert child.stderr is not None
        told = ""
        while "waited for (Ctrl-C: stop at once)" not in told:
            line = child.stderr.readline()
            assert line, f"it has ended: {told}"
            told += line
        child.send_signal(signal.SIGINT)
        told += child.communicate(timeout=20)[1]
        hold.set()
    assert child.returncode == 130
    assert "interrupted" in told and "Traceback" not in told
    tree = folder / "results/e/r"
    assert (tree / "training/final_prompt.txt").read_text().strip()
    for path in tree.rglob("*.json"):
        json.loads(path.read_text())


def test_datasets_lists_writes_and_checks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["datasets"]) == 0
    assert "starter" in capsys.readouterr().out
    assert run(["datasets", "--write", str(folder / "new")]) == 0
    assert run(["datasets", "--write", str(folder / "new")]) == 2
    assert sorted(p.name for p in (folder / "new").iterdir()) == [
        "small_dev.json",
        "small_test.json",
        "small_train.json",
    ]
    assert run(["datasets", "--check", str(folder / "train.json")]) == 0
    assert "4 tasks, 12 tests; every canonical solution passes" in capsys.readouterr().out
    rows = json.loads((folder / "train.json").read_text())
    rows[2]["test"] = ["assert top_3([1]) == 99"]
    (folder / "train.json").write_text(json.dumps(rows))
    assert run(["datasets", "--check", str(folder / "train.json")]) == 2
    assert "train.json: task 't3': assert top_3([1]) == 99 returned 4" in capsys.readouterr().err


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "sandbox" in out and "a solution ran and was judged" in out and "no provider key is set" in out
    with OpenAIServer(lambda *_: "ok") as server:
        assert run(["doctor", "--model", "openai/x", "--api_base", server.base]) == 0
    with OpenAIServer(lambda *_: error(500, "the engine has no memory left")) as server:
        assert run(["doctor", "--model", "openai/x", "--api_base", server.base]) == 3
    assert "does not answer: HTTP 500: the engine has no memory left" in capsys.readouterr().out
    assert run(["doctor", "--model", "gpt-4o-mini"]) == 3
    assert "OPENAI_API_KEY" in capsys.readouterr().out


def _ends(text: str | None, reason: str) -> Reply:
    return Reply(200, completion(text or "", {}, reason))


@pytest.mark.parametrize(
    ("reply", "state", "told", "fix"),
    [
        (_ends("", "stop"), "bad", "does not answer: the reply is empty", "look at the server's log"),
        (_ends("I think", "length"), "note", "was cut off by its length", "a larger --max_tokens"),
        (error(429, "slow down"), "bad", "does not answer: HTTP 429: slow down", "wait a moment, or ask the provider"),
        (error(401, "no"), "bad", "refused the key", "export OPENAI_API_KEY=…, a key that is valid"),
        (error(404, "none", "model_not_found"), "bad", "is unknown to its provider", "check the model's name"),
        (Reply(404, {}), "bad", "(HTTP 404: Not Found)", "check --api_base: the address of an OpenAI-compatible API"),
        (error(503, "overloaded"), "bad", "does not answer: HTTP 503: overloaded", "try again later"),
    ],
)
def test_the_doctor_tells_how_to_mend_what_a_call_meets(reply: Reply, state: str, told: str, fix: str) -> None:
    with OpenAIServer(lambda *_: reply) as server:
        (found,) = _model("openai/x", server.base)
    assert found.state == state and told in found.text and fix in found.fix
    assert (found.error is not None) == (state == "bad")


def test_the_doctor_tells_of_a_server_that_is_not_there() -> None:
    with OpenAIServer(lambda *_: "ok") as server:
        pass
    (found,) = _model("openai/x", server.base)
    assert found.state == "bad" and found.fix.startswith("start the server, or check the host and the port")


@pytest.mark.slow
def test_the_built_wheel_runs_the_demo_elsewhere(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(root),
    ]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("evoprompt-*.whl")
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    environment = os.environ | {"PYTHONPATH": str(target)}
    where = subprocess.run(
        [sys.executable, "-P", "-c", "import evoprompt, signatures; print(evoprompt.__file__, signatures.__file__)"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert where.count(str(target)) == 2
    demo = [sys.executable, "-P", "-m", "evoprompt", "demo"]
    out = subprocess.run(demo, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert (tmp_path / "results/demo/run_1/program.json").is_file()


def test_a_run_that_was_stopped_before_it_began_is_told_as_that(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder / "results/e/r"
    Journal(root / "journal.sqlite").close()
    assert run(["resume", str(root)]) == 2
    assert "was stopped before it began: give the command that began it again" in capsys.readouterr().err


def test_an_address_without_a_scheme_is_refused_before_anything_runs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(_train(folder, "--api_base", "127.0.0.1:8000/v1", model="openai/x")) == 2
    assert "--api_base '127.0.0.1:8000/v1' is no URL" in capsys.readouterr().err
    assert not (folder / "results").exists()


def test_train_says_why_it_ended_early(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(_train(folder, "--max_rollouts", "2")) == 0
    assert "SIMULATED the search ended because the budget of 2 rollouts is spent" in capsys.readouterr().out


def test_options_have_the_defaults_of_what_they_set() -> None:
    owners = {f.name: f.default for owner in (Models, Options) for f in fields(owner)}
    options = {name: p.default for name, p in inspect.signature(train).parameters.items() if p.default is not p.empty}
    shared = owners.keys() & options.keys() - {"num_threads", "lock"}  # one is DSPy's own, one a list
    assert {"temperature", "timeout", "batch_size", "strategy", "patience"} <= shared
    assert {name: options[name] for name in shared} == {name: owners[name] for name in shared}


def test_all_missing_options_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    wanted = "--experiment_name", "--run_name", "--root_dir", "--model", "--dataset with --split"
    assert all(option in line for option in wanted)
    (tmp_path / "c.toml").write_text("model = 'simulated'\nroot_dir = 'r'\ndataset = 'starter'\n")
    assert run(["train", "--config", str(tmp_path / "c.toml")]) == 2
    assert "missing: --experiment_name, --run_name (" in capsys.readouterr().err
    assert run(["evaluate"]) == 2
    assert "missing: --dataset, --model NAME (or --samples FILE) (" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "word", "told"),
    [(0, "task", "0 tasks"), (1, "task", "1 task"), (1200, "call", "1,200 calls"), (2, "batch", "2 batches")],
)
def test_counted(number: int, word: str, told: str) -> None:
    assert counted(number, word) == told


@pytest.mark.parametrize("width", [100, 80, 40])
def test_lines_break_between_words(width: int) -> None:
    text = "the prompt is in results/experiment/a_run_with_a_very_long_name/final_prompt.txt now, and " + "so on " * 20
    lines = broken(text, width, "  ").splitlines()
    assert {w for line in lines for w in line.split()} == set(text.split())
    assert all(len(line) <= width or len(line.split()) == 1 for line in lines)
