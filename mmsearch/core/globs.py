"""Patterns of paths as in .gitignore, matched in time linear in the path.

A pattern becomes a regular expression whose every star is inside an atomic group: a group takes
the first place where the text after its star fits, and never gives it back. The first place is
always good enough, because what follows may stand anywhere after it, so nothing is tried twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

MAX_PATTERNS = 100
MAX_PATTERN_CHARS = 1000

_STAR, _STARS = "*", "**"
_END = r"(?=/|\Z)"
_CLASSES = {
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
    """A list of patterns that cannot be used; the message is one sentence."""


class Globs:
    """Decide which paths a list of patterns matches, as in .gitignore, without regard to case.

    The last pattern that matches a path decides; one that matches the path itself has precedence
    over one that matches a folder above it. A pattern that begins with ``!`` takes paths out.

    Args:
        patterns: At most `MAX_PATTERNS`, of at most `MAX_PATTERN_CHARS` characters each.

    Raises:
        GlobError: A pattern can match nothing, or a limit is exceeded.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        if len(patterns) > MAX_PATTERNS:
            raise GlobError(
                f"There are {len(patterns):,} patterns of paths; {MAX_PATTERNS} are allowed."
            )
        rules = [_rule(pattern) for pattern in patterns]
        self._rules = [rule for rule in reversed(rules) if rule is not None]

    def matches(self, path: str) -> bool:
        """Return whether the patterns match a path.

        Args:
            path: Relative, with slashes; one that ends with a slash is a folder.
        """
        folded = "/" + path.lower()
        decided_above: bool | None = None
        for regex, includes in self._rules:
            found = regex.match(folded)
            if found is None:
                continue
            if found.lastindex is not None:
                return includes
            if decided_above is None:
                decided_above = includes
        return bool(decided_above)


def _rule(pattern: str) -> tuple[re.Pattern[str], bool] | None:
    """Return the expression of a pattern and whether it takes paths in; None if it says nothing.

    The expression has a matched group where the pattern matches a path itself.
    """
    if len(pattern) > MAX_PATTERN_CHARS:
        raise GlobError(
            f"A pattern of paths has {len(pattern):,} characters; {MAX_PATTERN_CHARS:,} are "
            "allowed."
        )
    line = _without_trailing_spaces(pattern.lower())
    if not line or line.startswith("#"):
        return None
    includes = not line.startswith("!")
    body = line if includes else line[1:]
    folders_only = body.endswith("/")
    body = body.removesuffix("/")
    anchored = "/" in body
    body = body.removeprefix("/")
    if not body and line != "!":
        return None
    try:
        segments = list(_segments(body))
    except GlobError as error:
        raise GlobError(f"The pattern of paths {pattern[:60]!r} {error}.") from None
    if not anchored:
        # Only between slashes do two stars cross them.
        segments = [[_STARS], [_STAR if token == _STARS else token for token in segments[0]]]
    return re.compile(_expression(segments, folders_only), re.DOTALL), includes


def _without_trailing_spaces(line: str) -> str:
    stripped = line.rstrip(" ")
    backslashes = len(stripped) - len(stripped.rstrip("\\"))
    # An odd number of backslashes escapes the space that follows.
    return line[: len(stripped) + 1] if backslashes % 2 else stripped


# --- from a pattern to its tokens ---


def _segments(body: str) -> Iterator[list[str]]:
    """Yield the parts between slashes, each a list of stars and of expressions of one character."""
    segment: list[str] = []
    at = 0
    while at < len(body):
        token, at = _token(body, at)
        if token == "/":  # noqa: S105 - a token of a pattern
            yield _checked(segment)
            segment = []
        else:
            segment.append(token)
    yield _checked(segment)


def _checked(segment: list[str]) -> list[str]:
    if not segment:
        raise GlobError("has an empty name")
    return segment


def _token(body: str, at: int) -> tuple[str, int]:
    """Return the token that begins at a place, and where the next one begins."""
    character = body[at]
    if character == "*":
        after = at + len(body[at:]) - len(body[at:].lstrip("*"))
        return (_STAR if after == at + 1 else _STARS), after
    if character == "?":
        return "[^/]", at + 1
    if character == "[":
        return _bracket(body, at + 1)
    if character == "\\":
        if at + 1 == len(body):
            raise GlobError("ends with a backslash")
        return re.escape(body[at + 1]), at + 2
    return re.escape(character), at + 1


def _bracket(body: str, at: int) -> tuple[str, int]:
    """Return the expression of ``[...]``, and where the next token begins.

    Args:
        body: A pattern.
        at: Where the bracket's content begins.
    """
    negated = body[at : at + 1] in ("!", "^")
    at += negated
    members: list[str] = []
    first = True
    while first or body[at : at + 1] != "]":
        first = False
        member, at = _member(body, at)
        members.append(member)
    content = "".join(members)
    if negated:
        return f"[^/{content}]", at + 1
    if not content:
        raise GlobError("has brackets that hold nothing")
    return f"(?!/)[{content}]", at + 1


def _member(body: str, at: int) -> tuple[str, int]:
    """Return what a class holds from a place on: a character, a range or a named class."""
    if body.startswith("[:", at):
        close = body.find("]", at + 2)
        if close > at + 2 and body[close - 1] == ":":
            name = body[at + 2 : close - 1]
            if name not in _CLASSES:
                raise GlobError(f"has the unknown class {name!r}")
            return _CLASSES[name], close + 1
    low, at = _character(body, at)
    if body[at : at + 1] != "-" or body[at + 1 : at + 2] in ("", "]"):
        return re.escape(low), at
    high, at = _character(body, at + 1)
    return (f"{re.escape(low)}-{re.escape(high)}" if low <= high else ""), at


def _character(body: str, at: int) -> tuple[str, int]:
    """Return a character, which a backslash may escape, and where the next one begins."""
    at += body.startswith("\\", at)
    if at >= len(body):
        raise GlobError("has a [ without a ]")
    return body[at], at + 1


# --- from tokens to an expression ---


def _expression(segments: Sequence[Sequence[str]], folders_only: bool) -> str:
    """Return the expression that matches a slash and then a path, or a folder above it."""
    groups: list[list[str]] = [[]]
    for segment in segments:
        if segment == [_STARS]:
            groups.append([])
        else:
            groups[-1].append("/" + _name(segment))
    first, *others = ["".join(group) for group in groups]
    if not others:
        return _ending(first, folders_only)
    head = first + "".join(f"(?>{_deeper(group)}(?=/))" for group in others[:-1] if group)
    if others[-1]:
        return head + _ending(_deeper(others[-1]), folders_only)
    return head + ("/[^/]++(?=/)" if folders_only else "/(?=[^/])()")


def _deeper(group: str) -> str:
    return f"(?:/[^/]++)*?{group}"


def _ending(tail: str, folders_only: bool) -> str:
    above = f"(?>{tail}(?=/))"
    return above if folders_only else rf"(?:(?>{tail}\Z)()|{above})"


def _name(segment: Sequence[str]) -> str:
    """Return the expression of one name between slashes."""
    pieces = [""]
    for token in segment:
        if token in (_STAR, _STARS):
            pieces.append("")
        else:
            pieces[-1] += token
    first, *others = pieces
    if not others:
        return first + _END
    middle = "".join(f"(?>[^/]*?{piece})" for piece in others[:-1])
    # No star stands for an empty name.
    return f"(?=[^/]){first}{middle}(?>[^/]*?{others[-1]}{_END})"
