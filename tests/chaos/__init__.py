"""Random faults under load: `python -m tests.chaos --seconds 60 --seed 7 --backing postgresql`.

The seed decides which faults happen, when, and for how long. Meanwhile clients request jobs and images, and a
poller records every head that it sees. In the end everything is restored, every accepted job has to end, and
the rules of tests/invariants.py must hold. A run that breaks one leaves its folder, with the logs, and exits
with 1.
"""
