"""The pages, in the menu's order. One file here and one line there add a page."""

from __future__ import annotations

from nexus.kernel.registry import Registry
from nexus.studio.page import Page

PAGES: Registry[Page] = Registry(
    "nexus.pages",
    {
        "runs": "nexus.studio.pages.runs:page",
        "run": "nexus.studio.pages.run:page",
        "nodes": "nexus.studio.pages.nodes:page",
        "costs": "nexus.studio.pages.costs:page",
        "rounds": "nexus.studio.pages.rounds:page",
        "models": "nexus.studio.pages.models:page",
        "endpoints": "nexus.studio.pages.endpoints:page",
        "chat": "nexus.studio.pages.chat:page",
        "projects": "nexus.studio.pages.projects:page",
        "store": "nexus.studio.pages.store:page",
    },
)
