"""Documents: states, limits and rankings, without any server."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.documents import rules
from schemas.documents import (
    INLINE_BYTES_MAX,
    AttachDocument,
    Found,
    NotIndexed,
    Unreadable,
    Upload,
    UploadMissing,
    WriteArtifact,
)
from schemas.problems import IllegalMove, Malformed, TooLarge

AT = datetime(2026, 1, 2, tzinfo=UTC)
ID = "0192f0c1-2345-7abc-8def-0123456789ab"
PARSED = {"media_type": "text/markdown", "doc_type": "markdown", "title": "Read", "language": "en",
          "sections": [{}, {}]}  # fmt: skip


def document(**changes):
    command = AttachDocument(name="a.md", content=b"x")
    made = rules.new_document(command, b"x", id=ID, owner="ann", at=AT)
    return made.model_copy(update=changes)


def found(ordinal, score=0.0):
    return Found(document_id=ID, title="t", ordinal=ordinal, heading="", body="b", score=score)


@given(st.lists(st.sampled_from(sorted(rules.MOVES)), max_size=8))
def test_only_moves_of_the_table_are_made_and_each_counts_one_version(wishes):
    now = document()
    for wish in wishes:
        if wish in rules.MOVES[now.status]:
            moved = rules.moved(now, wish, AT)
            assert (moved.status, moved.version) == (wish, now.version + 1)
            now = moved
        else:
            with pytest.raises(IllegalMove):
                rules.moved(now, wish, AT)


def test_every_state_but_the_end_can_be_deleted_and_every_unfinished_one_can_fail():
    assert all("deleted" in to for state, to in rules.MOVES.items() if state != "deleted")
    assert all("failed" in rules.MOVES[state] for state in rules.UNFINISHED)
    assert not rules.MOVES["deleted"]


def test_a_move_forgets_the_reason_of_the_last_one():
    failed = rules.failed(document(), "broken", AT)
    assert (failed.status_reason, failed.sections) == ("broken", 0)
    assert rules.moved(failed, "parsing", AT).status_reason is None


def test_a_read_file_takes_its_title_and_kind_from_its_bytes():
    read = rules.sectioned(document(status="parsing"), PARSED, AT)
    assert (read.title, read.doc_type, read.sections, read.language) == (
        "Read",
        "markdown",
        2,
        "en",
    )


def test_a_read_artifact_keeps_its_title_and_kind():
    command = WriteArtifact(title="Mine", body="b")
    made = rules.new_artifact(command, b"b", id=ID, owner="ann", at=AT)
    read = rules.sectioned(made.model_copy(update={"status": "parsing"}), PARSED, AT)
    assert (read.title, read.doc_type) == ("Mine", "artifact")


def test_provenance_that_no_event_could_carry_is_refused():
    command = WriteArtifact(title="t", body="b", provenance=({"x": "y" * 300_000},))
    with pytest.raises(Malformed):
        rules.new_artifact(command, b"b", id=ID, owner="ann", at=AT)


@given(st.text(min_size=1, max_size=300))
def test_an_artifact_has_a_file_name_without_folders(title):
    name = rules.artifact_name(title, "text/csv; charset=utf-8")
    assert name.endswith(".csv")
    assert not set(name) & {"/", "\\", "\x00", "\n"}


def test_a_file_comes_either_inline_or_by_upload():
    upload = Upload(object="o", sha256="0" * 64, size_bytes=1)
    assert rules.inline_content(AttachDocument(name="a", upload=upload)) is None
    assert rules.inline_content(AttachDocument(name="a", content=b"x")) == b"x"
    for both in (AttachDocument(name="a"), AttachDocument(name="a", content=b"x", upload=upload)):
        with pytest.raises(Malformed):
            rules.inline_content(both)
    with pytest.raises(Unreadable):
        rules.inline_content(AttachDocument(name="a", content=b""))
    with pytest.raises(TooLarge):
        rules.inline_content(AttachDocument(name="a", content=b"x" * (INLINE_BYTES_MAX + 1)))


def test_uploaded_bytes_must_be_the_announced_ones():
    good = rules.hash_of(b"abc")
    assert rules.require_announced(b"abc", good, 3) == b"abc"
    for digest, size in ((good, 4), ("0" * 64, 3)):
        with pytest.raises(UploadMissing):
            rules.require_announced(b"abc", digest, size)


@pytest.mark.parametrize("status", sorted(set(rules.MOVES) - {"indexed"}))
def test_only_an_indexed_document_can_be_worked_with(status):
    rules.require_indexed(document(status="indexed"))
    with pytest.raises(NotIndexed):
        rules.require_indexed(document(status=status))


@given(st.text(max_size=20), st.text(max_size=5000))
def test_what_is_embedded_is_never_empty_and_never_long(heading, body):
    assert 0 < len(rules.embedded_text(heading, body)) <= rules.EMBEDDED_CHARACTERS_MAX


def test_what_two_rankings_both_know_stands_first():
    first = [found(1), found(2), found(3)]
    second = [found(3), found(4)]
    assert rules.fused((first, second), 10)[0].ordinal == 3
    assert len(rules.fused((first, second), 2)) == 2
    assert rules.fused(((), ()), 5) == ()


@given(st.lists(st.permutations(range(6)), min_size=1, max_size=3))
def test_fusing_loses_and_doubles_nothing(orders):
    rankings = [[found(n) for n in order] for order in orders]
    fused = rules.fused(rankings, 50)
    assert sorted(f.ordinal for f in fused) == list(range(6))
    assert [f.score for f in fused] == sorted((f.score for f in fused), reverse=True)


def test_an_answer_is_cut_where_the_bus_would_refuse_it_but_never_to_nothing():
    assert rules.that_fit([]) == 0
    assert rules.that_fit([found(n) for n in range(50)]) == 50
    assert rules.that_fit([{"x": "y" * 300_000}] * 5) == 2
    assert rules.that_fit([{"x": "y" * 900_000}] * 5) == 1


@given(st.integers(1, 40), st.integers(1, 6))
def test_a_summary_shares_its_sentences_out_evenly(sentences, documents):
    shares = rules.shares(sentences, documents)
    assert sum(shares) == sentences
    assert max(shares) - min(shares) <= 1
