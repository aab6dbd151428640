package pool

import (
	"fmt"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of the message (SPEC section 4).
const (
	fieldSender       = protowire.Number(1)
	fieldContentType  = protowire.Number(2)
	fieldChannel      = protowire.Number(3)
	fieldPiggyback    = protowire.Number(4)
	fieldTimestamp    = protowire.Number(5)
	fieldStreamSample = protowire.Number(6)
	fieldJSONContent  = protowire.Number(7)
	fieldStatsUpdate  = protowire.Number(8)
	fieldRawContent   = protowire.Number(9)
)

const (
	// timestampLayout is UTC without a zone (MSG-03).
	timestampLayout = "2006-01-02 15:04:05.000000"
	// unknownChannel stands in messages that were made without one.
	unknownChannel = "<unknown>"
)

// header is what the pools look at of a message. The slices lie in the message.
type header struct {
	sender, contentType, channel, piggyback []byte
	json                                    []byte // the content, if it is a text
}

// readHeader finds the text fields, which are UTF-8 or nobody could read the message. Of other content only the length is looked
// at. As everywhere in protobuf the last occurrence of a field counts.
func readHeader(data []byte) (header, error) {
	var h header
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return header{}, badEnvelope(protowire.ParseError(n))
		}
		data = data[n:]
		if target := h.field(number); target != nil && kind == protowire.BytesType {
			value, n := protowire.ConsumeBytes(data)
			if n < 0 {
				return header{}, badEnvelope(protowire.ParseError(n))
			}
			if !utf8.Valid(value) {
				return header{}, badEnvelope(fmt.Errorf("field %d is not UTF-8", number))
			}
			*target, data = value, data[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(number, kind, data); n < 0 {
			return header{}, badEnvelope(protowire.ParseError(n))
		}
		data = data[n:]
	}
	return h, nil
}

func badEnvelope(err error) error { return fmt.Errorf("%w: not an envelope: %v", ErrArgument, err) }

func (h *header) field(number protowire.Number) *[]byte {
	switch number {
	case fieldSender:
		return &h.sender
	case fieldContentType:
		return &h.contentType
	case fieldChannel:
		return &h.channel
	case fieldPiggyback:
		return &h.piggyback
	case fieldJSONContent:
		return &h.json
	}
	return nil
}

// Content is the content of a message, encoded already, and the field that it goes to. The zero value is no content.
type Content struct {
	field protowire.Number
	data  []byte
}

// JSONContent is the text of a JSON value.
func JSONContent(text string) Content { return Content{fieldJSONContent, []byte(text)} }

// RawContent is bytes.
func RawContent(data []byte) Content { return Content{fieldRawContent, data} }

// StreamSampleContent is an encoded StreamSampleContent message.
func StreamSampleContent(encoded []byte) Content { return Content{fieldStreamSample, encoded} }

// StatsContent is an encoded StatBatch message.
func StatsContent(encoded []byte) Content { return Content{fieldStatsUpdate, encoded} }

// ContentOfField is for callers that carry the field number of the content's oneof, 0 for no content.
func ContentOfField(number int, data []byte) (Content, error) {
	switch field := protowire.Number(number); field {
	case 0:
		if len(data) > 0 {
			return Content{}, fmt.Errorf("%w: %d bytes of no content; there are fields %d to %d", ErrArgument, len(data), fieldStreamSample, fieldRawContent)
		}
		return Content{}, nil
	case fieldJSONContent:
		if !utf8.Valid(data) {
			return Content{}, fmt.Errorf("%w: the JSON content is not UTF-8, so nobody could read the message", ErrArgument)
		}
		return Content{field, data}, nil
	case fieldStreamSample, fieldStatsUpdate, fieldRawContent:
		return Content{field, data}, nil
	}
	return Content{}, fmt.Errorf("%w: field %d is no content; there are %d to %d", ErrArgument, number, fieldStreamSample, fieldRawContent)
}

// wrap encodes a message.
func wrap(sender, contentType, channel, piggyback string, now time.Time, content Content) []byte {
	size := len(sender) + len(contentType) + len(channel) + len(piggyback) + len(timestampLayout) + len(content.data)
	const tagsAndLengths = 64
	out := make([]byte, 0, size+tagsAndLengths)
	out = appendText(out, fieldSender, sender)
	out = appendText(out, fieldContentType, contentType)
	out = appendText(out, fieldChannel, channel)
	out = appendText(out, fieldPiggyback, piggyback)
	out = appendText(out, fieldTimestamp, now.UTC().Format(timestampLayout))
	if content.field != 0 {
		out = protowire.AppendTag(out, content.field, protowire.BytesType)
		out = protowire.AppendBytes(out, content.data)
	}
	return out
}

func appendText(out []byte, field protowire.Number, text string) []byte {
	if text == "" {
		return out
	}
	return protowire.AppendString(protowire.AppendTag(out, field, protowire.BytesType), text)
}

// ReplacePiggyback copies a message to the end of out, with another piggyback: for hosts that read it from the message.
func ReplacePiggyback(out, data []byte, piggyback string) ([]byte, error) {
	start := len(out)
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return out[:start], badEnvelope(protowire.ParseError(n))
		}
		value := protowire.ConsumeFieldValue(number, kind, data[n:])
		if value < 0 {
			return out[:start], badEnvelope(protowire.ParseError(value))
		}
		if number != fieldPiggyback {
			out = append(out, data[:n+value]...)
		}
		data = data[n+value:]
	}
	return appendText(out, fieldPiggyback, piggyback), nil
}
