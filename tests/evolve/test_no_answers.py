"""A model that gives no answer that can be used, whatever the prompt: a search pauses, and goes on when it can."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import dspy
import pytest

from evoprompt import EvoPrompt
from evoprompt.errors import ModelError
from evoprompt.evaluate import evaluate
from tests.evolve.moods import exact, examples, reply
from tests.openai_server import OpenAIServer, Reply, completion


def talk(body: dict[str, Any]) -> str:
    return reply("\n".join(str(m["content"]) for m in body["messages"]))


def cut_off(body: dict[str, Any]) -> Reply:
    return Reply(body=completion("Let me think", body, "length"))


def no_choices(body: dict[str, Any]) -> Reply:
    return Reply(body=completion("", body) | {"choices": []})


def bad_request(body: dict[str, Any]) -> Reply:
    return Reply(400, {"error": {"message": "Bad request"}})


FAULTS = (cut_off, no_choices, bad_request)


class Moody(OpenAIServer):
    """Answers well, but for the time in which it has a fault."""

    def __init__(self, fault: Any = None, healthy: int = 0) -> None:
        self.fault, self.healthy = fault, healthy
        super().__init__(self.respond)

    def respond(self, body: dict[str, Any], n: int) -> str | Reply:
        if self.fault is not None and n >= self.healthy:
            return self.fault(body)  # type: ignore[no-any-return]
        return talk(body)

    def compiled(self, strategy: Any, folder: Path, max_tokens: int = 100) -> Any:
        lm = dspy.LM("openai/x", api_base=self.base, api_key="k", temperature=0.0, num_retries=0, max_tokens=max_tokens)
        with dspy.context(lm=lm):
            search = EvoPrompt(exact, strategy=strategy, batch_size=3, num_threads=2, run_dir=folder)
            found = search.compile(dspy.Predict("text -> label"), trainset=examples(), valset=examples(4, 11))
        return found.detailed_results


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["factorial", "refine"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_search_without_any_answer_is_paused(fault: Any, strategy: str, tmp_path: Path) -> None:
    with Moody(fault) as server:
        with pytest.raises(ModelError, match="could not be measured"):
            server.compiled(strategy, tmp_path)
        seen, server.fault = len(server.seen), None
        if fault is cut_off:  # these were paid for, and would come again
            with pytest.raises(ModelError, match="go on with a larger --max_tokens"):
                server.compiled(strategy, tmp_path)
            assert len(server.seen) == seen
        results = server.compiled(strategy, tmp_path, max_tokens=200)
        assert len(server.seen) > seen and results.best.key != results.seed.key


@pytest.mark.slow
@pytest.mark.parametrize("fault", [no_choices, bad_request])
def test_a_search_whose_model_breaks_later_is_paused(fault: Any, tmp_path: Path) -> None:
    with Moody(fault, healthy=13) as server:
        with pytest.raises(ModelError, match="could not be measured"):
            server.compiled("factorial", tmp_path)
        server.fault = None
        results = server.compiled("factorial", tmp_path)
        assert results.best.key != results.seed.key


def test_replies_cut_off_amid_the_confirmation_decide_nothing(tmp_path: Path) -> None:
    with Moody() as server:
        whole = server.compiled("factorial", tmp_path / "whole")
        server.fault = lambda body: cut_off(body) if re.search(r"day 1[1-4] ", str(body)) else talk(body)
        for _ in range(2):
            with pytest.raises(ModelError, match="could not be measured"):
                server.compiled("factorial", tmp_path / "run")
        server.fault = None
        assert server.compiled("factorial", tmp_path / "run", max_tokens=200) == whole


@pytest.mark.parametrize("fault", FAULTS)
def test_an_evaluation_without_any_answer_is_no_evaluation(fault: Any) -> None:
    with Moody(fault) as server:
        lm = dspy.LM("openai/x", api_base=server.base, api_key="k", temperature=0.0, num_retries=0)
        with dspy.context(lm=lm), pytest.raises(ModelError, match="4 of 4 rollouts could not be measured"):
            evaluate(dspy.Predict("text -> label"), examples(4), exact)
