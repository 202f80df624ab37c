package main

import (
	"fmt"
	"strings"
)

// quoted is text as one word of a POSIX shell.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// fishQuoted is text as one word of fish, where a backslash escapes within quotes.
func fishQuoted(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}

// patterns joins words to a pattern of a case.
func patterns(words []string) string {
	for i := range words {
		words[i] = quoted(words[i])
	}
	return strings.Join(words, "|")
}

// known is a pattern of all commands.
func known(all []commandWords) string {
	var paths []string
	for _, c := range all[1:] {
		paths = append(paths, c.path)
	}
	return patterns(paths)
}

// after is a pattern of a command followed by one of the flag's spellings.
func after(c commandWords, f flagWords) string {
	words := f.all()
	for i := range words {
		words[i] = c.path + " " + words[i]
	}
	return patterns(words)
}

func spellings(c commandWords) string {
	var words []string
	for _, f := range c.flags {
		words = append(words, f.all()...)
	}
	return strings.Join(words, " ")
}

// bashCompletion offers no words where a file or free text follows: bash then
// offers files.
func bashCompletion(all []commandWords) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# bash completion for pendinguploads
_pendinguploads() {
    local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" command="" words="" i
    COMPREPLY=()
    if [[ $cur == "=" ]]; then
        cur=""
    elif [[ $prev == "=" ]]; then
        prev="${COMP_WORDS[COMP_CWORD-2]}"
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${command:+$command }${COMP_WORDS[i]}" in
            %s) command="${command:+$command }${COMP_WORDS[i]}" ;;
        esac
    done
    case "$command $prev" in
`, known(all))
	for _, c := range all {
		for _, f := range c.flags {
			if f.value {
				fmt.Fprintf(&b, "        %s) COMPREPLY=($(compgen -W %s -- \"$cur\")); return ;;\n", after(c, f), quoted(strings.Join(f.values, " ")))
			}
		}
	}
	b.WriteString("    esac\n    case \"$command\" in\n")
	for _, c := range all {
		var words []string
		for _, child := range c.children {
			words = append(words, child.path)
		}
		fmt.Fprintf(&b, "        %s) words=%s; [[ $cur == -* ]] && words=%s ;;\n", quoted(c.path), quoted(strings.Join(words, " ")), quoted(spellings(c)))
	}
	b.WriteString(`    esac
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _pendinguploads pendinguploads
`)
	return b.String()
}

func zshCompletion(all []commandWords) string {
	var b strings.Builder
	fmt.Fprintf(&b, `#compdef pendinguploads
_pendinguploads() {
    local command="" i
    local -a offered
    for ((i = 2; i < CURRENT; i++)); do
        case "${command:+$command }${words[i]}" in
            %s) command="${command:+$command }${words[i]}" ;;
        esac
    done
    case "$command ${words[CURRENT-1]}" in
`, known(all))
	for _, c := range all {
		for _, f := range c.flags {
			switch {
			case !f.value:
			case len(f.values) > 0:
				fmt.Fprintf(&b, "        %s) compadd -- %s; return ;;\n", after(c, f), strings.Join(f.values, " "))
			default:
				fmt.Fprintf(&b, "        %s) _files; return ;;\n", after(c, f))
			}
		}
	}
	b.WriteString("    esac\n    case \"$command\" in\n")
	for _, c := range all {
		fmt.Fprintf(&b, "        %s)\n            if [[ $PREFIX == -* ]]; then offered=(", quoted(c.path))
		for _, f := range c.flags {
			for _, word := range f.all() {
				b.WriteString(" " + quoted(zshItem(word, f.help)))
			}
		}
		b.WriteString(" ); else offered=(")
		for _, child := range c.children {
			b.WriteString(" " + quoted(zshItem(child.path, child.help)))
		}
		b.WriteString(" ); fi ;;\n")
	}
	b.WriteString(`    esac
    if (( ${#offered} )); then
        _describe 'word' offered
    else
        _files
    fi
}
if [[ ${funcstack[1]} == _pendinguploads ]]; then
    _pendinguploads "$@"
else
    compdef _pendinguploads pendinguploads
fi
`)
	return b.String()
}

// zshItem is a word and its description.
func zshItem(word, help string) string { return strings.ReplaceAll(word, ":", `\:`) + ":" + help }

func fishCompletion(all []commandWords) string {
	var b strings.Builder
	b.WriteString(`# fish completion for pendinguploads
function __pendinguploads_command
    set -l command
    for word in (commandline -opc)[2..-1]
        switch (string join -- ' ' $command $word)
            case`)
	for _, c := range all[1:] {
		b.WriteString(" " + fishQuoted(c.path))
	}
	b.WriteString(`
                set command $command $word
        end
    end
    string join -- ' ' $command
end
function __pendinguploads_at
    test (__pendinguploads_command | string collect --allow-empty) = "$argv[1]"
end
`)
	for _, c := range all {
		at := "complete -c pendinguploads -n " + fishQuoted("__pendinguploads_at "+fishQuoted(c.path))
		for _, child := range c.children {
			fmt.Fprintf(&b, "%s -f -a %s -d %s\n", at, fishQuoted(child.path), fishQuoted(child.help))
		}
		for _, f := range c.flags {
			fmt.Fprintf(&b, "%s -l %s -d %s", at, f.name, fishQuoted(f.help))
			if f.short != "" {
				b.WriteString(" -s " + f.short)
			}
			switch {
			case len(f.values) > 0:
				b.WriteString(" -x -a " + fishQuoted(strings.Join(f.values, " ")))
			case f.value:
				b.WriteString(" -r")
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}
