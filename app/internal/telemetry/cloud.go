package telemetry

import (
	"cmp"
	"io/fs"
	"strings"

	"go.opentelemetry.io/otel/attribute"
)

// Cloud returns resource attributes that say where the process runs. provider is the value of CLOUD_PROVIDER: "" for
// none, "auto-detect" to look at what the machine says of itself, anything else is taken as it is. Only the given
// environment and file system (/) are read; a metadata server is never asked, it may take seconds not to answer.
func Cloud(provider string, getenv func(string) string, root fs.FS) []attribute.KeyValue {
	if provider == "auto-detect" {
		provider = detect(getenv, root)
	}
	if provider == "" {
		return nil
	}
	attrs := []attribute.KeyValue{attribute.String("cloud.provider", provider)}
	region := cmp.Or(getenv("CLOUD_REGION"), getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION"), getenv("GOOGLE_CLOUD_REGION"))
	if region != "" {
		attrs = append(attrs, attribute.String("cloud.region", region))
	}
	return attrs
}

// detect knows the clouds by the firmware's vendor strings, and by variables their platforms set.
func detect(getenv func(string) string, root fs.FS) string {
	var firmware strings.Builder
	for _, name := range []string{"sys_vendor", "product_name", "chassis_asset_tag", "bios_vendor"} {
		if text, err := fs.ReadFile(root, "sys/class/dmi/id/"+name); err == nil {
			firmware.Write(text)
		}
	}
	is := func(mark string) bool { return strings.Contains(firmware.String(), mark) }
	switch {
	case is("Amazon EC2"), getenv("AWS_EXECUTION_ENV") != "", getenv("AWS_REGION") != "":
		return "aws"
	case is("Google"), getenv("GOOGLE_CLOUD_PROJECT") != "":
		return "gcp"
	case is("7783-7084-3265-9085-8269-3286-77"), getenv("AZURE_CLIENT_ID") != "": // the asset tag of every Azure machine
		return "azure"
	default:
		return ""
	}
}
