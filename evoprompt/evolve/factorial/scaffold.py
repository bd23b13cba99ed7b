"""Tools, fields, data and code in an instruction: no rules, but the base of every prompt, as it was written.

DSPy writes such text itself, as the list of tools of `dspy.ReAct`. Without it the program does not work; cut into
sentences it says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import takewhile

from evoprompt.evolve.factorial.markdown import sections
from evoprompt.lm.words import SENTENCE_END

_NAMES = r"`[^`\n]+`(?:, `[^`\n]+`)*"
_DEFAULT = re.compile(rf"Given the fields? {_NAMES}, produce the fields? {_NAMES}\.")
_OF_DSPY = re.compile(
    r"^You are an Agent\. In each episode, you will be given the fields .*?"
    r"^When providing `next_tool_args`, the value inside the field must be in JSON format\.?"
    rf"|^You are an Agent\. Use the supplied tools to produce .*?^The available tools are: {_NAMES}\.?"
    r"|^You are an intelligent agent\. For each episode, you will receive the fields .*?"
    r"^You have access to the Python Standard Library and the following functions:(?:\n\(\d+\) .*)*"
    r"|^You are tasked with producing the following outputs given the inputs .*\Z"
    r"|^You will be given `.*?the correct value mapping for the field\(s\): [^\n]*"
    r"|^You are given `[^\n]* due to an error in previous code\.\n[^\n]*"
    r"|^Given the final code `[^\n]*",
    re.MULTILINE | re.DOTALL,
)
_MARK = r"[ \t]*(?:(?:[-*+\u2022]|\(?\d+[.)])[ \t]+)?"
_TYPE = (
    r"(?:str|int|float|bool|list|dict|tuple|set|bytes|Any|Literal|Optional|string|integer|number|boolean|array|object)"
)
_LINES = re.compile(
    # A tool as DSPy tells of it, a function with its parameters, a field with its type.
    rf"^{_MARK}[\w.-]+, whose description is <desc>.*"
    rf"|^{_MARK}(?:\*\*|`)?[A-Za-z_][\w.]*\([^()\n]*\)(?:`|\*\*)?[ \t]*(?:->|[:\u2013\u2014]|- ).*"
    rf"|^{_MARK}(?:\*\*|`)?[A-Za-z_]\w*(?:`|\*\*)?[ \t]*"
    rf"(?:\([ \t]*{_TYPE}\b[^()\n]*\)|:[ \t]*`?{_TYPE}`?[ \t]*(?=$|[-=(\u2014])).*"
    # A definition with its body, imports, a session.
    r"|^[ \t]*(?:async def|def|class) \w+.*:[^\n]*(?:\n[ \t]+\S.*)*"
    r"|^(?:import [\w.]+(?: as \w+)?|from [\w.]+ import .*|@\w[\w.]*(?:\(.*\))?|>>> .*)$",
    re.MULTILINE,
)
_TAGGED = re.compile(
    r"^<(tools?|functions?|schema|examples?|documents?|data|context|fields?)\b[^>\n]*>.*?^[ \t]*</\1>", re.M | re.S
)
_OPENED = re.compile(r"^[ \t]*(?=[\[{]\s*[\"'\[{])", re.MULTILINE)
_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_INTRODUCES = re.compile(r"(?:\A|(?<=[.!?])[ \t]+|\n)[^\n.!?]*[:\uff1a][ \t]*\n?[ \t]*\n\Z")
_LINE_END = re.compile(r"\n")
_SHORT = 10
"""Characters below which brackets are no data."""


def parts(instruction: str, locked: Sequence[str] = ()) -> list[tuple[str, bool]]:
    """The instruction in parts: those marked True stay as they are, rules can be taken from the others.

    Args:
        instruction: The text.
        locked: Passages whose sentences stay; one that is not in the text locks nothing.
    """
    found: list[tuple[str, bool]] = []
    at = 0
    for start, end in _joined(instruction, locked):
        found += [(instruction[at:start], False), (instruction[start:end].strip(), True)]
        at = end
    return [(text, stays) for text, stays in [*found, (instruction[at:], False)] if text.strip()]


def prose(text: str, locked: Sequence[str] = ()) -> str:
    """The parts that rules can be taken from."""
    return "\n".join(part for part, stays in parts(text, locked) if not stays)


def with_base(proposal: str, start: str, locked: Sequence[str] = ()) -> str:
    """A proposal that holds what the start prompt can't do without: tools, data, code, and what is locked."""
    begun = parts(start, locked)
    kept = [part for part, stays in begun if stays and not _DEFAULT.fullmatch(part)]
    if all(_plain(part) in _plain(proposal) for part in kept):
        return proposal
    first = sum(1 for _ in takewhile(lambda part: part[1], begun)) if locked else 0
    return "\n\n".join([*kept[:first], prose(proposal, locked).strip(), *kept[first:]]).strip()


def passage(text: str, locked: str) -> re.Match[str] | None:
    """Where a locked passage stands in a text; blanks and line breaks count as the same."""
    return re.search(r"\s+".join(map(re.escape, locked.split())), text)


def _plain(text: str) -> str:
    return " ".join(text.split())


def _joined(text: str, locked: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The places of what stays, in order; what stands next to each other, or is announced by a colon, is one."""
    fences = [m.span() for m in _FENCE.finditer(text)]
    spans = sorted(
        [
            *(span for span in _spans(text) if not any(first <= span[0] < last for first, last in fences)),
            *(_whole(text, found) for one in locked if (found := passage(text, one))),
        ]
    )
    last: tuple[int, int] | None = None
    for start, end in spans:
        if last is not None and not text[last[1] : start].strip():
            last = last[0], max(last[1], end)
            continue
        if last is not None and start < last[1]:
            last = last[0], max(last[1], end)
            continue
        if last is not None:
            yield last
        before = _INTRODUCES.search(text, last[1] if last else 0, start)
        last = (before.start() if before else start), end
    if last is not None:
        yield last


def _whole(text: str, found: re.Match[str]) -> tuple[int, int]:
    """The sentences that a passage stands in, from the first to the last; in a structured prompt, the sections."""
    ends = [m.span() for form in (_LINE_END, SENTENCE_END) for m in form.finditer(text)]
    start = max((last for _, last in ends if last <= found.start()), default=0)
    end = min((first for first, _ in ends if first >= found.end()), default=len(text))
    pieces = sections(text)
    for part, whole in pieces if len(pieces) > 1 else ():
        if whole and (section := passage(text, part)):
            first, last = section.span()
            start = first if first <= found.start() < last else start
            end = last if first < found.end() <= last else end
    return start, end


def _spans(text: str) -> Iterator[tuple[int, int]]:
    for form in (_OF_DSPY, _DEFAULT, _LINES, _TAGGED):
        yield from (m.span() for m in form.finditer(text))
    at = 0
    while opened := _OPENED.search(text, at):
        at = _closed(text, opened.end())
        if at - opened.end() >= _SHORT:
            yield opened.start(), at


def _closed(text: str, at: int) -> int:
    """Where brackets are closed that open here: else where the paragraph ends."""
    depth = 0
    for place in range(at, len(text)):
        depth += (text[place] in "[{") - (text[place] in "]}")
        if depth == 0:
            return place + 1
    end = text.find("\n\n", at)
    return len(text) if end < 0 else end
