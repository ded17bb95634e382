"""The server of the app: the page, and the two addresses by which pictures come and go."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hf_unlearnable.errors import DataError, OutputError
from hf_unlearnable.lazy import require_extra

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from hf_unlearnable.app.visits import Visits

STATIC = Path(__file__).parent / "static"
LOOPBACK = "127.0.0.1"
ROOM, TOGETHER = 4_000_000_000, 2  # bytes that a visitor may send, and visitors that work at once


def addresses(visits: Visits) -> FastAPI:
    """Where pictures are sent and fetched, by whoever knows the key of a visit."""
    from fastapi import FastAPI
    from fastapi.responses import FileResponse, PlainTextResponse, Response
    from starlette.requests import ClientDisconnect, Request

    from hf_unlearnable.app.work import ZIP

    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    async def receive(request: Request) -> Response:
        """Write a file that is sent into the folder of its visitor, and nowhere else."""
        visit = visits.by_key(request.path_params["key"])
        if visit is None:
            return PlainTextResponse("this visit has ended; load the page again", 404)
        size = request.headers.get("content-length", "")
        if not size.isdecimal():
            return PlainTextResponse("got no length; expected one", 411)
        try:
            file = visit.place(request.query_params.get("name", ""), int(size))
        except DataError as error:
            return PlainTextResponse(str(error), 400)
        except OSError as error:
            return PlainTextResponse(f"it was not written ({type(error).__name__})", 507)
        if file is None:
            return Response(status_code=204)
        try:
            with file.open("wb") as out:
                async for block in request.stream():
                    out.write(block)
        except (ClientDisconnect, OSError) as error:
            visit.give_up(file, int(size))
            return PlainTextResponse(f"it was not written ({type(error).__name__})", 507)
        visit.arrived(file)
        return Response(status_code=204)

    async def fetch(request: Request) -> Response:
        """The zip of a visitor."""
        visit = visits.by_key(request.path_params["key"])
        if visit is None or visit.made is None:
            return PlainTextResponse("nothing is here: the visit has ended, or nothing was protected yet", 404)
        headers = {"cache-control": "no-store"}
        return FileResponse(visit.home / ZIP, media_type="application/zip", filename="protected.zip", headers=headers)

    server.add_route("/pictures/{key}", receive, methods=["PUT"])
    server.add_route("/protected/{key}", fetch, methods=["GET"])
    return server


def application(visits: Visits, together: int) -> FastAPI:
    """The page with its addresses.

    Args:
        visits: whom it serves.
        together: how many of them may work at once.
    """
    import gradio as gr

    from hf_unlearnable.app.page import page

    # The reader's own fonts: nothing is fetched from others. Darker greys and greens than the default: more contrast.
    theme = gr.themes.Default(
        primary_hue="teal", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    ).set(
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_600",
    )
    return gr.mount_gradio_app(
        addresses(visits),
        page(visits, together).queue(),
        path="/",
        theme=theme,
        css_paths=STATIC / "page.css",
        head=f"<script>{(STATIC / 'page.js').read_text(encoding='utf-8')}</script>",
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        show_error=False,
    )


def listen(host: str, port: int) -> socket.socket:
    """Take an address; nobody is answered yet.

    Raises:
        OutputError: it is taken, or not of this machine.
    """
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise OutputError(
            f"got the address {host}:{port}, where the page cannot be served ({error.strerror or error}); "
            f"name another one: --port 0 takes any that is free"
        ) from error
    return listening


@contextmanager
def serving(
    host: str = LOOPBACK, port: int = 0, *, room: int = ROOM, together: int = TOGETHER
) -> Iterator[tuple[str, uvicorn.Server, socket.socket]]:
    """Make ready to serve, and delete everything when the block ends.

    Args:
        host: the address to listen at.
        port: of it; 0 for any that is free.
        room: bytes that a visitor may send.
        together: how many visitors may work at once.

    Yields:
        Where the page is, the server, and the socket for its ``run``.

    Raises:
        MissingExtraError: the extra ``app`` is not installed.
        OutputError: the address is taken, or not of this machine.
    """
    require_extra("gradio", "the app")
    listening = listen(host, port)
    import uvicorn

    from hf_unlearnable.app.visits import visits

    with listening, visits(room, Path(tempfile.gettempdir())) as everybody:
        # Read when gradio is imported. Nothing of a visitor goes into its folder.
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(everybody.home / "gradio")}
        config = uvicorn.Config(
            application(everybody, together),
            log_level="critical",  # names of pictures are nobody else's business
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{listening.getsockname()[1]}", uvicorn.Server(config), listening


def launch(host: str = LOOPBACK, port: int = 7860, *, room: int = ROOM, together: int = TOGETHER) -> None:
    """Serve the app until Ctrl-C or a polite kill; then everything that visitors sent is deleted.

    Args:
        host: the address to listen at. Everybody who reaches another one than ``127.0.0.1`` can use the app.
        port: of it; 0 for any that is free.
        room: bytes that a visitor may send.
        together: how many visitors may work at once; others wait in a line.

    Raises:
        MissingExtraError: the extra ``app`` is not installed.
        OutputError: the address is taken, or not of this machine.
    """
    require_extra("gradio", "the app")
    print("Loading.", flush=True)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a polite kill deletes too
    with serving(host, port, room=room, together=together) as (address, server, listening):
        print(f"The page is at {address}; end it with Ctrl-C. What visitors sent is deleted then.", flush=True)
        server.run(sockets=[listening])
