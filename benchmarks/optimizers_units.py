"""What `benchmarks/optimizers.py` runs: one unit is one world with one seed, and in it every optimizer at every budget.

All of them get the same student, tasks, metric and models, and are told the same budget of task-model calls. Calls are
counted at the model, after every cache; so an answer that is used twice is paid for once, for all of them alike.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dspy
from dspy.lm15 import Request, Response
from dspy.teleprompt.gepa.instruction_proposal import ProposeInstruction

from benchmarks.counted import Counting
from benchmarks.shared import use_mbppplus
from benchmarks.worlds.engine import WorldEngine
from benchmarks.worlds.worlds import WORLDS, best_reachable, expected_score, unfit
from evoprompt import Budget, Candidate, CodeMetric, EvoPrompt, Options, Program, Report, Task, load_dataset
from evoprompt.evolve.factorial import comparison, decision, effects, growth, subsets
from evoprompt.evolve.factorial import search as search
from evoprompt.judges import judge_of
from evoprompt.metric import feedback
from evoprompt.rivals.optimizers import RivalBest, RivalOptions, compile_with
from evoprompt.rollout import Job, Runner

TRAIN, VAL, TEST = 24, 24, 24
"""Tasks of the starter set; MBPP+ has more to test on."""
TEST_MBPP = 96
THREADS = 1
"""One: the simulated model does not wait for anything, and two units run side by side."""


class Meter(Counting, WorldEngine):
    """The simulated model, with its calls counted."""

    def __init__(self, like: WorldEngine) -> None:
        super().__init__(like.seed, world=like.world)
        self.coder = like.coder  # what it found out about the tasks

    def answer(self, request: Request) -> Response:
        return WorldEngine.complete(self, request)


class Timed(CodeMetric):
    """A metric that knows how much CPU time it took from this process; the sandbox' own is another's."""

    seconds = 0.0

    def judge(self, task: Task, code: str) -> Report:
        began = time.thread_time()
        try:
            return super().judge(task, code)
        finally:
            self.seconds += time.thread_time() - began


@dataclass
class Setting:
    """What an optimizer gets, and where it tells what it has found.

    Attributes:
        metric: Knows how many seconds of this process it took.
        budget: Task-model calls.
        student: Makes the program whose prompt it improves.
        trace: Calls and prompt, each time that the best so far was another one.
        asked: Rollouts that it asked for, paid or not, where it counts them.
    """

    meter: Counting
    metric: Any
    train: list[dspy.Example]
    val: list[dspy.Example]
    budget: int
    seed: int
    student: Callable[[], dspy.Module] = Program
    trace: list[tuple[int, str]] = field(default_factory=list)
    asked: int = 0

    def note(self, instruction: str) -> None:
        """This is the best prompt now."""
        if not self.trace or self.trace[-1][1] != instruction:
            self.trace.append((self.meter.calls["generator"], instruction))


Optimizer = Callable[[Setting], dspy.Module]


def ours(setting: Setting, **options: Any) -> dspy.Module:
    """EvoPrompt with these options."""

    def listen(event: Any) -> None:
        results = getattr(event, "results", None)
        if results is not None:
            setting.note(results.best.instruction)

    more = {"on_interrupt": "raise", "listener": listen, **options}
    teleprompter = EvoPrompt(setting.metric, seed=setting.seed, num_threads=THREADS, **more)
    return teleprompter.compile(setting.student(), trainset=setting.train, valset=setting.val)


def refine(setting: Setting, accept: str) -> dspy.Module:
    """One prompt after the other. The meter ends it at its budget, as `max_calls` would for all roles together."""
    setting.meter.limit = setting.budget
    interval = 1 if setting.budget < 150 else 2
    return ours(setting, accept=accept, batch_size=10, epochs=100, eval_interval=interval, **_strategy("refine"))


def factorial(setting: Setting, **options: Any) -> dspy.Module:
    """Rules as factors. It keeps to its budget by itself, and the meter shows whether it does."""
    return ours(setting, **_strategy("factorial"), budget=Budget(rollouts=setting.budget), **options)


def _strategy(name: str) -> dict[str, str]:
    return {"strategy": name} if "strategy" in Options().as_dict() else {}


def rival(setting: Setting, name: str, share: float = 1.0) -> dspy.Module:
    """One of DSPy's own. `share` makes up for what its repeated requests leave unspent."""
    options = RivalOptions(name, int(setting.budget * share), seed=setting.seed, num_threads=THREADS)
    lm = dspy.settings.lm

    def note(best: RivalBest) -> None:
        setting.note(best.instructions[0][1])

    student = setting.student()
    found = compile_with(
        options, student, setting.metric,
        trainset=setting.train, valset=setting.val, prompt_lm=lm, on_best=note,
    )  # fmt: skip
    setting.asked = found.asked
    return found.best.apply(student)


def random_search(setting: Setting) -> dspy.Module:
    """Rewrites of the seed prompt, each after three of its failures (GEPA's proposer), all tried on the same tasks."""
    dice = random.Random(f"random:{setting.seed}")
    student, tasks = Program(), [setting.metric.task(e.task_id) for e in (*setting.train, *setting.val)]
    tasks = dice.sample(tasks, 16 if setting.budget < 300 else 24)
    runner = Runner(student, judge_of(setting.metric), num_threads=THREADS)
    seed = Candidate.of(student)
    rollouts = runner.run([Job(seed, t) for t in tasks])
    best, best_score = seed, sum(r.score or 0.0 for r in rollouts)
    setting.note(seed.instruction)
    failed = [(t, r) for t, r in zip(tasks, rollouts, strict=True) if r.report is not None and not r.score]
    propose = dspy.Predict(ProposeInstruction)
    known = {seed.key}
    while failed and setting.meter.calls["generator"] + len(tasks) <= setting.budget and len(known) < 60:
        shown = [
            {"Inputs": {"prompt": t.prompt}, "Generated Outputs": {"code": r.code}, "Feedback": feedback(r.report)}
            for t, r in dice.sample(failed, min(3, len(failed)))
        ]
        with dspy.context(adapter=dspy.JSONAdapter(), lm=dspy.settings.lm.copy(temperature=1.0)):
            text = propose(current_instruction=seed.instruction, examples_with_feedback=shown).new_instruction
        child = seed.child(text)
        known.add(child.key if child.key not in known else f"again {len(known)}")
        score = sum(r.score or 0.0 for r in runner.run([Job(child, t) for t in tasks]))
        if score > best_score:
            best, best_score = child, score
            setting.note(best.instruction)
    return best.apply(student)


OPTIMIZERS: dict[str, Optimizer] = {
    "factorial": factorial,
    "refine": functools.partial(refine, accept="improves"),
    "refine-always": functools.partial(refine, accept="always"),
    "gepa": functools.partial(rival, name="gepa"),
    "mipro": functools.partial(rival, name="mipro"),
    "simba": functools.partial(rival, name="simba", share=1.5),
    "copro": functools.partial(rival, name="copro"),
    "random": random_search,
}
RIVALS = ("gepa", "mipro", "simba", "copro")
"""Whose best is what ours is compared with."""
Switched = dict[tuple[Any, str], Any]
ABLATIONS: dict[str, tuple[dict[str, Any], Switched]] = {
    "no shortening": ({"max_words": 10_000}, {}),
    "no rules from diagnoses": ({}, {(growth, "STATED"): 0}),
    "no random subsets": ({}, {(subsets, "BOLDNESS"): 0.0, (subsets, "FLIP"): 0.0}),
    "no weeding": ({}, {(search, "WEED"): 1e9, (search, "WEED_LAST"): 1e9}),
    "weeding at once": ({}, {(search, "WEED"): 0.5}),
    "forgotten rules are lost": ({}, {(growth, "REMEMBERED"): 1e9}),
    "merged rules never apart": ({}, {(subsets, "APART"): 0.0, (search, "HARM"): 1e9}),
    "merged rules unlinked": ({}, {(subsets, "APART"): 0.0, (search, "HARM"): 1e9, (effects, "SAID"): 0.0}),
    "all tasks alike": ({}, {(effects, "SOLVED"): effects.UNSOLVED}),
    "no confirmation": ({}, {(comparison, "PROBABLE"): 0.0, (decision, "PROBABLE"): 0.0}),
    "only what is confirmed": ({"accept_when": "confirmed"}, {}),
}
"""`factorial` without one piece of it: the options, and the constants, that switch it off."""


def ablated(setting: Setting, name: str) -> dspy.Module:
    """Factorial with a piece switched off."""
    options, constants = ABLATIONS[name]
    before = {(module, key): getattr(module, key) for module, key in constants}
    try:
        for (module, key), value in constants.items():
            setattr(module, key, value)
        return factorial(setting, **options)
    finally:
        for (module, key), value in before.items():
            setattr(module, key, value)


def available() -> list[str]:
    """The optimizers that this checkout has."""
    return [name for name in OPTIMIZERS if name != "factorial" or _strategy(name)]


@dataclass(frozen=True)
class Unit:
    """One world with one seed.

    Attributes:
        unfit: Fingerprints of defective programs that no test catches.
    """

    world: str
    seed: int
    optimizers: tuple[str, ...]
    budgets: tuple[int, ...]
    tasks: str = "starter"
    unfit: frozenset[str] = frozenset()


def run_unit(unit: Unit) -> list[dict[str, Any]]:
    """One row for each optimizer and budget."""
    metric = metric_of(unit.tasks)
    tasks = list(metric.tasks.values())
    random.Random(f"tasks:{unit.seed}").shuffle(tasks)
    engine = WorldEngine(unit.seed, tasks, WORLDS[unit.world], unit.unfit)
    held_out = tasks[TRAIN + VAL :]
    top = best_reachable(engine, held_out)
    score = functools.cache(lambda text: expected_score(engine, held_out, text))
    common = {"world": unit.world, "seed": unit.seed, "best": top.score, "best_words": top.words}
    return [
        {**common, **run_one(name, setting_of(unit, Meter(engine), tasks, budget), score, unit.world)}
        for name in unit.optimizers
        for budget in unit.budgets
    ]


def setting_of(unit: Unit, meter: Counting, tasks: Sequence[Task], budget: int) -> Setting:
    """What an optimizer gets of the shuffled tasks."""
    examples = {e.task_id: e for e in _data(unit.tasks).examples()}
    train, val = ([examples[t.task_id] for t in part] for part in (tasks[:TRAIN], tasks[TRAIN : TRAIN + VAL]))
    return Setting(meter, metric_of(unit.tasks), train, val, budget, unit.seed)


def run_one(
    name: str, setting: Setting, score: Callable[[str], float], world: str, optimize: Optimizer | None = None
) -> dict[str, Any]:
    """What one optimizer makes of a setting.

    Args:
        name: Of `OPTIMIZERS` or `ABLATIONS`, or of the one that is given.
        setting: What it gets.
        score: Percent of the held-out tasks that a prompt solves.
        world: Its name.
        optimize: Another one.
    """
    meter, metric = setting.meter, setting.metric
    optimize = optimize or OPTIMIZERS.get(name) or functools.partial(ablated, name=name)
    lm = dspy.LM(f"simulated/{world}-{setting.seed}", engine=meter, cache=False, temperature=0.0, num_retries=0)
    seed_prompt = Candidate.of(setting.student()).instruction
    tests, began, cpu = metric.seconds, time.perf_counter(), time.process_time()
    with dspy.context(lm=lm):
        program = optimize(setting)
    final = Candidate.of(program).instruction
    seconds = time.perf_counter() - began
    # CPU time: on a machine that has other things to do, the clock would tell of those.
    cpu = time.process_time() - cpu
    overhead = cpu - meter.seconds - (metric.seconds - tests)
    calls = meter.calls["generator"]
    trace = [(0, score(seed_prompt), len(seed_prompt.split()))]
    trace += [(at, score(text), len(text.split())) for at, text in setting.trace]
    if not setting.trace or setting.trace[-1][1] != final:
        trace.append((calls, score(final), len(final.split())))
    return {
        "optimizer": name, "budget": setting.budget,
        "start": score(seed_prompt), "final": score(final), "words": len(final.split()), "instruction": final,
        "calls": dict(meter.calls), "tokens": meter.tokens, "trace": trace,
        "seconds": round(seconds, 3), "cpu": round(cpu, 3),
        "overhead_ms": round(1000 * overhead / max(1, calls, setting.asked), 3), "decision": decided(program, score),
    }  # fmt: skip


def decided(program: dspy.Module, score: Callable[[str], float]) -> dict[str, Any] | None:
    """What our search said of the prompt that it compared with the start, and the gain of that prompt in truth."""
    record = getattr(getattr(program, "detailed_results", None), "confirmation", None)
    if record is None:
        return None
    gain = score(record.candidate.instruction) - score(program.detailed_results.seed.instruction)
    return record.model_dump(include={"word", "p_better", "gain", "interval", "pairs"}) | {"truth": gain}


@functools.cache
def _data(name: str) -> Any:
    if name == "mbppplus":
        use_mbppplus()
    data = load_dataset(name)
    if name == "starter":
        return data
    coder = WorldEngine(0, list(data)).coder
    # Short as its tasks are, few can go wrong in many ways: those are taken.
    fit = sorted(data, key=lambda t: (-len(coder.possible(t) - {"logic"}), t.task_id))
    return type(data)(fit[: TRAIN + VAL + TEST_MBPP], data.name)


@functools.cache
def metric_of(name: str) -> Timed:
    """One for all units of a process, ready: nobody's time is what the first one would have to wait for."""
    metric = Timed(_data(name))
    for task in metric.tasks.values():
        metric.prepare(task)
    engine = WorldEngine(0, list(metric.tasks.values()))
    with dspy.context(lm=dspy.LM("simulated/warm-up", engine=engine, cache=False, temperature=0.0)):
        Program()(prompt=task.prompt, entry_point=task.interface)
    return metric


def unfit_programs(name: str) -> frozenset[str]:
    """Defective programs that no test catches; found by running all of them, once, and remembered in the cache."""
    data = _data(name)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evoprompt"
    code = hashlib.sha256(b"".join(p.read_bytes() for p in _sources())).hexdigest()[:12]
    path = cache / f"unfit-{data.hash}-{code}.json"
    if not path.exists():
        metric = metric_of(name)
        found = unfit(data, lambda task, program: metric.judge(task, program).status)
        cache.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(sorted(found)))
    return frozenset(json.loads(path.read_text()))


def _sources() -> list[Path]:
    folder = Path(__file__).parent / "worlds"
    return [folder / name for name in ("mutate.py", "coder.py", "concepts.json")]


def roles(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The roles that were asked."""
    return sorted({role for row in rows for role in row["calls"]})
