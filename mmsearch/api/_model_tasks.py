"""Tasks for the models of an index: vectors, the vector index, percentages, texts, speech."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mmsearch.api._maintenance import MaintainedIndex
from mmsearch.api._session import translate_errors
from mmsearch.api.parsing import to_absolute_path
from mmsearch.api.progress import ProgressOption, open_progress
from mmsearch.core.arguments import KindWeights, SoundInput, StrPath, Texts, to_texts
from mmsearch.core.types import DEFAULT_RECALL, SearchGoals

if TYPE_CHECKING:
    from mmsearch.core.reports import CalibrationReport, DescribeReport, ReindexReport
    from mmsearch.core.speech import Transcript


@translate_errors
class IndexModelTasks(MaintainedIndex):
    """Tasks for the models of an index; see `mmsearch.Index`."""

    def listen(self, sound: SoundInput, *, language: str | None = None) -> Transcript:
        """Return what is spoken in a recording, for `search`; nothing leaves this machine.

        The model, which `Settings.speech_model` names, stays in memory until `release` or `close`.

        Args:
            sound: Path of a sound file, or of a film with a sound track; the content of such a
                file as bytes; or a float array of shape (n,) with samples at 16 kHz in mono, from
                -1 to 1. At most 60 seconds.
            language: Code of the language that is spoken, such as ``de``; None to detect it.

        Raises:
            MissingExtraError: The extra ``speech`` is not installed.
            ModelUnavailableError: The model is not on this machine.
            SourceError: The recording cannot be read, or is too long.
            InvalidQueryError: Nobody speaks in it.
            UsageError: The recording has another type or shape, or the model does not recognize
                the language.
        """
        from mmsearch.api.sounds import read_sound  # noqa: PLC0415 - most queries are typed

        content, name = read_sound(sound)
        with self._session.listener() as listener:
            return listener.listen(content, language, name)

    def reindex(
        self,
        *,
        fusion: str | None = None,
        text_weight: float | None = None,
        kind_weights: KindWeights | None = None,
        vector_index: str | None = None,
        reencode: bool = False,
        model: str | None = None,
        drop_unreadable: bool = False,
        wait_s: float = 0.0,
        progress: ProgressOption = False,
    ) -> ReindexReport:
        """Change the fusion, the vector index or the encoder of the index.

        No picture is decoded, unless the encoder changes or the fusion needs vectors that are not
        stored. The vectors of ``adapted:FILE`` are derived from the stored ones of its base.
        Queries use the old state until the new one is complete.

        Args:
            fusion: ``image``, ``weighted``, ``concat`` or ``attention``; None to keep it.
            text_weight: Weight of a picture's texts, 0..1; None to keep it.
            kind_weights: Weight of each kind of text among the texts; None to keep them.
            vector_index: Name of a vector index; None to keep it.
            reencode: True to read every picture again if the fusion needs it.
            model: Name of a new encoder; every picture is read again, unless its vectors can be
                derived from stored ones (see `mmsearch.save_adapter`). After an interruption, the
                next call continues.
            drop_unreadable: With ``model``, True to continue without pictures that cannot be read.
            wait_s: Seconds to wait for another writer.
            progress: True for a progress bar, or a callable, which is called often with the
                progress.

        Returns:
            A report of the changes.

        Raises:
            UnknownIndexError: The index does not exist.
            UsageError: A weight is out of range, the fusion needs ``reencode``, or ``model`` is
                combined with another fusion or vector index.
            StateError: The index is empty.
        """
        from mmsearch.maintenance.reindex import reindex  # noqa: PLC0415 - searches never need it

        with open_progress(progress) as on_progress:
            return reindex(
                self._layout,
                self._settings,
                self._on_message,
                fusion=fusion,
                text_weight=text_weight,
                kind_weights=kind_weights,
                vector_index=vector_index,
                reencode=reencode,
                model=model,
                drop_unreadable=drop_unreadable,
                wait_s=wait_s,
                progress=on_progress,
            )

    def optimize(
        self,
        *,
        recall: float = DEFAULT_RECALL,
        memory_mb: float | None = None,
        latency_ms: float | None = None,
        wait_s: float = 0.0,
        progress: ProgressOption = False,
    ) -> ReindexReport:
        """Rebuild the vector index for a recall, memory or latency target.

        Later builds keep these targets. Small collections are searched exactly, large ones
        approximately. The parameters of an approximate index are tuned on one set of texts and
        measured on another (`ReindexReport.search`).

        Args:
            recall: Target recall@10 of an approximate search, above 0 and at most 1.
            memory_mb: Maximum megabytes that searches may keep in memory; None for no limit.
            latency_ms: Exact search is preferred if it takes at most this many milliseconds; None
                to decide by the size of the collection.
            wait_s: Seconds to wait for another writer.
            progress: True for a progress bar, or a callable, which is called often with the
                progress.

        Returns:
            A report of the build.

        Raises:
            UnknownIndexError: The index does not exist.
            UsageError: A target is out of range.
            StateError: The index is empty.
        """
        from mmsearch.maintenance.reindex import optimize  # noqa: PLC0415 - searches never need it

        goals = SearchGoals(recall, memory_mb, latency_ms)
        with open_progress(progress) as on_progress:
            return optimize(
                self._layout, self._settings, self._on_message, goals, wait_s, on_progress
            )

    def calibrate(
        self, *, wait_s: float = 0.0, progress: ProgressOption = False
    ) -> CalibrationReport:
        """Fit the confidences of searches to the texts of this index.

        Captions, descriptions, titles and keywords of pictures are searched, with and without their
        own picture. The result is used until the model of the index changes. `optimize` does the
        same for models that are not calibrated otherwise.

        Args:
            wait_s: Seconds to wait for another writer.
            progress: True for a progress bar, or a callable, which is called often with the
                progress.

        Returns:
            A report of the fit.

        Raises:
            UnknownIndexError: The index does not exist.
            StateError: The index has no pictures, or too few of them have a text.
        """
        from mmsearch.maintenance.calibrate import calibrate  # noqa: PLC0415 - searches never need it

        with open_progress(progress) as on_progress:
            return calibrate(self._layout, self._settings, self._on_message, wait_s, on_progress)

    def describe(
        self,
        enrichers: Texts | None = None,
        *,
        sources: Texts = (),
        vocabulary: StrPath | None = None,
        language: str | None = None,
        caption_model: StrPath | None = None,
        retry_failed: bool = False,
        wait_s: float = 0.0,
        progress: ProgressOption = False,
    ) -> list[DescribeReport]:
        """Make texts about the pictures of the index with models.

        Only pictures that an enricher has not read yet are read, or those that it read with another
        model or vocabulary. Its texts are searched and filtered, and never change a vector.

        What sources want by their choice ``describe`` is done by each `add_folder`, `add_source`
        and `refresh`, too.

        Args:
            enrichers: Names of enrichers; None for those that the sources want, or, if none wants
                any, ``tags``. ``tags`` compares the pictures with a vocabulary; ``ocr``
                reads texts in pictures and on pages of documents without a text (extra ``ocr``);
                ``speech`` transcribes films and sounds (extra ``speech``); ``captions`` writes a
                sentence about each picture (extra ``captions``).
            sources: Names of sources, to describe their pictures only; default: all pictures.
            vocabulary: File of the tags to choose from, one a line; None for the built-in ones.
            language: Code of the language that is spoken in films and sounds, such as ``de``; None
                to detect it in each. With another one, all are transcribed again.
            caption_model: Folder of the model that writes captions, in the format of transformers.
            retry_failed: True to try files again that an enricher could not read.
            wait_s: Seconds to wait for another writer.
            progress: True for a progress bar, or a callable, which is called often with the
                progress.

        Returns:
            A report of each enricher.

        Raises:
            UnknownIndexError: The index does not exist.
            UnknownNameError: There is no such enricher or source.
            MissingExtraError: The extra of an enricher is not installed.
            SourceError: The vocabulary cannot be read.
            ModelUnavailableError: A model is not available, or the folder has no captioning model.
            UsageError: The vocabulary has no tag, no enricher or captioning model was named, or the
                model does not recognize the language.
            StateError: The index is empty.
        """
        from mmsearch.maintenance.describe import describe  # noqa: PLC0415 - searches never need it

        with open_progress(progress) as on_progress:
            return describe(
                self._layout,
                self._settings,
                self._on_message,
                None if enrichers is None else to_texts(enrichers),
                sources=to_texts(sources),
                vocabulary=_absolute_path(vocabulary),
                language=language,
                caption_model=_absolute_path(caption_model),
                retry_failed=retry_failed,
                wait_s=wait_s,
                progress=on_progress,
            )

    def remove_model_texts(self, enrichers: Texts, *, wait_s: float = 0.0) -> int:
        """Remove the texts that enrichers have made of the pictures.

        A source that wants them gets them again in its next run, unless its choice ``describe``
        changes; see `set_source`.

        Args:
            enrichers: Names of enrichers, such as ``tags``.
            wait_s: Seconds to wait for another writer.

        Returns:
            The number of pictures and files that each had described, together.

        Raises:
            UnknownIndexError: The index does not exist.
            UnknownNameError: There is no such enricher.
            UsageError: No enricher was named.
        """
        from mmsearch.maintenance.describe import remove_model_texts  # noqa: PLC0415

        return remove_model_texts(self._layout, to_texts(enrichers), self._on_message, wait_s)


def _absolute_path(path: StrPath | None) -> Path | None:
    return None if path is None else Path(os.fsdecode(to_absolute_path(path)))
