"""Is it the request or the server? Another request decides."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum

from envtune.policy.base import Chat
from envtune.policy.endpoint.connection import Connection, Trouble
from envtune.policy.endpoint.errors import EndpointError, OversizeError, PassingError, RefusedError, TooLongError


class Server(StrEnum):
    """What the probe found out about the server."""

    ANSWERS = "answers"
    """It took the probe at once, so the request is the cause."""
    RECOVERED = "recovered"
    """It failed and came back. The request gets another chance."""
    GONE = "gone"
    """It refuses the probe as well, or failed for as long as the user has patience."""


class Probe:
    """Sends the probe, once for all requests that failed together.

    Args:
        connection: to the server.
        send: sends another request than that of a chat, and raises what `Connection.post` raises.
    """

    def __init__(self, connection: Connection, send: Callable[[Chat, Trouble], Awaitable[None]]) -> None:
        self._connection, self._post = connection, send
        self._one = asyncio.Lock()
        self._begun = self._ended = float("-inf")
        self._found = Server.ANSWERS

    async def server(self, chat: Chat, began: float | None = None) -> Server:
        """What is true of the server now.

        Args:
            chat: the episode whose request failed.
            began: when the failures began.
        """
        now = asyncio.get_running_loop().time
        asked = now()
        async with self._one:
            shared = self._begun >= asked or (self._found is not Server.ANSWERS and self._ended >= asked)
            if not shared:
                self._begun = now()
                self._found = await self._send(chat, Trouble(began))
                self._ended = now()
            return self._found

    async def _send(self, chat: Chat, trouble: Trouble) -> Server:
        while True:
            try:
                await self._post(chat, trouble)
            except PassingError as error:
                if self._connection.over(trouble) or self._connection.hopeless(error):
                    return Server.GONE
                trouble.faults = 0
                continue
            except (EndpointError, RefusedError):
                return Server.GONE
            except (TooLongError, OversizeError):
                pass  # an answer as well
            return Server.RECOVERED if trouble.kinds else Server.ANSWERS


def greeting(chat: Chat) -> Chat:
    """A short chat with the same tools."""
    return Chat(chat.task, [{"role": "user", "content": "Hello."}], chat.tools)
