"""What tests of calls share."""

from __future__ import annotations

import pytest

from evoprompt.lm.concurrency import ConcurrencyLimiter


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause between two tries."""
    monkeypatch.setattr(ConcurrencyLimiter, "sleep", lambda self, *_: None)
