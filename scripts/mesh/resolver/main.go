// Command resolver answers for the names of Services, as a cluster's DNS does; every other name does not exist.
package main

import (
	"fmt"
	"log"
	"net"
	"os"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
)

const (
	address = ":5353"
	zone    = ".svc.cluster.local."
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "resolver:", err)
		os.Exit(1)
	}
}

func run() error {
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	services := factory.Core().V1().Services()
	informer := services.Informer() // asked for before the start, or nothing would be watched
	forever := make(chan struct{})
	factory.Start(forever)
	factory.WaitForCacheSync(forever)
	log.Printf("%d services known", len(informer.GetStore().ListKeys()))
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, question *dns.Msg) {
		if err := w.WriteMsg(answer(question, services.Lister())); err != nil {
			log.Print(err)
		}
	})
	failed := make(chan error)
	for _, network := range []string{"udp", "tcp"} {
		server := &dns.Server{Addr: address, Net: network, Handler: handler}
		go func() { failed <- server.ListenAndServe() }()
	}
	return <-failed
}

// answer gives the A record of a Service, no records for its other types, and NXDOMAIN for what is no Service.
func answer(question *dns.Msg, services listers.ServiceLister) *dns.Msg {
	reply := new(dns.Msg).SetReply(question)
	reply.Authoritative = true
	if len(question.Question) != 1 {
		return reply.SetRcode(question, dns.RcodeFormatError)
	}
	asked := question.Question[0]
	address := lookup(strings.ToLower(asked.Name), services)
	if address == nil {
		return reply.SetRcode(question, dns.RcodeNameError)
	}
	if asked.Qtype == dns.TypeA {
		header := dns.RR_Header{Name: asked.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5}
		reply.Answer = append(reply.Answer, &dns.A{Hdr: header, A: address})
	}
	return reply
}

func lookup(name string, services listers.ServiceLister) net.IP {
	host, is := strings.CutSuffix(name, zone)
	service, namespace, two := strings.Cut(host, ".")
	if !is || !two || strings.Contains(namespace, ".") {
		return nil
	}
	found, err := services.Services(namespace).Get(service)
	if err != nil || found.Spec.ClusterIP == corev1.ClusterIPNone {
		return nil
	}
	return net.ParseIP(found.Spec.ClusterIP).To4()
}
