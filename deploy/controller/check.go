package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"time"
)

// check asks a webhook as the API server does, which resolves no name: any answer over a certificate of that authority for that name
// will do.
func check(ctx context.Context, url, name, authority string) error {
	text, err := os.ReadFile(authority)
	if err != nil {
		return fmt.Errorf("read --check-authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return fmt.Errorf("read --check-authority: %s has no certificate", authority)
	}
	ctx, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("read --check: %w", err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: name}}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}
