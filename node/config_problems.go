package node

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	// maxShownProblems is how many mistakes one error message names; the rest is counted.
	maxShownProblems = 5
	// maxProblemBytes bounds one mistake in an error message.
	maxProblemBytes = 400
	// maxShownKeyBytes and maxShownValueBytes bound what a message repeats of its input.
	maxShownKeyBytes   = 100
	maxShownValueBytes = 60
)

// configProblems collects mistakes; memory is bounded however many there are.
type configProblems struct {
	shown []string
	count int
}

func (p *configProblems) add(message string) {
	if !p.full() {
		p.shown = append(p.shown, clipText(message, maxProblemBytes))
	}
	p.count++
}

func (p *configProblems) any() bool { return p.count > 0 }

func (p *configProblems) full() bool { return len(p.shown) == maxShownProblems }

func (p *configProblems) text() string {
	all := strings.Join(p.shown, "; ")
	if more := p.count - len(p.shown); more > 0 {
		all += fmt.Sprintf("; and %d more", more)
	}
	return all
}

// clipText cuts text to at most limit bytes, at a character, and replaces control characters,
// because the result is shown in one line of a log.
func clipText(text string, limit int) string {
	const ellipsis = "..."
	if len(text) > limit {
		cut := limit - len(ellipsis)
		for cut > 0 && !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + ellipsis
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, text)
}
