"""Students of every kind are asked what `dspy.Evaluate` asks them, and scored as it scores them."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest

from evoprompt import CodeMetric, EvoPrompt, Harness, Program
from evoprompt.errors import UsageError
from evoprompt.evaluate import evalplus_results, evaluate
from evoprompt.evaluate.evaluation import Evaluation
from evoprompt.evolve.events import BatchDone
from evoprompt.metric import failures_of
from evoprompt.runs import Journal
from evoprompt.tasks import Task
from signatures import Failure
from tests import world
from tests.evolve.moods import exact
from tests.evolve.moods import examples as moods
from tests.evolve.moods import reply as mood
from tests.models import asked_for, fenced, scripted
from tests.openai_server import OpenAIServer

DATA = world.data(4)
REFUSAL = "I'm sorry, but I can't help with that."
SIGNATURE = "prompt, entry_point -> code"


def careful(text: str) -> str:
    """Right where the number is even, or the request says how; the number stands in the last message."""
    if asked_for(text) != "code":
        return world.reply(text)
    number = int(re.findall(r"(?:to add|d'ajouter) (\d+)", text)[-1])
    return fenced(world.solution(number, number % 2 == 0 or "mind the empty list" in text))


def served(say: Callable[[str], str]) -> OpenAIServer:
    return OpenAIServer(lambda body, _: say("\n".join(m["content"] for m in body["messages"])))


def example(task: Task, **changes: str) -> dspy.Example:
    fields = {"prompt": task.prompt, "entry_point": task.interface} | changes
    return dspy.Example(task_id=task.task_id, **fields).with_inputs(*fields)


class Own(dspy.Module):
    """Takes its inputs by name, as most students do."""

    def __init__(self) -> None:
        super().__init__()
        self.write = dspy.Predict(SIGNATURE)

    def forward(self, prompt: str, entry_point: str, context: str = "") -> dspy.Prediction:
        return self.write(prompt=f"{prompt} {context}", entry_point=entry_point)


class Renamed(Own):
    def forward(self, problem: str) -> dspy.Prediction:  # type: ignore[override]
        return self.write(prompt=problem, entry_point="")


class Async(Own):
    forward = None  # type: ignore[assignment]

    async def aforward(self, **inputs: str) -> dspy.Prediction:
        return await self.write.acall(prompt=" ".join(inputs.values()), entry_point=inputs.get("entry_point", ""))


class Gathering(Own):
    def forward(self, **inputs: str) -> dspy.Prediction:  # type: ignore[override]
        async def both() -> list[dspy.Prediction]:
            prompt = " ".join(inputs.values())
            calls = [self.write.acall(prompt=prompt + more, entry_point="") for more in ("", "!")]
            return await asyncio.gather(*calls)

        return asyncio.run(both())[0]


class Locked(Async):
    """It holds what can't be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


STUDENTS: dict[str, Callable[[], dspy.Module]] = {
    "Predict": lambda: dspy.Predict("prompt, entry_point, context: str | None -> code"),
    "Own": Own,
    "Program": Program,
    "syncify": lambda: dspy.syncify(Async()),
    "syncify apart": lambda: dspy.syncify(Async(), in_place=False),
    "syncify locked": lambda: dspy.syncify(Locked()),
    "gather": Gathering,
}
EXAMPLES: dict[str, list[dspy.Example]] = {
    "own": DATA.examples(),
    "rewritten": [example(t, prompt=f"Il s'agit d'ajouter {n}.") for n, t in enumerate(DATA, 1)],
    "further fields": [example(t, context="mind the empty list") for t in DATA],
}


@pytest.mark.parametrize("asked", EXAMPLES)
@pytest.mark.parametrize("kind", STUDENTS)
def test_scores_are_those_of_dspy(kind: str, asked: str, harness: Harness) -> None:
    if kind == "Program" and asked == "further fields":
        pytest.skip("it takes no further field: see below")
    metric = CodeMetric(DATA, harness=harness)
    with served(careful) as server:
        lm = dspy.LM("openai/x", api_base=server.base, api_key="k", temperature=0.0, cache=False)
        with dspy.context(lm=lm):
            student, examples = STUDENTS[kind](), EXAMPLES[asked]
            theirs = dspy.Evaluate(devset=examples, metric=metric, num_threads=2)(student)
            bare, server.seen = sorted(str(s.body["messages"]) for s in server.seen), []
            ours = evaluate(student, examples, metric, num_threads=2)
            assert sorted(str(s.body["messages"]) for s in server.seen) == bare
    assert ours.score == theirs.score == (100.0 if asked == "further fields" else 50.0)
    assert [r.score for r in ours.rollouts] == [float(score) for *_, score in theirs.results]
    assert [r.task_id for r in ours.rollouts] == [t.task_id for t in DATA]


def run(student: dspy.Module, examples: Any, metric: Any, **options: Any) -> tuple[Evaluation, list[str]]:
    lm, engine = scripted(careful)
    with dspy.context(lm=lm.copy(temperature=0.0)):
        return evaluate(student, examples, metric, **options), engine.seen


def test_a_student_with_other_fields_gets_those(harness: Harness) -> None:
    examples = [
        dspy.Example(task_id=t.task_id, problem=f"Il s'agit d'ajouter {n}.").with_inputs("problem")
        for n, t in enumerate(DATA, 1)
    ]
    found, _ = run(Renamed(), examples, CodeMetric(DATA, harness=harness))
    assert found.score == 50.0


def test_one_task_in_two_wordings_is_two_tasks(harness: Harness) -> None:
    metric, (task, *_) = CodeMetric(DATA, harness=harness), DATA
    examples = [example(task), example(task, prompt="d'ajouter 2"), example(task), example(task, prompt="d'ajouter 3")]
    with Journal() as journal:
        found, seen = run(Own(), examples, metric, journal=journal)
        assert len(seen) == 3
        first, second, again, third = (r.task_id for r in found.rollouts)
        assert first == again == "t1" and second != third
        assert all(re.fullmatch("t1-[0-9a-f]{6}", t) for t in (second, third))
        backwards, seen = run(Own(), examples[::-1], metric, journal=journal)
        assert not seen, "known by what was asked, in whatever order"
        assert next(r.task_id for r in backwards.rollouts) == "t1"


@pytest.mark.parametrize(
    ("student", "examples", "told"),
    [
        (Own(), [dspy.Example(task_id="t1", question="q").with_inputs("question")], r"'t1'.* needs the input 'prompt'"),
        (Own(), [example(DATA[0], hint="h")], r"task 't1': the student takes no input 'hint'; it takes 'prompt', "),
        (Program(), [example(DATA[0], context="c")], "takes no input 'context'"),
        (dspy.Predict("prompt, hint -> code"), DATA.examples(), r"task 't1': the student needs the input 'hint'"),
        (dspy.ChainOfThought("prompt, hint -> code"), DATA.examples(), "needs the input 'hint'"),
        (dspy.ReAct("prompt, hint -> code", tools=[]), DATA.examples(), "needs the input 'hint'"),
        (dspy.syncify(dspy.Predict("hint -> code"), in_place=False), DATA.examples(), "needs the input 'hint'"),
        (dspy.Predict("prompt -> answer"), DATA.examples(), "output field 'code'; its signature gives 'answer'"),
    ],
)
@pytest.mark.parametrize("how", ["evaluate", "compile"])
def test_inputs_that_do_not_fit_are_refused_before_anything_is_paid_for(
    how: str, student: dspy.Module, examples: Any, told: str, harness: Harness
) -> None:
    metric = CodeMetric(DATA, harness=harness)
    lm, engine = scripted(careful)
    with dspy.context(lm=lm), pytest.raises(UsageError, match=told):
        if how == "evaluate":
            evaluate(student, examples, metric)
        else:
            EvoPrompt(metric).compile(student, trainset=list(DATA)[:0] or examples)
    assert not engine.seen


def test_the_debugger_sees_what_the_student_saw(harness: Harness) -> None:
    examples = [example(t, prompt=f"d'ajouter {n}", context="(rien)") for n, t in enumerate(DATA, 1)]
    lm, engine = scripted(careful)
    with dspy.context(lm=lm):
        EvoPrompt(CodeMetric(DATA, harness=harness), batch_size=4, strategy="refine").compile(Own(), trainset=examples)
    asked = [text for text in engine.seen if asked_for(text) == "diagnosis"]
    assert asked and all("d'ajouter" in text and "(rien)" in text and "Write a function" not in text for text in asked)


class Gives(dspy.Module):
    """Asks, and then gives something of its own."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.write = dspy.Predict(SIGNATURE)
        self.answer = answer

    def forward(self, **inputs: Any) -> Any:
        self.write(**inputs)
        return self.answer


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"code": "x = 1"}, r"task 't1': .* dspy.Prediction with the field 'code', not dict"),
        (None, "task 't1': the student gives None"),
        ("def f(): pass", "not str"),
        (dspy.Prediction(answer="x"), "not a prediction with the fields 'answer'"),
        (dspy.Prediction(), "with the fields none"),
        (dspy.Prediction(code=None), "task 't1': the student's field 'code' must be text, not NoneType"),
        (dspy.Prediction(code=["def f(): pass"]), "must be text, not list"),
        (dspy.Prediction(code=7), "must be text, not int"),
    ],
)
def test_an_answer_of_another_shape_is_refused_by_name(answer: Any, told: str, harness: Harness) -> None:
    with pytest.raises(UsageError, match=told):
        run(Gives(answer), DATA.examples()[:1], CodeMetric(DATA, harness=harness))
    if answer is None:
        with pytest.raises(UsageError, match=told):
            run(Gives(answer), DATA.examples()[:1], lambda gold, pred: False)


def test_a_reply_that_cannot_be_parsed_is_a_zero(harness: Harness) -> None:
    lm, _ = scripted("no code at all")
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        found = evaluate(dspy.Predict(SIGNATURE), DATA.examples()[:2], CodeMetric(DATA, harness=harness))
    assert found.score == 0.0 and found.measured == 2


@pytest.mark.parametrize("form", ["{}", "[[ ## code ## ]]\n{}\n\n[[ ## completed ## ]]", "<think>A plan.</think>\n{}"])
def test_a_refusal_is_a_zero_whose_words_are_kept_and_told(
    form: str, harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    lm, engine = scripted(form.format(REFUSAL))
    found = evaluate(Program(generator_lm=lm), DATA.examples(), CodeMetric(DATA, harness=harness))
    told = f"the reply holds no code: {REFUSAL!r}"
    assert (found.score, found.measured, found.statuses) == (0.0, 4, {"invalid": 4})
    assert {(r.code, r.report.detail if r.report else "") for r in found.rollouts} == {("", told)}
    (row,) = evalplus_results(found, DATA, {})["eval"]["t1"]
    assert (row["detail"], row["first_failure"]["observed"]) == (told, told)
    assert failures_of(found.rollouts[0].report) == [Failure(status="invalid", observed=told)]
    warned = f"4 of 4 answers held no code and count as not solved; the first: {REFUSAL!r}"
    assert [r.message for r in caplog.records if r.name == "evoprompt"] == [warned]
    assert len(engine.seen) == (4 if "completed" in form else 8), "it is asked once more, for JSON"


def test_a_few_answers_without_code_are_no_warning(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    lm, _ = scripted(lambda text: "x" * 500 if re.search(r"add [12]\b", text) else world.reply(text))
    found = evaluate(Program(generator_lm=lm), DATA.examples(), CodeMetric(DATA, harness=harness))
    details = [r.report.detail for r in found.rollouts if r.report and not r.code]
    assert details == [f"the reply holds no code: '{'x' * 299}…'"] * 2, "a long one is cut"
    assert not [r for r in caplog.records if "no code" in r.message]


@pytest.mark.parametrize(
    ("examples", "told"),
    [
        ([dspy.Example(prompt="p", entry_point="f").with_inputs("prompt")], "example 0 has no field 'task_id'"),
        ([dspy.Example(prompt="p", task_id=None).with_inputs("prompt")], "example 0 has no field 'task_id'"),
        ([dspy.Example(task_id="t1", prompt="p")], r"example 0 has no inputs, give dspy\.Example\(…\)\.with_inputs"),
        ([DATA.examples()[0], {"task_id": "t1"}], "example 1 has no inputs, .* it is a dict"),
        (["t1"], "it is a str"),
        ([None], "it is a NoneType"),
        (dspy.Example(task_id="t1"), "must come as a list of dspy.Example, not as an Example"),
        (7, "not as an int"),
        (None, "not as a NoneType|the trainset is empty"),
    ],
)
def test_a_trainset_of_another_shape_is_refused_by_name(examples: Any, told: str, harness: Harness) -> None:
    metric = CodeMetric(DATA, harness=harness)
    with pytest.raises(UsageError, match=told):
        run(Own(), examples, metric)
    with pytest.raises(UsageError, match=told), dspy.context(lm=scripted(careful)[0]):
        EvoPrompt(metric).compile(Own(), trainset=examples)


def test_a_metric_that_cannot_judge_is_refused_by_name() -> None:
    class Empty(dspy.Module):
        pass

    class Asks(dspy.Module):
        async def aforward(self, gold: Any, pred: Any) -> float:
            return 1.0

    async def later(gold: Any, pred: Any) -> float:
        return 1.0

    for metric, told in (
        (Empty(), "metric .*Empty has no `forward"),
        (Asks(), "metric .*Asks has no `forward"),
        (later, "later is a coroutine function"),
        (Gives, "is a class; call it"),
    ):
        with pytest.raises(UsageError, match=told):
            run(dspy.Predict("text -> label"), moods(1), metric)
    for program in (Own, "program", None):
        with pytest.raises(UsageError, match=r"must be a dspy\.Module"):
            run(program, moods(1), exact)  # type: ignore[arg-type]


class Unused(dspy.Module):
    """Holds a predictor that it does not call, before the one that it calls."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.idle = dspy.Predict("text -> label")
        self.used = dspy.Predict("text -> label")
        self.way = way

    def forward(self, text: str) -> dspy.Prediction:
        predictor = {"other": self.used, "idle": self.idle, "copy": self.idle.deepcopy()}[self.way]
        found: list[dspy.Prediction] = []
        thread = threading.Thread(target=lambda: found.append(predictor(text=text, lm=scripted(mood)[0])))
        thread.start()
        thread.join()
        return found[0]


@pytest.mark.parametrize("strategy", ["refine", "factorial"])
def test_a_student_that_calls_none_of_its_predictors_is_refused(strategy: Any) -> None:
    lm, engine = scripted(mood)
    with dspy.context(lm=lm):
        search = EvoPrompt(exact, batch_size=3, num_threads=2, strategy=strategy)
        with pytest.raises(UsageError, match=r"the instruction of 'idle', 'used' would evolve, and 3 answers came"):
            search.compile(Called(), trainset=moods(3))
    assert len(engine.seen) == 3, "the first batch"


class Called(Unused):
    """Calls a predictor that it does not hold."""

    def __init__(self) -> None:
        super().__init__("other")

    def forward(self, text: str) -> dspy.Prediction:
        return dspy.Predict("text -> label")(text=text)


@pytest.mark.parametrize("way", ["idle", "copy"])
def test_a_predictor_that_is_called_in_a_thread_or_as_a_copy_evolves(way: str) -> None:
    with dspy.context(lm=scripted(mood)[0]):
        search = EvoPrompt(exact, batch_size=3, num_threads=2, strategy="refine")
        evolved = search.compile(Unused(way), trainset=moods(6), valset=moods(4, 11))
    assert evolved.detailed_results.best_dev_score == 100.0


@pytest.mark.slow
@pytest.mark.parametrize("make", [Async, lambda: dspy.syncify(Locked()), Gathering])
def test_async_students_evolve_and_resume(make: Callable[[], dspy.Module], harness: Harness, tmp_path: Path) -> None:
    metric, seen = CodeMetric(DATA, harness=harness), []
    for _ in range(2):
        with served(world.reply) as server:
            lm = dspy.LM("openai/x", api_base=server.base, api_key="k", temperature=0.0, cache=False)
            events: list[Any] = []
            with dspy.context(lm=lm):
                search = EvoPrompt(
                    metric, run_dir=tmp_path / "run", strategy="refine", batch_size=4, listener=events.append
                )
                evolved = search.compile(make(), trainset=list(DATA), valset=list(DATA))
            seen.append(len(server.seen))
        assert evolved.detailed_results.best_dev_score == 100.0
        assert any(isinstance(event, BatchDone) for event in events) == (seen[-1] > 0)
    assert seen[0] > 0 and seen[1] == 0


def test_a_program_may_be_awaited() -> None:
    lm, _ = scripted(careful)
    with dspy.context(lm=lm):
        found = asyncio.run(Program().acall(prompt="to add 2 to", entry_point="top_2"))
    assert found.code.strip() == world.solution(2, True)
