"""/api/v1/users"""

from litestar import Controller, delete, get, post, put
from litestar.status_codes import HTTP_201_CREATED, HTTP_204_NO_CONTENT

from control_api.domain.users import StoredUser, UserReplacement, UserRequest
from control_api.handlers import users
from control_api.routes.access_views import UsersView, UserView, user_view
from control_api.routes.headers import etag, next_link
from control_api.routes.list_parameters import PageParameters
from control_api.routes.openapi import documented
from control_api.routes.reading import read_parameters
from control_api.routes.request import ApiRequest, id_in_path, if_match_of, required_if_match_of
from control_api.routes.responses import JsonResponse
from control_api.routes.services import Services

_OF = "/{user_id:str}"


class UserRoutes(Controller):
    """Users of the caller's organization and their roles."""

    path = "/users"
    tags = ("Users",)

    @post("/", operation_class=documented(example="user"), summary="Make a user")
    async def make(
        self, request: ApiRequest, services: Services, data: UserRequest
    ) -> JsonResponse[UserView]:
        """With roles that may no more than the caller; without a password it cannot log in here."""
        made = await users.make(
            services.store, services.access.gate.passwords, request.user, data, services.clock()
        )
        return _shown(made, HTTP_201_CREATED, {"Location": f"/api/v1/users/{made.id}"})

    @get(
        "/",
        operation_class=documented(parameters=PageParameters),
        summary="List users",
        opt={"reads_parameters": True},
    )
    async def list_page(self, request: ApiRequest, services: Services) -> JsonResponse[UsersView]:
        """In the order of their making, deactivated ones too; the next page is at the address in `Link`."""
        asked = read_parameters(PageParameters, list(request.query_params.multi_items()))
        directory = services.access.gate.directory
        page = await users.list_page(directory, request.user, asked.cursor, asked.limit)
        view = UsersView([user_view(user) for user in page.items], page.next_cursor)
        return JsonResponse(view, headers=next_link(request, page.next_cursor))

    @get(_OF, operation_class=documented(), summary="Get a user")
    async def get_one(self, request: ApiRequest, services: Services, user_id: str) -> JsonResponse[UserView]:
        """The ETag is the user's version."""
        directory = services.access.gate.directory
        return _shown(await users.get(directory, request.user, id_in_path(user_id)))

    @put(_OF, operation_class=documented(if_match="required"), summary="Change a user")
    async def replace(
        self, request: ApiRequest, services: Services, user_id: str, data: UserReplacement
    ) -> JsonResponse[UserView]:
        """Name, roles, whether it is active, and the password if one is given. Its sessions end, unless only
        the name has changed."""
        version = required_if_match_of(request)
        access = services.access
        changed = await users.replace(
            services.store,
            access.gate.passwords,
            request.user,
            id_in_path(user_id),
            data,
            version,
            services.clock(),
        )
        access.standings.user_changed(changed.id)
        return _shown(changed)

    @delete(
        _OF,
        operation_class=documented(if_match="optional"),
        status_code=HTTP_204_NO_CONTENT,
        summary="Deactivate a user",
    )
    async def deactivate(self, request: ApiRequest, services: Services, user_id: str) -> None:
        """Its tokens, sessions and keys stop working within seconds. It stays in the list: what it did names
        it."""
        version = if_match_of(request)
        changed = await users.deactivate(
            services.store, request.user, id_in_path(user_id), version, services.clock()
        )
        services.access.standings.user_changed(changed.id)


def _shown(
    user: StoredUser, status: int = 200, headers: dict[str, str] | None = None
) -> JsonResponse[UserView]:
    return JsonResponse(user_view(user), status_code=status, headers=etag(user.version) | (headers or {}))
