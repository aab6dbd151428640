// Command rawstream is the limit that peerbus is measured against: one raw go-libp2p stream, or one bare pion data channel,
// between two processes, with nothing on it but a length before each message. It takes the orders of lanes/endpoint.py as
// JSON lines on stdin.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	tls "github.com/libp2p/go-libp2p/p2p/security/tls"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

const (
	protocolID   = "/bench/raw/1.0.0"
	readBuffer   = 64 << 10
	writeBuffer  = 64 << 10
	lengthBytes  = 4
	largest      = 64 << 20
	clockEvery   = 1 << 20 // bytes between two looks at the clock
	openDeadline = 20 * time.Second
)

// order is one line of stdin.
type order struct {
	Do      string
	Address string
	Size    int
	Seconds float64
	Count   int
}

type answer map[string]any

// endpoint is one side of the pair.
type endpoint struct {
	host    host.Host // nil: WebRTC
	stream  io.ReadWriter
	arrived chan io.ReadWriter
	reader  *bufio.Reader
	writer  io.Writer
	flush   func() error
	batch   bool
	buffer  []byte
}

func main() {
	transport := flag.String("transport", "tcp", "tcp, quic or webrtc")
	batch := flag.Bool("batch", false, "gather messages into writes of 64 KiB")
	flag.Parse()
	if err := run(*transport, *batch); err != nil {
		fmt.Fprintln(os.Stderr, "rawstream:", err)
		os.Exit(1)
	}
}

func run(transport string, batch bool) error {
	e, err := newEndpoint(transport, batch)
	if err != nil {
		return err
	}
	if e.host != nil {
		defer e.host.Close()
	}
	out := json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		if o.Do == "quit" {
			return out.Encode(answer{})
		}
		result, err := e.obey(o)
		if err != nil {
			return fmt.Errorf("%s: %w", o.Do, err)
		}
		if err := out.Encode(result); err != nil {
			return err
		}
	}
	return lines.Err()
}

func newEndpoint(transport string, batch bool) (*endpoint, error) {
	e := &endpoint{batch: batch, arrived: make(chan io.ReadWriter, 1), buffer: make([]byte, largest)}
	if transport == "webrtc" {
		return e, nil
	}
	options := []libp2p.Option{libp2p.DisableMetrics(), libp2p.DisableRelay()}
	switch transport {
	case "tcp":
		options = append(options, libp2p.Transport(tcp.NewTCPTransport), libp2p.Security(tls.ID, tls.New),
			libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	case "quic":
		options = append(options, libp2p.Transport(quic.NewTransport),
			libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1"))
	default:
		return nil, fmt.Errorf("transport %q; tcp, quic and webrtc exist", transport)
	}
	h, err := libp2p.New(options...)
	if err != nil {
		return nil, err
	}
	e.host = h
	h.SetStreamHandler(protocolID, func(s network.Stream) { e.arrived <- s })
	return e, nil
}

func (e *endpoint) obey(o order) (answer, error) {
	var before, after syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
		return nil, err
	}
	result, err := e.perform(o)
	if err != nil {
		return nil, err
	}
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
		return nil, err
	}
	result["cpu_seconds"] = cpuSeconds(after) - cpuSeconds(before)
	return result, nil
}

func cpuSeconds(u syscall.Rusage) float64 {
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

func (e *endpoint) perform(o order) (answer, error) {
	switch o.Do {
	case "listen":
		return e.listen()
	case "connect":
		return answer{}, e.connect(o.Address)
	case "send":
		return e.send(o)
	case "receive":
		return e.receive(o.Size)
	case "round_trip":
		return e.roundTrip(o)
	case "echo":
		return answer{}, e.echo(o.Count)
	case "prove":
		return e.prove(o.Size, o.Count)
	case "check":
		return e.check(o.Count)
	}
	return nil, fmt.Errorf("unknown order %q", o.Do)
}

func (e *endpoint) listen() (answer, error) {
	if e.host == nil {
		address, err := listenWebRTC(e.arrived)
		return answer{"address": address}, err
	}
	return answer{"address": fmt.Sprintf("%s/p2p/%s", e.host.Addrs()[0], e.host.ID())}, nil
}

func (e *endpoint) connect(address string) error {
	if e.host == nil {
		stream, err := connectWebRTC(address)
		if err == nil {
			e.use(stream)
		}
		return err
	}
	info, err := peer.AddrInfoFromString(address)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), openDeadline)
	defer cancel()
	if err := e.host.Connect(ctx, *info); err != nil {
		return err
	}
	s, err := e.host.NewStream(ctx, info.ID, protocolID)
	if err != nil {
		return err
	}
	e.use(s)
	return nil
}

func (e *endpoint) use(s io.ReadWriter) {
	e.stream = s
	e.reader = bufio.NewReaderSize(s, readBuffer)
	e.writer, e.flush = s, func() error { return nil }
	if e.batch {
		gathered := bufio.NewWriterSize(s, writeBuffer)
		e.writer, e.flush = gathered, gathered.Flush
	}
}

// accepted is the stream of the side that did not open it; libp2p announces it with the first bytes.
func (e *endpoint) accepted() {
	if e.stream == nil {
		e.use(<-e.arrived)
	}
}

// frameOf puts the length before a message; a frame is sent in one write.
func frameOf(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...)
}

func (e *endpoint) write(frame []byte) error {
	_, err := e.writer.Write(frame)
	return err
}

func (e *endpoint) read() ([]byte, error) {
	header, err := e.reader.Peek(lengthBytes)
	if err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(header)
	if size > largest {
		return nil, errors.New("a message above the largest size")
	}
	if _, err := e.reader.Discard(lengthBytes); err != nil {
		return nil, err
	}
	_, err = io.ReadFull(e.reader, e.buffer[:size])
	return e.buffer[:size], err
}

func (e *endpoint) send(o order) (answer, error) {
	frame, count := frameOf(make([]byte, o.Size)), 0
	start := time.Now()
	for time.Since(start).Seconds() < o.Seconds {
		for range max(1, min(256, clockEvery/o.Size)) {
			if err := e.write(frame); err != nil {
				return nil, err
			}
			count++
		}
	}
	taken := time.Since(start).Seconds()
	if err := e.write(frameOf([]byte("E"))); err != nil {
		return nil, err
	}
	return answer{"messages": count, "seconds": taken}, e.flush()
}

// receive counts up to the mark of one byte that ends every series.
func (e *endpoint) receive(size int) (answer, error) {
	e.accepted()
	var start time.Time
	for count := 0; ; count++ {
		message, err := e.read()
		switch {
		case err != nil:
			return nil, err
		case len(message) == 1:
			return answer{"messages": count, "counted": count - 1, "seconds": time.Since(start).Seconds()}, nil
		case len(message) != size:
			return nil, fmt.Errorf("a message of %d bytes instead of %d", len(message), size)
		case count == 0:
			start = time.Now()
		}
	}
}

// prove sends random messages; check answers the digest of what arrived. Both as in lanes/endpoint.py.
func (e *endpoint) prove(size, count int) (answer, error) {
	digest, message := sha256.New(), make([]byte, size)
	for range count {
		if _, err := rand.Read(message); err != nil {
			return nil, err
		}
		if err := e.write(frameOf(message)); err != nil {
			return nil, err
		}
		add(digest, message)
	}
	return answer{"digest": hex.EncodeToString(digest.Sum(nil))}, e.flush()
}

func (e *endpoint) check(count int) (answer, error) {
	e.accepted()
	digest := sha256.New()
	for range count {
		message, err := e.read()
		if err != nil {
			return nil, err
		}
		add(digest, message)
	}
	return answer{"digest": hex.EncodeToString(digest.Sum(nil))}, nil
}

func add(digest hash.Hash, message []byte) {
	digest.Write(binary.BigEndian.AppendUint64(nil, uint64(len(message))))
	digest.Write(message)
}

func (e *endpoint) roundTrip(o order) (answer, error) {
	message, times := make([]byte, o.Size), make([]int64, o.Count)
	if _, err := rand.Read(message); err != nil {
		return nil, err
	}
	frame := frameOf(message)
	for k := range times {
		start := time.Now()
		if err := e.write(frame); err != nil {
			return nil, err
		}
		if err := e.flush(); err != nil {
			return nil, err
		}
		reply, err := e.read()
		if err != nil {
			return nil, err
		}
		times[k] = time.Since(start).Nanoseconds()
		if !bytes.Equal(reply, message) {
			return nil, errors.New("the echo is not what was sent")
		}
	}
	return answer{"nanoseconds": times}, nil
}

func (e *endpoint) echo(count int) error {
	e.accepted()
	for range count {
		message, err := e.read()
		if err != nil {
			return err
		}
		if err := e.write(frameOf(message)); err != nil {
			return err
		}
		if err := e.flush(); err != nil {
			return err
		}
	}
	return nil
}
