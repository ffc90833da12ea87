"""Configuration of a run: typed sections with a description of each setting. Unknown keys are refused.

One YAML file describes a run; ``-s a.b=value`` overrides single settings. A loaded configuration is complete and
checked. The rest of the program takes explicit values from it and never reads a file.

Modules, from the bottom up: ``section`` and the files of sections declare the settings; ``run`` holds them all;
``parameters`` says which of them a space may vary; ``checks`` compares sections; ``overrides``, ``old_names``,
``named_space`` and ``paths`` prepare and complete what a file gives; ``loading`` does all of it in order.
"""

from tune_app.config.conditions import SEARCHABLE
from tune_app.config.limits import Limit
from tune_app.config.loading import load_config, parse_config, with_classes
from tune_app.config.parameters import searchable_names, setting_names
from tune_app.config.run import RunConfig
from tune_app.config.study_sections import PinnedSection
from tune_app.config.yaml_files import dump_yaml

__all__ = [
    "SEARCHABLE",
    "Limit",
    "PinnedSection",
    "RunConfig",
    "dump_yaml",
    "load_config",
    "parse_config",
    "searchable_names",
    "setting_names",
    "with_classes",
]
