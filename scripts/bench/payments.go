package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
)

// What the payment service did before every call of its store was bounded, on two quiet cores.
var paymentsBefore = map[string]string{"sqlite": "888 before", "postgres": "1,047 before"}

var paymentRates = regexp.MustCompile(`(?m)^BenchmarkPayments/(\w+?)(?:-\d+)?\s.*?([\d.]+) payments/s\s+([\d.]+) payments/s-without-key`)

// payments is what the payment service books, with idempotency keys and without, every commit synced.
func (b *bench) payments(ctx context.Context) (all []figure, err error) {
	rows := map[string][]row{}
	for range b.runs {
		out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "Payments", "-benchtime", "5x", "./app/internal/store").CombinedOutput()
		found := paymentRates.FindAllStringSubmatch(string(out), -1)
		if err != nil || len(found) != len(paymentsBefore) {
			return nil, fmt.Errorf("run the benchmark of the store: %w\n%s", err, out)
		}
		for _, m := range found {
			if rows[m[1]] == nil {
				rows[m[1]] = []row{{Who: "with keys"}, {Who: "without"}}
			}
			for i := range rows[m[1]] {
				rate, err := strconv.ParseFloat(m[2+i], 64)
				if err != nil {
					return nil, err
				}
				rows[m[1]][i].Samples = append(rows[m[1]][i].Samples, rate)
			}
		}
	}
	for _, name := range []string{"sqlite", "postgres"} {
		all = append(all, figure{Name: "payments a second on " + name, Unit: "1/s", Goal: paymentsBefore[name], Rows: rows[name]})
	}
	return all, nil
}
