"""The Job Store: look at templates, fill their forms, launch them."""

from __future__ import annotations

from collections.abc import Mapping

from nexus.kernel.errors import UsageError
from nexus.kernel.identity import Principal, Role
from nexus.store.core.answers import fill
from nexus.store.model import Launched, Preview, Template, TemplateView
from nexus.store.ports import Launcher, Shelf


class Store:
    """Templates on a shelf, and the way from a filled form to a run."""

    def __init__(self, shelf: Shelf, launcher: Launcher) -> None:
        self._shelf = shelf
        self._launcher = launcher

    def list(self, who: Principal) -> list[TemplateView]:
        """Every template, in the order of the page."""
        who.need(Role.VIEWER)
        return [_view(self._shelf.get(name)) for name in self._shelf.names()]

    def show(self, who: Principal, name: str) -> TemplateView:
        """One template with its parameters and its job file. Raises NotFoundError."""
        who.need(Role.VIEWER)
        return _view(self._shelf.get(name))

    async def preview(self, who: Principal, name: str, given: Mapping[str, str]) -> Preview:
        """What `launch` would do with these answers, and where it would run now. Raises UsageError with `fields`."""
        who.need(Role.VIEWER)
        template = self._shelf.get(name)
        filled = fill(template, given)
        prepared = await self._launcher.prepare(who, template, filled.sets)
        placement = await self._launcher.place(who, prepared)
        names = await self._launcher.names(who)
        rejections = tuple(f"{names.get(one.node, one.node)}: {one.reason}" for one in placement.rejections)
        nodes = sorted({names.get(one.node, one.node) for one in placement.assignments})
        place = ", ".join(nodes) if placement.fits else placement.reason or "no machine fits now"
        return Preview(
            command=filled.command,
            job=prepared.submission.job,
            place=place,
            price=placement.price,
            fits=placement.fits,
            rejections=rejections,
        )

    async def launch(self, who: Principal, name: str, given: Mapping[str, str]) -> Launched:
        """Start a run of the template, or its endpoint. Raises UsageError with `fields`, NotFoundError."""
        who.need(Role.MEMBER)
        template = self._shelf.get(name)
        filled = fill(template, given)
        prepared = await self._launcher.prepare(who, template, filled.sets)
        return await self._launcher.submit(who, prepared)


def answers(pairs: tuple[str, ...]) -> dict[str, str]:
    """`("epochs=3",)` as answers by parameter. Raises UsageError."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"--set takes NAME=VALUE, not {pair!r}", hint="Example: --set epochs=3")
        found[name.strip()] = value
    return found


def _view(template: Template) -> TemplateView:
    return TemplateView(
        name=template.name,
        title=template.title,
        summary=template.summary,
        icon=template.icon,
        parameters=template.parameters,
        job=template.job,
    )
