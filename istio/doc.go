// Package istio holds the mesh resources of the payment service. Its tests compare each file with Istio's own types and schemas.
package istio

import "embed"

// Files are the resources that scripts/retry-under-fault translates for a real Envoy, the article's form of a fault among them.
//
//go:embed *.yaml testdata/*.yaml
var Files embed.FS
