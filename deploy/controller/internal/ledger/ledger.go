package ledger

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Config says what to keep and for how long.
type Config struct {
	Store        string // memory, sqlite:PATH, postgres://…, file:PATH
	Limits       Limits
	UnknownAfter time.Duration // how long a verdict is waited for after its pod is gone
	ReportCA     string        // file with the authorities of agents' certificates; "": they report with tokens alone
}

// Ledger is the whole of it. Make it with New.
type Ledger struct {
	config  Config
	kube    *rest.Config
	client  client.Client // reads past the cache
	log     *slog.Logger
	teller  *teller
	mu      sync.Mutex
	store   Store
	desk    *desk // nil until the pods are known
	reports *reports
	live    live
	failed  atomic.Int64 // calls of the store
	unsaid  atomic.Int64 // Events
	watched atomic.Int64 // pods with an agent; -1 before the first list
}

// New prepares a ledger and registers its metrics. Nothing is opened before Run.
func New(kube *rest.Config, config Config, registry prometheus.Registerer, log *slog.Logger) (*Ledger, error) {
	c, err := client.New(kube, client.Options{})
	if err != nil {
		return nil, err
	}
	l := &Ledger{config: config, kube: kube, client: c, log: log, live: live{viewers: make(chan struct{}, liveViewers)}}
	l.watched.Store(-1)
	l.teller = newTeller(c, log, func() { l.unsaid.Add(1) })
	l.reports = newReports(bearer(c), l.report)
	if config.ReportCA != "" {
		l.reports.certified = certified(config.ReportCA)
	}
	return l, errors.Join(registry.Register(newMetrics(l)), registry.Register(l.reports.counted))
}

// opened is nil until the store answers.
func (l *Ledger) opened() Store {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.store
}

// Run keeps the ledger until ctx ends. It never gives up: what else the controller does must not depend on a database.
func (l *Ledger) Run(ctx context.Context) error {
	var store Store
	if err := l.retry(ctx, "open the store", func() (err error) {
		store, err = Open(ctx, l.config.Store, l.config.Limits)
		return err
	}); err != nil {
		return nil // we are told to end
	}
	defer store.Close()
	l.mu.Lock()
	l.store = store
	l.mu.Unlock()
	pods, err := cache.New(l.kube, cache.Options{
		ByObject: map[client.Object]cache.ByObject{&corev1.Pod{}: {Transform: strip}},
		NewInformer: func(lw toolscache.ListerWatcher, pod runtime.Object, resync time.Duration, by toolscache.Indexers) toolscache.SharedIndexInformer {
			return toolscache.NewSharedIndexInformer(paged{lw}, pod, resync, by)
		},
	})
	if err != nil {
		return err
	}
	informer, err := pods.GetInformer(ctx, &corev1.Pod{}, cache.BlockUntilSynced(false))
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	defer all.Wait()
	b := &book{
		store: store, owner: (&owners{reader: l.client}).of, tell: l.teller.tell, now: time.Now, retry: l.retry, age: l.config.Limits.Age,
		count: func(n int) { l.watched.Store(int64(n)) }, pods: map[types.UID]*entry{},
	}
	registration, err := informer.AddEventHandler(handler(ctx, b, l.log))
	if err != nil {
		return err
	}
	all.Go(func() {
		if err := pods.Start(ctx); err != nil {
			l.log.ErrorContext(ctx, "the watch of pods ended", "error", err.Error())
		}
	})
	there := func(p Pod) bool {
		var pod corev1.Pod
		return pods.Get(ctx, client.ObjectKey{Namespace: p.Namespace, Name: p.Name}, &pod) == nil && string(pod.UID) == p.UID && !over(&pod)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		return nil
	}
	l.watched.CompareAndSwap(-1, 0) // there is none
	l.mu.Lock()
	l.desk = &desk{pods: pods, owner: b.owner, store: store, tell: l.teller.tell, now: time.Now, ask: askAgent}
	l.mu.Unlock()
	if err := b.compare(ctx, there); err != nil {
		return nil // we are told to end: all else is tried again
	}
	l.sweep(ctx, store, there)
	return nil
}

// sweep settles what was lost, removes what is too old and sums up rollouts that are over, every few seconds.
func (l *Ledger) sweep(ctx context.Context, store Store, there func(Pod) bool) {
	tick := time.NewTicker(max(min(l.config.UnknownAfter/4, 5*time.Second), 100*time.Millisecond))
	defer tick.Stop()
	rolls := &rollouts{store: store, teller: l.teller, quiet: 2 * l.config.UnknownAfter, told: map[revisionKey]time.Time{}}
	for {
		if err := settle(ctx, store, time.Now().Add(-l.config.UnknownAfter), there, l.teller.tell); err != nil {
			l.wrong(ctx, "settle pods that are gone", err)
		}
		if err := store.Prune(ctx, time.Now()); err != nil {
			l.wrong(ctx, "remove old rows", err)
		}
		if err := rolls.tell(ctx, time.Now()); err != nil {
			l.wrong(ctx, "sum up rollouts", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// retry tries until it succeeds or ctx ends; then it returns ctx's error.
func (l *Ledger) retry(ctx context.Context, what string, do func() error) error {
	pause := 100 * time.Millisecond
	for {
		err := do()
		if err == nil {
			return nil
		}
		l.wrong(ctx, what, err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		pause = min(2*pause, 10*time.Second)
	}
}

func (l *Ledger) wrong(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	l.failed.Add(1)
	l.log.ErrorContext(ctx, "the ledger's store failed; it is tried again", "what", what, "error", err.Error())
}
