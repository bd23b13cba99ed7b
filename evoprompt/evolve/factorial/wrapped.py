"""The instruction in a reply: without the words before and after it, and without fence, tags or quotes around it."""

from __future__ import annotations

import html
import re
import textwrap

from evoprompt.evolve.factorial.structured import KEY, META, instruction_in

MOST = 100_000
"""Characters of a text that tags and labels are looked for in."""
_BETTER = (
    r"(?:new|improved|revised|updated|refined|rewritten|optimi[sz]ed|better|complete|final|shortened|shorter"
    r"|verbesserte|überarbeitete|neue|améliorée|révisée|nouvelle|mejorad[ao]|revisad[ao]|nuev[ao]|melhorad[ao]"
    r"|улучшенн\w+|обновл[её]нн\w+|исправленн\w+|нов\w+)"
)
_ASIDE = re.compile(
    rf"\A[^\n:]{{0,80}}\b(?:here|below|hier|voici|aquí|aqui|вот|ниже)(?:'s|\u2019s| is| are| ist| está)?\b"
    rf"[^\n:]{{0,60}}\b{_BETTER}\b[^\n:]{{0,80}}:[ \t*_]*\n\s*"
    r"(?:-{3,}[ \t]*\n\s*)?"
    r"|\A[^\n:\uff1a]{0,30}(?:改进|优化|更新|修订|修改|改善|改良|新しい|개선|수정|새로운)[^\n:\uff1a]{0,30}[:\uff1a]"
    r"[ \t*_]*\n\s*"
    rf"|\A[#*_ \t]*{_BETTER} (?:instructions?|prompt)[*_: \t]*\n\s*",
    re.IGNORECASE,
)
_AFTERWORD = re.compile(
    r"\n(?:[ \t]*-{3,}[ \t]*\n\s*[#*_]*[ \t]*(?:[a-z]+ ){0,3}(?:changes|improvements|rationale|explanation|changed)\b"
    r"|[#*_]+[ \t]*(?:key changes|summary of changes|changes made|what (?:i )?changed)\b).*\Z",
    re.IGNORECASE | re.DOTALL,
)
_FENCED = re.compile(r"\A(`{3,})[\w-]*[ \t]*\n(.*)\n[ \t]*\1[ \t]*(?:\n|\Z)", re.DOTALL)
_TAGGED = re.compile(
    r"\A(?:<\?xml[^>]*>\s*)?<(\w*(?:instruction|prompt|answer|output|response|result|rule|guideline)\w*)(?:\s[^<>]*)?>"
    r"(.*)</\1>\s*\Z",
    re.DOTALL | re.IGNORECASE,
)
_ABOUT = re.compile(
    r"\A<(think|thinking|thought|thoughts|analysis|reasoning|rationale|explanation|scratchpad|reflection)>.*?</\1>\s*(?=<)",
    re.DOTALL | re.IGNORECASE,
)
_ITEM = re.compile(r"<(rule|item|li|instruction|guideline|step|point)\b[^<>]*>([^<]*)</\1>", re.IGNORECASE)
_LABEL = re.compile(rf"\A(?:---[ \t]*\n)?[\"']?({KEY})[\"']?[ \t]*[:=][ \t]*", re.IGNORECASE)
_BLOCK = re.compile(r"[|>][+-]?[ \t]*\n")
_NEXT = re.compile(rf"^(?:{META})[ \t]*:", re.IGNORECASE | re.MULTILINE)
_QUOTES = ('"""', '"""'), ("'''", "'''"), ('"', '"'), ("\u201c", "\u201d"), ("'", "'")


def unwrapped(reply: str, like: str = "") -> str:
    """The instruction in a reply.

    Args:
        reply: What the optimizer answered: the instruction, whatever is said about it, and what it is wrapped in: a
            fence, tags, quotes, JSON, chat messages, a label.
        like: The instruction before. Where that is JSON, JSON with the same keys is an instruction.
    """
    text, before = reply.strip(), ""
    while text != before:
        before = text
        text = _AFTERWORD.sub("", text).strip()
        inner = _ASIDE.sub("", text, count=1).strip()
        text = _unfenced(inner, announced=inner != text)
        if len(text) <= MOST:
            text = _unlabelled(_untagged(text))
        text = instruction_in(text, like)
        text = _unquoted(text)
    # A reply that is nothing but such words is left to be judged as it is.
    return text or reply.strip()


def _unfenced(text: str, announced: bool) -> str:
    """The text inside a fence around the whole reply; after an announced fence, the rest is chat."""
    found = _FENCED.match(text)
    if not found or not (announced or found.end() == len(text)):
        return text
    # A fence inside opens with a language; one without closes, so that these are two blocks and no wrapping.
    inside = re.search(r"^[ \t]*`{3,}(\w*)", found[2], re.MULTILINE)
    return text if inside and not inside[1] else found[2].strip()


def _untagged(text: str) -> str:
    """The text between tags around the whole reply; elements that are rules become list items."""
    found = _TAGGED.match(_ABOUT.sub("", text, count=1))
    if not found:
        return text
    inner = found[2].replace("<![CDATA[", "").replace("]]>", "").strip()
    items = [item[1].strip() for item in _ITEM.findall(inner)]
    if items and not _ITEM.sub("", inner).strip():
        if len(items) == 1:
            return html.unescape(items[0])
        return "\n".join(f"- {html.unescape(item)}" for item in items if item)
    return html.unescape(inner) if "<" not in inner else inner


def _unlabelled(text: str) -> str:
    """The text after a label such as `improved_instruction:`, in the form of YAML and TOML too."""
    found = _LABEL.match(text)
    if not found:
        return text
    rest = text[found.end() :]
    if block := _BLOCK.match(rest):
        lines = rest[block.end() :].split("\n")
        end = next((i for i, line in enumerate(lines) if line.strip() and not line[0].isspace()), len(lines))
        return textwrap.dedent("\n".join(lines[:end])).strip()
    # A label that people write, with the text below it, is a heading: `_ASIDE` knows those that say nothing.
    if "_" not in found[1] and (not rest or rest[0] not in "\"'"):
        return text
    end_at = _NEXT.search(rest)
    return rest[: end_at.start() if end_at else None].strip()


def _unquoted(text: str) -> str:
    for first, last in _QUOTES:
        inner = text[len(first) : -len(last)]
        if len(text) > 2 * len(first) - 1 and text.startswith(first) and text.endswith(last):
            if first not in inner and last not in inner:
                return inner.strip()
            if len(first) > 1:
                return text
    return text
