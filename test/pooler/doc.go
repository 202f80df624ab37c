// Package pooler tests the service behind a real PgBouncer in transaction mode,
// set up as docs/operations.md says. It needs pgbouncer and is run by name:
//
//	go test -tags pgbouncer ./test/pooler
package pooler
