"""Each slice's routes over the services: what `app.server.ROUTERS` names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter

from nexus.app.wire import Services

if TYPE_CHECKING:
    from nexus.store.service import Store


def access(services: Services) -> APIRouter:
    """Tokens, projects, users, secrets, the audit trail."""
    from nexus.access.faces.api import router

    return router(services.access, services.people, services.secrets, services.audit)


def launch(services: Services) -> APIRouter:
    """Runs and nodes."""
    from nexus.launch.faces.api import router

    return router(services.launch, services.access)


def costs(services: Services) -> APIRouter:
    """What was spent."""
    from nexus.launch.faces.costs_api import router

    return router(services.costs)


def fleets(services: Services) -> APIRouter:
    """Machines that providers start."""
    from nexus.launch.faces.fleets_api import router

    return router(services.launch)


def offers(services: Services) -> APIRouter:
    """What could be rented or started."""
    from nexus.launch.faces.offers_api import router

    return router(services.offers)


def agents(services: Services) -> APIRouter:
    """What agents call."""
    from nexus.launch.faces.agent_api import router

    return router(services.launch, services.access)


def relay(services: Services) -> APIRouter:
    """Calls into tasks and nodes."""
    from nexus.launch.faces.relay import router

    return router(services.launch.relay)


def track(services: Services) -> APIRouter:
    """Logs, metrics, artifacts, models, blobs."""
    from nexus.track.faces.api import router

    return router(services.track, services.leases)


def federate(services: Services) -> APIRouter:
    """Federated rounds."""
    from nexus.federate.faces.api import router

    return router(services.federate)


def deploy(services: Services) -> APIRouter:
    """Endpoints."""
    from nexus.deploy.faces.api import router

    return router(services.deploy)


def store(services: Services) -> APIRouter:
    """The Job Store."""
    from nexus.store.faces.api import router

    return router(_store(services))


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
