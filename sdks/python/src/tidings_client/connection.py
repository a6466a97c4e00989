"""The life of the client's connection: when to connect, when to give one up, when to stop. PROTOCOL.md §1, §5, §6, §7.

It knows nothing of rooms and requests.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from dataclasses import dataclass, field
from typing import Any, Awaitable, Callable, Dict, Literal, Mapping, Optional, Protocol, Set, Union
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from .backoff import Backoff
from .clock import Alarm, Clock
from .protocol import Frame, Reconnect, ServerMessage, Welcome, decode, reaction

_HEARTBEAT_AFTER_S = 25.0
"""Nothing was sent for so long: a heartbeat is due."""
_SILENCE_MAX_S = 75.0
"""Nothing was heard for so long: the connection is taken for dead."""
_CONNECT_MAX_S = 20.0
"""From asking for a token to the welcome."""
_STABLE_AFTER_S = 60.0
"""A connection that held this long makes the backoff start anew."""
_PRESSURE_WAIT_MIN_S = 1.0
"""The shortest wait after a close for pressure (41xx)."""
_TOLD_WAIT_MAX_S = 600.0
"""The longest wait that a server can ask for: what it says is no reason to stay away for good."""
_CLOSE_MAX_S = 3.0
"""How long the end waits for what is left: more than a socket takes to close."""

# Why the client closes: only after _NORMAL is it gone for good, and the others are told at once.
_NORMAL = 1000
_HEARTBEAT_TIMEOUT = 4110
_DRAINING = 4200

State = Literal["connecting", "connected", "reconnecting", "refused", "closed"]
"""`connecting` and `reconnecting` end by themselves; `refused` ends by `reconnect()`; `closed` never."""


_log = logging.getLogger("tidings_client")


@dataclass(frozen=True)
class ConnectionFault:
    """Why there is no connection, as far as is known."""

    status: Optional[int]
    """The HTTP status of a refused handshake, or the close code of a connection."""
    code: Optional[str]
    """The refusal's code (`token_expired`, `origin_not_allowed` …); none for a close."""
    message: str
    """In words, for people, with what would help."""


class ConnectionFailed(Exception):
    """There is no connection, and none comes by itself: the client is `refused`, or the server has closed it for good."""

    def __init__(self, state: State, fault: Optional[ConnectionFault]) -> None:
        what = [str(part) for part in (fault.status, fault.code, fault.message) if part] if fault else []
        super().__init__(" ".join([state, *what]))
        self.state: State = state
        self.fault = fault


class TokenProvider(Protocol):
    """Asked at every connect; `fresh` says that the last token was refused or has ended. None: nobody is logged in."""

    def __call__(self, *, fresh: bool) -> Union[Optional[str], Awaitable[Optional[str]]]: ...


@dataclass(frozen=True)
class Answer:
    """What a server says over HTTP instead of opening a WebSocket."""

    status: int
    problem: Mapping[str, Any] = field(default_factory=dict)
    """RFC 9457: `code`, `detail`, `fix`."""
    retry_after_s: float = 0.0


class HandshakeFailed(Exception):
    """A handshake came to nothing; `answer` is none if whoever said so was not the server itself."""

    def __init__(self, answer: Optional[Answer]) -> None:
        super().__init__(answer)
        self.answer = answer


class SocketOwner(Protocol):
    """Who is told what comes over a socket."""

    def received(self, frame: Frame) -> None: ...

    def heard(self) -> None:
        """A sign of life, whatever it was."""

    def closed(self, code: Optional[int], reason: str) -> None:
        """It ended, without a close frame if `code` is none."""


class Socket(Protocol):
    """A WebSocket that is open. After `close` it tells its owner nothing any more."""

    @property
    def waiting(self) -> int:
        """How many frames the network has not taken yet."""
        ...

    def send(self, frame: Frame) -> None: ...

    def close(self, code: int) -> None: ...

    async def wait_closed(self) -> None: ...


@dataclass(frozen=True)
class World:
    """What a client takes from outside of it. Tests have their own."""

    clock: Clock
    random: Callable[[], float]
    """Draws from [0, 1)."""
    dial: Callable[[str, Optional[str], SocketOwner], Awaitable[Socket]]
    """Opens a WebSocket to a URL with a token. Raises `HandshakeFailed`; `OSError` if nobody was reached; `ValueError` if
    there can't be such a URL or token."""
    ask: Callable[[str, Optional[str]], Awaitable[Answer]]
    """A plain GET of the URL with the token. Raises `OSError`."""


class Owner(Protocol):
    def query(self) -> Dict[str, str]:
        """What the next handshake asks for beside its token."""
        ...

    def message(self, message: ServerMessage) -> None: ...

    def lost(self) -> None:
        """There is no connection any more, and none will come back: the next one is another."""

    def changed(self, state: State) -> None: ...

    def heartbeat(self) -> Frame: ...


class _Attempt:
    """One attempt's ears: what belongs to an earlier one is not heard any more."""

    def __init__(self, connection: Connection, fresh: bool) -> None:
        self._connection = connection
        self.has_fresh_token = fresh
        self.is_current = True

    def received(self, frame: Frame) -> None:
        if self.is_current:
            self._connection._received(frame)

    def heard(self) -> None:
        if self.is_current:
            self._connection._heard()

    def closed(self, code: Optional[int], reason: str) -> None:
        if self.is_current:
            self._connection._closed(code, reason)


class Connection:
    def __init__(self, url: str, token: Union[str, TokenProvider, None], world: World, owner: Owner) -> None:
        if token is not None and not isinstance(token, str) and not callable(token):
            raise TypeError(f"token is a str or a function, and not {type(token).__name__}")
        self.state: State = "connecting"
        self.fault: Optional[ConnectionFault] = None
        self._url = url
        self._token = token
        self._world = world
        self._owner = owner
        self._alarm = Alarm(world.clock, self._tick)
        self._backoff = Backoff(world.random)
        # Lost: there is none, and what comes next is not decided yet.
        self._phase: Literal["idle", "waiting", "opening", "open", "lost", "over"] = "idle"
        self._since = self._heard_at = self._sent_at = 0.0
        self._until = math.inf
        self._attempt: Optional[_Attempt] = None
        self._opening: Optional[asyncio.Task[None]] = None
        self._socket: Optional[Socket] = None
        self._ending: Set[asyncio.Task[None]] = set()
        self._has_tried_once = False
        """Another 1002, 1003, 1007 or 1009 is one too many."""
        self._needs_fresh_token = False
        self._move_at = math.inf
        """When `session.reconnect` wants us to move."""

    def start(self) -> None:
        """Begins to connect; once is enough. Raises `RuntimeError` where no event loop runs."""
        if self._phase == "idle":
            # Before anything has changed: who has tried it there may do it in a loop later.
            asyncio.get_running_loop()
            self._wait_until(self._now())

    @property
    def waiting(self) -> int:
        """How many frames the network has not taken yet."""
        return 0 if self._socket is None else self._socket.waiting

    def send(self, frame: Frame) -> None:
        """Sends a frame over the connection; there must be one."""
        self._sent_at = self._now()
        if self._socket is not None:
            self._socket.send(frame)

    def reconnect(self) -> None:
        """Tries again now: after a refusal, or because the network is back."""
        is_refused = self.state == "refused"
        if not is_refused and self._phase != "waiting":
            return
        self._needs_fresh_token = self._needs_fresh_token or is_refused
        # What failed while there was no network says nothing about the server.
        self._backoff.reset()
        self._wait_until(self._now())

    def close(self) -> None:
        """Ends it for good."""
        self._let_go(_NORMAL)
        self._lose()
        self._end("closed")

    async def wait_closed(self) -> None:
        """Waits until nothing of it is left."""
        if self._ending:
            _, late = await asyncio.wait(self._ending, timeout=_CLOSE_MAX_S)
            for task in late:
                task.cancel()

    def restart(self, why: str) -> None:
        """Gives the connection up and makes another."""
        if self._phase in ("open", "opening"):
            self._let_go(_HEARTBEAT_TIMEOUT)
            self.fault = ConnectionFault(None, None, why)
            self._settle_backoff()
            if self._lose():
                self._wait(0)

    def _now(self) -> float:
        return self._world.clock.now()

    def _arm(self) -> None:
        if self._phase == "waiting":
            self._alarm.set(self._until)
        elif self._phase == "opening":
            self._alarm.set(self._since + _CONNECT_MAX_S)
        elif self._phase == "open":
            silent = self._heard_at + _SILENCE_MAX_S
            self._alarm.set(min(silent, self._sent_at + _HEARTBEAT_AFTER_S, self._move_at))
        else:
            self._alarm.set(math.inf)

    def _tick(self) -> None:
        now = self._now()
        if self._phase == "waiting" and self._until <= now:
            self._begin()
        elif self._phase == "opening" and self._since + _CONNECT_MAX_S <= now:
            self.restart(f"the server did not answer within {_CONNECT_MAX_S:.0f} s")
        elif self._phase == "open":
            if self._move_at <= now:
                self._let_go(_DRAINING)
                self._settle_backoff()
                if self._lose():
                    self._wait_until(now)
            elif self._heard_at + _SILENCE_MAX_S <= now:
                self.restart(f"nothing was heard from the server for {_SILENCE_MAX_S:.0f} s")
            elif self._sent_at + _HEARTBEAT_AFTER_S <= now:
                self.send(self._owner.heartbeat())
        self._arm()

    def _begin(self) -> None:
        attempt = self._attempt = _Attempt(self, self._needs_fresh_token)
        self._needs_fresh_token = False
        self._phase = "opening"
        self._since = self._now()
        self._opening = asyncio.get_running_loop().create_task(self._open(attempt))
        self._arm()

    async def _open(self, attempt: _Attempt) -> None:
        try:
            token = await self._ask_token(attempt.has_fresh_token)
        except Exception as error:
            # Whoever gives the tokens may be as hard to reach as the server.
            _log.warning("the token provider raised", exc_info=True)
            self.fault = ConnectionFault(None, None, f"the token provider raised {error!r}")
            return self._wait(0)
        if self._token is not None and token is None:
            return self._refuse(401, "token_missing", "nobody is logged in")
        if token is not None and not isinstance(token, str):
            # The bytes of a library, or the whole answer of whoever gives the tokens.
            return self._refuse(None, None, f"the token provider gave {type(token).__name__}, and a token is a str")
        try:
            socket = await self._world.dial(self._full_url(), token, attempt)
        except HandshakeFailed as failed:
            return await self._learn_why(failed.answer, token, attempt.has_fresh_token)
        except (OSError, asyncio.TimeoutError) as error:
            # Before what is a ValueError: a certificate that can't be verified is both, and may be that of somebody who
            # stands between here and there only for now.
            return self._fail(error)
        except ValueError as error:
            # There is no such URL, or no such token: trying again would not help.
            return self._refuse(None, None, str(error))
        except Exception as error:
            # What nobody has foreseen: an attempt that ended without a word would be waited for.
            _log.warning("connecting failed", exc_info=True)
            return self._fail(error)
        self._socket = socket
        ending = asyncio.get_running_loop().create_task(socket.wait_closed())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def _ask_token(self, fresh: bool) -> Optional[str]:
        if self._token is None or isinstance(self._token, str):
            return self._token
        token = self._token(fresh=fresh)
        return await token if inspect.isawaitable(token) else token

    def _full_url(self, scheme: str = "ws") -> str:
        url = urlsplit(self._url)
        query = [
            *parse_qsl(url.query, keep_blank_values=True),
            *(self._owner.query().items() if scheme == "ws" else ()),
        ]
        return urlunsplit(url._replace(scheme=url.scheme.replace("ws", scheme), query=urlencode(query)))

    def _heard(self) -> None:
        self._heard_at = self._now()

    def _received(self, frame: Frame) -> None:
        message = decode(frame)
        now = self._heard_at = self._now()
        attempt = self._attempt
        begins = isinstance(message, Welcome) and self._phase == "opening"
        if begins:
            self._phase = "open"
            self._since = self._sent_at = now
            self.fault = None
            self.state = "connected"
            self._arm()
        elif isinstance(message, Reconnect):
            # The moment is drawn now, and holds also if the close comes earlier.
            after_s = min(message.after_ms / 1000, _TOLD_WAIT_MAX_S)
            window_s = max(0.0, min(message.within_ms / 1000, _TOLD_WAIT_MAX_S) - after_s)
            self._move_at = now + after_s + self._world.random() * window_s
            self._arm()
        self._owner.message(message)
        # Whoever hears of it knows who he is, and can send. A listener may have closed it.
        if begins and self._attempt is attempt:
            self._owner.changed("connected")

    def _closed(self, code: Optional[int], reason: str) -> None:
        self._forget_attempt()
        self.fault = ConnectionFault(code, None, reason)
        self._settle_backoff()
        if not self._lose():
            return
        moment = self._move_at
        what = reaction(code)
        if what == "stop" or (what == "try_once" and self._has_tried_once):
            self._end("closed")
        elif what == "back_off_at_least_a_second":
            self._wait(_PRESSURE_WAIT_MIN_S)
        elif what == "reconnect_in_window" and moment != math.inf:
            self._wait_until(moment)
        else:
            self._has_tried_once = self._has_tried_once or what == "try_once"
            self._needs_fresh_token = self._needs_fresh_token or what == "refresh_token"
            self._wait(0)

    async def _learn_why(self, answer: Optional[Answer], token: Optional[str], token_was_fresh: bool) -> None:
        """Decides what becomes of a handshake that failed. What was not the server's own answer may be a proxy's, to whom
        the upgrade was foreign: the same URL as a plain request says whether the server has a reason."""
        if answer is None:
            try:
                answer = await self._world.ask(self._full_url("http"), token)
            except (OSError, asyncio.TimeoutError) as error:
                return self._fail(error)
        problem = answer.problem
        words = "; ".join(str(problem[name]) for name in ("detail", "fix") if problem.get(name))
        code = problem.get("code") if isinstance(problem.get("code"), str) else None
        if answer.status == 401 and not token_was_fresh and callable(self._token):
            self.fault = ConnectionFault(answer.status, code, words)
            self._needs_fresh_token = True
            self._wait(0)
        elif answer.status in (400, 401, 403, 404, 409):
            self._refuse(answer.status, code, words)
        else:
            # 426 is what a good URL says: then something between here and there stands in the way.
            self.fault = ConnectionFault(answer.status, code, words)
            self._wait(min(answer.retry_after_s, _TOLD_WAIT_MAX_S))

    def _fail(self, error: Exception) -> None:
        """Nobody was reached."""
        self.fault = ConnectionFault(None, None, str(error) or type(error).__name__)
        self._wait(0)

    def _refuse(self, status: Optional[int], code: Optional[str], message: str) -> None:
        self.fault = ConnectionFault(status, code, message)
        self._forget_attempt()
        self._end("refused")

    def _forget_attempt(self) -> None:
        """Hears nothing any more of what was tried."""
        if self._attempt is not None:
            self._attempt.is_current = False
        self._attempt = self._opening = self._socket = None

    def _let_go(self, code: int) -> None:
        """Lets go of the socket, and hears nothing of it any more."""
        opening, socket = self._opening, self._socket
        self._forget_attempt()
        if socket is not None:
            socket.close(code)
        elif opening is not None and not opening.done():
            opening.cancel()
            self._ending.add(opening)
            opening.add_done_callback(self._ending.discard)

    def _lose(self) -> bool:
        """There is no connection any more. False if somebody who was told has decided what comes next."""
        self._phase = "lost"
        self._owner.lost()
        return self._phase == "lost"

    def _settle_backoff(self) -> None:
        """Starts the counting anew if the connection held."""
        if self._phase == "open" and self._now() >= self._since + _STABLE_AFTER_S:
            self._backoff.reset()
            self._has_tried_once = False

    def _wait(self, least_s: float) -> None:
        """Backs off, for `least_s` at least: the draw comes on top, so that nobody comes back in step."""
        self._wait_until(self._now() + least_s + self._backoff.next())

    def _wait_until(self, until: float) -> None:
        self._move_at = math.inf
        self._phase = "waiting"
        self._until = until
        self._arm()
        if self.state != "connecting":
            self._change("reconnecting")

    def _end(self, state: State) -> None:
        self._phase = "over"
        self._arm()
        self._change(state)

    def _change(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self._owner.changed(state)
