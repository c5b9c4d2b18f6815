package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// figure is one measured quantity, for drain-agent and for what it is compared with.
type figure struct {
	Name string `json:"name"`
	Unit string `json:"unit"`
	Goal string `json:"goal"` // of the design, for drain-agent
	Rows []row  `json:"rows"`
}

type row struct {
	Who     string    `json:"who"`
	Samples []float64 `json:"samples"`
}

// cells returns medians and spread, a row each, below the names of the columns. What nobody measured has no row.
func cells(figures []figure) [][]string {
	all := [][]string{{"figure", "who", "median", "min … max", "n", "goal"}}
	for _, f := range figures {
		name, goal := f.Name+", "+f.Unit, f.Goal
		for _, r := range f.Rows {
			if len(r.Samples) == 0 {
				continue
			}
			s := slices.Sorted(slices.Values(r.Samples))
			all = append(all, []string{name, r.Who, short(median(s)), short(s[0]) + " … " + short(s[len(s)-1]), strconv.Itoa(len(s)), goal})
			name, goal = "", ""
		}
	}
	return all
}

// printFigures prints them for a terminal.
func printFigures(w io.Writer, figures []figure) {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, line := range cells(figures) {
		fmt.Fprintln(table, strings.Join(line, "\t"))
	}
	table.Flush()
}

// median returns the middle of sorted samples.
func median(sorted []float64) float64 {
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// short rounds to three digits.
func short(x float64) string {
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 3, 64), 64)
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}
