"""Console for all output, which shows every text literally."""

from collections.abc import Iterable
from typing import IO, Any

from rich import console as rich_console
from rich.segment import Segment
from rich.text import Text

from tune_app.printable import printable


class Console(rich_console.Console):
    """Console that does not interpret markup, emoji names or escape sequences.

    Args:
        file: stream to print to; None for the standard output.
        options: options of rich's console, such as ``width``.
    """

    def __init__(self, *, file: IO[str] | None = None, **options: Any) -> None:
        super().__init__(file=file, markup=False, emoji=False, highlight=False, **options)

    def say(self, text: str) -> None:
        """Print lines of any length without folding them."""
        self.print(text, soft_wrap=True)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text as it is printed, so that a table's columns have room for its escapes."""
        return super().render_str(printable(text), **options)

    def render(
        self, renderable: rich_console.RenderableType, options: rich_console.ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the segments to print, made printable except for rich's own control segments."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
