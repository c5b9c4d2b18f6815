package envoy

import (
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxValue  = 1 << 20  // bytes of one value that is kept whole, and of one value that is skipped
	maxConfig = 16 << 20 // bytes of one configured resource; only a few of its fields are kept
)

var errTooLarge = errors.New("one element of the reply is too large")

// stream reads a JSON reply of any length without keeping it: what is kept is bounded by the largest single value that its user decodes.
type stream struct {
	*jsontext.Decoder
	in  *io.LimitedReader // what the decoder may still take in for the value at hand
	max int64
}

func newStream(body io.Reader, maxBytes int64) *stream {
	in := &io.LimitedReader{R: body, N: maxBytes}
	return &stream{jsontext.NewDecoder(in, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)), in, maxBytes}
}

// object calls each for every member of the object that comes next; each must consume the member's value.
func (s *stream) object(each func(name string) error) error {
	if err := s.open('{'); err != nil {
		return err
	}
	for s.more('}') {
		name, err := s.ReadToken()
		if err != nil {
			return s.explain(err)
		}
		if err := each(name.String()); err != nil {
			return s.explain(err)
		}
	}
	_, err := s.ReadToken()
	return s.explain(err)
}

// array calls each for every item of the array that comes next; each must consume it.
func (s *stream) array(each func() error) error {
	if err := s.open('['); err != nil {
		return err
	}
	for s.more(']') {
		if err := each(); err != nil {
			return s.explain(err)
		}
	}
	_, err := s.ReadToken()
	return s.explain(err)
}

// skip passes over the next value. An array may be of any length, its items and any other value may not be larger than what is kept.
func (s *stream) skip() error {
	if s.PeekKind() == '[' {
		return s.array(s.SkipValue)
	}
	return s.explain(s.SkipValue())
}

// end makes sure that the reply is complete and nothing follows it.
func (s *stream) end() error {
	if _, err := s.ReadToken(); !errors.Is(err, io.EOF) {
		return s.explain(errors.Join(errors.New("reply goes on after its end"), err))
	}
	return nil
}

func (s *stream) open(kind jsontext.Kind) error {
	token, err := s.ReadToken()
	if err == nil && token.Kind() != kind {
		err = fmt.Errorf("found %s at byte %d, want %s", token.Kind(), s.InputOffset(), kind)
	}
	return s.explain(err)
}

func (s *stream) more(end jsontext.Kind) bool {
	s.in.N = s.max
	kind := s.PeekKind()
	return kind != end && kind != 0
}

func (s *stream) explain(err error) error {
	if err != nil && s.in.N <= 0 {
		return errTooLarge
	}
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// value decodes the next value into v, of which only the named fields are kept.
func (s *stream) value(v any) error { return s.explain(json.UnmarshalDecode(s.Decoder, v)) }

// text decodes the next value, which is a string or a number, as the reply writes it.
func (s *stream) text(into *string) error {
	token, err := s.ReadToken()
	if err != nil {
		return s.explain(err)
	}
	if kind := token.Kind(); kind != '"' && kind != '0' {
		return fmt.Errorf("found %s at byte %d, want a text or a number", kind, s.InputOffset())
	}
	*into = token.String()
	return nil
}
