package ledger

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// What a pod's owner may write is taken by every database: a row that is refused would be tried for ever.
func testInventedTexts(t *testing.T, open func(Limits) Store) {
	s := open(bounded)
	pod := &corev1.Pod{}
	nasty := "a\x00b\xff\xfe\u202e'\n"
	pod.OwnerReferences = []metav1.OwnerReference{{Kind: nasty, Name: nasty, APIVersion: nasty, UID: types.UID(nasty)}}
	w, _ := (&owners{}).of(t.Context(), pod)
	message := `{"msg":"verdict","outcome":"clean","time":"9999-12-31T23:59:59Z","reason":"\u0000` + nasty[3:5] + `","cut":{"\u0000":1},"x` + nasty[3:5] + `":1}`
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: message, Reason: nasty, FinishedAt: metav1.Time{Time: noon}}}}}
	known := Pod{UID: "u", Namespace: "shop", Name: "web", Workload: w}
	stop, _ := judge(pod, known, true)
	if stop == nil || !stop.EndedAt.Equal(noon) {
		t.Fatalf("row %+v", stop)
	}
	if n := add(t, s, stop); n != 1 {
		t.Errorf("%d rows", n)
	}
	known.UID = "v"
	if err := s.Gone(t.Context(), known, whyLost(pod, known), noon); err != nil {
		t.Error(err)
	}
	if all, err := s.Lost(t.Context(), noon); err != nil || add(t, s, all...) != 1 {
		t.Errorf("%v", err)
	}
	if got := ids(t, s, Query{Limit: 10}); !slices.Equal(got, []string{"v", "u"}) {
		t.Errorf("rows %v", got)
	}
}
