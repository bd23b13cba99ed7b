"""`evoprompt evaluate`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from evoprompt.cli.shown import note, resumable, tell
from evoprompt.errors import EvoPromptError, UsageError
from evoprompt.wording import counted

if TYPE_CHECKING:
    from evoprompt.cli.display import Display
    from evoprompt.cli.setup import Models
    from evoprompt.datasets import Dataset
    from evoprompt.evaluate import Evaluation
    from evoprompt.metric import CodeMetric
    from evoprompt.program import Program
    from evoprompt.runs import Journal

WHAT, MODEL, TESTS, OUT = "What", "Model", "Tests", "Output"
ANEW = "or another --output to begin anew"
SKIPPED = 2
SHOWN = 20
OVERHEAD = 0.05
"""Seconds that a solution takes besides its tests, for the bar."""


class Done(NamedTuple):
    """An evaluation, what it left out, its page, and what it cost."""

    found: Evaluation
    skipped: list[str]
    page: Path
    cost: str


class BelowThreshold(EvoPromptError):
    """The score is below `--fail-under`: exit code 1."""


def evaluate(
    dataset: Annotated[str, typer.Option("--dataset", rich_help_panel=WHAT, help="A known data set (`evoprompt datasets`), or a file in a format of docs/reference/data.md.")],
    skip_bad: Annotated[bool, typer.Option("--skip_bad", rich_help_panel=WHAT, help="Leave out rows of the data that can't be read, and name them.")] = False,
    samples: Annotated[Path | None, typer.Option("--samples", rich_help_panel=WHAT, help="Judge these: JSON or JSONL of `{task_id, solution}` or `{task_id, completion}`, a folder (`Mbpp_2/0.py`), or what other tools write (docs/reference/data.md).")] = None,
    extract: Annotated[bool, typer.Option("--extract", rich_help_panel=WHAT, help="Take the code out of each sample, as from a reply with fences and prose.")] = False,
    model: Annotated[str | None, typer.Option("--model", rich_help_panel=MODEL, help="Let this model write the solutions.")] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", rich_help_panel=MODEL, help="The prompt to write with: a file, or the text.")] = None,
    program: Annotated[Path | None, typer.Option("--program", rich_help_panel=MODEL, help="A run directory, or its `program.json`: its prompt and adapter.")] = None,
    n_samples: Annotated[int, typer.Option("--n_samples", rich_help_panel=MODEL, min=1, help="Solutions per task.")] = 1,
    temperature: Annotated[float, typer.Option("--temperature", rich_help_panel=MODEL, min=0.0, max=100.0)] = 0.0,
    max_tokens: Annotated[int | None, typer.Option("--max_tokens", rich_help_panel=MODEL, min=1)] = None,
    api_base: Annotated[str | None, typer.Option("--api_base", rich_help_panel=MODEL, help="URL of an OpenAI-compatible server.")] = None,
    lm_on_workers: Annotated[bool, typer.Option("--lm_on_workers", rich_help_panel=MODEL, help="The workers of --cluster ask the models: for models that are served on their nodes, as in `--api_base http://localhost:8000/v1`. No key is sent to them.")] = False,
    num_retries: Annotated[int, typer.Option("--num_retries", rich_help_panel=MODEL, min=0)] = 10,
    timeout: Annotated[float, typer.Option("--timeout", rich_help_panel=MODEL, min=0.1, help="Seconds that one whole reply may take before the call is tried again.")] = 300.0,
    seed: Annotated[int, typer.Option("--seed", rich_help_panel=MODEL, help="Of models that take one.")] = 42,
    max_repairs: Annotated[int, typer.Option("--max_repairs", rich_help_panel=MODEL, min=0, help="Repairs by the debugger against the examples in the prompt.")] = 0,
    base_only: Annotated[bool, typer.Option("--base_only", rich_help_panel=TESTS, help="Run the base tests alone.")] = False,
    test_details: Annotated[bool, typer.Option("--test_details", rich_help_panel=TESTS, help="Run every input, also after one that fails or ends its process.")] = False,
    min_time_limit: Annotated[float, typer.Option("--min_time_limit", rich_help_panel=TESTS, min=0.01, help="CPU seconds that any input may take.")] = 2.0,
    gt_time_limit_factor: Annotated[float, typer.Option("--gt_time_limit_factor", rich_help_panel=TESTS, min=1.0, help="CPU time of an input, as a multiple of the canonical solution's.")] = 4.0,
    time_limit: Annotated[float | None, typer.Option("--time_limit", rich_help_panel=TESTS, min=0.01, help="CPU seconds that one assert may take; not for tasks with inputs.")] = None,
    prelude: Annotated[str | None, typer.Option("--prelude", rich_help_panel=TESTS, help="Python file that runs before each solution, or `humaneval`: the imports that many tools put there.")] = None,
    allow_unsafe_exec: Annotated[bool, typer.Option("--allow_unsafe_exec", rich_help_panel=TESTS, help="Go on where no sandbox works. Only inside a machine that you can throw away.")] = False,
    parallel: Annotated[int, typer.Option("--parallel", "--num_threads", rich_help_panel=TESTS, min=1, help="Calls and tests under way at once.")] = 8,
    cluster: Annotated[str | None, typer.Option("--cluster", rich_help_panel=TESTS, metavar="CLUSTER", help="Run solutions on a Dask cluster: `local:8` (processes here), `tcp://host:8786`, or `slurm:20` (jobs); models are asked from here but for --lm_on_workers (docs/how_to/clusters.md).")] = None,
    output: Annotated[Path | None, typer.Option("--output", rich_help_panel=OUT, help="Result file. Default: beside the samples, or below `results/evaluations`.")] = None,
    fail_under: Annotated[float | None, typer.Option("--fail_under", rich_help_panel=OUT, min=0, max=100, help="Exit with 1 when the score in percent is below this.")] = None,
    as_json: Annotated[bool, typer.Option("--json", rich_help_panel=OUT, help="Print the summary as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", rich_help_panel=OUT, help="Show warnings and the result alone.")] = False,
) -> None:  # fmt: skip
    """Score a model, an evolved program, or solutions that you have: pass@k on base and plus tests.

    A killed evaluation goes on where it was when the same command is given again.
    """
    _evaluate(dict(locals()))


def _evaluate(given: dict[str, Any]) -> None:
    """Run the command with its options as they were given."""
    _check(given)
    from evoprompt.cli.display import Display, tell_end

    display = Display(quiet=given["quiet"])
    with display:
        display.begin("reading the tasks")
        from evoprompt.cli.setup import Models, build_program, judging, made_of, prompt_text, read_data
        from evoprompt.evaluate.prelude import read_prelude, with_prelude

        data = read_data(given["dataset"], skip_bad=given["skip_bad"])
        data = data if given["prelude"] is None else with_prelude(data, read_prelude(given["prelude"]))
        models = made_of(Models, given | {"model": given["model"] or ""})
        metric = _metric(data, given)
    program = given["program"]
    program = program / "program.json" if program is not None and program.is_dir() else program
    given["prompt"] = prompt = prompt_text(given["prompt"])
    target = given["output"] or _default_output(given, data, models, program, prompt)
    student = None
    if given["model"] is not None:
        student = build_program(models, max_repairs=given["max_repairs"], instruction=prompt)
    with display, judging(metric, student, given, display) as metric:
        display.begin("starting")
        if student is None:
            done = _given(display, data, metric, given, target)
        else:
            if program is not None:
                student.load(program)
            done = _written(display, data, metric, given, target, models, student)
    if given["as_json"]:
        told = {"simulated": models.simulated, "output": str(target), "report": str(done.page)}
        typer.echo(json.dumps({**done.found.summary(), **told}))
    else:
        _show(done.found, f"{models.mark}{given['dataset']}", len(data), target)
        then = f"evoprompt compare {shlex.quote(str(target))} OTHER_eval_results.json; a better prompt: evoprompt train --help"
        tell_end(models.mark, result=str(done.found), cost=done.cost, report=done.page, then=then)
    _tell_rest(done.found, done.skipped, given["fail_under"])


def _check(given: dict[str, Any]) -> None:
    """Refuse options that exclude each other, and a result file that can't be one.

    Raises:
        UsageError: Some do.
    """
    samples, model, prompt, program = (given[name] for name in ("samples", "model", "prompt", "program"))
    if (samples is None) == (model is None):
        raise UsageError("give either --samples FILE (judge solutions) or --model NAME (write and judge them)")
    if samples is not None and program is not None:
        raise UsageError("--program needs --model: solutions in --samples are written already")
    if prompt is not None and (samples is not None or program is not None):
        raise UsageError("--prompt needs --model and no --program: it is the prompt that the model is asked with")
    if given["extract"] and samples is None:
        raise UsageError("--extract needs --samples: it is done anyway with what --model replies")
    if given["output"] is not None and given["output"].is_dir():
        raise UsageError(f"--output {str(given['output'])!r} is a directory; give a file")


def _metric(data: Dataset, given: dict[str, Any]) -> CodeMetric:
    from evoprompt.cli.setup import assert_limits
    from evoprompt.harness import Harness, InputLimits
    from evoprompt.metric import CodeMetric

    limits = InputLimits(
        min_seconds=given["min_time_limit"], factor=given["gt_time_limit_factor"], every=given["test_details"]
    )
    harness = Harness(
        limits=assert_limits(given["time_limit"]),
        input_limits=limits,
        processes=min(given["parallel"], os.cpu_count() or 1),
        unsafe=given["allow_unsafe_exec"],
    )
    return CodeMetric(data, plus=False if given["base_only"] else None, harness=harness)


def _tell_rest(found: Evaluation, skipped: list[str], fail_under: float | None) -> None:
    """Say what was not judged, and refuse a score that is too low.

    Raises:
        BelowThreshold: The score is below `fail_under`.
        Exit: Something was skipped.
    """
    broken = list(dict.fromkeys(r.error for r in found.rollouts if r.status == "data_error"))[:SHOWN]
    for line in [*(f"skipped {line}" for line in skipped), *(f"not measured: {line}" for line in broken)]:
        note(line)
    if fail_under is not None and (found.score is None or found.score < fail_under):
        score = "nothing measured" if found.score is None else f"the score {found.score:.1f}"
        raise BelowThreshold(f"{score} is below --fail_under {fail_under:g}")
    if skipped:
        raise typer.Exit(SKIPPED)


def _given(
    display: Display, data: Dataset, metric: CodeMetric, given: dict[str, Any], target: Path
) -> Done:  # fmt: skip
    """Judge solutions that exist."""
    from evoprompt.evaluate import chatty, judge, read_samples, summarize
    from evoprompt.evaluate.samples import seconds_of
    from evoprompt.rollout import require_measured

    path, extract, threads = given["samples"], given["extract"], given["parallel"]
    samples, skipped = read_samples(path, data, extract=extract)
    setup = {"samples": str(path), "extract": extract, **_identity(data, metric)}
    tasks = {s.task_id: data.by_id(s.task_id) for s in samples}
    lost = display.vet(metric, tasks.values(), threads)
    seconds = {name: OVERHEAD + seconds_of(metric, task) for name, task in tasks.items() if name not in lost}
    whole = [seconds[s.task_id] for s in samples if s.task_id not in lost]
    kept = _journal(target)
    with _kept(target, _identity(data, metric)) as journal:
        _resumed(display, journal, len(whole))
        told = None if extract else chatty(samples, data)
        if told:
            display.say(told, "yellow")
        weights = {name: second * len(whole) / sum(whole) for name, second in seconds.items()}
        count = display.counter(f"judging {path.name}", len(whole), weights)
        rollouts = judge(samples, data, metric, num_threads=threads, journal=journal, on_done=count)
        require_measured(rollouts)
        found = summarize(rollouts)
        page = _write(target, found, data, setup, given)
    for name in (kept, kept.with_name(f"{kept.name}-wal")):  # verdicts cost nothing: they are not kept for ever
        name.unlink(missing_ok=True)
    used = sum(r.report.cpu_seconds for r in found.rollouts if r.report)
    return Done(found, skipped, page, f"no call of a model, {used:.1f} s of CPU in the sandbox")


def _written(
    display: Display, data: Dataset, metric: CodeMetric, given: dict[str, Any], target: Path,
    models: Models, student: Program,
) -> Done:  # fmt: skip
    """Let a model write solutions, and judge them."""
    from dataclasses import asdict

    from evoprompt.atomic import write_text
    from evoprompt.cli.display import spent_line
    from evoprompt.cli.setup import warn_if_unknown
    from evoprompt.evaluate import evaluate

    n_samples, threads = given["n_samples"], given["parallel"]
    kept = _journal(target)
    if target.exists() and not kept.exists():
        raise UsageError(f"{str(target)!r} exists already; give another --output to run it again")
    lost = display.vet(metric, data, threads)
    setup = _setup(models, student) | _identity(data, metric)
    total = (len(data) - len(lost)) * n_samples
    with _kept(target, setup) as journal:
        display.follow(journal.spent, simulated=models.simulated)
        _same_server(display, journal, models.api_base, total, target)
        warn_if_unknown(display.say, models, [data])
        if n_samples > 1 and not models.temperature:
            display.say(f"{n_samples} samples at temperature 0 will be alike; give --temperature", "yellow")
        _resumed(display, journal, total)
        count = display.counter(f"{data.name}, {models.model}", total)
        found = evaluate(student, data, metric, samples=n_samples, num_threads=threads, journal=journal, on_done=count)
        rows = (json.dumps({"task_id": r.task_id, "solution": r.code}) for r in found.rollouts if r.measured)
        write_text(_solutions(target), "\n".join(rows) + "\n")
        spent = journal.spent()
        setup["spent"] = {role: asdict(one) for role, one in spent.items()}
        return Done(found, [], _write(target, found, data, setup, given), spent_line(spent))


def _setup(models: Models, student: Program) -> dict[str, Any]:
    """What is asked. Where the server stands may change between two runs; this may not."""
    from dataclasses import asdict

    from evoprompt.candidate import Candidate

    asked = {k: v for k, v in asdict(models).items() if k not in ("api_base", "num_retries", "timeout")}
    told = {"instruction": Candidate.of(student).instruction, "max_repairs": student.max_repairs}
    demos = [dict(demo) for demo in student.generator.demos]
    return asked | told | ({"demos": demos} if demos else {})


def _identity(data: Dataset, metric: CodeMetric) -> dict[str, Any]:
    described = metric.describe()
    return {"data_hash": data.hash, **{name: described[name] for name in ("plus", "limits", "input_limits")}}


def _write(target: Path, found: Evaluation, data: Dataset, setup: dict[str, Any], given: dict[str, Any]) -> Path:
    """Write the result file, with the options as a run keeps them, and its page."""
    from evoprompt.atomic import write_text
    from evoprompt.cli.setup import from_anywhere
    from evoprompt.evaluate import evalplus_results
    from evoprompt.report.evaluation import write_evaluation
    from evoprompt.secrets import mask, settings_without_secrets

    options = from_anywhere({k: v for k, v in given.items() if k not in ("as_json", "quiet")})
    setup = setup | {"options": settings_without_secrets(options)}
    told = mask(json.dumps(evalplus_results(found, data, setup), indent=2, ensure_ascii=False, allow_nan=False))
    write_text(target, told + "\n")
    return write_evaluation(target, json.loads(told))


def _default_output(
    given: dict[str, Any], data: Dataset, models: Models, program: Path | None, prompt: str | None
) -> Path:  # fmt: skip
    """The result file that has a name of its own for each prompt, and for tasks that have changed since."""
    from evoprompt.runs import Journal

    samples: Path | None = given["samples"]
    if samples is not None:
        stem = samples.name if samples.is_dir() else re.sub(r"(\.json)?(\.jsonl)?(\.gz)?$", "", samples.name)
        return samples.parent / f"{stem}_eval_results.json"
    start = "start" if prompt is None else f"prompt_{_digest(prompt.encode())}"
    start = _digest(program.read_bytes()) if program and program.is_file() else start
    name = f"{models.model}_{start}_temp_{models.temperature:g}_seed_{models.seed}"
    folder = Path("results") / "evaluations" / re.sub(r"[^A-Za-z0-9._-]+", "--", Path(given["dataset"]).stem)
    target = folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '--', name)}_eval_results.json"
    if _journal(target).exists():
        with Journal(_journal(target)) as journal:
            before = journal.fact("identity").get("data_hash", data.hash)
        if before != data.hash:
            note(f"{str(target)!r} is of other tasks, or of these before they changed: this evaluation is another one")
            return target.with_name(target.name.replace("_eval_results", f"_data_{data.hash[:8]}_eval_results"))
    return target


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


def _solutions(target: Path) -> Path:
    """Where the solutions that a model wrote are kept."""
    return target.with_name(re.sub(r"(_eval_results)?(\.json)?$", "", target.name) + ".jsonl")


def _journal(target: Path) -> Path:
    return target.with_name(f"{target.name}.journal")


@contextlib.contextmanager
def _kept(target: Path, identity: dict[str, Any]) -> Iterator[Journal]:
    """The journal of an evaluation; where it is left before its end, how to go on is said."""
    from evoprompt.atomic import remove_unfinished_of
    from evoprompt.runs import Journal

    with Journal(_journal(target)) as journal:
        for path in (target, target.with_suffix(".html"), _solutions(target)):  # ours while we have the journal
            remove_unfinished_of(path)
        journal.begin(identity, anew=ANEW)
        with resumable(lambda: "the same command goes on"):
            yield journal


def _same_server(display: Display, journal: Journal, api_base: str | None, total: int, target: Path) -> None:
    """One server must not answer for another unnoticed, though a moved one may go on.

    Raises:
        UsageError: All answers are there, and they are another server's.
    """
    from evoprompt.secrets import mask

    server = mask(api_base or "the provider's own")
    before = journal.meta("server")
    known = _known(journal)
    if before is not None and before != server:
        if known >= total:
            raise UsageError(
                f"{str(target)!r} was measured with the server {before}; give another --output to measure {server}"
            )
        display.say(f"{known} of {total} answers are from {before}; the rest are asked from {server}", "yellow")
    journal.keep_meta("server", server)


def _known(journal: Journal) -> int:
    """How many solutions have a verdict; those without are asked for again."""
    return sum(journal.rolled().values())


def _resumed(display: Display, journal: Journal, total: int) -> None:
    known = _known(journal)
    if known:
        display.say(f"going on where the last run stopped: {min(known, total)} of {total} are known")


def _show(found: Evaluation, title: str, tasks: int, target: Path) -> None:
    for suite, rates in found.pass_at_k.items():
        label = "base" if suite == "base" else "base + plus"
        for k, rate in rates.items():
            tell(f"{title}  {label:<12} {k:<9} {rate}")
    verdicts = {r.status for r in found.rollouts if r.measured}
    statuses = "  ".join(f"{status} {n}" for status, n in found.statuses.items() if status in verdicts)
    samples = counted(len(found.rollouts), "sample")
    samples = f"{found.measured:,} of {samples} measured" if found.unmeasured else samples
    tell(f"{found.tasks} of {counted(tasks, 'task')}, {samples}: {statuses}")
    if found.unmeasured:
        were, are = ("was", "is") if found.unmeasured == 1 else ("were", "are")
        tell(f"{counted(found.unmeasured, 'sample')} {were} not measured{found.why} and {are} in no score")
    tiers = sorted({r.report.tier for r in found.rollouts if r.report})
    tell(f"sandbox: {', '.join(tiers) or 'not used'}; details: {target}")
