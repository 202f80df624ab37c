// Package adopting runs the statements of platforms as they are today beside this
// module on one table, and moves that table from one to the other and back. The
// table of docs/adopting.md must say what came of it.
package adopting
