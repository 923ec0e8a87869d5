# Builds offline too: pass your own images by --build-arg BUILD=… --build-arg BASE=….
ARG BUILD=rust:1.95-bookworm
# The distroless project's cc image, non-root variant, under whatever name your registry or mirror has it.
ARG BASE=distroless/cc-debian12:nonroot

FROM ${BUILD} AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p foretide && mkdir -p /out/state && cp target/release/foretide /out/foretide

FROM ${BASE}
COPY --from=build /out/foretide /usr/local/bin/foretide
COPY --from=build --chown=65532:65532 /out/state /var/lib/foretide
USER 65532:65532
WORKDIR /var/lib/foretide
EXPOSE 8080
# The binary asks its own admin listener; the image needs no shell and no curl.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/usr/local/bin/foretide", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/foretide"]
CMD ["run", "--config", "/etc/foretide/foretide.toml"]
