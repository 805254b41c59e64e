# The environment of `constraints.txt` with the tests' requirements: `docker build -t bionas .`, then
#     docker run --rm bionas                                       the tests
#     docker run --rm -v "$PWD/runs:/bionas/runs" bionas bionas run 03_search -p mode=quick
# With an NVIDIA GPU: `docker build --build-arg DEVICE=cuda -t bionas-cuda .` and `docker run --gpus all ...`.
FROM python:3.12-slim

# cpu: torch without CUDA, a fifth of the size; cuda: the wheels of the package index, with CUDA.
ARG DEVICE=cpu

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make chromium chromium-driver fonts-dejavu-core \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /bionas
COPY constraints.txt pyproject.toml README.md ./
COPY bionas bionas
ENV PIP_NO_CACHE_DIR=1 PYTHONUTF8=1
RUN python -m venv .venv \
    && if [ "$DEVICE" = cpu ]; then \
        version=$(sed -n 's/^torch==//p' constraints.txt) && vision=$(sed -n 's/^torchvision==//p' constraints.txt) \
        && .venv/bin/pip install --index-url https://download.pytorch.org/whl/cpu "torch==$version" "torchvision==$vision"; \
    fi \
    && .venv/bin/pip install -c constraints.txt -e '.[notebooks,test]'
COPY . .
ENV PATH=/bionas/.venv/bin:$PATH
CMD ["python", "-m", "pytest", "tests"]
