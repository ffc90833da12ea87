"""``headroom config``: every setting of a configuration and every command, for people and for editors."""

import json

import click

from tune_app.commands.terminal import echo


@click.group("config", no_args_is_help=False)
def config_group() -> None:
    """Reference pages of settings and commands, and a JSON schema of configurations for editors."""


@config_group.command("reference")
def print_reference() -> int:
    """Print every setting with its type, default, bounds and meaning, as Markdown."""
    from tune_app.config.reference import reference

    echo(reference().rstrip("\n"))
    return 0


@config_group.command("schema")
def print_schema() -> int:
    """Print the JSON schema of a configuration, which editors read for completion."""
    from tune_app.config.schema import config_schema

    echo(json.dumps(config_schema(), indent=2, ensure_ascii=False))
    return 0


@config_group.command("commands")
@click.pass_context
def print_commands(context: click.Context) -> int:
    """Print every command with its options, as Markdown."""
    from tune_app.commands.reference import command_reference

    root = context.find_root().command
    assert isinstance(root, click.Group)
    echo(command_reference(root).rstrip("\n"))
    return 0
