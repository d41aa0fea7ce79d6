"""The container files, the systemd unit and the metadata match the project."""

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
UNIT = ROOT / "docs/how-to/mmsearch.service"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SCRIPTS = PROJECT["scripts"]
REFERENCE = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
SERVE = REFERENCE.split("## `mmsearch serve`")[1].split("\n## ")[0]

Steps = list[tuple[str, str]]


@pytest.fixture(params=["Dockerfile", "Dockerfile.cuda"])
def steps(request: pytest.FixtureRequest) -> Steps:
    text = (ROOT / request.param).read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]  # type: ignore[misc]


def values_of(steps: Steps, word: str) -> list[str]:
    return [rest for step, rest in steps if step == word]


def options_of(words: list[str]) -> list[str]:
    return [word for word in words if word.startswith("--")]


def test_dockerfile_copy_sources_exist_and_are_not_ignored(steps: Steps) -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[0] == "*"
    sources = [
        source
        for copy in values_of(steps, "COPY")
        if "--from=" not in copy
        for source in copy.split()[:-1]
    ]
    assert set(sources) == {line[1:] for line in ignored if line.startswith("!")}
    assert all((ROOT / source).exists() for source in sources)


def test_dockerfile_run_step_uses_constraints_file(steps: Steps) -> None:
    assert any("--constraint constraints.txt" in run for run in values_of(steps, "RUN"))


def test_dockerfile_runs_as_unprivileged_user(steps: Steps) -> None:
    assert values_of(steps, "USER") == ["10001"]
    assert any("--uid 10001" in run for run in values_of(steps, "RUN"))


def test_dockerfile_serves_through_console_script(steps: Steps) -> None:
    (entry,) = json.loads(values_of(steps, "ENTRYPOINT")[0])
    verb, *arguments = json.loads(values_of(steps, "CMD")[0])
    assert entry in SCRIPTS
    assert verb == "serve"
    assert all(f"`{option} " in SERVE for option in options_of(arguments))


def test_dockerfile_health_check_uses_public_route_and_exposed_port(steps: Steps) -> None:
    (check,) = values_of(steps, "HEALTHCHECK")
    port, path = re.findall(r"127\.0\.0\.1:(\d+)(/\w+)", check)[0]
    assert path in PUBLIC_PATHS & {route.path for route in health.public_router.routes}  # type: ignore[attr-defined]
    assert values_of(steps, "EXPOSE") == [port]
    assert f"default: {port};" in SERVE


def test_dockerfile_volumes_are_home_and_cache_folders(steps: Steps) -> None:
    set_to = dict(pair.split("=", 1) for pair in values_of(steps, "ENV")[0].split())
    volumes = json.loads(values_of(steps, "VOLUME")[0])
    assert [set_to["MMSEARCH_HOME"], set_to["MMSEARCH_CACHE"]] == volumes


def test_systemd_unit_is_hardened_and_starts_server() -> None:
    pairs = re.findall(r"^(\w+)=(.*)$", UNIT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    unit = dict(pairs)
    command, verb, *arguments = shlex.split(unit["ExecStart"])
    assert Path(command).name in SCRIPTS
    assert verb == "serve"
    assert all(f"`{option} " in SERVE for option in options_of(arguments))
    assert unit["User"] != "root"
    assert unit["ProtectSystem"] == "strict"
    assert unit["NoNewPrivileges"] == unit["PrivateTmp"] == "yes"
    # Commands connect to the server through a Unix socket.
    assert {"AF_UNIX", "AF_INET", "AF_INET6"} == set(unit["RestrictAddressFamilies"].split())
    told_to = " ".join(value for name, value in pairs if name == "Environment")
    assert f"MMSEARCH_HOME=/var/lib/{unit['StateDirectory']}/indexes " in told_to
    assert f"MMSEARCH_CACHE=/var/cache/{unit['CacheDirectory']} " in told_to
    assert f"XDG_RUNTIME_DIR=/run/{unit['RuntimeDirectory']}" in told_to


def test_project_metadata_names_authors_and_addresses() -> None:
    assert PROJECT["authors"] == [{"name": "The mmsearch authors"}]
    urls = PROJECT["urls"]
    # Labels known to PyPI: https://packaging.python.org/specifications/well-known-project-urls
    assert list(urls) == ["Homepage", "Documentation", "Source", "Issues", "Changelog"]
    assert all(url.startswith(urls["Homepage"]) for url in urls.values())
    assert urls["Homepage"].startswith("https://")
    for label, within in (("Documentation", "/blob/main/"), ("Changelog", "/blob/main/")):
        assert (ROOT / urls[label].split(within)[1]).exists()
