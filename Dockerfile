# Two images: `service` (API, registry and drawing; no PyTorch) and `worker` (adds learning, with PyTorch).
#   docker build --target service -t palimpsest-service .
#   docker build --target worker  -t palimpsest-worker .
FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONPATH=/app \
    PALIMPSEST_HOME=/var/lib/palimpsest \
    PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --system --uid 10001 --user-group --no-create-home palimpsest \
    && install --directory --owner palimpsest --group palimpsest "$PALIMPSEST_HOME"
WORKDIR /app
# Each stage installs dependencies before it copies the code: a change of the code does not reinstall them.
COPY pyproject.toml constraints.txt README.md ./

FROM base AS service
RUN pip install --no-cache-dir --constraint constraints.txt ".[service]"
COPY commands commands
COPY migrations migrations
COPY palimpsest palimpsest
COPY reports reports
COPY service service
USER 10001
EXPOSE 8000
CMD ["palimpsest", "serve", "--host", "0.0.0.0", "--port", "8000"]

FROM base AS worker
RUN pip install --no-cache-dir --constraint constraints.txt ".[worker]"
COPY commands commands
COPY migrations migrations
COPY palimpsest palimpsest
COPY reports reports
COPY service service
COPY worker worker
USER 10001
CMD ["palimpsest", "worker"]
