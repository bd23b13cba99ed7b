"""Cleans a model's reply: thinking, DSPy's field headers, invisible characters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

__all__ = ["HEADER", "code_sections", "mended", "strip_thinking", "without_invisible"]

HEADER = re.compile(r"\s*\[\[ *## *(\w+) *## *\]\](.*)")
"""A field header of ChatAdapter, with the rest of its line."""


_INDENTATION = re.compile(r"^[ \t]+", re.MULTILINE)
_SESSION = re.compile(r"^ *(?:>>>|\.\.\.)(?: (.*))?$", re.MULTILINE)
_SPACES = re.compile("[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
_BREAKS = re.compile("[\u2028\u2029\x85]")
_NOTHING = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_LITERAL = re.compile(
    r"""(?:'{3}(?:\\.|(?!'{3})[^\\])*+'{3}|"{3}(?:\\.|(?!"{3})[^\\])*+"{3}"""
    r"""|'(?:\\.|[^'\\\n])*+'|"(?:\\.|[^"\\\n])*+"|\#[^\n]*+)""",
    re.DOTALL,
)
"""A string or a comment of Python."""


def without_invisible(text: str, *, strings: bool = True) -> str:
    """Replace unusual spaces and line ends by plain ones, and drop characters of no width.

    Args:
        text: A reply, or code.
        strings: True to clean Python's strings and comments too.
    """
    if strings:
        return _BREAKS.sub("\n", _NOTHING.sub("", _SPACES.sub(" ", text)))
    parts, at = [], 0
    for literal in _LITERAL.finditer(text):
        parts += [without_invisible(text[at : literal.start()]), literal.group()]
        at = literal.end()
    return "".join([*parts, without_invisible(text[at:])])


def mended(code: str) -> Iterator[str]:
    """Yield repairs of code that does not parse: invisible characters, tabs, prompts of a Python session."""
    if _SPACES.search(code) or _NOTHING.search(code) or _BREAKS.search(code):
        yield without_invisible(code, strings=False)
        yield without_invisible(code)
    if "\t" in code:
        yield from (_INDENTATION.sub(partial(_expanded, size), code) for size in (4, 8))
    if code.lstrip().startswith(">>>"):
        yield "\n".join(m.group(1) or "" for m in _SESSION.finditer(code))


def _expanded(size: int, tabs: re.Match[str]) -> str:
    return tabs.group().expandtabs(size)


def strip_thinking(reply: str) -> str:
    """Return the reply with plain line ends and without `<think>…</think>`; tags in a fenced block stay."""
    out: list[str] = []
    fence = ""
    thinking = False
    for line in reply.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff").split("\n"):
        rest = line
        if thinking:
            _, closed, rest = rest.partition("</think>")
            if not closed:
                continue
            thinking = False
        if not fence:
            text = rest.strip()
            if text.startswith("<think>"):
                thinking = text.rfind("</think>") < text.rfind("<think>")
                rest = rest.rpartition("</think>")[2]
            elif text.startswith("</think>") or text.endswith("</think>"):
                # Some chat templates put the opening tag into the prompt: all before this was thinking.
                out.clear()
                rest = rest.rpartition("</think>")[2]
            if thinking:
                continue
        fence = _next_fence(rest, fence)
        out.append(rest)
    return "\n".join(out)


def _next_fence(line: str, fence: str) -> str:
    """Return the fence that is open after this line; coarse, but enough to tell text from code."""
    text = line.strip()
    if fence:
        return "" if text.startswith(fence) and not text.strip(fence[0]) else fence
    mark = text[:3]
    if mark not in ("```", "~~~") or (len(text) > 3 and mark in text[3:]):
        return ""
    return mark


def code_sections(lines: list[str]) -> Iterator[list[str]]:
    """Yield the sections to search: that of ChatAdapter's `code` field, then the whole reply."""
    sections: list[tuple[str, list[str]]] = [("", [])]
    fence = ""
    for line in lines:
        header = HEADER.match(line) if "[[" in line and not fence else None
        fence = _next_fence(header.group(2) if header else line, fence)
        if header:
            sections.append((header.group(1), [header.group(2).lstrip()] if header.group(2).strip() else []))
        else:
            sections[-1][1].append(line)
    if len(sections) > 1:
        yield from (body for name, body in sections if name == "code" and any(map(str.strip, body)))
    yield lines
