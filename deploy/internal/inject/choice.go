package inject

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
	"github.com/drain-agent/drain-agent/deploy/internal/roles"
)

// Choice says which workloads are looked at. The zero value is all.
type Choice struct {
	Selector string   // of labels, as kubectl takes it; of the workload or of its pods
	Skip     []string // NAME, KIND/NAME or NAMESPACE/KIND/NAME; * and ? stand for any
}

// Validate names everything that cannot be read.
func (c *Choice) Validate() error {
	var errs []error
	if _, err := labels.Parse(c.Selector); err != nil {
		errs = append(errs, fmt.Errorf("--selector=%s: %w", c.Selector, err))
	}
	for _, pattern := range c.Skip {
		if _, err := path.Match(pattern, ""); err != nil || strings.Count(pattern, "/") > 2 {
			errs = append(errs, fmt.Errorf("--skip=%s: write NAME, KIND/NAME or NAMESPACE/KIND/NAME; * stands for any text", pattern))
		}
	}
	return errors.Join(errs...)
}

// leaves says why an object is left alone by choice; "" where it is not.
func (c *Choice) leaves(o *manifest.Object, objects []*manifest.Object) string {
	for _, pattern := range c.Skip {
		full := []string{o.Namespace, o.Kind, o.Name}
		if n := strings.Count(pattern, "/"); n <= 2 {
			if matched, _ := path.Match(strings.ToLower(pattern), strings.ToLower(strings.Join(full[2-n:], "/"))); matched {
				return "--skip=" + pattern
			}
		}
	}
	podAnnotations, podLabels := map[string]string{}, map[string]string{}
	if o.Workload != nil {
		podAnnotations, podLabels = o.Workload.Pod.Annotations, o.Workload.Pod.Labels
	}
	for _, said := range []struct {
		where  string
		values map[string]string
	}{{"its annotation", o.Annotations}, {"its label", o.Labels}, {"the annotation of its pods", podAnnotations}, {"the label of its pods", podLabels}} {
		if value := said.values[roles.InjectAnnotation]; value == "false" || value == "disabled" {
			return said.where + " " + roles.InjectAnnotation + ": " + value
		}
	}
	for _, one := range objects {
		if one.Kind == "Namespace" && one.Name == o.Namespace && one.Annotations[roles.InjectAnnotation] == "false" && podAnnotations[roles.InjectAnnotation] != "true" {
			return "its namespace's annotation " + roles.InjectAnnotation + ": false"
		}
	}
	if selector, err := labels.Parse(c.Selector); err == nil && !selector.Matches(labels.Set(o.Labels)) && !selector.Matches(labels.Set(podLabels)) {
		return "--selector=" + c.Selector + " does not select it"
	}
	return ""
}
