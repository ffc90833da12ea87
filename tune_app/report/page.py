"""Report of a study as one HTML page that needs neither a network nor another file."""

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from trainables.files import write_whole
from tune_app.config import RunConfig
from tune_app.durations import duration_text
from tune_app.errors import UserError
from tune_app.outcomes import Outcome
from tune_app.printable import printable
from tune_app.report.plots import Plot, plots_of
from tune_app.report.sections import Sections
from tune_app.report.source import Source
from tune_app.report.style import DARK
from tune_app.study.lines import counts_line
from tune_app.study.store import StudyStore
from tune_app.version import VERSION

_RAW = frozenset({"hovertemplate"})
"""Parts of a figure that hold markup of the report's own; all other texts may come from users."""


def write_report(store: StudyStore, config: RunConfig, run_dir: Path, target: Path) -> Path:
    """Write the report of a study, completely or not at all, and return its path.

    Args:
        config: the study's own configuration, as resolved when it ran.
        run_dir: folder of the study's files on this machine, which may hold ``confirm.json``.
        target: file to write; its folder is made if it is missing.

    Raises:
        UserError: the file cannot be written.
    """
    text = report_html(Source.read(store, config, run_dir))
    try:
        write_whole(target, text)
    except OSError as error:
        raise UserError(f"--to: {target} cannot be written ({error.strerror}); give another file") from None
    return target


def report_html(source: Source) -> str:
    """Return the report as HTML. A browser that shows it loads nothing else, and runs no script but the report's."""
    sections = Sections.of(source)
    plots = plots_of(source, sections)
    scripts = {"plotly": get_plotlyjs(), "page": _asset("page.js")}
    figures = {name: _figure(plot) for name, plot in plots.items()}
    return (
        _environment()
        .get_template("page.html")
        .render(
            source=source,
            status=source.status,
            counts=counts_line(source.status),
            sections=sections,
            plots=plots,
            slices=[name for name in plots if name.startswith("slice-")],
            fronts=[name for name in plots if name.startswith("front-")],
            outcomes=[outcome.value for outcome in Outcome],
            style=Markup(_asset("page.css")),
            scripts={name: Markup(text) for name, text in scripts.items()},
            policy=_policy(scripts.values()),
            data=Markup(_json({"figures": figures, "dark": DARK})),
            version=VERSION,
        )
    )


def _figure(plot: Plot) -> Mapping[str, Any]:
    return {**_safe(json.loads(plot.figure.to_json())), "leastWidth": plot.least_width}


def _safe(value: Any) -> Any:
    """Return a figure's data with all texts escaped: plotly reads markup in them."""
    if isinstance(value, str):
        return str(escape(printable(value))).replace("&#39;", "'").replace("&#34;", '"')
    if isinstance(value, list):
        return [_safe(each) for each in value]
    if isinstance(value, dict):
        return {name: each if name in _RAW else _safe(each) for name, each in value.items()}
    return value


def _json(value: Any) -> str:
    """Return JSON that cannot end the script element around it."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _policy(scripts: Any) -> str:
    """Return a content security policy: only these scripts run, and nothing is loaded.

    Plotly compiles its drawing functions, which needs ``unsafe-eval``, and makes its own style elements.
    """
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:;"
        " base-uri 'none'; form-action 'none'"
    )


def _asset(name: str) -> str:
    return files("tune_app.report").joinpath("assets", name).read_text(encoding="utf-8")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tune_app.report", "assets"),
        autoescape=True,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"duration": lambda hours: duration_text(hours * 3600), "score": _score, "number": _number}
    return environment


def _finalized(value: Any) -> Any:
    """Return a value as the page shows it: texts without control characters, which a browser may obey or drop."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
