"""Check names and prose for unclear forms (see CONTRIBUTING.md, "Language").

Usage: check_language.py [FOLDER ...]

Prints one line for each finding and exits with 1 if there is any:

- a docstring, of a module, class, function or constant, that opens with a fragment;
- a constant named by a clause (``MOST_FILES``, ``ENDS_WITHIN_S``) instead of a term;
- an identifier or a word on the list of retired words.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

FOLDERS = ("mmsearch", "tests", "scripts", "benchmarks")

FRAGMENT_OPENINGS = frozenset(
    [
        "Of",
        "So",
        "By",
        "What",
        "Who",
        "Whose",
        "Whether",
        "How",
        "As",
        "Where",
        "When",
        "Why",
        "That",
        "Which",
        "Than",
        "Whatever",
        "Whoever",
    ]
)

CLAUSE_CONSTANT = re.compile(r"^_?(MOST|LEAST|FEW|MANY)_|_WITHIN_S$|_LASTS_S$|_WAITS_S$")

RETIRED_NAMES = frozenset(["told", "untold", "in_halves"])

RETIRED_WORDS = re.compile(
    r"\b(?:[Ss]hall|[Aa]new|[Ww]hoever|[Ii]s none|[Aa]re none|[Ll]eave away|[Ll]eft away)\b"
    r"|\b(?:[Ss]o many|[Ss]o long a|[Ww]ho asks)\b"
    r"|['\"}`] is no (?:[b-km-z]|l(?!onger))"
)


def check_python(path: Path) -> Iterator[str]:
    """Yield a line for each finding in a Python file."""
    source = path.read_text(encoding="utf-8")
    for line, text in find_docstrings(ast.parse(source)):
        opening = re.match(r"\w+", text.strip())
        if opening and opening.group() in FRAGMENT_OPENINGS:
            yield f"{path}:{line}: docstring opens with a fragment: {text.strip()[:60]!r}"
    seen: set[str] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        name, line = token.string, token.start[0]
        if token.type == tokenize.NAME and name not in seen:
            seen.add(name)
            if name in RETIRED_NAMES or (name.isupper() and CLAUSE_CONSTANT.search(name)):
                yield f"{path}:{line}: retired name: {name}"
        elif token.type in (tokenize.STRING, tokenize.COMMENT):
            yield from find_words(path, line, name)


def find_docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and text of each docstring of a module, class, function or constant."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            for statement in body:
                value = statement.value if isinstance(statement, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield statement.lineno, value.value


def find_words(path: Path, first_line: int, text: str) -> Iterator[str]:
    """Yield a line for each retired word in a text."""
    for number, line in enumerate(text.splitlines(), first_line):
        for found in RETIRED_WORDS.finditer(line):
            yield f"{path}:{number}: retired word: {found.group().strip()!r}"


def main(folders: list[str]) -> int:
    """Check the Python files in the folders and, if no folder is given, the documents."""
    findings: list[str] = []
    for folder in folders or FOLDERS:
        for path in sorted(Path(folder).rglob("*.py")):
            if "node_modules" not in path.parts and path.resolve() != Path(__file__).resolve():
                findings += check_python(path)
    if not folders:
        for path in sorted([*Path().glob("*.md"), *Path("docs").rglob("*.md")]):
            prose = re.sub(r"`[^`\n]*`", "", path.read_text(encoding="utf-8"))
            findings += find_words(path, 1, prose)
    print("\n".join(findings))
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
