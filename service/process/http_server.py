"""Configure the HTTP server: uvicorn with the limits of http_protocol.py and http_connections.py."""

import socket
from functools import partial
from typing import Any, cast

import uvicorn
from fastapi import FastAPI

from service.process.http_connections import Connections, most_connections, raise_descriptor_limit
from service.process.http_protocol import Deadlines, HttpProtocol
from service.settings import Settings


class Server(uvicorn.Server):
    """uvicorn's server, which ends the streams of events before it waits for the requests in progress."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting requests, end those that would not end by themselves, and wait for the others."""
        cast(FastAPI, self.config.app).state.streams.close()
        await super().shutdown(sockets)


def server_config(app: FastAPI, settings: Settings, **options: Any) -> uvicorn.Config:
    """Return the configuration of the server of one process. `options` are uvicorn's.

    It raises the process's own limit of open files as far as it may, and leaves a reserve of them free.
    """
    raise_descriptor_limit()
    connections = Connections(
        most=most_connections(settings.max_connections), most_of_peer=settings.max_connections_of_address
    )
    protocol = partial(
        HttpProtocol,
        connections=connections,
        deadlines=Deadlines(head=settings.head_seconds, body_stall=settings.body_stall_seconds),
    )
    return uvicorn.Config(
        app,
        http=cast(type[HttpProtocol], protocol),  # uvicorn only calls it
        ws="none",
        timeout_keep_alive=settings.idle_seconds,
        server_header=False,
        **options,
    )
