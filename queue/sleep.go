package queue

// Sleep is a blocked Receive whose caller waits elsewhere than in Go.
type Sleep struct {
	queue    *Queue
	receiver receiver
}

// Sleep blocks like a Receive of the channel, whose caller then waits until rouse is called, or as long as it likes. rouse is called
// once at most, without the lock, and perhaps only after End. It returns nil where a Receive would not block. End must follow.
func (q *Queue) Sleep(channel string, rouse func()) *Sleep {
	q.mu.Lock()
	defer q.unlock()
	if q.waitsLocked(channel) || q.mu.closed || q.mu.interrupted {
		return nil
	}
	s := &Sleep{queue: q, receiver: receiver{channel: channel, rouse: rouse}}
	q.listenLocked(&s.receiver)
	return s
}

// End returns ErrInterrupted if an Interrupt ended the sleep. What it was roused for it takes itself.
func (s *Sleep) End() error {
	s.queue.mu.Lock()
	defer s.queue.unlock()
	s.queue.unblockLocked(&s.receiver)
	if s.receiver.interrupted {
		return ErrInterrupted
	}
	return nil
}
