"""Download a model of open_clip, compile it, and keep only the compiled copy."""

from __future__ import annotations

import errno
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from filelock import FileLock, Timeout

from mmsearch.core.errors import (
    ChecksumError,
    DiskFullError,
    Hint,
    ModelUnavailableError,
    UsageError,
)
from mmsearch.core.gpu_memory import has_nvidia_gpu
from mmsearch.core.results import Progress
from mmsearch.core.types import EncoderOptions
from mmsearch.encoders import open_clip
from mmsearch.encoders._download import Download, format_bytes, require_space
from mmsearch.encoders._hub import IMPORT_HINT, HubClient, HubFile, require_sha256
from mmsearch.encoders._known_models import KnownModel, find_known_model, measure_slowness
from mmsearch.storage.atomic import atomic_write

WORKSPACE_FACTOR: Final = 2.0
"""Free space that compilation needs, as a multiple of the size of the weights."""

_PINS_FILE: Final = "checksums.json"
_TOKENIZER_FILENAMES: Final = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class PulledModel:
    """A model that was pulled.

    Attributes:
        name: Its name as typed after ``--model``.
        sha256: Checksum of the weights that were downloaded.
        downloaded_bytes: Size of the download.
        kept_bytes: Size of what stays on the disk.
        seconds: Duration of download and compilation.
    """

    name: str
    sha256: str
    downloaded_bytes: int
    kept_bytes: int
    seconds: float


class ModelPull:
    """A model at a hub that can be pulled.

    The constructor asks the hub and downloads nothing.

    Args:
        options: Options of the encoder; its variant is ``ARCH/TAG``, or empty for the recommended
            model.
        sha256: Checksum that the weights must have, in place of the known one.
        client: Client of the hub; None for one of ``$HF_ENDPOINT``.

    Attributes:
        name: Name of the model as typed after ``--model``.
        known: Its row in the table of known models, or None.
        licence: Its licence as the table or the hub states it, or None.
        expected_sha256: Checksum that the weights must have; None if nobody states one.
        download_bytes: Size of all files together; None if the hub does not say.

    Raises:
        UnknownNameError: open_clip has no such model.
        UsageError: The name is that of a local checkpoint.
        MissingExtraError: A package that the model needs is not installed.
        ModelUnavailableError: The hub does not answer, or has no such files.
        ChecksumError: The hub states another checksum than the one that is known.
    """

    def __init__(
        self,
        options: EncoderOptions,
        *,
        sha256: str | None = None,
        client: HubClient | None = None,
    ) -> None:
        if sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", sha256 := sha256.lower()):
            raise UsageError(
                f"{sha256[:80]!r} is not a sha256.", "It has 64 hexadecimal digits, 0-9 and a-f."
            )
        self._parsed = open_clip.parse_variant(options.variant)
        self._options = replace(options, variant=self._parsed.variant)
        if self._parsed.file is not None:
            raise UsageError(
                f"open_clip:{self._parsed.variant} is a checkpoint on this machine; there is "
                "nothing to download.",
                Hint(
                    "To prepare it: {}.",
                    f"open_model('open_clip:{self._parsed.variant}')",
                    f"mmsearch models compile open_clip:{self._parsed.variant}",
                ),
            )
        open_clip.check_tokenizer_package(self._parsed)
        self.name = f"open_clip:{self._parsed.variant}"
        self.known: KnownModel | None = find_known_model(self._parsed.variant)
        repository, filenames = open_clip.find_repository(self._parsed)
        if options.offline:
            raise ModelUnavailableError(
                f"{self.name} cannot be downloaded: downloads are disabled (offline).", IMPORT_HINT
            )
        self._client = client or HubClient(options.on_message)
        revisions = ([self.known.revision] if self.known and self.known.revision else []) + ["main"]
        self._weights = self._find(repository, filenames, revisions)
        info = self._client.repository_info(repository, self._weights.revision)
        self.licence = self.known.licence if self.known else info.licence
        self.expected_sha256 = self._choose_checksum(require_sha256(self._weights, info), sha256)
        self._tokenizer_files = self._find_tokenizer()
        sizes = [file.size for file in (self._weights, *self._tokenizer_files)]
        self.download_bytes = None if None in sizes else sum(size or 0 for size in sizes)
        self._folder = options.cache / "downloads" / open_clip.make_slug(self._parsed)

    @property
    def endpoint(self) -> str:
        """Address of the hub."""
        return self._client.endpoint

    @property
    def repository(self) -> str:
        """Repository of the weights on the hub."""
        return self._weights.repository

    @property
    def arrived_bytes(self) -> int:
        """Number of bytes that an interrupted pull has left."""
        return sum(self._download(file).kept_bytes for file in self._files)

    def estimate_seconds(self, pictures: int) -> float | None:
        """Return about how long it takes to encode pictures on this CPU; None if unknown."""
        if self.known is None:
            return None
        from mmsearch.core.threads import available_cpus  # noqa: PLC0415 - only for this estimate

        picture_s = self.known.picture_ms / 1000 * measure_slowness() / available_cpus()
        return pictures * picture_s

    def run(self, on_progress: Callable[[Progress], None] = lambda progress: None) -> PulledModel:
        """Download, verify and compile the model; delete the download.

        If it is interrupted, another run continues.

        Raises:
            DownloadError: The connection was lost; what has arrived is kept.
            ChecksumError: The weights are others than expected; they are deleted.
            DiskFullError: There is too little space.
            ModelUnavailableError: The hub refuses, or the file does not fit the architecture.
        """
        started_s = time.monotonic()
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._lock():
            self._require_space()
            digest = self._fetch(on_progress)
            on_progress(Progress("compile", 0, None))
            self._compile()
            self._keep_weights_for_gpu()
            shutil.rmtree(self._folder, ignore_errors=True)
        kept = open_clip.compiled_cache(self._options).folder.rglob("*")
        return PulledModel(
            self.name,
            digest,
            self.download_bytes or 0,
            sum(file.stat().st_size for file in kept),
            time.monotonic() - started_s,
        )

    # --- what to download ---

    def _find(self, repository: str, filenames: tuple[str, ...], revisions: list[str]) -> HubFile:
        for revision in revisions:
            for filename in filenames:
                file = self._client.find_file(repository, filename, revision)
                if file is not None:
                    return file
        raise ModelUnavailableError(
            f"The hub {self._client.endpoint} has no {' or '.join(filenames)} in {repository}.",
            IMPORT_HINT,
        )

    def _find_tokenizer(self) -> tuple[HubFile, ...]:
        repository = open_clip.tokenizer_repository(self._parsed)
        if repository is None:
            return ()
        same = repository == self._weights.repository
        revisions = [self._weights.revision, "main"] if same else ["main"]
        return tuple(self._find(repository, (name,), revisions) for name in _TOKENIZER_FILENAMES)

    def _choose_checksum(self, stated: str | None, given: str | None) -> str | None:
        """Return the checksum that the weights must have.

        Raises:
            ChecksumError: The hub states another one.
        """
        pinned: str | None
        if given:
            pinned, who = given, "you expect"
        elif self.known and self.known.sha256:
            pinned, who = self.known.sha256, "this version of mmsearch expects"
        else:
            pinned, who = self._read_pins().get(self._pin_name), "an earlier pull recorded"
        if pinned and stated and pinned != stated:
            if not (given or self._client.is_official) and self._is_published_pin(pinned):
                # A hub of one's own may hold weights of one's own; what it states still counts.
                self._options.on_message(
                    f"The hub {self._client.endpoint} serves other weights of {self.name} than the "
                    f"published ones (sha256 {pinned[:12]}...)."
                )
                return stated
            raise ChecksumError(
                f"The hub {self._client.endpoint} states the sha256 {stated} for "
                f"{self._weights.name} of {self._weights.repository}, but {who} {pinned}; "
                "nothing was downloaded.",
                Hint(
                    "If you trust this hub: {}.",
                    f"pull_model({self.name!r}, sha256={stated!r})",
                    f"mmsearch models pull {self.name} --sha256 {stated}",
                ),
            )
        return pinned or stated

    def _is_published_pin(self, sha256: str) -> bool:
        return self.known is not None and sha256 == self.known.sha256

    @property
    def _pin_name(self) -> str:
        return f"{self._weights.repository}/{self._weights.name}"

    def _read_pins(self) -> Mapping[str, str]:
        try:
            pins = json.loads((self._options.cache / "models" / _PINS_FILE).read_bytes())
        except (OSError, ValueError):
            return {}
        return pins if isinstance(pins, dict) else {}

    def _record_pin(self, digest: str) -> None:
        path = self._options.cache / "models" / _PINS_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps({**self._read_pins(), self._pin_name: digest}, indent=2)
        atomic_write(path, content.encode())

    # --- download and compile ---

    def _keep_weights_for_gpu(self) -> None:
        """Move the weights beside the compiled towers if pictures are encoded on a GPU."""
        has_gpu = has_nvidia_gpu() or sys.platform == "darwin"
        if has_gpu and self._options.device != "cpu":
            folder = open_clip.kept_weights_folder(self._parsed, self._options)
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._folder.replace(folder)

    @property
    def _files(self) -> tuple[HubFile, ...]:
        return (*self._tokenizer_files, self._weights)

    def _lock(self) -> FileLock:
        """Return the held lock of the model's download."""
        lock = FileLock(f"{self._folder}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self._options.on_message(f"Another process is pulling {self.name}; waiting for it ...")
            lock.acquire()
        return lock

    def _require_space(self) -> None:
        size = self._weights.size or (self.known.download_bytes if self.known else 0)
        needed = int(size * (1 + WORKSPACE_FACTOR)) - self.arrived_bytes
        purpose = f" to download and compile {self.name}"
        require_space(self._options.cache, max(needed, 0), purpose)

    def _download(
        self, file: HubFile, on_bytes: Callable[[int, int | None], None] = lambda done, total: None
    ) -> Download:
        expected = self.expected_sha256 if file is self._weights else file.sha256
        return Download(self._client, file, self._folder / file.name, expected, on_bytes)

    def _fetch(self, on_progress: Callable[[Progress], None]) -> str:
        """Download all files, the weights last; return the checksum of the weights."""
        before, digest = 0, ""
        for file in self._files:

            def report(done: int, total: int | None, before: int = before) -> None:
                whole = self.download_bytes or (total and before + total)
                on_progress(Progress("download", before + done, whole))

            digest = self._download(file, report).run()
            before += file.size or 0
        self._record_pin(digest)
        if self.expected_sha256 is None:
            self._options.on_message(
                f"The hub states no checksum; the weights have the sha256 {digest}, which later "
                "pulls are compared with."
            )
        return digest

    def _compile(self) -> None:
        weights = self._folder / self._weights.name
        try:
            open_clip.compile_weights(self._parsed.variant, weights, self._options)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise DiskFullError(
                f"The disk is full ({self._options.cache}): {self.name} could not be compiled.",
                f"Free about {format_bytes(int((self._weights.size or 0) * WORKSPACE_FACTOR))} and "
                "run the same command again; the download is kept.",
                errno=error.errno,
            ) from error
        except ModelUnavailableError:
            # The file is what the hub states, and useless.
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
