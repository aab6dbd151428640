// Package session holds the codec and the two state machines of /peerbus/channel/1.0.0, the acknowledged and resumable
// message channel that docs/channel-protocol.md specifies. It does no I/O, starts no goroutine and reads no clock: a [Sender]
// and a [Receiver] are told what happened and answer what to do.
//
// # The sender's side, one Sender per (peer, channel)
//
//	           OpenStream                ACCEPT                    Finish
//	detached ------------> opening ----------------> flowing ---------------> finished
//	  |  ^                 |     |  first stream, instance known: ^
//	  |  |                 |     +--- data without waiting -------+
//	  |  +--- StreamLost --+------------ StreamLost ----------+
//	  |
//	  +--- Tick after the resume window: everything unsettled is lost, and the sender stays usable
//	any state --- Close, or a permanent CLOSE from the peer ---> closed
//
// A message id is the message's sequence number. 0 <= settled <= last, and settled <= exposed means that some of the settled
// ids may have reached the peer although no acknowledgement came:
//
//	1 ...... settled ...... exposed ...... last
//	  fate known   | in doubt     | not sent   |
//
// # The receiver's side, one Receiver per (peer, channel, session), found through a Table
//
//	            Attach, newer generation (fences the stream before)
//	          +----------------------------------------------------+
//	          v                                                    |
//	fresh -> attached -- POSITION or 0-RTT --> counting -- stream ends --> detached
//	          |                                    |                        |
//	          |                                    +--- FINISH ---+         +--- kept too long, or evicted --+
//	          +--- violation: CLOSE, stream reset                 v                                          v
//	                                                          forgotten                                  forgotten
package session
