"""The worlds in which a student fails on classes of inputs, and a unit of their bench."""

from __future__ import annotations

import statistics

import dspy
import pytest

from benchmarks import edges
from benchmarks import optimizers_report as report
from benchmarks.edges_kinds import CHATTER, KINDS, LISTED, TRAPS, kinds_in, kinds_of, listing, stated, traps_in
from benchmarks.edges_laws import CALLS, START, WORLDS, Laws, World, arguments_in
from benchmarks.edges_world import SHOWN, CallsMetric, EdgesEngine, student
from benchmarks.optimizers_numbers import summarize
from benchmarks.optimizers_units import TRAIN, VAL, Unit

pytestmark = pytest.mark.slow

TASKS = edges.tasks_of("starter")
NAMES = [task.task_id for task in TASKS]


@pytest.fixture(scope="module")
def laws() -> Laws:
    return Laws(0, TASKS, WORLDS["base"])


def test_what_a_sentence_is_about() -> None:
    for name, kind in KINDS.items():
        assert all(kinds_in(rule) == {name} and not traps_in(rule) for rule in kind.rules)
    assert all(traps_in(text) == {name} and not kinds_in(text) for name, text in TRAPS.items())
    assert not any(kinds_in(text) or traps_in(text) for text in (START, *CHATTER))
    assert stated(listing(list(KINDS))) == dict.fromkeys(KINDS, False), "all of them, as a list"
    few = list(KINDS)[: LISTED - 1]
    assert stated(listing(few)) == dict.fromkeys(few, True)


@pytest.mark.parametrize(
    ("call", "kinds"),
    [
        ("f([])", {"hollow"}),
        ("f([1])", {"lone"}),
        ("f(-3, 0)", {"minus", "nought"}),
        ("f([3, 1, 2])", {"jumbled"}),
        ("f([2, 2], 5)", {"twice"}),
        ("f(10**7)", set()),
        ("f(10000000)", {"huge"}),
        ("f([1, 'a'], [[]])", {"motley", "lone", "hollow"}),
        ("f(1.5)", {"fraction"}),
        ("f('Caf\u00e9s')", {"letters"}),
        ("f('abc', 2)", set()),
    ],
)
def test_the_classes_of_a_call(call: str, kinds: set[str]) -> None:
    assert kinds_of(arguments_in(call) or []) == kinds


def test_calls_and_defects_come_from_the_tests(laws: Laws) -> None:
    for task in TASKS:
        calls = laws.calls[task.task_id]
        assert len({call.text for call in calls}) == len(calls) <= CALLS
        assert all(call.text.startswith(f"{task.entry_point}(") for call in calls)
        assert laws.defects[task.task_id] <= {kind for call in calls for kind in call.kinds}
    assert {len(found) for found in laws.defects.values()} == {0, 1, 2, 3}


@pytest.mark.parametrize("world", WORLDS)
def test_the_expected_score_is_the_mean_of_what_happens(world: str) -> None:
    laws = Laws(1, TASKS, WORLDS[world])
    rules = " ".join(KINDS[kind].short for kind in ("lone", "minus", "twice"))
    for text in (START, laws.best(NAMES), f"{START} {rules} {TRAPS['thin']} {listing(list(KINDS)[3:])}"):
        # White space is no word: these are the same prompt to the laws, and other ones to chance.
        same = [text + " " * n for n in range(60)]
        solved = [len(laws.right(one, name)) == len(laws.calls[name]) for one in same for name in NAMES]
        assert 100 * statistics.fmean(solved) == pytest.approx(laws.score(text, NAMES), abs=2)


def test_what_a_prompt_earns(laws: Laws) -> None:
    start, best = laws.score(START, NAMES), laws.score(laws.best(NAMES), NAMES)
    assert best > start + 25
    assert laws.score(" ".join([START, *CHATTER]), NAMES) == start, "few words are free"
    assert laws.score(" ".join(CHATTER), NAMES) < start, "nothing says what is asked"
    assert all(laws.score(f"{START} {text}", NAMES) == start for text in TRAPS.values())
    long, harmful, nothing = (Laws(0, TASKS, WORLDS[name]) for name in ("long", "harmful", "nothing"))
    assert long.score(" ".join([START, *CHATTER]), NAMES) < long.score(START, NAMES) - 10
    assert long.score(long.best(NAMES), NAMES) < best
    assert all(harmful.score(f"{START} {text}", NAMES) < start for text in TRAPS.values())
    assert nothing.best(NAMES) == START


def test_an_answer_and_its_feedback(laws: Laws) -> None:
    metric, program = CallsMetric(laws), student()
    engine = EdgesEngine(laws, TASKS)
    with dspy.context(lm=dspy.LM("simulated/edges", engine=engine, cache=False, temperature=0.0)):
        for task in TASKS:
            right = laws.right(START, task.task_id)
            judged = metric(dspy.Example(task_id=task.task_id), program(prompt=task.prompt))
            calls = [call.text for call in laws.calls[task.task_id]]
            wrong = [call for number, call in enumerate(calls) if number not in right]
            assert judged.score == (not wrong)
            assert judged.feedback.count("`") == 2 * min(len(wrong), SHOWN)
            assert not wrong or any(f"`{call}`" in judged.feedback for call in wrong)
            assert not kinds_in(judged.feedback.partition("`")[0]), "the rule is never told"
    assert engine.calls == {"generator": len(TASKS)}


@pytest.mark.parametrize("name", ["sketch", "factorial", "gepa", "simba", "mipro", "copro"])
def test_a_unit_without_mbppplus(name: str) -> None:
    (row,) = edges.run_unit(Unit("base", 3, (name,), (60,), "starter"))
    laws, tasks, best = edges._laws("base", 3, "starter")
    held_out = [task.task_id for task in tasks[TRAIN + VAL :]]
    assert row["final"] == laws.score(row["instruction"], held_out) <= best == row["best"]
    assert row["calls"]["generator"] <= (60 if name in ("sketch", "factorial") else 120)
    assert name == "simba" or sum(row["calls"].values()) > row["calls"]["generator"], "advisors were asked"
    (cell,) = summarize([row], ours="factorial", rivals=())
    assert "base" in report.line(cell)


def test_advisors_infer_the_class_from_the_failing_calls() -> None:
    laws = Laws(0, TASKS, World(wrong=0.0))
    engine = EdgesEngine(laws, TASKS)
    explain = dspy.Predict("inputs, output, feedback -> diagnosis: dict")
    with dspy.context(lm=dspy.LM("simulated/edges", engine=engine, cache=False, temperature=0.0)):
        told = explain(inputs="x", output="y", feedback="Wrong for these calls: `f([], 3)`, `f('')`").diagnosis
        rewrite = dspy.Predict("current_instruction, examples_with_feedback: list -> new_instruction")
        shown = [{"Feedback": "Wrong for these calls: `f(-1)`"}]
        text = rewrite(current_instruction=START, examples_with_feedback=shown).new_instruction
        reword = dspy.Predict("rule -> wordings: list[str]")
        ways = reword(rule=KINDS["huge"].rules[0]).wordings
    assert kinds_in(told["rule"]) == {"hollow"}
    assert ways == list(KINDS["huge"].rules[1:])
    assert text.startswith(START) and "minus" in kinds_in(text)
