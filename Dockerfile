# The command `edgeae` in a small image: numpy and onnxruntime, no torch. For amd64 and arm64:
#
#     docker buildx build --platform linux/amd64,linux/arm64 -t edgeae .
#     docker run --rm -v "$PWD:/data" edgeae compress photo.png photo.eae
#
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY edgeae ./edgeae
RUN python -m venv /opt/edgeae \
    && /opt/edgeae/bin/pip install --no-cache-dir --no-compile ".[cpu,mqtt,otel]" \
    && /opt/edgeae/bin/pip uninstall --yes pip setuptools

FROM python:3.11-slim
COPY --from=build /opt/edgeae /opt/edgeae
ENV PATH=/opt/edgeae/bin:$PATH PYTHONDONTWRITEBYTECODE=1
RUN useradd --create-home edgeae
USER edgeae
WORKDIR /data
ENTRYPOINT ["edgeae"]
