package traffic

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Auth is what a server asks of its readers: headers, a bearer token, user and password, a client certificate, and the authority
// behind its own certificate. It comes from files, which are read again when they change: tokens rotate.
//
// A file is read by what is in it. PEM: its certificates are trusted, as authorities or as the server's own; with a private key
// beside them they are ours to show. A line: a token to bear. Lines "Name: value": headers. A directory is a mounted Secret or
// service account: token, username and password, ca.crt, tls.crt and tls.key.
type Auth struct {
	paths []string

	mu     sync.Mutex
	stamp  string // of the files that were read
	header http.Header
	tls    *tls.Config
	err    error
}

// NewAuth returns the credentials in these files. Nothing is read yet: a Secret may be mounted late.
func NewAuth(paths ...string) (*Auth, error) {
	for _, path := range paths {
		if !filepath.IsAbs(path) {
			return nil, errors.New("the path of credentials is not absolute") // nor shown: it may be the secret itself
		}
	}
	return &Auth{paths: paths}, nil
}

// Check reads the files and says what is wrong with them.
func (a *Auth) Check() error {
	_, _, _, err := a.load()
	return err
}

// load returns what is in the files now; stamp changes when they do.
func (a *Auth) load() (header http.Header, config *tls.Config, stamp string, err error) {
	if a == nil {
		return nil, nil, "", nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := stampOf(a.paths); now != a.stamp {
		a.stamp = now
		var r reader
		a.err = r.files(a.paths)
		a.header, a.tls = r.header, r.config()
	}
	return a.header, a.tls, a.stamp, a.err
}

// Client returns a client that makes the one request, which it signs: c, or one that trusts whom the files say. Nil has no
// credentials.
func (a *Auth) Client(c *http.Client, req *http.Request) (*http.Client, error) {
	header, config, _, err := a.load()
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	if config == nil {
		return c, nil
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, CheckRedirect: c.CheckRedirect}, nil
}

// secretFiles are the names that Kubernetes gives to the parts of a mounted Secret.
var secretFiles = []string{"token", "username", "password", "ca.crt", "tls.crt", "tls.key"}

func stampOf(paths []string) string {
	var b strings.Builder
	b.WriteByte('.') // nothing was read yet has no stamp
	one := func(path string) (dir bool) {
		info, err := os.Stat(path)
		if err != nil {
			b.WriteString("-")
			return false
		}
		fmt.Fprintf(&b, "%d/%d,", info.Size(), info.ModTime().UnixNano())
		return info.IsDir()
	}
	for _, path := range paths {
		if one(path) {
			for _, name := range secretFiles {
				one(filepath.Join(path, name))
			}
		}
	}
	return b.String()
}

// reader gathers what the files hold. No error of it repeats anything that a file holds.
type reader struct {
	header      http.Header
	trusted     []*x509.Certificate
	certificate []byte // PEM
	key         []byte
	serverName  string
	pair        []tls.Certificate
}

func (r *reader) files(paths []string) error {
	r.header = http.Header{}
	var errs []error
	for _, path := range paths {
		info, err := os.Stat(path)
		if err == nil && info.IsDir() {
			err = r.directory(path)
		} else if err == nil {
			err = r.file(path)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("credentials: %w", err))
		}
	}
	if r.key != nil {
		pair, err := tls.X509KeyPair(r.certificate, r.key)
		if err != nil {
			errs = append(errs, errors.New("credentials: private key and certificate do not belong together"))
		} else {
			r.pair = []tls.Certificate{pair}
		}
	}
	return errors.Join(errs...)
}

const maxAuth = 1 << 20 // bytes of a file

func readSecret(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxAuth {
		return nil, fmt.Errorf("%s is no file of at most %d bytes", path, maxAuth)
	}
	return os.ReadFile(path)
}

func (r *reader) directory(dir string) error {
	part := map[string][]byte{}
	for _, name := range secretFiles {
		text, err := readSecret(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil {
			part[name] = bytes.TrimSpace(text)
		}
	}
	if len(part) == 0 {
		return fmt.Errorf("%s holds none of %s", dir, strings.Join(secretFiles, ", "))
	}
	if token := part["token"]; token != nil {
		r.header.Set("Authorization", "Bearer "+string(token))
	}
	if part["username"] != nil || part["password"] != nil {
		r.header.Set("Authorization", basic(string(part["username"])+":"+string(part["password"])))
	}
	for _, name := range []string{"ca.crt", "tls.crt", "tls.key"} {
		if part[name] != nil {
			if err := r.pem(part[name], name == "ca.crt"); err != nil {
				return fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
			}
		}
	}
	return nil
}

func basic(userinfo string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(userinfo))
}

func (r *reader) file(path string) error {
	text, err := readSecret(path)
	if err != nil {
		return err
	}
	if bytes.Contains(text, []byte("-----BEGIN ")) {
		err = r.pem(text, !bytes.Contains(text, []byte("PRIVATE KEY-----")))
	} else {
		err = r.lines(string(text))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// lines reads headers, or one token. The pseudo header TLS-Server-Name is the name that the server's certificate is for.
func (r *reader) lines(text string) error {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			lines = append(lines, line)
		}
	}
	if len(lines) == 1 && !strings.ContainsAny(lines[0], ": \t") {
		r.header.Set("Authorization", "Bearer "+lines[0])
		return nil
	}
	if len(lines) == 0 {
		return errors.New("is empty")
	}
	for i, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		name, value = textproto.TrimString(name), textproto.TrimString(value)
		switch {
		case !ok || name == "" || strings.ContainsAny(name, " \t"):
			return fmt.Errorf("line %d is neither a token alone nor a header; write NAME: VALUE", i+1)
		case strings.EqualFold(name, "TLS-Server-Name"):
			r.serverName = value
		default:
			r.header.Set(name, value)
		}
	}
	return nil
}

// pem takes certificates to trust, or our own with their key.
func (r *reader) pem(text []byte, trust bool) error {
	var found bool
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == "CERTIFICATE" && trust:
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return errors.New("a certificate in it cannot be read")
			}
			r.trusted = append(r.trusted, c)
		case block.Type == "CERTIFICATE":
			r.certificate = append(r.certificate, pem.EncodeToMemory(block)...)
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			r.key = pem.EncodeToMemory(block)
		}
		found = true
	}
	if !found {
		return errors.New("is no PEM file")
	}
	return nil
}

// config returns what TLS needs, nil for nothing special. A server whose very certificate is in our file is trusted whatever name
// stands in it: pods make certificates for themselves.
func (r *reader) config() *tls.Config {
	if r.trusted == nil && r.pair == nil && r.serverName == "" {
		return nil
	}
	c := &tls.Config{Certificates: r.pair, ServerName: r.serverName}
	if r.trusted == nil {
		return c
	}
	pool := x509.NewCertPool()
	for _, one := range r.trusted {
		pool.AddCert(one)
	}
	c.InsecureSkipVerify = true //nolint:gosec // VerifyConnection does all of it
	c.VerifyConnection = func(s tls.ConnectionState) error {
		leaf := s.PeerCertificates[0]
		for _, one := range r.trusted {
			if one.Equal(leaf) {
				return nil
			}
		}
		between := x509.NewCertPool()
		for _, one := range s.PeerCertificates[1:] {
			between.AddCert(one)
		}
		_, err := leaf.Verify(x509.VerifyOptions{DNSName: s.ServerName, Roots: pool, Intermediates: between})
		return err
	}
	return c
}
