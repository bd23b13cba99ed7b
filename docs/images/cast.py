"""Draws `demo.svg`: the terminal at the end of a real `evoprompt demo`.

Usage: `python docs/images/cast.py` in a checkout, where tmux is. It takes about half a minute.
"""

from __future__ import annotations

import io
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.ansi import AnsiDecoder
from rich.console import Console

WIDTH, HEIGHT = 100, 90
SERVER = ["tmux", "-L", "evoprompt-cast"]


def captured(done: str, pause: float) -> list[str]:
    """The lines of the screen, with their colours, as soon as one of them holds a word."""
    for _ in range(int(120 / pause)):
        told = subprocess.run([*SERVER, "capture-pane", "-e", "-p"], capture_output=True, text=True, check=True).stdout
        if done in told:
            return told.rstrip().splitlines()
        time.sleep(pause)
    raise SystemExit(f"the demo did not show {done!r}")


def main() -> None:
    """Run the demo and draw it."""
    with tempfile.TemporaryDirectory() as folder:
        words = shlex.join([sys.executable, "-m", "evoprompt", "demo", "--root_dir", "results"])
        command = f"cd {shlex.quote(folder)} && PYTHONPATH={shlex.quote(str(Path.cwd()))} {words}; echo THE-END; cat"
        subprocess.run([*SERVER, "new-session", "-d", "-x", str(WIDTH), "-y", str(HEIGHT), command], check=True)
        try:
            lines = captured("THE-END", 0.2)
        finally:
            subprocess.run([*SERVER, "kill-server"], check=False)
    draw([line for line in lines if "THE-END" not in line], Path(__file__).with_name("demo.svg"))


def draw(lines: list[str], path: Path) -> None:
    """Write lines with terminal colours as an SVG that loads nothing from elsewhere."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    for line in AnsiDecoder().decode("\n".join(["$ evoprompt demo", *lines])):  # a colour may last for several lines
        console.print(line, soft_wrap=True)
    head, _, rest = CONSOLE_SVG_FORMAT.partition("<style>")
    fonts = rest[rest.rindex("@font-face") :].partition("}}")[2]
    text = console.export_svg(title="evoprompt demo", code_format=f"{head}<style>{fonts}", unique_id="demo")
    path.write_text(text.replace("Fira Code", "ui-monospace, monospace"), encoding="utf-8")
    print(f"{path}: {len(text.encode()) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
