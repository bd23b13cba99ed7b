"""`evoprompt resume` and `evoprompt export`."""

from __future__ import annotations

import os
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from evoprompt.cli.train import train
from evoprompt.errors import UsageError
from evoprompt.runs.damage import reading
from evoprompt.wording import LIMITS

RUN_DIR = typer.Argument(help="Directory of the run: ROOT/EXPERIMENT/RUN.")


def resume(
    run_dir: Annotated[Path, RUN_DIR],
    api_base: Annotated[str | None, typer.Option("--api_base", help="Where the model's server is now.")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max_tokens", min=1, help="Longest reply from now on. What was cut off by a smaller one is asked for again.")] = None,
    num_threads: Annotated[int | None, typer.Option("--num_threads", min=1, help="Calls and tests under way at once.")] = None,
    allow_unsafe_exec: Annotated[bool, typer.Option("--allow_unsafe_exec", help="Go on where no sandbox works. The run's own answer to that is not taken.")] = False,
    cluster: Annotated[str | None, typer.Option("--cluster", help="Run solutions on a Dask cluster, as in `train`. The run's own is not taken.")] = None,
    lm_on_workers: Annotated[bool, typer.Option("--lm_on_workers", help="The workers of --cluster ask the models, as in `train`. The run's own answer is not taken.")] = False,
    auto: Annotated[Literal["light", "medium", "heavy"] | None, typer.Option("--auto", help="A new budget by the number of tasks, what was spent before counted.")] = None,
    max_calls: Annotated[int | None, typer.Option("--max_calls", min=1, help="A new budget of answers, those before counted.")] = None,
    max_rollouts: Annotated[int | None, typer.Option("--max_rollouts", min=1, help="A new budget of solutions, those before counted.")] = None,
    max_total_tokens: Annotated[int | None, typer.Option("--max_total_tokens", min=1, help="A new budget of tokens.")] = None,
    max_cost: Annotated[float | None, typer.Option("--max_cost", min=0.0001, help="A new budget in US dollars.")] = None,
    max_seconds: Annotated[float | None, typer.Option("--max_seconds", min=0.1, help="A new budget of time, that before counted.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print summary.json in place of the result for people.")] = False,
) -> None:  # fmt: skip
    """Go on with a run that was stopped, killed or paused. No whole answer of a model is asked for again."""
    given = {k: v for k, v in locals().items() if k != "run_dir" and v is not None}
    place = run_dir.resolve()
    options = _options(run_dir) | {"run_name": place.name, "experiment_name": place.parent.name}
    if api_base is None and options.get("api_base"):
        _require_known(options, run_dir, ["a key of the workers"] if lm_on_workers else [])
    if ":" in options["strategy"]:  # a file must not say by itself which code is run
        raise UsageError(f"{str(run_dir)!r} searches by {options['strategy']!r}: give its `evoprompt train` again")
    if auto is not None or any(name in given for name in LIMITS):  # of another kind than before, maybe
        options |= {"auto": None} | (dict.fromkeys(LIMITS) if auto else {})
    root, here = place.parent.parent, Path.cwd()
    root = root.relative_to(here) if root.is_relative_to(here) else root  # as it was given, most likely
    options |= {"root_dir": root, "cluster": None, "lm_on_workers": False, **given}
    train(**options)


def export(
    run_dir: Annotated[Path, RUN_DIR],
    form: Annotated[Literal["prompt", "messages", "json", "csv", "junit"] | None, typer.Option("--format", help="Print the result in a format of other tools instead: the prompt, the messages as they are sent, all outcomes (JSON, CSV), or one test case a task (JUnit).")] = None,
) -> None:  # fmt: skip
    """Write all result files of a run anew from its journal, or print its result in another format."""
    if form is not None:
        from evoprompt.report.data import read_run
        from evoprompt.report.exports import exported

        typer.echo(exported(read_run(run_dir), form), nl=False)
        return
    from evoprompt.runs import open_finished

    with open_finished(run_dir) as run:
        from evoprompt.evolve.results_tree import export as write
        from evoprompt.report import keep_report

        write(run)
        keep_report(run.root, run.journal)
    typer.echo(f"written: {run_dir}")


def _options(run_dir: Path) -> dict[str, Any]:
    """The options of `train` that the run was begun with."""
    from evoprompt.runs import open_finished

    with open_finished(run_dir) as run:
        config = run.journal.fact("config")
        path = run.journal.path
        begun = run.journal.meta("seed") is not None
    if not config and not begun:
        raise UsageError(f"{str(run_dir)!r} was stopped before it began: give the command that began it again")
    if config.get("command") != "train":
        raise UsageError(f"{str(run_dir)!r} was not begun by `evoprompt train`: give the same command or call again")
    with reading("the options of `train`", path):
        # A run that was begun before there was a choice refines, or wants its result confirmed.
        return _checked({"strategy": "refine", "accept_when": "confirmed", **config["options"]})


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    """The options as `train` takes them.

    Raises:
        ValueError: One is unknown, is missing, or has a value of another kind.
    """
    from pydantic import TypeAdapter

    from evoprompt.evolve.strategies import known

    wanted = {k: v for k, v in signature(train, eval_str=True).parameters.items() if k not in ("config", "fork")}
    if unknown := sorted(set(options) - set(wanted)):
        raise ValueError(f"{unknown[0]!r} is no option")
    found = {}
    for name, about in wanted.items():
        if name in options:
            try:
                found[name] = TypeAdapter(about.annotation.__origin__).validate_python(options[name])
            except ValueError as e:
                raise ValueError(f"{name!r} can't be {str(options[name])[:40]!r}") from e
            if name == "strategy" and not known(found[name]) and ":" not in found[name]:
                raise ValueError(f"{name!r} can't be {found[name][:40]!r}")
        elif about.default is about.empty and name not in ("root_dir", "run_name", "experiment_name"):
            raise ValueError(f"{name!r} is missing")
    return found


def _require_known(options: dict[str, Any], run_dir: Path, keys: list[str]) -> None:
    """A file must not say by itself where a key is sent.

    Raises:
        UsageError: There is a key, one of `keys` or of the environment, and the user never named the server that the run names.
    """
    from evoprompt.cli.servers import is_known
    from evoprompt.lm.resolve import keys_for

    names = [options.get(n) or options["model"] for n in ("model", "debugger_model", "optimizer_model")]
    keys += sorted({key for name in names for key in keys_for(name) if os.environ.get(key)})
    if keys and not is_known(options["api_base"]):
        raise UsageError(
            f"{str(run_dir)!r} names the server {options['api_base']!r}, which would be sent {keys[0]}: if it is yours, "
            f"say so with --api_base {options['api_base']}"
        )
