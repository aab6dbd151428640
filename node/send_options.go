package node

import "fmt"

// SendOptions are how messages travel. Compression is of one handle; the others are of the channel, whose handles share them.
type SendOptions struct {
	Compression Compression
	Class       SendClass
	Progress    bool  // of large messages becomes events
	Durable     *bool // nil: as it is
}

// SendOptions are those of a new handle, and of what is sent without one.
func (n *Node) SendOptions() SendOptions {
	return SendOptions{Compression: n.config.Channel.Compression, Progress: n.config.Channel.Progress}
}

// Configure changes how messages travel that are sent from now on. Whether they are durable is settled by the first one. An error
// changed nothing.
func (c *Channel) Configure(o SendOptions) error {
	if o.Durable != nil {
		if err := c.out.setDurable(*o.Durable); err != nil {
			return err
		}
	}
	c.compression.Store(&o.Compression)
	s := &c.out.state
	s.Lock()
	c.out.setClassLocked(o.Class)
	s.progress = o.Progress
	s.Unlock()
	c.out.takeBulkWay()
	return nil
}

// SendOptions are what holds now, but for Durable: what is read here must not undo what another handle sets meanwhile.
func (c *Channel) SendOptions() SendOptions {
	s := &c.out.state
	s.Lock()
	defer s.Unlock()
	return SendOptions{Compression: *c.compression.Load(), Class: s.class, Progress: s.progress}
}

// ParseSendOptions reads the JSON text of peerbus_channel_configure: what it does not name stays.
func ParseSendOptions(text string, o SendOptions) (SendOptions, error) {
	object, err := decodeJSONObject([]byte(text))
	if err == nil {
		err = o.read(object)
	}
	if err != nil {
		return o, fmt.Errorf("%w: options: %v", ErrArgument, err)
	}
	return o, nil
}

func (o *SendOptions) read(object jsonObject) error {
	fields, err := fieldsOf(object, "an object", "class", "compression", "compress_above", "progress", "durable")
	if err != nil {
		return err
	}
	for name, value := range fields {
		if err := o.set(name, value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (o *SendOptions) set(name string, value any) (err error) {
	switch name {
	case "class":
		var text string
		if text, err = textOf(value); err == nil {
			o.Class, err = ParseSendClass(clipText(text, maxShownValueBytes))
		}
	case "compression":
		list, ok := value.([]any)
		if !ok {
			return fmt.Errorf("expected a list of texts, got %s", describeJSON(value))
		}
		o.Compression.Codecs, err = entriesOf(list, codecOf)
	case "compress_above":
		var bytes int64
		bytes, err = integerOf(value, 0, maxCompressAbove)
		o.Compression.Above = int(bytes)
	case "progress":
		o.Progress, err = booleanOf(value)
	case "durable":
		var on bool
		if on, err = booleanOf(value); err == nil {
			o.Durable = &on
		}
	}
	return err
}
