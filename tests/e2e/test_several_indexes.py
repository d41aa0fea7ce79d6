"""Several indexes as one, by the installed command on photographs."""

import json
import shutil

import pytest

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def home(mmsearch, photos, tmp_path_factory):
    """The home of three indexes, two of which have the same three photographs."""
    folder, home = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("home")
    sources = sorted((photos / "photos").glob("*.jpg"))[:24]
    for name, chosen in (("a", sources[:10]), ("b", sources[10:18]), ("c", sources[18:])):
        (folder / name).mkdir()
        for source in chosen:
            shutil.copy(source, folder / name)
    for source in sources[:3]:
        shutil.copy(source, folder / "c" / f"copy-{source.name}")
        (folder / "a" / source.name).with_suffix(".txt").write_text("an old impeller")
    for name in "abc":
        mmsearch("index", folder / name, "--index", name, "--home", home, "--model", "starter")
    return home


@pytest.fixture
def ask(mmsearch, home):
    """Run a command in some indexes and return its JSON object."""

    def ask(command, *arguments, names="abc"):
        chosen = [word for name in names for word in ("--index", name)]
        done = mmsearch(command, *arguments, *chosen, "--json", "--home", home)
        return json.loads(done.out)

    return ask


def places(answer):
    return [(hit["index"], hit["id"]) for hit in answer["hits"]]


def test_each_content_is_one_hit_and_is_counted_once(ask):
    hits = ask("query", "impeller", "-k", "100", "--no-fold")["hits"]
    assert len(hits) == len({hit["path"] for hit in hits}) == 24
    assert {hit["index"] for hit in hits[:3]} == {"a"}
    assert all("copy-" in hit["copies"][0] for hit in hits[:3])
    found = ask("facets", "--by", "format", "--no-fold")
    assert (found["counted"], found["of"]) == (24, 24)
    (jpeg,) = found["facets"][0]["values"]
    assert jpeg["count"] == 24


def test_hits_are_feedback_by_name_and_id(mmsearch, home, ask):
    first = ask("query", "a dog", "-k", "30")
    right, wrong = first["hits"][5], first["hits"][0]
    clicks = (
        *("--like", f"{right['index']}:{right['id']}"),
        f"--unlike={wrong['index']}:{wrong['id']}",
    )
    again = ask("query", "a dog", *clicks, "-k", "30")
    assert (wrong["index"], wrong["id"]) not in places(again)
    assert f"picture {right['index']}:{right['id']}" in again["query"]
    assert ask("facets", "a dog", *clicks)["query"] == again["query"]
    alone = ask("query", "--like", f"{right['index']}:{right['id']}")
    assert places(alone)[0] == (right["index"], right["id"])


@pytest.mark.parametrize("command", ["query", "facets"])
@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--index", "a", "--index", "none"), "There is no index named 'none'"),
        (("--index", "a", "--index", "a"), "Index 'a' is named twice. Name it once."),
        (("--index", "a", "--index", "b", "--like", "1"), "before it, such as holiday:12."),
        (("--index", "a", "--index", "b", "--like", "c:1"), "before it, such as holiday:12."),
        (("--index", "a", "--index", "b", "--unlike", "b:99"), "Index 'b' has no picture 99."),
        (("--index", "a", "--like", "b:1"), "'b:1' is not the id of a hit."),
        (("--index", "a", "--like", "0"), "'0' is not the id of a hit. Use a whole number"),
    ],
)
def test_wrong_names_and_ids_are_refused(mmsearch, home, command, words, complaint):
    assert complaint in mmsearch(command, "a dog", *words, "--home", home, code=2).err


def test_assistants_get_one_index_each(mmsearch, home):
    pytest.importorskip("mcp")
    done = mmsearch("mcp", "--index", "a", "--index", "b", "--home", home, code=2)
    assert "Configure one 'mmsearch mcp --index NAME' for each index." in done.err
