package main

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is what --help shows besides.
func (completionCmd) Help() string {
	return `Examples:

    source <(pendinguploads completion bash)                       # for this shell; put it into ~/.bashrc for all
    pendinguploads completion zsh > "${fpath[1]}/_pendinguploads"
    pendinguploads completion fish > ~/.config/fish/completions/pendinguploads.fish`
}

func (c *completionCmd) Run(k *kong.Kong, out output) error {
	words := completionWords(nil, "", k.Model.Node)
	script := map[string]func([]commandWords) string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[c.Shell]
	_, err := fmt.Fprint(out, script(words))
	return err
}

// commandWords is what can follow a command.
type commandWords struct {
	path     string // words of the command; empty: the program
	help     string
	children []commandWords // path is the word alone
	flags    []flagWords
}

type flagWords struct {
	name, help string
	short      string   // one letter, or nothing
	value      bool     // a value follows
	values     []string // those there are
}

// all are the flag's spellings.
func (f flagWords) all() []string {
	if f.short == "" {
		return []string{"--" + f.name}
	}
	return []string{"--" + f.name, "-" + f.short}
}

// completionWords lists a command and those below it.
func completionWords(all []commandWords, path string, n *kong.Node) []commandWords {
	c := commandWords{path: path, help: n.Help}
	for _, f := range n.Flags {
		if !f.Hidden {
			c.flags = append(c.flags, completionFlag(f))
		}
	}
	if path != "" {
		c.flags = append(c.flags, flagWords{name: "help", short: "h", help: "Show context-sensitive help."})
	}
	at := len(all)
	all = append(all, c)
	for _, child := range n.Children {
		if child.Hidden {
			continue
		}
		all[at].children = append(all[at].children, commandWords{path: child.Name, help: child.Help})
		all = completionWords(all, strings.TrimSpace(path+" "+child.Name), child)
	}
	for _, p := range n.Positional {
		for _, word := range enum(p) {
			all[at].children = append(all[at].children, commandWords{path: word, help: p.Help})
		}
	}
	return all
}

func completionFlag(f *kong.Flag) flagWords {
	words := flagWords{name: f.Name, help: f.Help, value: !f.IsBool() && !f.IsCounter(), values: enum(f.Value)}
	if f.Short != 0 {
		words.short = string(f.Short)
	}
	return words
}

func enum(v *kong.Value) []string {
	if v.Enum == "" {
		return nil
	}
	return strings.Split(v.Enum, ",")
}
