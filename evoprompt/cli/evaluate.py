"""`evoprompt evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evoprompt.errors import DataError, UsageError

if TYPE_CHECKING:
    from evoprompt.datasets import Dataset
    from evoprompt.evaluate import Evaluation
    from evoprompt.metric import CodeMetric


def evaluate(
    dataset: Annotated[str, typer.Option("--dataset", help="A known data set (`evoprompt datasets`) or a JSON/JSONL file.")],
    samples: Annotated[Path | None, typer.Option("--samples", help="JSONL of `{task_id, solution}`: judge these, no model needed.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Model that writes the solutions.")] = None,
    program: Annotated[Path | None, typer.Option("--program", help="`program.json` of a run: its prompt and adapter.")] = None,
    n_samples: Annotated[int, typer.Option("--n_samples", min=1, help="Solutions per task.")] = 1,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0)] = 0.0,
    max_tokens: Annotated[int | None, typer.Option("--max_tokens", min=1)] = None,
    api_base: Annotated[str | None, typer.Option("--api_base", help="URL of an OpenAI-compatible server.")] = None,
    base_only: Annotated[bool, typer.Option("--base_only", help="Run the base tests alone.")] = False,
    max_repairs: Annotated[int, typer.Option("--max_repairs", min=0, help="Repairs by the debugger against the examples in the prompt.")] = 0,
    num_threads: Annotated[int, typer.Option("--num_threads", min=1)] = 8,
    seed: Annotated[int, typer.Option("--seed")] = 42,
    output: Annotated[Path | None, typer.Option("--output", help="Write every result to this JSON file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:  # fmt: skip
    """Score a model, an evolved program, or solutions that you have already."""
    from evoprompt.cli.display import Display
    from evoprompt.cli.setup import Models, build_program
    from evoprompt.datasets import load_dataset
    from evoprompt.evaluate import evaluate as run
    from evoprompt.metric import CodeMetric

    if (samples is None) == (model is None):
        raise UsageError("give either --samples FILE (judge solutions) or --model NAME (write and judge them)")
    if samples is not None and program is not None:
        raise UsageError("--program needs --model: solutions in --samples are written already")
    data = load_dataset(dataset)
    models = Models(model or "", None, None, temperature, max_tokens, api_base, 5, seed)
    metric = CodeMetric(data, plus=not base_only)
    with Display(simulated=models.simulated) as display, metric.harness:
        if samples is not None:
            found = _judge(data, samples, metric, num_threads)
        else:
            student = build_program(models, max_repairs=max_repairs)
            if program is not None:
                student.load(program)
            counter = display.counter(f"{dataset}, {model}", len(data) * n_samples)
            found = run(student, data, metric, samples=n_samples, num_threads=num_threads, on_done=counter)
    if output is not None:
        from evoprompt.runs import SCHEMA_VERSION, write_json

        write_json(
            output,
            {
                "schema_version": SCHEMA_VERSION,
                "dataset": dataset,
                "data_hash": data.hash,
                **found.model_dump(),
            },
        )
    _show(found, f"{models.mark}pass@1 on {dataset}", as_json)


def _show(found: Evaluation, title: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found.summary()))
        return
    typer.echo(f"{title}: {found}")
    typer.echo("  ".join(f"{status} {n}" for status, n in found.statuses.items()))


def _judge(data: Dataset, path: Path, metric: CodeMetric, num_threads: int) -> Evaluation:
    from concurrent.futures import ThreadPoolExecutor

    from evoprompt.errors import SandboxError
    from evoprompt.evaluate import summarize
    from evoprompt.rollout import Rollout, require_measured

    def judge(numbered: tuple[str, int, str]) -> Rollout:
        task_id, sample, code = numbered
        identity: dict[str, Any] = {
            "candidate": "samples",
            "task_id": task_id,
            "sample": sample,
            "code": code,
        }
        try:
            report = metric.judge(data.by_id(task_id), code)
        except SandboxError as e:
            return Rollout(**identity, status="sandbox_error", error=str(e))
        return Rollout(**identity, status=report.status, score=metric.score(report), report=report)

    with ThreadPoolExecutor(num_threads) as pool:
        rollouts = list(pool.map(judge, _read_samples(data, path)))
    require_measured(rollouts, 0.5)
    return summarize(rollouts)


def _read_samples(data: Dataset, path: Path) -> list[tuple[str, int, str]]:
    known = {t.task_id for t in data}
    seen: dict[str, int] = {}
    found: list[tuple[str, int, str]] = []
    problems: list[str] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"--samples {str(path)!r} can't be read: {getattr(e, 'strerror', None) or e}") from e
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            problems.append(f"{where}: not JSON")
            continue
        if not isinstance(row, dict) or not isinstance(row.get("solution"), str):
            problems.append(f"{where}: must be an object with 'task_id' and the text 'solution'")
        elif str(row.get("task_id")) not in known:
            problems.append(f"{where}: the data set has no task {row.get('task_id')!r}")
        else:
            task_id = str(row["task_id"])
            found.append((task_id, seen.get(task_id, 0), row["solution"]))
            seen[task_id] = seen.get(task_id, 0) + 1
    if not found and not problems:
        problems.append(f"{path}: holds no sample")
    if problems:
        raise DataError(*problems[:20])
    return found
