package traffic

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/secret"
)

// checkCount fails on an answer that is both a number and an error, or neither, or below zero.
func checkCount(t *testing.T, n drain.Count, err error) {
	t.Helper()
	if n.Known == (err != nil) || n.N < 0 || n.N > maxExact || !n.Known && n.N != 0 {
		t.Errorf("read %+v, %v", n, err)
	}
}

func FuzzParseSource(f *testing.F) {
	for _, s := range []string{"none", "a=none", "socket:1", "file:/a", "json:http://a#/b", `prometheus:http://a#b{c="d"}`, "=", "a=b=c:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		s, err := ParseSource(spec)
		if (s == nil) == (err == nil) {
			t.Fatalf("ParseSource(%q) = %v, %v", spec, s, err)
		}
		if s != nil && (s.Spec() != secret.Hide(spec) || !validName(s.Name())) {
			t.Errorf("ParseSource(%q) = %q of %q", spec, s.Spec(), s.Name())
		}
	})
}

func FuzzParseWatch(f *testing.F) {
	for _, s := range []string{"app=port:80", "app=file:/a", "=", "app=port:", "app=:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		if w, err := ParseWatch(spec); (w == nil) == (err == nil) || w != nil && !strings.HasPrefix(spec, w.Name()+"=") {
			t.Errorf("ParseWatch(%q) = %v, %v", spec, w, err)
		}
	})
}

func FuzzPrometheus(f *testing.F) {
	for _, page := range []string{"", "a 1\n", "a 0", "a{b=\"c\"} 1\na{b=\"d\"} 2 3\n", "# TYPE a histogram\na 1\n", "{\"a\"} 1\n", "a NaN\n", "a{\n", "a \xff\n"} {
		f.Add([]byte(page))
	}
	f.Fuzz(func(t *testing.T, page []byte) {
		e, _ := parseExpression("a")
		n, _, err := e.read(body{Reader: bytes.NewReader(page)})
		checkCount(t, n, err)
		if n.Known && !bytes.Contains(page, []byte("a")) {
			t.Errorf("found a metric in %q", page)
		}
	})
}

func FuzzExpression(f *testing.F) {
	for _, s := range []string{"a", `a{b="c",d=~'e'} - {"f"}`, "a - 1", "a{b!~`c`,}", `{__name__=~"a|b"}`} {
		f.Add(s, []byte("a{b=\"c\"} 1 # {x=\"y\"} 1\n# EOF\n"))
	}
	f.Fuzz(func(t *testing.T, text string, page []byte) {
		e, err := parseExpression(text)
		if err != nil {
			return
		}
		for _, kind := range []string{"", "application/openmetrics-text; version=1.0.0"} {
			n, _, err := e.read(body{Reader: bytes.NewReader(page), kind: kind, framed: true})
			checkCount(t, n, err)
		}
	})
}

func FuzzText(f *testing.F) {
	f.Add(`a (\d+)|b (\d+) - 1`, []byte("a 1 b 2"))
	f.Fuzz(func(t *testing.T, text string, page []byte) {
		if p, err := parsePattern(text); err == nil {
			n, err := p.read(bytes.NewReader(page))
			checkCount(t, n, err)
		}
	})
}

func FuzzHide(f *testing.F) {
	f.Add("12/metrics#", "/p?q#f")
	f.Fuzz(func(t *testing.T, before, after string) {
		if !strings.ContainsAny(before, "\"'`") && !strings.Contains(after, "s3cr3t") { // quotes may hold a label's value
			if shown := secret.Hide("http://u:" + before + "s3cr3t@h" + after); strings.Contains(shown, "s3cr3t") {
				t.Errorf("shows %q", shown)
			}
		}
	})
}

func FuzzJSON(f *testing.F) {
	for _, doc := range []string{"", "{}", "3", `{"a":{"b":3}}`, `{"a":[0]}`, `{"a":{"b":-0}}`, `{"a":{"b":1e-400}}`, `{"a":{"b":0}}{`} {
		for _, pointer := range []string{"", "/a/b", "/a/0", "/a/-", "/~1~0"} {
			f.Add(pointer, []byte(doc))
		}
	}
	f.Fuzz(func(t *testing.T, pointer string, doc []byte) {
		p, err := parsePointers(pointer)
		if err != nil {
			return
		}
		n, err := p.read(bytes.NewReader(doc))
		checkCount(t, n, err)
	})
}

func FuzzFile(f *testing.F) {
	for _, text := range []string{"", "0\n", "12", "\n", " 1 \n", "00\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := parseFile(text)
		checkCount(t, n, err)
		if n.Known && text[len(text)-1] != '\n' {
			t.Errorf("took %q for a whole number", text)
		}
	})
}

func FuzzProc(f *testing.F) {
	f.Add([]byte("head\n   0: 0100007F:1F90 00000000:0000 0A 0\n"))
	f.Add([]byte("head\n   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 06 0\n"))
	f.Add([]byte("head\n0:"))
	f.Fuzz(func(t *testing.T, text []byte) {
		lines := 0
		err := parseProc(bytes.NewReader(text), func(socket) { lines++ })
		if err == nil && lines != bytes.Count(text, []byte("\n"))-1 && bytes.HasSuffix(text, []byte("\n")) {
			t.Errorf("%d sockets out of %q", lines, text)
		}
	})
}

func FuzzCount(f *testing.F) {
	for _, v := range []float64{0, 1, 3.0, 0.5, -1, math.NaN(), math.Inf(1), maxExact + 2} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v float64) {
		n, err := toCount(v)
		checkCount(t, n, err)
		if n.Known && float64(n.N) != v {
			t.Errorf("%v became %d", v, n.N)
		}
	})
}
