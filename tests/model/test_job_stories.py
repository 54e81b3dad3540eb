"""Stories of cancellation, restart and taking back, kept as text: they are told as written."""

from pathlib import Path

import pytest

from tests.support.job_stories import told

STORIES = sorted((Path(__file__).parent / "stories").glob("*.txt"))


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_the_story_happens_as_it_is_written(story: Path) -> None:
    text = story.read_text()
    assert told(text) == text


def test_there_are_stories() -> None:
    assert len(STORIES) >= 8
