"""The server: every slice's routes, and the pages, over one set of services."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from nexus import __version__
from nexus.infra.web.errors import answer_errors
from nexus.infra.web.late import LateApp
from nexus.infra.web.limits import Buckets, Limits
from nexus.kernel.registry import Registry

if TYPE_CHECKING:
    from nexus.app.wire import Services

# name -> a function of `app/routers.py` that makes the slice's routes. One line here opens a slice to the world. It is
# called when one of the paths is first asked for that it says it answers (`infra.web.late`).
ROUTERS: Registry[Callable[[Any], APIRouter]] = Registry(
    "nexus.routers",
    {
        "access": "nexus.app.routers:access",
        "launch": "nexus.app.routers:launch",
        "offers": "nexus.app.routers:offers",
        "costs": "nexus.app.routers:costs",
        "fleets": "nexus.app.routers:fleets",
        "agents": "nexus.app.routers:agents",
        "relay": "nexus.app.routers:relay",
        "track": "nexus.app.routers:track",
        "federate": "nexus.app.routers:federate",
        "deploy": "nexus.app.routers:deploy",
        "store": "nexus.app.routers:store",
        "studio": "nexus.app.routers:studio",
    },
)

_ABOUT = "Launch any AI job anywhere. Send `Authorization: Bearer TOKEN`; errors carry a code, a message and a hint."


def create_app(services: Services) -> LateApp:
    """The ASGI application over services that somebody else starts and closes."""
    # FastAPI's own documentation pages load their scripts from elsewhere; nothing here does.
    app = LateApp(title="Nexus", version=__version__, description=_ABOUT, docs_url=None, redoc_url=None)
    app.state.authenticate = services.access.authenticate
    app.state.denied = services.audit.denied
    app.state.limits = limits_of(services)
    answer_errors(app)
    app.include_late(health, ("/healthz",))
    for name in ROUTERS.names():
        make = ROUTERS.get(name)
        app.include_late(partial(make, services), getattr(make, "paths", ("/**",)))
    return app


def health() -> APIRouter:
    """Whether anybody is there."""
    router = APIRouter(tags=["server"])

    @router.get("/healthz", summary="Whether the server answers; needs no token")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    return router


def limits_of(services: Services) -> Limits:
    """How often strangers may try, and members may submit."""
    rate = services.settings.submit_rate
    return Limits(monotonic=services.clock.monotonic, submits=Buckets(rate=rate, burst=4 * rate))


def openapi() -> dict[str, Any]:
    """The schema of the HTTP API, without starting anything."""
    import tempfile
    from pathlib import Path

    from nexus.app.settings import load_settings

    with tempfile.TemporaryDirectory() as home:
        settings = load_settings({}, home=Path(home))
        return create_app(_open(settings)).openapi()


def _open(settings: Any) -> Services:
    import asyncio

    from nexus.app.wire import open_services

    return asyncio.run(open_services(settings))
