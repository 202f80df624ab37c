// Package outbound makes the HTTP calls that the platform sends to workspaces.
//
// A workspace's URL is whatever its owner registered, so every call is a chance
// to make the platform talk to something only the platform can reach: its own
// loopback, the cloud's metadata service, a neighbour on the private network.
// One list of address rules (Policy) therefore decides three times: when a URL
// is registered, before each call, and when the connection is made, on the
// address that is really dialled. The third is what defeats a name that
// resolves to something else the second time (DNS rebinding).
//
// Calls follow no redirect, use no proxy from the environment, and carry only
// the headers that the caller of this package sets.
package outbound
