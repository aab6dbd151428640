package node

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

const (
	// defaultForgeDomain is that of the forge which the libp2p project runs for everybody.
	defaultForgeDomain = "libp2p.direct"
	// maxSecretBytes bounds a token, a URL and a mail address.
	maxSecretBytes = 2048
)

// checkHTTPS accepts the URL of a service that proves who it is.
func checkHTTPS(text string) error {
	parsed, err := url.Parse(text)
	if err != nil || parsed.Scheme != "https" || parsed.Host == "" || parsed.User != nil || len(text) > maxSecretBytes {
		return fmt.Errorf("expected a URL https://host[:port][/path], got %q", clipText(text, maxShownValueBytes))
	}
	return nil
}

// checkSecret does not repeat the text: it is put into a header as it is.
func checkSecret(text string) error {
	if len(text) > maxSecretBytes || strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsPrint(r) }) {
		return fmt.Errorf("expected at most %d printable ASCII characters", maxSecretBytes)
	}
	return nil
}

func checkHostPort(text string) error {
	host, port, err := net.SplitHostPort(text)
	if number, convErr := strconv.Atoi(port); err != nil || convErr != nil || host == "" || number < 1 || number > maxPort {
		return errors.New("expected host:port")
	}
	return nil
}
