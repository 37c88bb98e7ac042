"""docs/when-the-report-says.md has the sentences that reports say, and says no others."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "when-the-report-says.md").read_text()
PLACES = [
    *(ROOT / "amf_lightning" / "reports").glob("*.py"),
    *(ROOT / "amf_lightning" / "evaluation" / name for name in ("trials.py", "trial_reports.py")),
]
SENTENCES = re.findall(r"^### (.+)$", PAGE, re.MULTILINE)


def texts(path: Path) -> Iterator[str]:
    """The texts in a file of Python; what is put into them is `…`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


SAID = [text for path in PLACES for text in texts(path)]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_what_the_page_explains_is_said(sentence: str) -> None:
    pieces = [re.escape(piece.strip()) for piece in sentence.split("…") if piece.strip()]
    pattern = re.compile(".*".join(pieces), re.DOTALL)
    assert any(pattern.search(text) for text in SAID), f"no report says: {sentence}"


def test_every_section_and_every_warning_of_a_report_is_explained() -> None:
    sections = {match[1] for text in SAID if (match := re.match(r"## (.+)", text))}
    warnings = {match for text in SAID for match in re.findall(r"\*\*([A-Z][^*…]{5,})(?:…[^*]*)?\*\*", text)}
    assert len(sections) >= 6 and len(warnings) >= 4
    known = {"Why": "# What was asked", "What was asked, and what it gained": "# What was asked"}
    for said in sorted(sections | warnings):
        assert known.get(said, said.strip()) in PAGE, f"the page does not explain: {said}"
