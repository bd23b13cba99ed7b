"""`evoprompt train`."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from evoprompt.cli.config import options_of_file
from evoprompt.cli.shown import resumable, tell
from evoprompt.errors import DataError, UsageError
from evoprompt.runs.lock import Lock
from evoprompt.wording import LIMITS, counted

if TYPE_CHECKING:
    from evoprompt.cli.display import Display
    from evoprompt.cli.setup import Models
    from evoprompt.datasets import Dataset
    from evoprompt.evaluate import Evaluation
    from evoprompt.evolve import Options
    from evoprompt.metric import CodeMetric
    from evoprompt.program import Program
    from evoprompt.runs import Run, Spent
    from evoprompt.tracking import MLflowTracker

Optimizer = Literal["evoprompt", "gepa", "mipro", "simba", "copro"]

RUN, DATA, MODEL, SEARCH, TESTS = "Run", "Data", "Models", "Search", "Tests"
BUDGET = "Budget (the search ends with the best prompt so far; the evaluation on test tasks comes on top)"
WHEREABOUTS = {
    "experiment_name", "run_name", "root_dir", "dataset", "split", "track", "quiet", "as_json", "dataset_path", "train_file", "dev_file", "test_file", "api_base",
    "num_threads", "num_retries", "timeout", "cluster", "lm_on_workers", "auto", "allow_unsafe_exec", "fork", "config", "skip_bad", *LIMITS,
}  # fmt: skip
"""Options that change where things are and how fast they go, not what comes out."""
BEFORE: dict[str, Any] = {
    "optimizer": "evoprompt", "strategy": "refine", "patience": None, "target": None, "time_limit": None,
    "accept_when": "confirmed", "max_demos": 0, "prompt": None, "lock": [],
}  # fmt: skip
"""Options that are left out of a run's identity at these values: its journal may be older than the option."""


def train(
    experiment_name: Annotated[str, typer.Option("--experiment_name", rich_help_panel=RUN, help="Folder below the root directory.")],
    run_name: Annotated[str, typer.Option("--run_name", rich_help_panel=RUN, help="Folder below the experiment. A run that was stopped there goes on.")],
    root_dir: Annotated[Path, typer.Option("--root_dir", rich_help_panel=RUN, help="Where results go.")],
    model: Annotated[str, typer.Option("--model", rich_help_panel=MODEL, help="Model that writes code: `openai/gpt-4o-mini`, `anthropic/…`, `ollama_chat/…`, `openai/x` with --api_base, `simulated`, `local`.")],
    dataset: Annotated[str | None, typer.Option("--dataset", rich_help_panel=DATA, help="`mbppplus`, `humanevalplus`, `mbpp`, … (`evoprompt datasets`), or one file; cut by --split. Or name a folder and its files below.")] = None,
    split: Annotated[str | None, typer.Option("--split", rich_help_panel=DATA, metavar="TRAIN,DEV,TEST", help="Tasks of --dataset to learn from, to choose by, and to hold out, drawn by --seed.")] = None,
    dataset_path: Annotated[Path | None, typer.Option("--dataset_path", rich_help_panel=DATA, help="Folder of the task files.")] = None,
    train_file: Annotated[str | None, typer.Option("--train_file", rich_help_panel=DATA, help="Tasks to learn from, in any format of docs/reference/data.md.")] = None,
    dev_file: Annotated[str | None, typer.Option("--dev_file", rich_help_panel=DATA, help="Tasks to choose the best prompt by.")] = None,
    test_file: Annotated[str | None, typer.Option("--test_file", rich_help_panel=DATA, help="Held-out tasks, evaluated once at the end.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip_bad", rich_help_panel=DATA, help="Leave out rows of the task files that can't be read, and name them.")] = False,
    debugger_model: Annotated[str | None, typer.Option("--debugger_model", rich_help_panel=MODEL, help="Model that explains failures. Default: --model.")] = None,
    optimizer_model: Annotated[str | None, typer.Option("--optimizer_model", rich_help_panel=MODEL, help="Model that rewrites the prompt. Default: --model.")] = None,
    api_base: Annotated[str | None, typer.Option("--api_base", rich_help_panel=MODEL, help="URL of an OpenAI-compatible server (vLLM, llama.cpp, …).")] = None,
    lm_on_workers: Annotated[bool, typer.Option("--lm_on_workers", rich_help_panel=MODEL, help="The workers of --cluster ask the models: for models that are served on their nodes, as in `--api_base http://localhost:8000/v1`. No key is sent to them.")] = False,
    temperature: Annotated[float, typer.Option("--temperature", rich_help_panel=MODEL, min=0.0, max=100.0, help="Sampling temperature of all roles.")] = 0.0,
    max_tokens: Annotated[int | None, typer.Option("--max_tokens", rich_help_panel=MODEL, min=1, help="Longest reply, in tokens.")] = None,
    num_retries: Annotated[int, typer.Option("--num_retries", rich_help_panel=MODEL, min=0, help="Retries of a call that failed for a passing reason.")] = 10,
    timeout: Annotated[float, typer.Option("--timeout", rich_help_panel=MODEL, min=0.1, help="Seconds that one whole reply may take before the call is tried again.")] = 300.0,
    prompt: Annotated[str | None, typer.Option("--prompt", rich_help_panel=SEARCH, help="The prompt to begin with: a file, or the text. Default: a short one of ours.")] = None,
    optimizer: Annotated[Optimizer, typer.Option("--optimizer", rich_help_panel=SEARCH, help="Ours, or one of DSPy's to compare with: same data, metric and results. Those are sized for --max_rollouts calls of --model (default: 80 % of --max_calls, or as many as ours would make), and take no other option of this group but --seed and --num_threads.")] = "evoprompt",
    strategy: Annotated[str, typer.Option("--strategy", rich_help_panel=SEARCH, help="`factorial` measures every rule (a sentence, list item or section of the prompt) at once and confirms the result against the start prompt. `refine` rewrites one prompt after the other. Or a search of your own, by its name or as `package.module:Class` (docs/how_to/own_search.md).")] = "factorial",
    batch_size: Annotated[int, typer.Option("--batch_size", rich_help_panel=SEARCH, min=1, help="Tasks per batch.")] = 10,
    epochs: Annotated[int, typer.Option("--epochs", rich_help_panel=SEARCH, min=1, help="Passes over the training tasks; `factorial` with --max_rollouts or --max_calls goes on until that is spent.")] = 1,
    eval_interval: Annotated[int, typer.Option("--eval_interval", rich_help_panel=SEARCH, min=1, help="Of `refine` only: batches between evaluations on the dev tasks.")] = 5,
    accept: Annotated[Literal["improves", "always"], typer.Option("--accept", rich_help_panel=SEARCH, help="Of `refine` only: `improves` keeps a prompt that solves more of its batch, `always` takes every proposal.")] = "improves",
    accept_when: Annotated[Literal["probable", "confirmed"], typer.Option("--accept_when", rich_help_panel=SEARCH, help="Of `factorial` only: `probable` takes a prompt that is better than the start with a probability of 0.8, `confirmed` only one that a paired test calls better, with an error of 5 %.")] = "probable",
    max_demos: Annotated[int, typer.Option("--max_demos", rich_help_panel=SEARCH, min=0, help="Of `factorial` only: solutions of training tasks that passed which the prompt may show as few-shot demos. Each is measured as a rule is; those that help most stay.")] = 0,
    lock: Annotated[list[str] | None, typer.Option("--lock", rich_help_panel=SEARCH, help="A passage of --prompt that every prompt keeps word for word: a file, or the text. Can be given several times.")] = None,
    patience: Annotated[int | None, typer.Option("--patience", rich_help_panel=SEARCH, min=1, help="End after so many batches in a row that changed nothing.")] = None,
    target: Annotated[float | None, typer.Option("--target", rich_help_panel=SEARCH, min=0.1, max=100.0, help="End when the prompt is expected to solve this percentage of the training tasks (`refine`: solves it of the dev tasks).")] = None,
    auto: Annotated[Literal["light", "medium", "heavy"] | None, typer.Option("--auto", rich_help_panel=BUDGET, help="A budget by the number of tasks: `light` is --max_rollouts 100 and 2 more for each training and dev task, `medium` twice and `heavy` four times as many.")] = None,
    max_calls: Annotated[int | None, typer.Option("--max_calls", rich_help_panel=BUDGET, min=1, help="Answers of all models.")] = None,
    max_rollouts: Annotated[int | None, typer.Option("--max_rollouts", rich_help_panel=BUDGET, min=1, help="Solutions that are generated and measured, on training and dev tasks.")] = None,
    max_total_tokens: Annotated[int | None, typer.Option("--max_total_tokens", rich_help_panel=BUDGET, min=1, help="Tokens of all requests and answers.")] = None,
    max_cost: Annotated[float | None, typer.Option("--max_cost", rich_help_panel=BUDGET, min=0.0001, help="US dollars; every model must have a known price.")] = None,
    max_seconds: Annotated[float | None, typer.Option("--max_seconds", rich_help_panel=BUDGET, min=0.1, help="Time that the search takes, over all its processes.")] = None,
    seed: Annotated[int, typer.Option("--seed", rich_help_panel=SEARCH, help="Seed of the batches, and of models that take one.")] = 42,
    num_threads: Annotated[int, typer.Option("--num_threads", rich_help_panel=SEARCH, min=1, help="Calls and tests under way at once.")] = 8,
    skip_evaluations: Annotated[bool, typer.Option("--skip_evaluations", rich_help_panel=SEARCH, help="No evaluation on dev or test tasks.")] = False,
    base_test: Annotated[bool, typer.Option("--base_test", rich_help_panel=TESTS, help="Judge by the base tests. Neither flag: by both, where a task has plus tests, and both must pass.")] = False,
    plus_test: Annotated[bool, typer.Option("--plus_test", rich_help_panel=TESTS, help="Judge by the plus tests.")] = False,
    require_both: Annotated[bool, typer.Option("--require_both", rich_help_panel=TESTS, help="With both flags: both must pass. Without it the base tests decide and the plus tests are reported.")] = False,
    time_limit: Annotated[float | None, typer.Option("--time_limit", rich_help_panel=TESTS, min=0.01, help="CPU seconds that one assert may take; not for tasks with inputs.")] = None,
    allow_unsafe_exec: Annotated[bool, typer.Option("--allow_unsafe_exec", rich_help_panel=TESTS, help="Go on where no sandbox works. Only inside a machine that you can throw away.")] = False,
    cluster: Annotated[str | None, typer.Option("--cluster", rich_help_panel=TESTS, metavar="CLUSTER", help="Run solutions on a Dask cluster: `local:8` (processes here), `tcp://host:8786`, or `slurm:20` (jobs); models are asked from here but for --lm_on_workers (docs/how_to/clusters.md).")] = None,
    track: Annotated[Literal["mlflow"] | None, typer.Option("--track", rich_help_panel=RUN, help="Keep parameters, scores, prompts and the report in an experiment tracker as well, where its own settings say (MLFLOW_TRACKING_URI).")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", rich_help_panel=RUN, help="Show warnings and the result alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", rich_help_panel=RUN, help="Print summary.json in place of the result for people.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry_run", rich_help_panel=RUN, help="Say what it would cost, by role, and do nothing.")] = False,
    fork: Annotated[str | None, typer.Option("--fork", rich_help_panel=RUN, help="Begin the run of this name with other options, and with the answers that --run_name paid for.")] = None,
    config: Annotated[Path | None, typer.Option("--config", rich_help_panel=RUN, is_eager=True, callback=options_of_file, help="JSON or TOML file of options; the command line wins.")] = None,
) -> None:  # fmt: skip
    """Evolve a prompt on your tasks and write every step to ROOT/EXPERIMENT/RUN.

    The same command again goes on with a run that was stopped: nothing is paid for twice.
    """
    _train(dict(locals()))


def _require_data(given: dict[str, Any]) -> None:
    """Refuse a choice of tasks that is incomplete or said twice.

    Raises:
        UsageError: Both ways are named, or neither as a whole.
    """
    files = [name for name in ("dataset_path", "train_file", "dev_file", "test_file") if given[name] is not None]
    if given["dataset"] is not None and files:
        raise UsageError(f"--dataset and --{files[0]} exclude each other: give one data set, or a folder and its files")
    if given["dataset"] is None and (given["dataset_path"] is None or given["train_file"] is None):
        raise UsageError(
            "no tasks: give --dataset NAME --split TRAIN,DEV,TEST, or --dataset_path DIR --train_file FILE"
        )
    if given["dataset"] is None and given["split"] is not None:
        raise UsageError("--split needs --dataset")


@dataclass(frozen=True)
class _Ready:
    """All that a search needs before it begins."""

    options: Options
    data: dict[str, Dataset]
    models: Models
    program: Program
    metric: CodeMetric


def _train(given: dict[str, Any]) -> None:
    """Run the command with its options as they were given."""
    run_dir, fork = _run_dir(given["root_dir"], given["experiment_name"], given["run_name"]), given["fork"]
    # Before the imports: who comes second is told at once.
    lock = Lock(run_dir) if run_dir.exists() and not given["dry_run"] else None
    new_dir = None if fork is None else _run_dir(given["root_dir"], given["experiment_name"], fork)
    _require_data(given)
    from evoprompt.cli.display import Display
    from evoprompt.cli.setup import judging

    display = Display(quiet=given["quiet"])
    with display:
        display.begin("reading the tasks")
        ready = _made_ready(given)
    if given["dry_run"]:
        _tell_estimate(ready)
        return
    with display, judging(ready.metric, ready.program, given, display) as metric:
        ready = replace(ready, metric=metric)
        # Neither a broken test nor one that tests nothing, those of the test set included.
        broken = display.vet(metric, metric.tasks.values(), given["num_threads"])
        if broken:
            raise DataError.of(list(broken.values()))
        with _opened(run_dir, lock, new_dir) as run:
            display.follow(run.journal.spent, simulated=ready.models.simulated)
            evolved, tests = _searched(run, display, given, ready)
            spent = run.journal.spent()
    if given["as_json"]:
        typer.echo((run.root / "summary.json").read_text(encoding="utf-8"), nl=False)
        return
    _tell(ready, evolved, tests, run, spent)


def _made_ready(given: dict[str, Any]) -> _Ready:
    from evoprompt.cli.servers import remember
    from evoprompt.cli.setup import Models, build_program, made_of, prompt_text, read_splits, split_data
    from evoprompt.evolve import Options
    from evoprompt.evolve.estimate import require_prices
    from evoprompt.evolve.teleprompter import require_locked
    from evoprompt.lm.budget import Budget

    if given["strategy"] in get_args(Optimizer) and given["optimizer"] == "evoprompt":
        given["optimizer"] = given["strategy"]
    rival = {} if given["optimizer"] == "evoprompt" else {"strategy": given["optimizer"]}
    given["lock"] = [prompt_text(text, "--lock") for text in given["lock"] or ()]
    budget = Budget(**{field: given[option] for option, field in LIMITS.items()})
    options = made_of(Options, given, budget=budget, **rival)
    unseen = {} if given["skip_evaluations"] else {"dev": given["dev_file"], "test": given["test_file"]}
    if given["dataset"] is not None:
        data = split_data(given["dataset"], given["split"], given["seed"], skip_bad=given["skip_bad"])
        data = {role: d for role, d in data.items() if role == "train" or not given["skip_evaluations"]}
    else:
        data = read_splits(given["dataset_path"], {"train": given["train_file"], **unseen}, skip_bad=given["skip_bad"])
    models = made_of(Models, given, keyless=given["dry_run"])
    given["prompt"] = prompt_text(given["prompt"])
    program = build_program(models, instruction=given["prompt"])
    require_prices(budget, [program])
    require_locked(program, options.lock)
    if given["api_base"] and not given["dry_run"]:
        remember(given["api_base"])
    return _Ready(options, data, models, program, _metric(given, data))


def _tell_estimate(ready: _Ready) -> None:
    from evoprompt.evolve import EvoPrompt

    search = EvoPrompt(ready.metric, options=ready.options)
    estimate = search.estimate(ready.program, list(ready.data["train"]), list(ready.data.get("dev", ())))
    tell(f"{ready.models.mark}estimate; nothing is asked and nothing is written:\n\n{estimate}")
    if "test" in ready.data:
        calls = f"{counted(len(ready.data['test']), 'call')} for each of up to two prompts"
        tell(f"The evaluation on test tasks comes on top: {calls}.")


def _searched(
    run: Run, display: Display, given: dict[str, Any], ready: _Ready
) -> tuple[Program, dict[str, Evaluation]]:  # fmt: skip
    """Search, and evaluate on test tasks."""
    from evoprompt.evolve import EvoPrompt

    _begin(run, display, given, ready.data, ready.models)
    train, dev = list(ready.data["train"]), list(ready.data.get("dev", ()))
    if not dev and ready.options.strategy in WITHOUT_DEV:
        display.say(f"no evaluation on dev tasks: {WITHOUT_DEV[str(ready.options.strategy)]}")
    tests = {}
    with _tracked(display, given, run.root) as (told, tracker):
        search = EvoPrompt(ready.metric, options=ready.options, run_dir=run, listener=told, on_interrupt="raise")
        evolved = search.compile(ready.program, trainset=train, valset=dev)
        if "test" in ready.data:
            test = ready.data["test"]
            tests = tested(run, display, ready.program, evolved, test, ready.metric, given["num_threads"])
        if tracker is not None:
            tracker.tested({name: evaluation.score for name, evaluation in tests.items()})
    return evolved, tests


@contextlib.contextmanager
def _tracked(
    display: Display, given: dict[str, Any], run_dir: Path
) -> Iterator[tuple[Callable[[Any], None], MLflowTracker | None]]:
    """The display, and with `--track` the tracker beside it."""
    if given["track"] is None:
        yield display, None
        return
    from evoprompt.tracking import MLflowTracker

    names = ("model", "debugger_model", "optimizer_model", "temperature", "dataset", "split")
    params = {name: given[name] for name in (*names, "dataset_path", "train_file", "dev_file", "test_file")}
    with MLflowTracker(None, given["experiment_name"], given["run_name"], run_dir, params) as tracker:

        def both(event: Any) -> None:
            display(event)
            tracker(event)

        yield both, tracker


WITHOUT_DEV = {
    "factorial": "the result is compared with the start prompt on training tasks alone",
    "refine": "the last accepted prompt is the result",
}


def tested(
    run: Run, display: Display, program: Program, evolved: Program,
    test: Dataset, metric: CodeMetric, num_threads: int,
) -> dict[str, Evaluation]:  # fmt: skip
    """Evaluate the start prompt on the test set, and the evolved one if it is another."""
    from evoprompt.candidate import Candidate
    from evoprompt.evolve.results_tree import ending, evaluate_test
    from evoprompt.report import keep_report

    found: dict[str, Evaluation] = {}
    same = Candidate.compiled(evolved)[0].key == Candidate.of(program).key
    with ending(run):
        for name, module in {"start": program, **({} if same else {"evolved": evolved})}.items():
            counter = display.counter(f"test set, {name} prompt", len(test))
            found[name] = evaluate_test(run, name, module, test, metric, num_threads=num_threads, on_done=counter)
        run.tree.summary(test_scores={name: evaluation.score for name, evaluation in found.items()})
        keep_report(run.root, run.journal)
    return found


@contextlib.contextmanager
def _opened(run_dir: Path, lock: Lock | None, new_dir: Path | None) -> Iterator[Run]:
    """The run, or its fork; where it is left before its end, how to go on is said."""
    from evoprompt.runs import Run, resume_command

    if new_dir is not None:
        run_dir, lock = _forked(run_dir, lock, new_dir)
    with Run(run_dir, held=lock) as run:

        def how() -> str:
            begun = run.journal.meta("seed") is not None  # `resume` refuses what is not
            command = resume_command(run_dir, run.journal.fact("config")) if begun else ""
            return f"`{command}` goes on" if command else "the same command goes on"

        with resumable(how):
            yield run


def _forked(old_dir: Path, lock: Lock | None, new_dir: Path) -> tuple[Path, None]:
    from evoprompt.runs import journal, open_finished

    if lock is not None:
        lock.release()
    if {p.name for p in new_dir.glob("*")} - set(journal.UNFINISHED):
        raise UsageError(
            f"--fork {new_dir.name!r}: that run exists; give another name, or --run_name {new_dir.name} to go on with it"
        )
    with open_finished(old_dir) as old:
        old.journal.fork(new_dir)
    return new_dir, None


def _tell(
    ready: _Ready, evolved: Program, tests: dict[str, Evaluation], run: Run, spent: Mapping[str, Spent]
) -> None:  # fmt: skip
    from evoprompt.candidate import Candidate
    from evoprompt.cli.display import confirmation_line, score_line, spent_line, tell_diff, tell_end, tell_rules

    results, mark = evolved.detailed_results, ready.models.mark
    best = Candidate.compiled(evolved)[0]
    before, after = Candidate.of(ready.program).told, best.told
    if before != after:
        tell_diff(before, after)
        tell_rules(results, mark)
    elif results.confirmation is not None:
        tell(mark + confirmation_line(results.confirmation))
    elif any(entry.accepted and entry.parent for entry in results.evolution):
        tell(f"{mark}none of the accepted prompts was measured as better on the dev tasks")
    if results.stopped:
        tell(f"{mark}the search ended because {results.stopped}")
    for name, evaluation in tests.items():
        tell(score_line(f"test, {name} prompt", evaluation, mark))
    scores = " → ".join("-" if one.score is None else f"{one.score:.1f} %" for one in tests.values())
    text = "" if best.demos else f"{run.tree.final_prompt} or "  # which has no demos
    result, then = "a new prompt", f"; use {text}{run.tree.program}"
    if not tests and results.confirmation is not None:
        result += f", {results.confirmation.gain:+z.1f} points expected; no test tasks were held out"
    if before == after:
        result, then = "no better prompt was found: the start prompt stays", " shows what was tried"
    tell_end(
        mark, result=result + (f", {scores} of the test tasks" if scores else ""), cost=spent_line(spent),
        report=run.root / "report.html", then=f"evoprompt report {shlex.quote(str(run.root))} --open{then}",
    )  # fmt: skip


def _metric(given: dict[str, Any], data: dict[str, Dataset]) -> CodeMetric:
    """Neither flag asks for base and, where there are any, plus tests, and wants both passed."""
    from evoprompt.cli.setup import assert_limits
    from evoprompt.harness import Harness
    from evoprompt.metric import CodeMetric

    base, plus = given["base_test"], given["plus_test"]
    return CodeMetric(
        [t for d in data.values() for t in d],
        base=base or not plus,
        plus=plus if base or plus else None,
        require_both=given["require_both"] or not (base and plus),
        harness=Harness(limits=assert_limits(given["time_limit"]), unsafe=given["allow_unsafe_exec"]),
    )


def _run_dir(root: Path, experiment: str, run: str) -> Path:
    for option, value in (("experiment_name", experiment), ("run_name", run)):
        if value in ("", ".", "..") or "/" in value or "\0" in value or not value.isprintable():
            raise UsageError(f"--{option} must be the name of a folder, not {value!r}")
    return root / experiment / run


def _begin(
    run: Run, display: Display, given: dict[str, Any], data: dict[str, Dataset], models: Models
) -> None:  # fmt: skip
    """Write down what the run is about, or check that it is about the same."""
    from evoprompt.cli.setup import describe, from_anywhere, warn_if_unknown
    from evoprompt.secrets import settings_without_secrets

    options = from_anywhere({k: v for k, v in given.items() if k not in ("dry_run", "as_json")})
    about = {k: v for k, v in options.items() if k not in WHEREABOUTS}
    if options["optimizer"] != "evoprompt" or options["strategy"] != "factorial":
        del about["accept_when"]
    if options["optimizer"] != "evoprompt":
        del about["strategy"]
    for name, value in BEFORE.items():
        if about.get(name, ...) == value:
            del about[name]
    about |= {role: about[role] or about["model"] for role in ("debugger_model", "optimizer_model")}
    run.journal.begin(
        {"options": about, "data": {role: f"{len(d)} tasks, hash {d.hash}" for role, d in data.items()}}, "command"
    )
    warn_if_unknown(display.say, models, data.values())
    run.tree.summary(simulated=models.simulated, optimizer=options["optimizer"])
    known = run.journal.fact("config")
    plain = settings_without_secrets({k: v for k, v in options.items() if k not in ("config", "fork")})
    config = known or {"command": "train", "simulated": models.simulated, "options": plain, **describe(data)}
    if "options" in config:
        config = config | {"options": config["options"] | {"max_tokens": plain["max_tokens"]}}
    if fresh := config != known:
        run.journal.keep_meta("config", json.dumps(config))
    if fresh or not (run.root / "config.json").exists():
        run.tree.json("config.json", config)
