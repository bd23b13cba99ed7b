"""The floor: CPU time of loading the samples and calling them on their inputs, bare in forked processes.

    python benchmarks/floor.py tasks.jsonl eval_results.json

No sandbox, no transport, no comparison: only what any judge that runs the code has to pay. Each suite starts from a
fresh module and stops where the judged run stopped; what timed out there is stopped after a second of CPU time.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

ENDLESS, GENEROUS = 1, 600
"""CPU seconds: judges give an input at least the first; what did end in the judged run may take its time."""


def main() -> None:
    data, results = sys.argv[1:]
    os.environ["MBPP_OVERRIDE_PATH"] = data
    from evalplus.data import get_mbpp_plus

    tasks = get_mbpp_plus()
    total = 0.0
    for task_id, rows in json.loads(Path(results).read_text())["eval"].items():
        for row in rows:
            failure = row["first_failure"] or {"suite": "", "index": 0}
            for suite in ("base", "plus"):
                inputs = tasks[task_id][f"{suite}_input"]
                if failure["suite"] == suite:
                    inputs = inputs[: failure["index"] + 1]
                limit = ENDLESS if row["status"] == "timeout" else GENEROUS
                total += _one(row["solution"], tasks[task_id]["entry_point"], inputs, limit)
                if failure["suite"] == suite:
                    break
    print(round(total, 3))


def _one(solution: str, entry_point: str, inputs: list[Any], limit: int) -> float:
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        start = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        with contextlib.suppress(BaseException), contextlib.redirect_stdout(io.StringIO()):
            module: dict[str, Any] = {"__name__": "builtins"}
            exec(compile(solution, "<solution>", "exec", dont_inherit=True), module)
            for arguments in inputs:
                with contextlib.suppress(Exception):
                    module[entry_point](*arguments)
        os.write(write, str(resource.getrusage(resource.RUSAGE_SELF).ru_utime - start).encode())
        os._exit(0)
    os.close(write)
    said = os.read(read, 100)
    os.close(read)
    _, _, usage = os.wait4(pid, 0)
    return float(said) if said else usage.ru_utime


if __name__ == "__main__":
    main()
