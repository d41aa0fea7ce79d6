"""The container files and the systemd unit say what the project is."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from mmsearch.server.routes import health
from mmsearch.server.security import PUBLIC_PATHS

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "docs/mmsearch.service"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SCRIPTS = PROJECT["scripts"]
REFERENCE = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
SERVE = REFERENCE.split("## `mmsearch serve`")[1].split("\n## ")[0]

Steps = list[tuple[str, str]]


@pytest.fixture(params=["Dockerfile", "Dockerfile.cuda"])
def steps(request: pytest.FixtureRequest) -> Steps:
    text = (ROOT / request.param).read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]  # type: ignore[misc]


def told(steps: Steps, word: str) -> list[str]:
    return [rest for step, rest in steps if step == word]


def options_of(words: list[str]) -> list[str]:
    return [word for word in words if word.startswith("--")]


def test_what_is_copied_exists_and_is_not_ignored(steps: Steps) -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[0] == "*"
    sources = [
        source
        for copy in told(steps, "COPY")
        if "--from=" not in copy
        for source in copy.split()[:-1]
    ]
    assert set(sources) == {line[1:] for line in ignored if line.startswith("!")}
    assert all((ROOT / source).exists() for source in sources)


def test_versions_are_pinned(steps: Steps) -> None:
    assert any("--constraint constraints.txt" in run for run in told(steps, "RUN"))


def test_it_does_not_run_as_root(steps: Steps) -> None:
    assert told(steps, "USER") == ["10001"]
    assert any("--uid 10001" in run for run in told(steps, "RUN"))


def test_it_serves_by_the_console_script(steps: Steps) -> None:
    (entry,) = json.loads(told(steps, "ENTRYPOINT")[0])
    verb, *arguments = json.loads(told(steps, "CMD")[0])
    assert entry in SCRIPTS
    assert verb == "serve"
    assert all(f"`{option} " in SERVE for option in options_of(arguments))


def test_its_health_is_a_route_without_token(steps: Steps) -> None:
    (check,) = told(steps, "HEALTHCHECK")
    port, path = re.findall(r"127\.0\.0\.1:(\d+)(/\w+)", check)[0]
    assert path in PUBLIC_PATHS & {route.path for route in health.public_router.routes}  # type: ignore[attr-defined]
    assert told(steps, "EXPOSE") == [port]
    assert f"default: {port};" in SERVE


def test_volumes_are_where_it_writes(steps: Steps) -> None:
    set_to = dict(pair.split("=", 1) for pair in told(steps, "ENV")[0].split())
    volumes = json.loads(told(steps, "VOLUME")[0])
    assert [set_to["MMSEARCH_HOME"], set_to["MMSEARCH_CACHE"]] == volumes


def test_the_unit_is_hardened_and_starts_the_server() -> None:
    pairs = re.findall(r"^(\w+)=(.*)$", UNIT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    unit = dict(pairs)
    command, verb, *arguments = shlex.split(unit["ExecStart"])
    assert Path(command).name in SCRIPTS
    assert verb == "serve"
    assert all(f"`{option} " in SERVE for option in options_of(arguments))
    assert unit["User"] != "root"
    assert unit["ProtectSystem"] == "strict"
    assert unit["NoNewPrivileges"] == unit["PrivateTmp"] == "yes"
    # Commands meet the server at a Unix socket.
    assert {"AF_UNIX", "AF_INET", "AF_INET6"} == set(unit["RestrictAddressFamilies"].split())
    told_to = " ".join(value for name, value in pairs if name == "Environment")
    assert f"MMSEARCH_HOME=/var/lib/{unit['StateDirectory']}/indexes " in told_to
    assert f"MMSEARCH_CACHE=/var/cache/{unit['CacheDirectory']} " in told_to
    assert f"XDG_RUNTIME_DIR=/run/{unit['RuntimeDirectory']}" in told_to


def test_the_package_names_its_authors_and_addresses() -> None:
    assert PROJECT["authors"] == [{"name": "The mmsearch authors"}]
    urls = PROJECT["urls"]
    # The labels that PyPI knows: https://packaging.python.org/specifications/well-known-project-urls
    assert list(urls) == ["Homepage", "Documentation", "Source", "Issues", "Changelog"]
    assert all(url.startswith(urls["Homepage"]) for url in urls.values())
    assert urls["Homepage"].startswith("https://")
    for label, within in (("Documentation", "/tree/main/"), ("Changelog", "/blob/main/")):
        assert (ROOT / urls[label].split(within)[1]).exists()
