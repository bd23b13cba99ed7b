"""When calls were under way, and what had been spent by the end of each batch."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoprompt.report.timeline import Call, Timeline, read_timeline
from evoprompt.runs import Journal


def events(root: Path, *told: tuple[float, str, int]) -> None:
    (root / "logs").mkdir()
    lines = [
        json.dumps({"time": datetime.fromtimestamp(at, UTC).isoformat(), "event": event, "batch": batch})
        for at, event, batch in told
    ]
    (root / "logs" / "events.jsonl").write_text("\n".join([*lines, "half a li"]), encoding="utf-8")


COLUMNS = [(0, name) for name in ("role", "ended", "seconds", "input_tokens", "output_tokens", "cost", "waited")]


def answers(*rows: tuple[Any, ...]) -> Callable[[str], Any]:
    """A journal with these answers, as `read_timeline` asks for them."""
    return lambda query: COLUMNS if query.startswith("PRAGMA") else rows


def test_the_time_between_two_processes_does_not_count(tmp_path: Path) -> None:
    events(tmp_path, (1000, "started", 0), (1010, "batch", 1), (5000, "started", 0), (5020, "batch", 2))
    rows = [
        ("generator", 5018.0, 8.0, 10, 5, 0.5, 6.0), ("generator", 1004.0, 3.0, 100, None, None, 0.0),
        ("debugger", None, 1.0, 7, 7, 0.1, None), ("generator", 400.0, 1.0, 1, 1, 0.1, 0.0),
    ]  # fmt: skip
    found = read_timeline(tmp_path, answers(*rows))
    assert found.ends == {(1, 1): 10.0, (1, 2): 30.0} and found.seconds == 30.0
    assert found.calls == [Call("generator", 1, 4, 100, 0.0, 1), Call("generator", 20, 28, 15, 0.5, 14)]
    assert found.spent((1, 1)) == {"calls": 1, "tokens": 100, "dollars": 0.0, "seconds": 10.0}
    assert found.spent((1, 2)) == {"calls": 2, "tokens": 115, "dollars": 0.5, "seconds": 30.0}
    figure, idle, waited = found.under_way()
    assert (idle, waited) == pytest.approx((19, 6)) and "generator" in figure
    assert [round(s["seconds"]) for s in found.spans("since then")] == [10, 20]


def test_calls_after_the_last_event_count(tmp_path: Path) -> None:
    events(tmp_path, (1000, "started", 0), (1010, "batch", 1))
    found = read_timeline(tmp_path, answers(("test generator", 1025.0, 5.0, 1, 1, 0.0, 0.0)))
    assert found.seconds == 25.0 and found.calls == [Call("test generator", 20, 25, 2, 0.0, 20)]


def test_a_wait_counts_where_no_other_call_is_under_way_and_only_where_it_is_known(tmp_path: Path) -> None:
    events(tmp_path, (1000, "started", 0), (1020, "batch", 1))
    one, other = ("generator", 1004.0, 4.0, 1, 1, 0.0, 0.0), ("generator", 1012.0, 2.0, 1, 1, 0.0, 9.0)
    assert read_timeline(tmp_path, answers(one, other)).under_way()[1:] == (14.0, 6.0)
    older = (*one[:-1], None)
    assert read_timeline(tmp_path, answers(older, other)).under_way()[1:] == (14.0, None)


def test_what_workers_did_is_summed_over_the_processes_of_a_run(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "events.jsonl"
    log.parent.mkdir()
    sums = [(1.0, {"lab1": 5}, 10.0), (1.0, {"lab1": 8, "lab2": 2}, 20.0), (2.0, {"lab2": 10}, 20.0)]
    facts = [
        {"began": began, "nodes": nodes, "threads": 4, "seconds": seconds, "busy": seconds, "available": 4 * seconds}
        for began, nodes, seconds in sums
    ]
    log.write_text("\n".join(json.dumps({"time": "2026-01-01T00:00:00", "event": "workers", **f}) for f in facts))
    told = read_timeline(tmp_path, answers()).workers
    assert told == "20 solutions judged by 2 nodes (lab2 12, lab1 8), 0.5 a second, 25 % of 4 threads busy"


def test_a_journal_that_does_not_tell_has_no_figure(tmp_path: Path) -> None:
    found = read_timeline(tmp_path, answers())
    assert found == Timeline({}, 0.0, []) and found.under_way() == ("", 0.0, None) and found.spent((1, 1)) == {}


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.floats(0, 50), st.floats(0, 50)), min_size=1, max_size=9))
def test_the_figure_is_xml_and_no_time_is_idle_twice(calls: list[tuple[str, float, float]]) -> None:
    made = [Call(role, min(a, b), max(a, b), 1, 0.0) for role, a, b in calls]
    figure, idle, _ = Timeline({(1, 1): 20.0}, 50.0, sorted(made, key=lambda call: call.end)).under_way()
    assert ElementTree.fromstring(figure).tag == "svg" and 0 <= idle <= 50


@pytest.mark.parametrize(("version", "missing"), [(3, ("waited",)), (2, ("waited", "ended"))])
def test_an_older_journal_gets_the_columns_and_is_read_without_them(
    tmp_path: Path, version: int, missing: tuple[str, ...]
) -> None:  # fmt: skip
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        journal.keep_answer("a", "generator", "m", "{}", (1, 2, None), 0.5, 0)
    with contextlib.closing(sqlite3.connect(path)) as db:
        for name in missing:
            db.execute(f"ALTER TABLE answers DROP COLUMN {name}")
        db.execute(f"PRAGMA user_version = {version}")
        events(tmp_path, (1000, "started", 0))
        assert read_timeline(tmp_path, db.execute).under_way()[2] is None
    with Journal(path) as journal:
        assert journal.answer("a") == "{}"
        journal.keep_answer("b", "generator", "m", "{}", (1, 2, None), 0.5, 0, waited=2.5)
        for name in missing:
            found = [value is None for (value,) in journal.rows(f"SELECT {name} FROM answers ORDER BY key")]
            assert found == [True, False]
        journal.fork(tmp_path / "fork")
    with Journal(tmp_path / "fork" / "journal.sqlite") as forked:
        assert [*forked.rows("SELECT waited FROM answers ORDER BY key")] == [(None,), (2.5,)]
