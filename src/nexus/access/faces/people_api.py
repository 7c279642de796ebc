"""Routes of projects, their members, and the server's users."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastapi import APIRouter

from nexus.access import model
from nexus.access.service import People
from nexus.infra.web.auth import Admin, Viewer
from nexus.kernel.identity import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectRequest:
    """What is asked for."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRequest:
    """A user, with a role in the asker's project."""

    name: str
    role: Role | None = Role.MEMBER
    owner: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleRequest:
    """What a user may do from now on."""

    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordRequest:
    """A new password."""

    password: str = field(repr=False)


def add_projects(api: APIRouter, people: People) -> None:
    """`/projects`, and `/members` of the asker's own."""

    @api.get("/projects", summary="The projects that the caller is in")
    async def projects(principal: Viewer) -> list[model.ProjectView]:
        return await people.projects(principal)

    @api.post("/projects", status_code=201, summary="A new project")
    async def create(principal: Viewer, body: ProjectRequest) -> model.ProjectView:
        return await people.create_project(principal, body.name)

    @api.delete("/projects/{project}", summary="End a project that is not in use; its history is kept")
    async def remove(principal: Viewer, project: str) -> model.ProjectView:
        return await people.remove_project(principal, project)

    @api.get("/members", summary="Who is in the project, and what they may do")
    async def members(principal: Viewer) -> list[model.Member]:
        return await people.members(principal)

    @api.put("/members/{user}", summary="What a user may do in the project")
    async def set_role(principal: Admin, user: str, body: RoleRequest) -> model.Member | None:
        return await people.set_role(principal, user, body.role)

    @api.delete("/members/{user}", summary="Take a user out of the project")
    async def take_out(principal: Admin, user: str) -> None:
        await people.set_role(principal, user, None)


def add_users(api: APIRouter, people: People) -> None:
    """`/users`, for the server's owners."""

    @api.get("/users", summary="The server's users")
    async def users(principal: Viewer) -> list[model.UserView]:
        return await people.users(principal)

    @api.post("/users", status_code=201, summary="A new user; the token to begin with is shown once")
    async def add(principal: Viewer, body: UserRequest) -> model.NewUser:
        return await people.add_user(principal, body.name, body.role, owner=body.owner)

    @api.delete("/users/{user}", summary="Remove a user, with their tokens, sessions and roles")
    async def remove(principal: Viewer, user: str) -> model.UserView:
        return await people.remove_user(principal, user)

    @api.put("/users/{user}/password", summary="Set one's own password, or (owners) anybody's")
    async def password(principal: Viewer, user: str, body: PasswordRequest) -> model.UserView:
        return await people.set_password(principal, user, body.password)
