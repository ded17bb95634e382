"""Trying again what the Hub refused for a moment, and one clear error for what it refuses for good."""

from __future__ import annotations

import logging
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, TypeVar

from datasets.exceptions import DatasetsError
from huggingface_hub import constants
from huggingface_hub.errors import OfflineModeIsEnabled
from yaml import YAMLError

from hf_unlearnable.data.patience import PATIENCE, TRANSIENT, HTTPError, NoAnswer, Patience, waiting
from hf_unlearnable.errors import (
    AccessError,
    DataError,
    HubError,
    RecipeError,
    UnlearnableError,
    causes,
    first_line,
    worded,
)
from hf_unlearnable.progress import tell
from hf_unlearnable.settings import Count, NotNegative, Positive, check_fields

logger = logging.getLogger(__name__)

# What the clients raise for a failed push or pull. KeyError: an answer without what they look for in it.
# YAMLError: the header of a card that somebody wrote there.
CAUGHT = (HTTPError, DatasetsError, YAMLError, RuntimeError, OSError, ValueError, KeyError)

LONGEST = 300.0  # seconds of one wait

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Retry:
    """How often and how patiently to try.

    Args:
        attempts: in all, at least 1.
        delay: seconds before the second attempt; each further wait is twice as long, with some jitter so that two
            pushes do not meet again, or as long as the Hub asks for.
        patience: seconds without an answer, or with nothing but faults that may pass, after which to give up whatever
            the number of attempts; a single request gets a fifth of them. Data that move are no silence.

    Raises:
        RecipeError: out of range.
    """

    attempts: Count = 5
    delay: NotNegative = 2.0
    patience: Positive = PATIENCE

    def __post_init__(self) -> None:
        check_fields(self)

    def run(self, work: Callable[[], T], name: str) -> T:
        """Do the work; after a transient fault say so and do it again.

        Args:
            work: what may be repeated whole.
            name: of the work, for the message.

        Raises:
            Exception: whatever the last attempt raised.
        """
        for attempt in range(1, self.attempts + 1):
            try:
                if name:
                    tell(name)
                return work()
            except CAUGHT as error:
                if attempt >= self.attempts or not is_transient(error):
                    raise
                wait = min(self.delay * 2 ** (attempt - 1) * random.uniform(1, 1.5), max(0.0, waiting().left))
                wait = min(LONGEST, max(wait, _asked(error)))
                again = f"{name}: {describe(error)}. Attempt {attempt + 1} of {self.attempts} in {wait:.0f} s."
                logger.warning("%s", again)
                tell(again)
                time.sleep(wait)
        raise AssertionError("at least one attempt returns or raises")


def patiently(work: Callable[P, T]) -> Callable[P, T]:
    """Bound the time that a function with a keyword ``retry`` waits for a silent Hub, whatever it asks there."""

    @wraps(work)
    def bounded(*args: P.args, **options: P.kwargs) -> T:
        retry = options.get("retry", Retry())
        if not isinstance(retry, Retry):
            raise RecipeError(f"got {retry!r} as retry; expected a Retry, which says how many attempts to make")
        with Patience(retry.patience):
            return work(*args, **options)

    return bounded


def require_network(what: str) -> None:
    """Refuse at once what needs the Hub where the network is forbidden: caches would answer, with what was.

    Raises:
        HubError: it is.
    """
    if constants.HF_HUB_OFFLINE:
        raise HubError(f"cannot {what}: HF_HUB_OFFLINE is set, which forbids the network; unset it. Nothing was done")


def describe(error: BaseException) -> str:
    """What went wrong, in one line."""
    if ours := _ours(error):
        return str(ours)
    status = status_of(error)
    said = first_line(_http(error) or error)  # type: ignore[arg-type]
    if any(isinstance(cause, socket.gaierror) for cause in causes(error)):
        return f"no way to the Hub, whose address is not known here ({said}); is this machine on the internet?"
    if isinstance(error, KeyError):
        return f"its answer is not what the clients expect: nothing called {error} in it"
    return f"the Hub answered {status} ({said})" if status else said


def is_transient(error: BaseException) -> bool:
    """Whether the same request may well succeed a little later."""
    if _ours(error) or any(isinstance(link, OfflineModeIsEnabled) for link in causes(error)):
        return False
    status = status_of(error)
    if status is not None:
        return status in TRANSIENT
    # A connection refused, cut or timed out: the HTTP client's errors, or the builtin ones that datasets raises.
    return _http(error) is not None or isinstance(error, (ConnectionError, TimeoutError))


def explain(error: BaseException, what: str, standing: str) -> UnlearnableError:
    """Turn what the clients raised into one of our errors.

    Args:
        error: any of ``CAUGHT``.
        what: was tried, as in ``"push to me/art"``.
        standing: what is there now, and how to go on.
    """
    status = None if _ours(error) else status_of(error)
    if isinstance(error, UnlearnableError) and not isinstance(error, NoAnswer):
        return error
    if status == 401:
        return AccessError(
            f"cannot {what}: the Hub does not accept the token ({describe(error)}). "
            f"{_token('Log in with a valid one', 'Give a valid one')}. {standing}"
        )
    if status in (402, 403):
        return AccessError(
            f"cannot {what}: the token may not do that ({describe(error)}). Expected one with write access to this "
            f"namespace; make it in the settings of your account and {_token('log in with it', 'give it here')}. "
            f"{standing}"
        )
    if any(isinstance(link, OfflineModeIsEnabled) for link in causes(error)):
        return HubError(f"cannot {what}: HF_HUB_OFFLINE is set, which forbids the network; unset it. {standing}")
    if isinstance(error, YAMLError):
        said = " ".join(str(error).split())
        return DataError(
            f"cannot {what}: the header of README.md in the repository is no YAML that a card may hold ({said}). "
            f"Repair it there. {standing}"
        )
    if status is None and isinstance(error, ValueError):
        return RecipeError(f"cannot {what}: {' '.join(str(error).split()).rstrip('.')}. {standing}")
    return HubError(f"cannot {what}: {describe(error)}. {standing}")


def _token(log_in: str, give: str) -> str:
    """What to do about a token: on a page it is typed for every push."""
    return worded(python=f"{log_in}: hf auth login", shell=f"{log_in}: hf auth login", browser=give)


def _ours(error: BaseException) -> UnlearnableError | None:
    """Ours among the errors that led to this one: the clients wrap some."""
    return next((link for link in causes(error) if isinstance(link, UnlearnableError)), None)


def _http(error: BaseException) -> Exception | None:
    """The HTTP client's among them: an upload that failed for good is a bare RuntimeError with its cause."""
    return next((link for link in causes(error) if isinstance(link, HTTPError)), None)


def status_of(error: BaseException) -> int | None:
    """What the Hub answered; None if it did not."""
    # Of the first one only: a connection that is cut while a 404 is being handled is no 404.
    response = getattr(_http(error), "response", None)
    return None if response is None else int(response.status_code)


def _asked(error: BaseException) -> float:
    """The seconds that the Hub asks to wait for, 0 if it does not."""
    response = getattr(_http(error), "response", None)
    given = "" if response is None else response.headers.get("Retry-After", "")
    return float(given) if given.isdigit() else 0.0
