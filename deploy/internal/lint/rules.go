package lint

import "slices"

// Rules returns the table of everything that lint knows; the documentation is written from it.
func Rules() []Rule {
	return slices.Concat(startRules(), stopRules(), hookRules(), probeRules(), meshRules(), availabilityRules(), silenceRules())
}

func startRules() []Rule {
	return []Rule{
		{"agent-arguments", Error, "The agent exits 1 on a flag that it does not know and on a value that it cannot read: no new pod gets past it. A variable that no flag has is passed over.", "Write flags as docs/reference/flags.md has them, durations as 1500ms or 30s, stop shares as NAME=5s.", pods(agentArguments)},
		{"agent-annotation", Warning, "An annotation drain-agent.io/… that nobody knows, or whose value cannot be read, changes nothing: drain-controller goes on without it.", "Write it as docs/reference/annotations.md has it.", agentAnnotation},
		{"agent-image", Advice, "For a tag latest, or none, kubelet asks the registry at every start; where it cannot, the agent does not start: as a native sidecar it holds back the whole pod, as a regular container the pod is not ready.", "Name a version or a digest, in a registry that every node reaches.", pods(agentImage)},
		{"waits-for-later", Error, "Kubelet starts a container of the init order once the ones before it have started: the pod stays in Init for ever.", "Give the agent GET /startupz, and the proxy behind it GET /startupz/proxy.", pods(waitsForLater)},
		{"strategy-takes-all", Warning, "Serving pods go before a new one is ready: until then nobody serves, and where the new one cannot start nobody ever does.", "Write rollingUpdate: {maxSurge: 1, maxUnavailable: 0}.", pods(strategyTakesAll)},
		{"shell-is-process-one", Warning, "Process 1 ignores a SIGTERM that it has no handler for, and a shell passes nothing on: the program never hears of the stop and is killed when the grace period ends.", "Begin the last command of the script with exec, or start the program without a shell.", each(shellIsProcessOne)},
	}
}

func stopRules() []Rule {
	return []Rule{
		{"budget-over-grace", Error, "The phases of one drain do not fit into the grace period even with nothing in flight: stop shares shrink and requests are cut.", "Raise terminationGracePeriodSeconds and --grace-period, or lower the shares; drainctl budget draws them.", pods(budgetOverGrace)},
		{"grace-mismatch", Error, "The agent cannot see the pod's grace period: with a wrong one it answers the hooks too early or too late.", "Give --grace-period the value of terminationGracePeriodSeconds.", pods(graceMismatch)},
		{"grace-default", Advice, "Nobody has calculated how long the stop takes: after 30 s everything still running is killed.", "Set terminationGracePeriodSeconds to preStop delay + the app's own shutdown + buffer; drainctl budget calculates it.", pods(graceDefault)},
		{"request-over-grace", Error, "A request or stream that began just before the stop outlasts it: it is cut in each rollout.", "Raise terminationGracePeriodSeconds (drainctl inject does), or let the app end its streams when it is told: --app-drain-url.", pods(requestOverGrace)},
		{"stop-over-grace", Error, "A stop that was recorded (--from) took longer, with what the agent keeps free for its stages and its margin, than the pod may: what is as long the next time is cut.", "Raise terminationGracePeriodSeconds; drainctl advise says by how much, or let the app end its streams when it is told: --app-drain-url.", stopOverGrace},
		{"sleep-over-grace", Error, "The sleep uses up the whole grace period: SIGTERM comes with two seconds left, then SIGKILL.", "Shorten the sleep, or raise terminationGracePeriodSeconds by the app's own shutdown time.", each(sleepOverGrace)},
		{"sleep-leaves-little", Warning, "What the app does at SIGTERM, from closing connections to writing down its work, has less than five seconds; then it is killed.", "Shorten the sleep, or raise terminationGracePeriodSeconds by the app's own shutdown time.", each(sleepLeavesLittle)},
		{"grace-zero", Error, "The pod is killed at once: no hook runs, no request is finished, nothing is written down.", "Remove the line (30 s are the default), or set what the stop takes.", pods(graceZero)},
		{"deregistration-over-grace", Error, "The load balancer goes on sending new connections after the pod is gone.", "Raise the grace period above the balancer's time and tell the agent (--preset).", pods(deregistrationOverGrace)},
		{"long-stop", Advice, "Stops beyond 90 to 120 s outlive spot-instance notices and node drains, and block rollouts.", "Checkpoint the work and resume it in another pod; keep the grace period at 120 s or less.", pods(longStops)},
		{"proxy-races-app", Error, "App and proxy start and stop side by side: the app's first calls are refused, its last ones too.", "Make the proxy a native sidecar, or run drainctl inject.", pods(proxyRacesApp)},
		{"sidecar-order", Error, "Kubelet stops sidecars in reverse order: proxy and agent wait for each other until the deadline.", "Put drain-agent before the proxy in initContainers, or say --outlives-me=proxy.", pods(sidecarOrder)},
		{"stop-order", Error, "Kubelet sends a native sidecar's SIGTERM only after the regular containers have ended, and in reverse init order: the stop order asked for cannot happen.", "Let --stop-order follow the order of the containers, or move them.", pods(stopOrder)},
		{"job-never-ends", Error, "The pod runs for as long as one regular container does, and proxies do not end by themselves.", "Make proxy and agent native sidecars, or say --exit-with=app.", pods(jobNeverEnds)},
		{"publish-not-ready", Warning, "With publishNotReadyAddresses the endpoint of a stopping pod stays in service, so new requests come to the end.", "Use it for headless Services of peers only.", kind("Service", publishNotReady)},
	}
}

func hookRules() []Rule {
	return []Rule{
		{"no-prestop", Warning, "SIGTERM comes before load balancers know of the stop: requests already on their way are refused.", "Add a preStop hook; drainctl inject adds one that ends when the traffic has ended.", pods(noPrestop)},
		{"hook-missing", Error, "A container without its hook is not held, and with one hook alone a pod stop looks like a container restart.", "Give every regular container and the proxy the hook GET :9909/prestop/NAME, and list them in --hooks.", pods(hookMissing)},
		{"hook-to-admin", Error, "Kubelet's hooks are GET requests, Envoy's admin wants POST: nothing happens, and nobody is told.", "Let drain-agent drain Envoy, or POST from an exec hook.", hooks(hookToAdmin)},
		{"hook-port-name", Error, "Kubelet looks the name up among the same container's ports: the hook fails and SIGTERM comes at once.", "Write the port as a number.", hooks(hookPortName)},
		{"hook-host", Error, "Kubelet calls hooks from the node: loopback is the node's own.", "Leave host out: the pod's IP is the default.", hooks(hookHost)},
		{"host-network", Error, "For pods with hostNetwork kubelet has no pod IP to call: the hook fails and SIGTERM comes at once.", "Set host: 127.0.0.1 in the hook.", hooks(hostNetwork)},
		{"port-clash", Error, "Two listeners want the agent's port: one of them does not start.", "Move the other listener, or the agent (drainctl inject --port); do not use hostPort.", each(portClash)},
		{"node-port-clash", Error, "Pods in the host's network share the ports of a node: the scheduler puts only one of them there.", "Give each workload in the host's network a port of its own: drainctl inject --port, or the annotation drain-agent.io/port.", pods(nodePortClash)},
		{"long-streams", Advice, "WebSockets and streams end when somebody ends them: without word from the app each stop waits for them until the grace period is used up, and then cuts them.", "Let the app close them when it is told to, and say where: --app-drain-url=http://127.0.0.1:PORT/PATH.", pods(longStreams)},
	}
}

func probeRules() []Rule {
	return []Rule{
		{"no-startup-probe", Advice, "Liveness counts from the first second: an app that starts slowly once is killed, for ever.", "Add a startupProbe whose failureThreshold times periodSeconds covers the slowest start.", each(noStartupProbe)},
		{"liveness-before-start", Warning, "The container is killed within 15 s of its start unless it answers by then: on a busy node, or with a cold cache, it never gets further.", "Add a startupProbe whose failureThreshold times periodSeconds covers the slowest start.", each(livenessBeforeStart)},
		{"no-readiness-probe", Warning, "Traffic comes as soon as the process runs.", "Add a readinessProbe that asks whether requests can be answered.", pods(noReadinessProbe)},
		{"liveness-is-readiness", Warning, "What should only take the pod out of service restarts it: one slow dependency restarts every replica.", "Let liveness ask only whether the process answers.", each(livenessIsReadiness)},
		{"liveness-fails-in-shutdown", Warning, "Readiness turns false by design while a dependency is away, and in a native sidecar while the pod stops; asked by liveness, it kills the container.", "Ask something that is true until the process ends.", each(livenessFailsInShutdown)},
		{"probe-through-proxy", Warning, "Probes through the proxy count as requests, so it never falls silent and every drain waits longer than it must.", "Probe the app's own port, or tell the agent their rate with --background.", pods(probeThroughProxy)},
	}
}

func meshRules() []Rule {
	return []Rule{
		{"istio-annotation", Warning, "Istio ignores annotations that it does not know: the setting is not in effect.", "Write the setting where Istio reads it; holdApplicationUntilProxyStarts stands in proxy.istio.io/config.", pods(istioAnnotation)},
		{"istio-field", Error, "The field is not in Istio's schema: the API server refuses it, or drops it.", "Circuit breaking is outlierDetection; retries stand in VirtualService.http[].retries.", istioField},
		{"hold-lost", Error, "The app starts before the proxy answers: holdApplicationUntilProxyStarts is a postStart hook of istio-proxy, and a postStart of one's own takes its place.", "Run pilot-agent wait in it too, or use native sidecars.", pods(holdLost)},
		{"exit-on-zero", Warning, "Clients keep connections open, scrapes count, outbound ones count: the proxy stays until the grace period ends; native sidecars ignore the setting.", "Count requests instead: drainctl inject.", pods(exitOnZero)},
		{"drain-over-grace", Error, "The proxy is killed in the middle of its own drain, with the requests in it.", "Make it shorter than terminationGracePeriodSeconds, or raise that.", pods(drainOverGrace)},
		{"proxy-drain-short", Warning, "Envoy's own drain is over before the agent's: it refuses new connections and closes idle ones, and from 1.41 on ends streams after two thirds of it.", "Raise --drain-time-s (in Istio drainDuration), or leave it out: 600 s are Envoy's default.", pods(proxyDrainShort)},
		{"strict-mtls-hook", Error, "Kubelet has no certificate of the mesh, and with rewriteAppHTTPProbers off nothing answers in its place: a hook that is refused lets SIGTERM come at once, a probe that is refused fails.", "Leave rewriting on, or name the port in traffic.sidecar.istio.io/excludeInboundPorts or in a PERMISSIVE portLevelMtls.", kind("PeerAuthentication", strictMTLS)},
		{"uid-1337", Error, "Istio does not redirect the traffic of user and group 1337: the container bypasses the proxy, and its drain.", "Run it as another user.", each(uid1337)},
	}
}

func availabilityRules() []Rule {
	return []Rule{
		{"no-resources", Advice, "Without requests the container is first to be starved or evicted, in the middle of a drain.", "Set requests for cpu and memory and a limit for memory.", each(noResources)},
		{"single-replica", Advice, "While the only pod stops or starts nobody serves.", "Run two replicas or more.", pods(singleReplica)},
		{"no-spread", Advice, "One node that goes takes every replica with it.", "Add podAntiAffinity or topologySpreadConstraints on kubernetes.io/hostname.", pods(noSpread)},
		{"no-disruption-budget", Advice, "A node drain may evict every replica at once.", "Add a PodDisruptionBudget with maxUnavailable: 1.", pods(noBudget)},
		{"blocking-disruption-budget", Error, "No pod may ever be evicted: node drains hang.", "Allow one: maxUnavailable: 1.", kind("PodDisruptionBudget", budgetBlocks)},
	}
}

func silenceRules() []Rule {
	return []Rule{
		{"silence", Error, "A silence without a reason hides a fault from the next person, and one for a rule that does not exist hides nothing.", "Write lint.drain-agent.io/RULE: why it does not matter here.", silenceIsExplained},
	}
}
