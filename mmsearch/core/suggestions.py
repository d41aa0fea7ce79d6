"""Suggestions: words that a library can answer, to complete what somebody types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Protocol

from mmsearch.core.errors import UsageError

DEFAULT_LIMIT = 8
"""Number of suggestions by default."""

MAX_LIMIT = 50
"""Maximum number of suggestions."""

MAX_PREFIX_CHARS = 200
"""Maximum number of characters of a text that is completed; a longer one has no suggestions."""


class SuggestionKind(StrEnum):
    """Kinds of suggestions: where a word comes from.

    ``tag`` is a keyword or a tag of a model, ``person`` and ``place`` are names in the texts of
    pictures, ``word`` is another word of the texts, and ``look`` is a word that no text needs to
    hold: a picture looks like it.
    """

    TAG = "tag"
    PERSON = "person"
    PLACE = "place"
    WORD = "word"
    LOOK = "look"


@dataclass(frozen=True)
class Suggestion:
    """A suggestion of what to search for.

    Attributes:
        text: The whole text to search for; it begins with the words that were typed before the one
            that is completed.
        kind: Where the completed word comes from, a `SuggestionKind`.
        count: Number of pictures whose texts hold the word, when the suggestions were last updated;
            None for a look.
        item: Id of a picture (`Hit.id`) that shows it or has it in its texts.
        index: Name of the index of that picture, of suggestions of several indexes; else None.
    """

    text: str
    kind: str
    count: int | None
    item: int
    index: str | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Suggestion:
        """Return the suggestion of a JSON object, whose unknown members are ignored.

        Raises:
            KeyError: A member is missing.
        """
        text, kind, count, item = (values[name] for name in ("text", "kind", "count", "item"))
        return cls(text, kind, count, item, values.get("index"))

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as a JSON object."""
        values = asdict(self)
        if self.index is None:
            del values["index"]
        return values


@dataclass(frozen=True)
class SuggestedWord:
    """A word that suggestions are chosen from.

    Attributes:
        word: The word, or several of one tag or name.
        item_id: An item that has or shows it.
        count: Number of pictures whose texts hold it; 0 if only the look of the item says so.
        confidence: Probability that a picture shows it; 1 for a word of the texts.
    """

    word: str
    item_id: int
    count: int = 0
    confidence: float = 1.0


@dataclass(frozen=True)
class SuggestionState:
    """State of an index when its suggestions were updated.

    Attributes:
        encoder: Fingerprint of the encoder; empty if no word was compared with pictures.
        vocabulary: Digest of the words that were compared with pictures.
        pictures: Number of pictures.
        last_text: Highest id of a text.
        generation: Generation of the index.
    """

    encoder: str
    vocabulary: str
    pictures: int
    last_text: int
    generation: int


class SuggestionWriter(Protocol):
    """Writer of the words that the suggestions of an index are chosen from."""

    def saved_state(self) -> SuggestionState | None:
        """Return the state of the last update; None before it."""

    def current_state(self, encoder: str, vocabulary: str) -> SuggestionState:
        """Return the state that an update would have now."""

    def collect(self) -> list[SuggestedWord]:
        """Return the tags, the names and the other words of the texts."""

    def save(self, words: Sequence[SuggestedWord], state: SuggestionState) -> None:
        """Replace all words, given in the order in which they are suggested.

        Of a word that is given several times, the first one counts.
        """


def check_limit(limit: int) -> None:
    """Check a number of suggestions.

    Raises:
        UsageError: It is not between 1 and `MAX_LIMIT`.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise UsageError(
            f"The number of suggestions must be 1 to {MAX_LIMIT}, got {limit}.",
            f"Use a limit such as {DEFAULT_LIMIT}.",
        )


def check_kinds(kinds: Sequence[str]) -> frozenset[SuggestionKind]:
    """Return kinds of suggestions by name; all if no name is given.

    Raises:
        UsageError: There is no such kind.
    """
    for kind in kinds:
        if kind not in set(SuggestionKind):
            raise UsageError(
                f"There is no kind of suggestion {kind!r}.", f"Use {', '.join(SuggestionKind)}."
            )
    return frozenset(map(SuggestionKind, kinds or SuggestionKind))
