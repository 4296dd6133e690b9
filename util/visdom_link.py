"""A line to a visdom server that may be missing, slow, or gone in the middle of a run, without the run noticing.

Every request has its own short time limit. When one fails the link is given up with one logged line, and tried again
only after a number of further calls, which doubles each time it fails again.
"""
import logging
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlparse

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 1.5
FIRST_SECONDS = 2.5  # for the whole of the first contact, a slow look-up of the server's name included
RETRY_CALLS = 25
MAX_RETRY_CALLS = 800


class VisdomLink:
    """`link.draw(lambda visdom: visdom.text(...))` draws if a server answers, and returns whether it did."""

    def __init__(self, server: str, port: int, env: str) -> None:
        self.server, self.port, self.env = server, port, env
        self._visdom: Any = None
        self._wait = RETRY_CALLS  # calls to let pass before the next attempt
        self._passed = 0
        self._usable = True
        logging.getLogger("visdom").setLevel(logging.ERROR)  # it warns about every session it opens
        reason = self._connect()
        if reason:
            hint = f"start one with `python -m visdom.server -port {port}`, or switch this off with --display_id 0"
            logger.info("visdom: %s; the run goes on without it (%s)", reason, hint)

    @property
    def connected(self) -> bool:
        return self._visdom is not None

    def draw(self, action: Callable[[Any], object]) -> bool:
        """Call `action` with the visdom client; nothing that goes wrong in it reaches the caller."""
        if self._visdom is None and not self._try_again():
            return False
        try:
            action(self._visdom)
        except Exception as error:  # also what visdom itself does wrong: watching must never end a run
            self._visdom = None
            self._passed = 0
            logger.warning(
                "visdom: no answer from %s any more (%s); the run goes on, the line is tried again from time to time",
                self._address(), _first_line(error),
            )
            return False
        self._wait = RETRY_CALLS
        return True

    def _try_again(self) -> bool:
        self._passed += 1
        if not self._usable or self._passed < self._wait:
            return False
        self._passed = 0
        self._wait = min(self._wait * 2, MAX_RETRY_CALLS)
        if self._connect():
            return False
        logger.info("visdom: connected to %s", self._address())
        return True

    def _connect(self) -> str | None:
        """Open the line; returns what stood in the way, or None."""
        try:
            client = _client_class()
        except Exception as error:  # not installed, or installed in a state that does not import
            self._usable = False
            return f"the package cannot be used ({_first_line(error)}), `pip install visdom` brings it"
        outcome: list[Any] = []
        where = {"server": self.server, "port": self.port, "env": self.env}

        def open_line() -> None:
            try:
                outcome.append(client(**where, use_incoming_socket=False, raise_exceptions=True))
            except Exception as error:
                outcome.append(error)

        # In a thread, because looking up a server's name has no time limit of its own.
        thread = threading.Thread(target=open_line, daemon=True)
        thread.start()
        thread.join(FIRST_SECONDS)
        if not outcome:
            return f"{self._address()} gives no answer"
        if isinstance(outcome[0], Exception):
            return f"no server answers at {self._address()}"
        self._visdom = outcome[0]
        return None

    def _address(self) -> str:
        return f"{self.server}:{self.port}"


def _client_class() -> type[Any]:
    """visdom's client with a time limit on every request. Made late: importing visdom takes a second."""
    from visdom import Visdom

    class Client(Visdom):
        session: Any                # of requests, on which visdom sends all it says

        def _handle_post(self, url: str, data: Any = None) -> str:
            if urlparse(url).hostname in ("localhost", "127.0.0.1", "::1"):
                self.session.trust_env = False  # a hospital's proxy knows nothing of a server on this machine
            answer = self.session.post(url, data=data or {}, timeout=(CONNECT_SECONDS, ANSWER_SECONDS))
            if not answer.ok:  # something else listens there, or it wants a login
                raise ConnectionError(f"status {answer.status_code}")
            return answer.text

    return Client


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
