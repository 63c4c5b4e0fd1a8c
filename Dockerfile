# syntax=docker/dockerfile:1
# The image holds one static binary and nothing else: no shell, no package
# manager. It runs as an unprivileged user and writes to /data only, so it can be
# started with a read-only root file system.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG TARGETOS TARGETARCH VERSION
ENV CGO_ENABLED=0 GOCACHE=/cache/build
RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/cache/build \
    GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags="-s -w ${VERSION:+-X example.com/authserver/internal/app.version=$VERSION}" \
      -o /out/authserver ./cmd/authserver \
    && mkdir /out/data

FROM gcr.io/distroless/static:nonroot
ARG VERSION=unknown REVISION=unknown
LABEL org.opencontainers.image.title="authserver" \
      org.opencontainers.image.description="Logs people in, signs short-lived access tokens, rotates refresh tokens with reuse detection, publishes its keys" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="gcr.io/distroless/static:nonroot"
COPY --from=build /out/authserver /authserver
# The directory is here with its owner, so that a new volume mounted on it
# belongs to the user of the server and not to root.
COPY --from=build --chown=65532:65532 --chmod=0700 /out/data /data
USER 65532:65532
# In a container loopback is the container itself: the public listener has to
# leave it to be reached. The operations listener stays inside unless told.
ENV AUTHSERVER_DATA_DIR=/data \
    AUTHSERVER_ADDR=:8080
VOLUME /data
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["/authserver", "doctor", "--live"]
ENTRYPOINT ["/authserver"]
CMD ["serve"]
