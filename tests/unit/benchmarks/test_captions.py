"""Ranks, metrics and paired differences of the captions benchmark."""

import pytest

from benchmarks.quality import captions


def row(ranks, model="starter", language="en"):
    return {
        "set": "photos dev",
        "language": language,
        "model": model,
        "queries": len(ranks),
        "pictures": 20,
        "metrics": captions.summarize(ranks),
        "ranks": " ".join(map(str, ranks)),
    }


def test_rank_of_first_relevant_takes_the_best_copy_and_counts_from_one():
    assert captions.rank_of_first_relevant(["a", "b", "c"], {"c", "b"}) == 2
    assert captions.rank_of_first_relevant(["a", "b", "c"], {"a"}) == 1
    assert captions.rank_of_first_relevant(["a", "b", "c"], {"z"}) == 4
    assert captions.rank_of_first_relevant([], {"z"}) == 1


def test_summarize_known_ranks_gives_their_recalls():
    metrics = captions.summarize([1, 2, 6, 11])
    assert {name: values[0] for name, values in metrics.items()} == pytest.approx(
        {"R@1": 0.25, "R@5": 0.5, "R@10": 0.75, "MRR": (1 + 1 / 2 + 1 / 6 + 1 / 11) / 4}
    )
    assert all(low <= value <= high for value, low, high in metrics.values())


def test_summarize_against_baseline_pairs_the_queries():
    difference = captions.summarize([1, 1, 5], [1, 2, 11])
    assert difference["R@1"][0] == pytest.approx(1 / 3)
    assert difference["R@10"][0] == pytest.approx(1 / 3)
    assert captions.summarize([3, 4], [3, 4])["MRR"] == [0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="3 queries cannot be paired with 2"):
        captions.summarize([1, 1, 5], [1, 2])


def test_difference_from_stored_row_names_its_model():
    rows = [row([1, 3], "old"), row([9, 9], "old", "de")]
    changed = row([1, 1], "new")
    assert captions.find_baseline(changed, rows) is rows[0]
    found = captions.difference_from(rows[0], changed)
    assert found["baseline"] == "old"
    assert found["difference"]["R@1"][0] == pytest.approx(0.5)
    assert captions.find_baseline(row([1], language="fr"), rows) is None


def test_read_trials_splits_languages_and_copies(tmp_path):
    table = tmp_path / "captions.csv"
    table.write_text(
        "path,split,same_as,en,de\np/a.jpg,dev,p/b.jpg,a cat,eine Katze\np/b.jpg,test,,dog,Hund\n",
        encoding="utf-8",
    )
    english, german = captions.read_trials(table, "photos dev", "dev")
    assert english.captions == ("a cat",)
    assert (german.language, german.captions) == ("de", ("eine Katze",))
    assert english.relevant == (frozenset({"a.jpg", "b.jpg"}),)
    assert [len(trial.captions) for trial in captions.read_trials(table, "photos")] == [2, 2]
    assert captions.read_trials(table, "photos", "other") == []


def test_page_shows_measurements_and_differences():
    second = row([1, 2], "other")
    second |= captions.difference_from(row([1, 12]), second)
    text = captions.page([row([1, 12]), second])
    assert "| photos dev | en | starter | 2 | 0.500" in text
    assert "minus starter on the same captions" in text
    assert "| photos dev | en | other | 2 | +0.000 [+0.00, +0.00] | +0.500" in text
    assert "minus" not in captions.page([row([1, 12])])
