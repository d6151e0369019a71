# Sidekey's container image, on any Debian base that has Python 3.11 or newer with venv; see docs/image.md.
#
# BUILD_BASE has the same Python at the same path, with a C compiler and Python's headers. A release names both by
# digest: --build-arg BASE=python:3.13-slim-trixie@sha256:... --build-arg BUILD_BASE=python:3.13-trixie@sha256:...
ARG BASE=python:3.13-slim-trixie
ARG BUILD_BASE=python:3.13-trixie

# --- The build stage, which is not part of the image -------------------------------------------------------------------
FROM ${BUILD_BASE} AS build
WORKDIR /build
# venv contains the build tools, /opt/sidekey the files of the image. The compiler needs the types of all packages that Sidekey
# imports, so venv has them too.
RUN python3 -m venv venv && python3 -m venv --without-pip /opt/sidekey

# The secrets pip.conf and ca.pem select the package index. No layer contains them. Dependencies must be wheels: only Sidekey
# is compiled here.
COPY requirements.txt requirements-compile.txt ./
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.pem,target=/run/secrets/ca.pem \
    venv/bin/pip install --no-cache-dir --only-binary :all: --require-hashes -r requirements.txt \
      -r requirements-compile.txt \
 && venv/bin/pip --python /opt/sidekey/bin/python install --no-cache-dir --no-compile --only-binary :all: \
      --require-hashes -r requirements.txt

COPY pyproject.toml hatch_build.py hatch_readme.py README.md LICENSE ./
COPY proxy proxy
RUN HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 venv/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir dist . \
 && venv/bin/pip --python /opt/sidekey/bin/python install --no-index --no-deps --no-compile dist/sidekey-*.whl \
 && venv/bin/pip --python /opt/sidekey/bin/python check
# Write bytecode here, because a container with a read-only root cannot. Unchecked hashes (PEP 552) do not depend on file times.
RUN /opt/sidekey/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/sidekey/lib

# --- The image ----------------------------------------------------------------------------------------------------------
FROM ${BASE}
# Remove the base's installers (pip, ensurepip, wheel): /opt/sidekey does not use them. Write bytecode of the standard
# library, which the default base lacks: otherwise each start and each health check would compile it again.
RUN rm -rf /usr/local/bin/pip* /usr/local/bin/wheel /usr/local/lib/python3.*/site-packages \
      /usr/local/lib/python3.*/ensurepip /usr/lib/python3.*/ensurepip /usr/share/python-wheels \
 && python3 -m compileall -q -j 0 "$(python3 -c 'import os; print(os.path.dirname(os.__file__))')"
COPY --from=build /opt/sidekey /opt/sidekey
ENV PATH=/opt/sidekey/bin:$PATH
# Fail the build if the two bases do not fit together.
RUN ["sidekey", "--version"]

ARG BASE
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Sidekey" \
      org.opencontainers.image.description="A sidecar proxy that injects credentials, so that services never hold them" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"

# A number, because Kubernetes' runAsNonRoot cannot check a name. 65532 is the user of distroless images. It has no home and
# needs no entry in /etc/passwd.
USER 65532:65532
# Documents the port and opens nothing. By default, Sidekey listens on the loopback address of the container.
EXPOSE 8080
# No --start-interval, because hadolint 2.15 cannot parse it. Kubernetes ignores HEALTHCHECK and uses the chart's probes.
HEALTHCHECK --interval=15s --timeout=5s --start-period=15s --retries=3 CMD ["sidekey", "healthcheck"]
ENTRYPOINT ["sidekey"]
CMD ["run"]
