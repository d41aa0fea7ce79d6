"""Smoke test of the installed command: ``python -m scripts.smoke``."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

PHOTOS = Path(__file__).parent.parent / "tests" / "photos" / "photos"
COMMAND = str(Path(sys.executable).with_name("mmsearch"))
OPTIONAL_MODULES = (
    "mmsearch.client",
    "mmsearch.evaluation.metrics",
    "mmsearch.integrations.langchain",
    "mmsearch.integrations.llama_index",
    "mmsearch.mcp.server",
    "mmsearch.sources._web.fetch",
)
PORT = "17788"


def main() -> None:
    """Index ten photographs and search them in every way.

    Raises:
        CalledProcessError: A command failed.
        SystemExit: A result is not the expected one.
    """
    for module in OPTIONAL_MODULES:
        importlib.import_module(module)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ |= {
            "MMSEARCH_HOME": str(home / "indexes"),
            "MMSEARCH_CACHE": str(home / "cache"),
            "MMSEARCH_CONFIG": str(home / "settings.toml"),
            "HF_HUB_OFFLINE": "1",
        }
        photos = home / "photos"
        photos.mkdir()
        names = [path.name for path in sorted(PHOTOS.iterdir())[:10]]
        for name in names:
            shutil.copy(PHOTOS / name, photos)
        (photos / "captions.csv").write_text(f"path,caption\n{names[0]},a purple windmill\n")
        run("index", photos, "--model", "starter", "--captions", photos / "captions.csv")
        hits = json.loads(run("query", "a purple windmill", "--mode", "text", "--json"))["hits"]
        expect([Path(hit["path"]).name for hit in hits], names[:1])
        hits = json.loads(run("query", "a building", "--json"))["hits"]
        expect({Path(hit["path"]).name for hit in hits}, set(names))
        similar = json.loads(run("similar", photos / names[3], "--json"))["hits"]
        expect(Path(similar[0]["path"]).name, names[3])
        run("reindex", "--fusion", "concat")
        run("status")
        run("check", "--sources", "--content")
        query_server(names[0])
    sys.stdout.write("6 modules and 9 commands passed.\n")


def run(*arguments: object) -> str:
    """Run the command and return its standard output; its standard error is passed through."""
    command = [COMMAND, *map(str, arguments)]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return result.stdout


def expect(actual: object, expected: object) -> None:
    """Exit with an error if the two values differ."""
    if actual != expected:
        raise SystemExit(f"Expected {expected!r}, got {actual!r}.")


def query_server(expected_name: str) -> None:
    """Start a server and query it over HTTP."""
    server = subprocess.Popen([COMMAND, "serve", "--port", PORT], stderr=subprocess.PIPE, text=True)
    try:
        for line in server.stderr or ():
            if PORT in line:
                break
        address = f"http://127.0.0.1:{PORT}/v1/indexes/default/search?q=purple&mode=text"
        with urllib.request.urlopen(address) as response:
            hits = json.load(response)["hits"]
        expect(Path(hits[0]["path"]).name, expected_name)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
