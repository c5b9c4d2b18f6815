// Package neterr says of a failed request what is the same each time it fails so, that a log may tell it once.
package neterr

import (
	"errors"
	"net"
	"net/url"
)

// Plain returns an error of the HTTP client without what must not be shown or differs each time: the URL, which may hold a secret or
// a long filter, and our own port, which is another one for each connection.
func Plain(err error) error {
	if ofURL, ok := errors.AsType[*url.Error](err); ok {
		err = ofURL.Err
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Source != nil {
		plain := *op
		plain.Source = nil
		return &plain
	}
	return err
}
