"""DSPy's own optimizers run on our program and metric, and nobody's prompt ever holds the answer."""

from __future__ import annotations

import json
import re
from typing import Any

import dspy
import pytest

from evoprompt import CodeMetric, EvoPrompt, Program
from evoprompt.datasets import Dataset
from evoprompt.harness import Harness
from evoprompt.tasks import Task
from tests.models import ScriptedEngine, asked_for, fenced, fields_asked_for

SECRETS = ("PLUS-INPUT", "EXPECTED", "REFERENCE")


def _task(n: int) -> Task:
    return Task(
        task_id=f"t{n}",
        prompt=f"Write a function to label number {n}.",
        code=f"""def label_{n}(x):
    reference_REFERENCE_{n} = {{'a': 'EXPECTED-A-{n}', 'PLUS-INPUT-{n}': 'EXPECTED-B-{n}'}}
    return reference_REFERENCE_{n}[x]""",
        entry_point=f"label_{n}",
        base=(f"assert label_{n}('a') == 'EXPECTED-A-{n}'",),
        plus=(f"assert label_{n}('PLUS-INPUT-{n}') == 'EXPECTED-B-{n}'",),
    )


def _data() -> Dataset:
    return Dataset([_task(n) for n in range(1, 13)])


class Recorder(ScriptedEngine):
    """Solves every second task (it cheats, the test lets it); any other field gets a plain sentence."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.fickle = False

    @property
    def told(self) -> list[str]:
        return self.seen

    def _answer(self, text: str) -> str:
        fields = fields_asked_for(text)
        if fields == ["code"]:
            n = int(re.findall(r"label number (\d+)", text)[-1])
            asked = sum(f"label number {n}." in t for t in self.seen)
            solves = (asked if self.fickle else n) % 2 == 0
            body = f"return {{'a': 'EXPEC' 'TED-A-{n}'}}.get(x, 'EXPEC' 'TED-B-{n}')" if solves else "return x.missing"
            return fenced(f"def label_{n}(x):\n    {body}")
        values: dict[str, Any] = dict.fromkeys(fields, f"Write careful code {len(self.seen)}.")
        if "diagnosis" in values:
            values["diagnosis"] = {"failure_class": "exception", "root_cause": "an attribute", "rule": "Check types."}
        if "module_advice" in values:
            values["module_advice"] = {"generator": "Be careful."}
        if "JSON object" in text[text.rindex("Respond with") :]:
            return json.dumps(values)
        parts = [f"[[ ## {f} ## ]]\n{v if isinstance(v, str) else json.dumps(v)}" for f, v in values.items()]
        return "\n\n".join([*parts, "[[ ## completed ## ]]"])


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def lm(recorder: Recorder) -> dspy.LM:
    return dspy.LM("scripted/recorder", engine=recorder, cache=False, num_retries=0, temperature=1.0)


@pytest.fixture
def metric(harness: Harness) -> CodeMetric:
    return CodeMetric(_data(), harness=harness)


def _assert_no_secret(recorder: Recorder) -> None:
    assert recorder.told
    # What the scripted model wrote itself may come back to it; split literals keep the needles out of that.
    leaks = [(s, t) for t in recorder.told for s in SECRETS if s in t.replace("'EXPEC' 'TED", "")]
    assert leaks == []


def test_the_needles_would_be_found(recorder: Recorder) -> None:
    recorder.told.append(repr(_task(1).base))
    with pytest.raises(AssertionError):
        _assert_no_secret(recorder)


def test_evaluate(lm: dspy.LM, recorder: Recorder, metric: CodeMetric) -> None:
    with dspy.context(lm=lm):
        result = dspy.Evaluate(devset=_data().examples(), metric=metric, num_threads=4)(Program())
    assert result.score == 50.0
    _assert_no_secret(recorder)


def test_bootstrap_keeps_passing_demos_only(lm: dspy.LM, recorder: Recorder, metric: CodeMetric) -> None:
    with dspy.context(lm=lm):
        optimizer = dspy.BootstrapFewShot(metric=metric, max_bootstrapped_demos=3, max_labeled_demos=0)
        compiled = optimizer.compile(Program(), trainset=_data().examples())
    demos = compiled.generator.demos
    assert len(demos) == 3
    assert all("missing" not in d.code for d in demos)
    _assert_no_secret(recorder)


def test_evoprompt(lm: dspy.LM, recorder: Recorder, metric: CodeMetric) -> None:
    examples = _data().examples()
    with dspy.context(lm=lm):
        EvoPrompt(metric, batch_size=6).compile(Program(), trainset=examples[:6], valset=examples[6:])
    assert {asked_for(t) for t in recorder.told} == {"code", "diagnosis", "new_instruction"}
    _assert_no_secret(recorder)


def test_repairs(lm: dspy.LM, recorder: Recorder) -> None:
    prompt = "Write a function to label number 1.\nassert label_1('x') == 'y'"
    with dspy.context(lm=lm):
        Program(max_repairs=1)(prompt=prompt, entry_point="label_1(x)")
    assert [asked_for(t) for t in recorder.told] == ["code", "diagnosis"]


def _gepa(metric: CodeMetric, lm: dspy.LM) -> Any:
    return dspy.GEPA(metric=metric, max_metric_calls=30, reflection_lm=lm, num_threads=2, seed=0)


def _copro(metric: CodeMetric, lm: dspy.LM) -> Any:
    return dspy.COPRO(metric=metric, breadth=2, depth=1, prompt_model=lm)


def _mipro(metric: CodeMetric, lm: dspy.LM) -> Any:
    return dspy.MIPROv2(
        metric=metric, auto=None, num_candidates=2, prompt_model=lm, task_model=lm,
        max_bootstrapped_demos=1, max_labeled_demos=1, num_threads=2, seed=1,
    )  # fmt: skip


def _simba(metric: CodeMetric, lm: dspy.LM) -> Any:
    return dspy.SIMBA(
        metric=metric, bsize=6, num_candidates=2, max_steps=1, max_demos=1, prompt_model=lm, num_threads=2
    )


@pytest.mark.parametrize("build", [_gepa, _copro, _mipro, _simba])
def test_rivals_never_see_the_answer(build: Any, lm: dspy.LM, recorder: Recorder, metric: CodeMetric) -> None:
    examples = _data().examples()
    optimizer = build(metric, lm)
    recorder.fickle = build is _simba  # it learns from tasks that were solved once and failed once
    options: dict[str, Any] = {"trainset": examples}
    if build is _gepa:
        options["valset"] = examples[:6]
    if build is _copro:
        options["eval_kwargs"] = {"num_threads": 2, "display_progress": False}
    if build is _mipro:
        options |= {"num_trials": 2, "minibatch": False}
    with dspy.context(lm=lm):
        compiled = optimizer.compile(Program(), **options)
    assert isinstance(compiled, Program)
    assert {asked_for(t) for t in recorder.told} > {"code"}, "the proposer was never asked"
    _assert_no_secret(recorder)
