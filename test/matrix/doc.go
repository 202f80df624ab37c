// Package matrix runs the product over every object store, over HTTP and TLS: all
// sizes at which a transfer changes its form, in and out by all ways there are. The
// compatibility table in docs/stores.md must say what came of it.
package matrix
