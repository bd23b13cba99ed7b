"""Ways on from a run: resume, export, fork; evaluations; and the same from Python."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import LMAuthError

from evoprompt import CodeMetric, EvoPrompt, ModelError, Program
from evoprompt.runs import journal
from tests.faults.conftest import Study, server
from tests.faults.victim import Blow, kept, run
from tests.models import scripted
from tests.world import data, reply

NOT_RESULTS = {"run.lock", journal.NAME, f"{journal.NAME}-wal", "experiment.log", "events.jsonl", "report.html"}


def files(run_dir: Path) -> dict[str, bytes]:
    found = (p for p in run_dir.rglob("*") if p.is_file() and p.name not in NOT_RESULTS)
    return {str(p.relative_to(run_dir)): p.read_bytes() for p in found}


def only_the_journal(run_dir: Path) -> None:
    for path in list(run_dir.iterdir()):
        if path.is_dir():
            shutil.rmtree(path)
        elif not path.name.startswith(journal.NAME):
            path.unlink()


@pytest.mark.slow
def test_all_files_of_a_finished_run_can_be_made_from_its_journal(study: Study, same: Any) -> None:
    with server() as there:
        assert study.train(there.base)[0] == 0
    before = files(study.run_dir)
    only_the_journal(study.run_dir)
    code, said = run(["export", "results/e/r"], study.folder)
    assert code == 0, said
    assert (study.run_dir / "report.html").is_file()  # it tells when things happened, as the logs do
    assert {n for n, content in files(study.run_dir).items() if before.get(n) != content} == set()
    assert files(study.run_dir).keys() == before.keys()
    same(study)


@pytest.mark.slow
def test_so_can_those_of_a_run_that_was_paused(study: Study) -> None:
    with server(lambda _, __, total: "401" if total >= 16 else None) as there:
        assert study.train(there.base)[0] == 3
    before = files(study.run_dir)
    only_the_journal(study.run_dir)
    code, said = run(["export", "results/e/r"], study.folder)
    assert code == 0, said
    assert files(study.run_dir) == before


@pytest.mark.slow
def test_and_those_of_a_run_that_was_killed_but_for_what_it_had_spent_since(study: Study) -> None:
    with server() as there:
        assert study.train(there.base, blow=Blow("kill", "answers", 20))[0] == -9
    before = files(study.run_dir)
    only_the_journal(study.run_dir)
    assert run(["export", "results/e/r"], study.folder)[0] == 0
    after = files(study.run_dir)
    assert {name for name in before if before[name] != after.get(name)} <= {"summary.json"}
    assert after.keys() == before.keys()
    told = [json.loads(found["summary.json"]) for found in (before, after)]
    assert told[0] | {"spent": 0} == told[1] | {"spent": 0}
    with journal.Journal(study.run_dir / journal.NAME) as there_is:
        answers = there_is.counts()["answers"]
    assert _calls(told[0]) <= _calls(told[1]) == answers, (
        "maybe nothing was spent since: threads are as fast as they are"
    )


@pytest.mark.slow
def test_a_fork_takes_the_answers_along_and_other_options(study: Study, undisturbed: Any) -> None:
    with server() as there:
        assert study.train(there.base)[0] == 0
        old = set(there.asked)
        code, said = study.train(there.base, "--batch_size", "2")
        assert code == 2 and "belongs to another run: options.batch_size was 3, is 2" in said
        assert study.train(there.base, "--batch_size", "2", "--fork", "r2")[0] == 0
        assert sum(there.asked.values()) == len(there.asked), "the fork asks nothing that the old run had asked"
        served = sum(there.served.values())
        code, said = study.train(there.base, "--batch_size", "2", "--fork", "r2")
        assert code == 2 and "that run exists" in said
        assert run(["resume", "results/e/r2"], study.folder)[0] == 0
        assert sum(there.served.values()) == served
        code, said = study.train(there.base, "--seed", "7", "--fork", "r3", blow=Blow("kill", "rename"))
        assert code == -9 and study.train(there.base, "--seed", "7", "--fork", "r3")[0] == 0, said
        assert all(there.asked[request] == 1 for request in old), "nor does another fork"
    config = json.loads((study.run_dir.parent / "r2/config.json").read_text())
    assert config["options"]["batch_size"] == 2
    assert kept(study.run_dir) == undisturbed.rows, "the old run stays as it was"


@pytest.mark.slow
def test_a_folder_of_something_else_is_refused(study: Study) -> None:
    (study.run_dir / "training").mkdir(parents=True)
    (study.run_dir / "training/rollouts.jsonl").write_text("{}\n")
    with server() as there:
        code, said = study.train(there.base)
        assert (code, sum(there.served.values())) == (2, 0)
    assert said.count("\n") == 1 and "is not empty and holds no journal" in said
    assert [p.name for p in study.run_dir.rglob("*") if p.is_file()] in (
        ["run.lock", "rollouts.jsonl"], ["rollouts.jsonl", "run.lock"],
    )  # fmt: skip


@pytest.mark.slow
def test_resume_needs_a_run_and_a_finished_one_costs_nothing(study: Study, undisturbed: Any, same: Any) -> None:
    code, said = run(["resume", "nowhere"], study.folder)
    assert code == 2 and said == "evoprompt: 'nowhere' holds no run: there is no journal.sqlite in it\n"
    assert not (study.folder / "nowhere").exists()
    with server() as there:
        assert study.train(there.base)[0] == 0
        code, said = run(["resume", "results/e/r"], study.folder)
        assert code == 0, said
        assert sum(there.served.values()) == undisturbed.requests
    same(study)


@pytest.mark.slow
def test_an_evaluation_of_a_model_goes_on(study: Study) -> None:
    def words(name: str) -> list[str]:
        return ["evaluate", "--dataset", "train.json", "--model", "openai/x", "--api_base", there.base,
                "--output", f"{name}_eval_results.json"]  # fmt: skip

    with server() as there:
        assert run(words("whole"), study.folder)[0] == 0
        whole = sum(there.served.values())
    with server() as there:
        for blow in (Blow("kill", "answers", 2, after=True), Blow("kill", "rollouts", 2), Blow("full", "rollouts", 2)):
            assert run(words("killed"), study.folder, blow)[0] == (-9 if blow.what == "kill" else 5)
        code, said = run(words("killed"), study.folder)
        assert code == 0 and "going on where the last run stopped" in said
        # Each of the three blows costs the calls under way: at most one for each task that has no answer yet.
        assert sum(there.asked.values()) - len(there.asked) <= 3 * (whole - 1)
        assert len(there.asked) == whole
    assert _evaluated(study, "killed") == _evaluated(study, "whole")


@pytest.mark.slow
def test_an_evaluation_of_samples_runs_no_finished_one_again(study: Study) -> None:
    rows = [{"task_id": t.task_id, "solution": t.code + f"\n# {n}"} for t in data(6) for n in range(2)]
    (study.folder / "samples.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def words(name: str) -> list[str]:
        return [
            "evaluate",
            "--dataset",
            "train.json",
            "--samples",
            "samples.jsonl",
            "--output",
            f"{name}_eval_results.json",
        ]

    assert run(words("whole"), study.folder)[0] == 0
    assert run(words("killed"), study.folder, Blow("kill", "rollouts", 5, after=True))[0] == -9
    known = _rollouts(study.folder / "killed_eval_results.json.journal")
    assert 5 <= known < 12
    # It would be killed if it ran one more than those that are left.
    code, said = run(words("killed"), study.folder, Blow("kill", "rollouts", 12 - known + 1))
    assert code == 0 and f"{known} of 12 are known" in said
    assert _evaluated(study, "killed") == _evaluated(study, "whole")
    assert not list(study.folder.glob("*.journal*"))


def _calls(summary: dict[str, Any]) -> int:
    return sum(role["calls"] for role in summary["spent"].values())


def _rollouts(path: Path) -> int:
    with journal.Journal(path) as there:
        return there.counts()["rollouts"]


def _evaluated(study: Study, name: str) -> Any:
    """All verdicts, without the time that they took."""
    found = json.loads((study.folder / f"{name}_eval_results.json").read_text())["eval"]
    return {task: [row | {"cpu_seconds": 0} for row in rows] for task, rows in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize("at", [2, 9, 14])
def test_compile_goes_on_from_python(tmp_path: Path, harness: Any, at: int) -> None:
    def compiled(folder: Path, last: int | None) -> Any:
        def fails(text: str) -> str:
            if last is not None and len(engine.seen) > last:
                raise LMAuthError("no", model="m")
            return reply(text)

        lm, engine = scripted(fails)
        train, dev = data(6), data(4, 11)
        metric = CodeMetric([*train, *dev], harness=harness)
        with dspy.context(lm=lm):
            search = EvoPrompt(metric, run_dir=folder, batch_size=3, num_threads=2)
            program = Program(generator_lm=lm, debugger_lm=lm, optimizer_lm=lm)
            return search.compile(program, trainset=list(train), valset=list(dev)).detailed_results

    whole = compiled(tmp_path / "whole", None)
    with pytest.raises(ModelError):
        compiled(tmp_path / "stopped", at)
    assert compiled(tmp_path / "stopped", None) == whole
