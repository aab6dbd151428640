package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	// maxConfigBytes bounds a configuration text: it is written by hand or by a host's program.
	maxConfigBytes = 1 << 20
	// maxConfigDepth is far above the six levels that the deepest key needs.
	maxConfigDepth = 16
)

// A decoded value is nil, bool, json.Number, string, []any or jsonObject.

// jsonObject keeps its members in order and keeps repeated ones, which a map would hide.
type jsonObject []jsonMember

type jsonMember struct {
	name  string
	value any
}

// decodeJSONObject decodes one JSON object and nothing after it.
func decodeJSONObject(text []byte) (jsonObject, error) {
	if err := checkJSONText(text); err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	value, err := decodeJSONValue(decoder, 0)
	if err != nil {
		return nil, err
	}
	object, ok := value.(jsonObject)
	if !ok {
		return nil, fmt.Errorf("expected a JSON object, got %s", describeJSON(value))
	}
	return object, nil
}

// checkJSONText checks the syntax of the whole text first: Decoder.Token alone lets some mistakes
// pass and would not see what follows the object.
func checkJSONText(text []byte) error {
	if len(text) > maxConfigBytes {
		return fmt.Errorf("%d bytes of JSON, at most %d are read", len(text), maxConfigBytes)
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return errors.New(`empty text, expected a JSON object such as {"identity_dir": "peerbus-identity"}`)
	}
	if !utf8.Valid(text) {
		return errors.New("the text is not UTF-8")
	}
	var raw json.RawMessage
	err := json.Unmarshal(text, &raw)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		line, column := positionOf(text, syntax.Offset)
		return fmt.Errorf("not JSON: %v at line %d, column %d", err, line, column)
	}
	return err
}

// positionOf counts lines and columns (in bytes) from 1. offset is where a SyntaxError says that
// reading stopped, one after the offending byte.
func positionOf(text []byte, offset int64) (line, column int) {
	before := text[:max(0, min(int(offset)-1, len(text)))]
	return bytes.Count(before, []byte("\n")) + 1, len(before) - bytes.LastIndexByte(before, '\n')
}

func decodeJSONValue(decoder *json.Decoder, depth int) (any, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch token := token.(type) {
	case json.Delim:
		if depth == maxConfigDepth {
			return nil, fmt.Errorf("nested deeper than %d levels", maxConfigDepth)
		}
		if token == '{' {
			return decodeJSONMembers(decoder, depth+1)
		}
		return decodeJSONList(decoder, depth+1)
	case string:
		return token, checkJSONString(token)
	default:
		return token, nil
	}
}

func decodeJSONMembers(decoder *json.Decoder, depth int) (any, error) {
	object := jsonObject{}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		value, err := decodeJSONValue(decoder, depth)
		if err != nil {
			return nil, err
		}
		// Inside an object a token before a value is always its name.
		object = append(object, jsonMember{name.(string), value})
	}
	_, err := decoder.Token()
	return object, err
}

func decodeJSONList(decoder *json.Decoder, depth int) (any, error) {
	list := []any{}
	for decoder.More() {
		value, err := decodeJSONValue(decoder, depth)
		if err != nil {
			return nil, err
		}
		list = append(list, value)
	}
	_, err := decoder.Token()
	return list, err
}

// checkJSONString refuses lone surrogates, which Python writes for file names that are not UTF-8:
// the decoder turns them into U+FFFD, which would silently name another file.
func checkJSONString(text string) error {
	if strings.ContainsRune(text, utf8.RuneError) {
		return fmt.Errorf("the text %q holds a character that is not Unicode", clipText(text, maxShownValueBytes))
	}
	return nil
}

// describeJSON tells what was given, for "expected ..., got ...".
func describeJSON(value any) string {
	switch value := value.(type) {
	case nil:
		return "null"
	case bool:
		return fmt.Sprint(value)
	case json.Number:
		return "the number " + clipText(value.String(), maxShownValueBytes)
	case string:
		return fmt.Sprintf("the text %q", clipText(value, maxShownValueBytes))
	case []any:
		return "a list"
	default:
		return "an object"
	}
}
