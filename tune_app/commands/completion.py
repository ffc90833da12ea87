"""``headroom completion``: what a shell offers on Tab. It runs at every Tab, so it imports nothing but click."""

import os
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from tune_app.commands.terminal import echo

# The default folder of run directories, and the file that each of them holds.
_RUNS, _CONFIG = "runs", "config.yaml"


def studies(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the studies under ``./runs`` by name; without a match, folders, since a run directory is one, too."""
    names = sorted(path.parent.name for path in Path(_RUNS).glob(f"*/{_CONFIG}"))
    return _matching(names, incomplete) or [CompletionItem(incomplete, type="dir")]


def configurations(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the YAML files of the folder that was begun; without one, what the shell itself completes."""
    folder = os.path.dirname(incomplete)
    with_folder = [os.path.join(folder, name) for name in _names(folder or ".") if name.endswith((".yaml", ".yml"))]
    return _matching(sorted(with_folder), incomplete) or files(context, parameter, incomplete)


def files(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Leave the completion of a file to the shell."""
    return [CompletionItem(incomplete, type="file")]


def _matching(values: list[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(value) for value in values if value.startswith(incomplete)]


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def print_completion(shell: str) -> int:
    """Print the script with which SHELL completes commands, options, studies and configurations.

    Load it at every start of the shell: eval "$(headroom completion bash)" in ~/.bashrc; eval "$(headroom completion
    zsh)" in ~/.zshrc, after compinit; headroom completion fish > ~/.config/fish/completions/headroom.fish.
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click knows each shell of the choice"
    root = click.get_current_context().find_root().command
    echo(kind(root, {}, "headroom", "_HEADROOM_COMPLETE").source())
    return 0
