{{/* berth.fullname: what every object's name starts with; at most 63 characters. */}}
{{- define "berth.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- .Values.fullnameOverride | default $full | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* berth.name: the name of one object, cut so that the suffix always fits. Give root, suffix and, below 63, max. */}}
{{- define "berth.name" -}}
{{- $room := sub (.max | default 63) (len .suffix | add1) | int -}}
{{- printf "%s-%s" (include "berth.fullname" .root | trunc $room | trimSuffix "-") .suffix -}}
{{- end -}}

{{/* berth.host: an object's name inside the cluster. Give root and name. */}}
{{- define "berth.host" -}}
{{- printf "%s.%s.svc" .name .root.Release.Namespace -}}
{{- end -}}

{{/* berth.labels: Kubernetes' six recommended labels and the user's, for objects, never for pods. Give root and component. */}}
{{- define "berth.labels" -}}
{{- $ours := dict
  "app.kubernetes.io/name" .root.Chart.Name
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "app.kubernetes.io/component" .component
  "app.kubernetes.io/part-of" "berth"
  "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- with .slot }}{{ $_ := set $ours "berth.dev/slot" . }}{{ end -}}
{{- toYaml (merge $ours (include "berth.present" .root.Values.commonLabels | fromYaml)) -}}
{{- end -}}

{{/* berth.release: the two labels that all pods of this release carry. */}}
{{- define "berth.release" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* berth.selector: the three labels that choose a slot's pods; frozen for ever. Give root and slot. */}}
{{- define "berth.selector" -}}
{{ include "berth.release" .root }}
berth.dev/slot: {{ .slot }}
{{- end -}}

{{/* berth.otherSlot: the slot that is not active. */}}
{{- define "berth.otherSlot" -}}
{{- eq .Values.activeSlot "blue" | ternary "green" "blue" -}}
{{- end -}}

{{/* berth.present: a map without its null entries. */}}
{{- define "berth.present" -}}
{{- $kept := dict -}}
{{- range $key, $value := . -}}
  {{- if not (kindIs "invalid" $value) }}{{ $_ := set $kept $key $value }}{{ end -}}
{{- end -}}
{{- toYaml $kept -}}
{{- end -}}
