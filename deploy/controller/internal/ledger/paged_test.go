package ledger

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
)

// All pods come, each once and stripped, whatever the reflector asked for; of pods that are whole there is never more than one page.
func TestPodsAreListedInPages(t *testing.T) {
	const pods = 2*page + 7
	asked := 0
	list := toolscache.ListWatch{ListWithContextFunc: func(_ context.Context, o metav1.ListOptions) (runtime.Object, error) {
		asked++
		if o.Limit != page || o.ResourceVersion != "" || o.ResourceVersionMatch != "" {
			return nil, fmt.Errorf("asked for %+v", o)
		}
		from, _ := strconv.Atoi(o.Continue) // "" is the first
		answer := &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "42"}}
		for i := from; i < min(from+page, pods); i++ {
			answer.Items = append(answer.Items, *running(strconv.Itoa(i)))
		}
		if from+page < pods {
			answer.Continue = strconv.Itoa(from + page)
		}
		return answer, nil
	}}
	got, err := paged{&list}.List(metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		t.Fatal(err)
	}
	all := got.(*corev1.PodList)
	names := map[string]bool{}
	for i := range all.Items {
		names[all.Items[i].Name] = true
		if !hasAgent(&all.Items[i]) || len(all.Items[i].Spec.Containers) > 0 {
			t.Fatalf("not stripped: %+v", all.Items[i])
		}
	}
	if len(all.Items) != pods || len(names) != pods || asked != 3 || all.ResourceVersion != "42" || all.Continue != "" {
		t.Errorf("%d pods, %d names in %d answers of version %s", len(all.Items), len(names), asked, all.ResourceVersion)
	}
}
