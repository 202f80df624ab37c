// Package devstack starts the servers that development, tests and benchmarks
// need: PostgreSQL and an S3 server (MinIO, and VersityGW as the second
// opinion).
//
// Each server is looked for in a fixed order and the first way that works is
// taken:
//
//	PostgreSQL   DATABASE_URL; a Docker engine; initdb and postgres on PATH or
//	             in the usual places; a download by embedded-postgres
//	MinIO        S3_ENDPOINT (with the SDK's credentials); a Docker engine;
//	             minio on PATH; built from tools/go.mod, once, then cached
//	VersityGW    a Docker engine; versitygw on PATH; built from tools/go.mod
//
// DEVSTACK=docker or DEVSTACK=local forces one of the two kinds. Each choice is
// reported in one line that says why the ways before it were passed over. A way
// that cannot be taken is given up within five seconds: an engine that does not
// answer, an image that is not there and whose registry does not answer.
// Images are settable by POSTGRES_IMAGE, MINIO_IMAGE and VERSITYGW_IMAGE, the
// repository of the download by POSTGRES_BINARIES_URL.
//
// # Who cleans up
//
// Every process that starts servers owns a folder below the temporary folder
// and holds a file lock in it for as long as it lives. What it starts is noted
// there: processes with their start time, so that a recycled process id is
// never taken for ours, and the fact that labelled containers exist. Stop
// removes all of it. If the owner was killed, the lock is free, and the next
// process that starts servers removes what was left. testcontainers' own
// reaper container is therefore not needed and is left off unless
// TESTCONTAINERS_RYUK_DISABLED says otherwise: it would be one more image to
// pull and one more port to reach.
//
// The package runs on Unix systems.
package devstack
