"""Decisions about principals: what is left of a credential's rights, and why."""

from collections.abc import Sequence

from handlers.identity.rules.keys import excess
from schemas.identity.principals import Explain, Reason
from schemas.identity.sessions import Session
from schemas.identity.users import User
from schemas.policy import EVERYTHING, Policy
from schemas.principal import Principal, Role


def narrowed(principal: Principal, roles: tuple[Role, ...]) -> Principal:
    """The principal, if it may no more than these roles; else with exactly them, scopes kept."""
    owner = Principal(id=principal.id, kind="user", roles=roles)
    if not excess(owner, principal.roles, principal.scopes):
        return principal
    return principal.model_copy(update={"roles": roles})


def taken_away(session: Session, owner_id: str) -> bool:
    """Whether a session's work must end: it was revoked or stolen, or is not the owner's."""
    return session.owner_id != owner_id or session.ended_because in ("revoked", "reuse")


def reasons(
    command: Explain, principal: Principal, account: User | None, policy: Policy
) -> Sequence[Reason]:
    """Every step of the decision in its order, also those behind the one that decides."""
    things = {EVERYTHING, command.thing}
    rules = [r for r in policy.rules_for(principal, command.permission) if r.thing in things]
    denials = [r for r in rules if not r.allow]
    allowances = [r for r in rules if r.allow]
    closed = account is not None and account.status != "active"
    outside = principal.scopes and command.permission not in principal.scopes
    scope = principal.scope_of(command.permission)
    owner = command.owner_id == principal.id and scope != "none"
    return (
        Reason(rule="account", says="no" if closed else "nothing",
               detail="The account is disabled." if closed else "The account is active."),
        Reason(rule="scopes", says="no" if outside else "nothing",
               detail="The key or token is narrowed to other permissions." if outside
               else "Nothing narrows this permission."),
        Reason(rule="deny", says="no" if denials else "nothing", detail=named(denials, "denies")),
        Reason(rule="allow", says="yes" if allowances else "nothing",
               detail=named(allowances, "allows")),
        Reason(rule="owner", says="yes" if owner else "nothing",
               detail="It is the caller's own." if owner else "Ownership decides nothing."),
        Reason(rule="role", says="yes" if scope == "all" else "no", detail=of_role(scope)),
    )  # fmt: skip


def named(rules: Sequence[object], verb: str) -> str:
    """Which grants speak."""
    found = ", ".join(f"{r.subject} on {r.thing}" for r in rules)  # type: ignore[attr-defined]
    return f"A grant {verb} it: {found}." if found else f"No grant {verb} it."


def of_role(scope: str) -> str:
    """What the roles say."""
    return {
        "all": "The roles allow it on everything.",
        "own": "The roles allow it on the caller's own things only.",
        "none": "No role allows it.",
    }[scope]


def decided(reasons: Sequence[Reason]) -> bool:
    """The first yes or no."""
    return next(r.says for r in reasons if r.says != "nothing") == "yes"
