// Package timeline is the log of a drain: its lines, how they are kept, written, read back and drawn.
package timeline
