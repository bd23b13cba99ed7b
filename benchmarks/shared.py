"""Real data that is not part of this repository: a folder that `EVOPROMPT_SHARED` names may have it."""

from __future__ import annotations

import os
from pathlib import Path


def use_mbppplus() -> bool:
    """Let `load_dataset("mbppplus")` read the shared file, unless another one is named; whether there is one."""
    shared = os.environ.get("EVOPROMPT_SHARED")
    if shared:
        os.environ.setdefault("MBPP_OVERRIDE_PATH", str(Path(shared) / "data" / "MbppPlus.jsonl.gz"))
    return bool(shared)
