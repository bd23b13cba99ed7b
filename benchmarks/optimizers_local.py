"""EvoPrompt beside DSPy's optimizers on a real model: the small local one, judged by the FORM of its replies.

    python benchmarks/optimizers_local.py [--optimizers factorial,refine,gepa] [--seeds 0,1,2] [--budget 60]
                                          [--again] [--out FOLDER]

The model (SmolLM2-135M, `model="local"`) solves so few tasks that no wording shows in its pass rate. But whether its
reply is finished, and is one fenced block that parses and defines the function, depends on the wording a lot: so that
is the score here, 1 or 0. Nothing but the instruction asks for a block. Debugger and optimizer are the same small
model. Every optimizer gets 16 tasks to learn from, 8 to select by and the same budget of calls that write code (all
calls, with advice: 1.5 times that). Its prompt is scored on 16 others, and the tests are run on the same replies.
`EVOPROMPT_SHARED` must name a folder with MBPP+, else the starter set is taken. One thread.

A run that is done is a line of `optimizers_local.jsonl`, and is not done again; `--again` does those that are named
once more. `optimizers_local.md` has the tables of all lines.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import logging
import os
import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import dspy
from dspy.lm15 import Message, Request, Response
from dspy.teleprompt.gepa.instruction_proposal import InstructionProposer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.shared import use_mbppplus
from evoprompt import Budget, Candidate, CodeMetric, Dataset, EvoPrompt, EvoPromptError, Program, Task, load_dataset
from evoprompt.lm import LMSettings, resolve_lm
from evoprompt.lm.extract import extract_code
from evoprompt.local.adapter import PlainAdapter
from evoprompt.local.engine import LocalEngine
from evoprompt.metric import Verdict
from evoprompt.rivals.optimizers import Rival, RivalOptions, compile_with
from evoprompt.tasks import parse_python

TRAIN, DEV, TEST = 16, 8, 16
MAX_TOKENS, ADVICE_TOKENS = 128, 160
"""Of a reply with code, and of one of the debugger or the optimizer."""
MOST = 1.5  # times the budget: what all calls may come to, advice and all
BATCH, ROLES = 8, ("generator", "debugger", "optimizer")
CUT = "\n[cut off]"
"""Stands where a reply with code was cut off by its length."""
RESULTS, TABLES, LOG = "optimizers_local.jsonl", "optimizers_local.md", "optimizers_local.log"
LOCAL = "local"
SAID = {
    "right": "The reply is finished and is one fenced Python block that defines the function.",
    "cut off": f"The reply was cut off after {MAX_TOKENS} tokens, before it was finished: it is too long.",
    "no block": "The reply has no fenced block: the code must stand between a line ```python and a line ```.",
    "open block": "The reply has a fence that opens or closes no block: a line ```python, the code, a line ```.",
    "several blocks": "The reply has several fenced blocks: it must have one, with all of the code.",
    "not Python": "The fenced block is no valid Python.",
    "another name": "The fenced block does not define the function that was asked for.",
}
"""What the metric says of each form, as feedback. Only the first is worth a point: half a block is of no use."""


def form_of(reply: str, entry_point: str) -> str:
    """The form of a reply, a key of `SAID`.

    Args:
        reply: All that the model said.
        entry_point: The function that it was asked for, as `name` or `name(parameters)`.
    """
    if reply.endswith(CUT):
        return "cut off"
    fences = len(re.findall(r"^[ \t]*```", reply, re.MULTILINE))
    blocks = re.findall(r"^```(?:python|py)?3?[ \t]*\n(.*?)^```[ \t]*$", reply, re.MULTILINE | re.DOTALL)
    if fences > 2:
        return "several blocks"
    if not blocks:
        return "open block" if fences else "no block"
    try:
        tree = parse_python(blocks[0])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "not Python"
    names = {getattr(node, "name", "") for node in tree.body}
    return "right" if entry_point.partition("(")[0] in names else "another name"


def well_formed(
    gold: dspy.Example, pred: dspy.Prediction, trace: Any = None, pred_name: str | None = None, pred_trace: Any = None
) -> Verdict:
    """The metric. It takes what any of DSPy's optimizers gives one."""
    form = form_of(pred.code, gold.entry_point)
    return Verdict(score=float(form == "right"), feedback=SAID[form])


class Bare(PlainAdapter):
    """Plain questions, but of the form of a reply with code only the instruction speaks. The reply stays whole."""

    name = "bare"

    def format_user_message_content(
        self, signature: type[dspy.Signature], inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> str:
        if "code" not in signature.output_fields:
            return super().format_user_message_content(signature, inputs, *args, **kwargs)
        return f"{inputs['prompt'].strip()}\n\nWrite the Python function {inputs['entry_point']}."

    def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        return {"code": completion} if "code" in signature.output_fields else super().parse(signature, completion)


class Writer(Program):
    """A program whose `code` is the whole reply."""

    def forward(self, prompt: str, entry_point: str = "") -> dspy.Prediction:
        with dspy.context(adapter=self.adapter):
            return self.generator(prompt=prompt, entry_point=entry_point)


class Meter(LocalEngine):
    """The local model in one role, counted.

    A reply with code that was cut off is an answer like any other here, and says so itself: as a failed call, which
    it is to evoprompt, it would have no score.

    Attributes:
        calls: Answers.
        tokens: Of requests and of answers.
        prompts: Instructions that it was asked with.
    """

    def __init__(self, role: str, seed: int) -> None:
        super().__init__(seed)
        self.role = role
        self.calls, self.tokens = 0, [0, 0]
        self.prompts: set[str] = set()

    def complete(self, request: Request) -> Response:
        response = super().complete(request)
        self.calls += 1
        self.tokens[0] += response.usage.input_tokens or 0
        self.tokens[1] += response.usage.output_tokens or 0
        self.prompts.add(str(request.system))
        if self.role != "generator" or response.finish_reason != "length":
            return response
        message = Message.assistant((response.text or "") + CUT)
        return Response(None, response.model, message, "stop", response.usage)

    def lm(self) -> dspy.LM:
        """The model that it answers for."""
        most = MAX_TOKENS if self.role == "generator" else ADVICE_TOKENS
        return resolve_lm(LOCAL, LMSettings(max_tokens=most, seed=self.seed)).copy(engine=self)


@dataclass(frozen=True)
class Setting:
    """What an optimizer gets."""

    meters: Mapping[str, Meter]
    student: Writer
    train: list[dspy.Example]
    dev: list[dspy.Example]
    budget: int
    seed: int


def most(setting: Setting) -> Budget:
    """Advice that no search can use would be asked for without end."""
    return Budget(rollouts=setting.budget, lm_calls=int(MOST * setting.budget))


def ours(setting: Setting, strategy: str) -> dspy.Module:
    """EvoPrompt, as it keeps to a budget by itself; its options but the batch are the default ones."""
    teleprompter = EvoPrompt(
        well_formed, strategy=strategy, seed=setting.seed, num_threads=1, batch_size=BATCH, eval_interval=1,
        epochs=1 if strategy == "factorial" else 100, budget=most(setting),
    )  # fmt: skip
    return teleprompter.compile(setting.student, trainset=setting.train, valset=setting.dev)


def rival(setting: Setting, name: Rival) -> dspy.Module:
    """One of DSPy's own."""
    options = RivalOptions(name, setting.budget, seed=setting.seed, num_threads=1, budget=most(setting))
    proposer = setting.meters["optimizer"].lm()
    found = compile_with(
        options, setting.student, well_formed, trainset=setting.train, valset=setting.dev, prompt_lm=proposer
    )
    return found.best.apply(setting.student)


def gepa_plain(setting: Setting) -> dspy.Module:
    """GEPA with a proposer that is asked, and answers, in plain text: its default is JSON."""
    plain = functools.partial(dspy.GEPA, instruction_proposer=InstructionProposer(adapter=PlainAdapter()))
    with mock.patch.object(dspy, "GEPA", plain):
        return rival(setting, "gepa")


def by_hand(setting: Setting) -> dspy.Module:
    """The best of seven wordings that a person tried on ten tasks of MBPP+: what can be reached, without a search."""
    text = "Explain step by step how to solve the problem, then give the code."
    return Candidate.of(setting.student).child(text).apply(setting.student)


OPTIMIZERS: dict[str, Callable[[Setting], dspy.Module]] = {
    "start": lambda setting: setting.student,
    "by-hand": by_hand,
    "factorial": functools.partial(ours, strategy="factorial"),
    "refine": functools.partial(ours, strategy="refine"),
    "gepa": functools.partial(rival, name="gepa"),
    "gepa-plain": gepa_plain,
    **{name: functools.partial(rival, name=name) for name in ("mipro", "simba", "copro")},
}
FREE = "start", "by-hand"
Row = Mapping[str, Any]


def run(name: str, seed: int, budget: int, data: Dataset, known: Mapping[str, Row]) -> dict[str, Any]:
    """One optimizer with one seed, as a row.

    Args:
        name: The optimizer.
        seed: Of the split and of the optimizer.
        budget: Calls that write code.
        data: The tasks.
        known: Scores on the same held-out tasks, by instruction: temperature 0 gives the same replies again.
    """
    train, dev, test = data.split(train=TRAIN, dev=DEV, test=TEST, seed=seed)
    meters = {role: Meter(role, seed) for role in ROLES}
    models = {f"{role}_lm": meter.lm() for role, meter in meters.items()}
    setting = Setting(meters, Writer(**models, adapter=Bare()), train, dev, budget, seed)
    began, cpu, failure = time.perf_counter(), time.process_time(), ""
    try:
        with dspy.context(lm=models["optimizer_lm"], adapter=PlainAdapter()):
            final = Candidate.of(OPTIMIZERS[name](setting))
    except EvoPromptError as e:
        final, failure = Candidate.of(setting.student), f"{type(e).__name__}: {e}"
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    spent = {role: meter for role, meter in meters.items() if meter.calls}
    row = {
        **key_of(name, seed, budget, data), "instruction": final.instruction, "failure": failure,
        "words": len(final.instruction.split()), "prompts": len(meters["generator"].prompts),
        "calls": {role: meter.calls for role, meter in spent.items()},
        "tokens": {role: list(meter.tokens) for role, meter in spent.items()},
        "seconds": round(seconds, 1), "cpu": round(cpu, 1),
    }  # fmt: skip
    return {**row, **(known.get(final.instruction) or held_out(final.apply(setting.student), data, test))}


def held_out(program: Writer, data: Dataset, test: Sequence[dspy.Example]) -> dict[str, Any]:
    """Scores on the held-out tasks, in percent: of the form, and of the tests, for the same replies."""
    metric = metric_of(data)
    replies = [(example, program(**example.inputs()).code) for example in test]
    forms = Counter(form_of(reply, example.entry_point) for example, reply in replies)
    codes = [(metric.task(e.task_id), extract_code(said.removesuffix(CUT), e.entry_point)) for e, said in replies]
    passed = sum(metric.judge(task, code).passed for task, code in codes)
    return {
        "score": 100 * forms["right"] / len(test),
        "passed": 100 * passed / len(test),
        "forms": dict(forms.most_common()),
    }


metric_of = functools.cache(CodeMetric)


def key_of(name: str, seed: int, budget: int, data: Dataset) -> dict[str, Any]:
    """What tells one run from another."""
    budget *= name not in FREE
    key = {"optimizer": name, "seed": seed, "budget": budget, "most": MOST * budget}
    return key | {"tasks": data.hash, "max_tokens": MAX_TOKENS}


def tasks() -> Dataset:
    """The same 40 tasks for all seeds."""
    data = load_dataset("mbppplus" if use_mbppplus() else "starter")
    chosen: list[Task] = random.Random("local").sample(list(data), TRAIN + DEV + TEST)
    return Dataset(chosen, data.name)


def read(path: Path, data: Dataset) -> list[Row]:
    """The rows so far on these tasks, the last one of each run; a line that a kill cut in half is none."""
    rows: dict[str, Row] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            key = key_of(row["optimizer"], row["seed"], row["budget"], data)
            if key.items() <= row.items():
                rows[json.dumps(key)] = row
    return list(rows.values())


def keep(path: Path, row: Row) -> None:
    """Append a row, for good."""
    cut = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if cut else "") + json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def markdown(rows: Sequence[Row], names: Iterable[str]) -> str:
    """The tables of one set of tasks, one table for each budget."""
    lines = [
        "# Optimizers beside each other on the small local model (form of the reply, not tests)",
        "",
        f"{TRAIN} tasks to learn from, {DEV} to select by, {TEST} held out; temperature 0, {MAX_TOKENS} tokens a "
        "reply. Score: percent of the held-out replies that are finished and are one fenced block that parses and "
        "defines the function; beside it the seeds, in order. Passed: percent of the same replies whose code passes "
        "base and plus tests. Calls and tokens (in + out): means of the search alone. Prompts: different instructions "
        "that were tried, the start among them. Debugger and optimizer are the same model of 135M parameters.",
    ]
    for budget in sorted({row["budget"] for row in rows} - {0}):
        lines += [
            "",
            f"## {budget} calls of the task model",
            "",
            "| optimizer | score | by seed | gain over the start | passed | words | prompts | calls | tokens | seconds "
            "| CPU s | failed |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        of_all = sorted((row for row in rows if row["budget"] in (0, budget)), key=lambda row: row["seed"])
        start = {row["seed"]: row["score"] for row in of_all if row["optimizer"] == "start"}
        for name in names:
            found = [row for row in of_all if row["optimizer"] == name]
            lines += [_line(name, found, start)] if found else []
    return "\n".join([*lines, ""])


def _line(name: str, rows: Sequence[Row], start: Mapping[int, float]) -> str:
    def mean(key: str) -> float:
        return statistics.fmean(row[key] for row in rows)

    def by_role(key: str, told: Callable[[Any], float]) -> str:
        means = {role: statistics.fmean(told(row[key].get(role, 0)) for row in rows) for role in ROLES}
        return ", ".join(f"{role} {value:.0f}" for role, value in means.items() if value) or "-"

    gains = [row["score"] - start[row["seed"]] for row in rows if row["seed"] in start]
    failed = sum(bool(row["failure"]) for row in rows)
    each = ", ".join(f"{row['score']:.0f}" for row in rows)
    return (
        f"| {name} | {mean('score'):.1f} | {each} "
        f"| {statistics.fmean(gains):+.1f} | {mean('passed'):.1f} | {mean('words'):.0f} | {mean('prompts'):.1f} "
        f"| {by_role('calls', float)} | {by_role('tokens', lambda t: sum(t) if t else 0)} | {mean('seconds'):.0f} "
        f"| {mean('cpu'):.0f} | {failed or ''} |"
    )


def main() -> None:
    arguments = _arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    logging.getLogger("dspy").setLevel(logging.ERROR)  # that advice was cut off is no news here
    log = logging.getLogger("evoprompt")
    log.addHandler(logging.FileHandler(arguments.out / LOG))
    log.setLevel(logging.INFO)
    results, data = arguments.out / RESULTS, tasks()
    again = arguments.optimizers if arguments.again else ()
    for seed in arguments.seeds:
        for name in dict.fromkeys((*FREE, *arguments.optimizers)):
            key = key_of(name, seed, arguments.budget, data)
            same = [row for row in read(results, data) if row["seed"] == seed]
            if name not in again and any(key.items() <= row.items() for row in same):
                continue
            log.info("%s, seed %d", name, seed)
            known = {row["instruction"]: {n: row[n] for n in ("score", "passed", "forms")} for row in same}
            row = run(name, seed, arguments.budget, data, known)
            keep(results, row)
            told = f"{row['score']:.1f} %, calls {row['calls']}, {row['seconds']:.0f} s {row['failure']}"
            print(f"{name}, seed {seed}: {told}", flush=True)
    tables = markdown(read(results, data), OPTIMIZERS)
    (arguments.out / TABLES).write_text(tables, encoding="utf-8")
    print(tables)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--optimizers", type=lambda text: tuple(text.split(",")), default=("factorial", "refine", "gepa")
    )
    parser.add_argument("--seeds", type=lambda text: tuple(map(int, text.split(","))), default=(0, 1, 2))
    parser.add_argument("--budget", type=int, default=60, help="calls that write code; 40 is the least for the rivals")
    parser.add_argument("--again", action="store_true", help="run those that are named once more")
    parser.add_argument("--out", type=Path, default=Path("bench-optimizers-local"))
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.optimizers if name not in OPTIMIZERS]:
        parser.error(f"{unknown[0]!r} is none of {', '.join(OPTIMIZERS)}")
    return arguments


if __name__ == "__main__":
    main()
