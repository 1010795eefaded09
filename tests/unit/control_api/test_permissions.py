"""What roles allow."""

from control_api.domain.permissions import OF_ROLE, OF_ROUTE, Anyone, Permission, Role, of_roles


def test_roles_add_up_and_unknown_ones_allow_nothing() -> None:
    assert of_roles([]) == of_roles(["owner"]) == frozenset()
    assert of_roles(["editor", "approver"]) == OF_ROLE[Role.EDITOR] | OF_ROLE[Role.APPROVER]
    assert of_roles(["admin"]) == frozenset(Permission)


def test_a_viewer_changes_nothing_and_an_editor_decides_nothing() -> None:
    assert not {Permission.CAMPAIGNS_WRITE, Permission.CAMPAIGNS_RUN} & of_roles(["viewer"])
    assert Permission.APPROVALS_DECIDE not in of_roles(["editor"])
    assert Permission.CAMPAIGNS_WRITE not in of_roles(["approver"])


def test_every_permission_but_those_of_no_route_yet_is_needed_somewhere() -> None:
    for needed in OF_ROUTE.values():
        assert isinstance(needed, Anyone) or any(needed in allowed for allowed in OF_ROLE.values())
