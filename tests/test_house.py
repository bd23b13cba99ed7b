"""The house rules that a machine can hold."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import evoprompt
import signatures

ROOT = Path(__file__).parent.parent
FLOORS = {
    "signatures": 0,
    "evoprompt.errors": 0,
    "evoprompt.wording": 0,
    "evoprompt.atomic": 1,
    "evoprompt.pool": 1,
    "evoprompt.harness.inside": 0,
    "evoprompt.tasks": 1,
    "evoprompt.candidate": 1,
    "evoprompt.secrets": 1,
    "evoprompt.runs": 1,
    "evoprompt.datasets": 2,
    "evoprompt.harness": 2,
    "evoprompt.lm": 2,
    "evoprompt.local": 3,
    "evoprompt.simulation": 3,
    "evoprompt.metric": 3,
    "evoprompt.program": 3,
    "evoprompt.plain": 3,
    "evoprompt.rollout": 4,
    "evoprompt.judges": 4,
    "evoprompt.evolve": 5,
    "evoprompt.rivals": 5,
    "evoprompt.evaluate": 5,
    "evoprompt.report": 6,
    "evoprompt.tracking": 6,
    "evoprompt.cli": 7,
}
FILES = sorted(p for package in ("evoprompt", "signatures") for p in (ROOT / package).rglob("*.py"))


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _floor(module: str) -> int | None:
    names = [n for n in FLOORS if module == n or module.startswith(n + ".")]
    return FLOORS[max(names, key=len)] if names else None


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # a zygote loads these under another name
                assert _floor(_module(path)) == 0 and node.level == 1, f"{path}: relative import"
                base = ".".join(filter(None, (_module(path).rpartition(".")[0], base)))
            found |= {f"{base}.{a.name}" for a in node.names} | ({base} if node.module else set())
    return {m for m in found if _floor(m) is not None}


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_imports_go_down_only(path: Path) -> None:
    mine = _floor(_module(path))
    if mine is not None:
        assert {m for m in _imports(path) if (_floor(m) or 0) > mine} == set()


def test_rooms_do_not_import_each_other_in_a_circle() -> None:
    def room(module: str) -> str:
        return max((n for n in FLOORS if module == n or module.startswith(n + ".")), key=len)

    edges: dict[str, set[str]] = {}
    for path in FILES:
        if _floor(_module(path)) is not None:
            mine = room(_module(path))
            edges.setdefault(mine, set()).update({room(m) for m in _imports(path)} - {mine})
    while edges:
        free = [r for r, targets in edges.items() if not targets & set(edges)]
        assert free, f"a circle among {sorted(edges)}"
        for r in free:
            del edges[r]


def test_exported_names() -> None:
    assert all(getattr(evoprompt, name) is not None for name in evoprompt.__all__)
    assert set(evoprompt.__all__) == {
        "Budget", "Candidate", "CodeMetric", "DataError", "Dataset", "EvoPrompt", "EvoPromptError", "Estimate",
        "Evaluation", "Harness", "Limits", "ModelError", "Options", "Program", "Report", "Results", "SandboxError",
        "Task", "UsageError", "load_dataset", "resolve_lm",
    }  # fmt: skip
    assert {"GenerateCode", "DebugCode", "OptimizePrompt", "Diagnosis"} <= set(signatures.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = evoprompt.nothing


def test_help_imports_neither_dspy_nor_numpy() -> None:
    code = (
        "import sys\nsys.argv = ['evoprompt', 'train', '--help']\nfrom evoprompt.cli import app\n"
        "try:\n    app()\nexcept SystemExit as e:\n    assert not e.code\n"
        "print(sorted({'dspy', 'numpy', 'litellm', 'datasets'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
    assert "--experiment_name" in out


def test_importing_signatures_does_not_import_evoprompt() -> None:
    code = "import sys, signatures; print([m for m in sys.modules if m.startswith('evoprompt')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert out.strip() == "[]"
