"""How fields become messages and replies become fields: the adapters that evoprompt gives to DSPy.

DSPy's `ChatAdapter` pays for a second call when a reply lacks its `[[ ## field ## ]]` markers. Models that
can't keep to the markers still answer with a fenced block or a JSON object, so `CodeAdapter` looks for those
first.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, ClassVar

import dspy
import json_repair
from dspy.utils.exceptions import AdapterParseError
from pydantic import BaseModel, ValidationError

from evoprompt.errors import UsageError
from evoprompt.lm.extract import extract_code
from evoprompt.lm.providers import adapters
from evoprompt.lm.reply import strip_thinking

__all__ = ["CodeAdapter", "adapter_by_name"]

MAX_REPAIR = 4_000
"""Characters of broken JSON that are repaired: the repair takes seconds for more."""

# Unwrapped, because DSPy wraps `parse` in callbacks once per subclass and would report every reply twice.
_chat_parse = inspect.unwrap(dspy.ChatAdapter.parse)


class CodeAdapter(dspy.ChatAdapter):
    """DSPy's ChatAdapter, which understands replies without markers before it pays for a second call."""

    name: ClassVar[str] = "code"

    def format_field_structure(self, signature: type[dspy.Signature]) -> str:
        """As DSPy has it, made once for a signature: it builds a pydantic schema for every field."""
        return _structure(self, signature)  # type: ignore[arg-type]  # a class that says it has no hash

    def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        """The output fields of a reply.

        Raises:
            AdapterParseError: Not even a code block, a JSON object or plain text could be taken for them.
        """
        try:
            fields: dict[str, Any] = _chat_parse(self, signature, completion)
        except (AdapterParseError, RecursionError) as e:
            salvaged = _salvage(signature, completion, getattr(e, "parsed_result", None))
            if salvaged is not None:
                return salvaged
            if isinstance(e, AdapterParseError):
                raise
            raise AdapterParseError(adapter_name="CodeAdapter", signature=signature, lm_response=completion) from e
        return fields


# DSPy wraps inherited methods again, too; callbacks would be told of every request twice.
CodeAdapter.format = dspy.ChatAdapter.format


@lru_cache(maxsize=128)
def _structure(adapter: CodeAdapter, signature: type[dspy.Signature]) -> str:
    return str(dspy.ChatAdapter.format_field_structure(adapter, signature))


def adapter_by_name(name: str, default: dspy.Adapter | None = None) -> dspy.Adapter:
    """A new adapter by the name that a saved program keeps: `code` or `plain`.

    Args:
        name: The adapter's name.
        default: What to return for a name that is not ours; without it such a name is an error.

    Raises:
        UsageError: There is no such adapter.
    """
    known: dict[str, Any] = {a.name: a for a in (CodeAdapter, *adapters())}
    if name in known:
        return known[name]()
    if default is not None:
        return default
    raise UsageError(f"adapter {name!r} is unknown: use one of {', '.join(map(repr, known))}")


def _salvage(signature: type[dspy.Signature], reply: str, parsed: object) -> dict[str, Any] | None:
    """The output fields of a reply without proper markers, or None if one of them can't be found."""
    fields: dict[str, Any] = dict(parsed) if isinstance(parsed, dict) else {}
    for name, field in signature.output_fields.items():
        if name in fields:
            continue
        value: Any = None
        if is_code(name, field.annotation):
            code = extract_code(reply)
            # With several blocks only the entry point tells which one is meant, and Program knows it.
            several = field.annotation is str and len(re.findall(r"(?m)^[ \t]*(?:```|~~~)", reply)) > 2
            value = reply.strip() if code and several else typed_code(field.annotation, code) if code else None
        elif is_model(field.annotation):
            value = model_in(field.annotation, reply)
        elif field.annotation is str and len(signature.output_fields) == 1:
            text = reply.replace("[[ ## completed ## ]]", "")
            value = text_of(text, name) or None if "[[ ##" not in text else None
        if value is None:
            return None
        fields[name] = value
    return fields


def is_code(name: str, annotation: Any) -> bool:
    return (name == "code" and annotation is str) or (
        isinstance(annotation, type) and issubclass(annotation, dspy.Code)
    )


def typed_code(annotation: Any, code: str) -> Any:
    # `model_construct`, because dspy.Code would cut the code at a fence in one of its docstrings.
    return code if annotation is str else annotation.model_construct(code=code)


def code_text(value: Any) -> Any:
    return value.code if isinstance(value, dspy.Code) else value


def is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def model_in(annotation: type[BaseModel], reply: str) -> BaseModel | None:
    """The first JSON object in the reply that is such a model, repaired where it is cut or badly quoted."""
    for text in _objects(strip_thinking(reply)):
        value = json_value(text)
        # Models like to wrap the object in the name of its field.
        inner = [v for v in value.values() if isinstance(v, dict)] if isinstance(value, dict) else []
        for candidate in (value, *inner):
            try:
                return annotation.model_validate(candidate)
            except ValidationError:
                continue
    return None


def _objects(reply: str) -> Iterator[str]:
    """Texts that may begin with a JSON object; the last in the reply may be cut."""
    for match in list(re.finditer(r"\{\s*[\"'}]", reply))[:3]:
        yield reply[match.start() :].partition("\n```")[0].partition("\n[[ ##")[0]


def json_value(text: str) -> Any:
    """A JSON value, repaired if need be, whatever follows it; None if there is none."""
    try:
        return json.JSONDecoder(strict=False).raw_decode(text)[0]
    except (ValueError, RecursionError):
        text = text[:MAX_REPAIR]
    try:
        return json_repair.loads(text)
    except (ValueError, RecursionError):
        return None


def text_of(reply: str, name: str = "") -> str:
    """The reply as plain text: without thinking, without the one fence or the JSON object around it."""
    text = strip_thinking(reply).strip()
    parts = re.split(r"^[ \t]*(?:```|~~~)(.*)$", text, maxsplit=5, flags=re.MULTILINE)
    if len(parts) in (3, 5):  # text, info, block[, rest of the closing line, text]
        block = parts[2].strip()
        if block and (not parts[0].strip() or not extract_code(block)):
            text = block
    if name and text.startswith("{") and f'"{name}"' in text:
        value = json_value(text)
        if isinstance(value, dict) and isinstance(value.get(name), str):
            return str(value[name]).strip()
    return text
