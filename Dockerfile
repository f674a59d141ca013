# walferry in an image of its own: the binary, the libraries that it names, certificates, and nothing else.
#   docker build -t walferry .
# The base is named by version. To build from one digest, give it: --build-arg BUILD_BASE=rust@sha256:…
# Both bases can be replaced: --build-arg BUILD_BASE=… (Rust of rust-toolchain.toml's version, with a C compiler)
# and --build-arg RUN_BASE=… (anything; by default it is empty).
ARG BUILD_BASE=rust:1.95.0-bookworm
ARG RUN_BASE=scratch

# hadolint ignore=DL3006
FROM ${BUILD_BASE} AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /src
COPY . .
RUN cargo build --locked --release --features otlp,sbom --bin walferry --bin sbom
# What is linked, where the loader looks for it; names are resolved by glibc itself.
# The bill of materials (CycloneDX) is beside it.
RUN mkdir -p /image/usr/local/bin /image/usr/local/share/walferry /image/etc/ssl/certs \
    && target/release/sbom >/image/usr/local/share/walferry/sbom.cdx.json \
    && cp target/release/walferry /image/usr/local/bin/ \
    && ldd target/release/walferry | grep -o '/[^ ]*' | xargs cp -L --parents -t /image \
    && cp -L /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && echo 'hosts: files dns' >/image/etc/nsswitch.conf \
    && echo 'walferry:x:65532:65532:walferry:/:/none' >/image/etc/passwd \
    && echo 'walferry:x:65532:' >/image/etc/group

# hadolint ignore=DL3006
FROM ${RUN_BASE}
LABEL org.opencontainers.image.title="walferry" \
  org.opencontainers.image.description="Keeps Elasticsearch consistent with PostgreSQL, with one audit row per change" \
  org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image /
USER 65532:65532
EXPOSE 3002
# Inside a container, only what listens on all of its addresses is reached from outside. That needs tokens
# (api.tokens) or api.insecure_no_auth, so it is left to the operator: WALFERRY_LISTEN=0.0.0.0:3002.
HEALTHCHECK --interval=10s --timeout=4s --start-period=5s --retries=3 CMD ["/usr/local/bin/walferry", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/walferry"]
CMD ["run"]
