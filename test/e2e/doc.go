// Package e2e runs the real server and the real client against each other under
// bad conditions: a network that breaks, and processes that are killed.
package e2e
