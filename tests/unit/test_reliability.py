"""Each promise of ``docs/reliability.md`` names a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
LINK = re.compile(r"\[`(test_\w+)`\]\((\S+?)\)")


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_each_promise_names_a_test_that_exists() -> None:
    tables = re.findall(r"^\| promise \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    promises = "".join(tables).splitlines()
    assert len(promises) > 20
    for line in promises:
        named = LINK.findall(line)
        assert named, line
        for name, path in named:
            assert name in names_in((PAGE.parent / path).resolve()), line
