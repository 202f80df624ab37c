// Package wire is what travels between the service and its clients as JSON. It
// depends on nothing but the standard library, so a client can use it without
// pulling in what the server is made of.
package wire
