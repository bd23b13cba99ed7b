"""The documentation builds strictly, and every block of it runs as printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from evoprompt.cli import app

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = {str(page.relative_to(DOCS)): BLOCK.findall(page.read_text()) for page in sorted(DOCS.rglob("*.md"))}
NEEDS = "# needs "
"""The first line of a block that can't run here begins so, and says what it needs."""

RUN_PAGE = """
import json, subprocess, sys
for number, (language, block) in enumerate(json.load(open(sys.argv[1])), 1):
    print(f"--- block {number}: {block[:60]!r}", file=sys.stderr, flush=True)
    if language == "python":
        exec(compile(block, f"block {number}", "exec"))
    else:
        subprocess.run(["bash", "-eu", "-o", "pipefail", "-c", block], check=True)
"""


def runs_here(language: str, block: str) -> bool:
    return language in ("bash", "python") and not block.startswith(NEEDS)


@pytest.mark.parametrize("page", [name for name, blocks in PAGES.items() if any(runs_here(*b) for b in blocks)])
def test_every_block_runs_in_the_order_of_its_page(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.py").write_text(RUN_PAGE)
    (tmp_path / "page.json").write_text(json.dumps([block for block in PAGES[page] if runs_here(*block)]))
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, words in (("evoprompt", "-m evoprompt"), ("python", "")):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder = tmp_path / "work"
    folder.mkdir()
    words = [sys.executable, str(tmp_path / "page.py"), str(tmp_path / "page.json")]
    run = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]


def test_blocks_that_do_not_run_are_well_formed_and_name_options_that_exist() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    read = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load, "text": str}
    for page, blocks in PAGES.items():
        for language, block in blocks:
            if language == "python":
                compile(block, page, "exec")
            elif language != "bash":
                read[language](block)
            for line in block.replace("\\\n", " ").splitlines() if language == "bash" else ():
                for name, words in re.findall(r"(?:^|&& )evoprompt (\w+)([^&|>]*)", line):
                    known = {option for p in commands[name].params for option in p.opts}
                    assert set(re.findall(r"--\w+", words)) <= known | {"--help"}, f"{page}: {line}"


def test_it_builds_without_a_warning_and_without_a_network(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="needs `pip install '.[docs]'`")
    options = ["-W", "--keep-going", "-q", "-b", "html"]
    words = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(tmp_path / "site")]
    run = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert run.returncode == 0, run.stderr
    page = (tmp_path / "site" / "reference" / "cli.html").read_text()
    for command in typer.main.get_command(app).commands.values():  # type: ignore[attr-defined]
        shown = [p for p in command.params if not getattr(p, "hidden", False)]
        assert all(o in page for p in shown for o in p.opts if o[:2] == "--" and o != "--help")
    for built in (tmp_path / "site").rglob("*.html"):
        assert not re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="https?://', built.read_text()), built
