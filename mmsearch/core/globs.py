"""Path patterns as in .gitignore, matched in time linear in the length of the path.

A pattern is compiled to a regular expression in which every star is inside an atomic group. The
group matches at the first position where the text after its star fits, and never backtracks. The
first position is always sufficient because the rest may match anywhere after it.

Paths are compared as Unicode text in NFC and without regard to case. The names on disk stay as they
are: the same ``ü`` has other bytes on macOS than on Windows.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from mmsearch.core.display import display_path
from mmsearch.core.files import expand_user

MAX_PATTERNS = 100
MAX_PATTERN_CHARS = 1000

_SPECIAL_CHARS = re.compile(r"[\\*?\[\]!# ]")
# Backslashes escape a special character in the first, and separate names in the second, as on
# Windows; in a\*b they may do either.
_ESCAPED = re.compile(r"(?:[^\\]|\\[\\*?\[\]!# /])*")
_SEPARATED = re.compile(r"(?:[^\\]|(?<=[^/\\*])\\(?![\\\[\]!# ]))*")
_DRIVE = re.compile("[a-z]:/")
_STAR, _DOUBLE_STAR = "*", "**"
_NAME_END = r"(?=/|\Z)"
_POSIX_CLASSES = {
    "alnum": "a-z0-9",
    "alpha": "a-z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": r"\x21-\x7e",
    "lower": "a-z",
    "print": r"\x20-\x7e",
    "punct": r"!-/:-@\[-`{-~",
    "space": r" \t\n\r\f\v",
    "upper": "a-z",
    "xdigit": "0-9a-f",
}


class GlobError(ValueError):
    """The error for an invalid list of patterns; the message is one sentence."""


def normalize_path(path: str | bytes) -> str:
    """Return a path in NFC, in which equal names are equal; undecodable bytes stay surrogates."""
    return unicodedata.normalize("NFC", os.fsdecode(path))


def fold_path(path: str | bytes) -> str:
    """Return a path in NFC and lower case; names that differ in case only are equal."""
    # Python's lower() writes a capital sigma in two ways, depending on the letters around it.
    return normalize_path(path).lower().replace("\u03c2", "\u03c3")


def escape_glob(path: str) -> str:
    """Return the pattern that matches a path literally."""
    return _SPECIAL_CHARS.sub(r"\\\g<0>", path)


def resolve_globs(patterns: Iterable[str]) -> list[str]:
    """Return patterns that also mean paths relative to the working directory.

    The name of an existing file or folder is meant literally, and the path of an existing file with
    a slash in it means this file only. A path that begins with ``~``, ``./`` or ``../`` becomes
    absolute. Any other pattern keeps its meaning relative to an indexed folder, and a second one is
    added if it begins with a folder of the working directory.
    """
    return list(dict.fromkeys(glob for pattern in patterns for glob in _resolve_glob(pattern)))


def _resolve_glob(pattern: str) -> Iterator[str]:
    is_negated = pattern.startswith("!") and not os.path.lexists(pattern)
    sign, body = ("!", pattern[1:]) if is_negated else ("", pattern)
    written = body.replace(os.sep, "/")
    path = expand_user(body)
    if body and os.path.lexists(path):
        end = "/" if written.endswith("/") else ""
        is_pattern = not re.match(r"[/~]|\.{1,2}(/|$)|[A-Za-z]:", written)
        is_file_name = is_pattern and "/" not in written and not path.is_dir()
        if is_pattern and (is_file_name or path.is_dir()):
            yield sign + escape_glob(written)
        # A file name means all files of that name, which include this one.
        if not is_file_name:
            # The folder may be indexed with or without the links that lead to it.
            for folder in (path.parent, path.parent.resolve()):
                yield sign + escape_glob(_absolute(folder / path.name)) + end
        return
    first, slash, rest = written.partition("/")
    if slash and first.startswith("~"):
        yield f"{sign}{escape_glob(expand_user(first).as_posix())}/{rest}"
        return
    folder = Path()
    while slash and first in (".", ".."):
        folder /= first
        first, slash, rest = rest.partition("/")
    if not written.startswith(("./", "../")):
        yield pattern
        if not (first and slash and Path(first).is_dir()):
            return
    yield f"{sign}{escape_glob(_absolute(folder).rstrip('/'))}/{first}{slash}{rest}"


def _absolute(path: Path) -> str:
    return os.path.abspath(path).replace(os.sep, "/")  # noqa: PTH100 - also removes ".."


def unescape_glob(pattern: str) -> str | None:
    """Return the only path that a pattern matches, apart from case; None if it matches more."""
    if not re.fullmatch(r"(?:[^\\*?\[]|\\[\\*?\[\]!# ])*", pattern):
        return None
    return re.sub(r"\\(.)", r"\1", pattern)


class Globs:
    """A list of path patterns as in .gitignore, matched without regard to case.

    The last pattern that matches a path decides. A pattern that matches the path itself takes
    precedence over one that matches a folder above it. A pattern that begins with ``!`` excludes
    paths.

    Args:
        patterns: At most `MAX_PATTERNS` patterns of at most `MAX_PATTERN_CHARS` characters each.
        root: Absolute path of the folder that the paths are relative to. With it, a pattern may
            also be an absolute path, a path that begins with the last folders of the root, or a
            path as mmsearch prints it, even if it contains brackets or backslashes.

    Raises:
        GlobError: A pattern is invalid, or a limit is exceeded.
    """

    def __init__(self, patterns: Sequence[str], root: str | bytes | None = None) -> None:
        if len(patterns) > MAX_PATTERNS:
            raise GlobError(
                f"There are {len(patterns):,} path patterns; at most {MAX_PATTERNS} are allowed."
            )
        self._has_root = root is not None
        roots = None
        if root is not None:
            folder = os.fsdecode(root)
            # An absolute path may lead to the root without its links.
            is_real = any(map(re.compile(r"!?([/~]|[A-Za-z]:)").match, patterns))
            folders = dict.fromkeys((folder, os.path.realpath(folder) if is_real else folder))
            roots = [
                [name for name in fold_path(path).replace(os.sep, "/").split("/") if name]
                for path in folders
            ]
        compiled_patterns = [_compile_pattern(pattern, roots) for pattern in patterns]
        self._compiled_patterns = [
            compiled for compiled in reversed(compiled_patterns) if compiled is not None
        ]

    def matches(self, path: str) -> bool:
        """Return True if the patterns match a path.

        Args:
            path: Relative path with slashes; a folder ends with a slash.
        """
        normalized_path = "/" + fold_path(path)
        printed_path = None
        if self._has_root and not path.isprintable():
            printed_path = "/" + fold_path(display_path(path))
        parent_decision: bool | None = None
        for regex, is_include in self._compiled_patterns:
            match = regex.match(normalized_path)
            if match is None and printed_path is not None:
                match = regex.match(printed_path)
            if match is None:
                continue
            if match.lastindex is not None:
                return is_include
            if parent_decision is None:
                parent_decision = is_include
        return bool(parent_decision)


def _compile_pattern(
    pattern: str, roots: Sequence[Sequence[str]] | None
) -> tuple[re.Pattern[str], bool] | None:
    """Return the expression of a pattern, and True if it includes paths or False if it excludes.

    Return None for an empty pattern or a comment. A group of the expression takes part in the match
    if the pattern matches the path itself, not only a folder above it.

    Args:
        pattern: The pattern.
        roots: Names of the folders of the root, in lower case, with and without links; None to
            compare relative paths only.
    """
    if len(pattern) > MAX_PATTERN_CHARS:
        raise GlobError(
            f"A path pattern has {len(pattern):,} characters; at most {MAX_PATTERN_CHARS:,} are "
            "allowed."
        )
    pattern_line = _strip_trailing_spaces(fold_path(pattern))
    if not pattern_line or pattern_line.startswith("#"):
        return None
    is_include = not pattern_line.startswith("!")
    body = pattern_line if is_include else pattern_line[1:]
    if pattern_line != "!" and not body.removesuffix("/").removeprefix("/"):
        return None
    readings = [body] if roots is None else list(_iter_readings(body))
    # A printed name has backslashes of its own, and then a bracket may be one, too.
    is_name = roots is not None and body.strip("\\") != "" and not _ESCAPED.fullmatch(body)
    regexes: list[str] = []
    for number, reading in enumerate(readings, start=1):
        try:
            regexes += _iter_regexes(reading, roots or ())
        except GlobError as error:
            if not is_name or (number == len(readings) and not regexes):
                raise GlobError(f"The path pattern {pattern[:60]!r} {error}.") from None
    return re.compile("|".join(dict.fromkeys(regexes)), re.DOTALL), is_include


def _iter_readings(body: str) -> Iterator[str]:
    """Yield the patterns that a text may mean: a path with brackets, a Windows path, a pattern."""
    if body.startswith("~/"):
        yield from _iter_readings(escape_glob(fold_path(expand_user("~").as_posix())) + body[1:])
    if body.startswith("./"):
        body = body[1:]
    is_escaped = _ESCAPED.fullmatch(body)
    readings = [body] if is_escaped else []
    if "\\" in body and (not is_escaped or _SEPARATED.fullmatch(body)):
        readings.append(re.sub(r"[\\/]+", "/", body))
    for reading in dict.fromkeys((body, *readings)):
        if "[" in reading or "\\" in reading:
            yield escape_glob(reading)
    yield from readings


def _iter_regexes(body: str, roots: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the expression of a pattern, and those of its meanings as a path above the root."""
    folders_only = body.endswith("/")
    is_absolute = body.startswith("/") or bool(_DRIVE.match(body))
    body = body.removesuffix("/")
    is_anchored = "/" in body
    segments = list(_parse_segments(body.removeprefix("/")))
    if not is_anchored:
        # Two stars match slashes only if they stand between slashes.
        segments = [
            [_DOUBLE_STAR],
            [_STAR if token == _DOUBLE_STAR else token for token in segments[0]],
        ]
    yield _build_regex(segments, folders_only)
    if not is_anchored or not _is_literal(segments[0]):
        return
    if not is_absolute and not all(map(_is_literal, segments)):
        return
    for root in roots:
        for remaining in _parts_below(root, segments, is_absolute):
            yield _build_regex(remaining, folders_only) if remaining else "/"


def _is_literal(segment: Sequence[str]) -> bool:
    return not any(token in (_STAR, _DOUBLE_STAR) or len(token) > 2 for token in segment)


def _parts_below(
    root: Sequence[str], segments: Sequence[list[str]], is_absolute: bool
) -> Iterator[Sequence[list[str]]]:
    """Yield the parts of a pattern that remain after the folders of a root.

    Args:
        root: Names of the folders of the root.
        segments: The pattern.
        is_absolute: The pattern begins at the first folder of the root, not at any of the last.
    """
    # Numbers of segments that the folders so far match.
    counts = {0} if is_absolute else set[int]()
    for folder in root:
        starts = counts if is_absolute else counts | {0}
        counts = set()
        for count in _skip_double_stars(starts, segments):
            if count == len(segments):
                if is_absolute:
                    counts.add(count)
            elif segments[count] == [_DOUBLE_STAR]:
                counts.add(count)
            elif re.match(_name_regex(segments[count]), folder, re.DOTALL):
                counts.add(count + 1)
    for count in counts:
        yield segments[count:]


def _skip_double_stars(counts: Collection[int], segments: Sequence[list[str]]) -> set[int]:
    """Return the counts, and those behind the double stars there, which match no folder too."""
    skipped: set[int] = set()
    for count in counts:
        end = count
        while end < len(segments) and segments[end] == [_DOUBLE_STAR]:
            end += 1
        skipped.update(range(count, end + 1))
    return skipped


def _strip_trailing_spaces(line: str) -> str:
    stripped = line.rstrip(" ")
    backslashes = len(stripped) - len(stripped.rstrip("\\"))
    # An odd number of backslashes escapes the space that follows.
    return line[: len(stripped) + 1] if backslashes % 2 else stripped


# --- tokenizer ---


def _parse_segments(body: str) -> Iterator[list[str]]:
    """Yield the segments between slashes, each a list of stars and one-character expressions."""
    segment: list[str] = []
    position = 0
    while position < len(body):
        token, position = _parse_token(body, position)
        if token == "/":  # noqa: S105 - a token of a pattern
            yield _check_not_empty(segment)
            segment = []
        else:
            segment.append(token)
    yield _check_not_empty(segment)


def _check_not_empty(segment: list[str]) -> list[str]:
    if not segment:
        raise GlobError("has an empty name")
    return segment


def _parse_token(body: str, position: int) -> tuple[str, int]:
    """Return the token at a position, and the position of the next one."""
    character = body[position]
    if character == "*":
        next_position = position + len(body[position:]) - len(body[position:].lstrip("*"))
        return (_STAR if next_position == position + 1 else _DOUBLE_STAR), next_position
    if character == "?":
        return "[^/]", position + 1
    if character == "[":
        return _parse_bracket(body, position + 1)
    if character == "\\":
        if position + 1 == len(body):
            raise GlobError("ends with a backslash")
        return re.escape(body[position + 1]), position + 2
    return re.escape(character), position + 1


def _parse_bracket(body: str, position: int) -> tuple[str, int]:
    """Return the expression of ``[...]``, and the position of the next token.

    Args:
        body: A pattern.
        position: Position after the opening bracket.
    """
    is_negated = body[position : position + 1] in ("!", "^")
    position += is_negated
    members: list[str] = []
    is_first = True
    while is_first or body[position : position + 1] != "]":
        is_first = False
        member, position = _parse_class_member(body, position)
        members.append(member)
    content = "".join(members)
    if is_negated:
        return f"[^/{content}]", position + 1
    return f"(?!/)[{content}]", position + 1


def _parse_class_member(body: str, position: int) -> tuple[str, int]:
    """Return a member of a class (character, range or named class), and the next position."""
    if body.startswith("[:", position):
        close = body.find("]", position + 2)
        if close > position + 2 and body[close - 1] == ":":
            name = body[position + 2 : close - 1]
            if name not in _POSIX_CLASSES:
                raise GlobError(f"has the unknown class {name!r}")
            return _POSIX_CLASSES[name], close + 1
    low, position = _parse_character(body, position)
    if body[position : position + 1] != "-" or body[position + 1 : position + 2] in ("", "]"):
        return re.escape(low), position
    high, position = _parse_character(body, position + 1)
    # As in git, the first character of a reversed range still matches itself.
    return (f"{re.escape(low)}-{re.escape(high)}" if low <= high else re.escape(low)), position


def _parse_character(body: str, position: int) -> tuple[str, int]:
    """Return a character, which a backslash may escape, and the position of the next one."""
    position += body.startswith("\\", position)
    if position >= len(body):
        raise GlobError("has a [ without a ]")
    return body[position], position + 1


# --- regular expressions ---


def _build_regex(segments: Sequence[Sequence[str]], folders_only: bool) -> str:
    """Return the expression that matches a slash followed by a path or by a folder above it."""
    groups: list[list[str]] = [[]]
    for segment in segments:
        if segment == [_DOUBLE_STAR]:
            groups.append([])
        else:
            groups[-1].append("/" + _name_regex(segment))
    first_group, *other_groups = ["".join(group) for group in groups]
    if not other_groups:
        return _tail_regex(first_group, folders_only)
    prefix_regex = first_group + "".join(
        f"(?>{_at_any_depth(group)}(?=/))" for group in other_groups[:-1] if group
    )
    if other_groups[-1]:
        return prefix_regex + _tail_regex(_at_any_depth(other_groups[-1]), folders_only)
    return prefix_regex + ("/[^/]++(?=/)" if folders_only else "/(?=[^/])()")


def _at_any_depth(group: str) -> str:
    return f"(?:/[^/]++)*?{group}"


def _tail_regex(last_group: str, folders_only: bool) -> str:
    parent_regex = f"(?>{last_group}(?=/))"
    return parent_regex if folders_only else rf"(?:(?>{last_group}\Z)()|{parent_regex})"


def _name_regex(segment: Sequence[str]) -> str:
    """Return the expression of one segment between slashes."""
    pieces = [""]
    for token in segment:
        if token in (_STAR, _DOUBLE_STAR):
            pieces.append("")
        else:
            pieces[-1] += token
    first_piece, *other_pieces = pieces
    if not other_pieces:
        return first_piece + _NAME_END
    middle_regex = "".join(f"(?>[^/]*?{piece})" for piece in other_pieces[:-1])
    # A star does not match an empty name.
    return f"(?=[^/]){first_piece}{middle_regex}(?>[^/]*?{other_pieces[-1]}{_NAME_END})"
