"""A hook of mkdocs: documents that lie outside docs/ become pages, links between the two lead to the pages, and
`<!-- include FILE -->` shows a file of the repository.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]

OUTSIDE = {  # path in the repository: page
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks-contract.md",
}
LINKS = OUTSIDE | {"examples": "examples.md"}  # the page shows the folder's scripts

# A Markdown link, or an image in HTML as <picture> needs it; without the anchor behind "#".
TARGET = re.compile(r"""(\]\(|\bsrc="|\bsrcset=")(?![a-z]+:|#)([^)#"\s]+)""")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = page.file.src_uri
    source = {page: source for source, page in OUTSIDE.items()}.get(here, f"docs/{here}")
    # Links in code are left alone.
    markdown = re.sub(r"^<!-- include (\S+) -->$", _include, markdown, flags=re.MULTILINE)
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    parts[::2] = [TARGET.sub(lambda match: match[1] + _page(match[2], source, here), part) for part in parts[::2]]
    return "".join(parts)


def _include(match: re.Match[str]) -> str:
    path = ROOT / match[1]
    return (
        f'```{path.suffix.removeprefix(".").replace("py", "python")} title="{match[1]}"\n{path.read_text("utf-8")}```'
    )


def _page(target: str, source: str, here: str) -> str:
    """The link of a document in the repository as one between pages; mkdocs reports what leads nowhere."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if path in LINKS:
        path = f"docs/{LINKS[path]}"
    return posixpath.relpath(path, posixpath.join("docs", posixpath.dirname(here)))
