"""A report in headless Chromium: no error, every plot drawn, tables sort, nothing is wider than the screen."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tune_app.objectives import Objective
from tune_app.report.page import write_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed (apt-get install chromium)"),
]


class Chromium:
    """Headless Chromium, driven by its DevTools protocol over a pair of pipes.

    Attributes:
        problems: errors on the console and uncaught exceptions since the last page was opened.
        requests: URLs that the page asked for since then.
    """

    def __init__(self, program: str) -> None:
        self._folder = tempfile.mkdtemp(prefix="chromium-")
        (ours_in, theirs_out), (theirs_in, ours_out) = os.pipe(), os.pipe()
        arguments = [
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--no-first-run"),
            *("--remote-debugging-pipe", f"--user-data-dir={self._folder}", "about:blank"),
        ]
        self._process = subprocess.Popen(
            # Chromium reads commands from descriptor 3 and writes answers to descriptor 4.
            ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", program, *arguments],
            pass_fds=(theirs_in, theirs_out),
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._answers, self._commands = ours_in, ours_out
        self._unread, self._sent, self._session = b"", 0, ""
        self.problems: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Run a command and return its result; note the events that come before it."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._sent:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            self._note(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            part = os.read(self._answers, 2**20)
            assert part, "Chromium ended"
            self._unread += part
        content, _, self._unread = self._unread.partition(b"\0")
        return dict(json.loads(content))

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(parameters["exceptionDetails"])[:500])
        elif event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.problems.append(parameters["entry"]["text"])
        elif event.get("method") == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
            self.problems.append(json.dumps(parameters["args"])[:500])
        elif event.get("method") == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])

    def open(self, file: Path, width: int, *, scheme: str = "light") -> None:
        """Show a report in a window of a width in pixels, and wait until its plots are drawn."""
        self.problems, self.requests = [], []
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=file.absolute().as_uri())
        end = time.monotonic() + 60
        while not self.value("document.documentElement?.dataset.drawn"):
            assert time.monotonic() < end, f"the plots were not drawn: {self.problems}"
            time.sleep(0.05)

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, file: Path) -> None:
        """Save a picture of the whole page."""
        content = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(content["data"]))

    def print(self, file: Path) -> None:
        """Save the page as it is printed."""
        file.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"]))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    assert BROWSER is not None
    browser = Chromium(BROWSER)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def report(written_search: Callable[..., Any]) -> Path:
    study = written_search(60, (Objective("seconds_per_sample", "min"),))
    return write_report(study.store, study.config, study.run_dir, study.run_dir / "report.html")


@pytest.mark.parametrize("width", [400, 1400])
def test_every_plot_is_drawn_and_nothing_is_wider_than_the_screen(chromium: Chromium, report: Path, width: int) -> None:
    chromium.open(report, width)
    plots = chromium.value("document.querySelectorAll('.plot').length")
    assert plots > 12
    assert chromium.value("document.documentElement.dataset.drawn") == str(plots)
    drawn = "[...document.querySelectorAll('.plot')].filter((one) => one.querySelector('svg .trace, svg .hm image'))"
    assert chromium.value(f"{drawn}.length") == plots
    assert chromium.value("document.documentElement.scrollWidth") <= width
    assert chromium.problems == []
    assert {url for url in chromium.requests if not url.startswith("data:")} == {report.as_uri()}


def column(chromium: Chromium, name: str) -> list[str]:
    """Return the cells of a column of the trials' table in their order."""
    return list(
        chromium.value(
            "(() => { const table = document.getElementById('trials');"
            f" const at = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === {name!r});"
            " return [...table.tBodies[0].rows].map((row) => row.cells[at].textContent); })()"
        )
    )


def press(chromium: Chromium, name: str) -> None:
    """Press Enter on a heading of the trials' table."""
    chromium.value(
        f"[...document.querySelectorAll('#trials th button')].find((button) => button.textContent === {name!r}).focus()"
    )
    for kind in ("keyDown", "keyUp"):
        chromium.call(
            "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13
        )


def test_the_table_sorts_by_keyboard_and_shows_one_outcome(chromium: Chromium, report: Path) -> None:
    chromium.open(report, 1400)
    press(chromium, "trial")
    assert column(chromium, "trial") == [str(number) for number in range(60)]
    press(chromium, "trial")
    assert column(chromium, "trial") == [str(number) for number in reversed(range(60))]
    assert chromium.value("document.querySelectorAll('th[aria-sort=descending]').length") == 1
    press(chromium, "macro_f1")
    values = column(chromium, "macro_f1")
    measured = [float(value) for value in values if value]
    assert values == [value for value in values if value] + [""] * values.count(""), "empty cells come last"
    assert measured == sorted(measured)
    chromium.value(
        "(() => { const box = document.getElementById('outcome'); box.value = 'failed';"
        " box.dispatchEvent(new Event('change')); })()"
    )
    shown = chromium.value(
        "[...document.querySelectorAll('#trials tbody tr:not([hidden])')].map((r) => r.dataset.outcome)"
    )
    assert set(shown) == {"failed"}
    assert chromium.problems == []


def test_plots_follow_the_colour_scheme_and_are_light_on_paper(
    chromium: Chromium, report: Path, tmp_path: Path
) -> None:
    def ink() -> str:
        return str(chromium.value("getComputedStyle(document.querySelector('#history .xtick text')).fill"))

    chromium.open(report, 1400)
    light = ink()
    chromium.open(report, 1400, scheme="dark")
    assert ink() != light
    assert chromium.value("getComputedStyle(document.body).backgroundColor") == "rgb(15, 20, 26)"
    chromium.value(
        "window.inks = []; addEventListener('beforeprint', () =>"
        " inks.push(getComputedStyle(document.querySelector('#history .xtick text')).fill))"
    )
    chromium.print(tmp_path / "report.pdf")
    assert chromium.value("inks") == [light]
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    assert chromium.problems == []
