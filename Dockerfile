# One image for every role: `docker run mailriver run ROLE`.
FROM python:3.13-slim AS build
RUN pip install --no-cache-dir uv
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY topics topics
COPY processors processors
COPY sinks sinks
COPY pipeline pipeline
RUN uv venv /opt/mailriver \
    && uv pip install --python /opt/mailriver --no-cache -c requirements.lock .

FROM python:3.13-slim
RUN useradd --system --uid 2525 --home-dir /var/lib/mailriver --create-home mailriver \
    && mkdir /var/lib/mailriver/secrets && chown mailriver /var/lib/mailriver/secrets && chmod 700 /var/lib/mailriver/secrets
COPY --from=build /opt/mailriver /opt/mailriver
ENV PATH=/opt/mailriver/bin:$PATH PYTHONUNBUFFERED=1
USER mailriver
ENTRYPOINT ["mailriver"]
CMD ["--help"]
