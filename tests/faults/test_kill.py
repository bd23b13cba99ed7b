"""kill -9 at any moment, and the same command again: the same result, and nothing that was kept is asked for again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.conftest import THREADS, Study, server
from tests.faults.victim import SITES, Blow, Victim, kept


def test_killed_whenever_it_asks(study: Study, undisturbed: Any, same: Any) -> None:
    """Each process is killed when its third request arrives, until one gets to the end."""
    victims: list[Victim] = []
    came, lost, before, code = [0], 0, 0, -9

    def kills(*_: object) -> None:
        came[0] += 1
        if came[0] == 3:
            victims[-1].send(9)

    with server(kills) as there:
        while code == -9:
            came[0], served = 0, sum(there.served.values())
            victims.append(study.begin(there.base))
            code = victims[-1].end()
            now = kept(study.run_dir)["answers"]
            lost_now = sum(there.served.values()) - served - (now - before)
            assert lost_now <= THREADS, "no more than what was under way"
            lost, before = lost + lost_now, now
        assert code == 0, victims[-1].said
        assert lost_now == 0
        assert len(victims) > 4
        assert sum(there.asked.values()) - len(there.asked) == lost
        assert sum(there.served.values()) == undisturbed.requests + lost
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
