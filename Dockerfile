# One image for the worker and the API; docker-compose.yml says which of the two a container runs.
FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --create-home app && install -d -o app -g app /data
WORKDIR /app

COPY pyproject.toml README.md LICENSE requirements.txt constraints.txt ./
COPY bridge/ bridge/
RUN pip install --no-cache-dir -c constraints.txt -r requirements.txt ".[all]"

COPY worker/ worker/
COPY api/ api/

USER app
EXPOSE 8000
CMD ["python", "-m", "gunicorn", "--worker-class", "gevent", "--bind", "0.0.0.0:8000", "api.app:create_app()"]
