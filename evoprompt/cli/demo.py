"""`evoprompt demo`."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evoprompt.cli.shown import fitted, tell
from evoprompt.wording import counted

if TYPE_CHECKING:
    from evoprompt.cli.display import Display

BANNER = """evoprompt demo: a SIMULATED model writes the code, explains failures and rewrites the prompt;
the code really runs against the starter set's tests. Numbers say nothing about real models.

Part 1 of 2: a search, which ends itself with `kill -9` after {killed} solutions."""
SECOND = "\nPart 2 of 2: the process is dead. The same search again, which goes on from what is on disk."
NEXT = "evoprompt report {root} --open; with your tasks and a real model: evoprompt train --help"

ROLLOUTS = 400
"""Solutions that the search may take."""
KILLED = 150
"""Solutions after which it is killed: in the middle of a batch, with calls under way."""
PATIENCE = 10.0
"""Seconds that the first part gets to end itself after Ctrl-C."""


def demo(
    root_dir: Annotated[Path, typer.Option("--root_dir", help="Where results go.")] = Path("results"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the simulated model and of the batches.")] = 42,
    num_threads: Annotated[int, typer.Option("--num_threads", min=1)] = 8,
    until_killed: Annotated[Path | None, typer.Option("--until_killed", hidden=True)] = None,
) -> None:
    """The whole loop on the starter set with a SIMULATED model, killed in the middle and resumed: no key, no network."""
    if until_killed is not None:  # the process of the first part
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            _run(until_killed, seed, num_threads, KILLED)
        except KeyboardInterrupt:  # the other process tells
            os._exit(130)
        return
    _say(BANNER.format(killed=KILLED))
    root = _free(root_dir / "demo")
    _first_part(root, seed, num_threads)
    _say(SECOND)
    _run(root, seed, num_threads)


def _first_part(root: Path, seed: int, num_threads: int) -> None:
    """Run the search in a process of its own until it kills itself, or take that with us when we are stopped."""
    command = [sys.executable, *(["-P"] if sys.flags.safe_path else []), "-m", "evoprompt", "demo"]
    options = {"--until_killed": root, "--seed": seed, "--num_threads": num_threads}
    words = [*command, *(str(word) for pair in options.items() for word in pair)]
    part = subprocess.Popen(words, preexec_fn=_deaf)
    try:
        code = part.wait()
    except BaseException:
        try:
            part.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                part.wait(PATIENCE)
        finally:
            part.kill()  # no effect on one that has ended
        raise
    if code != -signal.SIGKILL:  # it has told why
        raise typer.Exit(code or 1)


def _deaf() -> None:
    """Leave Ctrl-C, which a terminal sends to both processes, to this one, and what this one sends until it can be told."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _killing(display: Display, after: int | None) -> Callable[[Any], None]:
    """Show a search, and end this process, as the kernel or a power cut would, after so many solutions."""
    done = 0

    def listen(event: Any) -> None:
        nonlocal done
        display(event)
        done += type(event).__name__ == "RolloutDone"
        if done == after:
            display.__exit__(None, None, None)  # nobody would take its bar off the screen
            os.kill(os.getpid(), signal.SIGKILL)

    return listen


def _run(root: Path, seed: int, num_threads: int, killed: int | None = None) -> None:
    """Run the search, or go on with it; then the evaluation on test tasks, and what came of it all."""
    from evoprompt.cli.display import Display, score_line, spent_line, tell_diff, tell_end, tell_rules

    with Display(simulated=True) as display:
        display.begin("starting")  # the imports take a second
        from evoprompt.candidate import Candidate
        from evoprompt.cli.setup import Models, build_program, describe
        from evoprompt.cli.train import tested
        from evoprompt.datasets import starter_splits
        from evoprompt.evolve import EvoPrompt, Options
        from evoprompt.lm.budget import Budget
        from evoprompt.metric import CodeMetric
        from evoprompt.runs import Run

        data = starter_splits()
        program = build_program(Models(model="simulated", seed=seed))
        metric = CodeMetric([t for d in data.values() for t in d])
        with metric.harness, Run(root) as run:
            kept = run.journal.counts()["answers"]
            display.follow(run.journal.spent, simulated=True)
            display.vet(metric, metric.tasks.values(), num_threads)
            options = Options(batch_size=24, seed=seed, num_threads=num_threads, budget=Budget(rollouts=ROLLOUTS))
            config = {"command": "demo", "simulated": True, "options": options.as_dict(), **describe(data)}
            run.journal.keep_meta("config", json.dumps(config))
            run.tree.json("config.json", config)
            run.tree.summary(simulated=True)
            told = _killing(display, killed)
            search = EvoPrompt(metric, options=options, run_dir=run, listener=told, on_interrupt="raise")
            evolved = search.compile(program, trainset=list(data["train"]), valset=list(data["dev"]))
            scores = tested(run, display, program, evolved, data["test"], metric, num_threads)
            new, spent = run.journal.counts()["answers"] - kept, run.journal.spent()
    tell("")
    tell_diff(Candidate.of(program).told, Candidate.compiled(evolved)[0].told)
    tell_rules(evolved.detailed_results, display.mark)
    tell("\nHeld-out test split, pass@1 with its 95 % interval:")
    for name, evaluation in scores.items():
        tell("  " + score_line(f"{name} prompt", evaluation, display.mark))
    asked = program.generator.lm.engine.asked  # of this process
    tell(f"Kill and resume: {counted(kept, 'call')} kept before the kill, {new} after it, repeated: {asked - new}\n")
    gain = " → ".join(f"{evaluation.score or 0:.1f} %" for evaluation in scores.values())
    tell_end(
        display.mark, result=f"{gain} of the held-out tasks, start → evolved prompt",
        cost=spent_line(spent), report=run.root / "report.html", then=NEXT.format(root=shlex.quote(str(run.root))),
    )  # fmt: skip


def _say(text: str) -> None:
    typer.echo(fitted(text, sys.stderr), err=True)


def _free(folder: Path) -> Path:
    """The first `run_N` that does not exist: a demo never writes over an older one."""
    number = 1
    while (folder / f"run_{number}").exists():
        number += 1
    return folder / f"run_{number}"
