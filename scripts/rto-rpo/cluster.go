package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

type cluster struct {
	kubectl   []string
	namespace string
}

// onCluster makes the namespace, the deployment and the service where they are missing. They stay afterwards.
func onCluster(ctx context.Context, s settings) (place, error) {
	c := &cluster{strings.Fields(s.kubectl), s.namespace}
	if _, err := c.run(ctx, "", "get", "namespace", s.namespace); err != nil {
		if _, err := c.run(ctx, "", "create", "namespace", s.namespace); err != nil {
			return nil, err
		}
	}
	_, err := c.run(ctx, "", "apply", "-f", "scripts/rto-rpo/manifests")
	return c, err
}

func (c *cluster) close() {}

func (c *cluster) scale(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	if _, err := c.run(ctx, "", "scale", "deployment/payment-service", fmt.Sprintf("--replicas=%d", n)); err != nil {
		return err
	}
	if n == 0 {
		_, err := c.run(ctx, "", "wait", "--for=delete", "pod", "-l", "app=payment-service", "--timeout=300s")
		return err
	}
	_, err := c.run(ctx, "", "rollout", "status", "deployment/payment-service", "--timeout=3600s")
	return err
}

// call goes through the API server, so that no pod network is needed here.
func (c *cluster) call(ctx context.Context, path, body string) ([]byte, error) {
	url := fmt.Sprintf("/api/v1/namespaces/%s/services/payment-service:8080/proxy%s", c.namespace, path)
	if body == "" {
		return c.run(ctx, "", "get", "--raw", url)
	}
	return c.run(ctx, body, "create", "--raw", url, "-f", "-")
}

func (c *cluster) run(ctx context.Context, input string, args ...string) ([]byte, error) {
	all := append(append([]string{}, c.kubectl...), append([]string{"--namespace", c.namespace}, args...)...)
	cmd := exec.CommandContext(ctx, all[0], all[1:]...)
	cmd.Stdin = strings.NewReader(input)
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("kubectl %s: %w: %s", args[0], err, strings.TrimSpace(problem.String()))
	}
	return out.Bytes(), nil
}
