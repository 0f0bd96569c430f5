"""Run the command line as a module: `python -m commands up`."""

from commands.main import app

app(prog_name="palimpsest")
