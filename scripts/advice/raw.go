package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
)

// experiment is all that was measured, with where and when.
type experiment struct {
	When    string `json:"when"`
	Machine string `json:"machine"`
	Load    string `json:"load"` // average of the last minute, when it was over
	Stops   []stop `json:"-"`    // a line for each
}

func (e *experiment) writeRaw(path string) error {
	var b bytes.Buffer
	packed := gzip.NewWriter(&b)
	lines := json.NewEncoder(packed)
	err := lines.Encode(e)
	for i := 0; i < len(e.Stops) && err == nil; i++ {
		err = lines.Encode(e.Stops[i])
	}
	if err == nil {
		err = packed.Close()
	}
	if err == nil {
		err = os.WriteFile(path, b.Bytes(), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the stops: %w", err)
	}
	return nil
}

func readRaw(path string) (e experiment, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read the stops in %s: %w", path, err)
		}
	}()
	packed, err := os.ReadFile(path)
	if err != nil {
		return e, err
	}
	text, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return e, err
	}
	lines := json.NewDecoder(bufio.NewReader(text))
	if err := lines.Decode(&e); err != nil {
		return e, err
	}
	for lines.More() {
		var s stop
		if err := lines.Decode(&s); err != nil {
			return e, err
		}
		e.Stops = append(e.Stops, s)
	}
	return e, nil
}
