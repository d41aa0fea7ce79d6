"""Fixtures of all tests: isolated settings, no model hub, one model cache."""

import os
import shutil
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path

import pytest

from tests.property_budget import load_profile

PHOTOS = Path(__file__).parent / "photos"

COMPILED_MODELS = Path(__file__).parents[1] / ".venv" / "test-models"


load_profile()


def _isolated(variables):
    kept = {name: value for name, value in variables.items() if not name.startswith("MMSEARCH_")}
    return kept | {"HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Return the model cache of this run, with the compiled starter of earlier runs.

    The folder of a compiled model is named by its weights and the code version, so that a change of
    either compiles it again. Concurrent runs may share $MMSEARCH_TEST_MODELS: a model appears there
    by one rename.
    """
    cache = tmp_path_factory.mktemp("cache")
    shared = Path(os.environ.get("MMSEARCH_TEST_MODELS") or COMPILED_MODELS)
    for compiled in shared.glob("starter-*"):
        shutil.copytree(compiled, cache / "models" / compiled.name)
    yield cache
    for compiled in (cache / "models").glob("starter-*"):
        if not (shared / compiled.name).exists():
            staged = shared / f"{uuid.uuid4()}.tmp"
            shutil.copytree(compiled, staged)
            with suppress(OSError):  # another run was faster
                staged.rename(shared / compiled.name)
            shutil.rmtree(staged, ignore_errors=True)


@pytest.fixture(scope="session")
def environment(cache, tmp_path_factory):
    """The environment of a subprocess that must not see this machine's settings."""
    home = tmp_path_factory.mktemp("home")
    return _isolated(os.environ) | {
        "MMSEARCH_CACHE": str(cache),
        "MMSEARCH_CONFIG": str(home / "settings.toml"),
        "MMSEARCH_HOME": str(home / "indexes"),
        "COLUMNS": "120",
        "XDG_RUNTIME_DIR": str(home),
    }


@pytest.fixture(autouse=True)
def _isolate(monkeypatch, environment):
    for name in list(os.environ):
        if name.startswith("MMSEARCH_"):
            monkeypatch.delenv(name)
    for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG", "HF_HUB_OFFLINE", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, environment[name])


@pytest.fixture(scope="session")
def photos():
    """212 photographs with one word each."""
    return PHOTOS


@pytest.fixture(scope="session")
def mmsearch(environment):
    """The installed command: ``mmsearch("query", "a dog", code=0)`` -> the finished process."""
    command = Path(sys.executable).with_name("mmsearch")

    def run(*arguments, code=0, cwd=None, env=None, stdin=""):
        done = subprocess.run(
            [command, *map(str, arguments)],
            capture_output=True,
            cwd=cwd,
            env=environment | (env or {}),
            input=stdin.encode(),
            timeout=300,
            check=False,
        )
        done.out = done.stdout.decode("utf-8", "surrogateescape")
        done.err = done.stderr.decode("utf-8", "surrogateescape")
        assert code is None or done.returncode == code, (done.returncode, done.out, done.err)
        assert "Traceback" not in done.err
        return done

    return run


@pytest.fixture(scope="session")
def photo_index(mmsearch, photos, tmp_path_factory):
    """The home of an index of all photographs, made by the installed command."""
    home = tmp_path_factory.mktemp("photo_index")
    mmsearch("index", photos, "--home", home, "--model", "starter")
    return home
