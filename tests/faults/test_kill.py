"""kill -9 at any moment, and the same command again: the same result, and nothing that was kept is asked for again."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import THREADS, Study, server, write
from tests.faults.victim import SITES, Blow, Victim, kept, results

pytestmark = pytest.mark.slow


def test_killed_whenever_it_asks(study: Study, undisturbed: Any, same: Any) -> None:
    """Each process is killed when its third request arrives, until one gets to the end."""
    victims: list[Victim] = []
    answers, came = [0], [0]

    def kills(*_: object) -> None:
        came[0] += 1
        if came[0] == 3:
            victims[-1].kill()

    with server(kills) as there:
        code = -9
        while code == -9:
            came[0] = 0
            victims.append(study.begin(there.base, OPENAI_API_KEY=f"process-{len(victims)}"))
            code = victims[-1].end()
            answers.append(kept(study.run_dir)["answers"])
        assert code == 0, victims[-1].said
        assert len(victims) > 4
        new = [after - before for before, after in itertools.pairwise(answers)]
        lost = [there.served_to[f"process-{n}"] - count for n, count in enumerate(new)]
        assert lost[-1] == 0 and all(0 <= n <= THREADS for n in lost), "no more than what was under way"
        assert sum(there.asked.values()) - len(there.asked) == sum(lost)
        assert sum(there.served.values()) == undisturbed.requests + sum(lost)
    same(study)
    assert kept(study.run_dir) == undisturbed.rows


@pytest.mark.parametrize("site", SITES)
def test_killed_inside_every_kind_of_write(study: Study, undisturbed: Any, same: Any, site: str) -> None:
    with server() as there:
        for number, after in [(1, True)] * 7 if site == "meta" else [(1, False), (2, True), (3, False)]:
            code, said = study.train(there.base, blow=Blow("kill", site, number, after))
            assert code == -9 or (site, code) == ("steps", 0), said
        code, said = study.train(there.base)
        assert code == 0, said
        assert sum(there.served.values()) <= undisturbed.requests + 3 * THREADS
    same(study)
    assert kept(study.run_dir) == undisturbed.rows


def test_killed_with_demos_among_the_rules(tmp_path: Path) -> None:
    demos = ("--max_demos", "1", "--epochs", "3")
    whole, other = (write(tmp_path / name) for name in ("whole", "other"))
    with server() as there:
        code, said = whole.train(there.base, *demos)
        assert code == 0, said
        asked = sum(there.served.values())
    assert "demo" in (whole.run_dir / "training/prompt_evolution.json").read_text()
    with server() as there:
        for number, site in enumerate(["rollouts", "steps", "file", "steps", "answers", "rename"], 2):
            code, said = other.train(there.base, *demos, blow=Blow("kill", site, 3 * number, after=bool(number % 2)))
            assert code in (-9, 0), said
        code, said = other.train(there.base, *demos)
        assert code == 0, said
        assert sum(there.served.values()) <= asked + 6 * THREADS
    assert results(other.run_dir) == results(whole.run_dir) and kept(other.run_dir) == kept(whole.run_dir)
