"""Indexes with parts on servers, by the installed command: what it says if something is wrong."""

import shutil

import pytest

pytestmark = pytest.mark.e2e

DEAD = "127.0.0.1:1"


@pytest.mark.parametrize(
    ("option", "url", "fact", "next_step"),
    [
        (
            "--catalog",
            f"postgresql+psycopg://u@{DEAD}/db",
            "The catalog 'new' at 127.0.0.1/db cannot be reached: Connection refused.",
            "Check its address, and that the server runs.",
        ),
        (
            "--search",
            f"postgresql+psycopg://u@{DEAD}/db",
            f"The search server {DEAD} does not answer: Connection refused.",
            "Check that it runs, and that its address is right.",
        ),
    ],
)
def test_dead_server_of_a_new_index_is_named_with_the_reason(
    mmsearch, tmp_path, option, url, fact, next_step
):
    pytest.importorskip("psycopg")
    done = mmsearch("init", "new", option, url, "--home", tmp_path, code=1)
    assert done.err == f"Error: {fact} {next_step}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("migrate", "nope", "--to", "other"), ("remove", "nope")])
def test_unknown_name_that_is_an_argument_has_no_hint_to_an_option(
    mmsearch, photos, tmp_path, command
):
    home = tmp_path / "home"
    missing = f"Error: There is no index named 'nope' in {home}. "
    first = mmsearch(*command, "--home", home, code=2)
    assert first.err == f"{missing}Index a folder first: mmsearch index ./photos\n"
    (tmp_path / "photos").mkdir()
    shutil.copy(min((photos / "photos").glob("*.jpg")), tmp_path / "photos")
    mmsearch("index", tmp_path / "photos", "--home", home, "--model", "starter")
    done = mmsearch(*command, "--home", home, code=2)
    assert done.err == f"{missing}Existing indexes: default. Choose one of them.\n"
    other = mmsearch("status", "--index", "nope", "--home", home, code=2)
    assert other.err.endswith("Choose one with --index NAME.\n")
