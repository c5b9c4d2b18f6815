# shellcheck shell=bash
# external.sh: CLUSTER=external, a cluster that somebody else started. Sourced by `cluster`.

external_check() { command -v kubectl >/dev/null || die "CLUSTER=external needs kubectl on PATH"; }
external_env() { :; }
external_status() { kubectl get nodes -o wide; }
external_up() { kubectl get --raw /readyz >/dev/null || die "the current kubeconfig's cluster does not answer; is KUBECONFIG right?"; }
external_down() { say "CLUSTER=external: the cluster is not ours, left as it is"; }

external_load() { # ARCHIVE...
  local archive context
  context=$(kubectl config current-context)
  for archive in "$@"; do
    if [[ -n ${CLUSTER_LOAD:-} ]]; then "$CLUSTER_LOAD" "$archive"
    elif [[ $context == kind-* ]]; then kind load image-archive "$archive" --name "${context#kind-}"
    elif [[ $context == minikube ]]; then minikube image load "$archive"
    else die "cannot load $archive into context '$context': set CLUSTER_LOAD to a command that takes an archive"; fi
  done
}
