"""What a job took is told by phase, and energy is never made up."""

from pathlib import Path

from worker.jobs.cost import Meter
from worker.learning.strategy import Progress


def test_every_second_belongs_to_a_phase() -> None:
    now = [100.0]
    meter = Meter(Path("nowhere"), clock=lambda: now[0])
    for phase, passed in (("learning", 2.0), ("learning", 3.0), ("fisher", 1.0), ("learning", 4.0)):
        now[0] += passed
        meter.show(Progress(phase, 0, 1, None))
    now[0] += 0.5
    meter.count("0", 70)
    meter.count("1", 30)
    meter.count("1", 30)  # the same images again
    cost = meter.cost()
    assert cost["seconds"] == 10.5
    assert cost["phases"] == {"preparing": 2.0, "learning": 4.0 + 0.5, "fisher": 4.0}
    assert cost["examples"] == 100


def test_a_machine_without_a_counter_says_so() -> None:
    assert Meter(Path("nowhere")).cost()["energy"] == {
        "joules": None,
        "reason": "this machine has no energy counter (RAPL)",
    }


def package(folder: Path, name: str, microjoules: int) -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "energy_uj").write_text(f"{microjoules}\n")
    (folder / name / "max_energy_range_uj").write_text("1000000\n")
    return folder / name / "energy_uj"


def test_energy_is_that_of_all_packages_also_past_the_end_of_a_counter(tmp_path: Path) -> None:
    one, other = package(tmp_path, "intel-rapl:0", 900_000), package(tmp_path, "intel-rapl:1", 0)
    package(tmp_path, "intel-rapl:0:0", 5)  # a part of package 0, counted with it
    now = [0.0]
    meter = Meter(tmp_path, clock=lambda: now[0])
    one.write_text("100000\n")  # past its end, from zero again
    now[0] = 61.0
    meter.show(Progress("learning", 0, 1, None))
    one.write_text("950000\n")
    other.write_text("250000\n")
    assert meter.cost()["energy"]["joules"] == 0.2 + 0.85 + 0.25


def test_a_counter_nobody_may_read_is_told(tmp_path: Path) -> None:
    package(tmp_path, "intel-rapl:0", 0).write_text("no number")
    assert "may not be read" in Meter(tmp_path).cost()["energy"]["reason"]
