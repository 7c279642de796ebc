"""The templates that ship with Nexus, in the order of the page: folders of examples/ with a template.yaml inside."""

from __future__ import annotations

TEMPLATES: tuple[str, ...] = ("digits", "hello", "ddp", "tune", "federated", "serve-digits", "chat")
