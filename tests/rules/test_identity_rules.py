"""What an API key may do, and when it is good."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.identity.rules import keys as rules
from schemas.identity.keys import IssueKey
from schemas.principal import ROLES, Principal, permissions
from schemas.problems import IllegalMove

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ID = "0192f0c0-0000-7000-8000-000000000001"
roles = st.lists(st.sampled_from(ROLES), max_size=3, unique=True).map(tuple)
scopes = st.lists(st.sampled_from(permissions()), max_size=4, unique=True).map(tuple)


def principal(roles=("developer",), scopes=()):
    return Principal(id="ada", kind="user", roles=roles, scopes=scopes)


def key(days=90, **fields):
    command = IssueKey(name="ci", days=days, **fields)
    return rules.new_key(command, principal(), id=ID, at=AT)


@given(roles, scopes, roles, scopes)
def test_a_key_never_does_more_than_its_maker(own_roles, own_scopes, key_roles, key_scopes):
    maker = principal(own_roles, own_scopes)
    made = Principal(id="ada", kind="key", roles=key_roles, scopes=key_scopes)
    beyond = rules.excess(maker, key_roles, key_scopes)
    for permission in permissions():
        wider = rules.WIDTH[made.scope_of(permission)] > rules.WIDTH[maker.scope_of(permission)]
        assert wider == (permission in beyond)


def test_a_key_without_roles_has_its_makers():
    assert key().roles == ("developer",)
    assert rules.excess(principal(), key().roles, key().scopes) == ()


def test_a_viewer_makes_no_key_that_writes():
    assert "agents:create" in rules.excess(principal(("viewer",)), ("developer",), ())
    assert rules.excess(principal(("viewer",)), ("developer",), ("agents:read",)) == ()


def test_a_key_is_good_until_it_expires_or_is_revoked():
    assert rules.good(key(), AT + timedelta(days=89, hours=23))
    assert not rules.good(key(), AT + timedelta(days=90))
    assert rules.good(key(days=None), AT + timedelta(days=9999))
    assert not rules.good(rules.revoked(key(), AT), AT)


def test_revoking_twice_changes_nothing_and_a_revoked_key_gets_no_new_secret():
    ended = rules.revoked(key(), AT)
    assert (ended.version, rules.revoked(ended, AT + timedelta(1))) == (2, ended)
    with pytest.raises(IllegalMove):
        rules.rotated(ended, AT)
    assert rules.rotated(key(), AT).rotated_at == AT


def test_the_first_end_counts_and_none_is_never():
    assert rules.until(None, None) is None
    assert rules.until(AT, None, AT + timedelta(1)) == AT
