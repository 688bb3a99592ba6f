"""WebSockets: subscribe, resume, heartbeat, back-pressure, close codes.

    client   auth {token} · subscribe {topics, filter, since} · unsubscribe {topics}
             ack {position} · ping · pong
    server   hello · subscribed · unsubscribed · event · gap · error · ping · pong
    close    4401 who are you · 4403 not any more · 4408 silent · 4429 too slow or too much
             4503 draining

Key or token come in a header of the upgrade or in the first frame, never in the URL; a session's
cookie counts only beside an Origin of ours. Rights are asked for again at every heartbeat. One
writer task a socket; the feed itself never waits for any.
"""

import asyncio
import contextlib
import random
import time
from functools import partial
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from bus.clock import Clock
from bus.rights import Rights
from edge import exchange, topics
from edge.authentication import Authentication
from edge.eventstream import gap_frame
from edge.exchange import Exchange
from edge.feed import Feed, Gap, Happened, Watch
from edge.showing import Shown, is_own, shown
from edge.sight import sees
from edge.tokens import Tokens
from edge.topics import Filter
from edge.watching import Outbox, Overflow, join_or_tell
from schemas.contract import Json, Problem
from schemas.principal import Principal
from schemas.problems import Denied, Malformed, TooManyRequests, Unauthenticated, malformed

AUTH_S = 5.0
HEARTBEAT_S = 20
MISSED_MAX = 2
SOCKETS_MAX = 2000
WATCHES_MAX = 100
WINDOW_S = 10.0
FRAMES_PER_WINDOW = 200
UNAUTHENTICATED, FORBIDDEN, SILENT, TOO_MUCH, DRAINING = 4401, 4403, 4408, 4429, 4503
RIGHTS = (UNAUTHENTICATED, FORBIDDEN)
RECONNECT_MS = (500, 30_000)


class Closed(Exception):
    """The socket is to be closed with this code."""

    def __init__(self, code: int, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(reason)


class Socket:
    """One connected client."""

    def __init__(self, connection_id: str, credential: Shown | None) -> None:
        self.id = connection_id
        self.shown = credential
        self.principal: Principal | None = None
        self.outbox = Outbox()
        self.watches: list[Watch] = []
        self.pings_open = 0
        self.acknowledged = ""
        self.closing: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        self._window, self._frames = time.monotonic(), 0

    def tell(self, op: str, **more: Any) -> None:
        """Queue a frame that is no event."""
        self.outbox.put(orjson.dumps({"op": op, **more}, default=str).decode())

    def close(self, code: int, reason: str) -> None:
        """Ask for the end."""
        if not self.closing.done():
            self.closing.set_result(Closed(code, reason))

    def count_frame(self) -> None:
        """Raises Closed when the client sends too much."""
        now = time.monotonic()
        if now - self._window > WINDOW_S:
            self._window, self._frames = now, 0
        self._frames += 1
        if self._frames > FRAMES_PER_WINDOW:
            raise Closed(TOO_MUCH, "too many frames")


class Sockets:
    """The ASGI application of `/api/v1/ws`, and all sockets of this process."""

    def __init__(
        self, feed: Feed, tokens: Tokens, authentication: Authentication, rights: Rights,
        clock: Clock, origins: tuple[str, ...],
    ) -> None:  # fmt: skip
        self._feed, self._tokens, self._rights = feed, tokens, rights
        self._authentication, self._clock = authentication, clock
        self._origins = frozenset(origins)
        self._open: set[Socket] = set()
        self.draining = False
        feed.on_new_epoch(self._tell_gap)

    def __len__(self) -> int:
        return len(self._open)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket until it ends."""
        seen = exchange.of(scope)
        await receive()
        if not self._origin_fits(seen):
            seen.noticed(seen, "socket.open", "deny", str(FORBIDDEN), why="foreign origin")
            await send({"type": "websocket.close", "code": FORBIDDEN})
            return
        await send({"type": "websocket.accept"})
        socket = Socket(self._clock.new_id(), shown(seen))
        try:
            await self._serve(socket, seen, receive, send)
        except Closed as end:
            if end.code in RIGHTS:
                action = "socket.close" if socket in self._open else "socket.open"
                seen.noticed(seen, action, "deny", str(end.code), why=end.reason)
            with contextlib.suppress(Exception):  # the peer may be gone already
                await send({"type": "websocket.close", "code": end.code, "reason": end.reason})
        finally:
            self._open.discard(socket)
            for watch in socket.watches:
                self._forget(watch)

    def _origin_fits(self, seen: Exchange) -> bool:
        origin = seen.header(b"origin")
        if origin is None:  # no browser: then a cookie is none either
            credential = shown(seen)
            return credential is None or credential.kind != "session"
        return is_own(origin, seen, self._origins)

    async def _serve(self, socket: Socket, seen: Exchange, receive: Receive, send: Send) -> None:
        if self.draining:
            raise Closed(DRAINING, "draining")
        if len(self._open) >= SOCKETS_MAX:
            raise Closed(TOO_MUCH, "too many sockets")
        await self._authenticate(socket, seen, receive)
        self._open.add(socket)
        seen.noticed(seen, "socket.open", "allow", conn=socket.id)
        socket.tell("hello", conn=socket.id, heartbeat_s=HEARTBEAT_S,
                    position=self._feed.position)  # fmt: skip
        reading = asyncio.create_task(self._read(socket, seen, receive))
        writing = asyncio.create_task(write(socket, send))
        tasks: set[asyncio.Future[Any]] = {reading, writing, socket.closing}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if socket.closing.done():
                raise socket.closing.result()
            for task in (reading, writing):
                if task.done():
                    task.result()
        finally:
            for task in (reading, writing):
                task.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)

    async def _authenticate(self, socket: Socket, seen: Exchange, receive: Receive) -> None:
        if socket.shown is None:
            frame = await first_frame(receive)
            text = (frame.get("token") or frame.get("key")) if frame.get("op") == "auth" else None
            if not isinstance(text, str):
                raise Closed(UNAUTHENTICATED, "send auth first")
            seen.headers = {b"authorization": f"Bearer {text}".encode("latin-1", "replace")}
            socket.shown = shown(seen)
        try:
            socket.principal = await self._authentication.of_request(seen)
        except (Unauthenticated, TooManyRequests):
            raise Closed(UNAUTHENTICATED, "not a valid credential") from None
        except Problem:
            raise Closed(DRAINING, "the platform is not ready; try again") from None
        seen.actor, seen.via = socket.principal.id, socket.principal.via
        if socket.principal.run is not None:
            raise Closed(FORBIDDEN, "an agent's run has no feed")

    async def _read(self, socket: Socket, seen: Exchange, receive: Receive) -> None:
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            socket.count_frame()
            try:
                await self._obey(socket, frame_of(message))
            except ValidationError as bad:
                refuse(socket, malformed(bad))
            except Problem as problem:
                if isinstance(problem, Denied):
                    seen.noticed(seen, "socket.subscribe", "deny", problem.code, **problem.details)
                refuse(socket, problem)

    async def _obey(self, socket: Socket, frame: Json) -> None:
        match frame.get("op"):
            case "subscribe":
                await self._subscribe(socket, frame)
            case "unsubscribe":
                self._unsubscribe(socket, names(frame))
            case "ack":
                socket.acknowledged = str(frame.get("position", ""))[:40]
            case "ping":
                socket.tell("pong")
            case "pong":
                socket.pings_open = 0
            case _:
                raise Malformed("Unknown op.", known=["subscribe", "unsubscribe", "ack", "ping"])

    async def _subscribe(self, socket: Socket, frame: Json) -> None:
        wanted = names(frame)
        for topic in wanted:
            permit(self._rights, socket, topic)
        if len(socket.watches) >= WATCHES_MAX:
            raise TooManyRequests("This socket has 100 subscriptions.", limit="subscriptions")
        watched = Filter.model_validate(frame.get("filter") or {}, strict=True).wanted()
        watch = Watch(set(wanted), watched, socket.outbox.event, partial(self._sees, socket))
        since = frame.get("since")
        if since is not None:
            self._check(str(since))
        socket.watches.append(watch)
        if topics.TOKENS in wanted:
            await self._tokens.add(watch, socket.outbox)
        socket.tell("subscribed", topics=wanted, position=self._feed.position)
        if since is None:
            self._feed.add(watch)
        else:
            await join_or_tell(self._feed, watch, socket.outbox, str(since),
                               lambda gap: socket.tell(**gap_frame(gap)))  # fmt: skip

    def _sees(self, socket: Socket, happened: Happened) -> bool:
        return socket.principal is not None and sees(self._rights, socket.principal, happened)

    def _check(self, since: str) -> None:
        with contextlib.suppress(Gap):
            self._feed.parse(since)

    def _unsubscribe(self, socket: Socket, wanted: list[str]) -> None:
        for watch in socket.watches[:]:
            watch.topics -= set(wanted)
            if not watch.topics:
                socket.watches.remove(watch)
                self._forget(watch)
        socket.tell("unsubscribed", topics=wanted)

    def _forget(self, watch: Watch) -> None:
        self._feed.remove(watch)
        self._tokens.remove(watch)

    def _tell_gap(self, old: str) -> None:
        for socket in self._open:
            socket.tell(**gap_frame(Gap(old, self._feed.position)))

    async def beat(self) -> None:
        """Ping every socket, and ask again for its rights."""
        for socket in tuple(self._open):
            if socket.pings_open >= MISSED_MAX:
                socket.close(SILENT, "no pong")
                continue
            socket.pings_open += 1
            socket.tell("ping", position=self._feed.position)
            await self._ask_again(socket)

    async def look_again(self) -> None:
        """Once something about identities has changed, ask again for the rights of every socket."""
        await self._authentication.changed()
        await asyncio.gather(*(self._ask_again(socket) for socket in tuple(self._open)))

    async def _ask_again(self, socket: Socket) -> None:
        assert socket.shown is not None
        try:
            socket.principal = await self._authentication.of_shown(socket.shown)
        except Problem:
            return  # identity cannot be asked: rights stay as they were
        if socket.principal is None:
            socket.close(UNAUTHENTICATED, "the credential is not valid any more")
            return
        for topic in {topic for watch in socket.watches for topic in watch.topics}:
            if self._rights.reach(socket.principal, topics.PERMISSIONS[topic]).nothing:
                socket.close(FORBIDDEN, f"not allowed any more: {topic}")

    def drain(self) -> None:
        """Tell every client to come back later, spread out, from where it is."""
        self.draining = True
        for socket in tuple(self._open):
            wait_ms = random.randint(*RECONNECT_MS) // 8  # noqa: S311 - spread, not a secret
            since = socket.outbox.sent or self._feed.position
            socket.close(DRAINING, f"draining; since={since}; retry_ms={wait_ms}")


async def write(socket: Socket, send: Send) -> None:
    """Send what is queued.

    Raises:
        Closed: The client reads too slowly.
    """
    while True:
        try:
            frame, position = await socket.outbox.next()
        except Overflow:
            raise Closed(TOO_MUCH, f"too slow; since={socket.outbox.sent}") from None
        await send({"type": "websocket.send", "text": frame})
        if position is not None:
            socket.outbox.sent = position


async def first_frame(receive: Receive) -> Json:
    """The first frame, within 5 s.

    Raises:
        Closed: It does not come, or is no JSON object.
    """
    try:
        async with asyncio.timeout(AUTH_S):
            message = await receive()
        if message["type"] == "websocket.disconnect":
            raise Closed(UNAUTHENTICATED, "gone")
        return frame_of(message)
    except (TimeoutError, Malformed):
        raise Closed(UNAUTHENTICATED, "send auth first") from None


def frame_of(message: Any) -> Json:
    """A client's frame.

    Raises:
        Malformed: It is no JSON object.
    """
    try:
        frame = orjson.loads(message.get("text") or message.get("bytes") or b"")
    except orjson.JSONDecodeError:
        raise Malformed("The frame is not JSON.") from None
    if not isinstance(frame, dict):
        raise Malformed("The frame is not a JSON object.")
    return frame


def names(frame: Json) -> list[str]:
    """The topics in a frame.

    Raises:
        Malformed: There is none, too many, or one is unknown.
    """
    wanted = frame.get("topics")
    if not isinstance(wanted, list) or not 0 < len(wanted) <= topics.TOPICS_MAX:
        raise Malformed("Name 1 to 100 topics.")
    unknown = [str(t)[:80] for t in wanted if not isinstance(t, str) or t not in topics.PERMISSIONS]
    if unknown:
        raise Malformed("Unknown topics.", unknown=unknown, known=list(topics.PERMISSIONS))
    return list(dict.fromkeys(wanted))


def permit(rights: Rights, socket: Socket, topic: str) -> None:
    """Raises Denied unless the client may watch the topic."""
    assert socket.principal is not None
    if rights.reach(socket.principal, topics.PERMISSIONS[topic]).nothing:
        raise Denied(permission=topics.PERMISSIONS[topic], topic=topic)


def refuse(socket: Socket, problem: Problem) -> None:
    """Tell the client that a frame was not obeyed."""
    socket.tell("error", code=problem.code, message=problem.message, details=problem.details)
