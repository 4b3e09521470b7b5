"""Checks the style that no linter knows: docstrings, names, sizes. Run as ``python -m tests.style [FOLDER ...]``.

Exit status 1 if something is found. Without folders, all product code is checked.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
PRODUCT = ("actors", "cluster", "serve", "raydub")
SENTENCES = (*PRODUCT, "bench")
"""Folders whose docstrings are checked; sizes and names are those of product code."""

FRAGMENTS = ("What", "Of", "Whether", "How", "That", "Who", "Whose")
"""A docstring line that begins with one of these is a fragment: its subject is somewhere else."""

SHARED_CLASS_NAMES = {"Engine", "Config"}
"""Each engine's file has these two, by contract."""

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
LONG_FUNCTION_LINES = 40
MAX_LONG_FUNCTIONS = 10
MAX_MODULES = 8
"""Directly in cluster/ and in serve/."""


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, text) of each string that stands alone: docstrings of modules, classes, functions and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def functions(tree: ast.AST) -> Iterator[tuple[int, str, int]]:
    """(line, name, number of lines)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.lineno, node.name, node.end_lineno - node.lineno + 1


def problems(folders: Sequence[str]) -> Iterator[str]:
    classes: dict[str, list[str]] = defaultdict(list)
    long_functions: list[str] = []
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    for path in files:
        name = path.relative_to(ROOT)
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        if (num_lines := text.count("\n")) > MAX_FILE_LINES:
            yield f"{name}: {num_lines} lines; at most {MAX_FILE_LINES}"
        for line, function, num_lines in functions(tree):
            if num_lines > MAX_FUNCTION_LINES:
                yield f"{name}:{line}: {function} has {num_lines} lines; at most {MAX_FUNCTION_LINES}"
            elif num_lines > LONG_FUNCTION_LINES:
                long_functions.append(f"{name}:{line}: {function} has {num_lines} lines")
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].append(f"{name}:{node.lineno}")
    for name, places in classes.items():
        if len(places) > 1 and name not in SHARED_CLASS_NAMES:
            yield f"class {name} must have one meaning; found {', '.join(places)}"
    if len(long_functions) > MAX_LONG_FUNCTIONS:
        yield f"at most {MAX_LONG_FUNCTIONS} functions may have over {LONG_FUNCTION_LINES} lines:"
        yield from long_functions
    for folder in {"cluster", "serve"} & set(folders):
        modules = sorted(path.name for path in (ROOT / folder).glob("*.py") if path.name != "__init__.py")
        if len(modules) > MAX_MODULES:
            yield f"{folder}/ must have at most {MAX_MODULES} modules; found {', '.join(modules)}"


def fragments(folders: Sequence[str]) -> Iterator[str]:
    for path in (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))):
        for line, docstring in docstrings(ast.parse(path.read_text(encoding="utf-8"))):
            for offset, sentence in enumerate(docstring.splitlines()):
                if sentence.strip().split(" ")[0] in FRAGMENTS:
                    where = f"{path.relative_to(ROOT)}:{line + offset}"
                    yield f"{where}: a docstring line must not begin so: {sentence.strip()[:80]}"


def main() -> int:
    given = sys.argv[1:]
    found = [*fragments(given or SENTENCES), *problems(given or PRODUCT)]
    print("\n".join(found) or "style: nothing found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
