"""What a killed run leaves is taken up again."""

from __future__ import annotations

from pathlib import Path

from zoo.evaluation.journal import Journal, request_key


def test_answers_come_back_exactly(tmp_path: Path) -> None:
    first = Journal(tmp_path / "a" / "journal.jsonl")
    first.add("one", [-1.2345678901234567, True])
    first.add("two", "text\nwith lines ☃")
    first.close(done=False)
    again = Journal(first.path)
    assert again.resumed == 2
    assert again.known("one") == [-1.2345678901234567, True]
    assert again.known("two") == "text\nwith lines ☃"
    assert again.known("three") is None
    again.close(done=True)
    assert not first.path.exists()


def test_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"request": "one", "answer": 1}\n{"request": "two", "ans')
    journal = Journal(path)
    assert journal.known("one") == 1
    assert journal.known("two") is None
    journal.add("three", 3)
    journal.close(done=False)
    assert Journal(path).known("three") == 3


def test_requests_of_different_kinds_have_different_keys() -> None:
    assert request_key("likelihood", [[1], [2]]) == request_key("likelihood", [(1,), (2,)])
    assert (
        len({request_key("likelihood", [[1], [2]]), request_key("completion", [[1], [2]]), request_key("x", [[1, 2]])})
        == 3
    )
