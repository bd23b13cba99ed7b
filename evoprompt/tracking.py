"""Tells an experiment tracker of a search: parameters, scores at every step, prompts, the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evoprompt.errors import UsageError
from evoprompt.evolve import events
from evoprompt.evolve.records import BatchRecord
from evoprompt.wording import pip_install


class MLflowTracker:
    """A listener that keeps a search in MLflow: one run, with its steps, prompts and report.

    It uses the run that is active, as one of `mlflow.dspy.autolog()`, or begins one of its own and ends it with the
    search. In a `with` block it ends with that: a search that fails ends as failed, and `tested` comes after it.

    Args:
        uri: Where MLflow keeps things, as `sqlite:///mlflow.db`; None for what MLflow is set to.
        experiment: Name of the experiment; None for the one that is set.
        run_name: Name of the run; the one that is active is called so as well.
        run_dir: Directory of the search, whose report and program are kept as artifacts.
        params: More parameters, as the model's name.

    Raises:
        UsageError: MLflow is not installed.
    """

    def __init__(
        self, uri: str | None = None, experiment: str | None = None, run_name: str | None = None,
        run_dir: str | Path | None = None, params: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        try:
            import mlflow
        except ImportError as e:
            raise UsageError(f"tracking with MLflow needs the package 'mlflow': {pip_install('mlflow')}") from e
        self._mlflow = mlflow
        if uri is not None:
            mlflow.set_tracking_uri(uri)
        if experiment is not None:
            mlflow.set_experiment(experiment)
        self._name, self._folder, self._params = run_name, run_dir, dict(params or {})
        self._run: Any = None
        self._id: str | None = None
        self._calls = 0
        self._held = False

    def __enter__(self) -> MLflowTracker:
        self._held = True
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Keep the files of the search, and end a run of our own."""
        self._held = False
        self._files()
        failed = "KILLED" if kind is KeyboardInterrupt else "FAILED"
        self._end("FINISHED" if kind is None else failed)

    def tested(self, scores: Mapping[str, float | None]) -> None:
        """Tell MLflow of the scores on held-out tasks, in percent, by prompt: `start`, `evolved`."""
        self._metrics(None, **{f"test_score_{name}": score for name, score in scores.items()})

    def __call__(self, event: events.Event) -> None:
        """Tell MLflow of one event."""
        mlflow = self._mlflow
        match event:
            case events.Started():
                if mlflow.active_run() is None:
                    self._run = mlflow.start_run(run_name=self._name)
                elif self._name is not None:
                    mlflow.set_tag("mlflow.runName", self._name)
                self._id = mlflow.active_run().info.run_id
                told = {**event.options.as_dict(), "train_tasks": event.train_tasks, "dev_tasks": event.dev_tasks}
                mlflow.log_params({k: str(v)[:500] for k, v in (told | self._params).items() if v is not None})
                mlflow.log_text(_text(event.seed), "prompts/start.txt")
            case events.BatchDone():
                self._batch(event.record)
            case events.DevDone():
                self._metrics(event.record.batch, dev_score=event.record.evaluation.score)
            case events.Confirmed():
                found = event.record
                self._metrics(None, gain=found.gain, p_better=found.p_better)
                mlflow.set_tag("evoprompt.decision", found.word)
                mlflow.set_tag("evoprompt.reason", found.reason)
            case events.Finished() | events.Interrupted():
                self._ended(event)

    def _batch(self, batch: BatchRecord) -> None:
        self._calls += len(batch.tasks) + batch.paired_tasks
        self._metrics(batch.batch, batch_score=batch.evaluation.score, calls=self._calls + batch.advised,
                      parent_score=batch.parent_score, child_score=batch.child_score)  # fmt: skip
        if batch.accepted and batch.child is not None:
            self._mlflow.log_text(_text(batch.child), f"prompts/batch_{batch.batch}.txt")

    def _ended(self, event: events.Finished | events.Interrupted) -> None:
        self._mlflow.log_text(_text(event.results.best), "prompts/result.txt")
        if not self._held:
            self._files()
            self._end("FINISHED" if isinstance(event, events.Finished) else "KILLED")

    def _files(self) -> None:
        if self._folder is None or self._id is None:
            return
        for path in (Path(self._folder) / name for name in ("report.html", "program.json", "summary.json")):
            if path.is_file():
                self._mlflow.log_artifact(str(path), run_id=self._id)

    def _end(self, status: str) -> None:
        if self._run is not None:
            self._mlflow.end_run(status)
        self._run = self._id = None

    def _metrics(self, step: int | None, **values: float | None) -> None:
        found = {k: float(v) for k, v in values.items() if v is not None}
        self._mlflow.log_metrics(found, step=step, run_id=self._id)


def _text(candidate: Any) -> str:
    if len(candidate.instructions) == 1:
        return str(candidate.instruction)
    return "\n\n".join(f"[{name}]\n{text}" for name, text in candidate.instructions)
