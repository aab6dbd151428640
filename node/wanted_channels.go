package node

import (
	"maps"
	"slices"
	"sync"
)

// wantedChannels are the channels that want a writable event.
type wantedChannels struct {
	sync.Mutex
	names map[string]struct{}
}

func (w *wantedChannels) add(channel string) {
	w.Lock()
	defer w.Unlock()
	if w.names == nil {
		w.names = map[string]struct{}{}
	}
	w.names[channel] = struct{}{}
}

func (w *wantedChannels) some() bool {
	w.Lock()
	defer w.Unlock()
	return len(w.names) > 0
}

func (w *wantedChannels) take() []string {
	w.Lock()
	defer w.Unlock()
	names := slices.Collect(maps.Keys(w.names))
	w.names = nil
	return names
}
