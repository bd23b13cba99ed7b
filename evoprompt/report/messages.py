"""The messages that a prompt sends, exactly as the model gets them: the instruction alone was not measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evoprompt.report.data import RunData


def messages_of(run: RunData, task: Mapping[str, Any]) -> list[dict[str, str]]:
    """The messages of the result for one task, as `role` and `content`.

    Args:
        run: The run.
        task: Its `prompt` and `interface`.

    Returns:
        None of them where the student is another one than our `Program`: what it sends is not known here.
    """
    result = run.prompts[run.result]
    texts = result.texts
    if set(texts) != {"generator"} or run.adapter not in ("CodeAdapter", "PlainAdapter") or not task.get("interface"):
        return []
    from evoprompt.lm.adapter import CodeAdapter
    from evoprompt.local.adapter import PlainAdapter
    from signatures import GenerateCode

    adapter = CodeAdapter() if run.adapter == "CodeAdapter" else PlainAdapter()
    inputs = {"prompt": task["prompt"], "entry_point": task["interface"]}
    demos = [*run.demos, *(demo.fields for demo in result.demos)]
    found = adapter.format(GenerateCode.with_instructions(texts["generator"]), demos, inputs)
    return [{"role": str(m["role"]), "content": str(m["content"])} for m in found]
