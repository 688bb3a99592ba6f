"""The order of a decision: scopes, denial, allowance, owner, role. As properties over any grants."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.policy import EVERYTHING, NOTHING, Policy, Reach, Rule, subjects_of
from schemas.principal import ROLES, Principal, permissions

PERMISSIONS = ("goals:read", "goals:delete", "keys:read")
THINGS = ("a", "b", EVERYTHING)
WIDTH = {"none": 0, "own": 1, "all": 2}

principals = st.builds(
    Principal,
    id=st.just("ada"),
    kind=st.sampled_from(["user", "key", "agent", "client"]),
    roles=st.lists(st.sampled_from(ROLES), unique=True, max_size=2).map(tuple),
    scopes=st.lists(st.sampled_from(PERMISSIONS), unique=True, max_size=2).map(tuple),
    credential=st.sampled_from([None, "key/k1", "session/s1"]),
)
rules = st.builds(
    Rule,
    subject=st.sampled_from(["user:ada", "user:ben", "key:k1", "client:ada", "role:viewer"]),
    permission=st.sampled_from(PERMISSIONS),
    thing=st.sampled_from(THINGS),
    allow=st.booleans(),
)
many = st.lists(rules, max_size=6)
asked = st.sampled_from(PERMISSIONS)


def about(principal, permission, given):
    """The grants that name this caller."""
    return [r for r in given if r.permission == permission and r.subject in subjects_of(principal)]


@given(principals, asked)
def test_without_grants_the_roles_decide(principal, permission):
    assert Policy().reach(principal, permission).scope == principal.scope_of(permission)


@given(principals, many, asked)
def test_a_denial_of_everything_leaves_nothing(principal, given, permission):
    denial = Rule(subject="user:ada", permission=permission, thing=EVERYTHING, allow=False)
    if principal.kind != "client":
        assert Policy([*given, denial]).reach(principal, permission).nothing


@given(principals, many, asked)
def test_a_denied_thing_is_out_of_reach_whatever_allows_it(principal, given, permission):
    reach = Policy(given).reach(principal, permission)
    denied = {r.thing for r in about(principal, permission, given) if not r.allow}
    for thing in denied - {EVERYTHING}:
        assert reach.on(thing).nothing


@given(principals, many, asked)
def test_scopes_narrow_also_what_grants_allow(principal, given, permission):
    if principal.scopes and permission not in principal.scopes:
        assert Policy(given).reach(principal, permission) == NOTHING


@given(principals, many, asked)
def test_grants_about_others_change_nothing(principal, given, permission):
    others = [r for r in given if r not in about(principal, permission, given)]
    assert Policy(others).reach(principal, permission).scope == principal.scope_of(permission)
    assert not Policy(others).reach(principal, permission).exceptions


@given(principals, many, asked)
def test_only_an_allowance_reaches_further_than_the_roles(principal, given, permission):
    reach = Policy(given).reach(principal, permission)
    allowances = [r for r in about(principal, permission, given) if r.allow]
    if WIDTH[reach.scope] > WIDTH[principal.scope_of(permission)] or reach.allowed:
        assert allowances


@given(many, asked)
def test_a_users_allowance_does_not_widen_the_users_key(given, permission):
    key = Principal(id="ada", kind="key", credential="key/k1")
    hers = [r for r in given if r.subject == "user:ada"]
    assert Policy(hers).reach(key, permission).nothing


@given(many, asked)
def test_services_act_under_their_roles_alone(given, permission):
    service = Principal(id="ada", kind="service", roles=("viewer",))
    assert Policy(given).reach(service, permission) == Reach(service.scope_of(permission))


@given(principals, many)
def test_the_same_question_has_the_same_answer(principal, given):
    policy = Policy(given)
    for permission in permissions():
        assert policy.reach(principal, permission) == policy.reach(principal, permission)


def test_a_thing_is_weighed_with_what_it_is_a_part_of():
    reach = Reach("all", allowed=frozenset({"task"}), denied=frozenset({"goal"}))
    assert reach.on("task", "goal").nothing
    assert reach.on("task").scope == "all"
    assert reach.on("other") == reach
