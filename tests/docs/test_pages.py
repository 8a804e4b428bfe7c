"""Every document: what its blocks are, where its links lead, and that the site shows it."""

import importlib.util
import json
import re

import pytest

from tests.docs.pages import PAGES, ROOT, blocks, name

RUN = {"python", "bash"}  # test_python.py, test_shell.py
READ = {"json", "text"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_is_in_a_language_that_is_tested(page):
    text = page.read_text()
    assert len(re.findall(r"^\s*(```|~~~)", text, re.MULTILINE)) == 2 * len(blocks(page)), "a block is not recognised"
    for block in blocks(page):
        assert block.language in RUN | READ, block.where
        if block.language == "json":
            json.loads("{" + block.code.strip().rstrip(",") + "}")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    text = page.read_text()
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)|(?:src|srcset)=\"([^\"]+)\"", text):
        assert (page.parent / (target[0] or target[1])).exists(), target


def test_the_site_shows_every_document():
    tool = ROOT / "docs" / "tools" / "pages.py"
    outside = dict(re.findall(r'^    "(.*\.md)": "(.*\.md)",$', tool.read_text(), re.MULTILINE))
    shown = re.findall(r"\b([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    inside = {str(page.relative_to(ROOT / "docs")) for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert sorted(shown) == sorted(inside | set(outside.values()))
    assert all((ROOT / source).is_file() for source in outside)


def test_diagrams_are_what_their_script_draws():
    spec = importlib.util.spec_from_file_location("draw_sdi", ROOT / "docs" / "tools" / "draw_sdi.py")
    assert spec
    assert spec.loader
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    for theme, colours in tool.THEMES.items():
        assert (ROOT / "docs" / "images" / f"sdi-{theme}.svg").read_text(encoding="utf-8") == tool.draw(colours)
