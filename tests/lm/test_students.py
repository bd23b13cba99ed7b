"""Calls with care in programs that are not ours: they choose models, begin threads, and are watched."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from dspy.utils.callback import BaseCallback
from dspy.utils.dummies import DummyLM

from evoprompt import Budget, Program
from evoprompt.errors import UsageError
from evoprompt.lm.calls import Calls
from evoprompt.lm.identity import describe
from evoprompt.runs import Journal
from tests.lm.test_calls import CODE, ask, asking
from tests.models import scripted
from tests.openai_server import OpenAIServer


class Chooser(dspy.Module):
    """A student that chooses its model itself, in one of the ways that DSPy has."""

    def __init__(self, model: dspy.LM, way: str) -> None:
        super().__init__()
        self.predict = dspy.Predict("prompt, entry_point -> code")
        self.model, self.way = model, way

    def forward(self, prompt: str, entry_point: str) -> dspy.Prediction:
        if self.way == "argument":
            return self.predict(prompt=prompt, entry_point=entry_point, lm=self.model)
        with dspy.context(lm=self.model):
            return self.predict(prompt=prompt, entry_point=entry_point)


@pytest.mark.parametrize("way", ["argument", "context"])
def test_a_model_that_the_program_chooses_is_the_one_that_is_asked(way: str) -> None:
    usual, unasked = scripted(CODE, "scripted/usual")
    chosen, asked = scripted(CODE, "scripted/chosen")
    with Journal() as journal, dspy.context(lm=usual):
        for _ in range(2):
            ask(Calls(journal).applied(Chooser(chosen, way)))  # type: ignore[arg-type]
        assert (len(unasked.seen), len(asked.seen), journal.spent()["predict"].calls) == (0, 1, 1)


def test_samples_are_told_apart_in_threads_that_the_program_begins() -> None:
    class Twice(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.predict = dspy.Predict("prompt, entry_point -> code")

        def forward(self, prompt: str, entry_point: str) -> dspy.Prediction:
            example = dspy.Example(prompt=prompt, entry_point=entry_point).with_inputs("prompt", "entry_point")
            both = dspy.Parallel(num_threads=2, disable_progress_bar=True)([(self.predict, example)] * 2)
            return both[0]

    lm, engine = scripted(CODE)
    with Journal() as journal, dspy.context(lm=lm.copy(temperature=1.0)):
        for _ in range(2):
            program = Calls(journal).applied(Twice())
            for sample in range(3):
                ask(program, sample=sample)  # type: ignore[arg-type]
        assert len(engine.seen) == 6


def test_who_watches_dspy_is_told_of_a_call_once() -> None:
    class Watch(BaseCallback):
        begun = 0

        def on_lm_start(self, *_: Any, **__: Any) -> None:
            Watch.begun += 1

    lm, _ = scripted(CODE)
    with Journal() as journal, dspy.context(callbacks=[Watch()], track_usage=True):
        prediction = asking(lm, journal)(prompt="p", entry_point="f")
        assert Watch.begun == 1
        assert prediction.get_lm_usage()["scripted/model"]["total_tokens"] == 2


def test_a_model_whose_answers_cannot_be_kept_is_told(caplog: pytest.LogCaptureFixture) -> None:
    program = Program(generator_lm=DummyLM([{"code": "x"}] * 2))
    with Journal() as journal:
        careful = Calls(journal).applied(program)
        for _ in range(2):
            ask(careful)
    assert caplog.messages == ["DummyLM is no dspy.LM: its answers are not kept, and asked for again after a stop"]


class Own(dspy.LM):
    """DSPy's old way to bring a model of one's own."""

    def forward(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("not asked")


@pytest.mark.parametrize("limit", ["lm_calls", "tokens", "usd"])
@pytest.mark.parametrize("lm", [DummyLM([{"code": "x"}]), Own("own/model")])
def test_a_budget_that_cannot_be_kept_is_refused(lm: Any, limit: str) -> None:
    with Journal() as journal, pytest.raises(UsageError, match=r"budget can't be kept; use Budget\(rollouts=…\)"):
        Calls(journal, budget=Budget(**{limit: 1})).applied(Program(generator_lm=lm))
    with Journal() as journal:
        Calls(journal, budget=Budget(rollouts=1, seconds=1)).applied(Program(generator_lm=lm))


@pytest.mark.parametrize("adapter", [dspy.JSONAdapter(), dspy.ChatAdapter()])
def test_a_model_is_asked_for_the_same_form_as_without_a_journal(adapter: dspy.Adapter) -> None:
    student = dspy.Predict("prompt -> code")
    with OpenAIServer(lambda *_: '{"code": "x"}') as server, Journal() as journal:
        lm = dspy.LM("openai/gpt-4o-mini", api_base=server.base, api_key="k", temperature=0.0, cache=False)
        with dspy.context(lm=lm, adapter=adapter):
            student(prompt="p")
            bare, server.seen = [s.body for s in server.seen], []
            Calls(journal).applied(student)(prompt="p")
        assert [s.body for s in server.seen] == bare
        assert "response_format" in bare[-1]


@pytest.mark.parametrize("settings", [{"min_p": 0.1}, {"extra_body": {"chat_template_kwargs": {"thinking": False}}}])
def test_settings_that_dspy_has_no_name_for_reach_the_server(settings: dict[str, Any]) -> None:
    with OpenAIServer(lambda *_: CODE) as server, Journal() as journal:
        for more in ({}, settings):
            lm = dspy.LM("openai/x", api_base=server.base, api_key="k", temperature=0.0, **more)
            ask(asking(lm, journal))
        assert len(server.seen) == 2  # another setting, another answer
        sent = server.seen[1].body
    for name, value in settings.get("extra_body", settings).items():  # type: ignore[attr-defined]
        assert sent[name] == value


def test_what_decides_about_answers_is_told_and_nothing_else() -> None:
    class Other(dspy.Predict):
        pass

    lm = dspy.LM("openai/x", api_key="sk-secret", api_base="http://h", client=object())
    with dspy.context(lm=lm):
        plain = describe(dspy.Predict("a -> b"))
        assert plain == describe(dspy.Predict("a -> b"))
        assert "0x" not in repr(plain) and "secret" not in repr(plain) and "http" not in repr(plain)
        assert describe(Other("a -> b")) != plain
        with dspy.context(adapter=dspy.JSONAdapter()):
            assert describe(dspy.Predict("a -> b")) != plain
            ours = describe(Program())
        assert describe(Program()) == ours  # it brings its own adapter
    with dspy.context(lm=lm.copy(temperature=0.5)):
        assert describe(dspy.Predict("a -> b")) != plain
