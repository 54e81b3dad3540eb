import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks.channel.figures import CATALOGUE, Metric, percentile, save, table


@pytest.mark.parametrize(
    ("part", "wanted"), [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0), (0.0, 1.0), (0.001, 1.0)]
)
def test_a_percentile_is_one_of_the_samples(part: float, wanted: float) -> None:
    assert percentile([float(each) for each in range(100, 0, -1)], part) == wanted


@pytest.mark.parametrize(
    ("value", "better", "verdict"),
    [
        (None, "lower", "NOT MEASURED"),
        (1.0, "lower", "ok"),
        (1.1, "lower", "MISSED"),
        (1.0, "higher", "ok"),
        (0.9, "higher", "MISSED"),
    ],
)
def test_a_metric_says_whether_its_goal_is_reached(
    value: float | None, better: str, verdict: str
) -> None:
    assert Metric("m", value, "x", 1.0, better).verdict == verdict


def test_every_metric_is_kept_also_without_a_value(tmp_path: Path) -> None:
    metrics = list(CATALOGUE.values())
    metrics[0] = replace(metrics[0], value=1.5, baseline=1.0, peer="bare")
    file = tmp_path / "deep/channel.json"
    save(metrics, file)
    kept = json.loads(file.read_text())
    assert kept == [asdict(each) for each in metrics]
    assert list(kept[0]) == ["metric", "value", "unit", "goal", "better", "baseline", "peer"]
    assert table(metrics).count("NOT MEASURED") == len(metrics) - 1
