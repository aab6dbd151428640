package webrtctransport

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	pion "github.com/pion/webrtc/v4"
	"google.golang.org/protobuf/encoding/protowire"
)

// SignalProtocol is the libp2p protocol that connections are negotiated over.
const SignalProtocol = "/webrtc-signaling/0.0.1"

// maxSignal bounds one signal. A session description has some kilobytes.
const maxSignal = 64 << 10

// signalKind is the type of a signal, field 1 of its protobuf message; field 2 is its data.
type signalKind uint64

const (
	offerSignal     signalKind = 0 // data: the session description
	answerSignal    signalKind = 1
	candidateSignal signalKind = 2 // data: an RTCIceCandidateInit as JSON
)

const (
	signalTypeField protowire.Number = 1
	signalDataField protowire.Number = 2
)

type signal struct {
	kind signalKind
	data string
}

func writeSignal(w io.Writer, s signal) error {
	message := protowire.AppendTag(nil, signalTypeField, protowire.VarintType)
	message = protowire.AppendVarint(message, uint64(s.kind))
	message = protowire.AppendTag(message, signalDataField, protowire.BytesType)
	message = protowire.AppendString(message, s.data)
	_, err := w.Write(prefixed(message))
	return err
}

func readSignal(r *bufio.Reader) (signal, error) {
	message, err := readPrefixed(r, r, maxSignal)
	if err != nil {
		return signal{}, err
	}
	var s signal
	err = eachField(message, func(field protowire.Number, number uint64, bytes []byte) {
		switch field {
		case signalTypeField:
			s.kind = signalKind(number)
		case signalDataField:
			s.data = string(bytes)
		}
	})
	if err == nil && s.kind > candidateSignal {
		err = fmt.Errorf("%w: a signal of type %d", errMessage, s.kind)
	}
	return s, err
}

// candidateOf reads a candidate. It answers false at the end of the candidates and for what is no candidate: one bad candidate
// is no reason to give up. Some peers write the attribute's name before it.
func candidateOf(data string) (pion.ICECandidateInit, bool) {
	var candidate pion.ICECandidateInit
	if err := json.Unmarshal([]byte(data), &candidate); err != nil {
		return candidate, false
	}
	candidate.Candidate = strings.TrimPrefix(candidate.Candidate, "a=")
	return candidate, candidate.Candidate != ""
}

func candidateText(c *pion.ICECandidate) (string, error) {
	text, err := json.Marshal(c.ToJSON())
	return string(text), err
}
