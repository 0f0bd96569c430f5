"""The worker: it executes jobs, with PyTorch."""
