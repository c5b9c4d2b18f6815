package traffic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/go-openapi/jsonpointer"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

const maxJSON = 1 << 20 // bytes

func jsonKind(s string) (kind, error) {
	raw, fragment, err := splitURL(s)
	if err != nil {
		return kind{}, err
	}
	text, err := url.PathUnescape(fragment) // RFC 6901, section 6
	if err != nil {
		return kind{}, fmt.Errorf("pointer %q: %w", fragment, err)
	}
	pointer, err := jsonpointer.New(text)
	if err != nil {
		return kind{}, fmt.Errorf("%q is no JSON pointer: want /name/name after the #", text)
	}
	p := newPage(raw, "application/json", maxJSON)
	read := func(ctx context.Context) (n drain.Count, err error) {
		err = p.fetch(ctx, func(body io.Reader) error {
			n, err = numberAt(pointer, body)
			return err
		})
		return n, err
	}
	return kind{read: read, close: p.close}, nil
}

// numberAt reads one JSON document and returns the count at the pointer.
func numberAt(pointer jsonpointer.Pointer, r io.Reader) (drain.Count, error) {
	var document any
	d := json.NewDecoder(r)
	d.UseNumber()
	if err := d.Decode(&document); err != nil {
		return drain.Count{}, fmt.Errorf("decode: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = errors.New("something follows the document")
		}
		return drain.Count{}, fmt.Errorf("decode: %w", err)
	}
	v, _, err := pointer.Get(document)
	if err != nil {
		return drain.Count{}, err
	}
	number, ok := v.(json.Number)
	if !ok {
		return drain.Count{}, fmt.Errorf("%s holds a %T, want a number", pointer.String(), v)
	}
	f, err := number.Float64()
	if err != nil {
		return drain.Count{}, err
	}
	return toCount(f)
}
