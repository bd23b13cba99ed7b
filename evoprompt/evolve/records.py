"""Records of a search, as plain frozen data: batches, evaluations, prompts, results."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import not_
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from evoprompt.candidate import Candidate
from evoprompt.errors import UsageError
from evoprompt.evaluate import Evaluation
from evoprompt.evolve.factorial.decision import Word
from evoprompt.evolve.factorial.rules import Rule
from evoprompt.judges import Rollout
from signatures import Diagnosis, FailureGroup


class Diagnosed(BaseModel):
    """The diagnosis of one failed rollout.

    Attributes:
        task_id: Its task.
        by: Whether a program or the debugger made it.
        diagnosis: Why it failed.
        predictor: The predictor that is to blame; empty where the student has but one.
    """

    model_config = ConfigDict(frozen=True)

    task_id: str
    by: Literal["program", "debugger"]
    diagnosis: Diagnosis
    predictor: str = Field(default="", exclude_if=not_)


class Tried(BaseModel):
    """One rollout of a factorial batch: which rules its prompt had, and what came of it.

    Attributes:
        task_id: The task.
        candidate: Key of the prompt.
        rules: Indices of its rules.
        score: In [0, 1]; None when not measured.
    """

    model_config = ConfigDict(frozen=True)

    task_id: str
    candidate: str
    rules: tuple[NonNegativeInt, ...]
    score: float | None = Field(default=None, ge=0, le=1)


class Confirmation(BaseModel):
    """The last word on a factorial search's prompt: is it better than the start?

    Attributes:
        candidate: The prompt.
        accepted: Whether it is the result; else the start prompt is.
        reason: Why.
        wins: Paired tasks in which it scored higher than the start.
        losses: Paired tasks in which it scored lower.
        pairs: All paired tasks.
        planned: How many there might have been.
        dev_scores: Percent of the dev tasks among the pairs that start and prompt solved; None without any.
        word: What it came to: `confirmed` (the test of paired tasks says better, with an error of 5 %), `probable`
            (better with a probability of 0.8) or `start kept`.
        p_better: Probability that the prompt is better than the start; None in a record from before there was one.
        gain: Points that it is expected to gain.
        interval: The 95 % interval of the gain.
    """

    model_config = ConfigDict(frozen=True)

    candidate: Candidate
    accepted: bool
    reason: str
    wins: int = 0
    losses: int = 0
    pairs: int = 0
    planned: int = 0
    dev_scores: tuple[float, float] | None = None
    word: Word = "start kept"
    p_better: float | None = Field(default=None, ge=0, le=1)
    gain: float | None = None
    interval: tuple[float, float] | None = None


class Rejected(BaseModel):
    """A sentence that could not become a rule, and why.

    Attributes:
        problem: Why.
        text: The sentence, or the beginning of a whole proposal.
    """

    model_config = ConfigDict(frozen=True)

    problem: str
    text: str = ""


class EvolutionEntry(BaseModel):
    """One instruction in the history of a run.

    Attributes:
        id: Key of the candidate.
        instruction: Its text; with several predictors, all of them below their names.
        instructions: With several predictors, name and text of each.
        parent: Key of the instruction that it was made from; None for the seed.
        generation: Number of rewrites since the seed.
        epoch: Epoch that proposed it; 0 for the seed.
        batch: Batch that proposed it; 0 for the seed.
        proposed_because: The rules that its batch asked for.
        accepted: Whether it became the current instruction.
        reason: Why it was accepted or not.
        batch_score: Percent of its batch that it solved.
        parent_batch_score: What its parent solved of the same tasks.
        dev_score: Percent of the valset that it solved; None when never evaluated there.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    instruction: str
    instructions: tuple[tuple[str, str], ...] = Field(default=(), exclude_if=not_)
    parent: str | None = None
    generation: int = 0
    epoch: int = 0
    batch: int = 0
    proposed_because: tuple[FailureGroup, ...] = ()
    accepted: bool = True
    reason: str = ""
    batch_score: float | None = None
    parent_batch_score: float | None = None
    dev_score: float | None = None

    @classmethod
    def of(cls, candidate: Candidate, **facts: Any) -> EvolutionEntry:
        """The entry of a candidate."""
        texts = candidate.instructions if len(candidate.instructions) > 1 else ()
        return cls(id=candidate.key, instruction=candidate.told, instructions=texts, **facts)


class BatchRecord(BaseModel):
    """One batch: parent, failures, proposal, decision.

    Attributes:
        epoch: From 1.
        batch: Number of the batch in its epoch, from 1.
        parent: The instruction before the batch.
        tasks: The batch's task ids.
        evaluation: The parent's result on them, without its rollouts.
        rollouts: The parent's rollouts.
        diagnosed: Diagnoses of its failures.
        groups: The diagnoses clustered into rules, most frequent first.
        child: The proposal; None when there was nothing to propose or it was screened out.
        child_rollouts: The proposal's rollouts on the same tasks.
        paired_tasks: Tasks that were measured with both.
        parent_score: Percent of the paired tasks that the parent solved; None without one.
        child_score: The same of the proposal.
        accepted: Whether the proposal replaced its parent.
        reason: Why, or why there is no proposal.
        entry: The proposal as it stands in the history of the run; None when there was none.
        unmeasured: Those of both sides' rollouts that told nothing then; a later batch may have measured them.
        tried: Of a factorial batch, what each rollout's prompt held; `refine` has none.
        rules: All rules after the batch, with their effects.
        open_failures: Diagnoses of the tasks that failed when they were last tried.
        advised: Calls of the debugger and the optimizer so far.
        debugged: Those of the debugger.
        shortened: The last set of rules that the optimizer was asked to shorten.
        bill: What was spent so far of the calls, tokens, dollars and seconds, as far as they are limited: in all, and
            without the debugger's and the optimizer's part.
        sure: Of a factorial batch: whether the prompt after it would be the result if the search ended here.
        rejected: Sentences and proposals of the batch that could not become rules.
        belief: Of a factorial batch, mean and standard deviation of the gain over the start that the search expects of
            the prompt after it, in shares of 1.
    """

    model_config = ConfigDict(frozen=True)

    epoch: int
    batch: int
    parent: Candidate
    tasks: tuple[str, ...] = ()
    evaluation: Evaluation
    rollouts: tuple[Rollout, ...] = ()
    diagnosed: tuple[Diagnosed, ...] = ()
    groups: tuple[FailureGroup, ...] = ()
    child: Candidate | None = None
    child_rollouts: tuple[Rollout, ...] = ()
    paired_tasks: int = 0
    parent_score: float | None = None
    child_score: float | None = None
    accepted: bool = False
    reason: str = ""
    entry: EvolutionEntry | None = None
    unmeasured: tuple[Rollout, ...] = ()
    tried: tuple[Tried, ...] = ()
    rules: tuple[Rule, ...] = ()
    open_failures: tuple[Diagnosed, ...] = ()
    advised: int = 0
    debugged: int = 0
    shortened: tuple[int, ...] = ()
    bill: dict[str, tuple[float, float]] = {}
    sure: bool = False
    rejected: tuple[Rejected, ...] = ()
    belief: tuple[float, float] | None = None


class DevRecord(BaseModel):
    """One instruction, evaluated on the valset.

    Attributes:
        epoch: From 1; 0 for the seed.
        batch: After which it was; 0 for the seed.
        candidate: The instruction.
        tasks: The ids of the tasks.
        evaluation: Its result.
        scores: Score of each task that was measured, in [0, 1].
        samples: Number of a task's rollout where that is not 0.
    """

    model_config = ConfigDict(frozen=True)

    epoch: int
    batch: int
    candidate: Candidate
    tasks: tuple[str, ...]
    evaluation: Evaluation
    scores: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    samples: dict[str, NonNegativeInt] = Field(default={}, exclude_if=not_)

    def step(self) -> dict[str, Any]:
        """The body of its step in the journal, which has the rollouts already."""
        return self.model_dump(mode="json", exclude={"evaluation": {"rollouts"}})


INTERRUPTED = "interrupted"
"""`Results.stopped` after Ctrl-C: the same search can go on, to the end that it would have had."""


@dataclass(frozen=True)
class Results:
    """The results of a search: `compile` attaches them to the program as `detailed_results`.

    Attributes:
        best: The instruction that the program carries.
        seed: The student's own.
        evolution: Every instruction that was proposed, in order.
        batches: Every batch, without its rollouts and diagnoses: those are told by `BatchDone`, and kept in the
            journal.
        dev: Evaluations on the valset by candidate key, without their rollouts.
        confirmation: Of a factorial search: how its prompt was compared with the start; None until then.
        stopped: Why the search ended before its last batch; `INTERRUPTED` after Ctrl-C; else empty.
        run_dir: Directory of the run, where there is one.
        simulated: Whether the model `simulated` took part: the scores say nothing about real models.
    """

    best: Candidate
    seed: Candidate
    evolution: tuple[EvolutionEntry, ...]
    batches: tuple[BatchRecord, ...]
    dev: dict[str, Evaluation]
    confirmation: Confirmation | None = None
    stopped: str = ""
    run_dir: Path | None = field(default=None, compare=False)
    simulated: bool = field(default=False, compare=False)

    def report(self) -> Path:
        """Return the path of the run's report, one HTML page; write it where it is missing.

        Raises:
            UsageError: The search had no `run_dir`, and so left nothing to report.
        """
        if self.run_dir is None:
            raise UsageError("there is no report: give EvoPrompt(run_dir=...) a directory to keep the run in")
        path = self.run_dir / "report.html"
        return path if path.is_file() else resolve_name("evoprompt.report:write_report")(self.run_dir)

    def _repr_html_(self) -> str:
        """Return the result as a notebook shows it."""
        return str(resolve_name("evoprompt.report.notebook:results_html")(self))

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The sentences of the best instruction, each with its effect, where they were measured."""
        known = self.batches[-1].rules if self.batches else ()
        return tuple(rule for rule in known if rule.kept) if self.best.key != self.seed.key else ()

    @property
    def best_dev_score(self) -> float | None:
        """Percent of the valset that the best instruction solved; None without a valset."""
        found = self.dev.get(self.best.key)
        return found.score if found else None
