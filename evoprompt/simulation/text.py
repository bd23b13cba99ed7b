"""Reads a request and writes a reply, for every adapter of DSPy: field markers, JSON, XML or plain text."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from xml.sax.saxutils import escape

from dspy.lm15 import Request, TextPart

Style = Literal["chat", "json", "xml", "plain"]

_HEADER = re.compile(r"^[ \t]*\[\[ ## (\w+) ## \]\][ \t]*(.*)$")
_TAGGED = re.compile(r"^<(\w+)>\n(.*?)\n</\1>$", re.DOTALL | re.MULTILINE)
_OBJECTIVE = re.compile(r"your objective is:[ \t]*\n?", re.IGNORECASE)
_ASKED = re.compile(
    r"Respond with (?:the corresponding output fields|a JSON object)(?:(?!\n\n).)*?"
    r"(?:starting with the field|order of fields:|wrapped in XML tags)(?P<fields>[^\n]*)",
    re.DOTALL,
)
_FIELD = re.compile(
    r"`(?:\[\[ ## )?<?(?P<name>\w+)>?(?: ## \]\])?`(?: \(must be formatted as a valid Python (?P<type>[^)]*)\))?"
)
_DECLARED = re.compile(r"^\d+\. `(\w+)` \(([^)]*)\)", re.MULTILINE)


@dataclass(frozen=True)
class Reading:
    """A request as the simulated model understands it.

    Attributes:
        inputs: The input fields of the last user message by name; empty for plain text.
        outputs: The output fields that are asked for, with the names of their types.
        style: The form of the reply.
        user: The last user message.
        demos: The replies in earlier turns.
        nonce: Tells apart the samples of one request; empty at temperature 0.
    """

    system: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    style: Style
    user: str
    demos: tuple[str, ...]
    nonce: str
    temperature: float

    @property
    def instruction(self) -> str:
        """The task that the system text sets."""
        return textwrap.dedent(_OBJECTIVE.split(self.system)[-1]).strip()

    @property
    def everything(self) -> str:
        """The whole request as one text: the seed of all dice."""
        return "\x1e".join((self.system, *self.demos, self.user, self.nonce))


def read(request: Request, nonce: str = "") -> Reading:
    """Take a request apart."""
    parts = request.system or ()
    system = parts if isinstance(parts, str) else "\n".join(p.text for p in parts if isinstance(p, TextPart))
    turns = [(m.role, "\n".join(p.text for p in m.parts if isinstance(p, TextPart))) for m in request.messages]
    user = next((text for role, text in reversed(turns) if role != "assistant"), "")
    outputs, style = _asked(system, user)
    return Reading(
        system=system,
        inputs=_inputs(user, style),
        outputs=outputs,
        style=style,
        user=user,
        demos=tuple(text for role, text in turns if role == "assistant"),
        nonce=nonce,
        temperature=request.config.temperature or 0.0,
    )


def write(reading: Reading, values: Mapping[str, object]) -> str:
    """Write the reply in the form that the request asks for."""
    if reading.style == "json":
        return json.dumps(values, ensure_ascii=False, indent=2)
    if reading.style == "xml":
        return "\n\n".join(f"<{name}>\n{_as_xml(value)}\n</{name}>" for name, value in values.items())
    if reading.style == "chat":
        parts = [f"[[ ## {name} ## ]]\n{_as_text(value)}" for name, value in values.items()]
        return "\n\n".join([*parts, "[[ ## completed ## ]]"])
    return "\n\n".join(map(_as_text, values.values()))


def normal(text: str) -> str:
    """Text without differences in white space."""
    return " ".join(text.split())


def _asked(system: str, user: str) -> tuple[dict[str, str], Style]:
    """The output fields with their types, and the form of the reply."""
    listing = re.split(r"\nAll interactions|\nIn adhering", system.partition("Your output fields are:")[2])[0]
    declared: dict[str, str] = {m[1]: m[2] for m in _DECLARED.finditer(listing)}
    asked = list(_ASKED.finditer(user)) or list(_ASKED.finditer(system))
    if not asked:
        return declared, "chat" if declared and "[[ ## " in system else "json" if declared else "plain"
    text = asked[-1].group()
    named = {m["name"]: m["type"] or "str" for m in _FIELD.finditer(asked[-1]["fields"]) if m["name"] != "completed"}
    style: Style = "json" if "JSON object" in text else "xml" if "XML tags" in text else "chat"
    return {name: declared.get(name, kind) for name, kind in named.items()}, style


def _inputs(user: str, style: Style) -> dict[str, str]:
    asked = list(_ASKED.finditer(user))
    body = user[: asked[-1].start()] if asked else user
    if style == "xml":
        return {m[1]: m[2].strip() for m in _TAGGED.finditer(body)}
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in body.splitlines():
        header = _HEADER.match(line)
        if header:
            current = found.setdefault(header[1], [])
            line = header[2]
        current.append(line)
    return {name: "\n".join(lines).strip() for name, lines in found.items()}


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _as_xml(value: object) -> str:
    if isinstance(value, dict):
        return "\n".join(f"<{key}>{escape(_as_text(item))}</{key}>" for key, item in value.items())
    return escape(_as_text(value))
