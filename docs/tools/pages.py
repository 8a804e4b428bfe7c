"""A hook of mkdocs: documents outside docs/ become pages, links between documents lead to the pages, and
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
    "RELEASING.md": "releasing.md",
    "benchmarks/README.md": "benchmarks-contract.md",
}
LINKS = OUTSIDE | {"examples": "examples.md"}  # the page shows the folder's scripts

LINK = re.compile(r"(?<!!)\[([^\[\]]+)\]\((?![a-z]+:|#)([^)#\s]+)[^)]*\)")
# A Markdown link, or an image in HTML as <picture> needs it; without the anchor behind "#".
TARGET = re.compile(r"""(\]\(|\bsrc="|\bsrcset=")(?![a-z]+:|#)([^)#"\s]+)""")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_post_page(output: str, **_: object) -> str:
    # The theme's search on file:// loads a script from the net; the site makes no request, and search needs a server.
    return re.sub(r'<script src="https://unpkg\.com/iframe-worker/[^"]*"></script>', "", output)


def on_post_template(output_content: str, **_: object) -> str:
    return on_post_page(output_content)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = page.file.src_uri
    source = {page: source for source, page in OUTSIDE.items()}.get(here, f"docs/{here}")
    # Links in code are left alone.
    markdown = re.sub(r"^<!-- include (\S+) -->$", _include, markdown, flags=re.MULTILINE)
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    for i in range(0, len(parts), 2):
        linked = LINK.sub(lambda match: match[1] if _has_no_page(match[2], source) else match[0], parts[i])
        parts[i] = TARGET.sub(lambda match: match[1] + _page(match[2], source, here), linked)
    return "".join(parts)


def _include(match: re.Match[str]) -> str:
    path = ROOT / match[1]
    return (
        f'```{path.suffix.removeprefix(".").replace("py", "python")} title="{match[1]}"\n{path.read_text("utf-8")}```'
    )


def _path(target: str, source: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), target))


def _has_no_page(target: str, source: str) -> bool:
    """Whether a link leads to a file of the repository that the site does not show: its words stay without the link."""
    path = _path(target, source)
    return path not in LINKS and not path.startswith("docs/") and (ROOT / path).exists()


def _page(target: str, source: str, here: str) -> str:
    """A link between documents of the repository as a link between pages; mkdocs reports links that lead nowhere."""
    path = _path(target, source)
    if path in LINKS:
        path = f"docs/{LINKS[path]}"
    return posixpath.relpath(path, posixpath.join("docs", posixpath.dirname(here)))
