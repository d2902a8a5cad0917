# syntax=docker/dockerfile:1
FROM python:3.13-slim-bookworm AS build
WORKDIR /app
COPY requirements/runtime.txt requirements/
RUN python -m venv .venv \
    && .venv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements/runtime.txt
COPY . .
RUN .venv/bin/python manage.py collectstatic --no-input

FROM python:3.13-slim-bookworm
# Journals and quickstart.json live in /data: a node's volume, never shared between nodes.
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin tollgate \
    && install --directory --owner tollgate --group tollgate --mode 0700 /data
COPY --from=build /app /app
WORKDIR /app
USER tollgate
ENV ENVIRONMENT=production \
    DATA_DIR=/data \
    HOST=0.0.0.0 \
    PORT=8000 \
    PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
CMD ["python", "manage.py", "run", "--no-jobs"]
