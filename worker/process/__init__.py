"""A worker process: its Celery application, its device, and the context in which it runs jobs."""
