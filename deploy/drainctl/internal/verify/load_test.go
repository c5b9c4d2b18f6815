package verify

import (
	"strings"
	"testing"
	"time"
)

// What is wrong with a URL is said without it: its path may be a secret.
func TestARequestsProblemsHoldNoSecret(t *testing.T) {
	for _, url := range []string{"ftp://u:s3cr3t@h/s3cr3t?s3cr3t", "http://u:%s3cr3t@h/", "s3cr3t/s3cr3t", "http:///s3cr3t"} {
		r := Request{URL: url, Rate: 1, Timeout: time.Second}
		if err := r.validate(); err == nil || !strings.Contains(err.Error(), "--url") || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v", url, err)
		}
	}
}
