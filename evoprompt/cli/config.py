"""`--config`: options from a file."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from evoprompt.atomic import home
from evoprompt.errors import UsageError


def options_of_file(context: typer.Context, path: Path | None) -> Path | None:
    """Let the options of a JSON or TOML file stand in for those not given; a run's own `config.json` will do.

    Raises:
        UsageError: The file can't be read or holds something else.
    """
    import tomllib

    if path is None:
        return None
    path = home(path)
    named = f"--config {str(path)!r}"
    if path.is_fifo() and not str(path).startswith(("/dev/", "/proc/")):  # a shell's `<(…)` is a pipe as well
        raise UsageError(f"{named} is a pipe and no file")
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError, RecursionError) as e:
        raise UsageError(f"{named} can't be read: {getattr(e, 'strerror', None) or e}") from e
    options = content.get("options", content) if isinstance(content, dict) else None
    if not isinstance(options, dict):
        raise UsageError(f"{named} must hold an object of options, not {type(content).__name__}")
    several = {p.name for p in context.command.params if getattr(p, "multiple", False)}
    for name, value in options.items():
        if isinstance(value, dict) or (isinstance(value, list) and name not in several):
            raise UsageError(f"{named}: {name!r} must be one value, not a {type(value).__name__}")
    values = {k.replace("-", "_"): v for k, v in options.items() if v is not None}
    unknown = sorted(set(values) - {p.name for p in context.command.params})
    if unknown:
        raise UsageError(f"{named} has the unknown option {unknown[0]!r}")
    context.default_map = {**(context.default_map or {}), **values}
    return path
