// Command configkeys writes the table of configuration keys into README.md, between its two markers; with -check it only
// tells whether the table is up to date.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"

	"peerbus/node"
)

const (
	begin = "<!-- configuration keys: make generate -->\n"
	end   = "<!-- end of configuration keys -->"
)

func main() {
	check := flag.Bool("check", false, "fail when the table is out of date, write nothing")
	flag.Parse()
	if err := run("README.md", *check); err != nil {
		fmt.Fprintln(os.Stderr, "configkeys:", err)
		os.Exit(1)
	}
}

func run(path string, check bool) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, found := bytes.Cut(text, []byte(begin))
	_, tail, closed := bytes.Cut(rest, []byte(end))
	if !found || !closed {
		return fmt.Errorf("%s lacks the marker %q or %q", path, strings.TrimSpace(begin), end)
	}
	made := fmt.Appendf(nil, "%s%s%s%s%s", head, begin, table(), end, tail)
	switch {
	case bytes.Equal(made, text):
		return nil
	case check:
		return fmt.Errorf("the table in %s is out of date; run make generate", path)
	}
	return os.WriteFile(path, made, 0o644)
}

func table() string {
	var b strings.Builder
	b.WriteString("| key | type | default | meaning |\n|---|---|---|---|\n")
	for _, key := range node.ConfigKeys() {
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s |\n", key.Path, key.Type, key.Default, strings.ReplaceAll(key.Doc, "|", "\\|"))
	}
	return b.String()
}
