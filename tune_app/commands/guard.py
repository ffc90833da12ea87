"""Read-only view of another program's page, for anyone who has its address."""

import io
import json
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HOST = "127.0.0.1"

_TOKEN = "token"
_READ_METHODS = ("GET", "HEAD")
_NOTHING = r"(?!)"
_HEADERS = (
    # Other pages must not learn this page's address, nor embed it.
    ("Referrer-Policy", "same-origin"),
    ("X-Frame-Options", "SAMEORIGIN"),
)


class Guard:
    """WSGI application that allows reading a page and no writing.

    It answers requests that name this machine as their host, come from no other page, and hold its token. The token is
    in the address at first, and in a cookie from then on.

    Args:
        app: the page's own application, which must be reachable only through the guard.
        readable: pattern of the paths whose POST requests only read.
        hidden: pattern of the paths that are refused for every method.
        say: called with a line on each request that the application failed to answer.
    """

    def __init__(
        self,
        name: str,
        app: "WSGIApplication",
        *,
        readable: str = _NOTHING,
        hidden: str = _NOTHING,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._name = name
        self._app = app
        self._readable = re.compile(readable)
        self._hidden = re.compile(hidden)
        self._say = say
        self._token = secrets.token_urlsafe(32)
        self._failed: set[str] = set()

    def address(self, port: int, path: str = "/", fragment: str = "") -> str:
        """Return the address that opens a page; anyone who knows it may read."""
        return f"http://{HOST}:{port}{path}?{_TOKEN}={self._token}" + (f"#{fragment}" if fragment else "")

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        request = Request(environ)
        port = environ["SERVER_PORT"]
        if problem := self._problem(request, port):
            refusal = {"error_code": "PERMISSION_DENIED", "message": problem, "reason": problem}
            return Response(json.dumps(refusal), 403, mimetype="application/json")(environ, start_response)
        if _TOKEN in request.args:
            return self._let_in(request, port)(environ, start_response)
        return self._answer(request, environ, start_response)

    def _problem(self, request: Request, port: str) -> str | None:
        hosts = (f"{HOST}:{port}", f"localhost:{port}")
        if request.headers.get("Host") not in hosts:
            return "this page is only for this machine, under its own address"
        if request.headers.get("Origin") not in (None, *(f"http://{host}" for host in hosts)):
            return "the request comes from another page"
        given = request.args.get(_TOKEN) or request.cookies.get(_cookie(port)) or ""
        if not secrets.compare_digest(given.encode(), self._token.encode()):
            return "open the address that headroom dashboard printed; it holds a token"
        if not self._only_reads(request.method, request.environ["PATH_INFO"]):
            return "headroom dashboard is read-only: nothing can be changed here"
        return None

    def _only_reads(self, method: str, path: str) -> bool:
        if self._hidden.fullmatch(path):
            return False
        return method in _READ_METHODS or (method == "POST" and self._readable.fullmatch(path) is not None)

    def _let_in(self, request: Request, port: str) -> Response:
        """Redirect to the same address without its token, which so stays out of the browser's history."""
        answer = redirect(request.path, code=303, Response=Response)
        answer.set_cookie(_cookie(port), self._token, httponly=True, samesite="Lax")
        return answer

    def _answer(self, request: Request, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        errors = io.StringIO()
        environ["wsgi.errors"] = errors

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            if status.startswith("5") and request.path not in self._failed:
                self._failed.add(request.path)
                why = (errors.getvalue().strip().splitlines() or [""])[-1]
                self._say(f"{self._name}: {request.path} was answered with {status}" + (f": {why}" if why else ""))
            own = {name.lower() for name, _ in _HEADERS}
            passed_on = [(name, value) for name, value in headers if name.lower() not in own]
            return start_response(status, [*passed_on, *_HEADERS], exc_info)

        return self._app(environ, start)


def _cookie(port: str) -> str:
    # Browsers share cookies between all ports of a host.
    return f"headroom-{port}"


class _SilentHandler(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:
        """Print nothing: the guard reports requests that fail."""


@contextmanager
def served(guard: Guard) -> Iterator[int]:
    """Serve a guarded page on a free port of this machine, and yield the port."""
    server = make_server(HOST, 0, guard, threaded=True, request_handler=_SilentHandler)
    thread = threading.Thread(target=server.serve_forever, name="page", daemon=True)
    thread.start()
    try:
        yield server.port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
