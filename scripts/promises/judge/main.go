// Judge reads the log of one agent from its standard input, with the agent's arguments as its own, and prints the promises that it shows
// to be broken: kubectl logs POD -c drain-agent | go run ./scripts/promises/judge -- --grace-period=60s --hooks=app,proxy,agent
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/drain-agent/drain-agent/scripts/promises/fromlog"
)

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	pod, err := fromlog.Pod(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	broken := fromlog.Broken(pod, string(text))
	for _, why := range broken {
		fmt.Println(why)
	}
	if len(broken) > 0 {
		os.Exit(1)
	}
}
