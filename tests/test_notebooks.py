"""The notebooks run from top to bottom on the simulated model, and are committed without output."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.notebooks

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SIMULATED = 'resolve_lm("simulated"'


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    if (mbpp := Path(os.environ.get("EVOPROMPT_SHARED", "")) / "data" / "MbppPlus.jsonl.gz").is_file():
        monkeypatch.setenv("MBPP_OVERRIDE_PATH", str(mbpp))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(o.get("text", "") for c in notebook.cells if c.cell_type == "code" for o in c.outputs)
    assert "SIMULATED" in printed


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_stored_without_output_and_takes_a_real_model_by_one_line(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    source = "\n".join(cell.source for cell in cells)
    assert source.count(SIMULATED) == 1 and "# a real one:" in source
    told = [line for line in source.splitlines() if "SIMULATED" in line]
    assert told and all('"SIMULATED" if lm.model.startswith("simulated") else' in line for line in told)
