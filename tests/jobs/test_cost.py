"""A job's cost is given by phase, its energy only where the machine counts it."""

from pathlib import Path

from worker.jobs.cost import CostMeter
from worker.jobs.energy import EnergyMeter
from worker.learning.strategy import Progress


def test_every_second_belongs_to_a_phase() -> None:
    now = [100.0]
    meter = CostMeter(clock=lambda: now[0])
    for phase, seconds in (("learning", 2.0), ("learning", 3.0), ("fisher", 1.0), ("learning", 4.0)):
        now[0] += seconds
        meter.report_progress(Progress(phase, 0, 1, None))
    now[0] += 0.5
    cost = meter.cost()
    assert cost["seconds"] == 10.5
    assert cost["phases"] == {"preparing": 2.0, "learning": 4.0 + 0.5, "fisher": 4.0}


def test_images_that_a_job_is_given_twice_count_once() -> None:
    meter = CostMeter()
    meter.count("0", 70)
    for _ in range(2):
        meter.count("1", 30)
    assert meter.cost()["examples"] == 100


def test_a_machine_without_a_counter_says_so(tmp_path: Path) -> None:
    reason = "this machine has no energy counter (RAPL)"
    assert EnergyMeter(tmp_path).used() == {"joules": None, "reason": reason}


def write_counter(folder: Path, name: str, microjoules: int) -> Path:
    """A processor package of the kernel's powercap interface; returns the file of its counter."""
    (folder / name).mkdir(parents=True)
    (folder / name / "energy_uj").write_text(f"{microjoules}\n")
    (folder / name / "max_energy_range_uj").write_text("1000000\n")
    return folder / name / "energy_uj"


def test_energy_is_that_of_all_packages_even_where_a_counter_wraps(tmp_path: Path) -> None:
    one, other = write_counter(tmp_path, "intel-rapl:0", 900_000), write_counter(tmp_path, "intel-rapl:1", 0)
    write_counter(tmp_path, "intel-rapl:0:0", 5)  # a part of package 0, counted with it
    now = [0.0]
    meter = CostMeter(EnergyMeter(tmp_path), clock=lambda: now[0])
    one.write_text("100000\n")  # it wrapped: 0.1 J to its range, and 0.1 J from zero
    now[0] = 61.0
    meter.report_progress(Progress("learning", 0, 1, None))
    one.write_text("950000\n")
    other.write_text("250000\n")
    assert meter.cost()["energy"]["joules"] == 0.2 + 0.85 + 0.25


def test_a_counter_that_cannot_be_read_is_the_reason_for_no_figure(tmp_path: Path) -> None:
    write_counter(tmp_path, "intel-rapl:0", 0).write_text("no number")
    assert "no permission to read" in EnergyMeter(tmp_path).used()["reason"]
