"""Three judges for one solution: EvalPlus' checker, HumanEval's `exec` in a forked process, and ours.

Each takes a solution and the name of its function, and says whether it passed.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from evoprompt.harness import Harness, Limits

SECONDS = 1.0
"""What one input may take."""
INPUTS: dict[str, list[list[Any]]] = {
    "f": [[2], [3]],
    "square_nums": [[[1, 2, 3]], [[10, 20]]],
    "surface_Area": [[3, 4], [4, 5]],
}
EXPECTED: dict[str, list[Any]] = {"f": [4, 9], "square_nums": [[1, 4, 9], [100, 400]], "surface_Area": [33, 56]}
CANONICAL = {
    "f": "def f(x):\n    return x * x\n",
    "square_nums": "def square_nums(nums):\n    return [n * n for n in nums]\n",
    "surface_Area": "def surface_Area(b, s):\n    return 2 * b * s + b * b\n",
}


def evalplus() -> Callable[[str, str], bool]:
    """EvalPlus' own `check_correctness`, as its evaluation calls it."""
    from evalplus.evaluate import check_correctness

    def judge(source: str, name: str) -> bool:
        inputs, expected = INPUTS[name], {"base": EXPECTED[name], "base_time": [0.0] * len(INPUTS[name])}
        problem = {"task_id": "Mbpp/8", "prompt": "", "entry_point": name, "canonical_solution": CANONICAL[name]}
        problem |= {"base_input": inputs, "atol": 0}
        kept = Path.home() / ".cache" / "evalplus" / "0.pkl"  # where its evaluation keeps the expected outputs
        kept.parent.mkdir(parents=True)
        kept.write_bytes(pickle.dumps({"Mbpp/8": {"base": EXPECTED[name], "plus": EXPECTED[name]}}))
        options = {"base_only": True, "fast_check": True, "min_time_limit": SECONDS}
        return bool(check_correctness("mbpp", 0, problem, source, expected, **options)["base"][0] == "pass")

    return judge


def ours() -> Callable[[str, str], bool]:
    """This project's harness."""

    def judge(source: str, name: str) -> bool:
        limits = Limits(cpu_seconds=SECONDS, wall_seconds=2 * SECONDS, memory_mb=512)
        with Harness(limits=limits, processes=1) as harness:
            return harness.check_asserts(source, name, tests(name)).status == "passed"

    return judge


def human_eval() -> Callable[[str, str], bool]:
    """The style of HumanEval's `check_correctness`: solution and tests in one `exec`, in a guarded process."""

    def judge(source: str, name: str) -> bool:
        program = f"{source}\ndef check(candidate):\n" + "".join(f"    {t}\n" for t in tests("candidate", name))
        manager = multiprocessing.Manager()
        result = manager.list()
        worker = multiprocessing.Process(target=_execute, args=(f"{program}check({name})", result))
        worker.start()
        worker.join(timeout=2 * SECONDS + 1)
        if worker.is_alive():
            worker.kill()
        return bool(result) and result[0] == "passed"

    return judge


JUDGES: dict[str, Callable[[], Callable[[str, str], bool]]]
JUDGES = {"EvalPlus 0.3.1": evalplus, "HumanEval's exec": human_eval, "evoprompt": ours}


def tests(called: str, name: str = "") -> list[str]:
    """Asserts that call this function, with the data of that."""
    name = name or called
    return [
        f"assert {called}({', '.join(map(repr, arguments))}) == {expected!r}"
        for arguments, expected in zip(INPUTS[name], EXPECTED[name], strict=True)
    ]


def _execute(program: str, result: Any) -> None:
    folder = tempfile.mkdtemp()
    rmtree, chdir = shutil.rmtree, os.chdir
    os.chdir(folder)
    _guard()
    try:
        silent = io.StringIO()
        with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent), _time_limit(2 * SECONDS):
            exec(program, {})
        result.append("passed")
    except TimeoutError:
        result.append("timed out")
    except BaseException as e:
        result.append(f"failed: {e}")
    shutil.rmtree, os.chdir = rmtree, chdir
    os.chdir("/")
    shutil.rmtree(folder, ignore_errors=True)


def _guard() -> None:
    """Takes away what HumanEval's `reliability_guard` does."""
    import faulthandler

    faulthandler.disable()
    os.environ["OMP_NUM_THREADS"] = "1"
    gone = (
        "kill system putenv remove removedirs rmdir fchdir setuid fork forkpty killpg rename renames truncate replace"
    )
    gone += " unlink fchmod fchown chmod chown chroot lchflags lchmod lchown getcwd chdir"
    for name in gone.split():
        setattr(os, name, None)
    for module, names in ((shutil, "rmtree move chown"), (subprocess, "Popen"), (builtins, "exit quit open help")):
        for name in names.split():
            setattr(module, name, None)
    sys.modules.update(dict.fromkeys(("ipdb", "joblib", "resource", "psutil", "tkinter")))  # type: ignore[arg-type]


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise TimeoutError

    signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
