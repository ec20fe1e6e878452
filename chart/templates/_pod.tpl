{{/* berth.pod: the pod template of a slot's Deployment. Give root and slot (as berth.slot makes it). */}}
{{- define "berth.pod" -}}
{{- $root := .root -}}
{{- $slot := .slot -}}
metadata:
  annotations:
    berth.dev/fingerprint: {{ $slot.fingerprint | quote }}
    {{- if $slot.scrapeAnnotations }}
    prometheus.io/scrape: "true"
    prometheus.io/port: "8000"
    prometheus.io/path: /metrics
    {{- end }}
    {{- with $slot.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- include "berth.selector" (dict "root" $root "slot" $slot.name) | nindent 4 }}
    app.kubernetes.io/component: server
    {{- with $slot.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  automountServiceAccountToken: false
  # Service links would set BERTH_PORT=tcp://… in releases named berth.
  enableServiceLinks: false
  {{- with include "berth.serviceAccountName" (dict "root" $root "slot" $slot) }}
  serviceAccountName: {{ . }}
  {{- end }}
  {{- include "berth.podBasics" (dict "slot" $slot) | nindent 2 }}
  {{- with $slot.gpu.enabled | ternary ($slot.gpu.runtimeClassName | default $slot.runtimeClassName) $slot.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- if and $slot.gpu.enabled $slot.gpu.resourceClaims }}
  resourceClaims:
    {{- toYaml $slot.gpu.resourceClaims | nindent 4 }}
  {{- end }}
  {{- with $slot.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- include "berth.placement" . | nindent 2 }}
  {{- with $slot.hostAliases }}
  hostAliases:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $slot.dnsConfig }}
  dnsConfig:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  # Draining, then the requests that still run, then five seconds to spare.
  terminationGracePeriodSeconds: {{ add $slot.drainSeconds $slot.config.gracefulTimeoutSeconds 5 }}
  {{- if or $slot.pulls $slot.initContainers }}
  initContainers:
    {{- if $slot.pulls }}
    - {{- include "berth.pull" . | nindent 6 }}
    {{- end }}
    {{- include "berth.extraContainers" (dict "slot" $slot "containers" $slot.initContainers) | nindent 4 }}
  {{- end }}
  containers:
    - {{- include "berth.server" . | nindent 6 }}
    {{- include "berth.extraContainers" (dict "slot" $slot "containers" $slot.sidecars) | nindent 4 }}
  volumes:
    {{- include "berth.volumes" . | nindent 4 }}
{{- end -}}

{{/* berth.server: the container that serves. */}}
{{- define "berth.server" -}}
{{- $slot := .slot -}}
name: berth
image: {{ $slot.image.reference }}
imagePullPolicy: {{ $slot.image.pullPolicy }}
args: [serve]
ports:
  - {name: http, containerPort: 8000, protocol: TCP}
  {{- if .root.Values.grpc.enabled }}
  - {name: grpc, containerPort: 8081, protocol: TCP}
  {{- end }}
envFrom:
  - configMapRef:
      name: {{ include "berth.name" (dict "root" .root "suffix" $slot.name) }}
  {{- with $slot.extraEnvFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
env:
  # What the pod is stands here, not in the ConfigMap: a container that restarts must not take its successor's name.
  - {name: BERTH_SLOT, value: {{ $slot.name }}}
  - {name: BERTH_FINGERPRINT, value: {{ $slot.fingerprint | quote }}}
  - {name: BERTH_PORT, value: "8000"}
  - {name: BERTH_RUN_DIR, value: /dev/shm/berth}
  {{- if .root.Values.grpc.enabled }}
  - {name: BERTH_GRPC_PORT, value: "8081"}
  {{- end }}
  - {name: BERTH_MODEL_STORE, value: {{ $slot.model.path | quote }}}
  - {name: BERTH_MODELS, value: {{ $slot.models | quote }}}
  {{- if $slot.auth.enabled }}
  - {name: BERTH_API_KEYS_FILE, value: /etc/berth/keys/api-keys}
  {{- end }}
  {{- with include "berth.experimentEnv" . }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- if .root.Values.feedback.existingSecret }}
  - {name: BERTH_FEEDBACK_KEY_FILE, value: /etc/berth/feedback/keys}
  {{- end }}
  {{- with include "berth.signatureKeysEnv" . }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with $slot.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
resources:
  {{- include "berth.serverResources" $slot | nindent 2 }}
# Workers and threads follow the CPU limit of a pod that is resized in place.
resizePolicy:
  - {resourceName: cpu, restartPolicy: NotRequired}
startupProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: {{ $slot.probes.startup.periodSeconds }}
  timeoutSeconds: {{ $slot.probes.startup.timeoutSeconds }}
  failureThreshold: {{ divf $slot.model.loadSeconds $slot.probes.startup.periodSeconds | ceil | int64 }}
readinessProbe:
  httpGet: {path: /readyz, port: http}
  {{- toYaml $slot.probes.readiness | nindent 2 }}
livenessProbe:
  httpGet: {path: /livez, port: http}
  {{- toYaml $slot.probes.liveness | nindent 2 }}
lifecycle:
  preStop:
    exec:
      command: [berth, drain, --wait-seconds, {{ toJson $slot.drainSeconds | quote }}]
securityContext:
  {{- toYaml $slot.containerSecurityContext | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  - {name: shm, mountPath: /dev/shm}
  {{- if $slot.reads }}
  - {{- include "berth.modelMount" (dict "slot" $slot "readOnly" true) | nindent 4 }}
  {{- end }}
  {{- if $slot.auth.enabled }}
  - {name: api-keys, mountPath: /etc/berth/keys, readOnly: true}
  {{- end }}
  {{- with include "berth.experimentMounts" $slot.experiment }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- if .root.Values.feedback.existingSecret }}
  - {name: feedback-keys, mountPath: /etc/berth/feedback, readOnly: true}
  {{- end }}
  {{- with include "berth.signatureKeysMount" . }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with $slot.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* berth.pull: the init container that fetches the models. */}}
{{- define "berth.pull" -}}
{{- $slot := .slot -}}
name: pull
image: {{ $slot.image.reference }}
imagePullPolicy: {{ $slot.image.pullPolicy }}
args:
  - pull
  - {{ $slot.model.uri | replace "$(" "$$(" | quote }} # $( would be read by Kubernetes
  - --into={{ $slot.model.path }}
  - --models={{ $slot.models }}
  {{- if regexMatch "^(mlflow|hf|dvc):" $slot.model.uri }}
  - --import
  {{- end }}
  {{- with $slot.model.sha256 }}
  - --sha256={{ . }}
  {{- end }}
{{- with include "berth.credentialsSecret" . }}
envFrom:
  - secretRef:
      name: {{ . }}
{{- end }}
{{- if or (eq $slot.model.source "init") $slot.extraEnv $slot.model.signatureKeysSecret }}
env:
  {{- with include "berth.signatureKeysEnv" . }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- if eq $slot.model.source "init" }}
  # A store that is too large is refused before it comes; the kubelet would evict the pod while it serves.
  - {name: STORE_MAX_BYTES, value: {{ $slot.model.scratchSize | toJson | trimAll "\"" | quote }}}
  {{- end }}
  {{- with $slot.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
resources:
  {{- toYaml (pick $slot.resources "requests" "limits") | nindent 2 }}
securityContext:
  {{- toYaml $slot.containerSecurityContext | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  - {{- include "berth.modelMount" (dict "slot" $slot "readOnly" false) | nindent 4 }}
  {{- with include "berth.signatureKeysMount" . }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* berth.serverResources: requests and limits, with the GPUs or claims. */}}
{{- define "berth.serverResources" -}}
{{- $resources := dict "requests" (.resources.requests | default dict) "limits" (.resources.limits | default dict) -}}
{{- if .gpu.enabled -}}
  {{- if .gpu.resourceClaims -}}
    {{- $claims := list -}}
    {{- range .gpu.resourceClaims }}{{ $claims = append $claims (dict "name" .name) }}{{ end -}}
    {{- $_ := set $resources "claims" $claims -}}
  {{- else -}}
    {{- $_ := set $resources.limits .gpu.resource (int64 .gpu.count) -}}
  {{- end -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* berth.podBasics: what server, check and scoring pods share. Give slot. */}}
{{- define "berth.podBasics" -}}
{{- with .slot.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  {{- toYaml .slot.podSecurityContext | nindent 2 }}
{{- end -}}

{{/* berth.placement: where pods may run and how they spread. */}}
{{- define "berth.placement" -}}
{{- $slot := .slot -}}
{{- $nodes := deepCopy $slot.nodeSelector -}}
{{- $tolerations := $slot.tolerations -}}
{{- if $slot.gpu.enabled -}}
  {{- $vendor := splitList "/" $slot.gpu.resource | first -}}
  {{- $label := printf "%s/%s" $vendor (eq $vendor "amd.com" | ternary "gpu.product-name" "gpu.product") -}}
  {{- with $slot.gpu.product }}{{ $_ := set $nodes ($slot.gpu.productLabel | default $label) . }}{{ end -}}
  {{- $taint := dict "key" (printf "%s/gpu" $vendor) "operator" "Exists" "effect" "NoSchedule" -}}
  {{- $tolerations = concat $tolerations (list $taint) $slot.gpu.tolerations -}}
{{- end -}}
{{- with $nodes }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $slot.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $slot.topologySpread }}
topologySpreadConstraints:
  {{- range . }}
  - {{- toYaml . | nindent 4 }}
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        {{- include "berth.selector" (dict "root" $.root "slot" $slot.name) | nindent 8 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* berth.extraContainers: the user's containers, with the chart's security context under their own. Give slot and containers. */}}
{{- define "berth.extraContainers" -}}
{{- $slot := .slot -}}
{{- range .containers }}
{{- $security := deepCopy $slot.containerSecurityContext -}}
{{- include "berth.overlay" (dict "under" $security "over" (.securityContext | default dict)) -}}
{{- toYaml (list (merge (dict "securityContext" $security) .)) | nindent 0 }}
{{- end }}
{{- end -}}

{{/* berth.credentialsSecret: the Secret that the fetching container gets, if any. */}}
{{- define "berth.credentialsSecret" -}}
{{- $values := .root.Values -}}
{{- if .slot.model.credentialsSecret -}}
  {{- .slot.model.credentialsSecret -}}
{{- else if or $values.storeCredentials (and $values.externalSecrets.enabled $values.externalSecrets.storeCredentialsPath) -}}
  {{- include "berth.name" (dict "root" .root "suffix" "store") -}}
{{- end -}}
{{- end -}}

{{/* berth.serviceAccountName: the pods' service account, empty for the namespace's default. */}}
{{- define "berth.serviceAccountName" -}}
{{- .slot.serviceAccountName | default (.root.Values.serviceAccount.create | ternary (include "berth.fullname" .root) "") -}}
{{- end -}}
