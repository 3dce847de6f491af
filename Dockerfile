# An image that runs `tireid`, on a CPU or a GPU.
#   docker build -t tireid .
#   docker build -t tireid:cuda --build-arg BASE=nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04 .
#   docker run --rm -v "$PWD/runs:/work/runs" tireid train model=lgur
ARG BASE=python:3.12-slim
FROM ${BASE}

# Bases without Python, as CUDA's, get their distribution's.
RUN command -v python3 && python3 -m venv --help > /dev/null \
    || (apt-get update && apt-get install --yes --no-install-recommends python3 python3-venv \
        && rm -rf /var/lib/apt/lists/*)

# Another index to look for PyTorch in, such as that of its CPU build, which is 2 GB smaller; empty:
# the default build, with CUDA.
ARG TORCH_INDEX=
RUN python3 -m venv /opt/tireid
ENV PATH=/opt/tireid/bin:$PATH PYTHONUNBUFFERED=1
COPY requirements.lock requirements-cuda.lock /tmp/
# Another build of PyTorch than PyPI's comes first: its hash is not in the lock.
RUN if [ -n "${TORCH_INDEX}" ]; then \
        pip install --no-cache-dir --no-deps --index-url "${TORCH_INDEX}" \
            "$(grep -o '^torch==[0-9.]*' /tmp/requirements.lock)"; fi \
    && pip install --no-cache-dir --no-deps --require-hashes --requirement /tmp/requirements.lock \
    && if pip show torch | grep -q nvidia; then \
        pip install --no-cache-dir --no-deps --require-hashes \
            --requirement /tmp/requirements-cuda.lock; fi

COPY pyproject.toml hatch_build.py README.md LICENSE /src/
COPY src /src/src
COPY conf /src/conf
RUN pip install --no-cache-dir --no-deps --no-build-isolation /src && rm -rf /src

# Give it your own number, so that it may write into the folders that you mount: UID=$(id -u).
ARG UID=1000
RUN useradd --non-unique --uid ${UID} --create-home tireid \
    && mkdir -p /work/runs /home/tireid/.cache && chown -R ${UID} /work /home/tireid
USER ${UID}
ENV HOME=/home/tireid
WORKDIR /work
ENTRYPOINT ["tireid"]
CMD ["--help"]
