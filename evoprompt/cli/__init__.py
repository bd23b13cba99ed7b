"""The command line. Commands import what they need when they run, so that `--help` stays fast."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import typer

from evoprompt.cli.datasets import datasets
from evoprompt.cli.demo import demo
from evoprompt.cli.doctor import doctor
from evoprompt.cli.evaluate import evaluate
from evoprompt.cli.local import local
from evoprompt.cli.train import train
from evoprompt.errors import EvoPromptError

INTERRUPTED = 130

# Every option is written with `_`, as the experiments of this field write them, and taken with `-` as well.
SETTINGS = {"token_normalize_func": lambda word: word.replace("-", "_"), "max_content_width": 110}

app = typer.Typer(
    help="Evolve the instruction of a code-generating language model against tests that really run.",
    epilog="Start here: `evoprompt demo` needs no key and no network.",
    context_settings=SETTINGS,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for command in (demo, train, evaluate, datasets, local, doctor):
    app.command(context_settings=SETTINGS)(command)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    if version:
        from evoprompt import __version__

        typer.echo(f"evoprompt {__version__}")
        raise typer.Exit


def main() -> NoReturn:
    """Run the command line; every failure is one line on stderr and an exit code that tells its kind."""
    try:
        app()
    except EvoPromptError as e:
        for line in str(e).splitlines():
            typer.secho(f"evoprompt: {line}", fg="red", err=True)
        _exit(e.exit_code)
    except KeyboardInterrupt:
        typer.secho("evoprompt: interrupted; what was finished is on disk", fg="yellow", err=True)
        _exit(INTERRUPTED)
    except BrokenPipeError:
        _exit(1)
    except Exception as e:
        if os.environ.get("EVOPROMPT_DEBUG"):
            raise
        kind = type(e).__name__
        first = (str(e).splitlines() or [""])[0]
        typer.secho(
            f"evoprompt: unexpected {kind}: {first} (set EVOPROMPT_DEBUG=1 to see where, and please report it)",
            fg="red",
            err=True,
        )
        _exit(1)
    _exit(0)


def _exit(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or 1
    if code:
        # A thread may still wait for a model's answer; nobody needs it any more.
        os._exit(code)
    sys.exit(0)
