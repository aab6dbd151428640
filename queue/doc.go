// Package queue holds the messages that one node has received until the host takes them: one FIFO per channel, bounded in
// messages and in bytes, with a policy that says what happens when there is no room (SPEC GEN-02, GEN-07, P2P-17 to P2P-19).
//
// # What it guarantees
//
//   - Memory is bounded. Waiting messages never exceed [Limits], neither per channel, per peer nor in all. One message always
//     fits an empty channel, even above Limits.ChannelBytes: otherwise nobody could ever receive it.
//   - Nothing is lost silently. Every message given to Put or PutBatch is stored, or counted by [Reason], reported to
//     Options.Lost and given back to Options.Free. At any moment received = delivered + waiting + lost.
//   - The reader sees where a hole is: Message.Gap of a message is the number of messages that its channel lost between the
//     message handed over before it and itself.
//   - Order is kept per channel and peer. Between channels the reader goes round, one message of each in turn.
//   - A Put that waits for room holds up nobody else: not another channel, and not another peer unless both wait for room in
//     the same channel, where the first to come is the first served.
//
// # Who owns what
//
// A message's Data belongs to the queue from the call of Put, whatever Put returns, until a Take or Receive hands it over; from
// then on it belongs to the reader. Data that is lost goes to Options.Free exactly once, or its hold of a Slab is released. A message that no call has taken
// stays: an interrupted or expired Receive takes nothing.
//
// # States of a channel
//
//	            Put                      Put, no more room
//	  +------+ -----> +---------+ ----------------------> +------+
//	  | idle |        | waiting |                         | full | drop_oldest, latest: evict
//	  +------+ <----- +---------+ <---------------------- +------+ drop_newest: drop what comes
//	   | ^     Take,       ^            Take                |      block: Put waits
//	   | |     last one    |                                |
//	   | |                 |       Take          a wait expires (block only)
//	   | |                 |                                v
//	   | |                 |                      +-------------+
//	   | |                 +--------------------- | overflowing | block: drop at once
//	   v |                                        +-------------+
//	forgotten: the least recently used of more than maxIdleChannels idle records
//
// Only channels with waiting messages count against Limits.Channels. A channel can also be full because its peer's share, the
// node's bytes or the places for channels are used up; then what ends the state is a Take that gives back what was short.
package queue
