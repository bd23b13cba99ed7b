"""The command line. Commands import what they need when they run, so that `--help` stays fast."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import typer
import typer.core
from typer.exceptions import TyperException

from evoprompt.atomic import home
from evoprompt.cli.datasets import datasets
from evoprompt.cli.demo import demo
from evoprompt.cli.doctor import doctor
from evoprompt.cli.evaluate import evaluate
from evoprompt.cli.local import local
from evoprompt.cli.report import compare, report, runs
from evoprompt.cli.resume import export, resume
from evoprompt.cli.shown import note, tell_then
from evoprompt.cli.train import train
from evoprompt.errors import EvoPromptError, UsageError

INTERRUPTED = 130
HEARD_AGAIN = 0.05
"""Seconds until a Ctrl-C that Python dropped is sent again."""

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


EITHER = {
    "train": ({"dataset", "dataset_path"}, "--dataset with --split (or --dataset_path with --train_file)"),
    "evaluate": ({"samples", "model"}, "--model NAME (or --samples FILE)"),
}
"""Options of which a command needs one, and how that is said."""


class Command(typer.core.TyperCommand):
    """A command that takes `~` in any path, also in one that a shell or a config file left as it is.

    It tells of all options that are missing at once.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words after the command."""
        given = set(self.make_parser(ctx).parse_args(args=list(args))[0])
        try:
            return super().parse_args(ctx, args)
        except TyperException:
            given |= set(ctx.default_map or {})  # of --config
            missing = [p.opts[0] for p in self.get_params(ctx) if p.required and p.name not in given]
            names, words = EITHER.get(self.name or "", (given, ""))
            if missing and not given & names:
                missing.append(words)
            if len(missing) < 2:
                raise
            raise UsageError(f"missing: {', '.join(missing)} (`evoprompt {self.name} --help` tells of each)") from None

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        for name, value in ctx.params.items():
            if isinstance(value, Path) or (isinstance(value, str) and name.endswith("_file")):
                ctx.params[name] = type(value)(home(value))
        return super().invoke(ctx)


COMMANDS = (demo, train, resume, report, compare, runs, evaluate, export, datasets, local, doctor)
for command in COMMANDS:
    app.command(cls=Command, context_settings=SETTINGS)(command)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    if version:
        from evoprompt import __version__

        typer.echo(f"evoprompt {__version__}")
        raise typer.Exit


def main() -> NoReturn:
    """The console script: run the command line and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows ASCII alone is no reason to stop
    _hear_stops()
    code = None
    with contextlib.suppress(KeyboardInterrupt):  # another one, before `run` could tell of the first
        code = run()
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # all is said and kept
    if code is None:
        code = _interrupted(None)
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:  # closed by the shell: `>&-`
                stream.flush()
        except OSError:
            code = code or 1
    if code:
        # A thread may still wait for a model's answer; nobody needs it any more.
        os._exit(code)
    sys.exit(0)


def _hear_stops() -> None:
    """Stop a run in order on Ctrl-C, on what a scheduler sends, and where the terminal is closed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for kind in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(kind) == signal.SIG_DFL:  # else `nohup`, or a shell's `&`, wants us to live
            signal.signal(kind, signal.default_int_handler)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    sys.unraisablehook = _unraisable


def _unraisable(raised: sys.UnraisableHookArgs) -> None:
    """Stop a moment later where Ctrl-C came amid a destructor or the callback of a weak reference: Python drops it."""
    if issubclass(raised.exc_type, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, HEARD_AGAIN)
    else:
        sys.__unraisablehook__(raised)


AGAIN = dict.fromkeys(("train", "resume", "evaluate"), "the same command goes on")
AGAIN["demo"] = "the same command begins anew"
"""How to go on after Ctrl-C where the command itself has nothing better to say."""


def _interrupted(arguments: Sequence[str] | None) -> int:
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)  # another one would take the line away
    note("interrupted; what was finished is on disk", "red")
    tell_then(AGAIN.get("".join(_command(arguments)).strip(), ""))
    signal.signal(signal.SIGINT, heard)
    return INTERRUPTED


def _stopped(error: BaseException | None) -> bool:
    """Tell whether an error comes of a Ctrl-C: where it arrives amid a lock or a class, Python raises another one."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; every failure is a line on stderr and an exit code that tells its kind.

    Args:
        arguments: The words after `evoprompt`; None means `sys.argv`.

    Returns:
        0 done, 1 unexpected, 2 usage or bad data, 3 model, 4 sandbox, 5 results can't be written, 130 interrupted.
    """
    try:
        code = app(args=None if arguments is None else list(arguments), prog_name="evoprompt", standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt  # typer has made a code of it
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        return _interrupted(arguments)
    except TyperException as e:
        message = " ".join((_bad_value(e) or e.format_message()).split())
        if message:  # empty when help was shown instead
            note(f"{message} (`evoprompt {''.join(_command(arguments))}--help` lists what there is)", "red")
        return e.exit_code
    except EvoPromptError as e:
        for line in str(e).splitlines():
            note(line, "red")
        tell_then()
        return e.exit_code
    except BrokenPipeError:
        return 1
    except Exception as e:
        if _stopped(e):
            return _interrupted(arguments)
        if os.environ.get("EVOPROMPT_DEBUG"):
            raise
        first = (str(e).splitlines() or [""])[0]
        note(f"unexpected {type(e).__name__}: {first} (EVOPROMPT_DEBUG=1 shows where; please report it)", "red")
        return 1


def _bad_value(e: TyperException) -> str | None:
    """Return the option, what it wants and what was given, where a value does not fit. Pydantic tells programmers."""
    from pydantic import ValidationError

    param: Any = getattr(e, "param", None)
    if param is None or not isinstance(e.__cause__, ValidationError):
        return None
    fault = e.__cause__.errors()[0]
    limits, choices = fault.get("ctx", {}), fault["msg"].rstrip(".").partition(" is not one of ")[2]
    wanted = {
        "int": "a whole number", "float": "a number", "bool": "true or false", "path": "a path", "string": "a text",
        "value": f"one of {choices}",
        "greater": f"{limits.get('ge', 0):g} or more", "less": f"{limits.get('le', 0):g} or less",
    }.get(fault["type"].partition("_")[0])  # fmt: skip
    if wanted is None or (fault["type"] == "value_error" and not choices):
        return None
    return f"{param.opts[0]} must be {wanted}, not {fault['input']!r}"


def _command(arguments: Sequence[str] | None) -> list[str]:
    words = [w for w in (sys.argv[1:] if arguments is None else arguments)[:1] if not w.startswith("-")]
    return [f"{w} " for w in words if w in {c.__name__ for c in COMMANDS}]
