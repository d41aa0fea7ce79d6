import subprocess
import sys

import pytest

from mmsearch.core.language import (
    LANGUAGES,
    find_other_language,
    is_english_word,
    language_scores,
    split_words,
)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("ein Hund am Strand", "de"),
        ("Ein roter Apfel auf dem Tisch", "de"),
        ("Kinder spielen Fußball", "de"),
        ("un chien sur la plage", "fr"),
        ("une pomme rouge", "fr"),
        ("un perro en la playa", "es"),
        ("gatto", "it"),
        ("Vogel", "de"),
        ("chien", "fr"),
        ("cane sulla spiaggia", "it"),
        ("hond op het strand", "nl"),
        ("perro", "es"),
        ("Katze", "de"),
        ("犬", "zh"),
        ("いぬ", "ja"),
        ("浜辺の犬", "ja"),
        ("一只狗", "zh"),
        ("собака на пляже", "ru"),
        ("їжак", "uk"),
        ("개", "ko"),
        ("σκύλος", "el"),
        ("كلب", "ar"),
        ("con chó trên bãi biển", "vi"),
    ],
)
def test_find_other_language_of_a_foreign_query(text, code):
    assert find_other_language(text) == code


@pytest.mark.parametrize(
    "text",
    [
        "", "   ", "42", "…", "😀", "DSC_0012", "IMG", "IMG_2034.jpg", "#sunset", "10:30", "a",
        "a dog on the beach", "Two dogs playing", "children's toys", "it's raining", "I'm happy",
        "cafe", "café", "piñata", "crème brûlée", "naïve", "uber", "die hard", "gift", "chat noir",
        "chat", "elefnat", "sunsett", "birtday cake", "moutain", "beech hose", "xmas", "selfie",
        "new york", "los angeles", "san francisco", "rio de janeiro", "machu picchu", "el paso",
        "angela merkel", "giulia at the beach", "grandma Rosa", "Nikon D70", "volkswagen", "ikea",
        "sushi", "paella", "pizza margherita", "kindergarten", "tyrannosaurus rex", "Déjà vu",
    ],
)  # fmt: skip
def test_find_other_language_of_english_and_names_is_none(text):
    assert find_other_language(text) is None


def test_text_mostly_in_latin_letters_keeps_its_language():
    assert find_other_language("the sign 東京 in the rain of the city") is None
    assert find_other_language("東京タワー fog") == "ja"


@pytest.mark.parametrize(
    ("word", "is_english"),
    [
        ("dog", True), ("dogs", True), ("running", True), ("tried", True), ("boxes", True),
        ("dog's", True), ("don't", True), ("of", True), ("x", True), ("piñata", True),
        ("hund", False), ("perro", False), ("über", False), ("elefant", False), ("zzzz", False),
        ("", True),
    ],
)  # fmt: skip
def test_is_english_word(word, is_english):
    assert is_english_word(word) is is_english


def test_split_words_leaves_out_file_names_numbers_and_marks():
    assert split_words("The L\u2019Oréal ad, IMG_2034 x2 #tag me@home no-go") == [
        "the", "l'oréal", "ad", "no", "go",
    ]  # fmt: skip


def test_language_scores_has_one_for_each_language():
    assert len(language_scores(["hund"])) == len(LANGUAGES)


def test_english_words_need_no_numpy():
    program = (
        "import sys; from mmsearch.core.language import find_other_language as f; "
        "f('a dog on the beach'); print('numpy' in sys.modules)"
    )
    completed = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert completed.stdout.strip() == b"False"
