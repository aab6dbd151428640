package node

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"
)

const (
	// certificateCheck is how often the files of the own certificate are looked at, besides at each handshake.
	certificateCheck = 5 * time.Second
	// certificateGrace is how long new files may not fit together before that counts as a failure: they are rarely
	// replaced at the same moment.
	certificateGrace = 5 * time.Second
)

// certificateFiles serves the certificate of tls.cert_path and tls.key_path, and the new one as soon as they change.
//
//	in use --files change--> reading --they fit--> in use
//	   ^                        |  ^------------------\
//	   \--- they fit -----------+-- not for certificateGrace --> failing (certificate_failed; the old one stays in use)
type certificateFiles struct {
	node    *Node
	config  TLSConfig
	check   time.Duration
	grace   time.Duration // certificateGrace, but in tests
	current atomic.Pointer[tls.Certificate]

	busy atomic.Bool // whoever set it owns the rest
	seen [2]fileStamp
	// failed is when the trouble began; zero: none.
	failed time.Time
	told   bool // there was an event of it
}

// fileStamp tells a changed file.
type fileStamp struct {
	modified time.Time
	size     int64
	info     fs.FileInfo // for os.SameFile: a renamed file may have the same time and size
}

func (s fileStamp) same(other fileStamp) bool {
	return s.info != nil && other.info != nil && s.modified.Equal(other.modified) && s.size == other.size && os.SameFile(s.info, other.info)
}

func newCertificateFiles(n *Node) (*certificateFiles, error) {
	c := &certificateFiles{node: n, config: n.config.TLS, check: certificateCheck, grace: certificateGrace}
	if n.certificateCheck > 0 {
		c.check = n.certificateCheck
	}
	stamps, err := c.stamps()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	loaded, err := c.load()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	c.seen = stamps
	c.current.Store(loaded)
	n.raiseCertificate(EventCertificateLoaded, certificateOfFiles, loaded.Leaf)
	return c, nil
}

func (c *certificateFiles) stamps() (stamps [2]fileStamp, err error) {
	for i, path := range []string{c.config.CertPath, c.config.KeyPath} {
		info, err := os.Stat(path)
		if err != nil {
			return stamps, fmt.Errorf("the certificate cannot be read: %w", err)
		}
		stamps[i] = fileStamp{info.ModTime(), info.Size(), info}
	}
	return stamps, nil
}

func (c *certificateFiles) load() (*tls.Certificate, error) {
	loaded, err := tls.LoadX509KeyPair(c.config.CertPath, c.config.KeyPath)
	if err != nil {
		return nil, fmt.Errorf("%s and %s are no certificate and its key: %w", c.config.CertPath, c.config.KeyPath, err)
	}
	if err := loaded.Leaf.VerifyHostname(c.config.Domain); err != nil {
		return nil, fmt.Errorf("the certificate in %s is not for tls.domain: %w", c.config.CertPath, err)
	}
	return &loaded, nil
}

// get is called for each handshake.
func (c *certificateFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.refresh()
	return c.current.Load(), nil
}

func (c *certificateFiles) watch() {
	ticker := time.NewTicker(c.check)
	defer ticker.Stop()
	for {
		c.refresh()
		select {
		case <-c.node.ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// refresh looks at the files, unless somebody else is doing so right now.
func (c *certificateFiles) refresh() {
	if !c.busy.CompareAndSwap(false, true) {
		return
	}
	defer c.busy.Store(false)
	stamps, err := c.stamps()
	changed := err == nil && !(stamps[0].same(c.seen[0]) && stamps[1].same(c.seen[1]))
	if changed {
		err = c.replace(stamps)
	}
	if leaf := c.current.Load().Leaf; err == nil && time.Now().After(leaf.NotAfter) {
		err = fmt.Errorf("the certificate in %s expired at %s", c.config.CertPath, leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	c.note(err)
}

func (c *certificateFiles) replace(stamps [2]fileStamp) error {
	loaded, err := c.load()
	if err != nil {
		return err
	}
	c.seen = stamps
	same := bytes.Equal(loaded.Certificate[0], c.current.Load().Certificate[0])
	c.current.Store(loaded)
	if same {
		return nil
	}
	c.node.raiseCertificate(EventCertificateRenewed, certificateOfFiles, loaded.Leaf)
	return nil
}

// note raises an event of trouble that lasts, once.
func (c *certificateFiles) note(err error) {
	switch {
	case err == nil:
		c.failed, c.told = time.Time{}, false
	case c.failed.IsZero():
		c.failed = time.Now()
	case !c.told && time.Since(c.failed) >= c.grace:
		c.told = true
		c.node.raiseCertificateFailure(certificateOfFiles, err.Error())
	}
}
