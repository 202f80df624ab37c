# The service as a static binary on an empty image: no shell, no user but the
# unprivileged one, nothing to write to. BUILDER may name any image with Go and
# CA certificates.
ARG BUILDER=golang:1.26-trixie
FROM ${BUILDER} AS build
WORKDIR /src
# Modules are a layer of their own, which a change of the source keeps.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 GOFLAGS=-buildvcs=false go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" \
    -o /out/pendinguploads ./cmd/pendinguploads

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/pendinguploads /pendinguploads
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/pendinguploads", "healthcheck"]
ENTRYPOINT ["/pendinguploads"]
CMD ["serve"]
