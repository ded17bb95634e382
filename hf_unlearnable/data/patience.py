"""Waiting for the Hub, with an end: the clients wait for ever where nobody answers, and as long as they are told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from huggingface_hub import HfApi, set_client_factory
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import _http

from hf_unlearnable.errors import HubError, worded

# The base of all errors of the HTTP client under huggingface_hub (httpx or httpx2): a connection that is cut ends in
# one of these, which is neither an OSError nor an HfHubHTTPError.
HTTPError: type[Exception] = next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")

PATIENCE = 300.0  # seconds without an answer after which we give up
ONE_REQUEST = 0.2  # of them may pass before a single request is given up, so that there is something to tell meanwhile
CONNECT = 10.0  # seconds for a connection

# 409 and 412: another commit came in between. Neither huggingface_hub nor datasets tries these again.
TRANSIENT = {408, 409, 412, 425, 429, 500, 502, 503, 504}

_active: list[Patience] = []
_lock = threading.Lock()
_installed = False


class NoAnswer(HubError):
    """The Hub was silent for as long as we wait; whoever asked says what that leaves."""


class Patience:
    """While the block runs every request to the Hub has a time limit, and so has the time without a real answer.

    Uploads and downloads that move are no silence, however long they take. Answers to other requests do not end it: a
    push that is tried again and again up to the same point is not answered there. Threads share it, since the clients
    send from several. Transfers through Xet (``hf_xet``) have limits of their own, but the requests around them have
    these.

    Args:
        seconds: from the first time that a request is not answered, or answered with a fault that may pass, until
            giving up.
    """

    def __init__(self, seconds: float = PATIENCE) -> None:
        self.seconds = seconds
        self._silent_since: dict[str, float] = {}  # by request
        self._latest = ""

    def __enter__(self) -> Patience:
        _install()
        _active.append(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _active.remove(self)

    @property
    def left(self) -> float:
        """Seconds until giving up on the request that failed last."""
        return self._left(self._latest)

    def _left(self, request: str) -> float:
        now = time.monotonic()
        return self.seconds - (now - self._silent_since.get(request, now))

    def _check(self, request: str, asked: float = 0.0) -> None:
        if (left := self._left(request)) <= asked:
            wait = f" but to wait {asked:.0f} s" if asked else f" for {self.seconds - left:.0f} s"
            more = worded(python=" (Retry(patience=…))", shell=" (--patience)", browser="")
            raise NoAnswer(f"no answer{wait} ({request}); the limit is {self.seconds:g} s{more}")

    def send(self, send: Callable[..., Any], request: Any, options: dict[str, Any]) -> Any:
        """Send a request with time limits, and note whether it was answered.

        Raises:
            NoAnswer: it was not for too long, or is not to be for longer.
            Exception: what the client raises.
        """
        what = f"{request.method} {request.url.copy_with(query=None)}"
        self._check(what)
        limit = max(0.001, self.seconds * ONE_REQUEST)
        given = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {
            kind: min(most, given.get(kind) or most)
            for kind, most in {"connect": min(CONNECT, limit), "read": limit, "write": limit, "pool": limit}.items()
        }
        try:
            response = send(request, **options)
        except Exception:
            self._silent(what)
            raise
        if response.status_code not in TRANSIENT:
            self._silent_since.pop(what, None)
            return response
        self._silent(what)
        if (asked := response.headers.get("Retry-After", "")).isdigit():
            self._check(what, float(asked))  # the clients would sleep that long
        return response

    def _silent(self, request: str) -> None:
        self._silent_since.setdefault(request, time.monotonic())
        self._latest = request


def waiting() -> Patience:
    """The one of the block that runs, or one of its own."""
    return _active[-1] if _active else Patience()


def only_here(model: str) -> bool:
    """Whether a model can be looked for on this machine alone, since the Hub does not answer.

    It is asked once: the loaders of transformers would ask on for a minute, with a line for each attempt.

    Args:
        model: folder or Hub id.
    """
    if Path(model).exists():
        return False
    try:
        HfApi().model_info(model, timeout=CONNECT)
    except (HfHubHTTPError, ValueError):  # an answer, or a name for which nobody is asked: the loading says more
        return False
    except (HTTPError, OSError):
        return True
    return False


def _install() -> None:
    """Let every client of huggingface_hub from now on ask the block that runs; outside of one it is as it was."""
    global _installed
    with _lock:
        if _installed:
            return
        make = _http._GLOBAL_CLIENT_FACTORY  # the user's, where there is one

        def factory() -> Any:
            client: Any = make()
            send = client.send

            def bounded(request: Any, **options: Any) -> Any:
                return _active[-1].send(send, request, options) if _active else send(request, **options)

            client.send = bounded
            return client

        set_client_factory(factory)
        _installed = True
