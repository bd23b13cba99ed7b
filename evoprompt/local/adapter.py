"""Plain questions and plain answers, for models too small for DSPy's field markers."""

from __future__ import annotations

import inspect
import re
from typing import Any, ClassVar, Literal, get_args, get_origin

import dspy
from dspy.utils.exceptions import AdapterParseError
from pydantic import BaseModel, TypeAdapter, ValidationError

from evoprompt.lm.adapter import code_text, is_code, is_model, json_value, model_in, text_of, typed_code
from evoprompt.lm.extract import extract_code
from evoprompt.lm.words import sentences
from signatures import Diagnosis

__all__ = ["PlainAdapter"]

MAX_TEXT = 1000
"""Characters of a small model's text after which a sentence that it has said before ends it."""
MAX_CAUSE = 300
MAX_RULE_WORDS = 25


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
                value = f"```python\n{code_text(value)}\n```"
            parts.append(value.model_dump_json() if isinstance(value, BaseModel) else str(code_text(value)))
        return "\n\n".join(parts)

    def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        """The output fields of a reply: whatever of it can be used. Code may come out empty.

        Raises:
            AdapterParseError: A field is neither code, text, a list of choices nor a model, and not in the reply.
        """
        fields: dict[str, Any] = {}
        for name, field in signature.output_fields.items():
            annotation = field.annotation
            if is_code(name, annotation):
                fields[name] = typed_code(annotation, extract_code(completion))
            elif annotation is str:
                fields[name] = _once(text_of(completion, name))
            elif is_model(annotation) and (value := model_in(annotation, completion) or _guess(annotation, completion)):
                fields[name] = value
            else:
                fields[name] = self._other(signature, name, annotation, completion)
        return fields

    def _other(self, signature: type[dspy.Signature], name: str, annotation: Any, completion: str) -> Any:
        text = text_of(completion)
        if get_origin(annotation) is Literal:
            found = [c for c in get_args(annotation) if re.search(rf"\b{re.escape(str(c))}\b", text, re.IGNORECASE)]
            if found:
                return found[0]
        try:
            return TypeAdapter(annotation).validate_python(json_value(text))
        except ValidationError as e:
            raise AdapterParseError(
                adapter_name="PlainAdapter",
                signature=signature,
                lm_response=completion,
                message=f"no value for the field {name!r} in the reply",
            ) from e


def _guess(annotation: type[BaseModel], reply: str) -> BaseModel | None:
    """A diagnosis made of plain sentences: better than none, and its class claims the least."""
    text = text_of(reply)
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
    return str(code_text(value))


def _request(name: str, annotation: Any) -> str:
    """What is asked for, in one sentence."""
    if is_code(name, annotation):
        return "Answer with one ```python block."
    if is_model(annotation):
        keys = ", ".join(f'"{k}" ({_kind(f.annotation)})' for k, f in annotation.model_fields.items())
        return f"Answer with one JSON object with the keys {keys}."
    return f"Answer with the {_label(name).lower()} only."


def _kind(annotation: Any) -> str:
    choices = get_args(annotation) if get_origin(annotation) is Literal else ()
    return f"one of {', '.join(map(str, choices))}" if choices else "text"
