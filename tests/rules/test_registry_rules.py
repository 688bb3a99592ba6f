"""What is believed of answers to $SRV.INFO and of registrations, and what is announced."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.registry import health, rules
from schemas.principal import Principal
from schemas.registry import (
    NewEndpoint,
    RegisterService,
    Service,
    ServiceAppeared,
    ServiceChanged,
    ServiceHealthChanged,
    ServiceLost,
    ServiceNameTaken,
    ServiceVersionTaken,
)

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def info(**fields: Any) -> dict[str, Any]:
    endpoint = {"name": "now", "subject": "tool.weather.now", "metadata": {"summary": "Weather."}}
    return {
        "type": "io.nats.micro.v1.info_response", "name": "weather", "id": "a", "version": "1.0.0",
        "description": "Weather", "metadata": None, "endpoints": [endpoint],
    } | fields  # fmt: skip


def instance(**fields: Any) -> rules.Instance:
    return rules.parse(json.dumps(info(**fields)).encode())


def rounds(*answers: list[rules.Instance]) -> dict[str, rules.Observation]:
    sightings: dict[str, rules.Sighting] = {}
    for number, each in enumerate(answers, start=1):
        sightings = rules.seen(sightings, each, number)
    return rules.observe(sightings.values())


@pytest.mark.parametrize(
    "odd",
    [
        {"name": "a.b"},
        {"name": "*"},
        {"name": None},
        {"version": "newest"},
        {"id": ""},
        {"description": "x" * 2_000},
        {"endpoints": [{}] * 201},
        {"endpoints": "all"},
        {"endpoints": [7]},
        {"endpoints": [{"name": "x", "subject": "y", "metadata": {"a": 1}}]},
        {"endpoints": [{"name": "x", "subject": "y", "metadata": {"a": "x" * 33_000}}]},
        {"endpoints": [{"name": "x", "subject": "y", "metadata": {"a": "b\x00"}}]},
        {"endpoints": [{"name": "x", "subject": f"y{n}", "metadata": {"a": "x" * 30_000}}
                       for n in range(40)]},
        {"metadata": {"a": {}}},
    ],
)  # fmt: skip
def test_a_malformed_or_oversized_answer_is_refused(odd: dict[str, Any]) -> None:
    with pytest.raises(rules.Malformed):
        instance(**odd)


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.text() | st.integers(), lambda i: st.lists(i) | st.dictionaries(st.text(), i)
    ).map(lambda v: json.dumps(v).encode())
)
def test_whatever_is_answered_is_believed_or_refused(data: bytes) -> None:
    try:
        rules.parse(data)
    except rules.Malformed:
        return


def test_a_service_is_lost_only_after_three_silent_rounds() -> None:
    there = [instance()]
    assert "weather" in rounds(there, [], [])
    assert rounds(there, [], [], []) == {}


def test_one_lost_answer_changes_nothing() -> None:
    both = [instance(id="a"), instance(id="b")]
    assert rounds(both, both[:1])["weather"].instances == 2
    assert rounds(both, both[:1], both[:1], both[:1])["weather"].instances == 1


def test_the_newest_version_speaks_for_the_service() -> None:
    old, new = instance(id="z", version="1.9.0"), instance(id="a", version="1.10.0")
    assert rounds([old, new])["weather"].newest.service_version == "1.10.0"
    assert rules.rank(instance(version="1.0.0")) > rules.rank(instance(version="1.0.0-rc1"))


def test_only_real_changes_count_and_a_return_keeps_the_id() -> None:
    [observation] = rounds([instance()]).values()
    first = rules.appeared(observation, None, AT)
    again = rules.appeared(observation, first, AT)
    assert rules.news(first, again) is None
    gone = rules.removed(first, "Nobody answers for it.", AT)
    back = rules.appeared(observation, gone, AT)
    assert (gone.version, back.version, back.id) == (2, 3, first.id)
    assert rules.news(gone, back) == ServiceAppeared(service=back)


def service(**fields: Any) -> Service:
    [observation] = rounds([instance()]).values()
    return rules.appeared(observation, None, AT).model_copy(update=fields)


@pytest.mark.parametrize(
    ("before", "after", "announced"),
    [
        (None, service(), ServiceAppeared),
        (None, service(status="flapping"), ServiceAppeared),
        (service(status="lost"), service(), ServiceAppeared),
        (service(), service(status="lost"), ServiceLost),
        (service(), service(instances=2), ServiceChanged),
        (service(), service(status="degraded"), ServiceHealthChanged),
        (service(status="unhealthy"), service(), ServiceHealthChanged),
        (service(), service(status="unhealthy", instances=2), ServiceChanged),
        (None, service(status="lost"), None),
        (service(status="lost"), service(status="lost", instances=0), None),
        (service(), service(reason="x", updated_at=AT.replace(hour=13), version=2), None),
    ],
)  # fmt: skip
def test_only_what_is_new_is_announced(
    before: Service | None, after: Service, announced: type | None
) -> None:
    event = rules.news(before, after)
    assert (type(event) if event else None) == announced


def command(**fields: Any) -> RegisterService:
    endpoint = NewEndpoint(name="now", subject="tool.weather.now", description="Weather.")
    return RegisterService(
        **{"name": "weather", "description": "Weather", "endpoints": (endpoint,)} | fields
    )


def by(name: str, *roles: Any) -> Principal:
    return Principal(id=name, kind="user", roles=roles or ("developer",))


def test_a_name_belongs_to_who_registered_it_and_to_admins() -> None:
    mine = rules.registered(command(), None, "ada", AT)
    for before in (mine, rules.removed(mine, "x", AT)):
        rules.require_registrable(command(), before, by("ada"))
        rules.require_registrable(command(), before, by("eve", "admin"))
        with pytest.raises(ServiceNameTaken):
            rules.require_registrable(command(), before, by("eve"))
    with pytest.raises(ServiceNameTaken):  # it answers by itself
        rules.require_registrable(command(), service(), by("ada"))


@pytest.mark.parametrize("name", ["tools", "registry", "entries", "search", "platform"])
def test_the_platforms_own_names_cannot_be_registered(name: str) -> None:
    with pytest.raises(ServiceNameTaken):
        rules.require_registrable(command(name=name), None, by("root", "admin"))


def test_a_version_means_one_set_of_endpoints() -> None:
    mine = rules.registered(command(), None, "ada", AT)
    rules.require_registrable(command(description="Other words"), mine, by("ada"))
    rules.require_registrable(command(service_version="1.0.1", endpoints=()), mine, by("ada"))
    with pytest.raises(ServiceVersionTaken):
        rules.require_registrable(command(endpoints=()), mine, by("ada"))


def test_what_is_registered_offers_its_endpoints_as_tools() -> None:
    [endpoint] = rules.registered(command(tags=("a", "b")), None, "ada", AT).endpoints
    assert endpoint.metadata["tool"] == "weather.now"
    assert json.loads(endpoint.metadata["input_schema"]) == {"type": "object"}


def test_a_lease_ends_and_the_service_is_removed_some_time_later() -> None:
    watch = rules.watched(command(lease_s=60, remove_after_s=90), None, anew=True, at=AT)
    assert watch.look_at == AT + timedelta(seconds=60)
    assert watch.health.status == "ready"
    ended = AT + timedelta(seconds=60)
    late = watch.now(ended, watch.health)
    assert (late.health.status, late.health.reason) == ("unhealthy", "Its lease has ended.")
    assert late.look_at == late.removal == ended + timedelta(seconds=90)
    renewed = late.renewed(ended)
    assert renewed.health.status == "ready"
    assert renewed.removal is None


def test_checks_stop_when_no_subject_is_named_and_what_they_said_is_forgotten() -> None:
    watch = rules.watched(command(health_subject="tool.weather.well"), None, anew=True, at=AT)
    state = watch.health
    for _ in range(3):
        state = health.checked(state, AT, well=False)
    assert state.status == "unhealthy"
    unwell = watch.model_copy(update={"health": state})
    again = rules.watched(command(health_subject="tool.x"), unwell, anew=False, at=AT)
    assert again.health.status == "unhealthy"
    assert rules.watched(command(), unwell, anew=False, at=AT).health.status == "ready"
    assert rules.checked_by_itself({}, unwell, AT).health.status == "ready"
    assert rules.checked_by_itself({"health": "req.x.y"}, unwell, AT).health_subject is None


def failure(code: str, /, **details: Any) -> dict[str, Any]:
    return {"code": code, "details": details}


@pytest.mark.parametrize(
    ("error", "blamed"),
    [
        (None, False),
        (failure("ERR_510"), True),
        (failure("ERR_510", code="500"), True),
        (failure("ERR_510", code="400"), False),
        (failure("ERR_511"), True),
        (failure("ERR_600"), True),
        (failure("ERR_101"), False),
    ],
    ids=str,
)
def test_a_service_is_blamed_for_its_own_faults_only(error: Any, blamed: bool) -> None:
    assert rules.to_blame(error) is blamed


def test_tags_are_one_text_and_what_is_no_tag_is_left_out() -> None:
    assert rules.tags_of({"tags": "a,b,a,,No,c-1"}) == ("a", "b", "c-1")
    assert rules.tags_of({}) == ()
