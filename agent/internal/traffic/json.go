package traffic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strconv"

	"github.com/go-openapi/jsonpointer"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

const maxJSON = 1 << 20 // bytes

// pointers is the number at one place of a document, less the one at another, or less a number.
type pointers struct {
	plus  jsonpointer.Pointer
	minus *jsonpointer.Pointer
	less  int64
}

func jsonKind(s string) (kind, error) {
	u, fragment, err := splitURL(s)
	if err != nil {
		return kind{}, err
	}
	at, err := parsePointers(fragment)
	if err != nil {
		return kind{}, err
	}
	p := newPage(u, "application/json", maxJSON)
	read := func(ctx context.Context) (n drain.Count, err error) {
		err = p.fetch(ctx, func(b body) error {
			n, err = at.read(b)
			return err
		})
		return n, err
	}
	return kind{read: read, close: p.close, page: p}, nil
}

var subtracted = regexp.MustCompile(`^(.*?) +- *([0-9]{1,15}|/.*|[^ ]+)$`)

// cutMinus cuts " - 3" or " - /pointer" off the end.
func cutMinus(s string) (plus, minus string) {
	if m := subtracted.FindStringSubmatch(s); m != nil {
		return m[1], m[2]
	}
	return s, ""
}

func parsePointers(fragment string) (at pointers, err error) {
	plus, minus := cutMinus(fragment)
	if at.plus, err = parsePointer(plus); err != nil || minus == "" {
		return at, err
	}
	if at.less, err = strconv.ParseInt(minus, 10, 64); err == nil {
		return at, nil
	}
	second, err := parsePointer(minus)
	at.minus = &second
	return at, err
}

func parsePointer(s string) (jsonpointer.Pointer, error) {
	text, err := url.PathUnescape(s) // RFC 6901, section 6
	if err != nil {
		return jsonpointer.Pointer{}, fmt.Errorf("pointer %q: %w", s, err)
	}
	pointer, err := jsonpointer.New(text)
	if err != nil {
		return jsonpointer.Pointer{}, fmt.Errorf("%q is no JSON pointer: want /name/name after the #, and at most one - /name or - NUMBER", text)
	}
	return pointer, nil
}

func (at *pointers) read(r io.Reader) (drain.Count, error) {
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
	n, err := numberAt(at.plus, document)
	if err != nil || at.minus == nil && at.less == 0 {
		return n, err
	}
	less := drain.Known(at.less)
	if at.minus != nil {
		if less, err = numberAt(*at.minus, document); err != nil {
			return drain.Count{}, err
		}
	}
	return difference(float64(n.N), float64(less.N))
}

// numberAt returns the count at the pointer of a document.
func numberAt(pointer jsonpointer.Pointer, document any) (drain.Count, error) {
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
