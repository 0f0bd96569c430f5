"""The charts of a report show every curve, however short."""

from reports import Curves, RelearningFigure, at_least
from service.reporting.charts import relearning_chart


def test_a_label_that_was_never_forgotten_has_a_curve_of_one_point_and_it_is_drawn() -> None:
    curves = Curves(target_accuracy=0.9, candidate=((0, 0.95),), references=(((0, 0.1), (4, 0.92)),) * 2)
    limit = at_least(0.8)
    figure = RelearningFigure(value=0.0, n=2, threshold=limit, fixed_threshold=limit, curves=curves)
    chart = relearning_chart("3", figure, curves)
    first, last = chart.candidate.split()
    assert first == last, "round line ends make a dot of it"
    assert chart.text.startswith("accuracy at the end: this version 95")
    assert "after 0 steps" in chart.text
