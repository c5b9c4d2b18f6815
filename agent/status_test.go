package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/drain-agent/drain-agent/agent/internal/conductor"
	"github.com/drain-agent/drain-agent/agent/internal/server"
)

// One reply of /status on the port holds 64 events at most; what was before is on the next page, to the first.
func TestStatusIsPaged(t *testing.T) {
	addr, socket := startAgent(t)
	page := func(query string) (seqs []int) {
		reply, err := http.Get("http://" + addr + "/status" + query)
		if err != nil {
			t.Fatal(err)
		}
		defer reply.Body.Close()
		var st conductor.Status
		text, err := io.ReadAll(reply.Body)
		if err != nil || json.Unmarshal(text, &st) != nil {
			t.Fatalf("%v %s", err, text)
		}
		for _, e := range st.Events {
			seqs = append(seqs, e.Seq)
		}
		return seqs
	}
	operator := server.NewClient(socket)
	for newest := []int{0}; newest[len(newest)-1] < 150; newest = page("") {
		for _, way := range [][2]string{{"drain", "serving"}, {"undrain", "maintenance"}} {
			phase(t, addr, way[1])
			if _, err := operator.Operate(t.Context(), way[0], "again"); err != nil {
				t.Fatal(err)
			}
		}
		phase(t, addr, "serving")
	}
	var all []int
	for query := ""; ; {
		one := page(query)
		if len(one) == 0 {
			break
		}
		if len(one) > 64 || !slices.IsSorted(one) {
			t.Fatalf("%s has %d events: %v", query, len(one), one)
		}
		if len(all) > 0 && one[len(one)-1] >= all[0] {
			t.Fatalf("%s has %v, what came before %d was asked for", query, one, all[0])
		}
		all = append(one, all...)
		query = fmt.Sprintf("?before=%d", one[0])
	}
	for i, seq := range all {
		if seq != all[0]+i {
			t.Fatalf("events are missing or twice: %v", all)
		}
	}
	if len(all) < 150 || all[0] != 1 {
		t.Errorf("%d events from %d on", len(all), all[0])
	}
	if reply, err := http.Get("http://" + addr + "/status?before=soon"); err != nil || reply.Body.Close() != nil || reply.StatusCode != http.StatusBadRequest {
		t.Errorf("before=soon: %v, %v", reply, err)
	}
}
