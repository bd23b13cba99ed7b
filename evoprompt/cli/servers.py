"""The servers that this user has named: a run's own files must not decide alone where a key is sent."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path


def remember(api_base: str) -> None:
    """Note, in the user's cache folder, that the user named a server. Only a hash of its URL is kept."""
    with contextlib.suppress(OSError):
        path = _note(api_base)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def is_known(api_base: str) -> bool:
    """True if the user named this server before, here or in the environment (`OPENAI_API_BASE` and the like)."""
    named = {v.rstrip("/") for k, v in os.environ.items() if k.endswith(("_API_BASE", "_BASE_URL"))}
    return api_base.rstrip("/") in named or _note(api_base).is_file()


def _note(api_base: str) -> Path:
    from evoprompt.harness.judging.expected import cache_folder

    return cache_folder() / "servers" / hashlib.sha256(api_base.rstrip("/").encode()).hexdigest()[:32]
