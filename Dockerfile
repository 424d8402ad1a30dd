# One image for every role: `docker run mailriver run ROLE`. Python is the version that the tests run with.
FROM python:3.11-slim AS build
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /src
# The lock as constraints: uv takes the versions in it and verifies their hashes, also of what comes in by another
# package, and installs nothing that only development or the embedded stack needs. Not in the lock, and so verified by
# no hash: hatchling, which builds our own wheel.
COPY requirements.lock pyproject.toml ./
RUN uv venv /opt/mailriver \
    && uv pip install --python /opt/mailriver --no-cache -c requirements.lock -r pyproject.toml
COPY README.md LICENSE ./
COPY schemas schemas
COPY topics topics
COPY processors processors
COPY sinks sinks
COPY pipeline pipeline
RUN uv pip install --python /opt/mailriver --no-cache --no-deps .

FROM python:3.11-slim
# The folder of secrets has its owner before a volume is mounted over it: a new volume takes both from the image.
RUN useradd --system --uid 2525 --home-dir /var/lib/mailriver mailriver \
    && install -d -o mailriver -m 700 /var/lib/mailriver /var/lib/mailriver/secrets
COPY --from=build /opt/mailriver /opt/mailriver
ENV PATH=/opt/mailriver/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 2525
ENTRYPOINT ["mailriver"]
CMD ["--help"]
