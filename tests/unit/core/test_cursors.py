import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.cursors import cursor_position, decode_cursor, encode_cursor
from mmsearch.core.errors import InvalidQueryError

LIMIT = 2**63
positions = st.integers(1, LIMIT - 1)


@given(positions, st.text())
def test_cursor_gives_back_its_position_to_its_query(position, query):
    cursor = encode_cursor(position, query)
    assert decode_cursor(cursor, query, LIMIT) == cursor_position(cursor, LIMIT) == position
    assert cursor.replace("-", "").replace("_", "").isalnum()
    assert len(cursor) <= 19


@given(positions, st.text(), st.text())
def test_cursor_of_another_query_is_refused(position, query, other):
    if query != other:
        with pytest.raises(InvalidQueryError, match="of another query"):
            decode_cursor(encode_cursor(position, query), other, LIMIT)


@given(st.text())
def test_other_texts_are_refused(text):
    with pytest.raises(InvalidQueryError, match=r"Invalid cursor\.|of another query"):
        decode_cursor(text, "a dog", LIMIT)


@pytest.mark.parametrize("position", [1000, 10**6])
def test_position_beyond_the_limit_is_refused(position):
    with pytest.raises(InvalidQueryError, match="Invalid cursor"):
        decode_cursor(encode_cursor(position, "a dog"), "a dog", 1000)


def test_no_cursor_is_the_first_page():
    assert decode_cursor(None, "a dog", LIMIT) == cursor_position(None, LIMIT) == 0
