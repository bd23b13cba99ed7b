"""The tables of a journal, and how those of an older one become these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

VERSION: Final = 5
"""Version of the tables. `MIGRATIONS` upgrade an older journal; a newer one is refused."""

_LABEL = """
ALTER TABLE rollouts ADD COLUMN label TEXT NOT NULL DEFAULT '';
CREATE INDEX rolled ON rollouts (label) WHERE measured;
"""
_ENDED = "ALTER TABLE answers ADD COLUMN ended REAL;"
_WAITED = "ALTER TABLE answers ADD COLUMN waited REAL;"
_SPEND = """CREATE TRIGGER spend AFTER INSERT ON answers BEGIN
    INSERT INTO spent VALUES (
        new.role, 1, 0, ifnull(new.input_tokens, 0), ifnull(new.output_tokens, 0),
        ifnull(new.cost, 0), new.cost IS NULL, new.seconds
    ) ON CONFLICT DO UPDATE SET
        calls = calls + 1, input_tokens = input_tokens + excluded.input_tokens,
        output_tokens = output_tokens + excluded.output_tokens, cost = cost + excluded.cost,
        unpriced = unpriced + excluded.unpriced, seconds = seconds + excluded.seconds;
END;"""
_FAILURES = """CREATE TABLE failures (
    key TEXT NOT NULL, at REAL NOT NULL, role TEXT NOT NULL, model TEXT NOT NULL, kind TEXT NOT NULL,
    said TEXT NOT NULL, seconds REAL NOT NULL, input_tokens INTEGER, output_tokens INTEGER, cost REAL,
    PRIMARY KEY (key, at)
) WITHOUT ROWID;"""
_FAIL = """CREATE TRIGGER fail AFTER INSERT ON failures BEGIN
    INSERT INTO spent VALUES (
        new.role, 0, 1, ifnull(new.input_tokens, 0), ifnull(new.output_tokens, 0), ifnull(new.cost, 0), 0, 0
    ) ON CONFLICT DO UPDATE SET
        retries = retries + 1, input_tokens = input_tokens + excluded.input_tokens,
        output_tokens = output_tokens + excluded.output_tokens, cost = cost + excluded.cost;
END;"""
_PAY = """CREATE TRIGGER pay AFTER UPDATE OF input_tokens, output_tokens, cost ON failures BEGIN
    UPDATE spent SET
        input_tokens = input_tokens + ifnull(new.input_tokens, 0) - ifnull(old.input_tokens, 0),
        output_tokens = output_tokens + ifnull(new.output_tokens, 0) - ifnull(old.output_tokens, 0),
        cost = cost + ifnull(new.cost, 0) - ifnull(old.cost, 0)
    WHERE role = new.role;
END;"""
"""The price of an empty reply that came in after its time-out was counted."""
TABLES: Final = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE answers (
    key TEXT PRIMARY KEY, role TEXT NOT NULL, model TEXT NOT NULL, response TEXT NOT NULL,
    input_tokens INTEGER, output_tokens INTEGER, cost REAL, seconds REAL NOT NULL, retries INTEGER NOT NULL
);
CREATE TABLE spent (
    role TEXT PRIMARY KEY, calls INTEGER, retries INTEGER, input_tokens INTEGER, output_tokens INTEGER,
    cost REAL, unpriced INTEGER, seconds REAL
) WITHOUT ROWID;
{_SPEND}
CREATE TABLE rollouts (
    candidate TEXT NOT NULL, task TEXT NOT NULL, sample INTEGER NOT NULL, measured INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (candidate, task, sample)
);
{_LABEL}
{_ENDED}
{_WAITED}
CREATE TABLE steps (number INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL,
    UNIQUE (kind, key)
);
{_FAILURES}
{_FAIL}
{_PAY}
"""
MIGRATIONS: Mapping[int, tuple[str, ...]] = {
    1: tuple(_LABEL.strip().splitlines()),
    2: (_ENDED,),
    3: (_WAITED,),
    4: ("DROP TRIGGER IF EXISTS spend", _SPEND, _FAILURES, _FAIL, _PAY),  # what was counted before stays
}
"""SQL from each version to the next. Statements that were carried out before are skipped."""
