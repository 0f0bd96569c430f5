"""The charts of a report show every curve, however short, and say which real images a figure is about."""

from reports import Curves, RelearningFigure, at_least
from service.reporting.charts import accuracy_bar, relearning_chart
from tests.reports.made_up import label_figure


def test_relative_figures_say_which_real_images_they_are_relative_to() -> None:
    """Accuracy is divided by that of test images; coverage by that of train images, over test images."""
    relative = {"relative_accuracy": 0.97, "relative_coverage": 0.9}
    beside = accuracy_bar("3", label_figure(0.9).model_copy(update=relative)).beside
    assert "97.0 % of what the judge recognises of real test images" in beside
    assert "covers 87.5 % of the real test images, 90.0 % of what as many real train images cover" in beside


def test_a_label_that_was_never_forgotten_has_a_curve_of_one_point_and_it_is_drawn() -> None:
    curves = Curves(target_accuracy=0.9, candidate=((0, 0.95),), references=(((0, 0.1), (4, 0.92)),) * 2)
    limit = at_least(0.8)
    figure = RelearningFigure(value=0.0, n=2, threshold=limit, fixed_threshold=limit, curves=curves)
    chart = relearning_chart("3", figure, curves)
    first, last = chart.candidate.split()
    assert first == last, "round line ends make a dot of it"
    assert chart.text.startswith("accuracy at the end: this version 95")
    assert "after 0 steps" in chart.text
