"""Text on a terminal: that of models and files is read there, never obeyed, and lines break between words."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import TextIO

import typer

from evoprompt.errors import ClusterError, DamagedError, ModelError, SandboxError, StorageError

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""The text with every character that a terminal would obey as it is written in Python: `\x1b`."""
    return _CONTROL.sub(lambda m: ascii(m[0])[1:-1], text)


def tell(text: str, indent: str = "") -> None:
    """Lines on stdout; broken between words on a terminal, never in a file."""
    typer.echo(fitted(visible(text), indent=indent))


def note(text: str, colour: str = "yellow") -> None:
    """A line of `evoprompt:` on stderr."""
    # By its name: rich puts a stream there that writes above a bar, and typer would write through it.
    typer.secho(fitted(visible(f"evoprompt: {text}"), sys.stderr), file=sys.stderr, fg=colour, err=True)


_then: list[str] = []
"""How to go on after the command that is being left: said after the reason."""


@contextlib.contextmanager
def resumable(how: Callable[[], str]) -> Iterator[None]:
    """Keep `how` to go on for `tell_then` where a command is left before its end."""
    _then.clear()
    try:
        yield
    except (ModelError, SandboxError, ClusterError, StorageError, KeyboardInterrupt) as e:
        if not isinstance(e, DamagedError) and "the same command goes on" not in str(e):
            _then.append(how())
        raise


def tell_then(otherwise: str = "") -> None:
    """Say how to go on, after the reason why a command was left."""
    told = _then.pop() if _then else otherwise
    if told:
        note(f"stopped; {told}")


def fitted(text: str, stream: TextIO | None = None, indent: str = "") -> str:
    """Lines broken between words where the stream (stdout) is a terminal. A path stays whole, as all do in a file."""
    if not (stream or sys.stdout).isatty():
        return text
    return broken(text, shutil.get_terminal_size().columns, indent)


def broken(text: str, width: int, indent: str = "") -> str:
    """Lines broken between words at a width; lines that go on begin with the indent."""
    wrapper = textwrap.TextWrapper(
        max(width, 20), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(wrapper.fill(line) for line in text.split("\n"))
