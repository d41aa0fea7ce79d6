"""Output at a terminal, and the effect of settings."""

import json
import subprocess

from tests.terminal import COMMAND, run_in_terminal


def at_a_terminal(environment, *arguments, cwd=None):
    """Return the command's output with a terminal as stdout and stderr."""
    variables = environment | {"TERM": "xterm", "NO_COLOR": "1"}
    code, shown = run_in_terminal(arguments, variables, cwd)
    assert code == 0
    return shown.decode()


def test_query_at_terminal_prints_table_with_relative_paths(environment, photo_index, photos):
    shown = at_a_terminal(
        environment, "query", "a windmill", "-k3", "-v", "--home", photo_index, cwd=photos.parent
    )
    assert "3 of 212 pictures: a windmill" in shown
    for heading in ("rank", "score", "path", "size", "date"):
        assert heading in shown
    assert "photos/photos/" in shown
    assert str(photos) not in shown


def test_index_at_terminal_shows_progress_rate(environment, photos, tmp_path):
    folder = tmp_path / "few"
    folder.mkdir()
    for path in sorted((photos / "photos").iterdir())[:40]:
        (folder / path.name).symlink_to(path)
    shown = at_a_terminal(
        environment,
        *("index", folder, "--home", tmp_path / "home", "--model", "starter"),
        "--follow-symlinks",
    )
    assert "pictures/s" in shown
    assert "40 added" in shown


def test_models_use_sets_model_of_new_indexes(mmsearch, environment, tmp_path):
    settings = tmp_path / "settings.toml"
    env = {"MMSEARCH_CONFIG": str(settings)}
    assert json.loads(mmsearch("models", "list", "--json", env=env).out)["model"] == "auto"
    mmsearch("models", "use", "starter", env=env)
    assert settings.read_text() == 'model = "starter"\n'
    assert "New indexes use: starter" in mmsearch("models", "list", env=env).err
    done = mmsearch("models", "use", "open_clip:ViT-B-32/laion2b_s34b_b79k", env=env, code=1)
    assert "or use the built-in model with --model starter" in done.err
    assert settings.read_text() == 'model = "starter"\n'
    info = json.loads(mmsearch("models", "info", "starter", "--json", env=env).out)
    assert info["dim"] > 0
    assert len(info["fingerprint"]) == 16


def test_index_without_model_hub_announces_starter_on_first_run(mmsearch, photos, tmp_path):
    folder = tmp_path / "few"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(min((photos / "photos").iterdir()).read_bytes())
    done = mmsearch("index", folder, "--home", tmp_path / "home")
    assert "Using the built-in model 'starter'" in done.err
    assert "mmsearch models list" in done.err
    again = mmsearch("index", folder, "--home", tmp_path / "home")
    assert again.err == ""


def test_query_with_reader_stopping_early_prints_no_error(environment, photo_index):
    done = subprocess.run(
        ["sh", "-c", f"'{COMMAND}' query hedgehog -k 200 --home '{photo_index}' | head -n 1"],
        env=environment,
        capture_output=True,
        check=True,
    )
    assert done.stdout.startswith(b"1\t")
    assert done.stderr == b""
