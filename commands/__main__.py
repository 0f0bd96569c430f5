"""Run the command line as a module, from a checkout: `python -m commands up`.

Python then imports from the working directory first. The console script `palimpsest` does not.
"""

from commands.main import app

app(prog_name="palimpsest")
