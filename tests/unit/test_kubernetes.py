"""The manifest of a Ray cluster uses options, variables and settings that exist."""

import re
import shlex
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from mmsearch.core.settings import ENVIRONMENT_PREFIX, Settings

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "docs/how-to/ray-cluster.yaml"
REFERENCE = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def objects():
    documents = yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))
    return {document["kind"]: document for document in documents}


def pods(objects):
    cluster = objects["RayCluster"]["spec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [
        *(group["template"]["spec"] for group in groups),
        objects["Job"]["spec"]["template"]["spec"],
    ]


def commands(objects):
    (container,) = objects["Job"]["spec"]["template"]["spec"]["containers"]
    (line,) = container["args"]
    return [shlex.split(part.replace("exec ", "")) for part in line.split("&&")]


def test_manifest_has_the_objects_of_a_cluster_and_a_run(objects):
    assert set(objects) == {"PersistentVolumeClaim", "RayCluster", "Job"}
    assert objects["RayCluster"]["apiVersion"] == "ray.io/v1"
    (pinned,) = PROJECT["optional-dependencies"]["ray"]
    assert f"ray=={objects['RayCluster']['spec']['rayVersion']}" == pinned


def test_manifest_runs_mmsearch_with_options_of_the_command(objects):
    _, command = commands(objects)
    assert command[:2] == ["mmsearch", "index"]
    section = REFERENCE.split("## `mmsearch index`")[1].split("\n## ")[0]
    options = [word for word in command if word.startswith("--")]
    assert {"--executor", "--address", "--workers"} <= set(options)
    assert all(re.search(rf"`(-\w, )?{option}\b", section) for option in options)


def test_manifest_starts_ray_with_options_of_its_command(objects):
    scripts = pytest.importorskip("ray.scripts.scripts")
    known = {option for parameter in scripts.start.params for option in parameter.opts}
    start, _ = commands(objects)
    used = [word.partition("=")[0] for word in start[2:]]
    cluster = objects["RayCluster"]["spec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        used += [f"--{name}" for name in group["rayStartParams"]]
    assert set(used) <= known


def test_manifest_gives_all_pods_the_same_places_and_a_token(objects):
    settings = {ENVIRONMENT_PREFIX + field.name.upper() for field in fields(Settings)}
    found = []
    for pod in pods(objects):
        (container,) = pod["containers"]
        variables = {variable["name"]: variable for variable in container["env"]}
        assert variables["RAY_AUTH_MODE"]["value"] == "token"
        assert "secretKeyRef" in variables["RAY_AUTH_TOKEN"]["valueFrom"]
        assert variables["RAY_USAGE_STATS_ENABLED"]["value"] == "0"
        assert {name for name in variables if name.startswith(ENVIRONMENT_PREFIX)} <= settings
        assert {volume["name"] for volume in pod["volumes"]} == {
            mount["name"] for mount in container["volumeMounts"]
        }
        found.append((container["image"], container["env"], container["volumeMounts"]))
    assert all(entry == found[0] for entry in found)
