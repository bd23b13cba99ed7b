"""The table of system calls beside the kernel's own: a wrong number would allow another call than the one named."""

import re
from pathlib import Path

import pytest

from evoprompt.harness.inside import seccomp

ALL = " ".join((seccomp._PLAIN, seccomp._FILES, seccomp._RULED, seccomp._ZYGOTE))
HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
    "aarch64": ("/usr/include/asm-generic/unistd.h",),
}


def kernels(architecture):
    """Name and number of every call, as the header of the kernel has them."""
    path = next((Path(p) for p in HEADERS[architecture] if Path(p).is_file()), None)
    if path is None:
        pytest.skip(f"no header of the kernel for {architecture} (package linux-libc-dev): {HEADERS[architecture]}")
    defined = dict(re.findall(r"^#define\s+(__NR\w*)\s+(\w+)", path.read_text(), re.M))
    numbers = {name: defined.get(value, value) for name, value in defined.items() if name.startswith("__NR_")}
    return {name.removeprefix("__NR_"): int(value) for name, value in numbers.items() if value.isdigit()}


@pytest.mark.parametrize("architecture", HEADERS)
def test_every_number_is_the_kernels(architecture):
    known = kernels(architecture)
    ours = seccomp._numbers(ALL, seccomp._ARCHITECTURES[architecture][0])
    assert len(known) > 250 and {name: known.get(name) for name in ours} == ours
    unnumbered = {row.partition(":")[0] for row in ALL.split()} - ours.keys()
    assert not unnumbered & known.keys(), "left out, though the architecture has it"


@pytest.mark.parametrize("architecture", HEADERS)
def test_no_call_stands_in_the_table_twice(architecture):
    numbers = [row.split(":")[1 + seccomp._ARCHITECTURES[architecture][0]] for row in ALL.split()]
    given = [n for n in numbers if n]
    assert len(set(given)) == len(given)


def test_every_rule_is_for_a_call_with_a_number():
    ruled, scratch = ({row.partition(":")[0] for row in t.split()} for t in (seccomp._RULED, seccomp._SCRATCH))
    assert ruled <= seccomp._RULES.keys() <= ruled | scratch


def test_the_calls_that_are_tried_are_those_that_they_are_called():
    from tests.harness.test_sandbox import NUMBERS

    known = kernels("x86_64")
    newest = max(known.values())
    assert {n: known.get(n) for n, number in NUMBERS.items() if number <= newest} == {
        n: number for n, number in NUMBERS.items() if number <= newest
    }
