"""Configuration of the documentation's site: Sphinx reads the Markdown files of this folder through MyST."""

from tune_app.version import VERSION

project = "Headroom"
author = "The Headroom authors"
project_copyright = "The Headroom authors"
release = VERSION

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_enable_extensions = ["colon_fence"]
# Every heading down to this level can be linked to; a link to one that is missing is a warning, and fails the build.
myst_heading_anchors = 4
myst_linkify_fuzzy_links = False

# Two hyphens of an option are not a dash.
smartquotes = False
html_theme = "furo"
html_title = f"Headroom {VERSION}"
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["headroom.css"]
# The copy button leaves prompts and outputs out.
copybutton_prompt_text = "$ "
copybutton_exclude = ".linenos, .gp, .go"

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True

linkcheck_timeout = 20
linkcheck_retries = 2
