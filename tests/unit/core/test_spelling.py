import random

import pytest

from mmsearch.core.spelling import closest_common_word, difference, edit_distance


def distances(word, other):
    """Return the table of restricted edit distances of all prefixes, as textbooks compute it."""
    rows = [
        [i + j if i * j == 0 else 0 for j in range(len(other) + 1)] for i in range(len(word) + 1)
    ]
    for i in range(1, len(word) + 1):
        for j in range(1, len(other) + 1):
            rows[i][j] = min(
                rows[i - 1][j] + 1,
                rows[i][j - 1] + 1,
                rows[i - 1][j - 1] + (word[i - 1] != other[j - 1]),
            )
            if i > 1 and j > 1 and word[i - 2 : i] == other[j - 2 : j][::-1]:
                rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1)
    return rows


def test_edit_distance_equals_the_table():
    chance = random.Random(0)
    for _ in range(2000):
        word = "".join(chance.choices("abc", k=chance.randint(1, 8)))
        other = "".join(chance.choices("abc", k=chance.randint(0, 8)))
        rows = distances(word, other)
        assert edit_distance(word, other) == rows[-1][-1]
        assert edit_distance(word, other, prefixes=True) == min(row[-1] for row in rows)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("elefant", "elephant"), ("elefante", "elephant"), ("elefnat", "elephant"),
        ("sunsett", "sunset"), ("moutain", "mountain"), ("girafe", "giraffe"),
        ("umbrela", "umbrella"), ("bycicle", "bicycle"), ("hosue", "house"), ("tigar", "tiger"),
        ("xylofone", "xylophone"), ("ohrse", "horse"), ("dgo", None), ("zzzzzzzz", None),
        ("x1y2z3", None), ("qwertyuiop", None), ("hipopotamus", "hippopotamus"),
    ],
)  # fmt: skip
def test_closest_common_word(word, meant):
    assert closest_common_word(word) == meant


def test_a_word_that_sounds_the_same_is_closer_than_one_that_looks_alike():
    assert difference("elefant", "elephant") < difference("elefant", "elegant")
    assert difference("elefant", "rhinoceros") is None
