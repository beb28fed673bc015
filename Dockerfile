# A project folder with everything in it, of the versions in requirements.lock. The processor computes:
#   docker build --tag brain-tumor .
# An NVIDIA GPU computes (docker run --gpus all):
#   docker build --tag brain-tumor:cuda --build-arg BASE=nvidia/cuda:13.0.1-base-ubuntu24.04 --build-arg TORCH=cuda .
ARG BASE=python:3.11-slim
FROM ${BASE}

# Bases of NVIDIA have no Python.
RUN command -v python3 > /dev/null \
    || (apt-get update && apt-get install --yes --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*)
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 DO_NOT_TRACK=1

# On the processor torch needs no CUDA libraries, which are several GB; the lock takes what is there already.
ARG TORCH=cpu
COPY requirements.lock /tmp/
RUN if [ "$TORCH" = cpu ]; then \
        pip install --index-url https://download.pytorch.org/whl/cpu "$(grep '^torch==' /tmp/requirements.lock)"; \
    fi \
    && pip install --requirement /tmp/requirements.lock

COPY . /tmp/source
RUN pip install --no-deps /tmp/source && rm -rf /tmp/source \
    && python -m brain_tumor new /project && chmod -R a+rwX /project

# Whoever runs it (docker run --user) writes here, and caches of matplotlib there.
WORKDIR /project
ENV HOME=/tmp OMP_NUM_THREADS=1
ENTRYPOINT ["kedro"]
CMD ["run", "--pipelines", "segmentation", "--runner", "ParallelRunner"]
