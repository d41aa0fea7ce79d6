"""Path patterns as in .gitignore, matched in time linear in the length of the path.

A pattern is compiled to a regular expression in which every star is inside an atomic group. The
group matches at the first position where the text after its star fits, and never backtracks. The
first position is always sufficient because the rest may match anywhere after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

MAX_PATTERNS = 100
MAX_PATTERN_CHARS = 1000

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


class Globs:
    """A list of path patterns as in .gitignore, matched without regard to case.

    The last pattern that matches a path decides. A pattern that matches the path itself takes
    precedence over one that matches a folder above it. A pattern that begins with ``!`` excludes
    paths.

    Args:
        patterns: At most `MAX_PATTERNS` patterns of at most `MAX_PATTERN_CHARS` characters each.

    Raises:
        GlobError: A pattern is invalid, or a limit is exceeded.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        if len(patterns) > MAX_PATTERNS:
            raise GlobError(
                f"There are {len(patterns):,} path patterns; at most {MAX_PATTERNS} are allowed."
            )
        compiled_patterns = [_compile_pattern(pattern) for pattern in patterns]
        self._compiled_patterns = [
            compiled for compiled in reversed(compiled_patterns) if compiled is not None
        ]

    def matches(self, path: str) -> bool:
        """Return True if the patterns match a path.

        Args:
            path: Relative path with slashes; a folder ends with a slash.
        """
        normalized_path = "/" + path.lower()
        parent_decision: bool | None = None
        for regex, is_include in self._compiled_patterns:
            match = regex.match(normalized_path)
            if match is None:
                continue
            if match.lastindex is not None:
                return is_include
            if parent_decision is None:
                parent_decision = is_include
        return bool(parent_decision)


def _compile_pattern(pattern: str) -> tuple[re.Pattern[str], bool] | None:
    """Return the expression of a pattern, and True if it includes paths or False if it excludes.

    Return None for an empty pattern or a comment. A group of the expression takes part in the match
    if the pattern matches the path itself, not only a folder above it.
    """
    if len(pattern) > MAX_PATTERN_CHARS:
        raise GlobError(
            f"A path pattern has {len(pattern):,} characters; at most {MAX_PATTERN_CHARS:,} are "
            "allowed."
        )
    pattern_line = _strip_trailing_spaces(pattern.lower())
    if not pattern_line or pattern_line.startswith("#"):
        return None
    is_include = not pattern_line.startswith("!")
    body = pattern_line if is_include else pattern_line[1:]
    folders_only = body.endswith("/")
    body = body.removesuffix("/")
    is_anchored = "/" in body
    body = body.removeprefix("/")
    if not body and pattern_line != "!":
        return None
    try:
        segments = list(_parse_segments(body))
    except GlobError as error:
        raise GlobError(f"The path pattern {pattern[:60]!r} {error}.") from None
    if not is_anchored:
        # Two stars match slashes only if they stand between slashes.
        segments = [
            [_DOUBLE_STAR],
            [_STAR if token == _DOUBLE_STAR else token for token in segments[0]],
        ]
    return re.compile(_build_regex(segments, folders_only), re.DOTALL), is_include


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
