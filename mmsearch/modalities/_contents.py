"""Examination of a folder: which files are pictures, and what the others are."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mmsearch.core.files import HEAD_BYTES, open_regular_file, os_error_reason
from mmsearch.core.protocols import Modality
from mmsearch.modalities import _other_files
from mmsearch.modalities._other_files import Shots, kind_by_name
from mmsearch.modalities._texts.pairing import SIDECAR_SUFFIXES, pair_sidecars

STATS = 3
"""Number of values per file in a listing: size, modification time and change time."""

Recall = Callable[[bytes, int, int], str | None]
"""Function from a path, a size in bytes and a modification time to what is known of the file.

The result is the reason why it was skipped, "" if it was read as a picture, and None for a file
that is not known.
"""

MAX_LIVE_BYTES = 25_000_000
"""Maximum size in bytes of the video of a live photograph, which has the name of its picture."""

_UNREAD = (_other_files.UNFINISHED, _other_files.SYSTEM_FILE, _other_files.PROXY)
_ZIP_HEAD = b"PK\3\4"
_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass
class Contents:
    """Result of examining the files of one folder, in little memory.

    Attributes:
        skipped: Positions of the files that are not read, in the order of their names.
        reasons: Their reasons.
    """

    skipped: array[int] = field(default_factory=lambda: array("I"))
    reasons: list[str] = field(default_factory=list)
    # The position of each picture, the number of its sidecars, and their positions.
    _pictures: array[int] = field(default_factory=lambda: array("I"))

    def add_picture(self, position: int, sidecars: Sequence[int]) -> None:
        """Add a picture with the positions of its sidecars."""
        self._pictures.extend((position, len(sidecars), *sidecars))

    def iter_pictures(self) -> Iterator[tuple[int, Sequence[int]]]:
        """Yield the position of each picture and those of its sidecars."""
        start = 0
        while start < len(self._pictures):
            end = start + 2 + self._pictures[start + 1]
            yield self._pictures[start], self._pictures[start + 2 : end]
            start = end


@dataclass
class FolderExaminer:
    """Examiner of the files of one folder.

    Attributes:
        readers: Modalities that can read their files.
        missing: Modalities whose extra is not installed, with the reason of their files.
        recall: Returns what an earlier walk found, given the name of a file.
        omission: Returns the reason to leave out a file of any kind, or None.
        folder: Absolute path of the folder, with a slash at the end.
        names: Names of its files.
        stats: Size, modification time and change time of each file.
    """

    readers: Sequence[Modality]
    missing: Sequence[tuple[Modality, str]]
    recall: Recall
    omission: Callable[[bytes], str | None]
    folder: bytes
    names: Sequence[bytes]
    stats: Sequence[int]
    _positions: dict[bytes, int] = field(init=False)
    _text_owners: dict[bytes, bytes] = field(init=False)

    def examine(self) -> Contents:
        """Return which files are pictures. Files of unknown content are opened."""
        names = self.names
        order = sorted(range(len(names)), key=names.__getitem__)
        self._positions = {names[position]: position for position in order}
        reasons: dict[int, str] = {}
        pictures, others, texts = self._sort_by_name(order, reasons)
        claimed = [position for position in pictures if position not in reasons]
        shots = self._shots(claimed)
        self._join_raw_files((*claimed, *others), shots, reasons)
        self._join_videos(claimed, shots, reasons)
        recognized = self._recognize(others, shots, reasons)
        if recognized:
            pictures = sorted((*pictures, *recognized), key=names.__getitem__)
            shots = self._shots([p for p in pictures if p not in reasons])
            self._join_raw_files((*claimed, *others), shots, reasons)
            self._join_videos((*claimed, *others), shots, reasons)
        sidecars = self._pair_sidecars(pictures, texts, reasons)
        pictures = [position for position in pictures if position not in reasons]
        paired = {text for positions in sidecars.values() for text in positions}
        unpaired = [position for position in texts if position not in paired]
        self._text_owners = self._find_text_owners(unpaired, (*claimed, *others), reasons)
        if late := self._recognize(unpaired, shots, reasons):
            pictures = sorted((*pictures, *late), key=names.__getitem__)
        contents = Contents()
        for position in pictures:
            contents.add_picture(position, sidecars.get(position, ()))
        shared_reasons: dict[str, str] = {}
        for position in order:
            if (reason := reasons.get(position)) is not None:
                contents.skipped.append(position)
                contents.reasons.append(shared_reasons.setdefault(reason, reason))
        return contents

    def _shots(self, pictures: Sequence[int]) -> Shots:
        # An empty file stands for nothing.
        return Shots([self.names[p] for p in pictures if self.stats[STATS * p]])

    def _sort_by_name(
        self, order: Sequence[int], reasons: dict[int, str]
    ) -> tuple[list[int], list[int], list[int]]:
        """Return pictures, other files and texts by their names.

        Reasons are added for files that the options leave out, which are among the pictures, too.
        """
        pictures: list[int] = []
        others: list[int] = []
        texts: list[int] = []
        can_read = [modality.can_read for modality in self.readers]
        for position in order:
            name = self.names[position]
            reason = self.omission(name)
            is_picture = any(reads(name) for reads in can_read)
            # Patterns choose pictures; the texts of a picture come with it.
            is_text = not is_picture and name.lower().endswith(SIDECAR_SUFFIXES)
            if is_text and reason != _other_files.HIDDEN:
                texts.append(position)
                continue
            if reason is not None:
                reasons[position] = reason
            if is_picture:
                pictures.append(position)
            elif reason is None:
                others.append(position)
        return pictures, others, texts

    def _join_raw_files(
        self, positions: Sequence[int], shots: Shots, reasons: dict[int, str]
    ) -> None:
        """Leave out RAW files beside the photograph of the same shot."""
        for position in positions:
            name = self.names[position]
            photo = shots.photo_of_raw(name) if _other_files.is_raw(name) else None
            if photo is not None:
                reasons[position] = _other_files.raw_reason(photo)

    def _join_videos(self, positions: Sequence[int], shots: Shots, reasons: dict[int, str]) -> None:
        """Leave out the videos of live photographs, and say whose those are that are not read."""
        for position in positions:
            name = self.names[position]
            is_unread = reasons.get(position) == _other_files.VIDEO
            is_film = position not in reasons and kind_by_name(name) == _other_files.VIDEO
            if is_unread or (is_film and self.stats[STATS * position] <= MAX_LIVE_BYTES):
                reason = shots.companion_reason(name, _other_files.VIDEO, self._positions)
                if reason is not None:
                    reasons[position] = reason

    def _recognize(
        self, positions: Sequence[int], shots: Shots, reasons: dict[int, str]
    ) -> list[int]:
        """Return the files that are pictures by their content; add reasons for the others."""
        recognized = []
        for position in positions:
            if position in reasons:
                continue
            reason = self._reason(position, shots)
            if reason:
                reasons[position] = reason
            else:
                recognized.append(position)
        return recognized

    def _reason(self, position: int, shots: Shots) -> str:
        """Return the reason not to read a file; "" for a picture."""
        name = self.names[position]
        kind = _other_files.kind_by_name(name)
        is_text = name.lower().endswith(SIDECAR_SUFFIXES)
        reason = self.omission(name) if is_text else None
        reason = reason or shots.companion_reason(name, kind, self._positions)
        if reason is None and kind in _UNREAD:
            reason = kind
        if reason is not None:
            return reason
        size, mtime_ns, _ = self.stats[STATS * position : STATS * (position + 1)]
        if not size:
            return _other_files.EMPTY
        reason = self.recall(name, size, mtime_ns)
        if reason is None or not self._is_valid(name, reason):
            reason = self._reason_by_content(name, kind)
        if reason and is_text:
            owner = self._text_owners.get(name)
            reason = reason if owner is None else _other_files.text_of(owner)
        elif reason == _other_files.VIDEO:
            reason = shots.companion_reason(name, reason, self._positions) or reason
        return reason

    def _find_text_owners(
        self, texts: Sequence[int], positions: Sequence[int], reasons: Mapping[int, str]
    ) -> dict[bytes, bytes]:
        """Return the videos and other files to which texts belong that belong to no picture."""
        names = [self.names[position] for position in texts]
        owners = {
            name: owner for name in names if (owner := name[: name.rfind(b".")]) in self._positions
        }
        videos = [
            self.names[position]
            for position in positions
            if reasons.get(position, "").startswith(_other_files.VIDEO)
        ]
        for video, video_texts in pair_sidecars(videos, names).items():
            owners.update(dict.fromkeys(video_texts, video))
        return owners

    def _is_valid(self, name: bytes, reason: str) -> bool:
        """Return True if a file that was skipped for a reason need not be opened again."""
        if not reason or any(reason == missing_reason for _, missing_reason in self.missing):
            return True
        # An earlier version may not have known that an extra reads files of this name.
        is_readable = any(modality.can_read(name) for modality, _ in self.missing)
        return _other_files.is_lasting(reason) and not is_readable

    def _reason_by_content(self, name: bytes, kind: str | None) -> str:
        try:
            with open_regular_file(self.folder + name) as file:
                head = file.read(HEAD_BYTES)
        except (OSError, ValueError) as error:
            cause = os_error_reason(error) if isinstance(error, OSError) else "not a valid name"
            return f"{_other_files.UNREADABLE}: {cause}"
        missing = [reason for modality, reason in self.missing if modality.can_read(name)]
        # The content of many RAW files begins like any TIFF.
        is_ambiguous = head.startswith(_TIFF_HEADS) and (missing or _other_files.is_raw(name))
        # Sound is often in the container of a film.
        is_ambiguous = is_ambiguous or kind == _other_files.AUDIO
        # Tables of office programs begin like their texts.
        is_ambiguous = is_ambiguous or head.startswith(_ZIP_HEAD)
        if not is_ambiguous and any(modality.recognizes(head) for modality in self.readers):
            return ""
        missing += [reason for modality, reason in self.missing if modality.recognizes(head)]
        if missing:
            return missing[0]
        return kind or _other_files.kind_by_head(head)

    def _pair_sidecars(
        self, pictures: Sequence[int], texts: Sequence[int], reasons: dict[int, str]
    ) -> dict[int, list[int]]:
        """Return the texts of each picture that has any; add reasons for those of left out ones."""
        # A picture that the patterns leave out keeps its sidecars; a RAW file shares those of its
        # shot.
        owners = [
            self.names[position]
            for position in pictures
            if reasons.get(position) in (None, _other_files.EXCLUDED)
        ]
        pairs = pair_sidecars(owners, [self.names[position] for position in texts])
        sidecars: dict[int, list[int]] = {}
        for owner, names in pairs.items():
            position = self._positions[owner]
            sidecars[position] = [self._positions[name] for name in names]
            if position in reasons:
                for text in sidecars[position]:
                    reasons[text] = _other_files.text_of(owner)
        return sidecars
