"""``biod2c serve``: an OpenAI-compatible endpoint and a page for trying it."""

from __future__ import annotations

from typing import Annotated

import typer

from biod2c_cli.console import note
from biod2c_cli.options import Device, Model


def serve(
    host: Annotated[str, typer.Option(help="Address; any but loopback needs a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any free one.", min=0, max=65535)] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="BIOD2C_API_KEY",
            show_envvar=True,
            help="Key that requests must bring; better set in the environment, as others can see "
            "a command line.",
        ),
    ] = None,
    max_body: Annotated[float, typer.Option(help="Longest request, in MiB.")] = 16,
    max_pixels: Annotated[int, typer.Option(help="Largest image, in pixels.")] = 16_000_000,
    max_images: Annotated[int, typer.Option(help="Most images in a request.")] = 16,
    max_queue: Annotated[int, typer.Option(help="Most questions that wait, one an image.")] = 64,
    max_batch: Annotated[int, typer.Option(help="Most questions answered together.")] = 32,
    max_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 32,
    timeout: Annotated[float, typer.Option(help="Seconds until a request is given up.")] = 30,
    model: Model = None,
    device: Device = "auto",
) -> None:
    """Serve a model to OpenAI clients (/v1/chat/completions) and as a page at /.

    Research software, no medical device: do not use its answers for diagnosis.
    """
    from biod2c_core.inference.serving.requests import Limits
    from biod2c_core.inference.serving.server import ServeOptions
    from biod2c_core.inference.serving.server import serve as run

    limits = Limits(
        body_bytes=int(max_body * 1024**2),
        pixels=max_pixels,
        queue=max_queue,
        batch=max_batch,
        tokens=max_tokens,
        seconds=timeout,
        images=max_images,
    )
    options = ServeOptions(host, port, api_key, limits)
    note("note: research software, no medical device: do not use its answers for diagnosis.")
    run(options, model, device, lambda url: note(f"serving at {url} (Ctrl-C ends)"))
