"""Reference page of every command, as Markdown, from the declarations of the command line."""

from collections.abc import Iterator

import click

_HEAD = """# Commands

Every command, with its arguments and options. `headroom COMMAND --help` prints the same in a terminal.

STUDY is a study's name under `./runs`, its run directory, or its URI in a store. CONFIG is a YAML file
([Settings](settings.md)). Exit codes: 0 done; 1 no trial is complete, or an error ended the search; 2 bad input, with
one line that names the setting, its value and the remedy; 130 interrupted, and the same command resumes.

This page is printed by `headroom config commands`.
"""


def command_reference(cli: click.Group) -> str:
    """Return the reference page of a command line: one section per command, in alphabetical order."""
    sections = [_section(context) for context in _commands(cli, click.Context(cli, info_name="headroom"))]
    return "\n".join([_HEAD, *sections])


def _commands(group: click.Group, context: click.Context) -> Iterator[click.Context]:
    """Yield the context of every command below a group, those of inner groups included."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, parent=context, info_name=name)
        if isinstance(command, click.Group):
            yield from _commands(command, inner)
        else:
            yield inner


def _section(context: click.Context) -> str:
    command = context.command
    usage = " ".join(command.collect_usage_pieces(context))
    options = [record for one in command.params if (record := one.get_help_record(context)) and record[0][0] == "-"]
    lines = [f"## {context.command_path}", "", f"`{context.command_path} {usage}`", "", _description(command), ""]
    if options:
        lines += ["| option | meaning |", "| --- | --- |"]
        lines += [f"| `{names}` | {_cell(meaning)} |" for names, meaning in options]
        lines.append("")
    return "\n".join(lines)


def _description(command: click.Command) -> str:
    paragraphs = (command.help or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
