# syntax=docker/dockerfile:1
# Two images from one file: `api` (no torch, a few hundred MB) and `worker` (torch, the pipelines).
#
#   docker build --target api    -t hidiffusion-api .
#   docker build --target worker -t hidiffusion-worker .
#
# The worker takes torch's default build for the platform (CUDA on Linux). For a host without a GPU,
# or another CUDA version, name the package index that carries the build you want:
#   --build-arg TORCH_INDEX_URL=...

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
RUN useradd --system --create-home --uid 10001 hidiffusion \
 && mkdir -p /var/lib/hidiffusion \
 && chown hidiffusion /var/lib/hidiffusion
COPY pyproject.toml constraints.txt ./
COPY deploy/extra_requirements.py deploy/

# The front ends import neither torch nor diffusers, so their image carries the service extra alone.
FROM base AS api
RUN python deploy/extra_requirements.py pyproject.toml service tracing > /tmp/service.txt \
 && pip install -r /tmp/service.txt -c constraints.txt
COPY LICENSE NOTICE README.md ./
COPY hidiffusion hidiffusion
COPY hidiffusion_api hidiffusion_api
COPY service service
COPY models/catalog.json models/catalog.json
RUN pip install --no-deps .
USER hidiffusion
ENV HIDIFFUSION_API__HOST=0.0.0.0 HIDIFFUSION_CATALOG=/app/models/catalog.json
EXPOSE 8000 50051
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import httpx; httpx.get('http://127.0.0.1:8000/healthz').raise_for_status()"]
ENTRYPOINT ["hidiffusion"]
CMD ["api"]

FROM base AS worker
ARG TORCH_INDEX_URL=
RUN pip install torch -c constraints.txt ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"}
RUN python deploy/extra_requirements.py pyproject.toml "" service worker tracing > /tmp/all.txt \
 && pip install -r /tmp/all.txt -c constraints.txt
COPY LICENSE NOTICE README.md ./
COPY hidiffusion hidiffusion
COPY hidiffusion_api hidiffusion_api
COPY service service
COPY models/catalog.json models/catalog.json
COPY models/memory models/memory
COPY models/fluent-emoji-256 models/fluent-emoji-256
RUN pip install --no-deps .
USER hidiffusion
ENV HIDIFFUSION_CATALOG=/app/models/catalog.json
# The supervisor handles SIGTERM itself: it drains, hands its job back and exits.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s CMD ["hidiffusion", "worker", "--check"]
ENTRYPOINT ["hidiffusion"]
CMD ["worker"]
