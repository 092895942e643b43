"""A hook of mkdocs: pages of the site that lie outside of docs/, and links to and from them.

Links in Markdown are relative to the file, so that they work in the repository too. Here they are rewritten to where
the site has that file; a link to a file that the site does not have becomes its path in the repository.
"""

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
SINGLE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "siamese_jax/weights/ied/card.md": "model-card.md",
}
"""Place in the repository and on the site."""
RESULTS = "experiments/results/"
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside of docs/."""
    for folder, _, names in os.walk(ROOT / RESULTS):
        for path in (Path(folder, name).relative_to(ROOT) for name in names):
            if path.suffix in {".md", ".png"}:
                files.append(File.generated(config, _on_site(path.as_posix()), abs_src_path=str(ROOT / path)))
    for path, place in SINGLE.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links of a page."""
    folder = Path(page.file.abs_src_path or "").parent

    def rewritten(link: re.Match[str]) -> str:
        target = os.path.relpath(folder / link[3], ROOT)
        place = _on_site(target)
        if files.get_file_from_path(place) is None:
            if not (ROOT / target).exists():
                return link[0]  # mkdocs warns of it
            return f"{link[2]} (`{target}`)"
        here = Path(page.file.src_uri).parent
        return f"{link[1]}[{link[2]}]({os.path.relpath(place, here)}{link[4] or ''})"

    return LINK.sub(rewritten, markdown)


def _on_site(path: str) -> str:
    """Where the site has a file of the repository."""
    if path.startswith(RESULTS):
        return "results/" + path.removeprefix(RESULTS)
    return SINGLE.get(path, path.removeprefix("docs/"))
