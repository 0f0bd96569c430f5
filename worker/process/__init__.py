"""A worker process: its Celery application, its device, and what it runs jobs with."""
