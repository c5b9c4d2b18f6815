package synced

import (
	"context"
	"fmt"
	"time"
)

// Until asks every 20 ms until the answer is yes. When ctx ends first, its error says what was waited for.
func Until(ctx context.Context, what string, holds func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
	return nil
}
