"""Pulling, exporting and importing models, with a local stand-in for the hub and a tiny SigLIP."""

import hashlib
import io
import json
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import typer

import mmsearch
from mmsearch.cli.models import export_model, import_model
from mmsearch.cli.pull import pull
from mmsearch.core.errors import (
    ChecksumError,
    DiskFullError,
    DownloadError,
    ModelUnavailableError,
    SourceError,
    UnknownNameError,
    UsageError,
)
from mmsearch.core.settings import load_settings
from mmsearch.core.types import InputKind
from mmsearch.encoders import _known_models, _pull
from mmsearch.encoders import open_clip as plugin
from mmsearch.encoders._hub import HubClient
from tests import clip_checkpoints
from tests.stand_in_hub import stand_in_hub

pytestmark = pytest.mark.enable_socket

REPOSITORY, ARCHITECTURE = "people/tiny", "tiny-hub-siglip"
NAME, WEIGHTS = f"open_clip:{ARCHITECTURE}/toy", "open_clip_model.safetensors"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The files of a repository with a tiny SigLIP, and the folder of its architecture."""
    folder, configs = tmp_path_factory.mktemp("repository"), tmp_path_factory.mktemp("configs")
    text_config = clip_checkpoints.TINY_SIGLIP["text_cfg"] | {"hf_tokenizer_name": REPOSITORY}
    config = clip_checkpoints.TINY_SIGLIP | {"text_cfg": text_config}
    clip_checkpoints.add_architecture(ARCHITECTURE, config, configs)
    clip_checkpoints.save_checkpoint(ARCHITECTURE, folder).rename(folder / WEIGHTS)
    clip_checkpoints.save_gemma_tokenizer(folder, text_config["vocab_size"])
    return {path.name: path.read_bytes() for path in folder.iterdir()}, configs


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    """A folder that the tests of this module share."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def hub(repository, monkeypatch, tmp_path):
    files, configs = repository
    weights = {"toy": {"hf_hub": f"{REPOSITORY}/"}, "old": {"url": "https://example.org/x.pt"}}
    monkeypatch.setitem(plugin_pretrained(), ARCHITECTURE, weights)
    monkeypatch.setattr(plugin, "_config_folder", lambda: configs)
    monkeypatch.setattr(_known_models, "KNOWN_MODELS", ())
    monkeypatch.setenv("MMSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MMSEARCH_CONFIG", str(tmp_path / "settings.toml"))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("mmsearch.encoders._hub.BACKOFF_S", (0.0, 0.0))
    monkeypatch.setattr("mmsearch.encoders._download.BACKOFF_S", (0.0, 0.0))
    monkeypatch.setattr(
        "mmsearch.encoders._onnx.model.has_accelerator", lambda: False, raising=False
    )
    with stand_in_hub() as hub:
        for name, content in files.items():
            hub.add(REPOSITORY, name, content)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        yield hub


def plugin_pretrained():
    from open_clip import pretrained

    return pretrained._PRETRAINED


@pytest.fixture
def no_compiling(monkeypatch):
    """Compilation is replaced, for tests of everything before it."""
    compiled = []
    monkeypatch.setattr(
        plugin, "compile_weights", lambda variant, file, options: compiled.append(file.read_bytes())
    )
    return compiled


@pytest.fixture
def pulled(hub, made_once, tmp_path):
    """The cache with the pulled model, which is compiled once for all tests."""
    if not (made_once / "models").exists():
        mmsearch.pull_model(NAME, settings=replace(load_settings(), cache=made_once))
        hub.requests.clear()
    shutil.copytree(made_once / "models", tmp_path / "cache" / "models", dirs_exist_ok=True)
    return tmp_path / "cache"


def vectors():
    encoder = mmsearch.open_model(
        NAME, device="cpu", settings=replace(load_settings(), offline=True)
    )
    text = encoder.prepare(InputKind.TEXT, "a photo of a dog")
    image = encoder.prepare(InputKind.IMAGE, np.full((40, 40, 3), 90, np.uint8))
    return encoder.encode(InputKind.TEXT, [text]), encoder.encode(InputKind.IMAGE, [image])


def checksum(content):
    return hashlib.sha256(content).hexdigest()


def test_a_plan_says_what_a_pull_costs_and_downloads_nothing(hub, repository, tmp_path):
    plan = mmsearch.plan_pull(NAME)
    files = repository[0]
    assert (plan.name, plan.licence, plan.repository) == (NAME, "mit", REPOSITORY)
    assert plan.download_bytes == sum(map(len, files.values()))
    assert plan.expected_sha256 == checksum(files[WEIGHTS])
    assert plan.endpoint == hub.url
    assert plan.arrived_bytes == 0
    assert not any(hub.gets(name) for name in files)
    assert not (tmp_path / "cache").exists()


def test_a_pulled_model_keeps_only_the_compiled_copy_and_needs_no_hub(pulled, hub, repository):
    text, image = vectors()
    assert hub.requests == []
    assert text.shape == image.shape == (1, 32)
    left = [path.name for path in pulled.rglob("*") if path.is_file()]
    assert WEIGHTS not in left
    assert not [name for name in left if name.endswith((".part", ".json.part", ".safetensors"))]
    spec = mmsearch.open_model(NAME, device="cpu").spec
    assert spec.weights_sha256 == checksum(repository[0][WEIGHTS])


def test_a_pull_reports_bytes_and_what_it_kept(hub, no_compiling, repository):
    seen = []
    pulled = mmsearch.pull_model(NAME, progress=seen.append)
    size = sum(map(len, repository[0].values()))
    assert (pulled.name, pulled.downloaded_bytes) == (NAME, size)
    assert pulled.sha256 == checksum(repository[0][WEIGHTS])
    downloads = [progress for progress in seen if progress.phase == "download"]
    assert (downloads[-1].done, downloads[-1].total) == (size, size)
    assert seen[-1].phase == "compile"
    assert no_compiling == [repository[0][WEIGHTS]]


def test_an_interrupted_pull_continues(hub, no_compiling, repository):
    hub.cuts = [10**9, 10**9, 1000, *[0] * 9]
    with pytest.raises(DownloadError, match="run the same command again"):
        mmsearch.pull_model(NAME)
    hub.cuts = []
    assert mmsearch.plan_pull(NAME).arrived_bytes >= 1000
    mmsearch.pull_model(NAME)
    assert hub.gets(WEIGHTS)[-1]["Range"] == "bytes=1000-"
    assert no_compiling == [repository[0][WEIGHTS]]


def test_wrong_weights_are_refused_and_never_compiled(hub, no_compiling, tmp_path):
    hub.stated_sha256[WEIGHTS] = "ab" * 32
    with pytest.raises(ChecksumError, match="was deleted"):
        mmsearch.pull_model(NAME)
    assert no_compiling == []
    assert not list(tmp_path.rglob(f"{WEIGHTS}*"))


def test_other_weights_than_those_of_the_first_pull_are_refused(hub, no_compiling, repository):
    mmsearch.pull_model(NAME)
    changed = repository[0][WEIGHTS][::-1]
    hub.add(REPOSITORY, WEIGHTS, changed)
    with pytest.raises(ChecksumError, match="an earlier pull recorded") as refused:
        mmsearch.pull_model(NAME)
    digest = checksum(changed)
    assert f"mmsearch models pull {NAME} --sha256 {digest}" in refused.value.command_text
    assert mmsearch.pull_model(NAME, sha256=digest.upper()).sha256 == digest
    assert mmsearch.pull_model(NAME).sha256 == digest


def test_weights_with_a_pinned_checksum_are_compared_before_the_download(
    hub, no_compiling, monkeypatch
):
    know(monkeypatch, revision=None)
    monkeypatch.setattr(HubClient, "is_official", True)
    with pytest.raises(ChecksumError, match="this version of mmsearch expects 92c26d60"):
        mmsearch.pull_model(NAME)
    assert not hub.gets(WEIGHTS)


def test_another_hub_may_serve_other_weights_and_says_so(
    hub, no_compiling, monkeypatch, repository
):
    known = know(monkeypatch, revision=None)
    messages = []
    pulled = mmsearch.pull_model(NAME, on_message=messages.append)
    assert pulled.sha256 == checksum(repository[0][WEIGHTS])
    assert "other weights" in messages[0]
    with pytest.raises(ChecksumError, match="you expect 92c26d60"):
        mmsearch.pull_model(NAME, sha256=known.sha256)


def test_a_hub_without_checksums_is_compared_from_then_on(hub, no_compiling, repository):
    hub.licence, hub.etag, hub.stated_sha256 = None, '"no-sha"', {WEIGHTS: "no-sha"}
    messages = []
    plan = mmsearch.plan_pull(NAME, on_message=messages.append)
    assert (plan.licence, plan.expected_sha256) == (None, None)
    plan.run()
    assert checksum(repository[0][WEIGHTS]) in messages[-1]
    assert mmsearch.plan_pull(NAME).expected_sha256 == checksum(repository[0][WEIGHTS])


def know(monkeypatch, **fields):
    """Make the tiny model one of the known ones."""
    variant = NAME.partition(":")[2]
    known = replace(_known_models.SMALL, variant=variant, repository=REPOSITORY, **fields)
    monkeypatch.setattr(_known_models, "KNOWN_MODELS", (known,))
    return known


def test_a_revision_that_the_hub_lacks_is_replaced_by_main(hub, monkeypatch, repository):
    digest = checksum(repository[0][WEIGHTS])
    known = know(monkeypatch, sha256=digest, revision="no-such-revision")
    assert mmsearch.plan_pull(NAME).expected_sha256 == digest
    asked = [path for _, path, _ in hub.requests]
    assert f"/{REPOSITORY}/resolve/{known.revision}/{WEIGHTS}" in asked


@pytest.mark.parametrize(
    ("name", "error", "sentence"),
    [
        ("starter", UsageError, "nothing to download"),
        ("open_clip:no-such/toy", UnknownNameError, "no architecture 'no-such'"),
        (f"open_clip:{ARCHITECTURE}/no", UnknownNameError, "Known tags: .*toy"),
        (f"open_clip:{ARCHITECTURE}/old", UnknownNameError, "not on the model hub"),
        (f"open_clip:{ARCHITECTURE}", UnknownNameError, "does not name any weights"),
        (f"open_clip:{ARCHITECTURE}@w.safetensors", UsageError, "nothing to download"),
    ],
)
def test_a_name_that_cannot_be_pulled_is_one_sentence(hub, name, error, sentence):
    with pytest.raises(error, match=sentence):
        mmsearch.plan_pull(name)


@pytest.mark.parametrize("sha256", ["", "abc", "z" * 64, "a" * 65])
def test_a_checksum_that_is_none_is_refused(hub, sha256):
    with pytest.raises(UsageError, match="is not a sha256"):
        mmsearch.plan_pull(NAME, sha256=sha256)


def test_offline_names_the_way_without_a_hub(hub):
    with pytest.raises(ModelUnavailableError, match=r"disabled \(offline\)") as refused:
        mmsearch.plan_pull(NAME, settings=replace(load_settings(), offline=True))
    assert "mmsearch models import" in refused.value.command_text
    assert hub.requests == []


def test_a_repository_without_weights_is_one_sentence(hub):
    del hub.files[f"{REPOSITORY}/{WEIGHTS}"]
    with pytest.raises(ModelUnavailableError, match=f"has no {WEIGHTS} or .* in {REPOSITORY}"):
        mmsearch.plan_pull(NAME)


def test_too_little_space_is_said_before_the_download(hub, no_compiling, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(DiskFullError, match=f"to download and compile {NAME}, but there are only"):
        mmsearch.pull_model(NAME)
    assert not hub.gets(WEIGHTS)


def test_a_disk_that_fills_up_while_compiling_keeps_the_download(hub, monkeypatch, tmp_path):
    def fail(variant, file, options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plugin, "compile_weights", fail)
    with pytest.raises(DiskFullError, match=r"could not be compiled.*the download is kept"):
        mmsearch.pull_model(NAME)
    monkeypatch.setattr(plugin, "compile_weights", lambda variant, file, options: None)
    mmsearch.pull_model(NAME)
    assert len(hub.gets(WEIGHTS)) == 1
    assert not list(tmp_path.rglob(WEIGHTS))


def test_weights_of_another_architecture_are_deleted(hub, tmp_path):
    hub.add(REPOSITORY, WEIGHTS, b"no checkpoint" * 100)
    with pytest.raises(ModelUnavailableError, match="cannot be loaded as a checkpoint"):
        mmsearch.pull_model(NAME)
    assert not list(tmp_path.rglob(WEIGHTS))


def test_a_second_pull_waits_for_the_first(hub, no_compiling, tmp_path):
    messages = []
    plan = mmsearch.plan_pull(NAME, on_message=messages.append)
    plan._folder.parent.mkdir(parents=True)
    first = _pull.FileLock(f"{plan._folder}.lock")

    def release(line):
        messages.append(line)
        first.release()

    plan._options = replace(plan._options, on_message=release)
    with first:
        plan.run()
    assert messages == [f"Another process is pulling {NAME}; waiting for it ..."]


def test_a_gpu_keeps_the_weights(hub, no_compiling, monkeypatch, tmp_path):
    monkeypatch.setattr(_pull, "has_nvidia_gpu", lambda: True)
    mmsearch.pull_model(NAME)
    name = plugin.parse_variant(NAME.partition(":")[2])
    options = mmsearch.plan_pull(NAME)._options
    assert plugin.find_kept_weights(name, options).name == WEIGHTS


# --- the command ---


@pytest.fixture
def terminal(monkeypatch):
    """Answers to questions, as typed on a terminal."""
    answers = []
    monkeypatch.setattr(
        "sys.stdin", type("Terminal", (io.StringIO,), {"isatty": lambda self: True})()
    )

    def confirm(question, **options):
        if not answers.pop(0):
            raise typer.Abort
        return True

    monkeypatch.setattr("typer.confirm", confirm)
    return answers


def test_pull_shows_size_licence_and_time_before_it_asks(hub, terminal, capsys):
    terminal.append(False)
    with pytest.raises(typer.Abort):
        pull(NAME)
    printed = capsys.readouterr()
    assert printed.out == ""
    for line in (
        f"model         {NAME}",
        "licence       mit",
        f"from          {hub.url}/{REPOSITORY}",
    ):
        assert line in printed.err
    assert not hub.gets(WEIGHTS)


def test_pull_without_a_terminal_says_what_to_add(hub, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(UsageError, match="Add --yes"):
        pull(NAME)
    assert not hub.gets(WEIGHTS)


def test_pull_yes_makes_the_model_the_default_and_names_the_next_step(
    hub, monkeypatch, capsys, pulled
):
    monkeypatch.setattr("mmsearch.cli.pull._read_index", lambda name, home: (1461, "starter"))
    pull(NAME, yes=True)
    printed = capsys.readouterr().err
    assert f"{NAME} is on this machine already." in printed
    assert f"New indexes use {NAME}." in printed
    assert load_settings().model == NAME
    assert f"mmsearch reindex --model {NAME}" in printed
    assert "1,461 pictures of index 'default'" in printed
    assert hub.requests == []


def test_pull_yes_does_not_change_a_default_that_was_chosen(hub, monkeypatch, capsys, pulled):
    monkeypatch.setenv("MMSEARCH_MODEL", "starter")
    pull(NAME, yes=True)
    assert f"New indexes use starter; change that with: mmsearch models use {NAME}" in (
        capsys.readouterr().err
    )


def test_pull_json_prints_only_json_on_stdout(hub, no_compiling, monkeypatch, capsys):
    monkeypatch.setattr("mmsearch.api.use_model", lambda name: None)
    pull(NAME, yes=True, as_json=True)
    assert json.loads(capsys.readouterr().out)["name"] == NAME


def test_an_interrupted_command_says_how_to_go_on(hub, monkeypatch, capsys):
    def interrupt(plan, progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(_pull.ModelPull, "run", interrupt)
    with pytest.raises(typer.Exit) as left:
        pull(NAME, yes=True)
    assert left.value.exit_code == 130
    assert "run the same command again to continue" in capsys.readouterr().err


@pytest.mark.parametrize("options", [{"small": True, "best": True}, {"model": NAME, "small": True}])
def test_pull_takes_one_model(hub, options):
    with pytest.raises(UsageError, match="exclude each other"):
        pull(**options)


def test_small_and_best_are_models_of_the_table():
    assert mmsearch.api.find_pullable_model("small").name == _known_models.SMALL.name
    assert mmsearch.api.find_pullable_model("best").name == _known_models.BEST.name
    assert mmsearch.api.find_pullable_model().name == f"open_clip:{plugin.RECOMMENDED_VARIANT}"


# --- export and import ---


@pytest.fixture
def archive(pulled, tmp_path):
    """A file with the exported model; afterwards the cache is empty."""
    exported = mmsearch.export_model(tmp_path / "model.tar", NAME)
    assert exported.name == NAME
    shutil.rmtree(pulled)
    return exported.path


def members(path):
    with tarfile.open(path) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar.getmembers()]


def rewrite(path, change):
    """Write an archive again, its list and its members changed by a function of both."""
    (listed, listing), *files = members(path)
    content = json.loads(listing)
    files = change(content, files) or files
    listing = json.dumps(content).encode()
    with tarfile.open(path, "w") as tar:
        for member, data in [(listed, listing), *files]:
            member.size = len(data) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(data) if member.isreg() else None)


def test_an_imported_model_gives_the_same_vectors_without_hub(hub, pulled, tmp_path):
    expected = vectors()
    mmsearch.export_model(tmp_path / "model.tar", NAME)
    shutil.rmtree(pulled)
    imported = mmsearch.import_model(tmp_path / "model.tar")
    assert (imported.name, imported.bytes > 0) == (NAME, True)
    for before, after in zip(expected, vectors(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert hub.requests == []
    mmsearch.import_model(tmp_path / "model.tar")


def test_an_archive_is_a_plain_tar_with_a_list_of_checksums(archive):
    (first, listing), *files = members(archive)
    assert first.name == "mmsearch-model.json"
    listed = json.loads(listing)["files"]
    assert [(f["name"], f["bytes"], f["sha256"]) for f in listed] == [
        (member.name, len(data), checksum(data)) for member, data in files
    ]


def installed(cache):
    return list((cache / "models").glob("*/manifest.json")) if cache.exists() else []


def damage_data(listing, files):
    member, data = files[-1]
    files[-1] = (member, data[:-1] + bytes([data[-1] ^ 1]))


def add_file(listing, files):
    return [*files, (tarfile.TarInfo("extra.bin"), b"x")]


def repeat_file(listing, files):
    return [*files, files[-1]]


def drop_file(listing, files):
    return files[:-1]


def climb_out(listing, files):
    listing["files"][-1]["name"] = files[-1][0].name = "../../escaped"


def become_link(listing, files):
    files[-1][0].type, files[-1][0].linkname = tarfile.SYMTYPE, "/etc/passwd"


def swap_files(listing, files):
    files[-1], files[-2] = files[-2], files[-1]


def lie_about_size(listing, files):
    listing["files"][-1]["bytes"] += 1


def rename_model(listing, files):
    listing["name"] = "open_clip:ViT-B-32/openai"


def name_other_files(listing, files):
    manifest = json.loads(files[0][1])
    manifest["tokenizer_file"]["name"] = "../../../etc/passwd"
    files[0] = (files[0][0], json.dumps(manifest).encode())
    listing["files"][0] |= {"sha256": checksum(files[0][1]), "bytes": len(files[0][1])}


def name_a_table_elsewhere(listing, files):
    manifest = json.loads(files[0][1])
    manifest["towers"]["text"]["table"] = {"name": "../../secret", "checksums": "x"}
    files[0] = (files[0][0], json.dumps(manifest).encode())
    listing["files"][0] |= {"sha256": checksum(files[0][1]), "bytes": len(files[0][1])}


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (damage_data, ChecksumError, "does not match its checksum"),
        (add_file, ChecksumError, "files that its list does not name"),
        (repeat_file, ChecksumError, "files that its list does not name"),
        (drop_file, ChecksumError, "files are missing"),
        (climb_out, SourceError, "not a model that mmsearch exported"),
        (become_link, ChecksumError, "is not what its list says"),
        (swap_files, ChecksumError, "is not what its list says"),
        (lie_about_size, ChecksumError, "is not what its list says"),
        (rename_model, ModelUnavailableError, "another version of mmsearch"),
        (name_other_files, ChecksumError, "names other files"),
        (name_a_table_elsewhere, ChecksumError, "names other files|is damaged"),
        (lambda listing, files: listing.clear(), SourceError, "not a model"),
        (lambda listing, files: listing.update(format=2), ModelUnavailableError, "another version"),
        (
            lambda listing, files: listing.update(manifest_version=1),
            ModelUnavailableError,
            "another version",
        ),
        (lambda listing, files: listing.update(files=[7]), SourceError, "not a model"),
        (lambda listing, files: listing["files"][0].update(bytes=-1), SourceError, "not a model"),
    ],
)
def test_a_changed_archive_is_refused_and_nothing_is_installed(
    archive, tmp_path, change, error, sentence
):
    rewrite(archive, change)
    with pytest.raises(error, match=sentence):
        mmsearch.import_model(archive)
    assert not installed(tmp_path / "cache")
    assert not list(tmp_path.parent.rglob("escaped"))


@pytest.mark.parametrize("kept", [0.999, 0.5, 0.01])
def test_an_incomplete_archive_is_refused(archive, tmp_path, kept):
    content = archive.read_bytes()
    # A tar ends with up to 10 kB of zeros, which are no loss.
    archive.write_bytes(content[: int(len(content.rstrip(b"\0")) * kept)])
    with pytest.raises((ChecksumError, SourceError), match=r"nothing was installed|not a model"):
        mmsearch.import_model(archive)
    assert not installed(tmp_path / "cache")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x1f\x8b" + bytes(600), bytes(20_000)])
def test_a_file_that_is_no_archive_is_refused(hub, tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(SourceError, match="not a model that mmsearch exported"):
        mmsearch.import_model(tmp_path / "x")


def test_paths_that_cannot_be_read_or_written_are_named(hub, pulled, tmp_path):
    with pytest.raises(SourceError, match="There is no file"):
        mmsearch.import_model(tmp_path / "none")
    with pytest.raises(SourceError, match="is a folder"):
        mmsearch.import_model(tmp_path)
    with pytest.raises(SourceError, match="exists already"):
        mmsearch.export_model(tmp_path, NAME)
    with pytest.raises(SourceError, match="There is no folder"):
        mmsearch.export_model(tmp_path / "no" / "model.tar", NAME)


def test_a_model_that_is_not_here_is_not_exported(hub, tmp_path):
    with pytest.raises(ModelUnavailableError, match="cannot be exported") as failed:
        mmsearch.export_model(tmp_path / "model.tar", NAME)
    assert f"mmsearch models pull {NAME}" in failed.value.command_text
    assert not (tmp_path / "model.tar").exists()
    assert not hub.gets(WEIGHTS)


def test_a_full_disk_leaves_neither_archive_nor_model(archive, monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(DiskFullError, match="for the imported model"):
        mmsearch.import_model(archive)
    monkeypatch.undo()
    assert not installed(tmp_path / "cache")


def test_a_model_that_does_not_run_here_says_where_it_was_made(archive, monkeypatch, tmp_path):
    rewrite(archive, lambda listing, files: listing.update(machine="riscv64", onnxruntime="9.9"))

    def fail(*arguments, **options):
        raise RuntimeError("no such operator")

    monkeypatch.setattr("mmsearch.encoders._archive.CompiledTower.from_cache", fail)
    with pytest.raises(
        ModelUnavailableError, match=r"ONNX Runtime 9\.9 on riscv64 and does not run"
    ):
        mmsearch.import_model(archive)
    assert not installed(tmp_path / "cache")


def test_export_and_import_name_the_next_command(hub, pulled, capsys, tmp_path):
    export_model(tmp_path / "model.tar", NAME)
    assert "mmsearch models import model.tar" in capsys.readouterr().err
    import_model(tmp_path / "model.tar")
    assert f"mmsearch reindex --model {NAME}" in capsys.readouterr().err
    import_model(tmp_path / "model.tar", as_json=True)
    assert json.loads(capsys.readouterr().out)["name"] == NAME
