"""How busy the workers of an executor were."""

from __future__ import annotations

from evoprompt.harness.usage import Usage, told


def test_solutions_rate_and_utilisation_are_of_the_threads_that_were_there() -> None:
    now, threads = [100.0], [2]
    usage = Usage(lambda: threads[0], lambda: now[0])
    assert told([usage.facts()]) == "0 solutions judged, 0.0 a second, 0 % of 2 threads busy"
    now[0] = 110.0
    usage.took("lab1", 30, 10.0)
    assert usage.now() == "50 % busy, 3.0 solutions/s"
    threads[0] = 4
    now[0] = 120.0
    usage.took("lab2", 10, 5.0)
    assert usage.now() == "12 % busy, 1.0 solutions/s", "of the last ten seconds"
    assert (
        told([usage.facts()])
        == "40 solutions judged by 2 nodes (lab1 30, lab2 10), 2.0 a second, 25 % of 4 threads busy"
    )
    now[0] = 1000.0
    assert usage.now() == "0 % busy, 0.0 solutions/s"


def test_many_nodes_are_not_all_named() -> None:
    usage = Usage(lambda: 99)
    for number in range(20):
        usage.took(f"n{number}", 100 - number, 0.0)
    assert "by 20 nodes (n0 100, n1 99, n2 98, n3 97, n4 96, n5 95, n6 94, n7 93, 12 others)," in told([usage.facts()])
