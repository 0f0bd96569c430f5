"""What a service that is started at a terminal tells the person there."""

import signal
from pathlib import Path

from tests.commands.terminal import Terminal


def test_at_a_terminal_a_service_says_what_to_do_next(tmp_path: Path) -> None:
    terminal = Terminal("serve", "--port", "0", env={"PALIMPSEST_HOME": str(tmp_path / "home")})
    terminal.wait_for("Ctrl-C stops it.")
    ready, _, advice = terminal.shown.partition("Palimpsest is ready at ")[2].partition("\n")
    assert f"export PALIMPSEST_URL={ready.strip()}" in advice
    assert "palimpsest models create" in advice
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.end() == 0, terminal.shown
