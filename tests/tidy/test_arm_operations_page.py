"""The table of all ARM operations in docs/ is the table of routes."""

import re

from tests.support.arm_operations_page import PAGE, page


def test_the_page_is_as_the_routes_are() -> None:
    made = page()
    words = "write it anew: python -m tests.support.arm_operations_page"
    assert PAGE.read_text(encoding="utf-8") == made, words


def test_each_row_says_status_and_role() -> None:
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    form = re.compile(
        r"\| `(GET|PUT|POST|PATCH|DELETE)` \| `\S+` \| (answered|501|400 OperationNotSupported)"
        r" \| (Reader|Operator|Contributor) \| .+ \|"
    )
    assert [row for row in rows if form.fullmatch(row) is None] == []
    assert len(rows) > 130
