"""Run a command at a pseudo-terminal, answer what it asks the terminal, and read what it shows."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CELL_SIZE = {b"\x1b[16t": b"\x1b[6;20;10t"}
"""A terminal whose characters are 10 x 20 pixels says so, if it is asked."""


class Terminal:
    """A command at a terminal of its own, 100 columns wide.

    answers: what the terminal writes back when the command writes a question: an escape sequence or text.
    """

    def __init__(
        self,
        *command: str,
        answers: Mapping[bytes, bytes] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._questions = dict(answers or {})
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "commands", *command],
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **(env or {})},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=_do_not_ignore_interrupts,
        )
        os.close(slave)
        self._shown = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def shown(self) -> str:
        """All that the command has written so far, escape sequences included."""
        return self._shown.decode(errors="replace")

    def wait_for(self, text: str) -> None:
        """Wait until the command has written the text."""
        deadline = time.monotonic() + 60
        while text not in self.shown:
            assert self.process.poll() is None or text in self.shown, (
                f"it ended without {text!r}: {self.shown}"
            )
            assert time.monotonic() < deadline, f"no {text!r}: ...{self.shown[-500:]}"
            time.sleep(0.02)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._master, text.encode() + b"\n")

    def end(self) -> int:
        """Wait until the command has ended; return its exit code."""
        code = self.process.wait(60)
        self._reader.join(10)
        return code

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # the command has closed the terminal
                break
            if not data:
                break
            self._shown += data
            for question in [one for one in self._questions if one in self._shown]:
                os.write(self._master, self._questions.pop(question))
        os.close(self._master)


def _do_not_ignore_interrupts() -> None:
    """Undo what a shell does to processes in the background, to these tests for one: they ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
