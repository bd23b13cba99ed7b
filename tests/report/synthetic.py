"""Runs on disk as a search leaves them, of any size and with any outcome, without running one."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evoprompt import Candidate
from evoprompt.candidate import Demo
from evoprompt.runs import Journal

START = "Write a function. It returns its result."
RESULT = "Write a function. It returns its result. Mind empty input."


def candidate(text: str) -> Candidate:
    return Candidate(instructions=(("generator", text),))


def rollout(
    task: str,
    prompt: str,
    passed: bool | None,
    *,
    sample: int = 0,
    code: str = "",
    observed: str = "returned 3",
    stderr: str = "",
) -> dict[str, Any]:
    """A rollout; one without a verdict where `passed` is None."""
    if passed is None:
        return {
            "candidate": prompt,
            "task_id": task,
            "sample": sample,
            "status": "lm_error",
            "score": None,
            "fault": "timeout",
            "error": "timed out",
        }
    case = {
        "suite": "plus",
        "index": 0,
        "status": "failed",
        "call": f"f({task!r})",
        "test": "assert f(1) == 2",
        "observed": observed,
        **({"stderr": stderr} if stderr else {}),
    }
    status = "passed" if passed else "failed"
    suite = {"status": status, "passed": int(passed), "total": 1, "cases": [] if passed else [case]}
    report = {
        "task_id": task,
        "status": status,
        "base": {"status": "passed", "passed": 1, "total": 1, "cases": []},
        "plus": suite,
        "cpu_seconds": 0.01,
        "tier": "landlock+seccomp",
    }
    return {
        "candidate": prompt,
        "task_id": task,
        "sample": sample,
        "status": status,
        "score": float(passed),
        "code": code,
        "report": report,
    }


def write_run(
    root: Path, outcomes: Mapping[str, Sequence[dict[str, Any]]] | Sequence[dict[str, Any]], *,
    tasks: Mapping[str, str], result: str = RESULT, word: str = "confirmed", test: Sequence[str] = (),
    rules: Sequence[dict[str, Any]] = (), meta: Mapping[str, Any] | None = None, decided: bool = True,
    extra: Sequence[str] = (), demos: Sequence[Demo] = (),
) -> Path:  # fmt: skip
    """A run whose search made one batch, and a decision."""
    root.mkdir(parents=True, exist_ok=True)
    rollouts = [r for some in outcomes.values() for r in some] if isinstance(outcomes, Mapping) else list(outcomes)
    start, end = candidate(START), candidate(result)
    end = end.changed({}, {"generator": demos}) if demos else end
    journal = Journal(root / "journal.sqlite")
    facts = {
        "config": {
            "command": "train", "simulated": False, "options": {"model": "openai/x", "seed": 7, "max_cost": 2.0},
            "data": {"test": {"name": "mine", "tasks": len(test), "hash": "abc"}},
            "versions": {"evoprompt": "0"}, "python": "3", "platform": "here",
        },
        "tasks": {t: {"key": t, "prompt": text, "interface": "f(x)"} for t, text in tasks.items()},
        "identity": {"student": {"adapter": "CodeAdapter"}},
        **(meta or {}),
    }  # fmt: skip
    journal.keep_meta("seed", start.model_dump_json())
    if decided:
        facts["ending"] = {"status": "finished", "error": None}
    for name, value in facts.items():
        journal.keep_meta(name, json.dumps(value))
    for one in rollouts:
        journal.keep_rollout(
            one["candidate"], one["task_id"], one["sample"], json.dumps(one), measured=one["score"] is not None
        )
    evaluation = {
        "score": 50.0,
        "low": 20.0,
        "high": 80.0,
        "tasks": 2,
        "measured": 2,
        "unmeasured": 0,
        "statuses": {},
        "faults": {},
        "pass_at_k": {},
    }
    batch = {
        "epoch": 1, "batch": 1, "parent": json.loads(start.model_dump_json()),
        "tasks": [t for t in tasks if t not in test],
        "evaluation": evaluation, "child": json.loads(end.model_dump_json()), "accepted": True,
        "reason": "3 rules (+1 -0)", "tried": [{"task_id": "a", "candidate": start.key, "rules": [0], "score": 1.0}],
        "rules": list(rules), "advised": 3,
    }  # fmt: skip
    journal.keep_step("batch", "1", batch)
    for n, text in enumerate(extra):
        journal.keep_step(
            "batch", f"{n + 2}", {**batch, "batch": n + 2, "child": json.loads(candidate(text).model_dump_json())}
        )
    if decided:
        journal.keep_step("confirm", "c", {
            "candidate": json.loads(end.model_dump_json()), "accepted": word != "start kept",
            "reason": "wins 3, loses 1 of 9 paired tasks", "word": word,
            "wins": 3, "losses": 1, "pairs": 9, "planned": 9, "p_better": 0.97, "gain": 8.0,
            "interval": [1.0, 15.0], "dev_scores": None,
        })  # fmt: skip
        if test:
            for name, one in (("start", start), ("evolved", end)):
                journal.keep_step(
                    "test",
                    name,
                    {
                        "name": name,
                        "epoch": 0,
                        "batch": 0,
                        "candidate": json.loads(one.model_dump_json()),
                        "tasks": list(test),
                        "evaluation": evaluation,
                        "scores": {},
                    },
                )
    journal.keep_answer("k", "generator", "openai/x", "{}", (10, 20, 0.002), 1.5, 1)
    journal.close()
    return root


def large_run(root: Path, tasks: int = 500, prompts: int = 40) -> Path:
    """A run of many tasks, each tried with every prompt."""
    dice = random.Random(0)
    texts = [
        f"Write a function. It returns its result. Rule number {n} says what to do about case {n}."
        for n in range(prompts - 2)
    ]
    keys = [candidate(START).key, *(candidate(t).key for t in texts), candidate(RESULT).key]
    names = [f"Mbpp/{n}" for n in range(tasks)]
    code = "def f(x):\n" + "\n".join(f"    value_{n} = x + {n}" for n in range(14)) + "\n    return value_{}\n"
    rows = [
        rollout(t, key, dice.random() < 0.4 + 0.4 * n / prompts, code=code.format(dice.randrange(14)))
        for t in names for n, key in enumerate(keys)
    ]  # fmt: skip
    problem = "Write a function that takes a list of numbers and gives back the sum of those above its mean, case {}."
    return write_run(
        root, rows, tasks={t: problem.format(n) for n, t in enumerate(names)}, test=names[300:], extra=texts
    )
