{{/* berth.weight: percent of requests that a slot serves; the two sum to 100. Give root and slot. */}}
{{- define "berth.weight" -}}
{{- $weight := int .root.Values.canary.weight -}}
{{- eq .slot .root.Values.activeSlot | ternary (sub 100 $weight) $weight -}}
{{- end -}}
