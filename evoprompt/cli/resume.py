"""`evoprompt resume` and `evoprompt export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from evoprompt.errors import UsageError

RUN_DIR = typer.Argument(help="Directory of the run: ROOT/EXPERIMENT/RUN.")


def resume(
    run_dir: Annotated[Path, RUN_DIR],
    api_base: Annotated[str | None, typer.Option("--api_base", help="Where the model's server is now.")] = None,
    num_threads: Annotated[int | None, typer.Option("--num_threads", min=1, help="Calls and tests under way at once.")] = None,
    max_calls: Annotated[int | None, typer.Option("--max_calls", min=1, help="A new budget of answers, those before counted.")] = None,
    max_rollouts: Annotated[int | None, typer.Option("--max_rollouts", min=1, help="A new budget of solutions, those before counted.")] = None,
    max_total_tokens: Annotated[int | None, typer.Option("--max_total_tokens", min=1, help="A new budget of tokens.")] = None,
    max_cost: Annotated[float | None, typer.Option("--max_cost", min=0.0001, help="A new budget in US dollars.")] = None,
    max_seconds: Annotated[float | None, typer.Option("--max_seconds", min=0.1, help="A new budget of time, that before counted.")] = None,
) -> None:  # fmt: skip
    """Go on with a run that was stopped, killed or paused. Nothing that it got from a model is asked for again."""
    given = {k: v for k, v in locals().items() if k != "run_dir" and v is not None}
    place = run_dir.resolve()
    options = _options(run_dir) | {"run_name": place.name, "experiment_name": place.parent.name}
    options |= {"root_dir": place.parent.parent, **given}
    from evoprompt.cli.train import train

    train(**options)


def export(run_dir: Annotated[Path, RUN_DIR]) -> None:
    """Write all result files of a run anew from its journal."""
    from evoprompt.runs import open_finished

    with open_finished(run_dir) as run:
        from evoprompt.evolve.export import export as write

        write(run)
    typer.echo(f"written: {run_dir}")


def _options(run_dir: Path) -> dict[str, Any]:
    """The options of `train` that the run was begun with."""
    from evoprompt.runs import open_finished

    with open_finished(run_dir) as run:
        config: dict[str, Any] = json.loads(run.journal.meta("config") or "{}")
        begun = run.journal.meta("seed") is not None
    if not config and not begun:
        raise UsageError(f"{str(run_dir)!r} was stopped before it began: give the command that began it again")
    if config.get("command") != "train":
        raise UsageError(f"{str(run_dir)!r} was not begun by `evoprompt train`: give the same command or call again")
    # A run that was begun before there was a choice refines.
    return {"strategy": "refine", **config["options"], "dataset_path": Path(config["options"]["dataset_path"])}
