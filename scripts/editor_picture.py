"""Picture of an editor's completion: docs/images/editor.png, drawn from the answers of the YAML language server.

    npm install yaml-language-server
    python scripts/editor_picture.py node_modules/.bin/yaml-language-server

The server gets a configuration with a misspelt setting and a section that was begun. The picture shows the problem that
it reports, the settings that it offers, and its description of the first; the window around them is drawn.
"""

import argparse
import html
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "editor.png"
SIZE = (900, 420)
OFFERED = 7
TEXT = """# yaml-language-server: $schema=schema.json
study:
  name: posts

train:
  batch_sze: 16

optim:
  """
PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #1e1e1e; color: #d4d4d4; font: 15px/22px monospace; }}
header {{ background: #323233; padding: 6px 14px; font: 13px sans-serif; }}
main {{ position: relative; padding: 10px 14px; white-space: pre; }}
i {{ font-style: normal; color: #6a9955; }} b {{ font-weight: normal; color: #569cd6; }}
u {{ text-decoration: #f14c4c wavy underline; text-underline-offset: 4px; }}
.offered, .about, .problem {{ position: absolute; background: #252526; border: 1px solid #454545; }}
.offered {{ left: 32px; top: {below}px; width: 220px; padding: 3px 0; }}
.offered div {{ padding: 0 10px; }} .offered div:first-child {{ background: #04395e; }}
.about {{ left: 256px; top: {below}px; width: 560px; padding: 8px 12px; }}
.about {{ white-space: pre-wrap; font: 14px/20px sans-serif; }}
.problem {{ left: 220px; top: {beside}px; padding: 3px 10px; color: #f48771; font: 14px/20px sans-serif; }}
</style><header>posts.yaml</header><main>{text}
<div class="problem">{problem}</div><div class="offered">{offered}</div><div class="about">{about}</div></main>"""


class Server:
    """YAML language server, asked over its standard input and output."""

    def __init__(self, program: str, folder: Path) -> None:
        self._process = subprocess.Popen([program, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._asked = 0
        self.ask("initialize", {"processId": None, "rootUri": folder.as_uri(), "capabilities": {}})
        self.notify("initialized", {})

    def notify(self, method: str, params: Any) -> None:
        self._send({"method": method, "params": params})

    def ask(self, method: str, params: Any) -> Any:
        self._asked += 1
        self._send({"id": self._asked, "method": method, "params": params})
        return self.wait(lambda message: message.get("id") == self._asked and "method" not in message)["result"]

    def wait(self, is_wanted: Any) -> Any:
        """Return the first message that is wanted; answer the server's own questions with nothing."""
        while True:
            message = self._receive()
            if is_wanted(message):
                return message
            if "id" in message and "method" in message:
                count = len(message["params"].get("items", [])) if isinstance(message.get("params"), dict) else 0
                self._send({"id": message["id"], "result": [None] * count if count else None})

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _send(self, message: dict[str, Any]) -> None:
        content = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(content), content))
        self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        stream = self._process.stdout
        assert stream is not None
        length = 0
        while line := stream.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if not length:
            sys.exit("the language server ended")
        return dict(json.loads(stream.read(length)))


def answers(program: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the problems that the server reports on the text, and what it offers at its end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(ROOT / "configs" / "schema.json", folder)
        uri = (folder / "posts.yaml").as_uri()
        server = Server(program, folder)
        try:
            document = {"uri": uri, "languageId": "yaml", "version": 1, "text": TEXT}
            server.notify("textDocument/didOpen", {"textDocument": document})
            reported = server.wait(lambda message: message.get("method") == "textDocument/publishDiagnostics")
            lines = TEXT.split("\n")
            position = {"line": len(lines) - 1, "character": len(lines[-1])}
            offered = server.ask("textDocument/completion", {"textDocument": {"uri": uri}, "position": position})
        finally:
            server.close()
    return reported["params"]["diagnostics"], offered["items"] if isinstance(offered, dict) else offered


def draw(problems: list[dict[str, Any]], offered: list[dict[str, Any]]) -> str:
    misspelt = next(problem for problem in problems if "batch_sze" in problem["message"])
    offered = sorted(offered, key=lambda item: item.get("sortText", item["label"]))
    about = offered[0].get("documentation", "")
    about = about["value"] if isinstance(about, dict) else about
    lines = []
    for number, line in enumerate(TEXT.split("\n")):
        key, colon, value = html.escape(line).partition(":")
        shown = f"<i>{html.escape(line)}</i>" if line.startswith("#") else f"<b>{key}</b>{colon}{value}"
        if number == misspelt["range"]["start"]["line"]:
            shown = shown.replace("batch_sze", "<u>batch_sze</u>")
        lines.append(shown)
    top = 10
    return PAGE.format(
        text="\n".join(lines),
        below=top + 22 * len(lines),
        beside=top + 22 * misspelt["range"]["start"]["line"],
        problem=html.escape(misspelt["message"]),
        offered="".join(f"<div>{html.escape(item['label'])}</div>" for item in offered[:OFFERED]),
        about=html.escape(about.strip()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", help="the program yaml-language-server")
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("Chromium is not installed (apt-get install chromium)")
    page = draw(*answers(parser.parse_args().server))
    with tempfile.TemporaryDirectory() as folder:
        file, shot = Path(folder) / "editor.html", Path(folder) / "editor.png"
        file.write_text(page, encoding="utf-8")
        window = f"--window-size={SIZE[0]},{SIZE[1]}"
        subprocess.run(
            [
                *(browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *(window, f"--screenshot={shot}", file.as_uri()),
            ],
            check=True,
            capture_output=True,
        )
        Image.open(shot).convert("RGB").quantize(64).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
