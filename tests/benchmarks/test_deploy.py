"""`benchmarks.deploy`: its tables are those of the page."""

import time

from benchmarks import deploy, markdown


def test_the_page_has_the_tables_of_the_stored_results():
    page = deploy.PAGE.read_text()
    assert markdown.fill(page, deploy.tables()) == page


def test_contenders_are_timed_in_turn():
    order = []
    found = deploy.interleaved({"a": lambda: order.append("a"), "b": lambda: (order.append("b"), time.sleep(0.01))}, 3)
    assert "".join(order) == "ab" * 5
    assert found["a"]["q25"] <= found["a"]["median"] <= found["a"]["q75"] < 10 <= found["b"]["median"]
