package admission

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// Beside reads what stands beside a pod and tells something of it, as drainctl reads it from files.
type Beside struct {
	Cached     client.Reader // Namespaces, Services, Ingresses
	ConfigMaps client.Reader // asked for each of a pod's ConfigMaps; nil: none is read
	Mesh       string        // namespace of Istio's configuration; "": not read
}

// Namespace returns a namespace as an object; its labels and annotations have defaults for all pods in it.
func (b *Beside) Namespace(ctx context.Context, name string) (*manifest.Object, error) {
	var ns corev1.Namespace
	if err := b.Cached.Get(ctx, client.ObjectKey{Name: name}, &ns); err != nil {
		return nil, fmt.Errorf("read namespace %s: %w", name, err)
	}
	return object(&ns, "v1", "Namespace")
}

// Of returns the Services that select a pod, the Ingresses of its namespace where there are such Services, and the ConfigMaps that
// it mounts, with Istio's own.
func (b *Beside) Of(ctx context.Context, namespace string, pod *corev1.PodTemplateSpec) ([]*manifest.Object, error) {
	var all []*manifest.Object
	add := func(o client.Object, apiVersion, kind string) error {
		one, err := object(o, apiVersion, kind)
		all = append(all, one)
		return err
	}
	var services corev1.ServiceList
	if err := b.Cached.List(ctx, &services, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("list services of %s: %w", namespace, err)
	}
	for i := range services.Items {
		s := &services.Items[i]
		if len(s.Spec.Selector) == 0 || !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(pod.Labels)) {
			continue
		}
		if err := add(s, "v1", "Service"); err != nil {
			return nil, err
		}
	}
	if len(all) > 0 {
		var ingresses networkingv1.IngressList
		if err := b.Cached.List(ctx, &ingresses, client.InNamespace(namespace)); err != nil {
			return nil, fmt.Errorf("list ingresses of %s: %w", namespace, err)
		}
		for i := range ingresses.Items {
			if err := add(&ingresses.Items[i], "networking.k8s.io/v1", "Ingress"); err != nil {
				return nil, err
			}
		}
	}
	for _, key := range b.configMaps(namespace, pod) {
		var m corev1.ConfigMap
		switch err := b.ConfigMaps.Get(ctx, key, &m); {
		case apierrors.IsNotFound(err), apierrors.IsForbidden(err): // made later, or not ours to read: then it tells nothing
			continue
		case err != nil:
			return nil, fmt.Errorf("read ConfigMap %s: %w", key, err)
		}
		if err := add(&m, "v1", "ConfigMap"); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// configMaps are those that may hold Envoy's configuration, and the mesh's.
func (b *Beside) configMaps(namespace string, pod *corev1.PodTemplateSpec) (keys []client.ObjectKey) {
	if b.ConfigMaps == nil {
		return nil
	}
	add := func(name string) {
		if key := (client.ObjectKey{Namespace: namespace, Name: name}); name != "" && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	for _, v := range pod.Spec.Volumes {
		if v.ConfigMap != nil {
			add(v.ConfigMap.Name)
		}
		if v.Projected == nil {
			continue
		}
		for _, source := range v.Projected.Sources {
			if source.ConfigMap != nil {
				add(source.ConfigMap.Name)
			}
		}
	}
	if b.Mesh != "" && slices.ContainsFunc(slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers), func(c corev1.Container) bool { return c.Name == "istio-proxy" }) {
		keys = append(keys, client.ObjectKey{Namespace: b.Mesh, Name: "istio"})
	}
	return keys
}

func object(o client.Object, apiVersion, kind string) (*manifest.Object, error) {
	value, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, fmt.Errorf("read %s %s: %w", kind, o.GetName(), err)
	}
	value["apiVersion"], value["kind"] = apiVersion, kind
	return manifest.FromValue(value), nil
}
