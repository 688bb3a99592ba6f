"""Evaluation: a result is judged and the judgement kept."""

import pytest

from schemas import evaluation, events
from schemas.evaluation import ListScores, ScoreResult
from schemas.events import QueryEvents
from schemas.problems import Denied

pytestmark = pytest.mark.usefixtures("platform")
SUBJECT = "0192f0c0-0000-7000-8000-000000000001"


def result(text="In region North 12 orders failed.", **fields):
    given = {"question": "How many orders failed in each region?", "facts": ({"failed": 12},)}
    return ScoreResult(subject_id=SUBJECT, text=text, **given | fields)


async def test_a_score_is_kept_with_its_findings_and_announced(ask):
    score = await ask(evaluation.score, result())
    assert (score.grade, score.subject_id) == ("A", SUBJECT)
    assert len(score.findings) == 6
    listed = await ask(evaluation.scores, ListScores(subject_type="goal", subject_id=SUBJECT))
    assert listed.items == (score,)
    recorded = await ask(events.query, QueryEvents(aggregate_id=score.id))
    assert [event.type for event in recorded.items] == ["evaluation.scored"]


async def test_an_invented_figure_costs_the_best_grade(ask):
    score = await ask(evaluation.score, result("In region North 12 orders failed, 77 in all."))
    assert score.grade != "A"
    assert any("77" in finding for finding in score.findings)


async def test_the_same_key_judges_once(ask):
    first = await ask(evaluation.score, result(), key="k")
    assert await ask(evaluation.score, result(), key="k") == first
    assert len((await ask(evaluation.scores, ListScores(subject_id=SUBJECT))).items) == 1


async def test_scores_are_listed_newest_first_in_pages(ask):
    made = [(await ask(evaluation.score, result())).id for _ in range(5)]
    first = await ask(evaluation.scores, ListScores(limit=3))
    rest = await ask(evaluation.scores, ListScores(limit=3, cursor=first.next))
    assert [s.id for s in (*first.items, *rest.items)] == made[::-1]


async def test_a_viewer_reads_scores_and_gives_none(ask_as):
    viewer = ask_as("viewer")
    await viewer(evaluation.scores, ListScores())
    with pytest.raises(Denied):
        await viewer(evaluation.score, result())
