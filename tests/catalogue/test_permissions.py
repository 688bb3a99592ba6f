"""One table says who may do what; every operation asks it for something that it knows."""

import itertools
import re

import pytest

from edge.routes import Routes
from schemas import catalogue
from schemas.contract import KNOWN, Operation
from schemas.identity.principals import WhoAmI
from schemas.principal import ACTIONS, MATRIX, ROLES, Principal, compile_roles, permissions
from tests.tidy import project

WIDTH = {"none": 0, "own": 1, "all": 2}


def test_every_operation_asks_for_a_permission_of_the_table():
    asked = {o.may for o in catalogue.operations() if o.may} - {KNOWN}

    assert asked <= set(permissions())


def test_what_needs_no_permission_is_public_or_internal_or_about_the_caller():
    free = [o for o in catalogue.operations() if o.may in (None, KNOWN)]

    assert {o.name for o in free if o.public} == {
        "identity.finish-external", "identity.introspect-token", "identity.key-set",
        "identity.refresh", "identity.revoke-token", "identity.set-up", "identity.set-up-state",
        "identity.sign-in", "identity.start-external", "identity.token",
    }  # fmt: skip
    assert {o.name for o in free if not (o.public or o.internal)} == {
        "identity.authorization", "identity.decide", "identity.explain", "identity.me",
        "identity.sign-out",
    }  # fmt: skip
    assert [o.name for o in free if o.internal and o.route] == []


def test_every_operation_is_open_in_exactly_one_way():
    for o in catalogue.operations():
        assert [o.may is not None, o.public, o.internal].count(True) == 1, o.name


@pytest.mark.parametrize(
    "said", [{}, {"may": KNOWN, "public": True}, {"may": "agents:read", "internal": True}]
)
def test_a_declaration_that_names_nobody_or_two_does_not_come_into_being(said):
    with pytest.raises(ValueError, match="does not say who may ask"):
        Operation("notes.add", WhoAmI, Principal, **said)


def test_a_door_that_names_nobody_is_not_hung():
    class Forgotten:
        name, may, open, public = "notes.add", None, False, False

        async def answer(self, call):
            raise NotImplementedError

    with pytest.raises(ValueError, match="does not say who may pass"):
        Routes().add("GET", "/notes", Forgotten())


def test_the_table_is_written_in_its_letters():
    for resource, cells in MATRIX.items():
        assert len(cells) == len(ROLES), resource
        for cell in cells:
            assert re.fullmatch(rf"([{''.join(ACTIONS)}]o?)*", cell), (resource, cell)
            letters = cell.replace("o", "")
            assert len(letters) == len(set(letters)), (resource, cell)


@pytest.mark.parametrize("role", ROLES)
def test_an_admin_may_whatever_anybody_may_and_as_far(role):
    admin, other = compile_roles(("admin",)), compile_roles((role,))

    assert {p for p in other if WIDTH[admin.get(p, "none")] < WIDTH[other[p]]} == set()


def test_a_viewer_changes_nothing_but_what_is_its_own():
    granted = compile_roles(("viewer",))
    changing = {p: scope for p, scope in granted.items() if not p.endswith(":read")}

    assert changing == {
        "keys:create": "own", "keys:delete": "own", "sessions:delete": "own",
        "users:update": "own", "inbox:update": "own", "inbox:approve": "own",
    }  # fmt: skip


def test_two_roles_together_reach_as_far_as_the_wider_of_them():
    for pair in itertools.permutations(ROLES, 2):
        both = compile_roles(pair)
        for permission in permissions():
            single = [WIDTH[compile_roles((r,)).get(permission, "none")] for r in pair]
            assert WIDTH[both.get(permission, "none")] == max(single), (pair, permission)


def test_scopes_only_narrow():
    scoped = Principal(
        id="k", kind="key", roles=("viewer",), scopes=("agents:read", "agents:create")
    )

    assert scoped.scope_of("agents:read") == "all"
    assert scoped.scope_of("agents:create") == "none"
    assert scoped.scope_of("goals:read") == "none"


def test_nobody_without_a_role_may_anything():
    nobody = Principal(id="x", kind="user")

    assert {nobody.scope_of(p) for p in permissions()} == {"none"}


def test_an_operation_limited_to_own_things_is_one_whose_domain_looks_at_owners():
    limited = {
        o.domain
        for role in ROLES
        for o in catalogue.operations()
        if o.may and compile_roles((role,)).get(o.may) == "own"
    }
    for domain in limited:
        mine = [f for f in project.named(".py") if f.parts[:2] == ("handlers", domain)]
        text = "".join(project.read(f) for f in mine)
        assert re.search(r"require_owner|ctx\.visible", text), domain
