"""Each slice's routes over the services: what `app.server.ROUTERS` names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter

from nexus.app.wire import Services
from nexus.infra.web.late import answers

if TYPE_CHECKING:
    from nexus.store.service import Store


@answers(
    "/v1/audit/**",
    "/v1/join-tokens",
    "/v1/login",
    "/v1/login-codes",
    "/v1/me",
    "/v1/members/**",
    "/v1/projects/**",
    "/v1/secrets/**",
    "/v1/tokens/**",
    "/v1/users/**",
)
def access(services: Services) -> APIRouter:
    """Tokens, projects, users, secrets, the audit trail."""
    from nexus.access.faces.api import router

    return router(services.access, services.people, services.secrets, services.audit)


@answers("/v1/events", "/v1/nodes/**", "/v1/quota", "/v1/runs/**")
def launch(services: Services) -> APIRouter:
    """Runs and nodes."""
    from nexus.launch.faces.api import router

    return router(services.launch, services.access)


@answers("/v1/costs")
def costs(services: Services) -> APIRouter:
    """What was spent."""
    from nexus.launch.faces.costs_api import router

    return router(services.costs)


@answers("/v1/fleets/**")
def fleets(services: Services) -> APIRouter:
    """Machines that providers start."""
    from nexus.launch.faces.fleets_api import router

    return router(services.launch)


@answers("/v1/offers", "/v1/prices/**", "/v1/runs/compare")
def offers(services: Services) -> APIRouter:
    """What could be rented or started."""
    from nexus.launch.faces.offers_api import router

    return router(services.offers)


@answers("/v1/agent/join", "/v1/agent/sync")
def agents(services: Services) -> APIRouter:
    """What agents call."""
    from nexus.launch.faces.agent_api import router

    return router(services.launch, services.access)


@answers("/v1/agent/calls/*", "/v1/calls/*", "/v1/nodes/*/calls", "/v1/runs/*/calls")
def relay(services: Services) -> APIRouter:
    """Calls into tasks and nodes."""
    from nexus.launch.faces.relay import router

    return router(services.launch.relay)


@answers(
    "/v1/agent/tasks/**",
    "/v1/artifacts/**",
    "/v1/blobs/*",
    "/v1/models/**",
    "/v1/runs/*/artifacts",
    "/v1/runs/*/logs/**",
    "/v1/runs/*/metrics/**",
)
def track(services: Services) -> APIRouter:
    """Logs, metrics, artifacts, models, blobs."""
    from nexus.track.faces.api import router

    return router(services.track, services.leases)


@answers("/v1/runs/*/certificates", "/v1/runs/*/rounds")
def federate(services: Services) -> APIRouter:
    """Federated rounds."""
    from nexus.federate.faces.api import router

    return router(services.federate)


@answers("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/endpoints/**")
def deploy(services: Services) -> APIRouter:
    """Endpoints."""
    from nexus.deploy.faces.api import router

    return router(services.deploy)


@answers("/v1/templates/**")
def store(services: Services) -> APIRouter:
    """The Job Store."""
    from nexus.store.faces.api import router

    return router(_store(services))


@answers(
    "/",
    "/chat/**",
    "/costs/**",
    "/endpoints/**",
    "/login/**",
    "/logout/**",
    "/models/**",
    "/nodes/**",
    "/projects/**",
    "/rounds/**",
    "/runs/**",
    "/static/**",
    "/store/**",
)
def studio(services: Services) -> APIRouter:
    """The pages."""
    from nexus.studio.ports import Services as StudioServices
    from nexus.studio.site import router
    from nexus.studio.sources.access import AccessSource
    from nexus.studio.sources.launch import LaunchSource
    from nexus.studio.sources.track import TrackSource

    seen = TrackSource(services.track)
    return router(
        StudioServices(
            clock=services.clock,
            hints=services.hints,
            sessions=AccessSource(services.access, services.people),
            launch=LaunchSource(services.launch, services.records),
            track=seen,
            models=seen,
            federate=services.federate,
            deploy=services.deploy,
            store=_store(services),
            costs=services.costs,
        )
    )


def _store(services: Services) -> Store:
    from nexus.store.adapters.launcher import JobLauncher
    from nexus.store.adapters.shelf import FolderShelf
    from nexus.store.service import Store

    launcher = JobLauncher(services.launch, services.track.uploads, services.deploy)
    return Store(FolderShelf(), launcher)
