# The server over a bundle that is mounted at /bundle; without torch. See docs/server.md and deploy/compose.yaml.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/shortlist
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY retrieval retrieval
COPY indexing indexing
COPY ranking ranking
COPY serving serving
COPY benchmarks benchmarks
RUN /opt/shortlist/bin/pip install -c constraints.txt '.[cpu,serve,lambdamart,redis,otel]' \
    && ! /opt/shortlist/bin/python -c 'import torch' 2>/dev/null

FROM python:${PYTHON}-slim
# LightGBM, which rankers of trees need, is linked to OpenMP; its version is that of the image's Debian.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin shortlist
COPY --from=build /opt/shortlist /opt/shortlist
ENV PATH=/opt/shortlist/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /tmp
VOLUME /bundle
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["shortlist"]
CMD ["serve", "/bundle", "--host", "0.0.0.0"]
