package ledger

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// certified reads whose a client's certificate is. The server asks for one of anybody and refuses none: the API server may show its own.
// It counts where it comes from an authority in the file, which is read again each time, for authorities are renewed, is for clients, and
// has one URI that names a pod: spiffe://ANYTHING/ns/NAMESPACE/pod/NAME/UID.
func certified(file string) func(*tls.ConnectionState) (Pod, error) {
	return func(c *tls.ConnectionState) (p Pod, err error) {
		roots, err := authorities(file)
		if err != nil {
			return p, err
		}
		between := x509.NewCertPool()
		for _, one := range c.PeerCertificates[1:] {
			between.AddCert(one)
		}
		leaf := c.PeerCertificates[0]
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: time.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
			return p, errStranger
		}
		if len(leaf.URIs) != 1 || leaf.URIs[0].Scheme != "spiffe" {
			return p, errStranger
		}
		part := strings.Split(leaf.URIs[0].Path, "/")
		if len(part) != 6 || part[1] != "ns" || part[3] != "pod" || part[2] == "" || part[4] == "" || part[5] == "" {
			return p, errStranger
		}
		return Pod{Namespace: part[2], Name: part[4], UID: part[5]}, nil
	}
}

func authorities(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the authority of agents' certificates: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, errors.New("read the authority of agents' certificates: the file has none")
	}
	return roots, nil
}

// CheckAuthority says what is wrong with a file of authorities.
func CheckAuthority(file string) error {
	_, err := authorities(file)
	return err
}

// AskForCertificates has a server ask who connects; none is refused for having none.
func AskForCertificates(c *tls.Config) { c.ClientAuth = tls.RequestClientCert }
