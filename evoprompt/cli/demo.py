"""`evoprompt demo`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

BANNER = """evoprompt demo: a SIMULATED model writes the code, explains failures and rewrites the prompt;
the code really runs against the starter set's tests. Numbers say nothing about real models.
"""


ROLLOUTS = 400
"""Solutions that the search may take."""


def demo(
    root_dir: Annotated[Path, typer.Option("--root_dir", help="Where results go.")] = Path("results"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the simulated model and of the batches.")] = 42,
    num_threads: Annotated[int, typer.Option("--num_threads", min=1)] = 8,
) -> None:
    """The whole loop on the starter set with a SIMULATED model: no key, no network, under a minute."""
    typer.echo(BANNER, err=True)  # before the imports, which take a second
    from evoprompt.candidate import Candidate
    from evoprompt.cli.display import Display, prompt_diff, score_line, tell_rules
    from evoprompt.cli.setup import Models, build_program, describe
    from evoprompt.datasets import starter_splits
    from evoprompt.evolve import EvoPrompt, Options
    from evoprompt.evolve.results_tree import evaluate_test
    from evoprompt.lm.budget import Budget
    from evoprompt.metric import CodeMetric
    from evoprompt.report import keep_report
    from evoprompt.runs import Run

    data = starter_splits()
    models = Models(model="simulated", seed=seed)
    program = build_program(models)
    metric = CodeMetric([t for d in data.values() for t in d])
    with (
        metric.harness,
        Run(_free(root_dir / "demo")) as run,
        Display(simulated=True, spent=run.journal.spent) as display,
    ):
        options = Options(batch_size=24, seed=seed, num_threads=num_threads, budget=Budget(rollouts=ROLLOUTS))
        config = {"command": "demo", "simulated": True, "options": options.as_dict(), **describe(data)}
        run.journal.keep_meta("config", json.dumps(config))
        run.tree.json("config.json", config)
        run.tree.summary(simulated=True)
        search = EvoPrompt(metric, options=options, run_dir=run, listener=display, on_interrupt="raise")
        evolved = search.compile(program, trainset=list(data["train"]), valset=list(data["dev"]))
        scores = {}
        for name, module in (("start", program), ("evolved", evolved)):
            counter = display.counter(f"test set, {name} prompt", len(data["test"]))
            test = data["test"]
            scores[name] = evaluate_test(run, name, module, test, metric, num_threads=num_threads, on_done=counter)
        run.tree.summary(test_scores={name: evaluation.score for name, evaluation in scores.items()})
        keep_report(run.root, run.journal)
    display.console.print("\nThe prompt, before and after:\n", style="bold")
    display.console.print(prompt_diff(Candidate.of(program).told, Candidate.compiled(evolved)[0].told), soft_wrap=True)
    tell_rules(evolved.detailed_results, models.mark)
    typer.echo("\nHeld-out test split, pass@1 with its 95 % interval:")
    typer.echo("  " + score_line("start prompt", scores["start"], models.mark))
    typer.echo("  " + score_line("evolved prompt", scores["evolved"], models.mark))
    typer.echo(f"\nReport, one page, offline: {run.root / 'report.html'}")
    typer.echo(
        "\nWith a real model:\n"
        "  evoprompt datasets --write dataset\n"
        "  evoprompt train --experiment_name first --run_name run_1 --root_dir results \\\n"
        "    --dataset_path dataset --train_file small_train.json --dev_file small_dev.json \\\n"
        "    --test_file small_test.json --model openai/gpt-4o-mini"
    )


def _free(folder: Path) -> Path:
    """The first `run_N` that does not exist: a demo never writes over an older one."""
    number = 1
    while (folder / f"run_{number}").exists():
        number += 1
    return folder / f"run_{number}"
