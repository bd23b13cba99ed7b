"""DSPy's optimizers, run by us: within a budget, from a journal, and never past a failure that is no wrong answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import dspy
import pytest
from dspy.lm15 import Request, Response
from dspy.utils.exceptions import LMAuthError, LMServerError

from evoprompt import CodeMetric, EvoPrompt, Program, load_dataset
from evoprompt.candidate import Candidate
from evoprompt.errors import EvoPromptError, ModelError, SandboxError, UsageError
from evoprompt.harness import Harness
from evoprompt.lm.concurrency import ConcurrencyLimiter
from evoprompt.rivals import optimizers, watch
from evoprompt.rivals.optimizers import Rival, RivalBest, RivalOptions, RivalResults, compile_with, sizes
from evoprompt.runs import Journal
from evoprompt.simulation.engine import SimulatedEngine
from signatures import GenerateCode

pytestmark = pytest.mark.slow

RIVALS: tuple[Rival, ...] = get_args(Rival)
TRAIN, VAL = (part for part in load_dataset("starter").split(train=12, dev=12, test=0, seed=1)[:2])
CALLS = 60


class Disturbed(SimulatedEngine):
    """The simulated model; from some call on, as many calls fail as there are errors."""

    def __init__(self, after: int = 0, error: Callable[[], Exception] | None = None, times: int = 0) -> None:
        super().__init__(seed=1)
        self.after, self.error, self.times, self.count = after, error, times, 0

    def complete(self, request: Request) -> Response:
        self.count += 1
        if self.error is not None and self.count > self.after and self.times > 0:
            self.times -= 1
            raise self.error()
        return super().complete(request)


@pytest.fixture
def metric(harness: Harness) -> CodeMetric:
    return CodeMetric(load_dataset("starter"), harness=harness)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ConcurrencyLimiter, "sleep", lambda self, *_: None)


def run(
    rival: Rival, metric: Any, engine: SimulatedEngine, journal: Journal | None = None, **options: Any
) -> RivalResults:
    lm = dspy.LM("simulated/rivals-run", engine=engine, cache=False, temperature=0.0, num_retries=3)
    with dspy.context(lm=lm):
        return compile_with(
            RivalOptions(rival, CALLS, **{"num_threads": 2, **options}), Program(), metric, trainset=TRAIN,
            valset=VAL, journal=journal,
        )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("rival", RIVALS)
def test_a_run(rival: Rival, metric: CodeMetric, capfd: pytest.CaptureFixture[str]) -> None:
    engine = Disturbed()
    with Journal() as journal:
        found, spent = run(rival, metric, engine, journal), journal.spent()
        assert engine.count == sum(s.calls for s in spent.values())
        again = run(rival, metric, engine, journal)
        assert engine.count == sum(s.calls for s in spent.values()), "what was paid for was asked for again"
    assert again == replace(found, asked=again.asked)
    assert found.calls == spent["generator"].calls <= 1.5 * CALLS
    assert found.asked >= found.calls
    assert rival == "simba" or spent["optimizer"].calls > 0, "it asks only where samples of one task differ"
    assert bool(found.trace) == (rival != "simba")
    assert [b.score for b in found.trace] == sorted(b.score for b in found.trace)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("after", [0, 30])
def test_a_refused_key_ends_it(rival: Rival, after: int, metric: CodeMetric) -> None:
    engine = Disturbed(after, lambda: LMAuthError("no such key"), times=1000)
    with pytest.raises(ModelError, match="refused the key"):
        run(rival, metric, engine)
    assert engine.count <= after + 2, "a refused key was tried again"


@pytest.mark.parametrize("rival", RIVALS)
def test_an_outage_changes_nothing_nor_do_threads(rival: Rival, metric: CodeMetric) -> None:
    undisturbed = run(rival, metric, Disturbed(), num_threads=1)
    engine = Disturbed(30, lambda: LMServerError("down"), times=3)
    found = run(rival, metric, engine, num_threads=4)
    assert engine.times == 0
    assert (found.best, found.trace, found.calls) == (undisturbed.best, undisturbed.trace, undisturbed.calls)


@pytest.mark.parametrize("rival", RIVALS)
def test_a_long_outage_ends_it(rival: Rival, metric: CodeMetric) -> None:
    with pytest.raises(ModelError, match=r"no answer from the model: .*down"):
        run(rival, metric, Disturbed(30, lambda: LMServerError("down"), times=10_000))


@pytest.mark.parametrize("rival", RIVALS)
def test_a_broken_sandbox_ends_it(rival: Rival, metric: CodeMetric) -> None:
    judged = 0

    def broken(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
        nonlocal judged
        judged += 1
        if judged > 10:
            raise SandboxError("no sandbox today")
        return metric(gold, pred, trace, pred_name, pred_trace)

    with pytest.raises(SandboxError, match="today"):
        run(rival, broken, Disturbed())
    assert judged <= 12


@pytest.mark.parametrize("rival", RIVALS)
def test_any_student_will_do(rival: Rival, metric: CodeMetric) -> None:
    lm = dspy.LM("simulated/rivals-run", engine=Disturbed(), cache=False, temperature=0.0)
    student = dspy.ChainOfThought(GenerateCode)
    before = Candidate.of(student)
    with dspy.context(lm=lm):
        found = compile_with(RivalOptions(rival, CALLS, num_threads=2), student, metric, trainset=TRAIN, valset=VAL)
    assert found.calls > 0 and found.best.instructions[0][0] == "predict"
    assert Candidate.of(student) == before


def test_one_that_overspends_by_far_is_stopped_with_its_best(
    metric: CodeMetric, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[RivalBest] = []

    def tell(best: RivalBest) -> None:
        told.append(best)
        print(f"{best.calls} calls")

    monkeypatch.setattr(optimizers, "OVERSPEND", 0.7)
    lm = dspy.LM("simulated/rivals-run", engine=Disturbed(), cache=False, temperature=0.0)
    with dspy.context(lm=lm):
        found = compile_with(
            RivalOptions("mipro", CALLS, num_threads=1), Program(), metric, trainset=TRAIN, valset=VAL, on_best=tell,
        )  # fmt: skip
    assert "far more" in found.stopped
    assert found.calls <= 0.7 * CALLS + 1
    assert tuple(told) == found.trace
    assert found.best.instructions == told[-1].instructions
    assert capsys.readouterr().out == "".join(f"{best.calls} calls\n" for best in told), "a listener's prints are lost"


@pytest.mark.slow
def test_samples_of_a_rival_are_samples(metric: CodeMetric) -> None:
    """Several completions of one request, and the same request at another `rollout_id`, are not one answer."""
    seen: list[str] = []

    class Noting(SimulatedEngine):
        def complete(self, request: Request) -> Response:
            seen.append(repr(request.messages))
            return super().complete(request)

    run("copro", metric, Noting(seed=1))
    proposals = [text for text in seen if "basic_instruction" in text]
    assert len(proposals) == sizes("copro", CALLS, 12, 12)["breadth"] - 1
    seen.clear()
    run("simba", metric, Noting(seed=1))
    assert any(seen.count(text) >= 3 for text in set(seen))


def test_what_cannot_work_is_said_before_anything_is_spent(metric: CodeMetric, monkeypatch: pytest.MonkeyPatch) -> None:
    with dspy.context(lm=None), pytest.raises(UsageError, match="no model"):
        EvoPrompt(metric, strategy="gepa").compile(Program(), trainset=TRAIN)
    with pytest.raises(UsageError, match="too few"):
        sizes("gepa", 10, 5, 5)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install optuna"):
        EvoPrompt(metric, strategy="mipro")


def test_a_rival_that_breaks_is_told_apart_from_ours(metric: CodeMetric, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(dspy.COPRO, "compile", breaks)
    with pytest.raises(EvoPromptError, match="copro failed: too deep"):
        run("copro", metric, Disturbed())


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("calls", [40, 100, 400, 2_000, 20_000])
def test_sizes_fit_the_budget(rival: Rival, calls: int) -> None:
    train, val = 60, 40
    found = sizes(rival, calls, train, val)
    assert all(value >= 1 for value in found.values())
    if rival == "simba":
        rounds = found["max_steps"] * found["bsize"] * (2 * found["num_candidates"] + 1)
        last = (min(found["max_steps"], found["num_candidates"]) + 1) * found["tasks"]
        assert rounds + last <= max(1.5 * calls, 100)
        assert found["bsize"] <= found["tasks"] <= train + val
    if rival == "mipro":
        assert found["num_candidates"] * val <= max(1.1 * calls, 2 * val)


def test_quiet_leaves_no_trace() -> None:
    import logging

    import tqdm

    before = vars(tqdm.tqdm)["__init__"], logging.getLogger("dspy").level
    with watch.quiet():
        assert tqdm.tqdm([1]).disable
    assert (vars(tqdm.tqdm)["__init__"], logging.getLogger("dspy").level) == before
