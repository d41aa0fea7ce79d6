"""``mmsearch index``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmsearch import api
from mmsearch.cli.errors import EXIT_INTERRUPTED
from mmsearch.cli.options import (
    AsJson,
    CaptionModel,
    Captions,
    Choice,
    Describe,
    Device,
    Exclude,
    FollowSymlinks,
    Hidden,
    Home,
    Include,
    IndexName,
    Kind,
    Reset,
    SpeechLanguage,
    Verbose,
    Vocabulary,
    WaitSeconds,
    check_device,
    parse_describe,
)
from mmsearch.cli.output import warn
from mmsearch.cli.progress import show_progress
from mmsearch.cli.run_output import print_outcomes, raise_exit
from mmsearch.core.errors import (
    MissingExtraError,
    MMSearchError,
    SourceError,
    StorageError,
    UnknownIndexError,
    UsageError,
)
from mmsearch.core.globs import resolve_globs
from mmsearch.core.settings import load_settings

if TYPE_CHECKING:
    from mmsearch.core.reports import IndexReport
    from mmsearch.core.results import IndexStatus
    from mmsearch.core.settings import Settings


def index(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders of pictures; or zips or tars, tables of paths or URLs, data sets, or "
            "what fsspec opens, such as s3://bucket/pictures.",
            metavar="[SOURCE]...",
            show_default="all that the index has",
        ),
    ] = None,
    name: IndexName = "default",
    home: Home = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Encoder for a new index: auto, starter, open_clip:ARCH/TAG, open_clip:ARCH@FILE,"
            " adapted:FILE.",
            show_default="auto",
        ),
    ] = None,
    device: Device = None,
    include: Include = None,
    exclude: Exclude = None,
    follow_symlinks: FollowSymlinks = None,
    hidden: Hidden = None,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            help="Reject pictures with more pixels without decoding them.",
            min=1,
            show_default="300000000",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Number of decoder processes, 0: one per processor; or of workers on a cluster, 0:"
            " one per node or GPU.",
            min=0,
            show_default="0",
        ),
    ] = None,
    executor: Annotated[
        str | None,
        typer.Option(
            help="Where to read and encode pictures: local, or ray for the nodes of a Ray cluster.",
            metavar="NAME",
            show_default="local",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="Head of the Ray cluster; this computer must be a node of it. Default: "
            "$RAY_ADDRESS, or a cluster on this computer during the run.",
            metavar="HOST:PORT",
            show_default=False,
        ),
    ] = None,
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(
            help="GPUs of each worker on a cluster; workers share one if it is below 1.",
            metavar="X",
            min=0,
            show_default="0",
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Retry unchanged files that failed before.")
    ] = False,
    allow_empty: Annotated[
        bool,
        typer.Option("--allow-empty", help="Accept an empty folder that had pictures before."),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Read every file, to find changes that kept its size and times."
        ),
    ] = False,
    captions: Captions = None,
    describe: Describe = None,
    vocabulary: Vocabulary = None,
    speech_language: SpeechLanguage = None,
    caption_model: CaptionModel = None,
    reset: Reset = None,
    texts: Annotated[
        str | None,
        typer.Option(
            help="Kinds of texts to encode: some of sidecar,metadata,table,filename,document; or "
            "none.",
            metavar="KINDS",
            show_default="sidecar,metadata,table",
        ),
    ] = None,
    fusion: Annotated[
        str | None,
        typer.Option(
            help="Fusion for a new index: image, weighted, concat or attention.",
            metavar="NAME",
            show_default="image",
        ),
    ] = None,
    text_weight: Annotated[
        float | None,
        typer.Option(
            help="Weight of texts in the fused vectors of a new index, 0 to 1.",
            metavar="X",
            show_default="0.3",
        ),
    ] = None,
    kind: Kind = None,
    choice: Choice = None,
    wait: WaitSeconds = 0.0,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Index folders of pictures or other sources, or update an index.

    Unchanged pictures are not read again; interrupted work continues where it stopped. The index
    keeps the choices of each source, such as --exclude, for later runs. Without SOURCE, all sources
    of the index are updated.

    Example: mmsearch index ./photos --exclude 'drafts/'
    Example: mmsearch index ./scans --describe ocr,tags
    """
    choices: dict[str, Any] = {
        "include": None if include is None else resolve_globs(include),
        "exclude": None if exclude is None else resolve_globs(exclude),
        "follow_symlinks": follow_symlinks,
        "hidden": hidden,
        "allow_empty": allow_empty or None,
        "captions": captions,
        "texts": texts,
    }
    describe_choice = parse_describe(describe, vocabulary, speech_language, caption_model)
    given = {option: value for option, value in choices.items() if value is not None}
    runs = [
        _plan(source, kind, choice or (), reset or (), given, describe_choice, verify=verify)
        for source in sources or ()
    ]
    if not runs:
        _check_no_choices(
            {**given, "describe": describe, "kind": kind, "choice": choice, "reset": reset}
        )
    settings = load_settings().with_flags(
        max_pixels=max_pixels,
        workers=workers,
        executor=executor,
        ray_address=address,
        gpus_per_worker=gpus_per_worker,
        fusion=fusion,
        text_weight=text_weight,
    )
    _check_cluster_options(settings, address, gpus_per_worker)
    with (
        api.open_index(
            name,
            home=home,
            model=model,
            device=check_device(device),
            settings=settings,
            on_message=warn,
        ) as target,
        show_progress() as progress,
    ):
        _check_fusion_unchanged(target, fusion, text_weight)
        options: dict[str, Any] = {
            "retry_failed": retry_failed,
            "wait_s": wait,
            "progress": progress,
        }
        reports: dict[str, IndexReport | MMSearchError] = {}
        try:
            if not runs:
                _check_has_sources(target)
                reports = target.refresh(verify=verify, **options)
            for source, run in zip(sources or (), runs, strict=True):
                reports[source] = _run(partial(run, target, **options), is_only=len(runs) == 1)
        except KeyboardInterrupt:
            _report_interrupted(target)
            raise typer.Exit(EXIT_INTERRUPTED) from None
        status = target.status()
    print_outcomes(
        target.name, status, reports, is_only=len(runs) == 1, as_json=as_json, verify=verify
    )
    if verbose:
        _print_encoder(status)
    raise_exit(reports)


def _plan(
    source: str,
    kind: str | None,
    choice: Sequence[str],
    reset: Sequence[str],
    folder_options: Mapping[str, Any],
    describe: Mapping[str, Any] | None,
    *,
    verify: bool,
) -> Callable[..., IndexReport]:
    """Return the method that indexes a source, with its options; it takes the index first.

    Raises:
        UsageError: An option does not apply to the source.
    """
    shared: dict[str, Any] = {"reset": reset} | ({} if describe is None else {"describe": describe})
    if kind is None and api.is_folder(source):
        if choice:
            raise UsageError(
                "--choice does not apply to a folder.",
                "Leave it out, or name the --kind of the source.",
            )
        return partial(
            api.Index.add_folder, folder=source, verify=verify, **folder_options, **shared
        )
    for name in (*folder_options, *(["verify"] if verify else [])):
        raise UsageError(
            f"--{name.replace('_', '-')} applies to folders only.", "Leave it out for this source."
        )
    choices = api.parse_choices(source, kind, choice)
    return partial(api.Index.add_source, uri=source, kind=kind, **choices, **shared)


def _run(run: Callable[[], IndexReport], *, is_only: bool) -> IndexReport | MMSearchError:
    """Return the report of a source, or its error, unless it is the only source."""
    try:
        return run()
    except (SourceError, StorageError, MissingExtraError) as error:
        if is_only:
            raise
        return error


def _check_no_choices(given: Mapping[str, Any]) -> None:
    """Raise an error if there are options that need a source."""
    for name, value in given.items():
        if value:
            raise UsageError(
                f"--{name.replace('_', '-')} needs a SOURCE.",
                "Name the folder that it is for: mmsearch index FOLDER",
            )


def _check_cluster_options(
    settings: Settings, address: str | None, gpus_per_worker: float | None
) -> None:
    """Raise an error if there are options of a cluster, but no cluster is used."""
    if settings.executor != "local":
        return
    for option, value in (("--address", address), ("--gpus-per-worker", gpus_per_worker)):
        if value is not None:
            raise UsageError(f"{option} is for a cluster.", "Add --executor ray, or leave it out.")


def _check_has_sources(target: api.Index) -> None:
    if not target.exists():
        raise UsageError(
            f"There is no index {target.name!r} yet, so there is nothing to update.",
            "Name a folder of pictures: mmsearch index FOLDER",
        )


def _check_fusion_unchanged(
    target: api.Index, fusion: str | None, text_weight: float | None
) -> None:
    """Raise an error if the options differ from the index's fusion, which stays as it is."""
    # An index of an older schema cannot be read before a writer upgrades it.
    is_requested = fusion is not None or text_weight is not None
    identity = target.status().identity if is_requested and target.exists() else None
    if identity is None:
        return
    current = identity.fusion
    is_unchanged = fusion in (None, current.name) and text_weight in (None, current.text_weight)
    if not is_unchanged:
        raise UsageError(
            f"Index {target.name!r} uses fusion {current.name!r} with a text weight of "
            f"{current.text_weight:g}.",
            "Change that with: mmsearch reindex --fusion NAME --text-weight X",
        )


def _report_interrupted(target: api.Index) -> None:
    try:
        picture_count = target.status().pictures
    except UnknownIndexError:
        picture_count = 0
    warn(
        f"Interrupted: {picture_count:,} pictures are in index {target.name!r}; "
        "run the same command again to continue."
    )


def _print_encoder(status: IndexStatus) -> None:
    if status.identity is not None:
        encoder = status.identity.encoder
        warn(
            f"Encoder {encoder.name}, fingerprint {encoder.fingerprint}; generation "
            f"{status.generation}."
        )
