package session

import "testing"

func TestADurableReceiverAcknowledgesWhatItsHostConfirmedAndHasOnDisk(t *testing.T) {
	p := newPair(t, SenderOptions{Durable: true, ReportTaken: true})
	p.table.KeepSessions(ID{7})
	p.accept("a", "b", "c")
	p.connect()
	p.pump()
	r := p.stream.Receiver()
	wantSettled := func(when string, want uint64) {
		t.Helper()
		p.ack()
		if got := p.sender.Progress(); got.Settled != want || got.Taken != want {
			t.Errorf("%s: settled %d, taken %d, want %d", when, got.Settled, got.Taken, want)
		}
	}
	wantSettled("in the queue", 0)
	r.Confirm(1, 2)
	wantSettled("confirmed", 0)
	state := r.State()
	r.Confirm(3)
	wantSettled("being written", 0)
	r.Stored(state)
	wantSettled("on disk", 2)
	r.Stored(r.State())
	wantSettled("all on disk", 3)
}
