"""Instructions as chat models write them: what is wrapped around one, its sentences, and which of them are no rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

ITEM_WORDS = 40
"""A longer list item is as many rules as it has sentences."""
HEADING_WORDS = 8
"""A line in bold that is longer says something."""
_BETTER = r"(?:new|improved|revised|updated|refined|rewritten|optimi[sz]ed|better|complete|final|shortened|shorter)"
_ASIDE = re.compile(
    rf"\A[^\n:]{{0,80}}\b(?:here|below)(?:'s|\u2019s| is| are)\b[^\n:]{{0,60}}\b{_BETTER}\b[^\n:]{{0,80}}:[ \t*_]*\n\s*"
    r"(?:-{3,}[ \t]*\n\s*)?"
    rf"|\A[#*_ \t]*{_BETTER} (?:instructions?|prompt)[*_: \t]*\n\s*",
    re.IGNORECASE,
)
_AFTERWORD = re.compile(
    r"\n(?:[ \t]*-{3,}[ \t]*\n\s*[#*_]*[ \t]*(?:[a-z]+ ){0,3}(?:changes|improvements|rationale|explanation|changed)\b"
    r"|[#*_]+[ \t]*(?:key changes|summary of changes|changes made|what (?:i )?changed)\b).*\Z",
    re.IGNORECASE | re.DOTALL,
)
_FENCED = re.compile(r"\A(`{3,})[\w-]*[ \t]*\n(.*)\n[ \t]*\1[ \t]*(?:\n|\Z)", re.DOTALL)
_TAGGED = re.compile(r"\A<(\w*(?:instruction|prompt|answer|output)\w*)>(.*)</\1>\s*\Z", re.DOTALL | re.IGNORECASE)
_QUOTES = ('"', '"'), ("\u201c", "\u201d"), ("'", "'")
_HEADING = re.compile(r"#{1,6}[ \t].*|(\*\*|__)(?:(?!\1).)+\1[ \t]*:?|[^\n]*:", re.DOTALL)

_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_HIDDEN = re.compile(r"\0(\d+)\0")
# A sentence ends at its full stop, unless that belongs to an abbreviation.
_END = re.compile(
    r"(?<=[.!?])(?<![Ee]\.g\.)(?<![Ii]\.e\.)(?<!etc\.)(?<!vs\.)[ \t]+(?=[^\W\d_a-z]|[`\"'(*\[])"
    r"|(?<=[\u3002\uff01\uff1f])[ \t]*"
)
_STOP = tuple(".!?:;")
_ITEM = re.compile(r"[ \t]*(?:[-*+\u2022]|\d+[.)])[ \t]")
_BULLET = re.compile(r"^\s*(?:(?:[-*+\u2022]|\d+[.)])\s+)+(?:\[[ xX]\]\s+)?")
_HEAD = re.compile(r"#{1,6}[ \t]")
_ROW = re.compile(r"[ \t]*\|(.*)\|[ \t]*")


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
    """The paragraphs, list items, headings and rows of tables; every line with a full stop ends one."""
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
        elif _HEAD.match(plain):
            found.append(_Piece([plain]))
            goes_on = False
        elif goes_on and (not found[-1].lines[-1].rstrip().endswith(_STOP) or 0 <= found[-1].indent < moved):
            found[-1].lines.append(line)
        else:
            found.append(_Piece([line]))
            goes_on = True
    return found


def _sentences(pieces: list[_Piece]) -> Iterator[str]:
    """What each piece says, an item together with those below it."""
    at = 0
    while at < len(pieces):
        first, indent, at = pieces[at].text, pieces[at].indent, at + 1
        below = []
        while at < len(pieces) and 0 <= indent < pieces[at].indent:
            below.append(pieces[at].text)
            at += 1
        whole = " ".join([first, *below])
        if indent >= 0 and len(whole.split()) <= ITEM_WORDS:
            yield whole
        elif below and len(first.split()) <= HEADING_WORDS:
            yield from (f"{first} {text}" for text in below)
        else:
            for text in (first, *below):
                yield from (_BULLET.sub("", part) for part in _END.split(text))


def unwrapped(reply: str) -> str:
    """The instruction in a reply: without a word before or after it, and without fence, tags or quotes around it."""
    text, before = reply.strip(), ""
    while text != before:
        before = text
        text = _AFTERWORD.sub("", text).strip()
        inner = _ASIDE.sub("", text, count=1).strip()
        text = _unfenced(inner, announced=inner != text)
        if tagged := _TAGGED.match(text):
            text = tagged[2].strip()
        text = _unquoted(text)
    # A reply that is nothing but such words is left to be judged as it is.
    return text or reply.strip()


def _unfenced(text: str, announced: bool) -> str:
    """What stands in a fence around the whole text; where that was announced, what comes after it is chat."""
    found = _FENCED.match(text)
    if not found or not (announced or found.end() == len(text)):
        return text
    # A fence inside opens with a language; one without closes, so that these are two blocks and no wrapping.
    inside = re.search(r"^[ \t]*`{3,}(\w*)", found[2], re.MULTILINE)
    return text if inside and not inside[1] else found[2].strip()


def _unquoted(text: str) -> str:
    for first, last in _QUOTES:
        inner = text[1:-1]
        if len(text) > 1 and text[0] == first and text[-1] == last and first not in inner and last not in inner:
            return inner.strip()
    return text


def is_heading(line: str) -> bool:
    """Whether a line only says what those after it are about: alone, in another place, it tells nothing."""
    return len(line.split()) <= HEADING_WORDS and "```" not in line and _HEADING.fullmatch(line) is not None
