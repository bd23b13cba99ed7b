from __future__ import annotations

import json
from pathlib import Path

import dspy
import pytest

from evoprompt import Program
from evoprompt.candidate import Candidate
from evoprompt.errors import DataError
from evoprompt.program import visible_examples
from signatures import Failure, FailureGroup, GenerateCode
from tests.models import asked_for, fenced, scripted

CODE = "def rev(s):\n    return s[::-1]"


@pytest.mark.parametrize(
    "answer",
    [
        fenced(CODE),
        f"[[ ## code ## ]]\n{CODE}\n\n[[ ## completed ## ]]",
        f"Here you are:\n```python\n{CODE}\n```\nIt reverses.",
        f"```\n{CODE}",
        CODE,
        json.dumps({"code": CODE}),
        f"```python\nprint('demo')\n```\nand\n```python\n{CODE}\n```",
    ],
)
def test_code_comes_out_of_any_reply_in_one_call(answer: str) -> None:
    lm, engine = scripted(answer)
    with dspy.context(lm=lm):
        assert Program()(prompt="Reverse.", entry_point="rev(s)").code.strip() == CODE
    assert len(engine.seen) == 1


def test_each_role_may_have_its_own_model() -> None:
    diagnosis = {"failure_class": "exception", "root_cause": "r", "rule": "Do."}
    writer, wrote = scripted(fenced(CODE), "scripted/writer")
    debugger, debugged = scripted(
        f"[[ ## diagnosis ## ]]\n{json.dumps(diagnosis)}\n[[ ## completed ## ]]", "scripted/d"
    )
    optimizer, optimized = scripted("[[ ## new_instruction ## ]]\nBetter.\n[[ ## completed ## ]]", "scripted/o")
    program = Program(generator_lm=writer, debugger_lm=debugger, optimizer_lm=optimizer)
    assert program(prompt="p").code == CODE
    found = program.debug(prompt="p", code=CODE, failures=[Failure(status="failed")])
    assert (found.rule, found.fixed_code) == ("Do.", "")
    group = FailureGroup(rule="Do.", count=2, failure_class="exception")
    assert program.propose(current_instruction="Old.", failures=[group], attempts=[]) == "Better."
    assert [len(e.seen) for e in (wrote, debugged, optimized)] == [1, 1, 1]
    assert [asked_for(e.seen[0]) for e in (wrote, debugged, optimized)] == ["code", "diagnosis", "new_instruction"]


def test_repairs_use_the_visible_examples_alone() -> None:
    wrong = "def rev(s):\n    return s"

    def answer(text: str) -> str:
        if asked_for(text) == "code":
            return fenced(wrong)
        fixed = {"failure_class": "wrong_algorithm", "root_cause": "r", "rule": "R.", "fixed_code": CODE}
        return f"[[ ## diagnosis ## ]]\n{json.dumps(fixed)}\n[[ ## completed ## ]]"

    lm, engine = scripted(answer)
    prompt = "Write a function to reverse a string.\nassert rev('ab') == 'ba'"
    with dspy.context(lm=lm):
        assert Program()(prompt=prompt).code == wrong
        assert Program(max_repairs=2)(prompt=prompt).code == CODE
        assert len(engine.seen) == 3
        assert Program(max_repairs=2)(prompt="No example here.").code == wrong


@pytest.mark.parametrize("diagnosis", ["nonsense", "{}", TimeoutError("down")])
def test_a_repair_that_fails_leaves_the_generators_code(diagnosis: str | Exception) -> None:
    def answer(text: str) -> str:
        if asked_for(text) == "code":
            return fenced(CODE)
        if isinstance(diagnosis, Exception):
            raise diagnosis
        return diagnosis

    lm, _ = scripted(answer)
    with dspy.context(lm=lm):
        assert Program(max_repairs=1)(prompt="Reverse.\nassert rev('ab') == 'the example is wrong'").code == CODE


def test_a_repair_that_passes_no_more_examples_is_dropped() -> None:
    def answer(text: str) -> str:
        if asked_for(text) == "code":
            return fenced(CODE)
        fixed = {"failure_class": "edge_case", "root_cause": "r", "rule": "R.", "fixed_code": "def rev(s): return 1"}
        return f"[[ ## diagnosis ## ]]\n{json.dumps(fixed)}\n[[ ## completed ## ]]"

    lm, _ = scripted(answer)
    with dspy.context(lm=lm):
        assert Program(max_repairs=3)(prompt="Reverse.\nassert rev('ab') == 'the example is wrong'").code == CODE


def test_visible_examples() -> None:
    prompt = '"""\nReverse.\n    assert rev("ab") == "ba"\n>>> rev("x")\n\'x\'\n>>> broken(\n1\nassert nonsense(\n"""'
    prompt += "\n>>> print(rev('ab'))\nba\n>>> rev('y')  # a comment\n'y'\n>>> x = 1\n1\n>>> rev(1)\nTraceback\n"
    assert visible_examples(prompt) == ['assert rev("ab") == "ba"', "assert rev('x') == 'x'", "assert rev('y') == 'y'"]


def test_saves_and_loads_as_dspy_programs_do(tmp_path: Path) -> None:
    program = Candidate.of(Program()).child("Write it well.").apply(Program())
    program.save(tmp_path / "p.json")
    lm, _ = scripted("x")
    loaded = Program(generator_lm=lm).load(tmp_path / "p.json")
    assert loaded.generator.lm is lm
    other = dspy.LM("openai/cheap", api_key="x")
    Program(generator_lm=other).save(tmp_path / "with_lm.json")
    assert Program(generator_lm=lm).load(tmp_path / "with_lm.json").generator.lm is lm
    assert Program().load(tmp_path / "with_lm.json").generator.lm.model == "openai/cheap"
    assert Candidate.of(loaded).instruction == "Write it well."
    assert json.loads((tmp_path / "p.json").read_text())["evoprompt_adapter"] == "code"
    assert GenerateCode.instructions != "Write it well."


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"metadata": {"dependency_versions": {}}}', "not json"])
def test_files_that_hold_no_program(tmp_path: Path, content: str) -> None:
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(DataError, match=r"p\.json"):
        Program().load(tmp_path / "p.json")
    with pytest.raises(DataError, match="does not exist"):
        Program().load(tmp_path / "absent.json")


def test_optimizers_see_what_forward_uses() -> None:
    assert [n for n, _ in Program().named_predictors()] == ["generator"]
    assert [n for n, _ in Program(max_repairs=1).named_predictors()] == ["generator", "debugger"]
    program = Program()
    lm, _ = scripted("x")
    program.set_lm(lm)
    assert [p.lm is lm for p in (program.generator, program.debugger, program.optimizer)] == [True] * 3
    assert set(Program().dump_state()) >= {"generator", "debugger", "optimizer"}


def test_a_module_that_holds_a_program_shows_optimizers_what_forward_uses() -> None:
    class Around(dspy.Module):
        def __init__(self, program: Program) -> None:
            super().__init__()
            self.before = dspy.Predict("prompt -> plan")
            self.inner = [program]

    assert [n for n, _ in Around(Program()).named_predictors()] == ["before", "inner[0].generator"]
    repairing = Around(Program(max_repairs=1))
    assert [n for n, _ in repairing.named_predictors()] == ["before", "inner[0].generator", "inner[0].debugger"]
    other = Around(Program())
    other.load_state(Around(Candidate.of(Program()).child("Write it well.").apply(Program())).dump_state())
    assert other.inner[0].generator.signature.instructions == "Write it well."


def test_a_state_that_cannot_be_loaded_changes_nothing() -> None:
    state = Candidate.of(Program()).child("Write it well.").apply(Program()).dump_state()
    state["optimizer"] = {}
    program = Program()
    with pytest.raises(KeyError):
        program.load_state(state)
    assert Candidate.of(program) == Candidate.of(Program())
