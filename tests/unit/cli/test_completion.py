"""Completion of arguments in a shell: words of a library, names and values, for each shell."""

import os
import sqlite3
from pathlib import Path

import pytest

from mmsearch.catalog.open import open_writer
from mmsearch.cli.completion import VARIABLE, complete
from mmsearch.core.records import IndexedFile, ShardCommit
from mmsearch.core.suggestions import SuggestedWord
from mmsearch.core.types import Text
from tests.unit.catalog.samples import IDENTITY, digest_of, encoded, seen

TEXTS = {
    "a": (
        Text("caption", "A red car on the beach"),
        Text("keywords", "Hot Air Balloon; beach"),
        Text("people", "Zoë Müller"),
        Text("place", "München; Porto"),
    ),
    "b": (
        Text("keywords", "$(touch hacked); `touch hacked`; be*; be\\$(id); it's; be;ach; be:d"),
        Text("keywords", "-rf"),
    ),
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Home of two indexes, of which one has pictures."""
    home = tmp_path / "home"
    for name in ("default", "holiday"):
        (home / name).mkdir(parents=True)
        catalog = open_writer(home / name / "catalog.sqlite", create=True)
        if name == "default":
            catalog.set_identity(IDENTITY)
            root, _ = catalog.ensure_root(b"/photos")
            files = {f"{content}.jpg".encode(): content for content in TEXTS}
            catalog.commit_shard(encoded(catalog, root, files))
            indexed = [
                IndexedFile(seen(path), digest_of(content), TEXTS[content], texts_key=b"key")
                for path, content in files.items()
            ]
            catalog.commit_shard(ShardCommit(root.id, 2, indexed=indexed))
            own = sorted(catalog.suggestions.collect(), key=lambda word: -word.count)
            words = [*own, SuggestedWord("cathedral", 1, confidence=0.9)]
            catalog.suggestions.save(words, catalog.suggestions.current_state("e", "v"))
        catalog.close()
    monkeypatch.setenv("MMSEARCH_HOME", str(home))
    return home


@pytest.fixture
def ask(home, capsys):
    def ask(shell, line, **variables):
        environment = {VARIABLE: f"complete_{shell}", **variables}
        if shell == "bash":
            # Bash keeps a quoted word together.
            before, quote, quoted = line.partition("'")
            words = [*before.split(" ")[:-1], quote + quoted] if quote else line.split(" ")
            environment |= {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
        else:
            environment |= {"_TYPER_COMPLETE_ARGS": line}
        code = complete(environment)
        printed = capsys.readouterr()
        assert printed.err == ""
        return code, printed.out

    return ask


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("query bea", ["beach"]),
        ("query Bea", ["Beach"]),
        ("query a red ca", ["car", "cathedral"]),
        ("query hot ai", ["air balloon", "air"]),
        ("query -k 5 --tag beach hot ai", ["air balloon", "air"]),
        ("query -bea", ["-beach"]),
        ("query 'hot ai", ["hot air balloon", "hot air"]),
        ("query zzz", []),
        ("query --index", ["--index"]),
        ("query --index ", ["default", "holiday"]),
        ("query --index h", ["holiday"]),
        ("query --index = h", ["holiday"]),
        ("query --index =", ["default", "holiday"]),
        ("status --index d", ["default"]),
        ("facets --index = d", ["default"]),
        ("query --sort -", ["-date", "-name", "-size"]),
        ("query --mode t", ["text"]),
        ("query --device c", ["cuda", "cpu"]),
        ("query --orientation p", ["portrait"]),
        ("query --format j", ["jpeg"]),
        ("query --format J", ["JPEG"]),
        ("query --tag hot", ["hot\\ air\\ balloon"]),
        ("query --tag 'hot", ["hot air balloon"]),
        ("query --tag = hot", ["hot\\ air\\ balloon"]),
        ("query --person z", ["zoë\\ müller"]),
        ("query --place p", ["porto"]),
        ("query --place mun", ["münchen"]),
        ("query --index holiday bea", []),
        ("query --index nowhere bea", []),
        ("query --index ../default bea", []),
        ("query --home /nowhere bea", []),
        ("query --image ", []),
        ("query --min-score ", []),
        ("similar ", []),
        ("similar --so", ["--sort"]),
    ],
)
def test_bash_completes_words_names_and_values(ask, line, expected):
    assert ask("bash", f"mmsearch {line}") == (0, "".join(f"{text}\n" for text in expected))


@pytest.mark.parametrize("line", ["", "qu", "models ", "index --de", "--ver", "status "])
def test_what_is_not_of_a_search_is_left_to_typer(ask, line):
    assert ask("bash", f"mmsearch {line}") == (None, "")
    assert ask("zsh", f"mmsearch {line}") == (None, "")


def test_powershell_is_left_to_typer(ask):
    assert ask("powershell", "mmsearch query bea") == (None, "")
    assert ask("nothing", "mmsearch query bea") == (None, "")


def test_zsh_gets_words_with_descriptions_and_files_without_any(ask):
    code, printed = ask("zsh", "mmsearch query bea")
    assert (code, printed) == (0, """_arguments '*: :(("beach":"tag, 1 picture"))'""")
    assert ask("zsh", "mmsearch query red ")[1] == "_files"
    assert ask("zsh", "mmsearch query --index=h")[1] == """_arguments '*: :(("--index=holiday"))'"""
    assert '"cathedral":"look"' in ask("zsh", "mmsearch query cath")[1]
    assert ask("zsh", 'mmsearch query "hot ai')[1].startswith("""_arguments '*: :(("hot air ball""")


def test_fish_gets_lines_or_an_exit_code(ask):
    line = "mmsearch query bea"
    get, test = (
        {"_TYPER_COMPLETE_FISH_ACTION": "get-args"},
        {"_TYPER_COMPLETE_FISH_ACTION": "is-args"},
    )
    assert ask("fish", line, **get) == (0, "beach\ttag, 1 picture\n")
    assert ask("fish", line, **test) == (0, "")
    assert ask("fish", "mmsearch query zzz", **test) == (1, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    "line", ["query ", "query be", "query t", "query --tag ", "query --tag be"]
)
def test_words_that_a_shell_would_evaluate_are_not_printed(ask, shell, line):
    _, printed = ask(shell, f"mmsearch {line}")
    candidates = printed.removeprefix("_arguments '*: :((").removesuffix("))'")
    assert not set("$`*;:()&|<>!{}[]#~") & set(candidates.replace('":"', ""))
    assert "touch hacked" not in printed
    assert "it's" not in printed


def test_nothing_is_printed_or_made_without_an_index(ask, home, tmp_path):
    before = sorted(path for path in tmp_path.rglob("*"))
    for line in ("query bea", "query --index ", "query --tag a", "query --camera c"):
        assert ask("bash", f"mmsearch {line} --home {tmp_path}/none")[0] in (0, None)
        assert ask("bash", f"mmsearch query --home {tmp_path}/none bea") == (0, "")
    assert sorted(path for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("damage", ["text", "old", "empty", "folder"])
def test_damaged_or_older_catalogs_give_no_candidates(ask, home, damage):
    path = home / "default" / "catalog.sqlite"
    if damage == "old":
        connection = sqlite3.connect(path)
        connection.execute("DROP TABLE suggestions")
        connection.close()
    else:
        path.unlink()
        if damage == "folder":
            path.mkdir()
        else:
            path.write_bytes(b"no database" * 1000 if damage == "text" else b"")
    for line in ("query bea", "query --tag be", "query --camera c"):
        assert ask("bash", f"mmsearch {line}") == (0, "")
        assert ask("zsh", f"mmsearch {line}")[0] == 0


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"COMP_WORDS": "mmsearch", "COMP_CWORD": "x"},
        {"COMP_WORDS": "mmsearch\nquery", "COMP_CWORD": "99"},
        {"COMP_WORDS": "mmsearch\nquery\n'\"\\", "COMP_CWORD": "2"},
        {"COMP_WORDS": "", "COMP_CWORD": "-5"},
    ],
)
def test_broken_lines_are_no_errors(home, capsys, variables):
    assert complete({VARIABLE: "complete_bash", **variables}) in (0, None)
    assert capsys.readouterr().err == ""


def test_wrong_settings_are_no_errors(ask, monkeypatch):
    monkeypatch.setenv("MMSEARCH_DEVICE", "toaster")
    assert ask("bash", "mmsearch query bea") == (0, "")


def test_home_of_the_folder_is_used(ask, home, monkeypatch):
    monkeypatch.delenv("MMSEARCH_HOME")
    monkeypatch.chdir(home.parent)
    home.rename("indexes")
    assert ask("bash", "mmsearch query bea") == (0, "beach\n")
    assert Path(os.getcwd(), "indexes").is_dir()
