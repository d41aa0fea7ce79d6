"""The table of known models agrees with open_clip's own lists."""

import re

import pytest

from mmsearch.encoders import _known_models as table
from mmsearch.encoders import open_clip as plugin
from mmsearch.encoders._known_models import KNOWN_MODELS, find_known_model


def test_defaults_are_in_the_table_and_may_be_used_by_anyone():
    assert KNOWN_MODELS[:3] == (table.RECOMMENDED, table.SMALL, table.BEST)
    assert not any(model.research_only for model in KNOWN_MODELS[:3])
    assert [model.licence for model in KNOWN_MODELS[:3]] == ["Apache-2.0", "MIT", "Apache-2.0"]
    assert plugin.RECOMMENDED_VARIANT == "ViT-B-32-SigLIP2-256/webli"


@pytest.mark.parametrize("model", KNOWN_MODELS, ids=lambda model: model.variant)
def test_a_known_model_is_one_of_open_clip(model):
    from open_clip.pretrained import get_pretrained_cfg

    architecture, _, tag = model.variant.partition("/")
    assert get_pretrained_cfg(architecture, tag)["hf_hub"] == f"{model.repository}/"
    assert model.download_bytes > model.compiled_bytes > 0
    assert model.sha256 is None or re.fullmatch("[0-9a-f]{64}", model.sha256)
    assert model.research_only == ("research" in model.licence)


def test_find_known_model_by_variant():
    assert find_known_model("ViT-B-32-256/datacomp_s34b_b86k") is table.SMALL
    assert find_known_model("ViT-B-32/openai") is None


def test_slowness_is_a_positive_ratio():
    assert 0.01 < table.measure_slowness() < 1000
