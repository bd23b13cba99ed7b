"""How fields become messages and replies become fields: the adapters that evoprompt gives to DSPy.

DSPy's `ChatAdapter` pays for a second call when a reply lacks its `[[ ## field ## ]]` markers. Models that
can't keep to the markers still answer with a fenced block or a JSON object, so `CodeAdapter` looks for those
first. `PlainAdapter` does without markers altogether and never pays twice.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, ClassVar, Literal, get_args, get_origin

import dspy
import json_repair
from dspy.utils.exceptions import AdapterParseError
from pydantic import BaseModel, TypeAdapter, ValidationError

from evoprompt.errors import UsageError
from evoprompt.lm.extract import extract_code
from evoprompt.lm.reply import strip_thinking
from evoprompt.lm.words import sentences
from signatures import Diagnosis

__all__ = ["CodeAdapter", "PlainAdapter", "adapter_by_name"]

MAX_TEXT = 1000
"""Characters of a small model's text after which a sentence that it has said before ends it."""
MAX_CAUSE = 300
MAX_REPAIR = 4_000
"""Characters of broken JSON that are repaired: the repair takes seconds for more."""
MAX_RULE_WORDS = 25

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


class PlainAdapter(dspy.Adapter):
    """Plain questions and plain answers, for models too small for field markers. Never calls twice."""

    name: ClassVar[str] = "plain"

    def format_system_message(self, signature: type[dspy.Signature]) -> str:
        """The instruction, and nothing else."""
        return inspect.cleandoc(signature.instructions)

    def format_user_message_content(
        self,
        signature: type[dspy.Signature],
        inputs: dict[str, Any],
        prefix: str = "",
        suffix: str = "",
        main_request: bool = False,
    ) -> str:
        """The inputs under plain labels, and what the answer should look like."""
        # A demo's question is worded like the real one, so the prefix about missing fields is left out.
        _ = prefix, main_request
        values = {k: inputs[k] for k in signature.input_fields if inputs.get(k) not in (None, "", [])}
        parts = []
        if "code" in signature.output_fields:
            parts += [str(values.pop("prompt", ""))]
            entry_point = str(values.pop("entry_point", ""))
            parts += [f"Write the Python function {entry_point}." if entry_point else ""]
        parts += [f"{_label(k)}:\n{_plain(v)}" for k, v in values.items()]
        parts += [_request(k, f.annotation) for k, f in signature.output_fields.items()]
        return "\n\n".join(p for p in [*parts, suffix] if p)

    def format_assistant_message_content(
        self,
        signature: type[dspy.Signature],
        outputs: dict[str, Any],
        missing_field_message: str | None = None,
    ) -> str:
        """The answer of a demo."""
        parts = []
        for name in signature.output_fields:
            value = outputs.get(name, missing_field_message) or ""
            if name == "code" and value and "```" not in str(value):
                value = f"```python\n{_code_text(value)}\n```"
            parts.append(value.model_dump_json() if isinstance(value, BaseModel) else str(_code_text(value)))
        return "\n\n".join(parts)

    def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        """The output fields of a reply: whatever of it can be used. Code may come out empty.

        Raises:
            AdapterParseError: A field is neither code, text, a list of choices nor a model, and not in the reply.
        """
        fields: dict[str, Any] = {}
        for name, field in signature.output_fields.items():
            annotation = field.annotation
            if _is_code(name, annotation):
                fields[name] = _typed_code(annotation, extract_code(completion))
            elif annotation is str:
                fields[name] = _once(_text(completion, name))
            elif _is_model(annotation) and (value := _model(annotation, completion) or _guess(annotation, completion)):
                fields[name] = value
            else:
                fields[name] = self._other(signature, name, annotation, completion)
        return fields

    def _other(self, signature: type[dspy.Signature], name: str, annotation: Any, completion: str) -> Any:
        text = _text(completion)
        if get_origin(annotation) is Literal:
            found = [c for c in get_args(annotation) if re.search(rf"\b{re.escape(str(c))}\b", text, re.IGNORECASE)]
            if found:
                return found[0]
        try:
            return TypeAdapter(annotation).validate_python(_loads(text))
        except ValidationError as e:
            raise AdapterParseError(
                adapter_name="PlainAdapter",
                signature=signature,
                lm_response=completion,
                message=f"no value for the field {name!r} in the reply",
            ) from e


def adapter_by_name(name: str, default: dspy.Adapter | None = None) -> dspy.Adapter:
    """A new adapter by the name that a saved program keeps: `code` or `plain`.

    Args:
        name: The adapter's name.
        default: What to return for a name that is not ours; without it such a name is an error.

    Raises:
        UsageError: There is no such adapter.
    """
    known = {a.name: a for a in (CodeAdapter, PlainAdapter)}
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
        if _is_code(name, field.annotation):
            code = extract_code(reply)
            # With several blocks only the entry point tells which one is meant, and Program knows it.
            several = field.annotation is str and len(re.findall(r"(?m)^[ \t]*(?:```|~~~)", reply)) > 2
            value = reply.strip() if code and several else _typed_code(field.annotation, code) if code else None
        elif _is_model(field.annotation):
            value = _model(field.annotation, reply)
        elif field.annotation is str and len(signature.output_fields) == 1:
            text = reply.replace("[[ ## completed ## ]]", "")
            value = _text(text, name) or None if "[[ ##" not in text else None
        if value is None:
            return None
        fields[name] = value
    return fields


def _is_code(name: str, annotation: Any) -> bool:
    return (name == "code" and annotation is str) or (
        isinstance(annotation, type) and issubclass(annotation, dspy.Code)
    )


def _typed_code(annotation: Any, code: str) -> Any:
    # `model_construct`, because dspy.Code would cut the code at a fence in one of its docstrings.
    return code if annotation is str else annotation.model_construct(code=code)


def _code_text(value: Any) -> Any:
    return value.code if isinstance(value, dspy.Code) else value


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _model(annotation: type[BaseModel], reply: str) -> BaseModel | None:
    """The first JSON object in the reply that is such a model, repaired where it is cut or badly quoted."""
    for text in _objects(strip_thinking(reply)):
        value = _loads(text)
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


def _loads(text: str) -> Any:
    """A JSON value, repaired if need be, whatever follows it; None if there is none."""
    try:
        return json.JSONDecoder(strict=False).raw_decode(text)[0]
    except (ValueError, RecursionError):
        text = text[:MAX_REPAIR]
    try:
        return json_repair.loads(text)
    except (ValueError, RecursionError):
        return None


def _guess(annotation: type[BaseModel], reply: str) -> BaseModel | None:
    """A diagnosis made of plain sentences: better than none, and its class claims the least."""
    text = _text(reply)
    if not issubclass(annotation, Diagnosis) or not text:
        return None
    sentence = next(iter(sentences(text.partition("\n")[0])), text)
    rule = " ".join(sentence.split()[:MAX_RULE_WORDS])[:MAX_CAUSE]
    return annotation(failure_class="wrong_algorithm", root_cause=text[:MAX_CAUSE].strip(), rule=rule)


def _once(text: str) -> str:
    """A text without what a small model says over and over where it finds no end."""
    if len(text) <= MAX_TEXT:
        return text
    said, kept, end = set[str](), "", 0
    for line in text.splitlines(keepends=True):
        for part in re.split(r"(?<=[.!?\u3002\uff01\uff1f])", line):
            plain = " ".join(part.split())
            if plain and plain in said and end > MAX_TEXT:
                return kept.strip()
            said.add(plain)
            kept, end = kept + part[:MAX_TEXT], end + len(part)
    return kept.strip()


def _text(reply: str, name: str = "") -> str:
    """The reply as plain text: without thinking, without the one fence or the JSON object around it."""
    text = strip_thinking(reply).strip()
    parts = re.split(r"^[ \t]*(?:```|~~~)(.*)$", text, maxsplit=5, flags=re.MULTILINE)
    if len(parts) in (3, 5):  # text, info, block[, rest of the closing line, text]
        block = parts[2].strip()
        if block and (not parts[0].strip() or not extract_code(block)):
            text = block
    if name and text.startswith("{") and f'"{name}"' in text:
        value = _loads(text)
        if isinstance(value, dict) and isinstance(value.get(name), str):
            return str(value[name]).strip()
    return text


def _label(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _plain(value: Any) -> str:
    """A value in words: a list as bullets, a model as `name: value`, without its empty fields."""
    if isinstance(value, BaseModel):
        return "; ".join(f"{_label(k).lower()}: {_plain(v)}" for k, v in value if v not in (None, "", []))
    if isinstance(value, list | tuple):
        return "\n".join(f"- {_plain(v)}" for v in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(_code_text(value))


def _request(name: str, annotation: Any) -> str:
    """What is asked for, in one sentence."""
    if _is_code(name, annotation):
        return "Answer with one ```python block."
    if _is_model(annotation):
        keys = ", ".join(f'"{k}" ({_kind(f.annotation)})' for k, f in annotation.model_fields.items())
        return f"Answer with one JSON object with the keys {keys}."
    return f"Answer with the {_label(name).lower()} only."


def _kind(annotation: Any) -> str:
    choices = get_args(annotation) if get_origin(annotation) is Literal else ()
    return f"one of {', '.join(map(str, choices))}" if choices else "text"
