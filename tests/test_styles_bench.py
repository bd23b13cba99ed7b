"""The world in which advisors write as chat models do, and a unit of its bench."""

from __future__ import annotations

import random

import pytest

from benchmarks import styles
from benchmarks.optimizers_units import TRAIN, VAL, Unit, metric_of
from benchmarks.styles_voices import CONCEPTS, HARMS, REACH, STYLES, best, bullet, concepts, harms
from benchmarks.styles_world import BROKEN, DILUTION, SLIPPED, SOLVED, Laws, slips
from evoprompt.evolve.factorial.markdown import split
from evoprompt.evolve.factorial.wrapped import unwrapped

pytestmark = pytest.mark.slow

INTRO = "Use exactly the given name and parameters."


@pytest.fixture(scope="module")
def laws() -> Laws:
    return Laws(0, metric_of("starter").tasks.values())


def test_a_concept_counts_with_its_action_near() -> None:
    assert concepts("If the input is empty, return the documented default.") == {"empty"}
    assert concepts("Mind that the input may be empty.") == set()
    assert concepts(f"The input may be empty.{' filler' * (REACH // 7 + 1)} Return the default.") == set()
    assert concepts("## If the input is empty\nReturn the default.") == set(), "a heading is no part of a rule"
    assert concepts(best()) == set(CONCEPTS)
    assert harms(best()) == set()
    assert harms("Raise a `ValueError` for anything unexpected.") == {"h_raise"}


def test_what_a_prompt_earns(laws: Laws) -> None:
    entry = next(e for e, needs in laws.needs.items() if len(needs) == 1 and needs <= set(CONCEPTS))
    (name,) = laws.needs[entry]
    told = f"{INTRO} {CONCEPTS[name].short}."
    assert laws.solved(INTRO, entry) == SLIPPED
    assert laws.solved(told, entry) == SOLVED
    assert laws.solved(best(), entry) == SOLVED, "so short that its length costs nothing"
    broken = [n for n, h in HARMS.items() if laws.solved(f"{told} {h.text}.", entry) < SOLVED]
    spared = [e for e in laws.needs if laws.solved(f"{best()} {HARMS['h_raise'].text}", e) == laws.solved(best(), e)]
    assert all(laws.solved(f"{told} {HARMS[n].text}.", entry) == pytest.approx(BROKEN * SOLVED) for n in broken)
    assert 0.5 < len(spared) / len(laws.needs) < 1
    tasks = list(laws.tasks.values())
    assert laws.score(" ".join([best(), *(h.text for h in HARMS.values())]), tasks) < laws.score(best(), tasks) - 5
    long = told + " word" * (200 - len(told.split()))
    assert laws.solved(long, entry) == pytest.approx(SOLVED * (1 - DILUTION))
    assert slips(laws.code(INTRO, entry)) in ([name], []), "right now and then, without being told"


@pytest.mark.parametrize("name", STYLES)
def test_what_an_advisor_means_stands_in_what_it_writes(name: str) -> None:
    meant = ["bounds", "case", "dups", "space", "wrap"]
    for seed in range(20):
        dice = random.Random(seed)
        rewrite = STYLES[name].rewrite
        if rewrite is None:
            text = "\n".join([INTRO, *(bullet(dice, concept) for concept in meant)])
        else:
            text = rewrite(dice, meant, INTRO)
        assert concepts(text) >= set(meant)
        assert concepts("\n".join(split(unwrapped(text)))) >= set(meant), "and in the rules that are read from it"
        assert concepts(STYLES[name].shorten(dice, meant)) >= set(meant)


def test_a_unit_and_its_table() -> None:
    rows = styles.run_unit(Unit("gpt", 1, ("factorial", "random"), (60,)))
    assert [(row["world"], row["optimizer"], row["budget"]) for row in rows] == [
        ("gpt", "factorial", 60), ("gpt", "random", 60)
    ]  # fmt: skip
    tasks = list(metric_of("starter").tasks.values())
    random.Random("indep:1").shuffle(tasks)
    for row in rows:
        assert row["calls"]["generator"] <= 60
        assert row["final"] == Laws(1, tasks).score(row["instruction"], tasks[TRAIN + VAL :]) <= row["best"]
    text = styles.tables(rows, {"seconds": 1, "cores": 2})
    ours, other = rows[0]["final"], rows[1]["final"]
    assert "SIMULATED" in text
    assert f"| gpt | 60 | {rows[0]['start']:.1f} | {rows[0]['best']:.1f} | {ours:.1f} | {other:.1f} |" in text
    assert f"| random: {ours - other:+.1f} [" in text
