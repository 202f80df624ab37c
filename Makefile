# The few words people type. Everything else is a Go command.

GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

.PHONY: dev demo test lint bench build image

dev: ## PostgreSQL, MinIO and the service, with a ready workspace
	$(GO) run ./cmd/dev

demo: ## the main job, once, checked step by step
	$(GO) run ./cmd/dev demo

test: ## every test, on real PostgreSQL and real S3
	$(GO) test -race ./...

lint:
	$(GO) vet ./...
	$(GO) tool -modfile=tools/go.mod golangci-lint run ./...

bench: ## upload and fetch beside the bare S3 client, as ratios
	$(GO) test -run '^$$' -bench . -benchtime 3s ./test/bench

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/pendinguploads ./cmd/pendinguploads

image:
	docker build -t pendinguploads:dev .
