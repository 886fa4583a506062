# barlowctl from its own wheel: no compiler in the image, a user who is not root. Arguments: docs/install.md.
ARG BASE=python:3.12-slim-bookworm

# The interpreter is the same in both stages: the environment of the first is used in the last.
FROM ${BASE} AS python
RUN command -v python3 >/dev/null || { \
        apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && \
        rm -rf /var/lib/apt/lists/*; \
    }

FROM python AS build
ARG TORCH_INDEX=
ARG EXTRAS=embed,heif,tensorboard,tiff
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/barlowctl
ENV PATH=/opt/barlowctl/bin:$PATH
# Before the code, so that a change of the code does not fetch torch again.
COPY .ci/constraints.txt /source/.ci/
# From TORCH_INDEX the two alone: what they require is pinned, and that index need not have the pinned versions.
RUN pip install -c /source/.ci/constraints.txt ${TORCH_INDEX:+--no-deps --index-url "$TORCH_INDEX"} torch torchvision
COPY pyproject.toml README.md LICENSE /source/
COPY .ci/long_description.py /source/.ci/
COPY recipes /source/recipes
COPY barlowctl /source/barlowctl
RUN pip wheel --no-deps --wheel-dir /wheels /source && \
    pip install -c /source/.ci/constraints.txt "$(echo /wheels/barlowctl-*.whl)[$EXTRAS]" && \
    find /opt/barlowctl -name '*.a' -delete

FROM python AS final
COPY --from=build /opt/barlowctl /opt/barlowctl
# HOME and the caches lie in the folder that is mounted: any --user can write there. USER: a number without a name has none.
ENV PATH=/opt/barlowctl/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/workspace \
    USER=barlowctl \
    BARLOWCTL_DATA=/workspace/data \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN useradd --uid 10001 --no-create-home --home-dir /workspace barlowctl && \
    mkdir /workspace && chown barlowctl /workspace
WORKDIR /workspace
USER 10001
ENTRYPOINT ["barlowctl"]
CMD ["doctor"]
