"""The directive `cli-reference`: every command and option of `evoprompt`, read from the typer app itself."""

from __future__ import annotations

import re
from typing import Any

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from evoprompt.cli import app as cli


def markdown() -> str:
    """Return the reference of all commands as Markdown."""
    commands: dict[str, Any] = typer.main.get_command(cli).commands  # type: ignore[attr-defined]
    return "\n".join(line for name, command in commands.items() for line in _command(name, command))


def _command(name: str, command: Any) -> list[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join(["evoprompt", name, *(p.metavar or p.name.upper() for p in arguments), "[OPTIONS]"])
    lines = [f"## evoprompt {name}", "", *_told(command.help or ""), "```text", usage, "```", ""]
    groups: dict[str, list[Any]] = {}
    for parameter in command.params:
        if parameter.name != "help" and not parameter.hidden:
            panel = "Arguments" if parameter in arguments else parameter.rich_help_panel or "Options"
            groups.setdefault(panel, []).append(parameter)
    for title, parameters in groups.items():
        lines += [f"**{title}**", "", "| name | takes | what it does |", "|---|---|---|"]
        lines += [f"| {_names(p)} | {_takes(p)} | {_help(p)} |" for p in parameters]
        lines.append("")
    return lines


def _told(text: str) -> list[str]:
    paragraphs = text.replace("\b", "").strip().split("\n\n")
    return [line for paragraph in paragraphs for line in (" ".join(paragraph.split()), "")]


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    return ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))


def _takes(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False):
        return ""
    annotation = parameter.type_descriptor.annotation
    choices = getattr(annotation, "__args__", None)
    if choices and all(isinstance(choice, str) for choice in choices):
        return ", ".join(f"`{choice}`" for choice in choices)
    kind = {"str": "text", "Path": "path", "int": "whole number", "float": "number"}.get(
        getattr(annotation, "__name__", ""), "text"
    )
    low = "" if parameter.min is None else f", {parameter.min:g} or more"
    if parameter.max is not None:
        low = f", {parameter.min:g} to {parameter.max:g}"
    return kind + low


def _help(parameter: Any) -> str:
    text = " ".join((parameter.help or "").split()).replace("|", "\\|")
    text = re.sub(r"(?<![`\w-])(--\w+)", r"`\1`", text)
    if parameter.required:
        text += " **Required.**"
    elif parameter.param_type_name == "option" and parameter.default is not None and parameter.default is not False:
        text += f" Default: `{parameter.default}`."
    return text.strip()


class CliReference(SphinxDirective):
    """Insert the reference at this place."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        """Return the parsed sections."""
        return self.parse_text_to_nodes(markdown(), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("cli-reference", CliReference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
