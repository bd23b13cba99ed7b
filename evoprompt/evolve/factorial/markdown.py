"""Instructions as chat models write them: their sentences, and which lines are no rules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evoprompt.lm.words import STOPS, count_words, sentences

ITEM_WORDS = 40
"""A longer list item is as many rules as it has sentences."""
HEADING_WORDS = 8
"""A line in bold that is longer says something."""
_HEADING = re.compile(r"#{1,6}[ \t].*|(\*\*|__)(?:(?!\1).)+\1[ \t]*[:\uff1a]?|[^\n]*[:\uff1a]", re.DOTALL)

_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_HIDDEN = re.compile(r"\0(\d+)\0")
# Chinese and Japanese lists have marks of their own, and no blank after them.
_NUMERAL = r"[\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03\u516b\u4e5d\u5341]"
_MARK = (
    r"(?:(?:[-*+\u2022]|\d+[.)])[ \t]|\d+[\u3001\uff0e\uff09]|\uff08\d+\uff09|[\u2460-\u2473\u30fb]"
    rf"|{_NUMERAL}+\u3001)"
)
_ITEM = re.compile(rf"[ \t]*{_MARK}")
_BULLET = re.compile(rf"^\s*(?:{_MARK}\s*)+(?:\[[ xX]\]\s+)?")
_HEAD = re.compile(r"#{1,6}[ \t]")
_ROW = re.compile(r"[ \t]*\|(.*)\|[ \t]*")
_TAG = re.compile(r"</?[A-Za-z][\w:.-]*(?:[ \t][^<>]*)?>")


@dataclass
class _Piece:
    """Lines that belong together.

    Attributes:
        lines: What they say, without the mark of a list item.
        indent: How far the first one is moved in; below 0 where it is no list item.
    """

    lines: list[str]
    indent: int = -1

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join(self.lines).strip()


def split(instruction: str) -> list[str]:
    """The sentences of an instruction; a list item is one, and a fenced block is a part of the one before it.

    The items below an item belong to it, unless that is too long.
    """
    blocks: list[str] = []

    def hide(match: re.Match[str]) -> str:
        blocks.append(match.group())
        return f"\0{len(blocks) - 1}\0"

    hidden = _FENCE.sub(hide, instruction.replace("\0", " "))
    shown = (_HIDDEN.sub(lambda m: blocks[int(m[1])], s).strip() for s in _sentences(_pieces(hidden.split("\n"))))
    found: list[str] = []
    for part in shown:
        if part.startswith("```") and found:
            found[-1] += f"\n{part}"
        elif re.search(r"\w", part):
            found.append(part)
    return found


def _pieces(lines: list[str]) -> list[_Piece]:
    """The paragraphs, list items, headings, tags and rows of tables; every line with a full stop ends one."""
    found: list[_Piece] = []
    goes_on = False
    for line in lines:
        plain = line.strip()
        moved = len(line) - len(line.lstrip())
        if not plain:
            goes_on = False
        elif _ITEM.match(line):
            found.append(_Piece([_BULLET.sub("", line)], moved))
            goes_on = True
        elif row := _ROW.fullmatch(line):
            found.append(_Piece([": ".join(cell.strip() for cell in row[1].split("|"))]))
            goes_on = False
        elif _alone(plain):
            found.append(_Piece([plain]))
            goes_on = False
        elif goes_on and (not found[-1].lines[-1].rstrip().endswith(STOPS) or 0 <= found[-1].indent < moved):
            found[-1].lines.append(line)
        else:
            found.append(_Piece([line]))
            goes_on = True
    return found


def _alone(line: str) -> bool:
    """True for a heading and for a tag."""
    return _HEAD.match(line) is not None or _TAG.fullmatch(line) is not None


def _sentences(pieces: list[_Piece]) -> Iterator[str]:
    """The sentences of each piece, an item together with those below it."""
    at = 0
    while at < len(pieces):
        first, indent, at = pieces[at].text, pieces[at].indent, at + 1
        below = []
        while at < len(pieces) and 0 <= indent < pieces[at].indent:
            below.append(pieces[at].text)
            at += 1
        whole = " ".join([first, *below])
        if indent >= 0 and count_words(whole) <= ITEM_WORDS:
            yield whole
        elif below and count_words(first) <= HEADING_WORDS:
            yield from (f"{first} {text}" for text in below)
        else:
            for text in (first, *below):
                yield from (_BULLET.sub("", part) for part in sentences(text))


def lines_of(instruction: str) -> list[str]:
    """The text for a comparison by line: each sentence of prose is a line, all else stands as it was written."""
    found: list[str] = []
    prose: list[str] = []
    fenced = False
    for line in [*instruction.split("\n"), ""]:
        plain, fence = line.strip(), line.lstrip().startswith("```")
        if plain and not (fenced or fence) and not any(f.match(line) for f in (_ITEM, _ROW)) and not _alone(plain):
            prose.append(plain)
            continue
        found += sentences(" ".join(prose))
        prose.clear()
        found += [line.rstrip()] * bool(plain)
        fenced ^= fence
    return found


_TOPIC = re.compile(r"^#{1,6}[ \t]+\S.*$", re.MULTILINE)
_OPENING = re.compile(r"^[ \t]*<([A-Za-z][\w:.-]*)(?:[ \t][^<>\n]*)?>", re.MULTILINE)


def sections(text: str) -> list[tuple[str, bool]]:
    """The parts of a structured prompt: those marked True hang together, sentences can be taken from the others.

    A pair of tags hangs together with what stands between them, a heading with what stands below it up to the next
    one.
    """
    found: list[tuple[str, bool]] = []
    fences = [m.span() for m in _FENCE.finditer(text)]
    starts = sorted(m.start() for form in (_TOPIC, _OPENING) for m in form.finditer(text))
    starts = [at for at in starts if not any(first <= at < last for first, last in fences)]
    at = 0
    for start in starts:
        if start < at or (end := _section_end(text, start, starts)) is None:
            continue
        found += [(text[at:start], False), (text[start:end], True)]
        at = end
    found = [(part.strip(), whole) for part, whole in [*found, (text[at:], False)] if part.strip()]
    return _with_bodies(found)


def _section_end(text: str, start: int, starts: Sequence[int]) -> int | None:
    """Where the section ends that begins here; None where it is a tag that nothing closes."""
    opening = _OPENING.match(text, start)
    if opening is None:
        return next((other for other in starts if other > start), len(text))
    depth = 0
    for tag in re.finditer(rf"<(/?){re.escape(opening[1])}\b[^<>\n]*>", text[start:]):
        depth += -1 if tag[1] else 1
        if depth == 0:
            return start + tag.end()
    return None


def _with_bodies(parts: Sequence[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """The parts, a heading that nothing stands below together with the next part."""
    found: list[tuple[str, bool]] = []
    for text, whole in parts:
        if found and found[-1][1] and _TOPIC.fullmatch(found[-1][0].splitlines()[-1].strip()):
            found[-1] = (f"{found[-1][0]}\n{text}", True)
        else:
            found.append((text, whole))
    return found


def around(text: str) -> tuple[str, str, str]:
    """The heading or opening tag of a single section, what stands below it, and the closing tag."""
    stripped = text.strip()
    topic, opening = _TOPIC.match(stripped), _OPENING.match(stripped)
    if topic is not None:
        return topic.group(), stripped[topic.end() :], ""
    if opening is not None and stripped.endswith(close := f"</{opening[1]}>"):
        return opening.group(), stripped[opening.end() : -len(close)], close
    return "", text, ""


def is_heading(line: str) -> bool:
    """True if a line only announces the ones after it, or is a tag, so that it says nothing on its own."""
    if _TAG.fullmatch(line):
        return True
    return count_words(line) <= HEADING_WORDS and "```" not in line and _HEADING.fullmatch(line) is not None
