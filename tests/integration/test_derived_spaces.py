"""A space is derived from the stored vectors of another: nothing is decoded, and searches go on."""

import shutil
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mmsearch
from mmsearch.core.query import Mode
from mmsearch.core.types import CROSS_ATTENTION, FusionSpec, SearchGoals
from mmsearch.encoders._adapter import Adapter, LinearMap
from mmsearch.encoders.adapted import AdaptedEncoder
from mmsearch.factories import catalogs
from mmsearch.factories.plugins import make_fusion
from mmsearch.indexing import indexer as indexer_module
from mmsearch.indexing.indexer import Indexer
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segments import read_segment
from tests.integration.test_fused_search import TOLD, WORDS, describe_step, reindex, run
from tests.integration.test_indexer_law import apply, write
from tests.property_budget import examples
from tests.toy_index import ToyEncoder, toy_engine, toy_indexer

COUNT = 12
DIM = 20


class AdaptedToy(AdaptedEncoder):
    """The toy encoder with maps of random numbers, which counts the vectors that it derives."""

    def __init__(self, name="adapted:/mine.safetensors", seed=0):
        rng = np.random.default_rng(seed)
        shape = (DIM, ToyEncoder.spec.dim)
        maps = {
            kind: LinearMap(
                rng.standard_normal(shape).astype(np.float32),
                rng.standard_normal(DIM).astype(np.float32),
            )
            for kind in ("image", "text")
        }
        adapter = Adapter("toy", ToyEncoder.spec.fingerprint, maps)
        self.toy = ToyEncoder()
        self.derived = {"image": 0, "text": 0}
        super().__init__(name, adapter, self.toy)

    def derive(self, kind, vectors):
        self.derived[kind] += len(vectors)
        return super().derive(kind, vectors)


@pytest.fixture
def toys(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(COUNT):
        write(folder, b"%d.toy" % number, b"content %d" % number, 1 + number)
    write(folder, b"clip.film", b"film\nfive|a boat\nsix\nseven|an old mill", 30)
    write(folder, b"3.toy.txt", b"an old mill", 1)
    write(folder, b"7.toy.txt", b"a red boat", 1)
    return folder


@pytest.fixture
def layout(tmp_path, toys):
    layout = IndexLayout(tmp_path / "home" / "index")
    run(layout, toys)
    return layout


def change_encoder(layout, encoder, **options):
    with toy_indexer(layout, encoder) as indexer:
        return indexer.change_encoder(**options)


def stored_vectors(layout):
    """Return the image vector, and kind and vector of each text, of each item of an index."""
    vectors = {}
    with catalogs.open_read(layout) as catalog:
        stale = catalog.stale_rows()
        for segment in catalog.segments():
            held = read_segment(layout, segment)
            for item_id, image, texts in zip(
                held.ids.tolist(), held.images, held.texts, strict=True
            ):
                if item_id not in stale.get(segment.number, ()):
                    vectors[item_id] = (image, texts.kinds, texts.vectors)
    return vectors


def assert_same_vectors(layout, other, atol=2e-3):
    mine, theirs = stored_vectors(layout), stored_vectors(other)
    assert sorted(mine) == sorted(theirs)
    for item_id, (image, kinds, texts) in theirs.items():
        np.testing.assert_allclose(mine[item_id][0], image, atol=atol)
        assert mine[item_id][1] == kinds
        np.testing.assert_allclose(mine[item_id][2], texts, atol=atol)


def search(layout, encoder, text="an old mill"):
    with toy_engine(layout, encoder) as engine:
        result = engine.search_text(text, 99, Mode.VECTOR)
    return result.encoder, {hit.id: round(hit.score, 2) for hit in result.hits}


def building(layout):
    with catalogs.open_read(layout) as catalog:
        rows = sum(segment.rows for segment in catalog.list_building_segments())
        return catalog.building_key(), rows


def remove_files(toys):
    for path in toys.iterdir():
        path.unlink()


def test_derived_vectors_equal_those_of_the_pictures(layout, toys, tmp_path):
    fresh = IndexLayout(tmp_path / "home" / "fresh")
    run(fresh, toys, AdaptedToy())
    remove_files(toys)
    encoder = AdaptedToy()
    report = change_encoder(layout, encoder)
    assert (report.reencoded, report.decoded, report.failed) == (False, 0, ())
    assert encoder.toy.encoded == 0
    assert encoder.derived == {"image": COUNT + 3, "text": 4}
    assert report.derived == COUNT + 3 + 4
    assert report.pictures == COUNT + 1
    assert_same_vectors(layout, fresh)
    assert search(layout, encoder) == search(fresh, encoder)
    with catalogs.open_read(layout) as catalog:
        assert catalog.identity().encoder == encoder.spec
        assert list(catalog.find_problems()) == []


@settings(
    max_examples=examples(15),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(before=st.lists(TOLD, max_size=8), after=st.lists(TOLD, max_size=6))
def test_index_derived_within_any_history_equals_fresh_one(tmp_path_factory, before, after):
    base = tmp_path_factory.mktemp("law")
    folder = base / "photos"
    folder.mkdir()
    write(folder, b"first.toy", b"first", 1)
    old, fresh, encoder = IndexLayout(base / "old"), IndexLayout(base / "fresh"), AdaptedToy()
    tick = 1
    for steps, serving in ((before, None), (after, encoder)):
        for step in steps:
            tick += 1
            if step[0] in {"tell", "hush"}:
                describe_step(folder, step, tick)
            elif step[0] == "index":
                run(old, folder, serving)
            else:
                apply(folder, step, tick)
        if serving is None:
            run(old, folder)
            change_encoder(old, encoder)
    run(old, folder, encoder)
    run(fresh, folder, encoder)
    for words in WORDS[:3]:
        mine, theirs = search(old, encoder, words)[1], search(fresh, encoder, words)[1]
        np.testing.assert_allclose(sorted(mine.values()), sorted(theirs.values()), atol=0.011)
    shutil.rmtree(base)


def test_searches_are_answered_from_the_old_space_until_the_switch(layout, toys, monkeypatch):
    monkeypatch.setattr(indexer_module, "DERIVE_PAGE_SIZE", 4)
    before, encoder, seen = search(layout, None), AdaptedToy(), []

    def on_progress(progress):
        seen.append((progress.phase, progress.done, building(layout)[1], search(layout, None)))

    change_encoder(layout, encoder, progress=on_progress)
    assert [(phase, done, rows) for phase, done, rows, _ in seen] == [
        ("derive", 4, 4),
        ("derive", 8, 8),
        ("derive", 12, 12),
        ("derive", 15, 15),
        ("build", 0, 15),
    ]
    assert all(answer == before for *_, answer in seen)
    name, after = search(layout, encoder)
    assert (name, sorted(after)) == (encoder.spec.name, sorted(before[1]))
    assert after != before[1]
    assert building(layout) == (None, 0)


def test_interrupted_derivation_goes_on_with_the_rest(layout, toys, monkeypatch):
    monkeypatch.setattr(indexer_module, "DERIVE_PAGE_SIZE", 4)
    before, encoder = search(layout, None), AdaptedToy()
    remove_files(toys)

    def stop(progress):
        if progress.done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        change_encoder(layout, encoder, progress=stop)
    assert search(layout, None) == before
    assert building(layout) == (encoder.spec.fingerprint, 8)
    report = change_encoder(layout, encoder)
    assert encoder.derived["image"] == COUNT + 3
    assert report.derived < COUNT + 3
    assert report.pictures == COUNT + 1
    assert len(search(layout, encoder)[1]) == COUNT + 1


def test_other_adapter_discards_an_interrupted_derivation(layout, toys):
    other = AdaptedToy(seed=1)
    with toy_indexer(layout, AdaptedToy()) as indexer:
        indexer.catalog.activate_space = lambda *arguments: 1 / 0
        with pytest.raises(ZeroDivisionError):
            indexer.change_encoder()
    remove_files(toys)
    assert change_encoder(layout, other).derived == COUNT + 3 + 4
    assert search(layout, other)[0] == other.spec.name


def test_texts_that_changed_before_are_encoded(layout, toys, tmp_path, monkeypatch):
    write(toys, b"3.toy.txt", b"a dog by the old mill", 50)
    write(toys, b"5.toy.txt", b"a blue boat", 50)
    (toys / "7.toy.txt").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Indexer, "_refresh_text_vectors", lambda indexer: 0)
        run(layout, toys)
    encoder = AdaptedToy()
    report = change_encoder(layout, encoder)
    assert (report.decoded, encoder.toy.encoded) == (0, 0)
    with catalogs.open_write(layout, 0, create=False) as catalog:
        assert catalog.list_stale(0, 99) == []
    fresh = IndexLayout(tmp_path / "home" / "fresh")
    run(fresh, toys, encoder)
    assert_same_vectors(layout, fresh)


def test_pictures_without_a_usable_vector_are_decoded(layout, toys, tmp_path):
    write(toys, b"late.toy", b"late", 60)
    run(layout, toys)
    with catalogs.open_write(layout, 0, create=False) as catalog:
        catalog.mark_undecoded(catalog.segments()[-1].number)
    encoder = AdaptedToy()
    report = change_encoder(layout, encoder)
    assert (report.reencoded, report.decoded, encoder.toy.encoded) == (False, 1, 1)
    fresh = IndexLayout(tmp_path / "home" / "fresh")
    run(fresh, toys, encoder)
    assert len(stored_vectors(layout)) == COUNT + 4
    assert search(layout, encoder, "late") == search(fresh, encoder, "late")


def test_pictures_indexed_afterwards_are_in_the_derived_space(layout, toys, tmp_path):
    encoder = AdaptedToy()
    change_encoder(layout, encoder)
    write(toys, b"new.toy", b"new", 60)
    write(toys, b"new.toy.txt", b"a windmill", 60)
    assert run(layout, toys, encoder).added == 1
    assert encoder.toy.encoded == 1
    fresh = IndexLayout(tmp_path / "home" / "fresh")
    run(fresh, toys, encoder)
    for text in ("a windmill", "an old mill"):
        assert sorted(search(layout, encoder, text)[1].values()) == pytest.approx(
            sorted(search(fresh, encoder, text)[1].values()), abs=0.011
        )


def test_fusion_that_needs_patches_decodes_and_says_so(layout, toys):
    reindex(layout, "attention", again=True)
    encoder = AdaptedToy()
    with toy_indexer(layout, encoder) as indexer:
        assert indexer.explain_decoding() == (
            "The fusion 'attention' needs patch and token vectors, which are not stored, so every"
            " picture is decoded again."
        )
        report = indexer.change_encoder()
    assert (report.reencoded, report.derived, report.decoded) == (True, 0, COUNT + 3)
    assert encoder.toy.encoded == COUNT + 3


def test_vectors_of_a_former_fusion_that_needs_patches_are_left_out(layout, toys, tmp_path):
    reindex(layout, "attention", again=True)
    reindex(layout, "weighted")
    assert any(CROSS_ATTENTION in kinds for _, kinds, _ in stored_vectors(layout).values())
    fresh = IndexLayout(tmp_path / "home" / "fresh")
    encoder = AdaptedToy()
    run(fresh, toys, encoder)
    assert change_encoder(layout, encoder).decoded == 0
    assert_same_vectors(layout, fresh)
    with toy_indexer(layout, encoder) as indexer:
        indexer.reindex(make_fusion(FusionSpec("concat")), "exact", SearchGoals())
    assert len(search(layout, encoder)[1]) == COUNT + 1


def test_vectors_of_another_model_are_not_derived(layout, toys):
    first, second = AdaptedToy(), AdaptedToy("adapted:/second.safetensors", seed=1)
    change_encoder(layout, first)
    with toy_indexer(layout, second) as indexer:
        assert indexer.explain_decoding() == (
            "The index has vectors of adapted:/mine.safetensors, not of toy, so every picture is"
            " decoded again."
        )
        report = indexer.change_encoder()
    assert (report.reencoded, report.derived) == (True, 0)
    back = ToyEncoder()
    with toy_indexer(layout, back) as indexer:
        assert indexer.explain_decoding() is None
        assert indexer.change_encoder().reencoded
    assert back.encoded == COUNT + 3


def test_same_adapter_again_only_takes_over_its_new_name(layout, toys):
    encoder = AdaptedToy()
    change_encoder(layout, encoder)
    remove_files(toys)
    before = search(layout, encoder)
    moved = AdaptedToy("adapted:/moved.safetensors")
    report = change_encoder(layout, moved)
    assert (report.reencoded, report.derived, report.decoded) == (False, 0, 0)
    assert (moved.derived, moved.toy.encoded) == ({"image": 0, "text": 0}, 0)
    with catalogs.open_read(layout) as catalog:
        assert catalog.identity().encoder.name == "adapted:/moved.safetensors"
    assert search(layout, moved)[1] == before[1]


# --- photographs, with the built-in model as the base ---


@pytest.fixture(scope="module")
def starter_index(photos, tmp_path_factory):
    """Folder with the home of an index of photographs in a folder, an archive and a program."""
    base = tmp_path_factory.mktemp("starter_index")
    paths = sorted((photos / "photos").glob("*.jpg"))
    folder = base / "photos"
    folder.mkdir()
    for path in paths[:5]:
        shutil.copy(path, folder)
        (folder / path.name).with_suffix(".txt").write_text(f"caption of {path.stem}")
    with zipfile.ZipFile(base / "more.zip", "w") as archive:
        for path in paths[5:8]:
            archive.write(path, path.name)
    settings = mmsearch.load_settings().with_flags(model="starter", workers=1)
    with mmsearch.open_index(home=base / "home", settings=settings) as index:
        index.add_folder(folder)
        index.add_source(base / "more.zip")
        content, texts = paths[8].read_bytes(), ["a picture of a program"]
        index.add([content], ["mine"], texts=texts, keep_originals=True)
        index.reindex(fusion="weighted", text_weight=0.4)
    return base


def test_photographs_of_all_sources_are_derived_without_their_files(starter_index, tmp_path):
    shutil.copytree(starter_index / "home", tmp_path / "home")
    rng = np.random.default_rng(0)
    with mmsearch.open_index(home=tmp_path / "home") as index:
        spec = index.status().identity.encoder
        maps = np.eye(spec.dim) + 0.05 * rng.standard_normal((2, spec.dim, spec.dim))
        name = mmsearch.save_adapter(tmp_path / "mine.safetensors", spec, *maps[:, :300])
        # Its sources are still there, so it decodes them again, as with any other model.
        shutil.copytree(tmp_path / "home", tmp_path / "decoded")
    with mmsearch.open_index(home=tmp_path / "decoded") as decoded:
        decode_all(decoded, name)
    away = starter_index.rename(starter_index.with_name("away"))
    try:
        with mmsearch.open_index(home=tmp_path / "home") as index:
            report = index.reindex(model=name)
            assert (report.derived, report.decoded, report.reencoded) == (9 + 6, 0, False)
            hits = index.search("a picture of a program", k=20)
            assert len(hits) == 9
            assert index.check().verdict == "sound"
    finally:
        away.rename(starter_index)
    layouts = [IndexLayout(tmp_path / home / "default") for home in ("home", "decoded")]
    assert_same_vectors(*layouts, atol=4e-3)


def decode_all(index, name):
    """Change the encoder without the stored vectors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Indexer, "_as_derived_encoder", lambda indexer: None)
        report = index.reindex(model=name)
    assert (report.reencoded, report.decoded) == (True, 9)


def test_derived_index_lives_on(starter_index, tmp_path, photos):
    home = tmp_path / "home"
    shutil.copytree(starter_index / "home", home)
    path = tmp_path / "mine.safetensors"
    with mmsearch.open_index(home=home) as index:
        spec = index.status().identity.encoder
        turn = np.linalg.qr(np.random.default_rng(0).standard_normal((spec.dim, spec.dim)))[0]
        name = mmsearch.save_adapter(path, spec, turn, turn)
        before = index.search("a bird", k=9, mode="vector")
        index.reindex(model=name)
        after = index.search("a bird", k=9, mode="vector")
        # A rotation of both spaces keeps all similarities.
        assert [hit.id for hit in after] == [hit.id for hit in before]
        assert [hit.score for hit in after] == pytest.approx(
            [hit.score for hit in before], abs=2e-3
        )
        path.rename(tmp_path / "moved.safetensors")
        new = sorted((photos / "photos").glob("*.jpg"))[9]
        shutil.copy(new, starter_index / "photos" / "new.jpg")
        try:
            assert index.add_folder(starter_index / "photos").added == 1
        finally:
            (starter_index / "photos" / "new.jpg").unlink()
        like = index.search(mmsearch.Query((mmsearch.Term(image=new),)), k=1)[0]
        assert like.score == pytest.approx(1, abs=2e-3)
        index.export(tmp_path / "vectors", format="npy")
        index.backup(tmp_path / "copy")
    with mmsearch.open_index("imported", home=home) as imported:
        imported.import_embeddings(tmp_path / "vectors")
        assert imported.status().identity.encoder.name == name
        assert len(imported.search("a bird", k=20)) == 10
    for segment in (home / "default" / "segments").iterdir():
        content = bytearray(segment.read_bytes())
        content[len(content) // 2] ^= 1
        segment.write_bytes(content)
    with mmsearch.open_index(home=home) as index:
        index.repair()
        assert index.check().verdict == "sound"
        # The new photograph is gone.
        assert len(index.search("a bird", k=20)) == 9
        assert index.status().identity.encoder.name == name
