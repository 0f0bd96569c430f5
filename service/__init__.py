"""The HTTP service: API, registry of models, job queue, receipts and drawing. It needs no PyTorch."""
