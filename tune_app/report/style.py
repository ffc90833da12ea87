"""Colours and layout of the plots.

Data colours are those of Okabe and Ito, which colour-blind people can tell apart. No meaning is in a colour alone:
every group has a marker, a pattern or a label, too.
"""

from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go

INK, MUTED, GRID, PAPER = "#1c2430", "#5b6675", "#dde3ea", "#ffffff"
BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, GREY = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#56b4e9",
    "#7a8594",
)

DARK = {
    INK: "#e7ebf1",
    MUTED: "#9aa6b5",
    GRID: "#2c3643",
    PAPER: "#161c24",
    BLUE: "#4aa8e0",
    ORANGE: "#f0b429",
    GREEN: "#2cc295",
    VERMILLION: "#ff8b3d",
    PURPLE: "#dd95bd",
    SKY: "#8fd0f5",
    GREY: "#8b97a6",
}
"""Colour of a dark page for each colour of a light one."""

MARKERS: dict[str, dict[str, Any]] = {
    "complete": {"color": BLUE, "symbol": "circle", "size": 8},
    "stopped": {"color": GREY, "symbol": "circle-open", "size": 7},
    "oom": {"color": VERMILLION, "symbol": "triangle-up", "size": 9},
    "failed": {"color": PURPLE, "symbol": "x", "size": 8},
    "running": {"color": GREEN, "symbol": "square", "size": 8},
    "waiting": {"color": GREEN, "symbol": "square-open", "size": 8},
    "interrupted": {"color": GREEN, "symbol": "square-open", "size": 8},
    "recommended": {"color": ORANGE, "symbol": "diamond", "size": 11, "line": {"width": 1, "color": INK}},
    "winner": {"color": VERMILLION, "symbol": "star", "size": 15, "line": {"width": 1, "color": INK}},
}
"""Marker of each outcome or state of a trial, and of the two trials that stand out."""

WEBGL_FROM = 1000
"""Points of a group from which it is drawn by WebGL."""


def scatter(count: int) -> Callable[..., go.Scatter | go.Scattergl]:
    """Return the trace for a group of points: SVG prints better, WebGL stays quick."""
    trace: Callable[..., go.Scatter | go.Scattergl] = go.Scattergl if count >= WEBGL_FROM else go.Scatter
    return trace


def empty() -> go.Figure:
    """Return a figure without plotly's own template, which takes long to copy."""
    return go.Figure(layout={"template": "none"})


def styled(figure: go.Figure, height: int, **layout: Any) -> go.Figure:
    """Give a figure the report's look; ``layout`` overrides it."""
    figure.update_layout(
        height=height,
        margin={"l": 60, "r": 16, "t": 36, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": INK},
        hoverlabel={"bgcolor": PAPER, "bordercolor": MUTED, "font": {"color": INK, "size": 13}},
        hovermode="closest",
        dragmode=False,
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
    )
    axis = {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": MUTED,
        "automargin": True,
        "title_standoff": 8,
        "title_font_size": 13,
        "exponentformat": "power",
    }
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    figure.update_layout(**layout)
    return figure
