from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoprompt import CodeMetric, EvoPrompt, Options, Program
from evoprompt.candidate import Candidate
from evoprompt.errors import ModelError, UsageError
from evoprompt.evolve.events import BatchDone, DevDone, Event, Started
from evoprompt.evolve.refine import accepts, batches, compare, screen
from evoprompt.evolve.triage import cluster
from evoprompt.harness import Harness
from evoprompt.judges import Rollout
from evoprompt.lm.calls import CutOffReply
from evoprompt.runs import Journal
from signatures import Diagnosis, GenerateCode
from tests.models import asked_for, fenced, scripted
from tests.world import RULE, data, reply, solution, task

SEED = GenerateCode.instructions


def _compile(harness: Harness, lm: dspy.LM, valset: bool = True, run_dir: Path | None = None, **options: Any) -> Any:
    train, dev = data(6), data(4, first=11)
    metric = CodeMetric([*train, *dev], harness=harness)
    events: list[Event] = []
    optimizer = EvoPrompt(
        metric, listener=events.append, run_dir=run_dir, **({"strategy": "refine", "batch_size": 3} | options)
    )
    with dspy.context(lm=lm):
        evolved = optimizer.compile(Program(), trainset=train.examples(), valset=dev.examples() if valset else None)
    return evolved, events


def test_learns_the_rule_and_returns_a_copy(harness: Harness) -> None:
    lm, engine = scripted(reply)
    student = Program()
    evolved, _ = _compile(harness, lm)
    results = evolved.detailed_results
    assert RULE in Candidate.of(evolved).instruction
    assert Candidate.of(student).instruction == SEED == GenerateCode.instructions
    assert results.best_dev_score == 100.0
    assert results.dev[results.seed.key].score == 0.0
    first, second = results.batches
    assert (first.accepted, first.parent_score, first.child_score, first.paired_tasks) == (True, 0.0, 100.0, 3)
    assert not second.accepted and "nothing failed" in second.reason
    assert [e.accepted for e in results.evolution] == [True, True]
    assert results.evolution[1].parent == results.seed.key
    assert results.evolution[1].proposed_because[0].rule == RULE
    # 4 dev + 3 batch + 3 diagnoses + 1 proposal + 3 child + 3 batch + 4 dev: nothing is asked twice.
    assert len(engine.seen) == 21


def test_a_proposal_that_brings_nothing_is_not_kept(harness: Harness) -> None:
    def useless(text: str) -> str:
        if asked_for(text) == "new_instruction":
            return f"[[ ## new_instruction ## ]]\nBe brilliant, attempt {len(engine.seen)}.\n\n[[ ## completed ## ]]"
        return reply(text)

    lm, engine = scripted(useless)
    evolved, _ = _compile(harness, lm)
    assert Candidate.of(evolved).instruction == SEED
    assert [b.accepted for b in evolved.detailed_results.batches] == [False, False]
    assert len(evolved.detailed_results.evolution) == 3


def test_accept_always_replaces_the_prompt_but_dev_still_decides(harness: Harness) -> None:
    def worse(text: str) -> str:
        if asked_for(text) == "new_instruction":
            return f"[[ ## new_instruction ## ]]\nWorse {len(engine.seen)}.\n\n[[ ## completed ## ]]"
        return reply(text)

    lm, engine = scripted(worse)
    evolved, _ = _compile(harness, lm, accept="always")
    assert all(b.accepted for b in evolved.detailed_results.batches)
    assert evolved.detailed_results.batches[1].parent.instruction.startswith("Worse")
    assert Candidate.of(evolved).instruction.startswith("Worse")  # equal dev score, and shorter than the seed
    without_dev, _ = _compile(harness, lm, valset=False, accept="always")
    assert without_dev.detailed_results.best == without_dev.detailed_results.batches[-1].child


def test_ties_on_dev_go_to_the_shorter_prompt(harness: Harness) -> None:
    def longer(text: str) -> str:
        if asked_for(text) == "new_instruction":
            return f"[[ ## new_instruction ## ]]\n{SEED} And {'be nice ' * 20}\n\n[[ ## completed ## ]]"
        return reply(text)

    lm, _ = scripted(longer)
    evolved, _ = _compile(harness, lm, accept="always")
    assert Candidate.of(evolved).instruction == SEED


def test_the_same_seed_gives_the_same_history_at_any_number_of_threads(harness: Harness) -> None:
    histories = []
    for threads in (1, 8):
        lm, _ = scripted(reply)
        evolved, _ = _compile(harness, lm, num_threads=threads)
        histories.append([e.model_dump() for e in evolved.detailed_results.evolution])
    assert histories[0] == histories[1]


def test_an_outage_is_not_a_wrong_answer(harness: Harness) -> None:
    def flaky(text: str) -> str:
        if asked_for(text) == "code" and "to add 2 to" in text:
            raise TimeoutError("no answer")
        return reply(text)

    lm, _ = scripted(flaky)
    _, events = _compile(harness, lm)
    (hit,) = [e.record for e in events if isinstance(e, BatchDone) and "t2" in e.record.tasks]
    lost = next(r for r in hit.rollouts if r.task_id == "t2")
    assert (lost.status, lost.score, lost.report) == ("lm_error", None, None)
    assert hit.evaluation.unmeasured == 1 and hit.evaluation.measured == 2
    if hit.child is not None:
        assert hit.paired_tasks == 2


def test_a_model_that_never_answers_stops_the_run(harness: Harness) -> None:
    def dead(text: str) -> str:
        raise TimeoutError("no answer")

    lm, engine = scripted(dead)
    with pytest.raises(ModelError, match="4 of 4 rollouts could not be measured"):
        _compile(harness, lm)
    assert len(engine.seen) == 4


def test_events_tell_the_story(harness: Harness) -> None:
    lm, _ = scripted(reply)
    _, events = _compile(harness, lm, eval_interval=1)
    assert isinstance(events[0], Started) and (events[0].train_tasks, events[0].batches) == (6, 2)
    assert [(e.record.epoch, e.record.batch) for e in events if isinstance(e, DevDone)] == [(0, 0), (1, 1)]
    assert [e.record.batch for e in events if isinstance(e, BatchDone)] == [1, 2]


def test_the_results_tree(harness: Harness, tmp_path: Path) -> None:
    lm, _ = scripted(reply)
    evolved, _ = _compile(harness, lm, run_dir=tmp_path / "run")
    root = tmp_path / "run"
    files = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
    assert files >= {
        "logs/experiment.log",
        "training/epochs/epoch_1/batch_1/batch_results.json",
        "training/epochs/epoch_1/batch_2/batch_results.json",
        "training/checkpoints/latest.json",
        "training/prompt_evolution.json",
        "training/final_prompt.txt",
        "dev_evaluation/epoch_0/batch_0/dev_evaluation.json",
        "dev_evaluation/epoch_1/batch_2/dev_evaluation.json",
        "dev_evaluation/epoch_1/batch_2/individual_tasks/t11.json",
        "program.json",
    }
    assert not [f for f in files if "/." in f or f.startswith(".")]
    assert all(
        json.loads((root / f).read_text())["schema_version"] == 1
        for f in files
        if f.endswith(".json") and f != "program.json"
    )
    best = Candidate.of(evolved).instruction
    assert (root / "training/final_prompt.txt").read_text() == best + "\n"
    assert Candidate.of(Program().load(root / "program.json")).instruction == best
    row = json.loads(next((root / "training/epochs/epoch_1/batch_1/individual_tasks").iterdir()).read_text())
    assert row["status"] == "error" and row["diagnosis"]["diagnosis"]["rule"] == RULE
    assert row["failing_cases"][0]["call"].endswith("([])")
    assert row["with_proposal"]["status"] == "passed"


def test_a_run_directory_is_never_written_over(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "precious.json").write_text("{}")
    lm, engine = scripted(reply)
    with pytest.raises(UsageError, match="is not empty"):
        _compile(harness, lm, run_dir=tmp_path)
    assert engine.seen == []


@pytest.mark.parametrize(
    "bad",
    [{"batch_size": 0}, {"epochs": -1}, {"eval_interval": 1.5}, {"accept": "maybe"}, {"max_unmeasured": 2},
     {"num_threads": True}, {"batchsize": 3}, {"seed": "a"}, {"seed": None}, {"target": "x"}, {"max_unmeasured": None},
     {"patience": True}],
)  # fmt: skip
def test_bad_options_are_named_with_their_value(bad: dict[str, Any]) -> None:
    ((name, value),) = bad.items()
    with pytest.raises(UsageError, match=name) as error:
        EvoPrompt(CodeMetric(data(1)), **bad)
    assert name == "batchsize" or repr(value) in str(error.value)


def test_compile_refuses_what_it_cannot_use(harness: Harness) -> None:
    optimizer = EvoPrompt(CodeMetric(data(2), harness=harness))
    with pytest.raises(UsageError, match="trainset is empty"):
        optimizer.compile(Program(), trainset=[])
    with pytest.raises(UsageError, match="no argument 'budget'"):
        optimizer.compile(Program(), trainset=list(data(1)), budget=3)
    with pytest.raises(UsageError, match="no model for the debugger"):
        optimizer.compile(Program(), trainset=list(data(1)))
    with pytest.raises(UsageError, match="has no predictor"):
        optimizer.compile(dspy.Module(), trainset=list(data(1)))
    with pytest.raises(UsageError, match=r"must be a dspy\.Module, .* not its class"):
        optimizer.compile(Program, trainset=list(data(1)))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"must be a dspy\.Module, not 'x'"):
        optimizer.compile("x", trainset=list(data(1)))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="trainset is empty"):
        optimizer.compile(Program(), trainset=None)  # type: ignore[arg-type]


@given(tasks=st.integers(0, 40), size=st.integers(1, 15), epochs=st.integers(1, 3), seed=st.integers())
def test_every_epoch_visits_every_task_once(tasks: int, size: int, epochs: int, seed: int) -> None:
    plan = batches(tasks, Options(batch_size=size, epochs=epochs, seed=seed))
    assert plan == batches(tasks, Options(batch_size=size, epochs=epochs, seed=seed))
    for epoch in range(1, epochs + 1):
        mine = [places for e, _, places in plan if e == epoch]
        assert sorted(i for places in mine for i in places) == list(range(tasks))
        assert all(1 <= len(places) <= size for places in mine)


def _rollout(task_id: str, score: float | None) -> Rollout:
    status = "lm_error" if score is None else "passed" if score else "failed"
    return Rollout(candidate="c", task_id=task_id, status=status, score=score)  # type: ignore[arg-type]


def test_comparison_uses_the_tasks_that_both_sides_have() -> None:
    parent = [_rollout("a", 1.0), _rollout("b", 0.0), _rollout("c", None), _rollout("d", 0.0)]
    child = [_rollout("a", 1.0), _rollout("b", 1.0), _rollout("c", 1.0), _rollout("d", None)]
    found = compare(parent, child)
    assert (found.paired_tasks, found.parent_score, found.child_score) == (2, 50.0, 100.0)
    assert accepts(found, "improves")[0]
    assert not accepts(compare(child, parent), "improves")[0]
    assert not accepts(compare(parent, parent), "improves")[0]
    assert accepts(compare(parent, parent), "always")[0]
    nothing = compare(parent, [_rollout("a", None)])
    assert nothing.paired_tasks == 0 and not accepts(nothing, "improves")[0]


@pytest.mark.parametrize(
    ("proposal", "reason"),
    [
        ("  ", "no instruction"),
        ("x" * 200, "200 characters"),
        ("Write   CODE.", "tried before"),
        ("Always check top_1 first.", "names a function of the batch: top_1"),
        ("Check the top first.", None),
    ],
)
def test_screening(proposal: str, reason: str | None) -> None:
    found = screen(proposal, ["Write code."], [task(1)], 100)
    assert found is None if reason is None else reason in (found or "")


def _diagnosis(rule: str) -> Diagnosis:
    return Diagnosis(failure_class="edge_case", root_cause=f"because {rule}", rule=rule)


def test_like_rules_become_one_group() -> None:
    groups = cluster(
        [
            _diagnosis("Round floats only at the end."),
            _diagnosis("Handle empty input before indexing into it."),
            _diagnosis("Handle an empty input first, before indexing."),
        ]
    )
    assert [(g.rule, g.count) for g in groups] == [
        ("Handle empty input before indexing into it.", 2),
        ("Round floats only at the end.", 1),
    ]
    assert groups[0].example == "because Handle empty input before indexing into it."
    assert cluster([]) == []


@given(st.lists(st.text(max_size=60), max_size=12))
def test_clusters_lose_no_diagnosis(rules: list[str]) -> None:
    groups = cluster([_diagnosis(r) for r in rules])
    assert sum(g.count for g in groups) == len(rules)
    assert [g.count for g in groups] == sorted((g.count for g in groups), reverse=True)
    assert {g.rule for g in groups} <= set(rules)


def test_a_proposal_that_was_hardly_measured_is_not_accepted(harness: Harness) -> None:
    def flaky(text: str) -> str:
        if asked_for(text) == "code" and RULE in text:
            raise CutOffReply("it never ends")
        return reply(text)

    lm, _ = scripted(flaky)
    for accept in ("improves", "always"):
        evolved, _ = _compile(harness, lm, valset=False, accept=accept)
        assert Candidate.of(evolved).instruction == SEED
        assert "0 of 3 tasks could be compared" in evolved.detailed_results.batches[0].reason


def test_dev_scores_are_compared_on_the_tasks_that_all_have(harness: Harness) -> None:
    def answer(text: str) -> str:
        field = asked_for(text)
        if field == "new_instruction":
            return "[[ ## new_instruction ## ]]\nShort.\n\n[[ ## completed ## ]]"
        if field != "code":
            return reply(text)
        number = int(text.rsplit("to add ", 1)[-1].split()[0])
        if "Short." not in text:  # the seed solves dev tasks 11 to 13
            return fenced(solution(number, careful=number in (11, 12, 13)))
        if number in (13, 14):  # the child's outage hides what it can't do
            raise TimeoutError("no answer")
        return fenced(solution(number, careful=number in (1, 2, 3, 4, 5, 6, 12)))

    lm, _ = scripted(answer)
    evolved, _ = _compile(harness, lm)
    dev = evolved.detailed_results.dev
    assert sorted((e.score, e.measured) for e in dev.values()) == [(50.0, 2), (75.0, 4)]
    assert Candidate.of(evolved).instruction == SEED  # 2 of 2 shared tasks against 1 of 2


def test_rejected_proposals_are_on_record(harness: Harness) -> None:
    def leaky(text: str) -> str:
        if asked_for(text) == "new_instruction":
            return "[[ ## new_instruction ## ]]\nMind top_1, top_2, top_3, top_4, top_5, top_6.\n[[ ## completed ## ]]"
        return reply(text)

    lm, engine = scripted(leaky)
    evolved, _ = _compile(harness, lm)
    entry = evolved.detailed_results.evolution[1]
    assert not entry.accepted and "names a function of the batch" in entry.reason
    assert "Mind top_1" in next(t for t in reversed(engine.seen) if asked_for(t) == "new_instruction")


def test_what_is_recorded_is_what_was_asked(harness: Harness, tmp_path: Path) -> None:
    def indented(text: str) -> str:
        if asked_for(text) == "new_instruction":
            return f"[[ ## new_instruction ## ]]\nRules:\n    - one\n    - {RULE} \ud800\n\n[[ ## completed ## ]]"
        return reply(text)

    lm, _ = scripted(indented)
    evolved, _ = _compile(harness, lm, run_dir=tmp_path / "run")
    best = evolved.detailed_results.best
    assert Candidate.of(evolved).key == best.key
    assert evolved.generator.signature.instructions == best.instruction
    assert (tmp_path / "run/training/final_prompt.txt").read_text().rstrip("\n") == best.instruction


def test_every_finished_rollout_is_on_disk_when_a_batch_never_ends(harness: Harness, tmp_path: Path) -> None:
    def refuses(text: str) -> str:
        if "to add 13 to" in text:
            raise ModelError("the key was withdrawn")
        return reply(text)

    lm, _ = scripted(refuses)
    with pytest.raises(ModelError, match="withdrawn"):
        _compile(harness, lm, run_dir=tmp_path / "run", num_threads=1)
    with Journal(tmp_path / "run/journal.sqlite") as journal:
        assert journal.counts() == {"answers": 2, "rollouts": 2, "steps": 0}
