"""Load a model and serve it until told to stop."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from biod2c_core.collector import imports_for_good
from biod2c_core.errors import ConfigError, InputError, MissingDependencyError
from biod2c_core.inference.questions import about_picture
from biod2c_core.inference.serving.requests import Limits


@dataclass(frozen=True)
class ServeOptions:
    """How to serve.

    Attributes:
        host: Address to listen at.
        port: 0 takes any free one.
        key: API key; None for none, which only loopback addresses may do without.
        limits: What the server bears.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    key: str | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for name, value in vars(self.limits).items():
            if value <= 0:
                raise ConfigError(f"the limit {name} is {value}", "Use a positive number.")
        if not self.loopback and not self.key:
            raise ConfigError(
                f"{self.host} can be reached from outside, and there is no API key",
                "Set one in BIOD2C_API_KEY, or listen at 127.0.0.1.",
            )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the host."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address.

    Raises:
        InputError: The address is taken or not this machine's.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"cannot listen at {host} port {port} ({error})", "Choose another --port or --host."
        ) from error
    return bound


def serve(
    options: ServeOptions,
    checkpoint: str | None,
    device: str,
    announce: Callable[[str], None],
) -> None:
    """Serve until interrupted.

    Args:
        options: How.
        checkpoint: A folder, a hub name, or None for the embedded biod2c-tiny.
        device: ``auto``, ``cpu`` ...
        announce: Told the address once the server listens.

    Raises:
        MissingDependencyError: Without the extra ``serve``.
        InputError: The address cannot be had.
        CheckpointError: The checkpoint is missing or damaged.
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise MissingDependencyError(error.name or "fastapi", "serve") from error
    bound = listen(options.host, options.port)  # before the slow part

    with imports_for_good():
        from biod2c_core.inference.serving.app import make_app
        from biod2c_core.inference.serving.batching import Engine
        from biod2c_core.inference.serving.connections import (
            BACKLOG,
            DrainingServer,
            guarded_protocol,
            most_connections,
        )
        from biod2c_core.inference.serving.metrics import Metrics
        from biod2c_core.inference.serving.receiving import Access
        from biod2c_core.inference.vqa_model import VQAModel

    model = VQAModel.load(checkpoint, device)
    engine = Engine(model, options.limits, Metrics())
    access = Access(options.key) if options.loopback else Access(options.key, ())
    config = uvicorn.Config(
        make_app(engine, access),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=10,
        backlog=BACKLOG,
        http=guarded_protocol(most_connections()),
        ws="none",
        loop="asyncio",
    )
    host = f"[{options.host}]" if ":" in options.host else options.host
    with bound:
        bound.listen(BACKLOG)  # whoever hears of the address may connect
        announce(f"http://{host}:{bound.getsockname()[1]}/")
        tell = logging.getLogger("uvicorn.error").warning
        if model.answerer.reference is None:
            tell(about_picture(model.answerer.name, None)[0])
        DrainingServer(config, engine.close, tell).run(sockets=[bound])
