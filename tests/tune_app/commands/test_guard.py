"""Guard in front of a page: who may enter, and the requests that they may make."""

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import pytest
from werkzeug.test import Client, TestResponse
from werkzeug.wrappers import Response

from tune_app.commands.guard import Guard

PORT = 8123
HOST = f"127.0.0.1:{PORT}"


class Page:
    """Application that records the requests that reach it."""

    def __init__(self, status: int = 200, error: str = "") -> None:
        self.reached: list[str] = []
        self._status, self._error = status, error

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        self.reached.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        environ["wsgi.errors"].write(self._error)
        return Response("shown", self._status)(environ, start_response)


class Visitor:
    """Client that sends its cookie to any host, like a browser misled about who answers there."""

    def __init__(self, guard: Guard) -> None:
        self._client = Client(guard, use_cookies=False)
        self._cookie = ""
        self.address = urlsplit(guard.address(PORT, "/page", "place"))

    def ask(self, path: str, method: str = "GET", host: str = HOST, **headers: str) -> TestResponse:
        named = {"Host": host, "Cookie": self._cookie, **headers}
        return self._client.open(path, method=method, base_url=f"http://{HOST}", headers=named)

    def let_in(self) -> TestResponse:
        answer = self.ask(f"{self.address.path}?{self.address.query}")
        self._cookie = answer.headers["Set-Cookie"].partition(";")[0]
        return answer


def test_the_address_lets_in_once_and_for_all_and_then_holds_no_token() -> None:
    page = Page()
    visitor = Visitor(Guard("Page", page))
    assert visitor.address.fragment == "place"
    answer = visitor.let_in()
    assert (answer.status_code, answer.headers["Location"]) == (303, "/page")
    assert {"HttpOnly", "SameSite=Lax"} <= set(answer.headers["Set-Cookie"].split("; "))
    assert page.reached == []
    shown = visitor.ask("/page")
    assert (shown.status_code, shown.text) == (200, "shown")
    assert shown.headers["Referrer-Policy"] == "same-origin"
    assert page.reached == ["GET /page"]


@pytest.mark.parametrize("path", ["/", "/page", "/page?token=", "/page?token=wrong", "/page?token=%C3%A4"])
def test_without_the_token_nothing_is_shown(path: str) -> None:
    page = Page()
    answer = Visitor(Guard("Page", page)).ask(path)
    assert answer.status_code == 403
    assert "the address that headroom dashboard printed" in json.loads(answer.data)["message"]
    assert page.reached == []


def test_a_token_of_another_page_lets_nobody_in() -> None:
    other = Visitor(Guard("Other", Page()))
    visitor = Visitor(Guard("Page", Page()))
    assert visitor.ask(f"/page?{other.address.query}").status_code == 403


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        (HOST, None, 200),
        (HOST, f"http://{HOST}", 200),
        (f"localhost:{PORT}", f"http://localhost:{PORT}", 200),
        ("evil.example", None, 403),
        (f"evil.example:{PORT}", f"http://evil.example:{PORT}", 403),
        ("127.0.0.1", None, 403),
        ("127.0.0.1:1", None, 403),
        ("", None, 403),
        (HOST, "http://evil.example", 403),
        (HOST, "http://127.0.0.1:1", 403),
        (HOST, "null", 403),
    ],
)
def test_only_requests_of_the_page_itself_are_answered(host: str, origin: str | None, status: int) -> None:
    page = Page()
    visitor = Visitor(Guard("Page", page))
    visitor.let_in()
    answer = visitor.ask("/page", host=host, **({"Origin": origin} if origin else {}))
    assert answer.status_code == status
    assert len(page.reached) == (status == 200)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/page", 200),
        ("POST", "/runs/search", 200),
        ("POST", "/runs/search/", 403),
        ("POST", "//runs/search", 403),
        ("POST", "/runs/delete", 403),
        ("POST", "/", 403),
        ("PUT", "/runs/search", 403),
        ("PATCH", "/page", 403),
        ("DELETE", "/page", 403),
        ("OPTIONS", "/page", 403),
        ("GET", "/keys", 403),
        ("GET", "/keys?x=1", 403),
    ],
)
def test_requests_that_change_anything_are_refused(method: str, path: str, status: int) -> None:
    page = Page()
    visitor = Visitor(Guard("Page", page, readable="/runs/search", hidden="/keys"))
    visitor.let_in()
    assert visitor.ask(path, method).status_code == status
    assert len(page.reached) == (status == 200)


def test_an_error_of_a_page_is_reported_once() -> None:
    messages: list[str] = []
    visitor = Visitor(Guard("Page", Page(500, "Traceback\nKeyError: 'x'\n"), say=messages.append))
    visitor.let_in()
    for _ in range(2):
        assert visitor.ask("/page").status_code == 500
    assert messages == ["Page: /page was answered with 500 INTERNAL SERVER ERROR: KeyError: 'x'"]
