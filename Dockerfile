# mmsearch on a CPU. How to run it: docs/how-to/server.md. Linted, not built yet.
FROM python:3.12-slim AS build

# Where torch without CUDA comes from. Empty: torch of the package index, with CUDA, some gigabytes more.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY mmsearch ./mmsearch
# On x86-64 the FAISS of pyproject.toml is faiss-gpu, which runs without a GPU, too.
RUN python -m venv /opt/mmsearch \
    && /opt/mmsearch/bin/pip install --no-cache-dir --constraint constraints.txt \
    ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} .

FROM python:3.12-slim

RUN useradd --uid 10001 --create-home mmsearch \
    && install -d -o mmsearch -g mmsearch /indexes /cache
COPY --from=build /opt/mmsearch /opt/mmsearch
ENV PATH=/opt/mmsearch/bin:$PATH MMSEARCH_HOME=/indexes MMSEARCH_CACHE=/cache HF_HOME=/cache/huggingface
USER 10001
WORKDIR /pictures
VOLUME ["/indexes", "/cache"]
EXPOSE 7788
# A model that nothing was indexed with yet is compiled at the first start, which takes up to a minute.
HEALTHCHECK --start-period=120s --timeout=5s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7788/healthz', timeout=4)"]
ENTRYPOINT ["mmsearch"]
CMD ["serve", "--host", "0.0.0.0"]
