"""Fixtures of all tests: isolated settings, no model hub, one model cache."""

import hashlib
import os
import shutil
import subprocess
import sys
import uuid
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from mmsearch.core.plugins import load
from mmsearch.core.types import EncoderOptions, InputKind
from tests.property_budget import load_profile

HERE = Path(__file__).parent
PHOTOS = HERE / "photos"
COMMAND = Path(sys.executable).with_name("mmsearch")

load_profile()


def _isolated(variables):
    kept = {name: value for name, value in variables.items() if not name.startswith("MMSEARCH_")}
    return kept | {"HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="session")
def compiled_models():
    """Folder of compiled models that outlives the run; processes share it under file locks."""
    folder = Path(os.environ.get("MMSEARCH_TEST_MODELS") or HERE.parent / ".venv" / "test-models")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache(compiled_models, tmp_path_factory):
    """Return the model cache of this run, with the compiled starter of earlier runs.

    The folder of a compiled model is named by its weights and the code version, so that a change of
    either compiles it again.
    """
    cache = tmp_path_factory.mktemp("cache")
    lock = FileLock(compiled_models / "starter.lock")
    with lock:
        if not any(compiled_models.glob("starter-*")):
            _compile_all_towers("starter", "", cache)
            _publish(cache / "models", compiled_models)
        for compiled in compiled_models.glob("starter-*"):
            shutil.copytree(compiled, cache / "models" / compiled.name, dirs_exist_ok=True)
    yield cache
    with lock:
        _publish(cache / "models", compiled_models)


def _compile_all_towers(plugin, variant, cache):
    encoder = load("encoders", plugin).build(EncoderOptions(variant, "cpu", cache, offline=True))
    image = np.zeros((64, 64, 3), np.uint8)
    for kind, item in ((InputKind.TEXT, "a dog"), (InputKind.IMAGE, image)):
        encoder.token_vectors(kind, [encoder.prepare(kind, item)])


def _publish(compiled_here, shared):
    """Copy compiled models that are not among the shared ones, or have more towers than there."""
    for compiled in compiled_here.glob("starter-*"):
        there = shared / compiled.name
        known = set(os.listdir(there)) if there.exists() else set()
        if set(os.listdir(compiled)) > known:
            staged = shared / f"{uuid.uuid4()}.tmp"
            shutil.copytree(compiled, staged)
            shutil.rmtree(there, ignore_errors=True)
            staged.rename(there)


@pytest.fixture(scope="session")
def tiny_clip(compiled_models, cache):
    """Name of an open_clip model of a tiny checkpoint, compiled once per version of their code."""
    digest = hashlib.sha256("".join(map(version, ("onnxruntime", "open_clip_torch"))).encode())
    for path in sorted((HERE.parent / "mmsearch" / "encoders").rglob("*.py")):
        digest.update(path.read_bytes())
    folder = compiled_models / f"tiny-clip-{digest.hexdigest()[:12]}"
    with FileLock(folder.with_suffix(".lock")):
        complete = folder / "variant"
        if not complete.exists():
            from tests.clip_checkpoints import tiny_variant

            folder.mkdir(exist_ok=True)
            variant = tiny_variant(folder)
            _compile_all_towers("open_clip", variant, folder)
            complete.write_text(variant)
    shutil.copytree(folder / "models", cache / "models", dirs_exist_ok=True)
    return f"open_clip:{complete.read_text()}"


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


@pytest.fixture(scope="session", autouse=True)
def _isolate_session(environment):
    """Isolate the fixtures of modules: they run before those of a test."""
    with pytest.MonkeyPatch.context() as patch:
        _set_isolated(patch, environment)
        yield


@pytest.fixture(autouse=True)
def _isolate(monkeypatch, environment):
    _set_isolated(monkeypatch, environment)


def _set_isolated(patch, environment):
    for name in list(os.environ):
        if name.startswith("MMSEARCH_"):
            patch.delenv(name)
    for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG", "HF_HUB_OFFLINE", "XDG_RUNTIME_DIR"):
        patch.setenv(name, environment[name])


@pytest.fixture(scope="session")
def photos():
    """212 photographs with one word each."""
    return PHOTOS


@pytest.fixture(scope="session")
def forked_command(environment, tmp_path_factory):
    """Path of an executable that does what the command does, without the start of Python."""
    if not hasattr(os, "fork"):
        yield COMMAND
        return
    folder = tmp_path_factory.mktemp("command")
    command, path = folder / "mmsearch", folder / "socket"
    head = f"#!{sys.executable} -ISE\nSOCKET = {str(path)!r}\n"
    command.write_text(head + (HERE / "command_client.py").read_text(encoding="utf-8"))
    command.chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.command_server", path],
        cwd=HERE.parent,
        # Without these, libraries start threads at import, which a fork would lose.
        env=environment | {"OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert server.stdout.readline() == b"ready\n"
    yield command
    server.communicate(timeout=60)


def _runner(command, environment):
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
def mmsearch(environment, forked_command):
    """The command: ``mmsearch("query", "a dog", code=0)`` -> the finished process."""
    return _runner(forked_command, environment)


@pytest.fixture(scope="session")
def installed_mmsearch(environment):
    """The same with the installed command, which takes a second longer."""
    return _runner(COMMAND, environment)


@pytest.fixture(scope="session")
def photo_index(mmsearch, photos, tmp_path_factory):
    """The home of an index of all photographs, made by the command once for all test processes."""
    home, shared = tmp_path_factory.mktemp("photo_index"), tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    made = shared / "photo_index_made"
    with FileLock(shared / "photo_index.lock"):
        if not made.exists():
            mmsearch("index", photos, "--home", home, "--model", "starter")
            shutil.copytree(home, made)
            return home
    shutil.copytree(made, home, dirs_exist_ok=True)
    return home
