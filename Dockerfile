# barlowctl from its own wheel: no compiler in the image, a user who is not root. Arguments and layers: docs/install.md.
ARG BASE=python:3.12-slim-bookworm
ARG EXTRAS=embed,heif,tensorboard,tiff

FROM ${BASE} AS python
RUN command -v python3 >/dev/null || { \
        apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && \
        rm -rf /var/lib/apt/lists/*; \
    }

# What barlowctl requires, without barlowctl: a change of the code leaves this file, and the layers that hang on it, as they are.
FROM python AS requirements
ARG EXTRAS
COPY .ci/requirements.py pyproject.toml /source/
RUN python3 /source/requirements.py /source/pyproject.toml "$EXTRAS" >/requirements.txt

FROM python AS wheel
RUN python3 -m venv /opt/build
COPY .ci/constraints.txt .ci/long_description.py /source/.ci/
COPY pyproject.toml README.md LICENSE /source/
COPY recipes /source/recipes
COPY barlowctl /source/barlowctl
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM python AS final
ENV PATH=/opt/barlowctl/bin:$PATH
RUN python3 -m venv /opt/barlowctl && useradd --uid 10001 --no-create-home --home-dir /workspace barlowctl && \
    mkdir /workspace && chown barlowctl /workspace
COPY .ci/constraints.txt /opt/barlowctl/
ARG TORCH_INDEX=
# From TORCH_INDEX the two alone: what they require is pinned, and that index need not have the pinned versions.
RUN pip install --no-cache-dir -c /opt/barlowctl/constraints.txt \
        ${TORCH_INDEX:+--no-deps --index-url "$TORCH_INDEX"} torch torchvision && \
    find /opt/barlowctl -name '*.a' -delete
COPY --from=requirements /requirements.txt /opt/barlowctl/
RUN pip install --no-cache-dir -c /opt/barlowctl/constraints.txt -r /opt/barlowctl/requirements.txt && \
    find /opt/barlowctl -name '*.a' -delete
# HOME and the caches lie in the folder that is mounted: any --user can write there. USER: a number without a name has none.
ENV PYTHONUNBUFFERED=1 \
    HOME=/workspace \
    USER=barlowctl \
    BARLOWCTL_DATA=/workspace/data \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# Nothing but barlowctl comes here: without an index pip refuses what the layers below lack.
ARG EXTRAS
COPY --from=wheel /wheels /opt/barlowctl/wheels
RUN pip install --no-index --find-links /opt/barlowctl/wheels "barlowctl[$EXTRAS]"
WORKDIR /workspace
USER 10001
# An image that cannot work is not made: from a TORCH_INDEX without a torchvision of torch's own build, say.
RUN barlowctl doctor
ENTRYPOINT ["barlowctl"]
CMD ["doctor"]
