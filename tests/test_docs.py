"""The pages that people read: links lead somewhere, the README is short, its figures are those of the model's card."""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "experiments/results/**/*.md", "siamese_jax/weights/*/*.md")
    for path in ROOT.glob(pattern)
)
LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def anchors_of(text):
    """Anchors of a page's headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page):
    text = (ROOT / page).read_text()
    for target, anchor in LINK.findall(CODE.sub("", text)):
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors_of(path.read_text()), f"{page}: {target}#{anchor}"


def test_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= 800
    assert [line for line in text.splitlines() if len(line) > 120] == []


def test_readme_has_the_figures_of_the_card():
    readme = (ROOT / "README.md").read_text()
    table = readme.partition("<!-- Figures of the package's model")[2].partition("<!-- end of the figures -->")[0]
    card = (ROOT / "siamese_jax/weights/ied/card.md").read_text()
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines() if row.startswith("|")][2:]
    figures = [figure for row in rows for figure in row[2:] if figure]
    assert len(figures) >= 6
    assert [figure for figure in figures if figure not in card] == []


def test_every_page_of_the_site_is_in_its_menu():
    menu = (ROOT / "mkdocs.yml").read_text()
    assert [path.name for path in (ROOT / "docs").glob("*.md") if f": {path.name}\n" not in menu] == []


@pytest.mark.parametrize("path", sorted((ROOT / "docs/notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_run_and_are_stored_without_outputs(path, tmp_path, monkeypatch):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for cell in cells:
        exec(compile("".join(cell["source"]), f"{path.name}", "exec"), names)


def texts_in_source():
    """Every text of the package's source; one line for each, with `{}` for a value in it."""
    for path in (ROOT / "siamese_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_messages_in_troubleshooting_are_those_of_the_package():
    rows = [line for line in (ROOT / "docs/troubleshooting.md").read_text().splitlines() if line.startswith("| `")]
    messages = [re.findall(r"`([^`]*)`", row.split("|")[1]) for row in rows]
    pieces = [piece.strip() for row in messages for message in row for piece in message.split("...")]
    texts = "\n".join(texts_in_source())
    assert len(rows) > 25
    assert [piece for piece in pieces if piece not in texts] == []
