package e2e

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/scripts/load/openloop"
)

// met is a table that meets the target.
func met() []Row {
	return []Row{
		{Native, Sleep15, 43_000, 7000, []float64{16_000}, []float64{24}},
		{Native, DrainAgent, 60_000, 0, []float64{0, 0}, []float64{15, 16, 17, 62}}, // one long stop does not make the median long
		{Classic, Sleep15, 30_000, 213, []float64{700}, []float64{16, 16}},
		{Classic, DrainAgent, 40_000, 0, []float64{0, 0}, []float64{14.9, 15.9}},
	}
}

func TestTheTablesTarget(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(rows []Row)
		want   []string // what each message holds
	}{
		{"met", func([]Row) {}, nil},
		{"one request failed", func(r []Row) { r[3].Failed = 1 }, []string{"1 of 100000 requests failed"}},
		{"too few requests", func(r []Row) { r[1].Requests-- }, []string{"0 of 99999 requests failed"}},
		{"native stops as long as sleep 15", func(r []Row) { r[0].Stops = []float64{16.5} }, []string{"native: the median stop takes 16.5 s"}},
		{"classic stops longer", func(r []Row) { r[3].Stops = []float64{15, 16, 17, 18} }, []string{"classic: the median stop takes 16.5 s"}},
		{"no sleep to compare with", func(r []Row) { r[2].Pod = Sleep5 }, []string{"classic: want rows", "0 of 60000"}},
		{"no agent", func(r []Row) { r[1].Pod = Nothing }, []string{"native: want rows", "0 of 40000"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			rows := met()
			row.change(rows)
			got := Missed(rows)
			if len(got) != len(row.want) {
				t.Fatalf("missed %q, want %q", got, row.want)
			}
			for i, want := range row.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("missed %q, want %q", got[i], want)
				}
			}
		})
	}
}

func TestFailuresOfEachRollout(t *testing.T) {
	got := failedPer([]openloop.Snapshot{{Sent: 2500, Failed: 5}, {Sent: 12_500, Failed: 15}, {Sent: 17_500, Failed: 15}})
	if want := []float64{100, 0}; !slices.Equal(got, want) {
		t.Errorf("%v of 100,000 failed, want %v", got, want)
	}
}

func TestRowForPeople(t *testing.T) {
	r := Row{Classic, Sleep5, 20_000, 300, []float64{1900, 0, 1000.4, 1300, 1200}, []float64{6.2, 5.9, 6, 6.1}}
	const want = "| classic | sleep 5 | 5 | 20000 | 300 | 1200 | 5.9 / 6.0 / 6.2 |"
	if got := r.String(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestParseRows(t *testing.T) {
	rows := met()
	lines := []string{"=== RUN   TestRolloutTable/native_sleep_15"}
	for _, r := range rows {
		lines = append(lines, "    rollout_test.go:250: "+r.String(), "        "+r.Line()) // as t.Logf prints two lines
	}
	printed := strings.Join(lines, "\n") + "\n"
	for _, row := range []struct {
		name, printed string
		want          []Row
		problem       string
	}{
		{"all", printed + "--- PASS: TestRolloutTable (2400.00s)\n", rows, ""},
		{"none", "--- FAIL: TestRolloutTable (1.00s)\n", nil, "no rows"},
		{"one is broken off", printed + mark + `{"shape":"nat` + "\n", rows, `read the row "{\"shape\":\"nat"`},
		{"one without samples", printed + Row{Shape: Native, Pod: Nothing, FailedPer: []float64{1}}.Line(), rows, "no samples"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := ParseRows(row.printed)
			if !reflect.DeepEqual(got, row.want) {
				t.Errorf("rows %v, want %v", got, row.want)
			}
			if (err != nil) != (row.problem != "") || err != nil && !strings.Contains(err.Error(), row.problem) {
				t.Errorf("error %v, want %q", err, row.problem)
			}
		})
	}
}
