"""One of DSPy's own optimizers as a run like ours: same tree, same journal, same honest scores at start and end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

import dspy

from evoprompt.candidate import Candidate
from evoprompt.evaluate import Evaluation, evaluate_jobs
from evoprompt.evolve.estimate import Estimate, Span
from evoprompt.evolve.export import TreeWriter, ending, prepare
from evoprompt.evolve.history import DEV, RIVAL, dev_event, dev_step, rival_results
from evoprompt.evolve.options import Options
from evoprompt.evolve.record import DevDone, DevRestored, Event, Finished, Listener, RolloutDone, Started, Working
from evoprompt.evolve.rivals import Best, RivalOptions, RivalResults, compile_with
from evoprompt.evolve.search import digest
from evoprompt.examples import judge_of
from evoprompt.judges.students import examples_of
from evoprompt.lm.budget import ON_DEV
from evoprompt.lm.identity import predictors_of
from evoprompt.lm.secrets import discreet
from evoprompt.metric import CodeMetric
from evoprompt.rollout import CodeJudge, Job, Judge, Rollout, Runner
from evoprompt.runs import Journal, Run
from evoprompt.runs.damage import reading
from evoprompt.tasks import Task

logger = logging.getLogger("evoprompt")

SIZED_FOR = "rival_calls"
"""Fact of the journal: for how many calls a rival was sized. Another number would send it another way."""
_SHARE = 0.8
"""Share of a budget of all calls that a rival is sized for: its proposer takes some, and most spend more than said."""


def size_of_rival(options: Options, upper: float, journal: Journal | None = None) -> int:
    """How many calls of the task model a rival is sized for.

    Args:
        options: Of the run; its budget tells, in rollouts or in calls.
        upper: What our own search would try at most; the same is given to a rival where no budget says otherwise.
        journal: Of the run; what it was begun with stays.
    """
    budget = options.budget
    if budget.rollouts is not None:
        return budget.rollouts
    if journal is not None and (begun := journal.meta(SIZED_FOR)) is not None:
        with reading("the size of the search", journal.path):
            return int(begun)
    return int(upper if budget.lm_calls is None else _SHARE * budget.lm_calls)


def estimate_rival(calls: int, ours: Estimate) -> Estimate:
    """What a rival's calls of the task model will cost, by what ours would. Those of its proposer are not known.

    Args:
        calls: What it is sized for.
        ours: The estimate of our own search.
    """
    writer = ours.roles[0]
    low, high = calls / max(writer.calls.low, 1), calls / max(writer.calls.high, 1)

    def scaled(span: Span) -> Span:
        return Span(span.low * low, span.high * high)

    role = replace(
        writer, calls=Span(calls, calls), input_tokens=scaled(writer.input_tokens),
        output_tokens=scaled(writer.output_tokens), usd=None if writer.usd is None else scaled(writer.usd),
    )  # fmt: skip
    return replace(ours, roles=(role,))


def run_rival(
    options: RivalOptions, student: dspy.Module, metric: CodeMetric | Judge | Callable[..., Any], run: Run, *,
    train: Iterable[dspy.Example | Task], dev: Iterable[dspy.Example | Task] = (), listener: Listener | None = None,
) -> dspy.Module:  # fmt: skip
    """Let a rival look for a better prompt, and write what it did as `EvoPrompt` would.

    What it returns is the result, also where the start prompt is better on the dev tasks; the summary has both scores,
    measured by our runner after the search, out of its budget.

    Args:
        options: Which rival, and how far.
        student: The program; it stays as it is.
        metric: As `EvoPrompt` takes it.
        run: Gets journal and tree. A run that was stopped goes on: the rival walks its way again on kept answers.
        train: Examples or tasks to learn from.
        dev: Those to choose by; may be empty.
        listener: Is told of every event, for progress displays.

    Returns:
        A copy of the student with the rival's prompt, and `detailed_results` (`Results`).

    Raises:
        EvoPromptError: See `compile_with`.
    """
    journal, seed, judge = run.journal, Candidate.of(student), judge_of(metric)
    learning, choosing = judge.tasks_of(train), judge.tasks_of(dev)
    if journal.meta("seed") is None:
        known_tasks = judge.metric.tasks.values() if isinstance(judge, CodeJudge) else (*learning, *choosing)
        prepare(journal, student, known_tasks, train_tasks=len(learning), dev_tasks=len(choosing))
    with run.tree.log(), ending(run):
        journal.keep_meta(SIZED_FOR, str(options.calls))
        listeners = [TreeWriter(run.tree, journal), *([listener] if listener else [])]

        def tell(event: Event) -> None:
            for one in listeners:
                one(event)

        known = journal.counts()
        counts = len(learning), len(choosing), 0, known["steps"], known["answers"]
        tell(Started(Options(), seed, *counts, optimizer=options.rival))
        found = _search(options, student, metric, journal, (learning, choosing), tell)
        final, scores = Candidate.model_validate(found["final"]), dict[str, Evaluation]()
        runner = Runner(student, judge, journal=journal, num_threads=options.num_threads, label=ON_DEV)
        for place, candidate in enumerate({c.key: c for c in (seed, final)}.values() if choosing else ()):
            known_before, event = _score(runner, candidate, choosing, place, tell)
            scores[candidate.key] = event.evaluation
            where = (place, place, candidate, event.tasks, event.evaluation)
            tell(event if known_before else DevDone(*where, rival_results(seed, found, scores)))
        results = rival_results(seed, found, scores)
        tell(Finished(results, found["stopped"] or f"{options.rival} is done"))
    evolved = final.apply(student)
    evolved.detailed_results = results
    discreet(predictor for _, predictor in predictors_of(evolved))
    evolved._compiled = True
    return evolved


def _search(
    options: RivalOptions, student: dspy.Module, metric: CodeMetric | Judge | Callable[..., Any], journal: Journal,
    data: tuple[Sequence[Task], Sequence[Task]], tell: Listener,
) -> dict[str, Any]:  # fmt: skip
    """What the rival found, as plain data. One that a budget ended walks on: the budget may be larger now."""
    known = journal.step(RIVAL, options.rival)
    if known is not None:
        with reading("the step of a rival", journal.path):
            rival_results(Candidate.of(student), known, {})
            if not known["stopped"]:
                return known
    tell(Working(f"{options.rival}: up to {options.calls} calls"))

    def told(best: Best) -> None:
        line = f"{options.rival}: {best.calls} calls, its best so far {100 * best.score:.1f} %"
        logger.info("%s", line)
        tell(Working(line))

    train, dev = map(examples_of, data)
    done: RivalResults = compile_with(
        options, student, metric, trainset=train, valset=dev, journal=journal, on_best=told
    ).detailed_results
    found = {
        "rival": options.rival,
        "settings": dict(done.settings),
        "final": done.best.model_dump(mode="json"),
        "trace": [asdict(best) for best in done.trace],
        "calls": done.calls,
        "stopped": done.stopped,
    }
    logger.info("%s: %d calls; %s", options.rival, done.calls, done.stopped or "done")
    journal.keep_step(RIVAL, options.rival, found)
    return found


def _score(
    runner: Runner, candidate: Candidate, dev: Sequence[Task], place: int, tell: Listener
) -> tuple[bool, DevRestored]:
    """The prompt's score on the dev tasks by us, and whether it was known.

    A failure of the infrastructure is no wrong answer.
    """
    key = f"{place}.{place}.{candidate.key}.{digest(dev)}"
    known = runner.journal.step(DEV, key)
    if known is not None:
        with reading("the step 'dev'", runner.journal.path):
            return True, dev_event(known)[0]
    tell(Working("dev set, " + ("final prompt" if place else "start prompt"), len(dev)))
    done = 0

    def count(rollout: Rollout) -> None:
        nonlocal done
        done += 1
        tell(RolloutDone(done, len(dev), rollout))

    evaluation = evaluate_jobs(runner, [Job(candidate, task) for task in dev], on_done=count)
    event = DevRestored(place, place, candidate, tuple(t.task_id for t in dev), evaluation)
    scores = {r.task_id: r.score for r in evaluation.rollouts if r.score is not None}
    runner.journal.keep_step(DEV, key, dev_step(event, scores))
    return False, event
