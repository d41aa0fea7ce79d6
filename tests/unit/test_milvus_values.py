"""The values for Milvus' Helm chart have keys that the chart knows, and are safe."""

from pathlib import Path

import yaml

VALUES = Path(__file__).parents[2] / "docs" / "how-to" / "milvus-values.yaml"
COMPONENT = {"enabled", "replicas", "resources", "volumes", "volumeMounts"}
CHART = {
    "cluster": {"enabled"},
    "image": {"all"},
    "service": {"type", "port"},
    "proxy": COMPONENT,
    "queryNode": COMPONENT,
    "dataNode": COMPONENT,
    "indexNode": COMPONENT,
    "streaming": {"enabled"},
    "streamingNode": COMPONENT,
    "extraConfigFiles": {"user.yaml"},
}
"""Keys of values.yaml of milvus-helm 5, as far as they are used."""


def test_values_have_keys_of_the_chart():
    values = yaml.safe_load(VALUES.read_text())
    assert set(values) <= set(CHART)
    for name, part in values.items():
        assert set(part) <= CHART[name], name
    assert set(values["image"]["all"]) <= {"repository", "tag", "pullPolicy", "pullSecrets"}


def test_values_keep_a_copy_and_the_door_closed():
    values = yaml.safe_load(VALUES.read_text())
    version = tuple(map(int, values["image"]["all"]["tag"].removeprefix("v").split(".")))
    assert version >= (2, 6, 10)
    assert values["queryNode"]["replicas"] >= 2
    assert (values["service"]["type"], values["service"]["port"]) == ("ClusterIP", 19530)
    settings = yaml.safe_load(values["extraConfigFiles"]["user.yaml"])
    assert settings["common"]["security"] == {"authorizationEnabled": True, "tlsMode": 1}
    assert settings["queryNode"] == {"segcore": {"interimIndex": {"enableIndex": False}}}
    (mount,) = values["proxy"]["volumeMounts"]
    assert Path(settings["tls"]["serverPemPath"]).parent == Path(mount["mountPath"])
    assert {volume["name"] for volume in values["proxy"]["volumes"]} == {mount["name"]}
