"""Fleets through their routes and their command: who may do what, and what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nexus.kernel.errors import ConflictError, FileError, ForbiddenError, NexusError, NotFoundError, UsageError
from nexus.kernel.identity import Role
from nexus.launch.faces.client import LaunchClient
from nexus.launch.faces.views import FleetRequest
from tests.launch.api.conftest import Site
from tests.launch.api.test_api import submission
from tests.launch.api.test_commands import nexus
from tests.launch.build import needs, role


def lab(client: LaunchClient, **more: Any) -> Any:
    return client.add_fleet(FleetRequest(name="lab", provider="fake", **more))


def test_admins_set_fleets_up_members_ask_them_viewers_see_them(site: Site) -> None:
    lab(site.client(), idle_s=60.0, most=3)
    assert [view.fleet.name for view in site.client(Role.VIEWER).fleets()] == ["lab"]
    view = site.client(Role.MEMBER).fleet("lab", fresh=True)
    assert [(offer.machine, offer.unavailable) for offer in view.offers] == [("h1", ""), ("h2", "its disk is full")]
    with pytest.raises(ForbiddenError):
        site.client(Role.VIEWER).fleet("lab", fresh=True)
    for change in (
        lab,
        lambda client: client.pause_fleet("lab"),
        lambda client: client.remove_fleet("lab"),
    ):
        with pytest.raises(ForbiddenError):
            change(site.client(Role.MEMBER))


def test_another_projects_fleet_does_not_exist(site: Site) -> None:
    lab(site.client())
    stranger = site.client(project="other")
    assert stranger.fleets() == []
    for ask in (stranger.fleet, stranger.pause_fleet, stranger.remove_fleet):
        with pytest.raises(NotFoundError):
            ask("lab")
    lab(stranger)  # the name is free in each project


def test_a_fleet_is_changed_in_place_and_keeps_what_is_left_out(site: Site) -> None:
    first = lab(site.client(), idle_s=60.0, most=3)
    again = lab(site.client(), settings={"a": 1})
    assert (again.id, again.settings, again.idle_s, again.most) == (first.id, {"a": 1}, 60.0, 3)
    assert site.client().pause_fleet("lab").paused
    assert not site.client().pause_fleet("lab", paused=False).paused


def test_wrong_names_and_removed_fleets_are_refused(site: Site) -> None:
    with pytest.raises(UsageError, match="cannot name a fleet"):
        site.client().add_fleet(FleetRequest(name="My Lab", provider="fake"))
    lab(site.client())
    site.client().remove_fleet("lab")
    with pytest.raises(ConflictError, match="being removed"):
        lab(site.client())
    site.call(site.launch.provision_once)
    assert site.client().fleets() == []


def test_the_command_adds_from_a_file_shows_and_removes(site: Site, tmp_path: Path) -> None:
    assert "No fleets" in nexus(site, "fleet").output
    file = tmp_path / "hosts.yaml"
    file.write_text("- a\n- host: b\n")
    said = nexus(site, "fleet", "add", "fake", "lab", str(file), "--idle", "10m", "--set", "user=ml").output
    assert "h1" in said
    assert "h2: its disk is full" in said
    (view,) = site.client().fleets()
    assert view.fleet.settings == {"hosts": ["a", {"host": "b"}], "user": "ml"}
    assert view.fleet.idle_s == 600.0
    site.client().submit(submission("waits", role(needs=needs(cpu=4))))
    site.settle()
    for _ in range(3):
        site.call(site.launch.provision_once)
    assert (
        "wanted" in nexus(site, "fleet", "show", "lab").output
        or "starting" in nexus(site, "fleet", "show", "lab").output
    )
    assert "paused" in nexus(site, "fleet", "pause", "lab").output
    assert nexus(site, "fleet", "remove", "lab").output.startswith("lab goes")


@pytest.mark.parametrize(("text", "error"), [("a: [", FileError), ("--- 1\n--- 2\n", FileError), ("words", UsageError)])
def test_a_file_that_is_no_list_of_hosts_is_refused(
    site: Site, tmp_path: Path, text: str, error: type[NexusError]
) -> None:
    file = tmp_path / "hosts.yaml"
    file.write_text(text)
    with pytest.raises(error):
        nexus(site, "fleet", "add", "fake", "lab", str(file))
    assert site.client().fleets() == []
