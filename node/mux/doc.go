// Package mux divides one secured connection between two peerbus nodes into streams. docs/mux.md specifies its frames and
// says why it exists beside yamux, which is what any other peer gets.
//
// # What it guarantees
//
//   - No goroutine stands between a stream and the connection. Write gives its frame to the connection itself; Read reads the
//     connection itself while nobody else does (pump.go). A message passes from one process to the other with one thread woken.
//   - Over TLS on TCP the reader waits without keeping others from reading: a thread that waits for a message anyway can look for
//     it (Attend) and read it in the reader's place, so that none is woken (lent.go).
//   - A stream that is not read holds up only itself: its window is bounded, and the connection goes on being read.
//   - Frames of up to smallFrame bytes go before larger ones that wait, but never for long (turns.go).
//   - Memory follows the windows, each of which is reserved with the resource manager before it is granted.
//   - Every wait ends with its deadline, with the stream or with the connection. A frame that is on its way cannot be recalled:
//     a Write may outlast its deadline by that frame, at most writeTimeout, after which the connection fails.
//   - What the peer sends beyond the rules ends the connection with a code, never the process.
//
// # Who owns what
//
// Conn owns the table of streams, turns the right to write, pump the right to read. Locks are taken in the order Conn, Stream,
// turns or pump; none is held while the network is used, except the right to write, which is one frame long, and pump.use, which
// is the right to read.
//
// # Halves of a stream
//
//	reading: open --End--> ended (what is buffered can be read) --> EOF
//	              --CloseRead--> stopped, the peer is told by Stop
//	writing: open --CloseWrite--> ended, the peer is told by End
//	              --Stop comes--> stopped: writes fail
//	both:    open --Reset, of either side--> reset      --end of the connection--> failed
//
// A stream leaves the table when neither half is open.
package mux
