"""Rows of every format, from every container; a malformed one is named by file and line."""

from __future__ import annotations

import gzip
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.datasets.test_streams import zipped
from zoo.datasets import rows as rows_module
from zoo.datasets.streams import open_streams
from zoo.datasets.texts import conversation, read_rows, read_texts
from zoo.errors import ZooError

CEVAL = "id,question,A,B,C,D,answer,explanation\n"


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def texts(path, form=None):
    return list(read_texts([path], form))


def test_text_lines_in_gzip(tmp_path):
    path = write(tmp_path / "c4.json.gz", gzip.compress(b'{"text": "one", "url": "u"}\n{"text": "two"}\n'))
    assert texts(path, "text-jsonl") == texts(path) == ["one\n", "two\n"]


def test_alpaca_as_a_list(tmp_path):
    rows = [{"instruction": "Add.", "input": "1 1", "output": "2"}, {"instruction": "Go.", "input": "", "output": ""}]
    path = write(tmp_path / "alpaca.json", json.dumps(rows, indent=1))
    assert texts(path, "alpaca") == texts(path) == ["Add.\n1 1\n2\n\n", "Go.\n\n"]


def test_sharegpt(tmp_path):
    rows = [{"id": "x", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]}]
    path = write(tmp_path / "s.json", json.dumps(rows))
    assert texts(path, "sharegpt") == ["Hi\nHo\n\n"]
    assert [conversation(row) for row in read_rows([path], "sharegpt")] == [[("human", "Hi"), ("gpt", "Ho")]]


def test_ceval_takes_dev_and_val(tmp_path):
    row = '0,"What, then?",a,b,c,d,B,\n'
    members = {"dev/x_dev.csv": CEVAL + '1,Q,a,b,c,d,A,"because\nso"\n', "val/x_val.csv": CEVAL + row}
    members |= {"test/x_test.csv": "id,question,A,B,C,D\n0,Q,a,b,c,d\n", "README.md": "# no data"}
    found = texts(zipped(tmp_path / "ceval-exam.zip", members), "ceval")
    assert len(found) == 2
    assert found[0] == "Q\nA. a\nB. b\nC. c\nD. d\n答案：A\nbecause\nso\n\n"
    assert found[1].startswith("What, then?\nA. a\n")


def test_opencompass_reads_csv_without_header(tmp_path):
    members = {"data/mmlu/dev/a.csv": "Q,1,2,3,4,A\n", "data/gsm8k/train.jsonl": '{"question": "q", "answer": "a"}\n'}
    assert texts(zipped(tmp_path / "o.zip", members), "opencompass") == ["q\na\n\n", "Q\n1\n2\n3\n4\nA\n\n"]


def test_plain_text_comes_back_whole(tmp_path):
    content = "".join(f"line {one} of a text\n" for one in range(5000))
    found = texts(write(tmp_path / "a.txt", "\ufeff" + content))
    assert "".join(found) == content
    assert len(found) > 3
    assert texts(write(tmp_path / "noend.txt", "no end")) == ["no end\n"]


VALUES = st.recursive(st.none() | st.integers() | st.text(max_size=9), st.lists, max_leaves=5)


@given(
    st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=4), max_size=12),
    st.integers(1, 40),
    st.sampled_from([None, 2]),
)
def test_json_lists_read_as_json_does(tmp_path_factory, values, piece, indent):
    path = write(tmp_path_factory.mktemp("j") / "a.json", json.dumps(values, indent=indent))
    before, rows_module._PIECE = rows_module._PIECE, piece
    try:
        found = [row for stream in open_streams(path) for row in rows_module.rows(stream)]
    finally:
        rows_module._PIECE = before
    assert [row.value for row in found] == values
    if indent is None:
        assert {row.line for row in found} <= {1}


def test_lines_are_counted_in_lists(tmp_path):
    path = write(tmp_path / "a.json", '[\n{"text":\n "a"},\n\n{"text": "b"},\n7]')
    assert [row.line for row in read_rows([path])] == [2, 5, 6]
    with pytest.raises(ZooError, match=r"a\.json, line 6: wanted a text, or an object"):
        texts(path)


def test_a_long_list_is_not_held_in_memory(tmp_path):
    row = json.dumps({"text": "x" * 10_000})
    path = write(tmp_path / "big.json", "[" + ",".join([row] * 3000) + "]")
    tracemalloc.start()
    count = sum(1 for _ in read_texts([path]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 3000
    assert peak < 8 * 2**20 < path.stat().st_size


@pytest.mark.parametrize(
    ("name", "content", "form", "message"),
    [
        ("a.jsonl", '{"text": "x"}\n{"text": \n', "text-jsonl", r"a\.jsonl, line 2: is not JSON"),
        ("a.jsonl", '{"text": "x"}\n{"body": "y"}\n', "text-jsonl", r"line 2: wanted a text .* the fields body"),
        ("a.jsonl", '{"text": 3}\n', "text-jsonl", r"line 1: wanted a text as 'text', found a int"),
        ("a.jsonl", "[" * 100_000 + "\n", "text-jsonl", r"line 1: is not JSON"),
        ("a.json", '[{"instruction": "a"}]', "alpaca", r"line 1: wanted a text as 'output'"),
        ("a.json", '[{"instruction": "a", "output": "b"}', "alpaca", r"a\.json, line 1: is truncated"),
        ("a.json", '[\n{"instruction": "a", "output": "b', "alpaca", r"a\.json, line 2: is"),
        ("a.json", "[" * 100_000, "alpaca", r"line 1: is"),
        ("a.json", '[{"text": "a"} {}]' + " " * 99, None, r"line 1: is not JSON"),
        ("a.json", '[{"text": "a"}] []', None, r"more text after the list"),
        ("a.json", "[]", None, r"a\.json: holds no row of data"),
        ("a.json", '[{"conversations": [{"from": "human"}]}]', "sharegpt", r"line 1: a turn of 'conversations'"),
        ("a.json", '[{"conversations": "x"}]', "sharegpt", r"found a str"),
        ("a.csv", CEVAL + "0,Q,a,b,c,d,A,\n1,Q,a,b\n", "ceval", r"a\.csv, line 3: has 4 fields, the header names 8"),
        ("a.csv", CEVAL + "0,Q,a,b,c,d,E,\n", "ceval", r"line 2: 'answer' is 'E'"),
        ("a.csv", 'id,question\n0,"never closed\n', "ceval", r"line 2: is not CSV"),
        ("a.csv", "id,question,A,B,C,D,answer\n", "ceval", r"a\.csv: holds no row"),
        ("a.csv", "x,y\n1,2\n", "ceval", r"line 2: wanted a text as 'question', found the fields x, y"),
        ("a.csv", '"x\ny",\x1b[2J\n1,2\n', None, r"found the fields x y, \\u001b\[2J$"),
        ("a.txt", b"good\n\xff\xfe bad\n", None, r"a\.txt, line 2: is not UTF-8"),
        ("a.txt", b"good\n\x00\x00\n", None, r"a\.txt, line 2: holds zero bytes"),
        ("a.json", b'[{"text": "\xff"}]', None, r"a\.json, after line 1: is not UTF-8"),
    ],
)  # fmt: skip
def test_malformed_rows_name_file_and_line(tmp_path, name, content, form, message):
    with pytest.raises(ZooError, match=message) as caught:
        texts(write(tmp_path / name, content), form)
    assert "\n" not in str(caught.value)


def test_a_row_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "MAX_ROW", 1000)
    monkeypatch.setattr(rows_module, "_PIECE", 500)
    with pytest.raises(ZooError, match="line 2: is longer than 1,000 bytes"):
        texts(write(tmp_path / "a.jsonl", '{"text": "x"}\n' + "y" * 2000))
    with pytest.raises(ZooError, match="line 1: a value is longer than 1,000"):
        texts(write(tmp_path / "a.json", '[{"text": "' + "y" * 5000))


def test_unknown_format(tmp_path):
    with pytest.raises(ZooError, match="did you mean alpaca"):
        texts(write(tmp_path / "a.json", "[]"), "alpacca")
