"""`evoprompt doctor`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal

import typer

from evoprompt.cli.shown import fitted, tell
from evoprompt.errors import EvoPromptError, ModelError, SandboxError
from evoprompt.wording import counted, pip_install

MIN_DISK_MB = 200
_LAYERS = {
    "landlock": "Landlock: a solution reads Python and its packages, and writes nothing",
    "bwrap": "bubblewrap: Python and its packages are mounted read-only, in namespaces of their own",
    "seccomp": "seccomp: no process, no program, no network, no signal to others",
    "seatbelt (untested)": "Seatbelt: a solution reads Python and its packages; the host watches its memory",
    "ns": "namespaces: own mounts, processes, network and ipc",
}


@dataclass(frozen=True)
class HealthCheck:
    """One thing that works or not, a line each; `error` decides the exit code."""

    state: Literal["ok", "note", "bad"]
    what: str
    text: str
    fix: str = ""
    error: EvoPromptError | None = None


def doctor(
    model: Annotated[str | None, typer.Option("--model", help="Also make one small call to this model.")] = None,
    api_base: Annotated[str | None, typer.Option("--api_base", help="URL of an OpenAI-compatible server.")] = None,
    root_dir: Annotated[Path, typer.Option("--root_dir", help="Where results would go.")] = Path(),
) -> None:
    """Check what works on this machine, and say how to fix the rest."""
    first: EvoPromptError | None = None
    checks: list[Callable[[], Iterator[HealthCheck]]] = [
        _python, _packages, _sandbox, _cache, lambda: _disk(root_dir), _keys, lambda: _model(model, api_base),
    ]  # fmt: skip
    for check in checks:
        for found in check():
            colour = {"ok": "green", "note": "yellow", "bad": "red"}[found.state]
            told = fitted(f"{found.state:<5}{found.what:<10} {found.text}", indent=" " * 16)
            typer.echo(typer.style(told[:5], fg=colour) + told[5:])
            if found.fix:
                tell(f"{'':<16}fix: {found.fix}", " " * 16)
            first = first or found.error
    if first is not None:
        raise typer.Exit(first.exit_code)


def _python() -> Iterator[HealthCheck]:
    where = f"{sys.version.split()[0]} at {sys.executable}"
    if sys.platform == "win32":
        yield HealthCheck("bad", "python", where, "use WSL2: the sandbox needs Linux or macOS", SandboxError("Windows"))
    else:
        yield HealthCheck("ok", "python", where)


def _packages() -> Iterator[HealthCheck]:
    optional = {"evalplus": "bench", "datasets": "bench", "xllamacpp": "local"}
    for name in ("evoprompt", "dspy-ai", "pydantic", *optional):
        extra, more = optional.get(name), " (optional)" if name in optional else ""
        try:
            yield HealthCheck("ok", "package", f"{name} {version(name)}{more}")
        except PackageNotFoundError:
            if extra is None:
                yield HealthCheck("bad", "package", f"{name} is missing", f"pip install {name}", EvoPromptError(name))
            else:
                yield HealthCheck("note", "package", f"{name} is absent{more}", pip_install(extra))


def _sandbox() -> Iterator[HealthCheck]:
    from evoprompt.harness import Harness

    with Harness() as harness:
        try:
            problem = harness.probe()
        except SandboxError as e:
            problem = str(e)
        if problem is not None:
            fix = "use Linux 5.13+ with Landlock, or install bubblewrap; or in a virtual machine --allow_unsafe_exec"
            yield HealthCheck("bad", "sandbox", problem, fix, SandboxError(problem))
            return
        tier, refused = harness.tier, harness.sandbox.refused
    yield HealthCheck("ok", "sandbox", f"tier {tier}: a solution ran and was judged")
    yield HealthCheck("ok", "sandbox", "self-test: no canary could read, write, bind a socket, fork, exec or signal")
    for word in tier.split("+"):
        yield HealthCheck("ok", "layer", _LAYERS[word])
    if tier.startswith("seatbelt"):
        untried = "Seatbelt was never tried on a Mac by its authors; the self-test is all there is"
        yield HealthCheck("note", "layer", untried)
    if tier == "seccomp":
        yield HealthCheck("note", "layer", "solutions import only what is loaded beforehand", "install bubblewrap")
    for reason in refused:
        yield HealthCheck("note", "sandbox", f"not used: {reason}")


def _cache() -> Iterator[HealthCheck]:
    from evoprompt.harness.judging.expected import cache_folder

    folder = cache_folder() / "expected"
    files = list(folder.glob("*.bin")) if folder.is_dir() else []
    size = sum(f.stat().st_size for f in files) / 1e6
    yield HealthCheck("ok", "cache", f"expected outputs of {counted(len(files), 'suite')}, {size:.1f} MB, in {folder}")


def _disk(root: Path) -> Iterator[HealthCheck]:
    place = root.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free // 2**20
    if not os.access(place, os.W_OK):
        yield HealthCheck(
            "bad", "disk", f"{str(place)!r} is not writable", "choose another --root_dir", EvoPromptError()
        )
    elif free < MIN_DISK_MB:
        yield HealthCheck("bad", "disk", f"{free} MB free at {place}", "free some space", EvoPromptError())
    else:
        yield HealthCheck("ok", "disk", f"{free / 1024:.1f} GB free at {place}")


def _keys() -> Iterator[HealthCheck]:
    names = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY")
    present = [n for n in names if os.environ.get(n)]
    if present:
        yield HealthCheck("ok", "keys", f"set: {', '.join(present)}")
    else:
        fix = "export OPENAI_API_KEY=…, or use --api_base or --model local"
        yield HealthCheck("note", "keys", "no provider key is set", fix)


def _model(name: str | None, api_base: str | None) -> Iterator[HealthCheck]:
    if name is None:
        yield HealthCheck("note", "model", "not tried", "evoprompt doctor --model openai/gpt-4o-mini")
        return
    from evoprompt.lm import LMSettings, explain_lm_error, resolve_lm
    from evoprompt.lm.calls import Calls, CutOffReply
    from evoprompt.lm.interception import attempt, listening
    from evoprompt.lm.resolve import one_line
    from evoprompt.runs import Journal

    try:
        lm = resolve_lm(name, LMSettings(api_base=api_base, num_retries=0))
        with Journal() as journal, listening(Calls(journal)), attempt():  # it refuses what a run would refuse
            lm("Answer with the word ok.")
    except EvoPromptError as e:
        yield HealthCheck("bad", "model", str(e), error=e)
    except CutOffReply:
        told = f"{name} answers, but its reply to `Answer with the word ok.` was cut off by its length"
        yield HealthCheck(
            "note", "model", told, "give `train` and `evaluate` a larger --max_tokens, or look at the server"
        )
    except Exception as e:  # whatever a provider's client raises is the finding
        error = explain_lm_error(e) or ModelError(f"model {name!r} does not answer: {one_line(e)}")
        yield HealthCheck("bad", "model", str(error), _fix(e, name), error)
    else:
        yield HealthCheck("ok", "model", f"{name} answers")


_ADDRESS = "check --api_base: the address of an OpenAI-compatible API mostly ends in /v1"
_FIXES = {
    "rate_limit": "wait a moment, or ask the provider for a higher limit",
    "billing": "add credit, or check the plan, at the provider",
    "unsupported_model": "check the model's name: the provider has none of this one, or not for this key",
    "server": "the server has a problem of its own: try again later, or look at its log",
    "timeout": "the server is slow: try again, or look at its load",
    "transport": "the connection broke: try again, or look at the server's log",
    "empty_reply": "look at the server's log: a model of another kind, or a chat template that does not fit",
}
"""How to mend what a call to a model met, by the code of the error."""


def _fix(error: Exception, model: str) -> str:
    """How to mend what one call to a model met."""
    from evoprompt.lm.resolve import keys_for, nobody_there

    code, status = getattr(error, "code", ""), getattr(error, "status", None)
    if code == "auth":
        return f"export {' or '.join(keys_for(model)) or 'the key of the provider'}=…, a key that is valid"
    if nobody_there(error):
        return "start the server, or check the host and the port of --api_base and the network"
    if code != "unsupported_model" and status in (200, 404, 405):  # somebody else answers there
        return _ADDRESS
    return _FIXES.get(code, "check the name, the key and the network")
