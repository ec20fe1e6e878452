{{/* berth.scalingMetrics: the HPA's metrics for a slot. Those of pods carry the slot's label, so that a query never mixes slots. */}}
{{- define "berth.scalingMetrics" -}}
{{- $metrics := list -}}
{{- $scaling := .autoscaling -}}
{{- range $resource, $percent := dict "cpu" $scaling.cpuUtilization "memory" $scaling.memoryUtilization -}}
  {{- if $percent -}}
    {{- $target := dict "type" "Utilization" "averageUtilization" (int64 $percent) -}}
    {{- $metrics = append $metrics (dict "type" "ContainerResource" "containerResource" (dict "name" $resource "container" "berth" "target" $target)) -}}
  {{- end -}}
{{- end -}}
{{- $aims := dict "berth_inflight" $scaling.inflight "berth_queue_depth" $scaling.queueDepth -}}
{{- range $metric, $aim := $aims -}}
  {{- if $aim }}{{ $metrics = append $metrics (include "berth.podsMetric" (dict "name" $metric "slot" $.name "value" (toJson $aim)) | fromYaml) }}{{ end -}}
{{- end -}}
{{- with $scaling.latencyMs -}}
  {{- $metrics = append $metrics (include "berth.podsMetric" (dict "name" $scaling.latencyMetric "slot" $.name "value" (printf "%sm" (toJson .))) | fromYaml) -}}
{{- end -}}
{{- toYaml (concat $metrics $scaling.metrics) -}}
{{- end -}}

{{/* berth.podsMetric: one metric of pods. Give name, slot and value. */}}
{{- define "berth.podsMetric" -}}
type: Pods
pods:
  metric: {name: {{ .name }}, selector: {matchLabels: {slot: {{ .slot }}}}}
  target: {type: AverageValue, averageValue: {{ .value | quote }}}
{{- end -}}

{{/* berth.kedaTriggers: the ScaledObject's triggers for a slot. Give root and slot. */}}
{{- define "berth.kedaTriggers" -}}
{{- $keda := .slot.keda -}}
{{- $pods := printf "namespace=%q,pod=~%q,slot=%q" .root.Release.Namespace (printf "%s-.*" (include "berth.name" (dict "root" .root "suffix" .slot.name))) .slot.name -}}
{{- $triggers := list -}}
{{- if $keda.inflight -}}
  {{- $triggers = append $triggers (dict "query" (printf "sum(berth_inflight{%s})" $pods) "threshold" (toJson $keda.inflight) "type" "AverageValue") -}}
{{- end -}}
{{- if $keda.queueDepth -}}
  {{- $triggers = append $triggers (dict "query" (printf "sum(berth_queue_depth{%s})" $pods) "threshold" (toJson $keda.queueDepth) "type" "AverageValue") -}}
{{- end -}}
{{- if $keda.latencyMs -}}
  {{- $query := printf "1000 * histogram_quantile(0.99, sum by (le) (rate(berth_request_duration_seconds_bucket{%s}[2m])))" $pods -}}
  {{- $triggers = append $triggers (dict "query" $query "threshold" (toJson $keda.latencyMs) "type" "Value") -}}
{{- end -}}
{{- $all := list -}}
{{- range $triggers -}}
  {{- $metadata := dict "serverAddress" $keda.prometheusAddress "query" .query "threshold" .threshold -}}
  {{- $all = append $all (dict "type" "prometheus" "metricType" .type "metadata" $metadata) -}}
{{- end -}}
{{- toYaml (concat $all $keda.triggers) -}}
{{- end -}}
