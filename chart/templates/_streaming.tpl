{{/* berth.consumerGroup: the group of the consumers. Give root and slot. */}}
{{- define "berth.consumerGroup" -}}
{{- .root.Values.streaming.group | default (printf "berth-%s" .slot.model.name) -}}
{{- end -}}

{{/* berth.lagTrigger: KEDA's trigger by the messages that wait. Give root and slot. */}}
{{- define "berth.lagTrigger" -}}
{{- $streaming := .root.Values.streaming -}}
{{- $group := include "berth.consumerGroup" . -}}
{{- $threshold := toJson $streaming.keda.lagThreshold -}}
{{- $address := urlParse $streaming.source -}}
{{- $name := $address.path | trimPrefix "/" -}}
{{- if eq $address.scheme "kafka" -}}
type: kafka
metadata:
  {{- toYaml (dict "bootstrapServers" $address.host "consumerGroup" $group "topic" $name "lagThreshold" $threshold "offsetResetPolicy" "earliest") | nindent 2 }}
{{- else -}}
{{- $host := contains ":" $address.host | ternary $address.host (printf "%s:6379" $address.host) -}}
{{- $metadata := dict "address" $host "consumerGroup" $group "stream" $name "lagCount" $threshold -}}
{{- if eq $address.scheme "rediss" }}{{ $_ := set $metadata "enableTLS" "true" }}{{ end -}}
type: redis-streams
metadata:
  {{- toYaml $metadata | nindent 2 }}
{{- end -}}
{{- end -}}

{{/* berth.consumer: the container that consumes. Give root and slot. */}}
{{- define "berth.consumer" -}}
{{- $slot := .slot -}}
{{- $streaming := .root.Values.streaming -}}
name: consume
image: {{ $slot.image.reference }}
imagePullPolicy: {{ $slot.image.pullPolicy }}
args:
  - consume
  - {{ $streaming.source | replace "$(" "$$(" | quote }} # $( would be read by Kubernetes
  - {{ printf "--to=%s" $streaming.sink | replace "$(" "$$(" | quote }}
  {{- with $streaming.deadLetter }}
  - {{ printf "--dead=%s" . | replace "$(" "$$(" | quote }}
  {{- end }}
  - {{ include "berth.consumerGroup" . | printf "--group=%s" | quote }}
  - --guarantee={{ $streaming.guarantee }}
  - --batch-rows={{ int64 $streaming.batchRows }}
  - --linger-ms={{ toJson $streaming.lingerMs }}
ports:
  - {name: http, containerPort: 8000, protocol: TCP}
env:
  {{- range $name, $value := include "berth.settings" $slot | fromYaml }}
  - {name: {{ $name }}, value: {{ $value | quote }}}
  {{- end }}
  - {name: BERTH_SLOT, value: {{ $slot.name }}}
  - {name: BERTH_FINGERPRINT, value: {{ $slot.fingerprint | quote }}}
  - {name: BERTH_PORT, value: "8000"}
  - {name: BERTH_RUN_DIR, value: /dev/shm/berth}
  - {name: BERTH_MODEL_STORE, value: {{ $slot.model.path | quote }}}
  - {name: BERTH_MODELS, value: {{ $slot.models | quote }}}
  {{- if .root.Values.feedback.existingSecret }}
  - {name: BERTH_FEEDBACK_KEY_FILE, value: /etc/berth/feedback/keys}
  {{- end }}
  {{- with include "berth.signatureKeysEnv" . }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with $slot.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if or $streaming.existingSecret $slot.extraEnvFrom }}
envFrom:
  {{- with $streaming.existingSecret }}
  - secretRef: {name: {{ . }}}
  {{- end }}
  {{- with $slot.extraEnvFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
resources:
  {{- toYaml (pick $slot.resources "requests" "limits") | nindent 2 }}
startupProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: {{ $slot.probes.startup.periodSeconds }}
  timeoutSeconds: {{ $slot.probes.startup.timeoutSeconds }}
  failureThreshold: {{ divf $slot.model.loadSeconds $slot.probes.startup.periodSeconds | ceil | int64 }}
livenessProbe:
  httpGet: {path: /livez, port: http}
  {{- toYaml $slot.probes.liveness | nindent 2 }}
securityContext:
  {{- toYaml $slot.containerSecurityContext | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  - {name: shm, mountPath: /dev/shm}
  {{- if $slot.reads }}
  - {{- include "berth.modelMount" (dict "slot" $slot "readOnly" true) | nindent 4 }}
  {{- end }}
  {{- if .root.Values.feedback.existingSecret }}
  - {name: feedback-keys, mountPath: /etc/berth/feedback, readOnly: true}
  {{- end }}
  {{- with include "berth.signatureKeysMount" . }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end -}}
