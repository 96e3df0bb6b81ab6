# syntax=docker/dockerfile:1
# Two images from one file: `api` (no torch, a few hundred MB) and `worker` (torch, the pipelines).
#
#   docker build --target api    -t hidiffusion-api .
#   docker build --target worker -t hidiffusion-worker .
#
# The worker takes torch's default build for the platform (CUDA on Linux). For a host without a GPU,
# or another CUDA version, name the package index that carries the build you want:
#   --build-arg TORCH_INDEX_URL=...
# PYTHON_IMAGE may be any image with Python 3.11 or later, its venv module, and Debian's useradd.

ARG PYTHON_IMAGE=python:3.11.15-slim-bookworm@sha256:d29f48a31a8b408ed19272ca1e7b10ebae13b240a27e862d3d4217c528e2e0c3

FROM ${PYTHON_IMAGE} AS base
ENV PATH=/opt/hidiffusion/bin:$PATH \
    PYTHONUNBUFFERED=1

# The packages come first: they change more seldom than the code.
FROM base AS build
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python3 -m venv /opt/hidiffusion
COPY pyproject.toml constraints.txt LICENSE NOTICE README.md ./

# The front ends import neither torch nor diffusers, so their image carries the service extra alone.
FROM build AS build-api
RUN pip install ".[service,tracing]" -c constraints.txt
COPY hidiffusion hidiffusion
COPY hidiffusion_api hidiffusion_api
COPY hidiffusion_client hidiffusion_client
COPY service service
RUN pip install --no-deps --force-reinstall .

FROM build AS build-worker
ARG TORCH_INDEX_URL=
# hadolint ignore=DL3013
RUN pip install torch -c constraints.txt ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"}
RUN pip install ".[worker,tracing]" -c constraints.txt
COPY hidiffusion hidiffusion
COPY hidiffusion_api hidiffusion_api
COPY hidiffusion_client hidiffusion_client
COPY service service
RUN pip install --no-deps --force-reinstall .

# A number, so that Kubernetes can tell that it is not root. /tmp and /cache are all it writes to,
# besides what is mounted; the root may be read-only.
FROM base AS runtime
RUN /usr/sbin/useradd --uid 10001 --user-group --no-create-home --home-dir /tmp hidiffusion \
 && install --directory --owner=10001 --group=10001 /cache /models /var/lib/hidiffusion
USER 10001:10001
ENV HOME=/tmp \
    HF_HOME=/cache/huggingface \
    HIDIFFUSION_API__HOST=0.0.0.0 \
    HIDIFFUSION_CATALOG=/usr/share/hidiffusion/models/catalog.json \
    HIDIFFUSION_HEALTH_FOLDER=/tmp/hidiffusion
# Both programs drain on SIGTERM. Each process answers on a socket of its own; this asks them all.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python3", "-m", "service.health"]
ENTRYPOINT ["hidiffusion"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.vendor="HiDiffusion"

FROM runtime AS api
LABEL org.opencontainers.image.title="hidiffusion-api" \
      org.opencontainers.image.description="HTTP and gRPC front ends, and webhooks"
COPY --from=build-api /opt/hidiffusion /opt/hidiffusion
COPY models/catalog.json /usr/share/hidiffusion/models/catalog.json
EXPOSE 8000 50051
CMD ["api"]

FROM runtime AS worker
LABEL org.opencontainers.image.title="hidiffusion-worker" \
      org.opencontainers.image.description="GPU workers: a supervisor and a pipeline process each"
COPY --from=build-worker /opt/hidiffusion /opt/hidiffusion
COPY models/catalog.json /usr/share/hidiffusion/models/catalog.json
COPY models/memory /usr/share/hidiffusion/models/memory
COPY models/fluent-emoji-256 /usr/share/hidiffusion/models/fluent-emoji-256
COPY models/fluent-emoji-x4 /usr/share/hidiffusion/models/fluent-emoji-x4
CMD ["worker", "--devices", "all"]
