"""The identity of an index (encoder, fusion, vector index, texts, goals) in the settings table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from numbers import Real
from types import UnionType
from typing import Any

from mmsearch.catalog.database import Database
from mmsearch.core.errors import DamagedFileError, Hint
from mmsearch.core.identity import Identity
from mmsearch.core.records import IndexCalibration
from mmsearch.core.types import DEFAULT_SOURCES, EncoderSpec, FusionSpec, SearchGoals, TextSource

CALIBRATION_KEY = "calibration"
"""Key of the setting with the index's own calibration."""

_PARSE_ERRORS = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


def read_identity(db: Database) -> Identity | None:
    """Return the identity of the index; None before `write_identity`.

    Raises:
        DamagedFileError: The settings are invalid.
    """
    # It is long, and few need it.
    stored = db.query("SELECT key, value FROM settings WHERE key <> ?", [CALIBRATION_KEY])
    try:
        return _parse_rows(tuple(stored))
    except _PARSE_ERRORS as error:
        raise DamagedFileError(
            f"The settings in {db.path} are invalid ({type(error).__name__}).",
            Hint(
                "{} to rebuild the catalog without encoding pictures again.",
                "Call index.repair()",
                "Run 'mmsearch repair'",
            ),
        ) from error


# Every search reads the same rows: parsing and checking them each time takes 4% of a search.
@lru_cache(maxsize=16)
def _parse_rows(stored: tuple[tuple[Any, ...], ...]) -> Identity | None:
    settings: dict[str, Any] = {key: json.loads(value) for key, value in stored}
    return _parse_identity(settings) if "encoder" in settings else None


def read_calibration(db: Database) -> IndexCalibration | None:
    """Return the index's own calibration; None if it has none or if it cannot be read."""
    stored = db.query("SELECT value FROM settings WHERE key = ?", [CALIBRATION_KEY])
    return parse_calibration(stored[0][0]) if stored else None


@lru_cache(maxsize=16)
def parse_calibration(stored: str) -> IndexCalibration | None:
    """Return the calibration of its JSON text; None if it is invalid."""
    try:
        return IndexCalibration(**json.loads(stored))
    except _PARSE_ERRORS:
        return None


def _parse_identity(settings: Mapping[str, Any]) -> Identity:
    encoder = EncoderSpec(**settings["encoder"])
    _check_types(encoder, name=str, dim=int, weights_sha256=str, preprocessing=dict)
    _check_types(encoder, code_version=int, context_length=int)
    stored = settings["fusion"]
    # The first schema stored only the name.
    fusion = FusionSpec(stored) if isinstance(stored, str) else FusionSpec(**stored)
    _check_types(fusion, name=str, text_weight=Real, kind_weights=dict)
    goals = SearchGoals(**settings.get("goals", {}))
    _check_types(goals, recall=Real, memory_mb=Real | None, latency_ms=Real | None)
    identity = Identity(
        encoder=encoder,
        fusion=fusion,
        vector_index=settings["vector_index"],
        texts=tuple(TextSource(name) for name in settings.get("texts", DEFAULT_SOURCES)),
        goals=goals,
    )
    _check_types(identity, vector_index=str)
    if encoder.dim < 1 or not all(isinstance(w, Real) for w in fusion.kind_weights.values()):
        raise ValueError("a number is out of range")
    return identity


def _check_types(value: object, **expected_types: type | UnionType) -> None:
    for name, expected_type in expected_types.items():
        if not isinstance(getattr(value, name), expected_type):
            raise TypeError(name)


def recover_identity(
    stored: Mapping[str, Any], encoder: EncoderSpec, fallback: Identity
) -> tuple[Identity, list[str]]:
    """Recover an identity from incomplete settings; also return the keys of the lost settings.

    Args:
        stored: Settings by key, as `read_identity` reads them.
        encoder: The encoder of the index.
        fallback: Identity that provides the values of lost settings.
    """
    settings = to_settings(replace(fallback, encoder=encoder))
    lost_keys = []
    for key in ("fusion", "vector_index", "texts", "goals"):
        candidate = {**settings, key: stored.get(key)}
        try:
            _parse_identity(candidate)
        except _PARSE_ERRORS:
            lost_keys.append(key)
        else:
            settings = candidate
    return _parse_identity(settings), lost_keys


def recover_encoder(stored: Mapping[str, Any]) -> EncoderSpec | None:
    """Return the encoder in incomplete settings; None if it is lost."""
    try:
        return _parse_identity({"fusion": "image", "vector_index": "auto", **stored}).encoder
    except _PARSE_ERRORS:
        return None


def to_settings(identity: Identity) -> dict[str, Any]:
    """Return the values of the settings table by key, as `read_identity` reads them."""
    return {
        "encoder": asdict(identity.encoder),
        "fusion": asdict(identity.fusion),
        "vector_index": identity.vector_index,
        "texts": list(identity.texts),
        "goals": asdict(identity.goals),
        "mmsearch_version": _mmsearch_version(),
    }


def _mmsearch_version() -> str:
    """Return the version of mmsearch, which helps to debug old catalogs.

    Do not import it from the package root, which is a higher layer.
    """
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - writers only

    try:
        return version("mmsearch")
    except PackageNotFoundError:
        return "unknown"
